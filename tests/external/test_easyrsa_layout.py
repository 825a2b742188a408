# SPDX-License-Identifier: Apache-2.0
"""fwsign and the real easy-rsa at work on one PKI, and easy-rsa going on with an exported one."""

import os
import time
from pathlib import Path

import pytest
from cryptography import x509

from cli.kit import good, run
from external.test_easyrsa_programs import VENDOR, EasyRsa, call
from fwsign.pki.crls import next_number
from fwsign.pki.directory import Pki
from support import require_program

pytestmark = pytest.mark.external
INIT = ("pki", "init", "pki", "--org", "Acme", *VENDOR, "--layout", "easyrsa")
HERE = ("--pki", "pki")


class Program:
    """The easyrsa program on a PKI."""

    def __init__(self, pki: Path, **more: str) -> None:
        self.pki = pki
        # Debian has it in no directory of PATH; make-cadir links it to where it is used.
        home = pki.parent / f"{pki.name}-easyrsa"
        call([require_program("make-cadir"), home], pki.parent)
        (home / "vars").unlink()
        self.program = home / "easyrsa"
        self.env = {"EASYRSA_PKI": str(pki), "EASYRSA_BATCH": "1", **more}

    def __call__(self, *arguments: str) -> str:
        return call([self.program, *arguments], self.program.parent, self.env)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in [*os.environ]:
        if key.startswith(("FWSIGN_", "EASYRSA")) and not key.startswith("FWSIGN_REQ"):
            monkeypatch.delenv(key)


def listed(pki: Path) -> set[int]:
    return {one.serial_number for one in Pki(pki).crl("ca")}


def sign(*more: str, pki: str = "pki") -> None:
    Path("build.bin").write_bytes(b"firmware")
    good("sign", "build.bin", "--pki", pki, "--force", *VENDOR, "--product", "x1", *more)


def test_easyrsa_works_on_what_fwsign_made(tmp_path: Path) -> None:
    good(*INIT, "--no-passphrase")
    pki = tmp_path / "pki"
    easyrsa = Program(pki)
    assert "Acme Root CA" in easyrsa("show-ca")
    assert "release" in easyrsa("show-cert", "release")
    good("pki", "issue", "signer", "ci", *HERE, "--no-passphrase")
    good("pki", "issue", "signer", "gone", *HERE, "--no-passphrase")
    serials = {name: Pki(pki).certificate(name).serial_number for name in ("ci", "gone")}
    good("pki", "revoke", "gone", "--reason", "privilegeWithdrawn", *HERE)
    easyrsa("revoke", "ci", "superseded")
    before = next_number(Pki(pki).crl("ca"))
    easyrsa("gen-crl")
    assert listed(pki) == {*serials.values()}
    assert next_number(Pki(pki).crl("ca")) == before + 1
    assert all(f"{one:X}" in easyrsa("show-revoke") for one in listed(pki))
    assert Pki(pki).names() == ("gone", "release")
    good("pki", "crl", *HERE)
    assert next_number(Pki(pki).crl("ca")) > before + 1
    assert listed(pki) == {*serials.values()}
    easyrsa("show-crl", "crl")
    found = run("pki", "lint", "pki")
    assert found.status == 0, found


def test_what_easyrsa_issues_and_revokes_is_seen(tmp_path: Path) -> None:
    good(*INIT, "--no-passphrase")
    pki = tmp_path / "pki"
    easyrsa = Program(pki)
    easyrsa("build-server-full", "broker.acme.example", "nopass")
    easyrsa("build-client-full", "sensor", "nopass")
    assert Pki(pki).names() == ("broker.acme.example", "release", "sensor")
    good("pki", "export", "chain", "broker.acme.example", "broker.pem", *HERE)
    anchor = ("--anchor", "pki/ca.crt", "--crl", "pki/crl.pem")
    good("pki", "verify", "broker.pem", "--purpose", "server", *anchor)
    easyrsa("revoke", "release", "keyCompromise")  # and no gen-crl
    assert run("pki", "renew", "release", *HERE).status == 5  # it was moved away
    good("pki", "revoke", "sensor", "--reason", "superseded", *HERE)
    assert len(listed(pki)) == 2
    good("pki", "issue", "signer", "release", *HERE, "--no-passphrase")
    sign()
    good("verify", "build.bin.suit", "--anchor", "pki/ca.crt", *VENDOR)


def test_what_easyrsa_revoked_refuses_the_signer_after_the_next_crl(tmp_path: Path) -> None:
    good(*INIT, "--no-passphrase")
    sign()
    Program(tmp_path / "pki")("revoke", "release", "keyCompromise")
    good("pki", "crl", *HERE)
    found = run("verify", "build.bin.suit", "--anchor", "pki/ca.crt", *VENDOR, "--crl",
                "pki/crl.pem")  # fmt: skip
    assert (found.status, "revoked" in found.err) == (1, True)


