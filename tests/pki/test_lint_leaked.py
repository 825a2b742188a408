"""The rule about certificates of keys that leaked."""

from pathlib import Path

from fwsign.pki.directory import Pki
from fwsign.pki.lint.run import lint
from fwsign.pki.renewal import renew
from fwsign.pki.view.words import shown_serial
from pki_kit import NOW, issue, make, no_passphrase, withdraw


def found(place: Path) -> list[str]:
    codes = [(one.code, one.message) for one in lint(place, now=NOW).findings]
    return [message for code, message in codes if code == "lint.leaked-key"]


def serial(place: Path, name: str) -> int:
    return Pki(place).certificate(name).serial_number


def test_leaked_key(tmp_path: Path) -> None:
    place = make(tmp_path / "pki").directory
    issue(place, "ci")
    old = serial(place, "ci")
    renew(place, "ci", ca_passphrase=no_passphrase, now=NOW)
    assert found(place) == []
    withdraw(place, f"{old:X}", "keyCompromise")
    gone = shown_serial(old)
    assert found(place) == [
        f"its key leaked: certificate {gone} was revoked for that, and this one was not"
    ]
    withdraw(place, f"{serial(place, 'ci'):X}", "keyCompromise")
    assert found(place) == []


def test_a_certificate_that_was_replaced_has_no_leaked_key(tmp_path: Path) -> None:
    place = make(tmp_path / "pki").directory
    old = serial(place, "release")
    renew(place, "release", ca_passphrase=no_passphrase, now=NOW)
    withdraw(place, f"{old:X}", "superseded")
    assert found(place) == []
