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


@pytest.mark.parametrize(
    "words",
    [
        ("pki", "issue", "signer", "more", "--no-passphrase"),
        ("pki", "revoke", "release", "--reason", "superseded"),
        ("pki", "renew", "release"),
        ("sign", "a.bin", "--product", "x"),
    ],
)
def test_nobody_is_asked_for_the_token_of_a_service(
    words: tuple[str, ...], bao: Bao, agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is typed for a key may be the passphrase of another, and would go to the server."""
    _with_services("asked", bao, agent)
    asked: list[str] = []

    def answer(text: str, **_: object) -> str:
        asked.append(text)
        return "typed"

    monkeypatch.setattr("typer.prompt", answer)
    monkeypatch.setattr("fwsign.cli.ui.is_terminal", lambda _: True)
    monkeypatch.setenv("BAO_TOKEN", "")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    found = run(*words, "--pki", "pki")
    message = (
        f"no token for {bao.address}: none in BAO_TOKEN or VAULT_TOKEN or ~/.vault-token, "
        "and none was given"
    )
    refused(
        found, 5, message, "bao login gets one; token-file=FILE in the URI names a file with it"
    )
    assert asked == []


def test_each_crl_that_fails_has_the_hint_of_its_service(
    bao: Bao, agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_services("hint", bao, agent)
    monkeypatch.setenv("BAO_TOKEN", "hvs.another")
    found = run("pki", "crl", "--pki", "pki")
    assert (found.status, found.out) == (5, "pki/crl/ca.pem\npki/crl/issuing-tls.pem\n")
    error, hint = found.errors
    assert error.startswith('error: no new CRL of CA "issuing", the one here is good until ')
    assert error.endswith(
        f": {bao.address} does not know the token of BAO_TOKEN: it is wrong or expired"
    )
    assert hint == "hint: bao login gets a new one"


def _with_services(name: str, bao: Bao, agent: RunningAgent) -> None:
    """Make a PKI with the signer and its CA in OpenBao, and the others in an agent."""
    agent.add(new_key("p256"), "root")
    agent.add(new_key("p256"), "tls")
    services = []
    for one in ("issuing", "release"):
        bao.make("p256", f"{name}-{one}")
        services += ["--key", f"{one}=openbao:{name}-{one}"]
    keys = ("--root-key", "ssh-agent:root", "--key", "issuing-tls=ssh-agent:tls", *services)
    good("pki", "init", "pki", *ABOUT, *keys)
