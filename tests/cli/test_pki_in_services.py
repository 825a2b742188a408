"""A PKI whose keys are in an ssh-agent and in OpenBao: the root, the CAs and the signer."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from bao_kit import Bao
from cli.kit import good, refused, run
from keys.agent_kit import RunningAgent
from support import PAYLOAD, new_key

ABOUT = ("--org", "Acme", "--vendor", "acme.example")


@pytest.fixture
def agent(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steering: None
) -> Iterator[RunningAgent]:
    del no_steering
    for name, text in bao.environment().items():
        monkeypatch.setenv(name, text)
    one = RunningAgent()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(one.socket))
    monkeypatch.chdir(tmp_path)
    Path("a.bin").write_bytes(PAYLOAD)
    yield one
    one.stop()


@pytest.mark.parametrize("root", ["p384", "ed25519", "rsa3072"])
def test_a_root_in_an_agent_and_the_rest_in_openbao(
    root: str, bao: Bao, agent: RunningAgent
) -> None:
    agent.add(new_key(root), "root key")
    agent.add(new_key("p256"), "tls")
    issuing, release = f"life-{root}-issuing", f"life-{root}-release"
    bao.make("ml-dsa-65", issuing)
    bao.make("ed25519", release)
    keys = (f"issuing=openbao:{issuing}", "issuing-tls=ssh-agent:tls", f"release=openbao:{release}")
    given = [word for one in keys for word in ("--key", one)]
    good("pki", "init", "pki", *ABOUT, "--root-key", "ssh-agent:root%20key", *given)
    assert [*Path("pki/private").glob("*.key")] == []
    good("sign", "a.bin", "--pki", "pki", "--product", "x")
    words = ("verify", "a.bin.suit", "--anchor", "pki/ca.crt", "--json")
    assert json.loads(good(*words))["verdict"] == "verified"
    good("pki", "revoke", "release", "--pki", "pki", "--reason", "superseded")
    crl = x509.load_pem_x509_crl(Path("pki/crl/issuing.pem").read_bytes())
    assert len(crl) == 1
    assert (
        run("verify", "a.bin.suit", "--anchor", "pki/ca.crt", "--crl", "pki/crl/issuing.pem").status
        == 1
    )


def test_a_locked_agent_leaves_no_pki(bao: Bao, agent: RunningAgent) -> None:
    agent.add(new_key("p256"), "root")
    bao.make("p256", "locked-issuing")
    agent.lock()
    found = run(
        *("pki", "init", "pki", *ABOUT, "--root-key", "ssh-agent:root", "--no-passphrase"),
        *("--key", "issuing=openbao:locked-issuing"),
    )
    words = f"the agent at {agent.socket} has no keys, or is locked"
    refused(found, 5, words, "ssh-add FILE gives it one, ssh-add -X unlocks it")
    assert not Path("pki").exists()
