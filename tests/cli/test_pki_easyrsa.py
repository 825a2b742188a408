# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki` for easy-rsa: `init --layout`, `export easyrsa`, `import` of a CA below a root."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from cli.kit import good, refused, run
from fwsign.pki.certificates import common_name
from support import PAYLOAD

NAMES = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
FLAT = ("--layout", "easyrsa")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_init_with_the_layout_of_easyrsa() -> None:
    assert run("pki", "init", "pki", *NAMES, *FLAT) == (
        0,
        "pki\n",
        """\
fwsign: root "Acme Root CA": give pki/ca.crt to every device
fwsign: keep pki/private/ca.key offline; issuing needs it, signing does not
fwsign: warning: keys in pki/private have no passphrase
fwsign: next: fwsign sign FILE --pki pki --product NAME
""",
    )
    found = run("pki", "issue", "server", "broker.acme.example", "--pki", "pki", "--no-passphrase")
    assert found.out == "pki/issued/broker.acme.example.crt\n"
    assert "the server sends pki/issued/broker.acme.example.crt\n" in found.err
    found = run("pki", "crl", "--pki", "pki")
    assert (found.out, "bundle" in found.err) == ("pki/crl.pem\n", False)
    assert run("pki", "expire", "--pki", "pki").status == 0
    assert run("pki", "lint", "pki").status == 0
    Path("x.bin").write_bytes(PAYLOAD)
    good("sign", "x.bin", "--pki", "pki", "--product", "x1")
    good("verify", "x.bin.suit", "--anchor", "pki/ca.crt", "--vendor", "acme.example")
    good("pki", "import", "pki", "--to", "tiers", *NAMES[2:])
    good("pki", "rotate", "--pki", "tiers", "--no-passphrase")


def test_layouts_that_cannot_be() -> None:
    found = run("pki", "init", "pki", *NAMES, "--layout", "xca")
    refused(found, 2, '"xca" is not a layout', "choose from fwsign, easyrsa")
    found = run("pki", "init", "pki", *NAMES, *FLAT, "--root-only")
    error, hint = "--root-only and --layout easyrsa exclude each other", "fwsign pki init --help"
    refused(found, 2, error, f"{hint} shows how")
    assert not Path("pki").exists()


@pytest.mark.parametrize("command", [("standby",), ("rotate",), ("renew", "ca", "--new-key")])
def test_one_ca_is_not_rotated(command: tuple[str, ...]) -> None:
    good("pki", "init", "pki", *NAMES, *FLAT)
    found = run("pki", *command, "--pki", "pki", "--no-passphrase")
    assert (found.status, found.out) == (5, "")
    if command[0] != "renew":
        assert found.errors == [
            "error: pki is laid out for easy-rsa, which has one CA",
            "hint: fwsign pki import pki makes one with this CA as the root",
        ]


def test_export_and_import_are_a_circle() -> None:
    good("pki", "init", "pki", *NAMES)
    assert run("pki", "export", "easyrsa", "theirs", "--pki", "pki") == (
        0,
        "theirs\n",
        """\
fwsign: "issuing" is ca.crt there; the CAs above it are in theirs/above.pem
fwsign: "issuing-tls" was left out: "issuing" did not issue it
fwsign: go on with one of the two: neither learns what the other issues and revokes
fwsign: next: EASYRSA_PKI=theirs easyrsa show-ca
""",
    )
    again = run("pki", "export", "easyrsa", "theirs", "--pki", "pki")
    assert again.status == 5
    assert again.errors[0].endswith("theirs exists already and is not an empty directory")
    assert run("pki", "import", "theirs", "--to", "ours") == (
        0,
        "ours\n",
        """\
fwsign: "Acme Issuing CA" of easy-rsa is the issuing CA now
fwsign: its root is "Acme Root CA", whose key is elsewhere
fwsign: theirs is as it was
fwsign: "release" from release.crt, with its key
fwsign: revoked: 0, of which 0 were in index.txt only
fwsign: a new CRL of the root comes in with: fwsign pki accept ours FILE
fwsign: issue and revoke here from now on, not in the old PKI
fwsign: next: fwsign pki lint ours
""",
    )
    good("pki", "issue", "signer", "ci", "--pki", "ours", "--no-passphrase")
    good("pki", "crl", "--pki", "pki")
    good("pki", "accept", "ours", "pki/crl/ca.pem")


def test_what_is_left_out_is_named() -> None:
    good("pki", "init", "pki", *NAMES)
    good("pki", "renew", "issuing", "--new-key", "--pki", "pki", "--no-passphrase")
    found = run("pki", "export", "easyrsa", "theirs", "--pki", "pki")
    assert 'fwsign: "release" was left out: "issuing-2" did not issue it' in found.err


def test_a_ca_whose_root_is_not_here() -> None:
    good("pki", "init", "pki", *NAMES)
    good("pki", "export", "easyrsa", "theirs", "--pki", "pki")
    Path("theirs/above.pem").unlink()
    found = run("pki", "import", "theirs")
    refused(
        found,
        5,
        'the CA "Acme Issuing CA" of theirs is below another one, whose certificate is not here',
        "give the root's certificate and its CRL: --root FILE",
    )
    roots = ("--root", "pki/ca.crt", "--root", "pki/crl/ca.pem")
    good("pki", "import", "theirs", *roots)
    found = run("pki", "import", "theirs", "--to", "b", "--root", "missing.pem")
    assert (found.status, "missing.pem" in found.err) == (5, True)


def test_a_certificate_and_its_chain_become_pkcs12_as_the_help_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEW", "four dull words here")
    good("pki", "init", "pki", *NAMES)
    good("pki", "issue", "client", "sensor", "--pki", "pki", "--no-passphrase")
    good("pki", "export", "chain", "sensor", "sensor.pem", "--pki", "pki")
    good("key", "convert", "pki/private/sensor.key", "sensor.p12", "--to", "p12", "--cert",
         "sensor.pem", "--new-pass", "env:NEW")  # fmt: skip
    found = pkcs12.load_pkcs12(Path("sensor.p12").read_bytes(), b"four dull words here")
    assert found.cert is not None
    names = [common_name(one.certificate) for one in (found.cert, *found.additional_certs)]
    assert names == ["sensor", "Acme TLS CA"]
