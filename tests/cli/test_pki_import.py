"""`fwsign pki import`: transcripts."""

from pathlib import Path

from cryptography import x509

from cli.kit import good, refused, run
from easyrsa_kit import ROOT, STOLEN, easyrsa, key_pem
from fwsign.pki.lint.run import lint
from support import NOW

VENDOR = ("--vendor", "acme.example")


def test_a_transcript(tmp_path: Path) -> None:
    easyrsa(tmp_path)
    found = run("pki", "import", "pki", *VENDOR, "--no-passphrase")
    assert (found.status, found.out) == (0, "fwsign-pki\n")
    assert found.err.splitlines() == [
        'fwsign: "Acme Root" of easy-rsa is the root now',
        "fwsign: pki is as it was",
        'fwsign: "fw-signer" from fw-signer.crt, with its key',
        "fwsign: revoked: 1, of which 0 were in index.txt only",
        "fwsign: new issuing CA, for acme.example: it issues from now on",
        "fwsign: new issuing CA for TLS: servers and clients come from it from now on",
        "fwsign: warning: fwsign-pki/private/issuing.key and issuing-tls.key have no passphrase",
        "fwsign: issue and revoke here from now on, not in the old PKI",
        "fwsign: devices need --profile compat, because of how its CAs were made",
        "fwsign: next: fwsign pki lint fwsign-pki",
    ]


def test_what_was_taken_over_works(tmp_path: Path) -> None:
    easyrsa(tmp_path)
    good("pki", "import", tmp_path, *VENDOR, "--no-passphrase")
    Path("build.bin").write_bytes(b"firmware")
    where = ("--pki", "fwsign-pki")
    sign = ("sign", "build.bin", *where, *VENDOR, "--product", "x1", "--force")
    verify = ("verify", "build.bin.suit", "--anchor", "fwsign-pki/ca.crt", *VENDOR)
    good(*sign, "--signer", "fw-signer", "--pass", "env:OLD", env={"OLD": "old"})
    assert run(*verify).status == 1
    good(*verify, "--profile", "compat", "--revocation", "require")

    good("pki", "issue", "signer", "new", *where, "--no-passphrase")
    good(*sign, "--signer", "new")
    good(*verify, "--profile", "compat", "--revocation", "require")

    good("pki", "revoke", "fw-signer", "--reason", "superseded", *where)
    good("pki", "crl", *where)
    crl = x509.load_pem_x509_crl(Path("fwsign-pki/crl/ca.pem").read_bytes())
    assert STOLEN.certificate.serial_number in {entry.serial_number for entry in crl}
    assert len(list(crl)) == 2
    report = lint(Path("fwsign-pki"), now=NOW)
    assert {one.code for one in report.findings if one.severity != "note"} == {
        "lint.ca-criticality"
    }


def test_the_vendor_of_fwsign_toml(tmp_path: Path) -> None:
    easyrsa(tmp_path)
    Path("fwsign.toml").write_text('vendor = "acme.example"\n')
    assert "for acme.example" in run("pki", "import", "pki", "--no-passphrase").err


def test_without_a_vendor(tmp_path: Path) -> None:
    easyrsa(tmp_path)
    hint = "name it with --vendor DOMAIN"
    refused(run("pki", "import", "pki", "--no-passphrase"), 2,
            "no vendor for the new issuing CA", hint)  # fmt: skip
    assert not Path("fwsign-pki").exists()


def test_passphrases(tmp_path: Path) -> None:
    easyrsa(tmp_path, private__ca_dot_key=key_pem(ROOT, b"root"))
    env = {"CA": "root", "NEW": "new"}
    good("pki", "import", "pki", *VENDOR, "--ca-pass", "env:CA", "--pass", "env:NEW", env=env)
    text = Path("fwsign-pki/private/issuing.key").read_text()
    assert Path("fwsign-pki/private/.gitignore").read_text() == "*\n"
    assert "ENCRYPTED" in text
    good("pki", "issue", "signer", "new", "--pki", "fwsign-pki", "--ca-pass", "env:NEW",
         "--no-passphrase", env=env)  # fmt: skip


def test_a_target_that_is_there(tmp_path: Path) -> None:
    easyrsa(tmp_path)
    found = run("pki", "import", "pki", *VENDOR, "--no-passphrase", "--to", "pki")
    assert (found.status, found.out) == (5, "")
    assert Path("pki/index.txt").exists()


def test_without_the_root_key(tmp_path: Path) -> None:
    easyrsa(tmp_path)
    Path("pki/private/ca.key").unlink()
    found = run("pki", "import", "pki", "--to", "ours")
    assert found.status == 0
    assert (
        "no issuing CA, so fwsign pki issue does not work: the root's key is not here" in found.err
    )
