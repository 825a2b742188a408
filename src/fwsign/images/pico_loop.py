# SPDX-License-Identifier: Apache-2.0
"""The block loop of an RP2350 image, read strictly.

    FFFFDED3, items, FF with the words of all items, offset of the next block, AB123579

An item is its type, with bit 7 set where its size has two bytes, its size in words, and more. The
first block begins in the first 4 KiB; each names the next one, and the last one names the first.
All numbers are little-endian words. Source: RP2350 data sheet, sections 5.1.5 and 5.9.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from fwsign.images.base import damaged

WINDOW: Final = 4096
"""The boot ROM looks for the first block in this many bytes."""
START: Final = 0xFFFFDED3
END: Final = 0xAB123579

IMAGE_TYPE: Final = 0x42
VECTOR_TABLE: Final = 0x03
ENTRY_POINT: Final = 0x44
ROLLING_WINDOW: Final = 0x05
LOAD_MAP: Final = 0x06
HASH_DEF: Final = 0x47
VERSION: Final = 0x48
SIGNATURE: Final = 0x09
PARTITION_TABLE: Final = 0x0A
HASH_VALUE: Final = 0x4B
SALT: Final = 0x0C
IGNORED: Final = 0x7E
"""An item with bit 7 set has it, too; only its size is looked at."""
LAST: Final = 0xFF

_LEAST: Final = {VECTOR_TABLE: 2, HASH_DEF: 2, VERSION: 2, LOAD_MAP: 4}
"""Words that an item of a type has at least; it has its head in any case."""
MAX_BLOCKS: Final = 16
"""In a loop. A linker makes two, and sealing adds one."""
MAX_BLOCK_WORDS: Final = 0x280
"""Of one block: the boot ROM's own limit, the words that it has room for."""


class PicoItem(NamedTuple):
    """An item: its type, all its words with the head, and its place in the memory."""

    kind: int
    words: tuple[int, ...]
    at: int

    @property
    def head(self) -> int:
        """The first word: type, size, and what else is in it."""
        return self.words[0]


class PicoBlock(NamedTuple):
    """A block.

    Args:
        at: its place in the memory.
        items: without the last one.
        next: the distance to the next block in bytes; 0 in a loop of one.
        size: in bytes.
    """

    at: int
    items: tuple[PicoItem, ...]
    next: int
    size: int

    def find(self, kind: int) -> PicoItem | None:
        """Return the only item of a type; None if there is none.

        Raises:
            Malformed: `malformed.image`: there are several, or it is too short.
        """
        found = [one for one in self.items if one.kind == kind]
        if len(found) > 1:
            raise damaged("rp2350", f"items of type {kind:#04x} in a block", "one", len(found))
        if found and len(found[0].words) < _LEAST.get(kind, 1):
            expected = f"at least {_LEAST[kind]} words"
            raise damaged("rp2350", f"item of type {kind:#04x}", expected, len(found[0].words))
        return found[0] if found else None


def read_loop(memory: bytes) -> tuple[PicoBlock, ...]:
    """Return the blocks of an image in their order; none if it has no first block.

    Args:
        memory: the image, from the start of its flash or partition.

    Raises:
        Malformed: `malformed.image`: there is a first block, and the loop is broken.
    """
    first = _first(memory)
    if first is None:
        return ()
    blocks = [first]
    while (at := blocks[-1].at + blocks[-1].next) != first.at:
        if len(blocks) == MAX_BLOCKS:
            raise damaged("rp2350", "block loop", f"at most {MAX_BLOCKS} blocks", "more")
        found = _block(memory, at)
        if found is None:
            raise damaged("rp2350", f"block loop, after {blocks[-1].at:#x}", "a block", f"{at:#x}")
        if any(one.at == at for one in blocks):
            raise damaged("rp2350", "block loop", "one that ends at the first", f"{at:#x} again")
        blocks.append(found)
    return tuple(blocks)


def _first(memory: bytes) -> PicoBlock | None:
    """Find the first block: the marker may be there by accident, a whole block is not."""
    marker, at = struct.pack("<I", START), -1
    while (at := memory.find(marker, at + 1, WINDOW)) >= 0:
        found = None if at % 4 else _block(memory, at)
        if found is not None:
            return found
    return None


def _block(memory: bytes, start: int) -> PicoBlock | None:
    """Read the block at a place; None if there is none."""
    if start < 0 or start % 4:
        return None
    raw = memory[start : start + 4 * (MAX_BLOCK_WORDS + 4)]
    words = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    if not words or words[0] != START:
        return None
    items: list[PicoItem] = []
    at = 1
    while at + 2 < len(words):
        head = words[at]
        size = head >> 8 & (0xFFFF if head & 0x80 else 0xFF)
        if head & 0xFF == LAST:
            (distance,) = struct.unpack("<i", struct.pack("<I", words[at + 1]))
            if size != at - 1 or head >> 24 or words[at + 2] != END:
                return None
            return PicoBlock(start, tuple(items), distance, 4 * (at + 3))
        if not size or at + size > len(words):
            return None
        items.append(PicoItem(head & 0x7F, words[at : at + size], start + 4 * at))
        at += size
    return None


def patch(memory: bytearray, at: int, word: int) -> None:
    """Write one word, signed or not."""
    struct.pack_into("<I", memory, at, word & 0xFFFFFFFF)
