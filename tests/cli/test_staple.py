"""`fwsign staple`: newer CRLs into old envelopes."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from cli.kit import good, refused, run, tree
from fwsign.cli import inputs
from support import NOW, make_ca, make_crl


def test_an_old_envelope_becomes_fresh(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = (signed / "build.bin.suit").read_bytes()
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(100))
    assert run("verify", "build.bin.suit").status == 3
    good("pki", "crl")
    assert run("staple", "build.bin.suit") == (
        0,
        "build.bin.suit\n",
        "fwsign: next: fwsign verify build.bin.suit\n",
    )
    good("verify", "build.bin.suit")
    assert (signed / "build.bin.suit").read_bytes() != old


def test_a_revocation_reaches_what_is_signed_already(signed: Path) -> None:
    good("pki", "revoke", "release", "--reason", "keyCompromise")
    good("staple", "build.bin.suit", "--crl", signed / "pki/crl/issuing.pem")
    assert run("verify", "build.bin.suit").status == 1


def test_a_pki_for_easyrsa(signed: Path) -> None:
    where = ("--org", "Acme", "--vendor", "acme.example", "--layout", "easyrsa")
    good("pki", "init", "lab", *where, "--no-passphrase")
    good("sign", "build.bin", "--pki", "lab", "--force")
    before = (signed / "build.bin.suit").read_bytes()
    good("pki", "revoke", "release", "--reason", "keyCompromise", "--pki", "lab")
    good("staple", "build.bin.suit", "--pki", "lab")
    assert (signed / "build.bin.suit").read_bytes() != before
    found = run("verify", "build.bin.suit", "--anchor", "lab/ca.crt")
    assert (found.status, "revoked" in found.err) == (1, True)


def test_output_leaves_the_envelope_as_it_is(signed: Path) -> None:
    good("pki", "crl")
    before = tree(signed)
    assert good("staple", "build.bin.suit", "--output", "new.suit") == "new.suit\n"
    after = tree(signed)
    assert after.pop("new.suit")
    assert after == before
    refused(
        run("staple", "build.bin.suit", "--output", "new.suit"),
        5,
        "cannot write new.suit: exists already",
        "--output names another file",
    )


def test_what_is_there_already_is_told(signed: Path) -> None:
    before = (signed / "build.bin.suit").read_bytes()
    found = run("staple", "build.bin.suit", "--pki", "pki")
    assert "fwsign: the envelope has these CRLs or newer ones already\n" in found.err
    assert (signed / "build.bin.suit").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need privileges there")
def test_a_link_still_leads_to_the_envelope(signed: Path) -> None:
    (signed / "latest.suit").symlink_to("build.bin.suit")
    good("pki", "revoke", "release", "--reason", "superseded")
    assert good("staple", "latest.suit") == "latest.suit\n"
    assert (signed / "latest.suit").is_symlink()
    assert run("verify", "build.bin.suit").status == 1


def test_crls_that_go_stale_within_a_month_are_named(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del signed
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(60))
    assert "warning" not in run("staple", "build.bin.suit").err
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(61))
    assert (
        'fwsign: warning: CRL of "Acme Issuing CA" goes stale 2027-02-20: devices refuse the '
        "release from then on, until fwsign staple puts in a newer one\n"
    ) in run("staple", "build.bin.suit").err


def test_crls_that_go_stale_within_a_day_are_refused(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (signed / "build.bin.suit").read_bytes()
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(89, 1))
    refused(
        run("staple", "build.bin.suit", "--output", "new.suit"),
        3,
        'CRL of "Acme Issuing CA" goes stale 2027-02-20 12:00, less than a day from now',
        "make new ones with: fwsign pki crl; --force takes them all the same",
    )
    assert not (signed / "new.suit").exists()
    assert (signed / "build.bin.suit").read_bytes() == before
    found = run("staple", "build.bin.suit", "--force")
    assert (found.status, "warning: CRL" in found.err) == (0, True)


def test_a_stale_crl_in_the_envelope_hinders_no_newer_one_of_another_issuer(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good("pki", "crl")
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(100))
    found = run("staple", "build.bin.suit", "--crl", signed / "pki/crl/ca.pem")
    assert found.status == 0
    assert 'warning: CRL of "Acme Issuing CA" went stale 2027-02-20' in found.err


@pytest.mark.usefixtures("signed")
class TestRefusals:
    def test_a_crl_of_a_stranger(self, tmp_path: Path) -> None:
        (tmp_path / "other.crl").write_bytes(make_crl(make_ca("Stranger")))
        before = tree(tmp_path)
        refused(
            run("staple", "build.bin.suit", "--crl", "other.crl"),
            5,
            'the CRL of "Stranger" belongs to no issuer in the envelope',
            "leave it out, or give the CRL of an issuer of the signer",
        )
        assert tree(tmp_path) == before

    def test_crl_and_pki_together(self) -> None:
        refused(
            run("staple", "build.bin.suit", "--crl", "x", "--pki", "pki"),
            2,
            "--crl and --pki exclude each other",
            "fwsign staple --help shows how",
        )

    def test_a_pki_without_crls(self, tmp_path: Path) -> None:
        for path in (tmp_path / "pki/crl").iterdir():
            path.unlink()
        refused(
            run("staple", "build.bin.suit", "--pki", "pki"),
            2,
            "no CRLs in pki/crl",
            "name them with --crl PEM",
        )

    def test_a_crl_that_is_none(self) -> None:
        refused(
            run("staple", "build.bin.suit", "--crl", "build.bin"),
            5,
            "build.bin has no CRL, it has no PEM",
        )

    def test_an_envelope_that_is_none(self, tmp_path: Path) -> None:
        before = tree(tmp_path)
        found = run("staple", "build.bin")
        assert (found.status, found.out) == (1, "")
        assert tree(tmp_path) == before

    def test_no_envelope(self) -> None:
        refused(run("staple", "absent"), 5, "cannot read absent: no such file or directory")
