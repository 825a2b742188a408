# SPDX-License-Identifier: Apache-2.0
"""One block of a UF2 file, the families, and the memory of the RP chips.

    0x000  0A324655, 9E5D5157, flags, address, payload size, block number, number of blocks, family
    0x020  476 bytes: payload, then the parts that the flags announce
    0x1FC  0AB16F30

Source: the UF2 specification (microsoft/uf2); families of the RP chips: RP2350 data sheet,
section 5.5.3; erratum RP2350-E10: the same, appendix. Numbers are little-endian.
"""

import hashlib
import struct
from typing import NamedTuple, TypeAlias

from fwsign.images.base import damaged, text
from fwsign.images.esp import CHIPS
from fwsign.images.rp_chips import BY_NAME, FLASH, RP2040, RP2350_ARM, RP2350_ARM_NS, RP2350_RISCV

BLOCK = 512
MAX_PAYLOAD = 476
"""The room in a block; a payload of 256 is usual, and the RP chips take no other."""
PAGE = 256
"""The bytes that the RP chips program at once."""
BOOT2_SIZE = 252
"""The RP2040's second stage boot loader is one page, its CRC included."""

FIELDS = struct.Struct("<8I476sI")
MAGICS = struct.pack("<II", 0x0A324655, 0x9E5D5157)
MAGIC_END = 0x0AB16F30
NOT_MAIN_FLASH = 0x1
CONTAINER = 0x1000
FAMILY = 0x2000
_MD5 = 0x4000
_TAGS = 0x8000
_MD5_PART = struct.Struct("<II16s")

ABSOLUTE = 0xE48BFF57
DATA = 0xE48BFF58
FAMILIES: dict[int, tuple[str, str | None]] = {
    RP2040: ("rp2040", "rp2040"),
    ABSOLUTE: ("absolute", "rp2350"),  # only this chip's boot ROM knows it, and the next one
    DATA: ("data", "rp2350"),
    RP2350_ARM: ("rp2350-arm-s", "rp2350"),
    RP2350_RISCV: ("rp2350-riscv", "rp2350"),
    RP2350_ARM_NS: ("rp2350-arm-ns", "rp2350"),
    **{chip.family: (chip.name, chip.name) for chip in CHIPS},
}
"""UF2 family to its name and its chip."""

TAG_VERSION, TAG_DESCRIPTION = 0x9FC7BC, 0x650D9D

Key: TypeAlias = int | str | None
"""What a block belongs to: a family, the name of a file in a container, or nothing."""
Raw: TypeAlias = tuple[int, int, int, int, int, int, int, int, bytes, int]


class Uf2Block(NamedTuple):
    """One block; `place` is its number in the file, counted by us."""

    place: int
    flags: int
    address: int
    size: int
    number: int
    total: int
    key: Key
    data: bytes


def read(place: int, fields: Raw) -> Uf2Block:
    """Return a block of valid form.

    Raises:
        Malformed: `malformed.image`.
    """
    start, second, flags, address, size, number, total, family, data, end = fields
    if struct.pack("<II", start, second) != MAGICS or end != MAGIC_END:
        found = f"{start:08x} {second:08x} {end:08x}"
        raise damaged("uf2", f"magic of block {place}", "0a324655 9e5d5157 0ab16f30", found)
    if unknown := flags & ~(NOT_MAIN_FLASH | CONTAINER | FAMILY | _MD5 | _TAGS):
        raise damaged("uf2", f"flags of block {place}", "1, 1000, 2000, 4000, 8000", f"{unknown:x}")
    room = MAX_PAYLOAD - (_MD5_PART.size if flags & _MD5 else 0)
    if not 1 <= size <= room:
        raise damaged("uf2", f"payload of block {place}", f"1 to {room} bytes", f"{size} bytes")
    if address + size > 1 << 32:
        raise damaged("uf2", f"address of block {place}", "within 32 bits", f"{address:#010x}")
    key: Key = family if flags & FAMILY else None
    if flags & CONTAINER:
        key = text(data[size:]) or f"file of {family} bytes"
    return Uf2Block(place, flags, address, size, number, total, key, data)


