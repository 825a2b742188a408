# SPDX-License-Identifier: Apache-2.0
"""Count the blocks of a UF2 file, in any order, and find the ranges of flash that they fill.

Each block says which one it is of how many. The count is that of its family, or of the whole file;
several files may follow one another, and then each has its own. Memory is a bit for each block that
is announced, and 16 bytes for each range: as long as blocks go up or down, that is one range.
"""

from array import array
from collections.abc import Iterable
from typing import TypeAlias

from fwsign.images.base import damaged
from fwsign.images.uf2_block import NOT_MAIN_FLASH, PAGE, Key, Uf2Block, chip_of, name

MAX_PIECES = 1024
"""Contiguous ranges of flash; a linker makes a handful."""
MAX_FAMILIES = 64

Range: TypeAlias = tuple[int, int]
"""The first address, and the first one after it."""


class Family:
    """The blocks of one family, or of one file in a container.

    Args:
        key: what they belong to.
        most: the number of blocks in the whole file.
    """

    def __init__(self, key: Key, most: int) -> None:
        self.key, self._most = key, most
        self.skipped = self.short = self.whole = 0  # blocks, blocks, counts
        self.total = self.seen = 0  # of the count under way; 0: none is
        self.bits = bytearray()
        self.ordered = self.together = True  # by numbers; without a gap in the numbers
        self.ranges: list[Range] = []
        self._lowest = self._highest = 0
        self._starts, self._ends = array("Q"), array("Q")

    def add(self, block: Uf2Block) -> None:
        """Take in a block.

        Raises:
            Malformed: `malformed.image`.
        """
        self._count(block)
        if block.flags & NOT_MAIN_FLASH:
            self.skipped += 1
            return
        self.short += block.size < PAGE
        start, end = block.address, block.address + block.size
        if self._ends and self._ends[-1] == start:
            self._ends[-1] = end
        elif self._starts and self._starts[-1] == end:
            self._starts[-1] = start
        else:
            self._starts.append(start)
            self._ends.append(end)

    def _count(self, block: Uf2Block) -> None:
        number, total = block.number, block.total
        if not self.seen:
            if total > self._most:
                raise damaged("uf2", "number of blocks", total, self._most)
            self.total, self.bits = total, bytearray(-(-total // 8))
            self._lowest = self._highest = number
        at, bit = number // 8, 1 << number % 8
        if total != self.total or number >= total or self.bits[at] & bit:
            raise damaged(
                "uf2",
                f"numbering of block {block.place}",
                f"one more of {self.total} of family {name(self.key)}",
                f"{number} of {total}" + (" again" if total == self.total > number else ""),
            )
        self.bits[at] |= bit
        self.ordered &= number == self._highest + 1 or not self.seen
        self._lowest, self._highest = min(number, self._lowest), max(number, self._highest)
        self.seen += 1
        self.together = self._highest - self._lowest + 1 == self.seen
        if self.seen == total:
            self.whole += 1
            self.seen = 0

    def finish(self) -> None:
        """Sort and join the ranges.

        Raises:
            Malformed: `malformed.image`: they overlap, or are too many.
        """
        pieces = sorted(
            start << 33 | end for start, end in zip(self._starts, self._ends, strict=True)
        )
        self._starts, self._ends = array("Q"), array("Q")
        for piece in pieces:
            start, end = piece >> 33, piece & (1 << 33) - 1
            before = self.ranges[-1][1] if self.ranges else 0
            if start < before:
                what = f"blocks of family {name(self.key)}"
                raise damaged("uf2", what, f"nothing else before {before:#010x}", f"{start:#010x}")
            if self.ranges and start == before:
                self.ranges[-1] = (self.ranges[-1][0], end)
            else:
                self.ranges.append((start, end))
            if len(self.ranges) > MAX_PIECES:
                raise damaged("uf2", "contiguous ranges", f"at most {MAX_PIECES}", "more")

    @property
    def lowest(self) -> int | None:
        """The lowest address."""
        return self.ranges[0][0] if self.ranges else None


def check_counts(families: Iterable[Family]) -> bool:
    """Check that every count is whole, and tell whether several families share one.

    Raises:
        Malformed: `malformed.image`.
    """
    sharing: dict[int, list[Family]] = {}
    for family in families:
        if family.seen:
            sharing.setdefault(family.total, []).append(family)
    for total, group in sharing.items():
        found = sum(family.seen for family in group)
        bits = [int.from_bytes(family.bits, "little") for family in group]
        union = 0
        for one in bits:
            union |= one
        if found != total or union != (1 << total) - 1:
            what = " and ".join(name(family.key) for family in group)
            raise damaged("uf2", f"number of blocks of family {what}", total, found)
        _check_shared(group)
    return bool(sharing)


def _check_shared(group: list[Family]) -> None:
    """Refuse a family that is that of another block, damaged.

    An image for another chip begins where the others begin; a block out of its middle does not.
    """
    several = len({chip_of(family.key) for family in group}) > 1
    lowest = min((one.lowest for one in group if one.lowest is not None), default=0)
    for family in group:
        if family.lowest not in (lowest, None) and (several or not family.together):
            raise damaged(
                "uf2",
                f"blocks of family {name(family.key)}, of one count with others",
                f"an image from {lowest:#010x} on",
                f"{family.lowest:#010x}",
            )
