# SPDX-License-Identifier: Apache-2.0
"""Raspberry Pi Pico over USB: into BOOTSEL mode by opening its port at 1200 bit/s, then writing.

If pyusb is installed and may use the device, PICOBOOT reads and writes. Else a UF2 file is copied
to the board's drive, which cannot be read back. Of several boards in BOOTSEL mode, the one on the
serial port's USB port is taken. If the system does not tell USB ports, the board that appeared
since is taken, and none if that is not clear.

This was not tried with a real board: the serial port, the drive and the USB device were imitated.
"""

import contextlib
import io
import struct
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.flash.boards.board import Board, BoardInfo, Connect, Progress, Run
from fwsign.flash.boards.port import Port
from fwsign.flash.pico import drives, picoboot
from fwsign.flash.pico import usb as pico_usb
from fwsign.images import pico_block, rp_chips, uf2

_TOUCH_BAUD: Final = 1200
_WORKAROUND_AT: Final = 0x10FFFF00
_APPEARS: Final = 20.0  # seconds until a desktop has mounted the drive
_THERE: Final = 1.0  # seconds to look for a board that is in BOOTSEL mode already
_POLL: Final = 0.2


def connect(port: str, *, baud: int | None = None) -> Connect:
    """Return a function that brings a Pico into BOOTSEL mode and opens it.

    Args:
        port: the board's serial port, the path of its drive, or `drive:` and that path.
        baud: of no effect on USB.
    """
    del baud
    if port.startswith(drives.DRIVE):
        return lambda _: _DriveBoard(drives.at(Path(port.removeprefix(drives.DRIVE))))
    if Path(port).is_dir():
        return _from_path(Path(port))
    location: str | None = None

    def attempt(_: int) -> Board:
        nonlocal location
        location = drives.serial_location(port) or location  # the port is gone in BOOTSEL mode
        before = [one.place for one in _candidates()]
        absent = _touch(port)
        known = () if absent else before
        board = _wait(lambda: _pick(location, known), _THERE if absent else _APPEARS)
        if board is None:
            raise absent or _absent(port)
        return board

    return attempt


def _from_path(path: Path) -> Connect:
    """Return a function that opens the board of a drive; PICOBOOT removes the drive."""
    drive: drives.Drive | None = None

    def attempt(_: int) -> Board:
        nonlocal drive
        device = pico_usb.find().get(drive.location or "") if drive is not None else None
        if drive is None or device is None:  # else PICOBOOT has taken the drive away before
            drive = drives.at(path)
            device = pico_usb.find().get(drive.location or "")
        ways = (_by_drive(drive),) if device is None else (_by_usb(device), _by_drive(drive))
        return _Candidate(str(path), drive.location, ways).open()

    return attempt


def _touch(port: str) -> Failed | None:
    """Open a port at 1200 bit/s, and return the error if that failed."""
    try:
        line = Port(port, _TOUCH_BAUD, _POLL)
    except Failed as error:
        if error.code != "device.port":
            raise
        return error
    line.touch()
    line.close()
    return None


class _Candidate(NamedTuple):
    """A board in BOOTSEL mode: its distinguishing mark, and the ways to open it, the best first."""

    place: str
    location: str | None
    ways: tuple[Callable[[], Board], ...]

    def open(self) -> Board:
        """Open the best way that works."""
        *better, last = self.ways
        for way in better:
            with contextlib.suppress(Failed):
                return way()
        return last()


def _by_usb(device: Any) -> Callable[[], Board]:
    return lambda: picoboot.PicobootBoard(pico_usb.link_to(device))


def _by_drive(drive: drives.Drive) -> Callable[[], Board]:
    return lambda: _DriveBoard(drive)


def _candidates() -> list[_Candidate]:
    devices = pico_usb.find()
    found = {place: _Candidate(place, place, (_by_usb(one),)) for place, one in devices.items()}
    for drive in drives.find():
        place = drive.location
        if place is None:
            # Without a USB port, only a single device can belong to a single drive.
            place = next(iter(devices)) if len(devices) == 1 else str(drive.path)
        before = found.get(place) or _Candidate(place, drive.location, ())
        found[place] = before._replace(ways=(*before.ways, _by_drive(drive)))
    return list(found.values())


def _pick(location: str | None, known: Collection[str]) -> _Candidate | None:
    """Choose the board: by its USB port, else the only one that was not there before."""
    now = _candidates()
    if location is not None:
        same = [one for one in now if one.location == location]
        if same:
            return same[0]
        now = [one for one in now if one.location is None]
    fresh = [one for one in now if one.place not in known]
    return fresh[0] if len(fresh) == 1 else None


def _wait(pick: Callable[[], _Candidate | None], seconds: float) -> Board | None:
    deadline = time.monotonic() + seconds
    refusal: Failed | None = None
    while True:
        if (candidate := pick()) is not None:
            try:
                return candidate.open()
            except Failed as error:  # its drive may still come
                refusal = error
        if time.monotonic() > deadline:
            if refusal is not None:
                raise refusal
            return None
        time.sleep(_POLL)


