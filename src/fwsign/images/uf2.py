# SPDX-License-Identifier: Apache-2.0
"""UF2: flash contents in blocks of 512 bytes, in a file that is copied to a board.

    0x000  0A324655, 9E5D5157, flags, address, payload size, block number, number of blocks, family
    0x020  476 bytes: payload, then the parts that the flags announce
    0x1FC  0AB16F30

Source: the UF2 specification (microsoft/uf2); families of the RP chips: RP2350 data sheet,
section 5.5.3; erratum RP2350-E10: the same, appendix. Numbers are little-endian.

UF2 allows blocks in any order. Every known writer numbers them upwards, and starts again at 0 for
each file inside. This reader demands that order, and so needs no memory per block.
"""

import hashlib
import itertools
import struct
from typing import BinaryIO, NamedTuple

from fwsign.images.base import Image, Reader, damaged, size_of
from fwsign.images.esp import CHIPS
from fwsign.payload import CHUNK_SIZE

BLOCK = 512
MAX_PAYLOAD = 476
"""The room in a block; a payload of 256 is usual, and the RP chips take no other."""
MAX_BLOCKS = 1 << 20
"""256 MiB of flash in payloads of 256 bytes: more than any chip that takes UF2 can address."""
MAX_PIECES = 1024
"""Contiguous ranges of flash; a linker makes a handful, and they are kept in memory."""
PAGE = 256
"""The bytes that the RP chips program at once."""
BOOT2_SIZE = 252
"""The RP2040's second stage boot loader is one page, its CRC included."""

_BLOCK = struct.Struct("<8I476sI")
_MAGICS = struct.pack("<II", 0x0A324655, 0x9E5D5157)
_MAGIC_END = 0x0AB16F30
_NOT_MAIN_FLASH = 0x1
_FAMILY = 0x2000
_MD5 = 0x4000
_TAGS = 0x8000
_MD5_PART = struct.Struct("<II16s")

ABSOLUTE = 0xE48BFF57
FAMILIES: dict[int, tuple[str, str | None]] = {
    0xE48BFF56: ("rp2040", "rp2040"),
    ABSOLUTE: ("absolute", None),  # for any RP2350 image, so it names no chip of its own
    0xE48BFF58: ("data", None),
    0xE48BFF59: ("rp2350-arm-s", "rp2350"),
    0xE48BFF5A: ("rp2350-riscv", "rp2350"),
    0xE48BFF5B: ("rp2350-arm-ns", "rp2350"),
    **{chip.family: (chip.name, chip.name) for chip in CHIPS},
}
"""UF2 family to its name and its chip."""
_NEUTRAL = (ABSOLUTE, 0xE48BFF58)
_RP = range(0xE48BFF56, 0xE48BFF5C)
_FLASH = range(0x10000000, 0x12000000)  # both flash windows of the RP2350; the RP2040 has one
_RAM = range(0x20000000, 0x20082000)


class _Block(NamedTuple):
    """One block; `family` is None if the field holds something else."""

    place: int  # in the file, counted by us
    flags: int
    address: int
    size: int
    number: int
    total: int
    family: int | None
    data: bytes


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be a UF2 file."""
    return head.startswith(_MAGICS)


def parse(file: BinaryIO) -> Image:
    """Read all blocks of a UF2 file, and check that together they are a whole image.

    A run of blocks of one family is numbered 0 to n-1; several runs may follow one another.
    The first block may be the one that works around erratum RP2350-E10. Within a family no two
    blocks overlap. For the RP chips each block is one page, and one family is all in flash or
    all in RAM; an RP2040 image that begins at the start of flash begins with a valid boot2.

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
    contents = _Contents()
    reader = Reader(file, "uf2", 0, size)
    while reader.left:
        blocks = reader.take(min(reader.left, CHUNK_SIZE), "blocks")
        for fields in _BLOCK.iter_unpack(blocks):
            contents.add(_block(contents.blocks, fields))
    contents.finish()
    chip, offset = _target(contents.pieces)
    return Image("uf2", chip, offset=offset, details=_details(contents))


