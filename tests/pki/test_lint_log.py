"""What `pki lint` says of a PKI's log."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from fwsign.pki.lint.run import lint
from fwsign.pki.log import FILE, read_log
from pki_kit import NOW, issue, make, withdraw

DAY = timedelta(1)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "pki").directory


def codes(directory: Path) -> list[tuple[str, str]]:
    found = lint(directory, now=NOW + DAY).findings
    return [(one.code, one.message) for one in found if one.code in {"lint.log", "lint.not-logged"}]


def test_log(pki: Path) -> None:
    file = pki / FILE
    whole = file.read_text()
    file.write_text(whole.replace("release", "relaese", 1))
    [(code, message)] = codes(pki)
    assert (code, "as the one before it" in message) == ("lint.log", True)
    file.write_text("".join(whole.splitlines(keepends=True)[1:]))
    assert [code for code, _ in codes(pki)] == ["lint.log"]
    file.write_text("no log\n")
    assert [code for code, _ in codes(pki)] == ["lint.log"]
    file.write_text(whole)
    assert codes(pki) == []


@pytest.mark.parametrize("first", ["{}", '{"clock":"2026-01-01T00:00:00"}', '{"clock":7}'])
def test_a_first_line_without_a_time(first: str, pki: Path) -> None:
    content = json.dumps({**json.loads(first), "previous": None}, separators=(",", ":"))
    (pki / FILE).write_text(f"{content}\n")
    assert codes(pki) == [("lint.log", "its first line has no time")]


def test_not_logged(pki: Path) -> None:
    assert codes(pki) == []
    kept = (pki / FILE).read_bytes()
    issue(pki, "ci", now=NOW + DAY)
    (pki / FILE).write_bytes(kept)
    assert codes(pki) == [
        ("lint.not-logged", "it begins 2026-11-02 11:30, the log earlier"),
    ]
    withdraw(pki, "ci", now=NOW + DAY)
    assert codes(pki) == []


def test_what_is_older_than_the_log_may_be_missing_in_it(pki: Path) -> None:
    (pki / FILE).unlink()
    assert codes(pki) == []
    issue(pki, "ci", now=NOW + DAY)
    assert [one.content["name"] for one in read_log(pki)] == ["ci"]
    assert codes(pki) == []


def test_easy_rsa_writes_no_log(tmp_path: Path) -> None:
    old = make(tmp_path / "old", flat=True).directory
    (old / FILE).write_text((old / FILE).read_text().splitlines(keepends=True)[0])
    assert codes(old) == []