def _absent(port: str) -> Failed:
    return Failed(
        "device.absent",
        f"no board in BOOTSEL mode has come from {port}",
        expected="a drive RPI-RP2 or RP2350, or a USB device that pyusb may use",
        found="none, or several",
        hint="mount the board's drive and give its path as the port",
    )


class _DriveBoard:
    """A Pico whose drive alone can be used: it takes a file, and then restarts."""

    def __init__(self, drive: drives.Drive) -> None:
        self._drive = drive
        self._restarted = False

    def probe(self) -> BoardInfo:
        """Return the facts that the drive tells: only the chip."""
        details = (("through", "drive"), ("path", str(self._drive.path)))
        return BoardInfo("pico-uf2", self._drive.chip, None, None, details=details)

    def digest(self, offset: int, size: int) -> bytes:
        """Refuse: a drive shows nothing."""
        raise _cannot(f"compute a digest of {size} bytes at 0x{offset:x}")

    def read(self, offset: int, size: int) -> bytes:
        """Refuse: a drive shows nothing."""
        raise _cannot(f"read {size} bytes at 0x{offset:x}")

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Copy all in one UF2 file, after which the board restarts."""
        file = build(runs, self._drive.chip)
        total, told = sum(len(run.data) for run in runs), 0
        done = 0

        def step(size: int) -> None:
            nonlocal done, told
            done += size
            now = total * done // len(file)  # bytes of flash, of which a block of 512 has 256
            progress(now - told)
            told = now

        drives.copy(self._drive, file, step)
        self._restarted = True

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """Return a note that an RP2350 may have put the file into a partition."""
        del regions
        if self._drive.chip == "rp2350":
            return ("boot not controlled: a partition table may have moved it",)
        return ()

    def reset(self) -> None:
        """Do nothing if it has restarted with its file; a drive cannot restart it otherwise."""
        if not self._restarted:
            raise Failed(
                "device.support",
                "the board stays in BOOTSEL mode until its power is taken away: "
                "a drive cannot restart it",
                expected="PICOBOOT, which needs pyusb",
                found="a drive",
            )

    def close(self) -> None:
        """Do nothing: a drive is not held open."""


def _cannot(what: str) -> Failed:
    return Failed(
        "device.support",
        f"a drive cannot {what}",
        expected="PICOBOOT, which needs pyusb",
        found="a drive",
    )


def build(runs: Sequence[Run], chip: str) -> bytes:
    """Make one UF2 file of all runs for the boot ROM, and check it like a foreign file.

    Args:
        runs: each begins on a page of 256 bytes.
        chip: "rp2040" or "rp2350".

    Raises:
        Failed: `device.support`: it cannot be one such file.
        Malformed: `malformed.image`: the runs overlap, or are no image for the chip.
    """
    family = rp_chips.BY_NAME[chip].family
    first = next((one.data for one in runs if one.offset == 0), b"")
    if chip == "rp2350" and pico_block.has_partitions(first):
        family = uf2.ABSOLUTE  # else a table that the board has would move it
    elif chip == "rp2350" and pico_block.is_riscv(first):
        family = rp_chips.RP2350_RISCV
    blocks = bytearray(
        b"".join(uf2.write_uf2(one.data, rp_chips.FLASH + one.offset, family) for one in runs)
    )
    # One count for all blocks: the boot ROM restarts after the number in the first block.
    total = len(blocks) // uf2.BLOCK
    for number in range(total):
        struct.pack_into("<II", blocks, number * uf2.BLOCK + 20, number, total)
    file = (_workaround(runs) if chip == "rp2350" else b"") + bytes(blocks)
    found = uf2.parse(io.BytesIO(file)).chip
    if found != chip:
        raise Failed(
            "device.support",
            f"the UF2 file became one for {found}, the board is {chip}",
            expected=chip,
            found=found,
        )
    return file


def _workaround(runs: Sequence[Run]) -> bytes:
    """Make the block for erratum RP2350-E10; all writers for this chip begin with it.

    It is for the last page of 16 MiB, so nothing else may be there.
    """
    if any(run.end + rp_chips.FLASH > _WORKAROUND_AT for run in runs):
        raise Failed(
            "device.support",
            "an RP2350's drive cannot write the last page of 16 MiB, only PICOBOOT can",
            expected=f"nothing beyond 0x{_WORKAROUND_AT - rp_chips.FLASH:x}",
            found=f"0x{max(run.end for run in runs):x}",
        )
    block = bytearray(uf2.write_uf2(b"\xef" * uf2.PAGE, _WORKAROUND_AT, uf2.ABSOLUTE))
    struct.pack_into("<II", block, 20, 0, 2)  # the first of two; the second never comes
    return bytes(block)
