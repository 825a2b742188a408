"""Payloads that are hashed whole, and the progress bar."""

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer

from cli.kit import good, run
from fwsign.cli import payloads, ui

LARGE = bytes(range(256)) * 20_000  # a few chunks and a part of one


@pytest.fixture(autouse=True)
def _large(project: Path) -> None:
    (project / "large.bin").write_bytes(LARGE)
    (project / "empty.bin").write_bytes(b"")


def test_they_are_hashed_whole() -> None:
    good("sign", "large.bin", "empty.bin", "--allow-empty", "--block-size", "0")
    for name in ("large.bin", "empty.bin"):
        good("verify", f"{name}.suit")


@pytest.mark.parametrize("change", [LARGE + b"x", LARGE * 3, LARGE[:-1], b"", b"x" + LARGE[1:]])
def test_what_is_not_the_signed_one_is_refused(project: Path, change: bytes) -> None:
    good("sign", "large.bin", "--block-size", "0")
    (project / "large.bin").write_bytes(change)
    assert run("verify", "large.bin.suit").status == 1


class Bar:
    """What Typer's bar was told."""

    def __init__(self, length: int, label: str, file: object) -> None:
        assert (length, label, file) == (len(LARGE), "large.bin", sys.stderr)
        BARS.append(self)
        self.done = 0

    def update(self, steps: int) -> None:
        self.done += steps


BARS: list[Bar] = []


@pytest.mark.parametrize("lists", [(), ("--block-size", "0")])
def test_a_bar_shows_how_far_a_large_file_is_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, lists: tuple[str, ...]
) -> None:
    good("sign", "large.bin", *lists)
    monkeypatch.setattr(typer, "progressbar", lambda **told: nullcontext(Bar(**told)))
    monkeypatch.setattr(ui, "is_terminal", lambda _: True)
    BARS.clear()
    good("verify", "large.bin.suit")  # it is done before a bar is seen
    monkeypatch.setattr(payloads, "_LARGE", 0)
    good("--quiet", "verify", "large.bin.suit")
    assert BARS == []
    good("verify", "large.bin.suit")
    assert [one.done for one in BARS] == [len(LARGE)]


def test_a_failure_of_the_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    good("sign", "large.bin", "--block-size", "0")

    class Broken:
        def fileno(self) -> int:
            return 0

        def read(self, size: int) -> bytes:
            del size
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(payloads, "_file", lambda *_: nullcontext(Broken()))
    found = run("sign", "large.bin", "--force")
    assert (found.status, found.errors) == (
        5,
        ["error: cannot read large.bin: input/output error"],
    )
    found = run("verify", "large.bin.suit")
    assert (found.status, len(found.errors)) == (5, 1)