def _block(place: int, fields: tuple[int, int, int, int, int, int, int, int, bytes, int]) -> _Block:
    start, second, flags, address, size, number, total, family, data, end = fields
    if struct.pack("<II", start, second) != _MAGICS or end != _MAGIC_END:
        found = f"{start:08x} {second:08x} {end:08x}"
        raise damaged("uf2", f"magic of block {place}", "0a324655 9e5d5157 0ab16f30", found)
    if unknown := flags & ~(_NOT_MAIN_FLASH | _FAMILY | _MD5 | _TAGS):
        # 0x1000 marks a file for a file system; no supported board has one.
        raise damaged("uf2", f"flags of block {place}", "1, 2000, 4000, 8000", f"{unknown:x}")
    room = MAX_PAYLOAD - (_MD5_PART.size if flags & _MD5 else 0)
    if not 1 <= size <= room:
        raise damaged("uf2", f"payload of block {place}", f"1 to {room} bytes", f"{size} bytes")
    if address % 4 or address + size > 1 << 32:
        what = f"address of block {place}"
        raise damaged("uf2", what, "a multiple of 4 within 32 bits", f"{address:#010x}")
    named = family if flags & _FAMILY else None
    return _Block(place, flags, address, size, number, total, named, data)


class _Contents:
    """The content of all blocks so far."""

    def __init__(self) -> None:
        self.blocks = 0
        self.pieces: dict[int | None, list[list[int]]] = {}  # family: [start, end] in file order
        self.skipped = 0  # blocks that are not for the main flash
        self.workaround = False
        self._family: int | None = None  # of the run under way
        self._total = 0
        self._next = 0  # 0: no run is under way

    def add(self, block: _Block) -> None:
        """Take in the next block."""
        self.blocks += 1
        if block.place == 0 and _is_workaround(block):
            self.workaround = True
            return
        self._count(block)
        if block.flags & _NOT_MAIN_FLASH:
            self.skipped += 1
            return
        if block.flags & _MD5:
            _check_md5(block)
        if block.family in _RP:
            _check_rp(block)
        pieces = self.pieces.setdefault(block.family, [])
        if pieces and pieces[-1][1] == block.address:
            pieces[-1][1] += block.size
        else:
            pieces.append([block.address, block.address + block.size])
        if len(pieces) > MAX_PIECES:
            raise damaged("uf2", "contiguous ranges", f"at most {MAX_PIECES}", len(pieces))

    def _count(self, block: _Block) -> None:
        if not self._next:
            self._family, self._total = block.family, block.total
        expected = (self._next, self._total, self._family)
        if (block.number, block.total, block.family) != expected or block.number >= block.total:
            raise damaged(
                "uf2",
                f"numbering of block {block.place}",
                _numbering(*expected),
                _numbering(block.number, block.total, block.family),
            )
        self._next = (block.number + 1) % block.total

    def finish(self) -> None:
        """Check the rules about the file as a whole."""
        if self._next:
            raise damaged("uf2", "number of blocks", self._total, self._next)
        if not self.pieces:
            raise damaged("uf2", "blocks for the main flash", "at least one", "none")
        for family, pieces in self.pieces.items():
            ordered = sorted(pieces)
            for (_, end), (start, _) in itertools.pairwise(ordered):
                if start < end:
                    what = f"blocks of family {_name(family)}"
                    raise damaged("uf2", what, f"nothing else before {end:#010x}", f"{start:#010x}")
            if family in _RP and (ordered[0][0] in _FLASH) != (ordered[-1][0] in _FLASH):
                what = f"blocks of family {_name(family)}"
                raise damaged("uf2", what, "flash or ram", "flash and ram")


def _is_workaround(block: _Block) -> bool:
    """Tell whether this is the block of erratum RP2350-E10, a page that the ROM drops.

    It announces a second block that never comes, and sits at the end of flash.
    """
    return (
        block.family == ABSOLUTE
        and (block.number, block.total, block.size) == (0, 2, PAGE)
        and block.address in _FLASH
        and block.data[:PAGE] == b"\xef" * PAGE
    )


def _check_md5(block: _Block) -> None:
    """Check the digest after the payload, if it covers the payload.

    The specification lets it cover any flash, so that a board can skip content that it has
    already. Only Espressif's writers use it, and they let it cover the block.
    """
    start, size, digest = _MD5_PART.unpack_from(block.data, block.size)
    if (start, size) != (block.address, block.size):
        if (_chip(block.family) or "").startswith("esp"):
            expected, found = (f"{n} bytes at {at:#010x}" for at, n in (block[2:4], (start, size)))
            raise damaged("uf2", f"md5 of block {block.place}", f"over {expected}", found)
        return
    computed = hashlib.md5(block.data[:size], usedforsecurity=False)
    if computed.digest() != digest:
        what = f"md5 of block {block.place}"
        raise damaged("uf2", what, computed.hexdigest(), digest.hex())


