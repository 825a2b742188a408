# SPDX-License-Identifier: Apache-2.0
"""The flash content in a file for an RP2350: .bin as it is, .uf2 page by page."""

from __future__ import annotations

import io
from typing import Final, NamedTuple

from fwsign.images import uf2, uf2_block
from fwsign.images.rp_chips import FLASH, RP2350_ARM, RP2350_ARM_NS, RP2350_RISCV

_FAMILIES: Final = (RP2350_ARM, RP2350_RISCV, RP2350_ARM_NS)


class PicoFile(NamedTuple):
    """The content of a file.

    Args:
        memory: from the image's first byte on; gaps of a UF2 file are zeros, as in picotool.
        address: of the first byte.
        family: the UF2 family; None for a binary.
        before: blocks of a UF2 file that stay as they are: the workaround for erratum E10.
    """

    memory: bytes
    address: int
    family: int | None = None
    before: bytes = b""

    def with_memory(self, memory: bytes) -> bytes:
        """Return a file of the same form with another content."""
        if self.family is None:
            return memory
        return self.before + uf2.write_uf2(memory, self.address, self.family)


def read_file(data: bytes) -> PicoFile | None:
    """Return the content of a file; None for a UF2 file without an image for this chip, or several.

    Raises:
        Malformed: `malformed.image`.
    """
    if not uf2.claims(data):
        return PicoFile(data, FLASH)
    uf2.parse(io.BytesIO(data))
    pages: dict[int, bytes] = {}
    families: set[uf2_block.Key] = set()
    before = b""
    for place, fields in enumerate(uf2_block.FIELDS.iter_unpack(data)):
        block = uf2_block.read(place, fields)
        if uf2_block.is_workaround(block):
            before += data[place * uf2.BLOCK : (place + 1) * uf2.BLOCK]
        elif block.flags & uf2_block.NOT_MAIN_FLASH:
            families.add(None)  # it would be lost
        else:
            families.add(block.key)
            pages.setdefault(block.address, block.data[: block.size])
    family = next((one for one in _FAMILIES if families == {one}), None)
    if family is None:
        return None
    start, end = min(pages), max(address + len(page) for address, page in pages.items())
    memory = bytearray(end - start)
    for address, page in pages.items():
        memory[address - start : address - start + len(page)] = page
    return PicoFile(bytes(memory), start, family, before)