def is_workaround(block: Uf2Block) -> bool:
    """Tell whether this is the block of erratum RP2350-E10, a page that nobody needs.

    It announces a second block that never comes, and goes to the end of some size of flash.
    """
    return (
        block.key == ABSOLUTE
        and (block.number, block.total, block.size) == (0, 2, PAGE)
        and in_flash("rp2350", block.address)
        and block.data[:PAGE] == b"\xef" * PAGE
    )


def tags(block: Uf2Block) -> dict[int, bytes]:
    """Return a block's extension tags: size with its head (u8), type (u24), value, filled to 4.

    Raises:
        Malformed: `malformed.image`.
    """
    found: dict[int, bytes] = {}
    at = -(-block.size // 4) * 4
    while block.flags & _TAGS and at + 4 <= MAX_PAYLOAD and (size := block.data[at]):
        if size < 4 or at + size > MAX_PAYLOAD:
            what = f"tag at {at} of block {block.place}"
            raise damaged("uf2", what, f"4 to {MAX_PAYLOAD - at} bytes", f"{size} bytes")
        kind = int.from_bytes(block.data[at + 1 : at + 4], "little")
        found[kind] = block.data[at + 4 : at + size]
        at += -(-size // 4) * 4
    return found


def check_md5(block: Uf2Block) -> None:
    """Check the digest after the payload or at the end, if it covers the payload.

    The specification puts it at the end, and lets it cover any flash, so that a board can skip
    content that it has already. Espressif's writers put it after the payload that it covers.
    """
    if not block.flags & _MD5:
        return
    payload = (block.address, block.size)
    parts = [
        _MD5_PART.unpack_from(block.data, at) for at in (block.size, MAX_PAYLOAD - _MD5_PART.size)
    ]
    digests = [digest for start, size, digest in parts if (start, size) == payload]
    if not digests:
        if (chip_of(block.key) or "").startswith("esp"):
            expected, found = (f"{n} bytes at {at:#010x}" for at, n in (payload, parts[0][:2]))
            raise damaged("uf2", f"md5 of block {block.place}", f"over {expected}", found)
        return
    computed = hashlib.md5(block.data[: block.size], usedforsecurity=False)
    if computed.digest() != digests[0]:
        what = f"md5 of block {block.place}"
        raise damaged("uf2", what, computed.hexdigest(), digests[0].hex())


def check_rp(block: Uf2Block) -> None:
    """Check the demands of the boot ROMs of RP2040 and RP2350 on a block of theirs."""
    chip = chip_of(block.key)
    if chip not in BY_NAME:
        return
    if block.size > PAGE or block.address % PAGE:
        found = f"{block.size} bytes at {block.address:#010x}"
        raise damaged("uf2", f"block {block.place}", f"a page of {PAGE} bytes", found)
    if not in_flash(chip, block.address) and not in_ram(chip, block.address):
        what = f"address of block {block.place}"
        raise damaged("uf2", what, f"in flash or ram of {chip}", f"{block.address:#010x}")
    if block.key == RP2040 and block.address == FLASH:
        page = block.data[: block.size].ljust(PAGE, b"\0")
        (stored,) = struct.unpack_from("<I", page, BOOT2_SIZE)
        if (computed := boot2_crc(page[:BOOT2_SIZE])) != stored:
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


def chip_of(key: Key) -> str | None:
    """Return the chip of a family; None if it has none, or is not known."""
    return FAMILIES[key][1] if isinstance(key, int) and key in FAMILIES else None


def in_flash(chip: str, address: int) -> bool:
    """Tell whether an address is in the flash of a chip of Raspberry Pi."""
    return address in BY_NAME[chip].flash


def in_ram(chip: str, address: int) -> bool:
    """Tell whether an address is in a RAM of a chip of Raspberry Pi."""
    return any(address in memory for memory in BY_NAME[chip].rams)


def name(key: Key) -> str:
    """Return what a block belongs to, in words."""
    if key is None:
        return "none"
    if isinstance(key, str):
        return f'file "{key}"'
    return f"{FAMILIES[key][0] if key in FAMILIES else 'unknown'} ({key:#010x})"
