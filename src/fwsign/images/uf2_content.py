# SPDX-License-Identifier: Apache-2.0
"""The content of a UF2 file: its families, and which of them a chip of Raspberry Pi takes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fwsign.images import pico_block, rp_chips, uf2_block
from fwsign.images.base import damaged
from fwsign.images.rp_chips import FLASH
from fwsign.images.uf2_block import ABSOLUTE, DATA, Key, Uf2Block, chip_of, in_flash, name
from fwsign.images.uf2_count import MAX_FAMILIES, Family, Range, check_counts

RP_CHIPS = tuple(rp_chips.BY_NAME)


class Uf2Content:
    """The content of all blocks so far.

    Args:
        most: the number of blocks in the file.
    """

    def __init__(self, most: int) -> None:
        self.blocks = 0
        self.families: dict[Key, Family] = {}  # in the order of the file
        self.workarounds: list[int] = []  # their first place, if any
        self.late = self.mixed = self.shared = False
        self.tags: dict[int, bytes] = {}
        self.window = bytearray(b"\xff" * pico_block.WINDOW)  # the start of the absolute family
        self._most = most
        self._last: Key = None

    def add(self, block: Uf2Block) -> None:
        """Take in the next block."""
        self.blocks += 1
        if uf2_block.is_workaround(block):
            self.late |= not self.workarounds and any(
                chip_of(key) == "rp2350" for key in self.families
            )
            self.workarounds = self.workarounds or [block.place]
            return
        family = self.families.setdefault(block.key, Family(block.key, self._most))
        if len(self.families) > MAX_FAMILIES:
            raise damaged("uf2", "families", f"at most {MAX_FAMILIES}", "more")
        self.mixed |= block.key != self._last and family.seen > 0
        self._last = block.key
        family.add(block)
        for kind, value in uf2_block.tags(block).items():
            self.tags.setdefault(kind, value)
        if block.flags & uf2_block.NOT_MAIN_FLASH:
            return
        uf2_block.check_md5(block)
        uf2_block.check_rp(block)
        if block.key == ABSOLUTE and block.address - FLASH in range(pico_block.WINDOW):
            at = block.address - FLASH
            self.window[at : at + block.size] = block.data[: block.size]

    def finish(self) -> None:
        """Check the rules about the file as a whole."""
        for family in self.families.values():
            family.finish()
            chip, ranges = chip_of(family.key), family.ranges
            if chip in RP_CHIPS and ranges:
                inside = [in_flash(chip, start) for start, _ in ranges]
                if any(inside) and not all(inside):
                    what = f"blocks of family {name(family.key)}"
                    raise damaged("uf2", what, "flash or ram", "flash and ram")
        self.shared = check_counts(self.families.values())
        if not any(family.ranges for family in self.families.values()):
            raise damaged("uf2", "blocks for the main flash", "at least one", "none")

    def ranges(self) -> dict[Key, list[Range]]:
        """Return the ranges of each family that has any."""
        return {key: family.ranges for key, family in self.families.items() if family.ranges}


class Choice(NamedTuple):
    """The families that a chip takes, each with the bytes to add to its addresses.

    Args:
        shifts: by family, in the order of the file.
        left: families that would cover others, and are left out.
        covers: whether an image covers the partition table that it came with.
    """

    shifts: Mapping[Key, int]
    left: Sequence[Key]
    covers: bool


def choose(chip: str, ranges: Mapping[Key, Sequence[Range]], window: bytes) -> Choice:
    """Choose the families of a file that a chip of Raspberry Pi takes into its flash."""
    shifts: dict[Key, int] = {}
    left: list[Key] = []
    covers = False
    taken: list[Range] = []
    mine = [key for key in ranges if chip_of(key) == chip and in_flash(chip, ranges[key][0][0])]
    table = ABSOLUTE in mine and pico_block.has_partitions(window)
    for key in sorted(mine, key=lambda key: not (table and key == ABSOLUTE)):
        moved = table and key not in (ABSOLUTE, DATA)
        shift = pico_block.partition_for(window, int(key or 0)) if moved else 0
        placed = [(start + shift, end + shift) for start, end in ranges[key]]
        overlaps = _overlap(placed, taken)
        if overlaps and not moved:
            left.append(key)
            continue
        covers |= overlaps
        shifts[key] = shift
        taken += placed
    return Choice(shifts, left, covers)


def _overlap(some: Sequence[Range], others: Sequence[Range]) -> bool:
    """Tell whether ranges overlap; each of the two lists has none that do in itself."""
    end = 0
    for start, stop in sorted((*some, *others)):
        if start < end:
            return True
        end = stop
    return False
