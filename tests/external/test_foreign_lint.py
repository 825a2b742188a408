"""What lint finds in PKIs that easy-rsa, openssl and cfssl made."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fwsign.pki.lint.run import lint
from support import vectors

FOLDER = vectors() / "foreign-pki"
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
pytestmark = pytest.mark.external


def found(folder: str) -> set[tuple[str, str]]:
    """Return what is found, but for what depends on how the vectors were copied."""
    report = lint(Path(FOLDER / folder), now=DECEMBER)
    return {
        (one.code.removeprefix("lint."), one.subject)
        for one in report.findings
        if one.code != "lint.key-readable"
    }


def test_easyrsa_3_1_0() -> None:
    assert found("easyrsa-root") == {
        ("ca-criticality", "Acme Root"),
        ("ca-criticality", "Acme FW CA"),
        ("eku-criticality", "fw-signer-1"),
        ("vendor-absent", "fw-signer-1"),
        ("crl-number", "CRL of Acme Root"),
        ("constraints-absent", "Acme Root"),
        ("key-weak-kdf", "ca"),
        ("key-weak-kdf", "fw-signer-1"),
        ("root-key-here", "ca"),
    }


def test_openssl_req_x509() -> None:
    assert found("openssl") == {
        ("ca-key-usage-absent", "OS root"),
        ("eku-criticality", "signer"),
        ("vendor-absent", "signer"),
        ("crl-missing", "OS root"),
        ("constraints-absent", "OS root"),
    }


def test_cfssl_1_2() -> None:
    assert found("cfssl") == {
        ("eku-criticality", "fw-signer"),
        ("vendor-absent", "fw-signer"),
        ("crl-missing", "CF Root"),
        ("crl-missing", "CF FW CA"),
        ("constraints-absent", "CF FW CA"),
    }
