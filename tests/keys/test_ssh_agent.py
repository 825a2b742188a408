"""Keys in an ssh-agent of OpenSSH."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import refused as refused_by_cli
from cli.kit import run
from fwsign.cli import inputs
from fwsign.format.cose import key_name, protected_header, sig_structure
from fwsign.keys.held import HeldSigner, Scheme, digest_of, sign_message
from fwsign.keys.ssh_agent import AgentKey
from fwsign.keys.ssh_wire import AgentEntry
from fwsign.keys.stand_in import private_key
from keys.agent_kit import RunningAgent, opened
from keys.contract import DIGESTS, MESSAGE, Backend, Going, KeyContract, Situation
from support import NOW, PAYLOAD, make_ca, make_leaf, new_key, refused

ALGORITHMS = ("p256", "p384", "ed25519")


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return {alg: new_key(alg) for alg in (*ALGORITHMS, "p521", "rsa3072")}


@pytest.fixture(scope="module")
def agent(keys: dict[str, Any]) -> Iterator[RunningAgent]:
    one = RunningAgent()
    for alg, key in keys.items():
        one.add(key, f"{alg} key")
    for _ in range(2):
        one.add(new_key("p256"), "twice")
    yield one
    one.stop()


@pytest.fixture
def own() -> Iterator[RunningAgent]:
    one = RunningAgent()
    yield one
    if one.folder.exists():
        one.stop()


class TestSshAgent(KeyContract):
    algorithms = ALGORITHMS
    lacks = frozenset({DIGESTS, Scheme.PSS})

    @pytest.fixture
    def backend(self, agent: RunningAgent, own: RunningAgent) -> Backend:
        self.own = own
        own.add(new_key("p256"), "locked")
        own.lock()
        where = str(agent.socket)
        return Backend(
            key=lambda alg: agent.uri(f"{alg} key"),
            situations={
                "locked": Situation(
                    own.uri("locked"),
                    "key.missing",
                    (f"the agent at {own.socket} has no keys, or is locked",),
                ),
                "missing": Situation(
                    agent.uri("relaese"),
                    "key.missing",
                    (f'the agent at {where} has no key "relaese", there are SHA256:', '"p256 key"'),
                ),
                "several": Situation(
                    agent.uri("twice"),
                    "key.missing",
                    (f"several keys of the agent at {where} fit: SHA256:", '"twice", SHA256:'),
                ),
                "unsupported": Situation(
                    "ssh-agent://host/x", "key.unsupported", ("there is no host",)
                ),
            },
            impossible={
                "wrong secret": "an agent asks for no secret",
                "no secret": "an agent asks for no secret",
            },
        )

    def going(self) -> Going | str:
        self.own.lock(on=False)
        words = (f"no answer from the agent at {self.own.socket}: ",)
        return Going(self.own.uri("locked"), None, self.own.stop, "key.unreachable", words)


# --- which key -----------------------------------------------------------------------------------


def test_a_key_is_named_by_fingerprint_by_comment_or_not_at_all(
    agent: RunningAgent, own: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = agent.fingerprints()[0]
    held = opened(agent.uri("p256%20key"))
    assert held.place == f"ssh-agent:{fingerprint}"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    assert opened(held.place).public_key == held.public_key
    with refused("key.missing", f"several keys of the agent at {agent.socket} fit: "):
        opened("ssh-agent:")
    own.add(new_key("ed25519"), "alone")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(own.socket))
    assert key_name(opened("ssh-agent:").public_key) == "Ed25519"
    own.clear()
    with refused("key.missing", f"the agent at {own.socket} has no keys, or is locked") as caught:
        opened("ssh-agent:")
    assert caught.value.hint == "ssh-add FILE gives it one, ssh-add -X unlocks it"


def test_without_an_agent_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with refused("key.unreachable", "no ssh-agent is known: SSH_AUTH_SOCK is not set"):
        opened("ssh-agent:release")
    words = "no answer from the agent at /nowhere/socket: No such file or directory"
    with refused("key.unreachable", words):
        opened("ssh-agent:release?socket=/nowhere/socket")
    monkeypatch.delattr(socket, "AF_UNIX")
    with refused("key.unsupported", "an ssh-agent is asked by a Unix socket, and this system has"):
        opened("ssh-agent:release")


# --- what agents do not do ---------------------------------------------------------------------


def test_an_agent_takes_no_digest(agent: RunningAgent) -> None:
    held = opened(agent.uri("p256 key"))
    words = "a key of P-256 makes no ECDSA signatures in an ssh-agent, which takes whole messages"
    with refused("key.unsupported", words, held.place):
        held.sign_raw(Scheme.ECDSA, digest_of(MESSAGE, "SHA-256"), "SHA-256")
    words = "makes no ECDSA signatures in an ssh-agent with SHA-384, but with SHA-256 alone"
    with refused("key.unsupported", words):
        sign_message(held, Scheme.ECDSA, MESSAGE, "SHA-384")
    wide = opened(agent.uri("p521 key"))
    assert len(sign_message(wide, Scheme.ECDSA, MESSAGE, "SHA-512")) == 132


def test_rsa_in_an_agent_signs_certificates_and_no_releases(agent: RunningAgent) -> None:
    held: Any = opened(agent.uri("rsa3072 key"))
    for digest in (hashes.SHA256(), hashes.SHA512()):
        signature = private_key(held).sign(MESSAGE, padding.PKCS1v15(), digest)  # type: ignore[call-arg, arg-type]
        held.public_key.verify(signature, MESSAGE, padding.PKCS1v15(), digest)
    words = "a key of RSA-3072 makes no RSASSA-PKCS1-v1_5 signatures in an ssh-agent with SHA-384"
    with refused("key.unsupported", words):
        sign_message(held, Scheme.PKCS1, MESSAGE, "SHA-384")
    words = "a key of RSA-3072 makes no RSASSA-PSS signatures in an ssh-agent, so RSA keys there"
    with refused("key.unsupported", words):
        HeldSigner(held).sign(MESSAGE)


def test_a_rsa_key_signs_no_release_and_leaves_no_file(
    agent: RunningAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "now", lambda: NOW)
    held = opened(agent.uri("rsa3072 key"))
    root = make_ca()
    leaf = make_leaf(root, key=private_key(held))
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (leaf, root))
    Path("chain.pem").write_bytes(pem)
    Path("a.bin").write_bytes(PAYLOAD)
    key = ("--key", agent.uri("rsa3072 key"), "--chain", "chain.pem")
    done = run("sign", "a.bin", *key, "--product", "x", "--force")
    words = "a key of RSA-3072 makes no RSASSA-PSS signatures in an ssh-agent, so RSA keys there "
    refused_by_cli(done, 5, f"{words}sign certificates alone: {held.place}")
    assert not Path("a.bin.suit").exists()


def test_an_agent_that_asks_and_is_told_no(own: RunningAgent) -> None:
    own.add(new_key("ed25519"), "asks", "-c")  # without a program that asks, the answer is no
    held = opened(own.uri("asks"))
    words = f"the agent at {own.socket} refuses to sign with SHA256:"
    with refused("key.locked", words, '"asks": it is locked, the key has gone'):
        HeldSigner(held).sign(MESSAGE)


def test_an_agent_that_was_locked_or_emptied_meanwhile(own: RunningAgent) -> None:
    own.add(new_key("p256"), "release")
    held = opened(own.uri("release"))
    signer = HeldSigner(held)
    own.lock()
    with refused("key.locked", "refuses to sign with SHA256:"):
        signer.sign(MESSAGE)
    own.lock(on=False)
    signer.sign(MESSAGE)
    own.clear()
    with refused("key.locked", "refuses to sign with SHA256:"):
        signer.sign(MESSAGE)


def test_what_is_signed_is_no_login(agent: RunningAgent) -> None:
    """A login begins with a string of the session, another use of SSH with SSHSIG."""
    held = opened(agent.uri("ed25519 key"))
    assert isinstance(held, AgentKey)
    sent: list[bytes] = []
    sign = held._agent.sign

    def seen(entry: AgentEntry, message: bytes, flags: int) -> tuple[bytes, bytes]:
        sent.append(message)
        return sign(entry, message, flags)

    held._agent.sign = seen  # type: ignore[method-assign]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder.sign(private_key(held), None)
    HeldSigner(held).sign(sig_structure(protected_header(-19, None), b"payload"))
    assert [message[:1] for message in sent] == [b"\x30", b"\x84"]
    assert sent[1][1:12] == b"\x6aSignature1"
    # As lengths of a string they would be longer than what follows.
    assert all(int.from_bytes(message[:4], "big") > len(message) for message in sent)
