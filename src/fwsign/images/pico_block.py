# SPDX-License-Identifier: Apache-2.0
"""Read the first block of an RP2350 image: its cores, and whether it has partitions.

    DED3 FFFF, items, FF with the words of all items, offset of the next block, 7935 12AB

An item is its type, with bit 7 set where its size has two bytes, its size in words, and more.
Source: RP2350 data sheet, section 5.9. Only hints for the flasher: the boot ROM judges.
"""

import struct
from collections.abc import Iterator
from typing import Final

from fwsign.images.rp_chips import RP2350_ARM, RP2350_ARM_NS, RP2350_RISCV

WINDOW: Final = 4096
"""The boot ROM looks for the first block in this many bytes."""

_START: Final = struct.pack("<I", 0xFFFFDED3)
_IMAGE_TYPE: Final = 0x42
_PARTITION_TABLE: Final = 0x0A
_LAST: Final = 0x7F
_MOST_ITEMS: Final = 64
_RISCV: Final = 1
_SECTOR: Final = 4096
_SECTOR_BITS: Final = 0x1FFF
_HAS_NAME: Final = 0x1000
_FAMILY_FLAGS: Final = {RP2350_ARM: 1 << 16, RP2350_RISCV: 1 << 17, RP2350_ARM_NS: 1 << 18}
"""UF2 families of images, and the flag of a partition that accepts each."""


def is_riscv(image: bytes) -> bool:
    """Tell whether an image at the start of the flash is marked for the RISC-V cores."""
    return any(kind == _IMAGE_TYPE and (words >> 24) & 7 == _RISCV for kind, words in _items(image))


def has_partitions(image: bytes) -> bool:
    """Tell whether an image at the start of the flash has a partition table."""
    return any(kind == _PARTITION_TABLE for kind, _ in _items(image))


def partition_for(image: bytes, family: int) -> int:
    """Return the offset of the first partition that accepts a family; 0 if there is none.

    The item has a word for the flash without a partition, then two words and more for each
    partition: its sectors, and its flags.
    """
    accepted = _FAMILY_FLAGS.get(family, 0)
    for kind, word, at in _places(image):
        if kind != _PARTITION_TABLE:
            continue
        end, place = at + 4 * (word >> 8 & 0xFF), at + 8
        for _ in range(word >> 24 & 0xF):
            if place + 8 > min(end, len(image)):
                break
            sectors: int
            flags: int
            sectors, flags = struct.unpack_from("<II", image, place)
            if flags & accepted:
                return (sectors & _SECTOR_BITS) * _SECTOR
            more = 2 * (flags & 1) + (flags >> 7 & 3)  # its id, and further families
            place += 8 + 4 * more
            if flags & _HAS_NAME and place < len(image):
                place += -(-(1 + (image[place] & 0x7F)) // 4) * 4
    return 0


def _items(image: bytes) -> Iterator[tuple[int, int]]:
    """Yield type and first word of the first block's items."""
    return ((kind, word) for kind, word, _ in _places(image))


def _places(image: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, first word and place of the first block's items."""
    window = image[:WINDOW]
    at = window.find(_START)
    while at % 4 and at >= 0:
        at = window.find(_START, at + 1)
    if at < 0:
        return
    at += 4
    for _ in range(_MOST_ITEMS):
        if at + 4 > len(window):
            return
        (word,) = struct.unpack_from("<I", window, at)
        size = (word >> 8) & (0xFFFF if word & 0x80 else 0xFF)
        kind = word & 0x7F
        if kind == _LAST or size == 0:
            return
        yield kind, word, at
        at += 4 * size
