"""Cancel: an exception from a report of progress passes through, and leaves nothing behind."""

import io
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flash.kit import STOCK, MemoryBoard, board_info, esp_image, judging
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Event, Options
from fwsign.format.kinds import file_identifier
from fwsign.format.text import Text
from fwsign.signing.release import ReleaseFile, describe
from gateway.kit import Gateway, make_gateway
from support import PAYLOAD, PRODUCT, VENDOR, make_pki, sign_with, verify


class Cancelled(Exception):
    """What a program raises to end the work."""


MINE = Cancelled("no longer wanted")


class Source(io.BytesIO):
    """A payload whose second piece is never read."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise MINE
        return super().read(min(size or 1, 7))


def everything(base: Path) -> dict[str, bytes]:
    """Return all files below a directory, besides what is staged."""
    found = (path for path in base.rglob("*") if path.is_file() and ".fwsign" not in path.parts)
    return {str(path.relative_to(base)): path.read_bytes() for path in found}


def test_a_cancelled_install_passes_through_and_changes_nothing(tmp_path: Path) -> None:
    gateway: Gateway = make_gateway(tmp_path)
    gateway.install(gateway.release(1, {"app.bin": b"old"}))
    release = gateway.release(2, {"app.bin": b"new" * 100_000, "b.bin": b"other"})
    before = everything(gateway.base)

    def progress(name: str, _done: int, _total: int) -> None:
        if name == "b.bin":
            raise MINE

    with pytest.raises(Cancelled) as caught:
        gateway.install(release, progress=progress)
    assert caught.value is MINE
    now = everything(gateway.base)
    assert now.pop("state.db") != before.pop("state.db")  # the hint for --resume
    assert now == before
    assert (gateway.floor, gateway.installed) == (1, {"app.bin": b"old"})
    assert gateway.results[-1] == ("installed", None)
    assert gateway.install(None).verdict == "installed"
    assert gateway.floor == 2


def test_a_cancelled_verification_passes_through_and_takes_no_more() -> None:
    pki = make_pki()
    release = verify(sign_with(pki), [pki.root])
    sink = io.BytesIO()
    with pytest.raises(Cancelled) as caught:
        release.receive(release.components[0], Source(PAYLOAD), sink)
    assert caught.value is MINE
    assert sink.getvalue() == PAYLOAD[:7]
    release.receive(release.components[0], io.BytesIO(PAYLOAD))


def test_a_cancelled_signing_passes_through_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "build.bin"
    path.write_bytes(PAYLOAD)
    closed = []

    @contextmanager
    def opener(_: Path) -> Any:
        try:
            yield Source(PAYLOAD)
        finally:
            closed.append(True)

    file = ReleaseFile(path, file_identifier("build.bin"))
    with pytest.raises(Cancelled) as caught:
        describe([file], Text(VENDOR, PRODUCT), sequence_number=1, opener=opener)
    assert (caught.value, closed) == (MINE, [True])
    assert [one.name for one in tmp_path.iterdir()] == ["build.bin"]


@pytest.mark.parametrize("stage", ["connecting", "comparing", "writing", "verifying"])
def test_a_cancelled_flash_passes_through_and_releases_the_board(stage: str) -> None:
    board = MemoryBoard(STOCK, board_info())
    parts = {"esp32c3@0x10000": esp_image()}
    seen = []

    def report(event: Event) -> None:
        seen.append(event.stage)
        if event.stage == stage:
            raise MINE

    with pytest.raises(Cancelled) as caught:
        flash(board.connect, judging(parts), Options(), report)
    assert caught.value is MINE
    assert seen.count(stage) == 1
    assert board.closed == (stage != "connecting")
    assert (board.did("program") == []) == (stage != "verifying")
