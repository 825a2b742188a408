"""`fwsign flash --permit`: transcripts, on simulated boards."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.kit import SAMPLES, good, refused, run
from support import require_package

ONE = "sim:esp32c3?flash=one.flash&id=a0b765c1d2e3"
TWO = "sim:esp32c3?flash=two.flash&id=a0b765ffffff"
BOARD = "mac:a0b765c1d2e3"


@pytest.fixture(autouse=True)
def _needed() -> None:
    require_package("serial")
    require_package("esptool")


@pytest.fixture
def two(project: Path) -> Path:
    """A project with an old release, a new one, and a permit for the old one on a board."""
    shutil.copy(SAMPLES / "blink-esp32c3.bin", project / "app.bin")
    for number in ("1", "2"):
        good("sign", "app.bin", "--sequence", number, "--output", f"{number}.suit")
    good("permit", "make", "--device", BOARD, "--release", "1.suit", "--output", "one.permit")
    return project


def told(*words: object, status: int = 0) -> list[dict[str, Any]]:
    """Flash, and return the lines of JSON."""
    found = run("flash", *words, "--json")
    assert found.status == status, found
    return [json.loads(line) for line in found.out.splitlines()]


def test_a_board_goes_back_once(two: Path) -> None:
    del two
    told("2.suit", "--port", ONE)
    assert told("1.suit", "--port", ONE, status=4)[0]["code"] == "unsuitable.rollback"
    words = ("--permit", "one.permit", "--receipt", "r.jsonl")
    back = run("flash", "1.suit", "--port", ONE, *words)
    assert back.status == 0, back
    assert "below the floor, by permit " in back.out
    receipt = json.loads(Path("r.jsonl").read_text(encoding="utf-8"))
    shown = json.loads(good("permit", "show", "one.permit", "--json"))
    assert receipt["permit"]["id"] == shown["id"]
    assert receipt["permit"]["manifest"] == shown["release"]
    (forward,) = told("2.suit", "--port", ONE)
    assert forward["permit"] is None
    (again,) = told("1.suit", "--port", ONE, "--permit", "one.permit", status=4)
    assert (again["code"], again["touched"]) == ("unsuitable.permit-used", False)


def test_two_boards_at_once_with_the_same_permit(two: Path) -> None:
    del two
    told("2.suit", "--port", ONE, "--port", TWO)
    found = told("1.suit", "--port", ONE, "--port", TWO, "--permit", "one.permit", status=4)
    results = {line["port"]: (line["result"], line["code"]) for line in found}
    assert results == {
        ONE: ("verified", None),
        TWO: ("refused", "unsuitable.permit-device"),
    }


def test_another_board_is_told_how_to_find_its_identity(two: Path) -> None:
    del two
    found = run("flash", "1.suit", "--port", TWO, "--permit", "one.permit")
    assert found.status == 4
    assert f'the permit is for device "{BOARD}", this device is "mac:a0b765ffffff"' in found.err
    hint = "fwsign board shows a board's identity; fwsign permit show, the permit's"
    assert hint in found.err + found.out


def test_options_that_exclude_each_other(two: Path) -> None:
    del two
    start = ("flash", "1.suit", "--port", ONE, "--permit", "one.permit")
    hint = "a permit is for a board whose floor counts"
    found = run(*start, "--no-rollback-check")
    refused(found, 2, "--permit and --no-rollback-check exclude each other", hint)
    found = run(*start, "--wait")
    refused(found, 2, "--permit and --wait exclude each other", "a permit is for one board")
    found = run(*start[:-1], "none.permit")
    error = "cannot read none.permit: no such file or directory"
    assert (found.status, found.errors[0]) == (5, f"error: {error}")
    assert not Path("one.flash").exists()
