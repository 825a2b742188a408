# SPDX-License-Identifier: Apache-2.0
"""A simulated Pico in BOOTSEL mode: a folder as its drive, and a model of its boot ROM.

Whatever is copied into the folder is taken block by block. As on a board, the first block of a
count says how many there are; when all have come, the board restarts and its drive is gone. Blocks
that the ROM has no use for are dropped without a word: another chip's family, a payload that is not
256 bytes, an address outside of flash and RAM. Sectors are erased when the first of their pages
comes. Nothing of the flasher's reader of UF2 files is used here, so that each checks the other.

Source: RP2040 data sheet, section 2.8.4; RP2350 data sheet, sections 5.5.3 and 5.9.
"""

import shutil
import struct
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.flash.simulate import Settings

SIZES: Final = {"rp2040": 2 * 1024 * 1024, "rp2350": 4 * 1024 * 1024}
"""Chips, and bytes of flash on the boards of Raspberry Pi."""
_BOARD_IDS: Final = {"rp2040": "RPI-RP2", "rp2350": "RP2350"}
_INFO: Final = "INFO_UF2.TXT"
_POLL: Final = 0.005  # seconds between looks at the folder
_BLOCK: Final = 512
_PAGE: Final = 256
_SECTOR: Final = 4096
_XIP: Final = 0x10000000
_RAM: Final = range(0x20000000, 0x20082000)
_WINDOWS: Final = {"rp2040": 1 << 24, "rp2350": 1 << 25}
_RP2040: Final = 0xE48BFF56
_ABSOLUTE: Final = 0xE48BFF57
_IN_PARTITIONS: Final = {0xE48BFF59: 16, 0xE48BFF5A: 17, 0xE48BFF5B: 18}
"""Families of the RP2350 whose addresses count from a partition, and the bit that accepts each."""
_FAMILIES: Final = {
    "rp2040": {_RP2040},
    "rp2350": {_ABSOLUTE, 0xE48BFF58, *_IN_PARTITIONS},
}


class _Count(NamedTuple):
    """The count under way: a block with another family or total begins a new one."""

    family: int
    total: int


