# SPDX-License-Identifier: Apache-2.0
"""A NOR flash: erasing sets whole sectors, programming only clears bits."""

import hashlib
from typing import Final

from fwsign.flash.simulate.line import Fault

SECTOR: Final = 4096
SMALLEST: Final = 4 * 1024 * 1024
"""The size of a flash for which none is named."""


class PowerLostError(Exception):
    """The board lost power in the middle of a command."""


class Nor:
    """A flash of 4 MiB or another size, or as much more as its content needs.

    Args:
        content: what it holds to begin with; erased after it.
        faults: `power`, `stuck` and `lie` are this class's.
        size: in bytes, a power of two; None for as large as its content needs.
    """

    def __init__(self, content: bytes, faults: tuple[Fault, ...], size: int | None = None) -> None:
        size = size or SMALLEST
        while size < len(content):
            size *= 2
        self.cells = bytearray(content.ljust(size, b"\xff"))
        self._power = [fault.at for fault in faults if fault.name == "power"]
        self._stuck = [fault.at for fault in faults if fault.name == "stuck"]
        # A board that lies keeps a record of what its flash should hold.
        lies = any(fault.name == "lie" for fault in faults)
        self._told = bytearray(self.cells) if lies else None

    @property
    def id(self) -> int:
        """What it answers to RDID: a Winbond of this size."""
        return (len(self.cells).bit_length() - 1) << 16 | 0x40EF

    def holds(self, offset: int, size: int) -> bool:
        """Tell whether these bytes are all within the flash."""
        return offset + size <= len(self.cells)

    def erase(self, offset: int, size: int) -> None:
        """Erase every sector that these bytes touch.

        Raises:
            PowerLostError: half-way through a sector.
        """
        start, end = offset - offset % SECTOR, -(-(offset + size) // SECTOR) * SECTOR
        if self._told is not None:
            self._told[start:end] = b"\xff" * (end - start)
        for sector in self._power:
            if start <= sector * SECTOR < end:
                self._power.remove(sector)
                half = sector * SECTOR + SECTOR // 2
                self.cells[start:half] = b"\xff" * (half - start)
                raise PowerLostError
        self.cells[start:end] = b"\xff" * (end - start)

    def program(self, offset: int, data: bytes) -> None:
        """Clear bits."""
        end = offset + len(data)
        if self._told is not None:
            self._told[offset:end] = _both(self._told[offset:end], data)
        stuck = [(at, self.cells[at]) for at in self._stuck if offset <= at < end]
        self.cells[offset:end] = _both(self.cells[offset:end], data)
        for at, value in stuck:
            self.cells[at] = value

    def md5(self, offset: int, size: int) -> bytes:
        """Return what the board says is the MD5 of these bytes."""
        cells = self.cells if self._told is None else self._told
        return hashlib.md5(
            memoryview(cells)[offset : offset + size], usedforsecurity=False
        ).digest()


def _both(old: bytearray, new: bytes) -> bytes:
    both = int.from_bytes(old, "little") & int.from_bytes(new, "little")
    return both.to_bytes(len(new), "little")
