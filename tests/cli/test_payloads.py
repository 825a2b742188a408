"""Payloads that a thread reads ahead."""

import threading
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, run
from fwsign.cli import payloads
from fwsign.payload import CHUNK_SIZE

LARGE = bytes(range(256)) * 20_000  # a few chunks and a part of one


@pytest.fixture(autouse=True)
def _all_is_large(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setattr(payloads, "_LARGE", 0)
    (project / "large.bin").write_bytes(LARGE)
    (project / "empty.bin").write_bytes(b"")


def test_they_are_hashed_whole() -> None:
    good("sign", "large.bin", "empty.bin", "--allow-empty", "--block-size", "0")
    for name in ("large.bin", "empty.bin"):
        good("verify", f"{name}.suit")


@pytest.mark.parametrize("change", [LARGE + b"x", LARGE * 3, LARGE[:-1], b"", b"x" + LARGE[1:]])
def test_what_is_not_the_signed_one_is_refused_and_no_thread_stays(
    project: Path, change: bytes
) -> None:
    good("sign", "large.bin", "--block-size", "0")
    (project / "large.bin").write_bytes(change)
    before = threading.active_count()
    assert run("verify", "large.bin.suit").status == 1
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [1, 1000, CHUNK_SIZE, CHUNK_SIZE + 1, 10 * CHUNK_SIZE])
def test_any_size_of_read_gives_the_same_bytes(project: Path, size: int) -> None:
    limit = 300_000 if size == 1 else len(LARGE)
    (project / "large.bin").write_bytes(LARGE[:limit])
    with payloads.opened(project / "large.bin") as source:
        assert b"".join(iter(lambda: source.read(size), b"")) == LARGE[:limit]


def test_a_failure_of_the_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    good("sign", "large.bin", "--block-size", "0")

    class Broken:
        def read(self, size: int) -> bytes:
            del size
            raise OSError(5, "Input/output error")

    whole: Any = payloads._ReadAhead
    monkeypatch.setattr(payloads, "_ReadAhead", lambda _, bar: whole(Broken(), bar))
    found = run("sign", "large.bin", "--force")
    assert (found.status, found.errors) == (
        5,
        ["error: cannot read large.bin: input/output error"],
    )
    found = run("verify", "large.bin.suit")
    assert (found.status, len(found.errors)) == (5, 1)


def test_an_interrupt_while_the_thread_starts_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    (project / "large.bin").write_bytes(LARGE * 4)
    before, start = threading.active_count(), threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), payloads.opened(project / "large.bin"):
        pass
    assert threading.active_count() == before