class Simulator:
    """The board.

    Args:
        settings: the chip, and what its flash holds.

    Raises:
        Failed: `device.port`: there is no such chip.
    """

    def __init__(self, settings: "Settings") -> None:
        self.chip = settings.chip or "rp2040"
        if self.chip not in SIZES:
            known = " or ".join(SIZES)
            message = f"no Pico has the chip {self.chip}, expected {known}"
            raise Failed("device.port", message, expected=known, found=self.chip)
        size = SIZES[self.chip]
        self.flash = bytearray(settings.flash[:size].ljust(size, b"\xff"))
        self.restarted = False
        self.dropped = 0
        """Blocks of which it took no notice."""
        self._count: _Count | None = None
        self._seen: set[int] = set()
        self._erased: set[int] = set()

    def take(self, block: bytes) -> None:
        """Take one block of 512 bytes from the host."""
        start, second, flags, address, size, number, total, family = struct.unpack_from(
            "<8I", block
        )
        (end,) = struct.unpack_from("<I", block, 508)
        known = (start, second, end) == (0x0A324655, 0x9E5D5157, 0x0AB16F30)
        mine = flags & 0x2000 and not flags & 1 and family in _FAMILIES[self.chip]
        if self.restarted or not known or not mine or size != _PAGE or number >= total:
            self.dropped += 1
            return
        if self._count != (family, total):
            self._count, self._seen, self._erased = _Count(family, total), set(), set()
        if not self._program(family, address, block[32 : 32 + _PAGE]):
            self.dropped += 1
            return
        self._seen.add(number)
        self.restarted = len(self._seen) == total

    def _program(self, family: int, address: int, page: bytes) -> bool:
        """Program a page; return whether its address is one of flash or RAM."""
        if address in _RAM:
            return True
        at = address - _XIP
        if address % _PAGE or not 0 <= at < _WINDOWS[self.chip]:
            return False
        if page == b"\xef" * _PAGE and family == _ABSOLUTE:
            return True  # for erratum RP2350-E10: its place is beyond what is used
        if family in _IN_PARTITIONS:
            at += self._partition(_IN_PARTITIONS[family])
        at %= len(self.flash)
        sector = at - at % _SECTOR
        if sector not in self._erased:
            self._erased.add(sector)
            self.flash[sector : sector + _SECTOR] = b"\xff" * _SECTOR
        for offset, byte in enumerate(page, at):
            self.flash[offset] &= byte
        return True

    # --- what the flash holds -----------------------------------------------------------------

    def starts(self) -> bool:
        """Tell whether the boot ROM would start what the flash holds."""
        if self.chip == "rp2040":
            return _mpeg_crc(bytes(self.flash[:252])) == int.from_bytes(
                self.flash[252:256], "little"
            )
        return any(self._item(at, 0x42) is not None for at in (0, *self._partitions()))

    def _partitions(self) -> list[int]:
        """Return the places of all partitions."""
        found = self._item(0, 0x0A)
        if found is None:
            return []
        count = self.flash[found + 3] & 0xF
        # Only partitions without ids and names are known here.
        firsts = struct.unpack_from(f"<{2 * count}I", self.flash, found + 8)[::2]
        return [(first & 0x1FFF) * _SECTOR for first in firsts]

    def _partition(self, bit: int) -> int:
        """Return the place of the first partition that accepts a family."""
        found = self._item(0, 0x0A)
        for number, place in enumerate(self._partitions()):
            flags = int.from_bytes(self.flash[(found or 0) + 12 + 8 * number :][:4], "little")
            if flags >> bit & 1:
                return place
        return 0

    def _item(self, start: int, kind: int) -> int | None:
        """Return the place of an item in the first block of an image, if it has it."""
        at = self.flash.find(b"\xd3\xde\xff\xff", start, start + _SECTOR)
        if at < 0:
            return None
        at += 4
        while at < start + _SECTOR and self.flash[at] & 0x7F != 0x7F:
            if self.flash[at] & 0x7F == kind:
                return at
            wide = self.flash[at] & 0x80
            words = int.from_bytes(self.flash[at + 1 : at + (3 if wide else 2)], "little")
            at += 4 * max(words, 1)
        return None


class SimulatedDrive:
    """The folder, and a thread that looks at it as the board does.

    Args:
        machine: the board.
    """

    def __init__(self, machine: Simulator) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="fwsign-bootsel-"))
        board = _BOARD_IDS[machine.chip]
        info = f"UF2 Bootloader v1.0\r\nModel: simulated\r\nBoard-ID: {board}\r\n"
        (self.path / _INFO).write_text(info, encoding="ascii", newline="")
        self._machine = machine
        self._taken: dict[Path, int] = {}  # bytes of each file
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def port(self) -> str:
        """What to give the flasher."""
        return f"drive:{self.path}"

    def close(self) -> None:
        """Take the folder away."""
        self._closed.set()
        self._thread.join()
        shutil.rmtree(self.path, ignore_errors=True)

    def _watch(self) -> None:
        while not self._closed.wait(_POLL):
            for path in sorted(self.path.iterdir()):
                if path.name != _INFO:
                    self._take(path)
            if self._machine.restarted:
                (self.path / _INFO).unlink()
                return

    def _take(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._taken.get(path, 0))
            data = file.read()
        whole = len(data) - len(data) % _BLOCK
        self._taken[path] = self._taken.get(path, 0) + whole
        for at in range(0, whole, _BLOCK):
            self._machine.take(data[at : at + _BLOCK])


def _mpeg_crc(data: bytes) -> int:
    """Compute the CRC-32 of boot2, most significant bit first, by division of one long number."""
    bits = 8 * len(data) + 32
    value = int.from_bytes(data, "big") << 32
    value ^= 0xFFFFFFFF << (bits - 32)
    for shift in range(bits - 33, -1, -1):
        if value >> (shift + 32) & 1:
            value ^= 0x104C11DB7 << shift
    return value
