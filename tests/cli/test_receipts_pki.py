"""Receipts that are checked against a PKI: their key lives in a token, and has a certificate."""

from datetime import timedelta
from pathlib import Path

import pytest

from cli.kit import SAMPLES, good, refused, run
from fwsign.cli import inputs
from fwsign.pki.directory import Pki
from softhsm_kit import PIN, SoftHsm
from support import NOW

APP = SAMPLES / "blink-esp32c3.bin"
PORT = "sim:esp32c3?flash=one.flash"
BUNDLE = ("--crl", "pki/crl/bundle.pem")
VERIFY = ("receipts", "verify", "line.jsonl", "--anchor", "pki/ca.crt")


@pytest.fixture
def esp(project: Path) -> Path:
    """A project with a signed application for the ESP32-C3."""
    (project / "app.bin").write_bytes(APP.read_bytes())
    good("sign", "app.bin", "--sequence", "1000")
    return project


@pytest.fixture
def station(esp: Path, softhsm: SoftHsm, request: pytest.FixtureRequest) -> str:
    """A station's key in a token, with a certificate for a TLS client; return its URI."""
    del esp
    uri = softhsm.make("p256", f"station {request.node.name}")
    pin = ("--pass", softhsm.pass_file)
    good("pki", "issue", "client", "station", "--key", uri, "--for", "10d", *pin)
    good("pki", "export", "chain", "station", "station.pem")
    return uri


def flash(uri: str, certificate: str = "station.pem") -> None:
    own = ("--receipt", "line.jsonl", "--receipt-key", uri, "--receipt-certificate", certificate)
    done = run("flash", "app.bin.suit", "--port", PORT, *own, "--pass", "env:PIN", env={"PIN": PIN})
    assert done.status == 0, done
    assert PIN not in Path("line.jsonl").read_text(encoding="utf-8")


def later(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days=days))


def test_a_receipt_is_checked_against_the_pki(station: str) -> None:
    flash(station)
    assert "station" in good(*VERIFY)
    assert "station" in good(*VERIFY, *BUNDLE)
    flash(station, "pki/issued/station.crt")
    # The second has no issuing CA with it: no path leads to the root.
    assert run(*VERIFY).status == 1


@pytest.mark.parametrize("reason", ["keyCompromise", "superseded"])
def test_after_a_revocation(station: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flash(station)
    later(monkeypatch, 1)
    good("pki", "revoke", "station", "--reason", reason)
    good(*VERIFY)  # revocation is not judged
    found = run(*VERIFY, *BUNDLE)
    if reason == "superseded":  # nobody else has the key: what it signed before counts
        assert found.status == 0
        later(monkeypatch, 2)
        flash(station)
        found = run(*VERIFY, *BUNDLE)
    line = 1 if reason == "keyCompromise" else 2
    words = {"keyCompromise": "key compromise", "superseded": "superseded"}[reason]
    assert found.status == 1
    assert found.errors[0] == (
        f'error: receipt {line}: certificate "station" revoked 2026-11-23 ({words})'
    )


def test_a_receipt_after_the_end_of_the_certificate(
    station: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, 11)
    flash(station)
    good(*VERIFY)
    found = run(*VERIFY, *BUNDLE)
    assert found.status == 3
    assert found.errors[0].startswith(
        'error: receipt 1: certificate "station" expired 2026-12-02'
    ), found


def test_old_receipts_outlive_certificates_and_crls(
    station: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash(station)
    later(monkeypatch, 3000)
    good(*VERIFY, *BUNDLE)


def test_every_ca_needs_a_crl(station: str) -> None:
    flash(station)
    found = run(*VERIFY, "--crl", Pki("pki").crl_path("issuing-tls"))
    assert found.status == 3
    assert found.errors[0].startswith('error: receipt 1: no CRL of "Acme Root CA", the issuer of ')


def test_a_crl_without_an_anchor() -> None:
    hint = "CRLs are of the CAs below a root: --anchor ca.crt"
    refused(run("receipts", "verify", "x", *BUNDLE), 2, "--crl is for --anchor", hint)


def test_the_certificate_of_another_key(station: str) -> None:
    own = ("--receipt", "l", "--receipt-key", station, "--pass", "env:PIN")
    other = ("--receipt-certificate", "pki/issued/release.crt")
    found = run("flash", "app.bin.suit", "--port", PORT, *own, *other, env={"PIN": PIN})
    words = """pki/issued/release.crt: certificate "release" is not that of the receipts' key"""
    refused(found, 5, words)
    assert not Path("l").exists()


def test_a_certificate_without_a_key(esp: Path) -> None:
    del esp
    hint = "it is the certificate of that key"
    words = "--receipt-certificate is for --receipt-key"
    found = run("flash", "app.bin.suit", "--port", PORT, "--receipt-certificate", "x")
    refused(found, 2, words, hint)