def test_encrypted_keys_are_opened_by_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", "root secret")
    monkeypatch.setenv("KEY", "key secret")
    good(*INIT, "--pass", "env:KEY", "--root-pass", "env:ROOT", "--alg", "rsa3072")
    easyrsa = Program(tmp_path / "pki", EASYRSA_PASSIN="pass:root secret")
    easyrsa("build-server-full", "broker.acme.example", "nopass")
    easyrsa("gen-crl")
    good("pki", "revoke", "broker.acme.example", "--reason", "superseded", "--ca-pass", "env:ROOT",
         *HERE)  # fmt: skip
    assert len(listed(tmp_path / "pki")) == 1


def test_fwsign_works_on_what_easyrsa_made(tmp_path: Path) -> None:
    old = EasyRsa(tmp_path, "ec", None)
    pki = old.home / "pki"
    here = ("--pki", pki)
    good("pki", "crl", *here)
    good("pki", "issue", "signer", "ci", *here, "--vendor", "acme.example", "--no-passphrase")
    good("pki", "revoke", "fw-signer", "--reason", "keyCompromise", *here)
    old.signer("later")
    assert len(old.crl()) == 2
    old("revoke", "ci", "superseded")
    good("pki", "crl", *here)
    assert len(listed(pki)) == 3
    assert Pki(pki).names() == ("fw-signer", "later")


@pytest.mark.parametrize("alg", ["p256", "ed25519", "rsa3072"])
def test_easyrsa_goes_on_with_an_exported_ca(
    tmp_path: Path, alg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "key secret")
    good("pki", "init", "ours", "--org", "Acme", *VENDOR, "--alg", alg, "--pass", "env:KEY")
    more = ("--pki", "ours", "--ca-pass", "env:KEY")
    good("pki", "issue", "signer", "ci", *more, "--no-passphrase")
    good("pki", "revoke", "ci", "--reason", "superseded", *more)
    assert good("pki", "export", "easyrsa", "theirs", "--pki", "ours") == "theirs\n"
    theirs = tmp_path / "theirs"
    easyrsa = Program(theirs, EASYRSA_PASSIN="pass:key secret")
    assert "Acme Issuing CA" in easyrsa("show-ca")
    easyrsa("build-server-full", "broker.acme.example", "nopass")
    easyrsa("revoke", "release", "keyCompromise")
    easyrsa("gen-crl")
    crl = x509.load_pem_x509_crl((theirs / "crl.pem").read_bytes())
    reader = Pki("ours")
    assert {one.serial_number for one in crl} == {
        reader.certificate(name).serial_number for name in ("ci", "release")
    }
    assert next_number(crl) == next_number(reader.crl("issuing")) + 1
    good("pki", "import", "theirs", "--to", "back", "--ca-pass", "env:KEY")
    assert Pki("back").names() == ("broker.acme.example", "issuing")
    good("pki", "export", "chain", "broker.acme.example", "broker.pem", "--pki", "back")
    openssl = require_program("openssl")
    call([openssl, "verify", "-CAfile", "back/ca.crt", "-untrusted", "broker.pem", "-x509_strict",
          "-crl_check_all", "-CRLfile", "back/crl/bundle.pem", "broker.pem"], tmp_path)  # fmt: skip


def test_a_sub_ca_of_easyrsa_is_taken_over(tmp_path: Path) -> None:
    root = EasyRsa(tmp_path, "ec", None)
    below = Program(tmp_path / "below", EASYRSA_ALGO="ec", EASYRSA_REQ_CN="Acme Sub")
    below("init-pki")
    below("build-ca", "subca", "nopass")
    del below.env["EASYRSA_REQ_CN"]
    root("import-req", str(tmp_path / "below/reqs/ca.req"), "sub")
    root("sign-req", "ca", "sub")
    (tmp_path / "below/ca.crt").write_bytes((root.home / "pki/issued/sub.crt").read_bytes())
    below("build-client-full", "sensor", "nopass")
    below("gen-crl")
    root("gen-crl")
    given = ("--root", root.home / "pki/ca.crt", "--root", root.home / "pki/crl.pem")
    found = run("pki", "import", "below", "--to", "ours")
    assert (found.status, "whose certificate is not here" in found.err) == (5, True)
    found = run("pki", "import", "below", "--to", "ours", *given)
    assert found.status == 0, found
    assert found.err.splitlines()[:2] == [
        'fwsign: "Acme Sub" of easy-rsa is the issuing CA now',
        'fwsign: its root is "Acme Root", whose key is elsewhere',
    ]
    good("pki", "issue", "signer", "ci", "--pki", "ours", *VENDOR, "--no-passphrase")
    sign("--signer", "ci", pki="ours")
    anchor = ("--anchor", "ours/ca.crt", *VENDOR, "--profile", "compat")
    good("verify", "build.bin.suit", *anchor, "--revocation", "require")
    time.sleep(1.1)  # easy-rsa numbers no CRL: two of one second are of one rank
    root("gen-crl")
    good("pki", "accept", "ours", root.home / "pki/crl.pem")
