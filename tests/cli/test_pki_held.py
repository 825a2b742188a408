"""The whole life of a PKI whose keys live in a token, in a service, or in files of others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bao_kit import Bao
from cli.kit import good, run
from fwsign.keys.file import new_private_key, write_private_key
from fwsign.pki.directory import Pki
from pki_kit import contents, openssl, openssl_verify, serials
from softhsm_kit import PIN, SoftHsm
from support import NOW, PAYLOAD

ORG = ("--org", "Acme", "--vendor", "acme.example")

Maker = Callable[[str, str], str]
"""Makes a key of a kind, with a name, and returns its URI."""


@pytest.fixture
def in_token(softhsm: SoftHsm, request: pytest.FixtureRequest) -> Maker:
    def make(alg: str, name: str) -> str:
        return softhsm.make(alg, f"{name} {request.node.name}")

    return make


@pytest.fixture
def in_service(bao: Bao, request: pytest.FixtureRequest) -> Maker:
    def make(alg: str, name: str) -> str:
        plain = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
        return bao.make(alg, f"{name}-{plain.strip('-')}")

    return make


def in_file(alg: str, name: str) -> str:
    path = Path(f"outside/{name}.key")
    path.parent.mkdir(exist_ok=True)
    write_private_key(path, new_private_key(alg), None)
    return str(path)


def no_private_key_in(directory: Path) -> bool:
    return not any(b"PRIVATE KEY" in data for data in contents(directory).values())


def life(make: Maker, alg: str, *, oracle: bool = True) -> None:
    """Init, issue, sign, revoke, CRLs, renew, replace a CA, rotate: no key is in the PKI."""
    secret = ("--pass", "env:PIN")
    opens = ("--ca-pass", "env:PIN")
    env = {"PIN": PIN}
    names = ("issuing", "issuing-tls", "release")
    keys = [part for one in names for part in ("--key", f"{one}={make(alg, one)}")]
    root_key = ("--root-key", make(alg, "ca"))
    good("init", *ORG, "--product", "x1", *root_key, *keys, *secret, env=env)
    pki = Path("pki")
    assert no_private_key_in(pki)

    def check(name: str, root: str = "ca") -> None:
        if oracle:
            found = openssl_verify(pki, name, root=root, now=NOW)
            assert found.returncode == 0, found.stderr

    check("release")
    path = good("pki", "issue", "signer", "second", "--key", make(alg, "second"), *secret, *opens,
                env=env)  # fmt: skip
    assert path == "pki/issued/second.crt\n"
    check("second")
    good("pki", "issue", "server", "broker", "--key", make(alg, "broker"), *secret, *opens, env=env)
    check("broker")
    Path("a.bin").write_bytes(PAYLOAD)
    sign = ("sign", "a.bin")
    good(*sign, "--signer", "second", *secret, env=env)
    verify = ("verify", "a.bin.suit", "--anchor", "pki/ca.crt")
    good(*verify)
    good("pki", "revoke", "second", "--reason", "keyCompromise", *opens, env=env)
    assert serials(Pki("pki").crl("issuing")) == {Pki("pki").certificate("second").serial_number}
    good("staple", "a.bin.suit")
    assert run(*verify).status == 1
    good("pki", "crl", *opens, env=env)
    good("pki", "renew", "release", *opens, env=env)
    good("pki", "renew", "release", "--key", make(alg, "release-2"), *secret, *opens, env=env)
    check("release")
    good("pki", "renew", "issuing", *opens, env=env)
    good("pki", "renew", "issuing", "--key", make(alg, "issuing-2"), *secret, *opens, env=env)
    good("pki", "renew", "release", *opens, env=env)
    assert Pki("pki").issuer_of(Pki("pki").certificate("release")) == "issuing-2"
    check("release")
    keys = [part for one in names[:2] for part in ("--key", f"{one}={make(alg, one + '-3')}")]
    good("pki", "rotate", "--root-key", make(alg, "ca-2"), *keys, *secret, *opens, env=env)
    good("pki", "renew", "release", *opens, env=env)
    check("release")
    check("release", "ca-2")
    good(*sign, "--signer", "release", *secret, "--force", env=env)
    for anchor in ("ca.crt", "ca-2.crt"):
        good("verify", "a.bin.suit", "--anchor", f"pki/{anchor}")
    assert no_private_key_in(pki)
    assert not any(PIN.encode() in data for data in contents(pki).values())
    for name in Pki("pki").authorities() if oracle else ():
        crl = Pki("pki").crl_path(name)
        found = openssl("crl", "-in", crl, "-verify", "-noout", "-CAfile",
                        Pki("pki").certificate_path(name))  # fmt: skip
        assert "verify OK" in found.stderr, found.stderr
        text = openssl("x509", "-in", Pki("pki").certificate_path(name), "-noout", "-text")
        assert text.returncode == 0
        assert "CA:TRUE" in text.stdout


class TestLife:
    @pytest.mark.parametrize("alg", ["p256", "p384", "ed25519"])
    def test_in_a_token(self, in_token: Maker, alg: str) -> None:
        life(in_token, alg)

    def test_with_a_root_of_rsa(self, in_token: Maker) -> None:
        life(lambda alg, name: in_token("rsa3072" if name == "ca" else alg, name), "p256")

    # The openssl of Debian 12 reads no ML-DSA.
    @pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"])
    def test_in_a_service(self, in_service: Maker, alg: str) -> None:
        life(in_service, alg, oracle=not alg.startswith("ml-dsa"))

    def test_in_files_elsewhere(self) -> None:
        life(in_file, "p256")
