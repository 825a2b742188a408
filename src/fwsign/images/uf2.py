# SPDX-License-Identifier: Apache-2.0
"""UF2: flash contents in blocks of 512 bytes, in a file that is copied to a board's drive.

A file may have images for several chips, each under its own family, in any order. See `uf2_block`
for the format and `uf2_count` for the numbering. A chip of Raspberry Pi takes these families:

    rp2040    rp2040
    rp2350    absolute and data, whose addresses are those of the flash, and one image for its Arm
              or RISC-V cores. If the absolute part is a partition table, then the addresses of the
              image count from the start of the partition that accepts its family.

Of several images for the same place, a boot ROM takes the first: it restarts when it has a whole
count. Source: RP2350 data sheet, section 5.5.3.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from fwsign.images import pico_block, uf2_block
from fwsign.images.base import Image, Reader, damaged, size_of, text
from fwsign.images.uf2_block import (
    ABSOLUTE,
    BLOCK,
    BOOT2_SIZE,
    DATA,
    FIELDS,
    FLASH,
    MAGIC_END,
    MAGICS,
    MAX_PAYLOAD,
    PAGE,
    Block,
    Key,
    boot2_crc,
    chip_of,
    in_flash,
    name,
)
from fwsign.images.uf2_count import MAX_FAMILIES, Family, Range, check_counts
from fwsign.payload import CHUNK_SIZE

__all__ = [
    "ABSOLUTE",
    "BLOCK",
    "BOOT2_SIZE",
    "PAGE",
    "boot2_crc",
    "claims",
    "contents",
    "parse",
    "place_expected",
    "write_uf2",
]

MAX_BLOCKS = 1 << 20
"""256 MiB of flash in payloads of 256 bytes: more than any chip that takes UF2 can address."""
_RP_CHIPS = ("rp2040", "rp2350")


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be a UF2 file."""
    return head.startswith(MAGICS)