def _check_rp(block: _Block) -> None:
    """Check the demands of the boot ROMs of RP2040 and RP2350 on a block."""
    if block.size != PAGE or block.address % PAGE:
        found = f"{block.size} bytes at {block.address:#010x}"
        raise damaged("uf2", f"block {block.place}", f"a page of {PAGE} bytes", found)
    if block.address not in _FLASH and block.address not in _RAM:
        what = f"address of block {block.place}"
        raise damaged("uf2", what, "in flash or ram", f"{block.address:#010x}")
    if FAMILIES[block.family or 0][1] == "rp2040" and block.address == _FLASH.start:
        (stored,) = struct.unpack_from("<I", block.data, BOOT2_SIZE)
        if (computed := boot2_crc(block.data[:BOOT2_SIZE])) != stored:
            raise damaged("uf2", "crc of boot2", f"{computed:#010x}", f"{stored:#010x}")


def boot2_crc(data: bytes) -> int:
    """Compute the CRC that the RP2040's ROM demands after the 252 bytes of boot2.

    It is CRC-32/MPEG-2: the usual polynomial, but not reflected and not inverted at the end.
    Source: RP2040 data sheet, section 2.8.1.3.1.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


def _target(pieces: dict[int | None, list[list[int]]]) -> tuple[str | None, int | None]:
    """Return the one chip of the families, and the lowest offset in its flash."""
    families = [family for family in pieces if family not in _NEUTRAL]
    chips = {_chip(family) for family in families}
    chip = chips.pop() if len(chips) == 1 else None
    if chip is None:
        return None, None
    lowest = min(start for family in families for start, _ in pieces[family])
    if not chip.startswith("rp"):
        return chip, lowest
    return chip, lowest - _FLASH.start if lowest in _FLASH else None


def _chip(family: int | None) -> str | None:
    return FAMILIES[family][1] if family in FAMILIES else None


def _name(family: int | None) -> str:
    if family is None:
        return "none"
    return f"{FAMILIES[family][0] if family in FAMILIES else 'unknown'} ({family:#010x})"


def _numbering(number: int, total: int, family: int | None) -> str:
    return f"{number} of {total} of family {_name(family)}"


def _details(contents: _Contents) -> tuple[tuple[str, str], ...]:
    details = [("blocks", str(contents.blocks))]
    if contents.workaround:
        details.append(("block 0", "workaround for erratum RP2350-E10"))
    if contents.skipped:
        details.append(("not for the main flash", f"{contents.skipped} blocks"))
    for family, pieces in contents.pieces.items():
        details.append(("family", _name(family)))
        details += [("range", f"{end - start} bytes at {start:#010x}") for start, end in pieces]
    return tuple(details)


def contents(data: bytes, chip: str) -> list[tuple[int, bytes]]:
    """Return the contiguous ranges of flash that a file fills: address and bytes, in order.

    Args:
        data: a file that `parse` has accepted.
        chip: the chip whose blocks are wanted.

    Raises:
        Malformed: `malformed.image`: it has blocks for something else than this chip's flash.
    """
    ranges: list[tuple[int, bytearray]] = []
    blocks = (_block(place, fields) for place, fields in enumerate(_BLOCK.iter_unpack(data)))
    wanted = [block for block in blocks if not (block.place == 0 and _is_workaround(block))]
    for block in sorted(wanted, key=lambda block: block.address):
        if block.flags & _NOT_MAIN_FLASH:
            continue
        if _chip(block.family) != chip or (chip.startswith("rp") and block.address not in _FLASH):
            found = f"{_name(block.family)} at {block.address:#010x}"
            raise damaged("uf2", f"block {block.place}", f"flash of {chip}", found)
        if not ranges or ranges[-1][0] + len(ranges[-1][1]) != block.address:
            ranges.append((block.address, bytearray()))
        ranges[-1][1].extend(block.data[: block.size])
    return [(address, bytes(content)) for address, content in ranges]


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
        _MAGICS
        + struct.pack("<6I", _FAMILY, base + number * PAGE, PAGE, number, len(pages), family)
        + page.ljust(MAX_PAYLOAD, b"\0")
        + struct.pack("<I", _MAGIC_END)
        for number, page in enumerate(pages)
    )
