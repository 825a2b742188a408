# SPDX-License-Identifier: Apache-2.0
"""Read the first block of an RP2350 image: its cores, and whether it has partitions.

    DED3 FFFF, items, FF with the words of all items, offset of the next block, 7935 12AB

An item is its type, with bit 7 set where its size has two bytes, its size in words, and more.
Source: RP2350 data sheet, section 5.9. Only hints for the flasher: the boot ROM judges.
"""

import struct
from collections.abc import Iterator
from typing import Final

WINDOW: Final = 4096
"""The boot ROM looks for the first block in this many bytes."""

_START: Final = struct.pack("<I", 0xFFFFDED3)
_IMAGE_TYPE: Final = 0x42
_PARTITION_TABLE: Final = 0x0A
_LAST: Final = 0x7F
_MOST_ITEMS: Final = 64
_RISCV: Final = 1


def is_riscv(image: bytes) -> bool:
    """Tell whether an image at the start of the flash is marked for the RISC-V cores."""
    return any(kind == _IMAGE_TYPE and (words >> 24) & 7 == _RISCV for kind, words in _items(image))


def has_partitions(image: bytes) -> bool:
    """Tell whether an image at the start of the flash has a partition table."""
    return any(kind == _PARTITION_TABLE for kind, _ in _items(image))


def _items(image: bytes) -> Iterator[tuple[int, int]]:
    """Yield type and first word of the first block's items."""
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
        yield kind, word
        at += 4 * size