def parse(file: BinaryIO) -> Image:
    """Read all blocks of a UF2 file, and check that together they are whole images.

    Blocks that work around erratum RP2350-E10 may be anywhere. Within a family no two blocks
    overlap. For the RP chips each block is in one page, and one family is all in flash or all in
    RAM; an RP2040 image that begins at the start of flash begins with a valid boot2.

    Args:
        file: seekable.

    Raises:
        Malformed: `malformed.image`.
    """
    size = size_of(file)
    if size % BLOCK:
        raise damaged("uf2", "size", f"a multiple of {BLOCK} bytes", f"{size} bytes")
    if size > MAX_BLOCKS * BLOCK:
        raise damaged("uf2", "number of blocks", f"at most {MAX_BLOCKS}", size // BLOCK)
    found = _Contents(size // BLOCK)
    reader = Reader(file, "uf2", 0, size)
    while reader.left:
        for fields in FIELDS.iter_unpack(reader.take(min(reader.left, CHUNK_SIZE), "blocks")):
            found.add(uf2_block.read(found.blocks, fields))
    found.finish()
    return _image(found)


class _Contents:
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

    def add(self, block: Block) -> None:
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
            if chip in _RP_CHIPS and ranges:
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


class _Choice(NamedTuple):
    """The families that a chip takes, each with the bytes to add to its addresses.

    Args:
        shifts: by family, in the order of the file.
        left: families that would cover others, and are left out.
        covers: whether an image covers the partition table that it came with.
    """

    shifts: Mapping[Key, int]
    left: Sequence[Key]
    covers: bool


def _choose(chip: str, ranges: Mapping[Key, Sequence[Range]], window: bytes) -> _Choice:
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
    return _Choice(shifts, left, covers)


def _overlap(some: Sequence[Range], others: Sequence[Range]) -> bool:
    """Tell whether ranges overlap; each of the two lists has none that do in itself."""
    end = 0
    for start, stop in sorted((*some, *others)):
        if start < end:
            return True
        end = stop
    return False


def contents(data: bytes, chip: str) -> list[tuple[int, bytes]]:
    """Return the contiguous ranges of flash that a file fills: address and bytes, in order.

    Args:
        data: a file that `parse` has accepted.
        chip: the chip of Raspberry Pi whose blocks are wanted.

    Raises:
        Malformed: `malformed.image`: nothing in it is for this chip's flash.
    """
    found = _Contents(len(data) // BLOCK)
    for block in _blocks(data):
        found.add(block)
    found.finish()
    choice = _choose(chip, found.ranges(), bytes(found.window))
    places: dict[int, int] = {}  # address: block; what comes later covers what was there
    for block in _blocks(data):
        used = block.key in choice.shifts and not block.flags & uf2_block.NOT_MAIN_FLASH
        if used and not uf2_block.is_workaround(block):
            places[block.address + choice.shifts[block.key]] = block.place
    if not places:
        held = ", ".join(map(name, found.families))
        raise damaged("uf2", "blocks", f"some for the flash of {chip}", held)
    ranges: list[tuple[int, bytearray]] = []
    for address, place in sorted(places.items()):
        block = uf2_block.read(place, FIELDS.unpack_from(data, place * BLOCK))
        if not ranges or ranges[-1][0] + len(ranges[-1][1]) != address:
            ranges.append((address, bytearray()))
        ranges[-1][1].extend(block.data[: block.size])
    return [(address, bytes(content)) for address, content in ranges]


def _blocks(data: bytes) -> Iterator[Block]:
    return (uf2_block.read(place, fields) for place, fields in enumerate(FIELDS.iter_unpack(data)))


def place_expected(image: Image, chip: str, offset: int) -> str | None:
    """Return the target that a UF2 file needs, if it is another than the given one.

    Args:
        image: a recognised image of any kind.
        chip: the chip of the target.
        offset: in bytes from the start of its flash.
    """
    if image.kind != "uf2":
        return None
    places = places_of(image)
    if not places:
        return "file" if image.chip or chip.startswith(("rp", "esp")) else None
    if (chip, offset) in places:
        return None
    return " or ".join(f"{one}@0x{at:x}" for one, at in places)


def places_of(image: Image) -> tuple[tuple[str, int], ...]:
    """Return the chips and offsets of any image, if it tells them."""
    if image.places or image.chip is None or image.offset is None:
        return image.places
    return ((image.chip, image.offset),)


# --- in words -------------------------------------------------------------------------------


def _image(found: _Contents) -> Image:
    ranges = found.ranges()
    choices = {chip: _choose(chip, ranges, bytes(found.window)) for chip in _RP_CHIPS}
    places = {
        chip: min(ranges[key][0][0] + shift for key, shift in choice.shifts.items()) - FLASH
        for chip, choice in choices.items()
        if choice.shifts
    }
    chips = {chip for key in ranges if (chip := chip_of(key)) is not None}
    alone = next(iter(chips)) if len(chips) == 1 else None
    version = text(found.tags.get(uf2_block.TAG_VERSION, b""))
    return Image(
        "uf2",
        alone,
        version=version or None,
        offset=places.get(alone) if alone else None,
        details=_details(found),
        places=tuple(places.items()) if len(chips) > 1 else (),
        notes=tuple(_notes(found, choices, places, chips)),
    )


def _notes(
    found: _Contents,
    choices: Mapping[str, _Choice],
    places: Mapping[str, int],
    chips: set[str],
) -> Iterator[str]:
    """Say what this file is for, and where a boot ROM would not take it as it is."""
    ranges = found.ranges()
    if any(isinstance(key, str) for key in ranges):
        yield "it holds files for the file system of a board's drive, nothing for flash"
    for chip in sorted(chips - set(places)):
        if chip in _RP_CHIPS:
            yield f"for {chip} it is a program in RAM, which no flash keeps"
        else:
            yield (
                f"it is for the drive of a UF2 boot loader on an {chip}, such as tinyuf2, which "
                "counts addresses from the start of its application partition ota_0; for a place "
                "in flash, sign the application itself"
            )
    if places and (others := [name(key) for key in ranges if chip_of(key) is None]):
        yield f"for other boards: {', '.join(others)}"
    for chip in places:
        yield from _choice_notes(chip, choices[chip], found)
    if places and found.shared and len(ranges) > 1:
        yield "one count for all families: a boot ROM waits for blocks that another chip takes"
    if "rp2350" in places and found.mixed:
        yield "families are interleaved: a boot ROM may begin its count again with each change"
    if "rp2350" in places and found.late:
        yield "the block for erratum RP2350-E10 is not the first, and so of no use"
    if places and any(one.short and chip_of(key) in places for key, one in found.families.items()):
        yield f"a boot ROM drops blocks that are shorter than {PAGE} bytes"


def _choice_notes(chip: str, choice: _Choice, found: _Contents) -> Iterator[str]:
    for key in choice.left:
        yield f"for the same place in the flash of {chip}, left out: {name(key)}"
    if choice.covers:
        yield "the image covers the partition table that comes with it"
    for key, shift in choice.shifts.items():
        if shift:
            yield f"{name(key)} goes into the partition at 0x{shift:x}"
    if not found.shared and sum(found.families[key].whole for key in choice.shifts) > 1:
        first = found.families[next(iter(choice.shifts))]
        yield f"a boot ROM restarts {chip} after the {first.total} blocks of {name(first.key)}"


def _details(found: _Contents) -> tuple[tuple[str, str], ...]:
    details = [("blocks", str(found.blocks))]
    details += [
        (f"block {place}", "workaround for erratum RP2350-E10") for place in found.workarounds
    ]
    for label, kind in (
        ("version", uf2_block.TAG_VERSION),
        ("description", uf2_block.TAG_DESCRIPTION),
    ):
        if value := found.tags.get(kind):
            details.append((label, text(value)))
    if skipped := sum(family.skipped for family in found.families.values()):
        details.append(("not for the main flash", f"{skipped} blocks"))
    if not all(family.ordered for family in found.families.values()):
        details.append(("order", "not that of the numbers"))
    for key, family in found.families.items():
        details.append(("family", name(key)))
        whose = f", {name(key)}" if len(found.families) > 1 else ""
        details += [
            ("range", f"{end - at} bytes at {at:#010x}{whose}") for at, end in family.ranges
        ]
    return tuple(details)


def write_uf2(data: bytes, base: int, family: int) -> bytes:
    """Make a UF2 file of pages of 256 bytes, the last one filled up with zeros.

    Args:
        data: at least one byte.
        base: address of its first byte, a multiple of 256.
        family: UF2 family, 32 bits.

    Raises:
        Malformed: `malformed.image`, data or base is not so.
    """
    if not data or base % PAGE or not 0 <= base <= (1 << 32) - len(data):
        found = f"{len(data)} bytes at {base:#x}"
        raise damaged("uf2", "contents", f"bytes at a multiple of {PAGE} within 32 bits", found)
    pages = [data[at : at + PAGE].ljust(PAGE, b"\0") for at in range(0, len(data), PAGE)]
    return b"".join(
        MAGICS
        + struct.pack(
            "<6I", uf2_block.FAMILY, base + number * PAGE, PAGE, number, len(pages), family
        )
        + page.ljust(MAX_PAYLOAD, b"\0")
        + struct.pack("<I", MAGIC_END)
        for number, page in enumerate(pages)
    )
