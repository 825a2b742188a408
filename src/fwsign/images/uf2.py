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
from collections.abc import Iterator
from typing import BinaryIO

from fwsign.format.payload import CHUNK_SIZE
from fwsign.images import uf2_block
from fwsign.images.base import Image, Reader, damaged, size_of
from fwsign.images.uf2_block import (
    ABSOLUTE,
    BLOCK,
    BOOT2_SIZE,
    FAMILY,
    FIELDS,
    MAGIC_END,
    MAGICS,
    MAX_PAYLOAD,
    PAGE,
    Uf2Block,
    boot2_crc,
    name,
)
from fwsign.images.uf2_content import Uf2Content, choose
from fwsign.images.uf2_words import image

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
    found = Uf2Content(size // BLOCK)
    reader = Reader(file, "uf2", 0, size)
    while reader.left:
        for fields in FIELDS.iter_unpack(reader.take(min(reader.left, CHUNK_SIZE), "blocks")):
            found.add(uf2_block.read(found.blocks, fields))
    found.finish()
    return image(found)


def contents(data: bytes, chip: str) -> list[tuple[int, bytes]]:
    """Return the contiguous ranges of flash that a file fills: address and bytes, in order.

    Args:
        data: a file that `parse` has accepted.
        chip: the chip of Raspberry Pi whose blocks are wanted.

    Raises:
        Malformed: `malformed.image`: nothing in it is for this chip's flash.
    """
    found = Uf2Content(len(data) // BLOCK)
    for block in _blocks(data):
        found.add(block)
    found.finish()
    choice = choose(chip, found.ranges(), bytes(found.window))
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


def _blocks(data: bytes) -> Iterator[Uf2Block]:
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
        + struct.pack("<6I", FAMILY, base + number * PAGE, PAGE, number, len(pages), family)
        + page.ljust(MAX_PAYLOAD, b"\0")
        + struct.pack("<I", MAGIC_END)
        for number, page in enumerate(pages)
    )
