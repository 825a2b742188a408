# SPDX-License-Identifier: Apache-2.0
"""The images that a simulated ESP's ROM and boot loader accept, and the signatures they look for.

Like `esp_boots`, of which it is a part, it shares no code with the parsers that it stands against.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from fwsign.flash.simulate.esp_frame import xor

SECTOR: Final = 4096
TABLE: Final = 0x8000
"""The usual place of the partition table."""
MAGIC: Final = 0xE9
_PAGE: Final = 0x10000  # flash is mapped in pages of this size
_LARGEST_APP: Final = 16 << 20
_APP_WORD: Final = 0xABCD5432
_SIGNATURE_SIZE: Final = 1216
_KINDS: Final = (2, 3)  # RSA and ECDSA; which of them a chip takes is not modelled


class Silicon(NamedTuple):
    """One chip, as far as its boot depends on it.

    Args:
        number: its id in image headers.
        place: the offset of its boot loader.
        data, code: the ranges in which it sees its flash.
        blocks: the signature blocks of secure boot v2 that it looks at.
        legacy: the revision that 1 in the header's older byte stands for.
    """

    number: int
    place: int
    data: range
    code: range
    blocks: int = 3
    legacy: int = 1


def _both(start: int, end: int) -> tuple[range, range]:
    return range(start, end), range(start, end)


_C_DATA, _C_CODE = range(0x3C000000, 0x3C800000), range(0x42000000, 0x42800000)
_UNIFIED: Final = _both(0x42000000, 0x43000000)
_LARGE: Final = _both(0x42000000, 0x44000000)
SILICON: Final[Mapping[str, Silicon]] = {
    "esp32": Silicon(
        0, 0x1000, range(0x3F400000, 0x3F800000), range(0x400D0000, 0x40400000), 1, 100
    ),
    "esp32s2": Silicon(2, 0x1000, range(0x3F000000, 0x3FF80000), range(0x40080000, 0x40800000)),
    "esp32c3": Silicon(5, 0, _C_DATA, _C_CODE),
    "esp32s3": Silicon(9, 0, range(0x3C000000, 0x3E000000), range(0x42000000, 0x44000000)),
    "esp32c2": Silicon(12, 0, _C_DATA, _C_CODE, 1),
    "esp32c6": Silicon(13, 0, *_UNIFIED),
    "esp32h2": Silicon(16, 0, *_UNIFIED),
    "esp32p4": Silicon(18, 0x2000, *_both(0x40000000, 0x44000000)),
    "esp32c61": Silicon(20, 0, *_LARGE),
    "esp32c5": Silicon(23, 0x2000, *_LARGE),
}
"""The chips with a second-stage boot loader; an ESP8266 has none."""


class Rom(NamedTuple):
    """The facts of a board that are not in its flash.

    Args:
        chip: a key of `SILICON`, or "esp8266".
        revision: major * 100 + minor.
        locks: "secure boot v1", "secure boot".
        table: the place of the partition table, for a boot loader that does not state it.
        sealed: with secure boot v1, `bound_to` of the flash when it was switched on: the chip's own
            key signs the boot loader, so that no other one starts. Empty if unknown.
        keys: with secure boot, the digests of keys, and whether each is revoked; empty for any key.
        security_version: the least that an application states.
        mapped: whether an application needs a segment of data and one of code in flash, as
            ESP-IDF's boot loaders assert since version 5.0.
    """

    chip: str
    revision: int = 0
    locks: Collection[str] = ()
    table: int = TABLE
    sealed: bytes = b""
    keys: Sequence[tuple[bytes, bool]] = ()
    security_version: int = 0
    mapped: bool = False


class DeadError(Exception):
    """A stage refuses what it should start."""


class BootImage(NamedTuple):
    """An image that a stage accepted: its header's flash size, its end and its content."""

    flash_size: int
    end: int
    segments: tuple[tuple[int, int, bytes], ...]  # load address, offset of the data, data


# --- images ---------------------------------------------------------------------------------


def load_image(cells: bytes | bytearray, rom: Rom, at: int, limit: int, what: str) -> BootImage:
    """Load an image as the ROM and the boot loader do.

    Args:
        cells: the flash.
        rom: the board.
        at: the image's offset.
        limit: the first offset that does not belong to it.
        what: its name for the reason.
    """
    limit = min(limit, len(cells))
    head = bytes(cells[at : min(at + 24, limit)])
    if len(head) < 24 or head[0] != MAGIC:
        raise DeadError(f"{what}: no header")
    count, speed = head[1], head[3]
    if not 1 <= count <= 16:
        raise DeadError(f"{what}: {count} segments")
    number, legacy, lowest, highest = struct.unpack_from("<HBHH", head, 12)
    if number != SILICON[rom.chip].number:
        raise DeadError(f"{what}: for chip id {number}")
    _check_revision(rom, what, (legacy, lowest, highest))
    segments, position = _segments(cells, at, count, limit, what)
    end = position + 1
    checksum = 0xEF
    for _, _, data in segments:
        checksum ^= xor(data)
    if end > limit or cells[position] != checksum:
        raise DeadError(f"{what}: checksum")
    if head[23]:
        digest = hashlib.sha256(cells[at:end]).digest()
        end += len(digest)
        if end > limit or cells[end - len(digest) : end] != digest:
            raise DeadError(f"{what}: sha-256")
    if speed >> 4 > 7:
        raise DeadError(f"{what}: flash size {speed >> 4}")
    return BootImage(1 << (20 + (speed >> 4)), end, segments)


def _segments(
    cells: bytes | bytearray, at: int, count: int, limit: int, what: str
) -> tuple[tuple[tuple[int, int, bytes], ...], int]:
    """Read the segments; return them, and the place of the checksum."""
    found = []
    position = at + 24
    for number in range(count):
        if position + 8 > limit:
            raise DeadError(f"{what}: ends before segment {number}")
        address, size = struct.unpack_from("<II", cells, position)
        position += 8
        if size % 4 or position + size > limit:
            raise DeadError(f"{what}: length of segment {number}")
        found.append((address, position, bytes(cells[position : position + size])))
        position += size
    return tuple(found), at + (position - at) // 16 * 16 + 15


def _check_revision(rom: Rom, what: str, bounds: tuple[int, int, int]) -> None:
    legacy, lowest, highest = bounds
    lowest = max(lowest, 0 if lowest else legacy * SILICON[rom.chip].legacy)
    if rom.revision < lowest:
        raise DeadError(f"{what}: needs revision {lowest} or later, this is {rom.revision}")
    # A boot loader does not look at its own upper bound, but whoever set one meant it.
    if highest not in (0, 0xFFFF) and rom.revision > highest:
        raise DeadError(f"{what}: needs revision {highest} or earlier, this is {rom.revision}")


def has_descriptor(image: BootImage) -> bool:
    """Tell whether an image is an application."""
    first = image.segments[0][2]
    return len(first) >= 256 and int.from_bytes(first[:4], "little") == _APP_WORD


def check_application(cells: bytes | bytearray, rom: Rom, offset: int, size: int) -> None:
    """Refuse an application for each reason for which the boot loader does."""
    chip = SILICON[rom.chip]
    what = f"application at 0x{offset:x}"
    if size > _LARGEST_APP:
        raise DeadError(f"{what}: its partition is larger than 16 MiB")
    image = load_image(cells, rom, offset, offset + size, what)
    mapped = [part for part in image.segments if part[0] in chip.data or part[0] in chip.code]
    for address, position, _ in mapped:
        if (address - position) % _PAGE:
            raise DeadError(f"{what}: 0x{address:x} does not match its place in flash")
    if rom.mapped and not _is_mapped(chip, [address for address, _, _ in mapped]):
        raise DeadError(f"{what}: lacks code or data in flash")
    if "secure boot v1" in rom.locks:
        _check_signed_v1(cells, image.end, offset + size, what)
    if "secure boot" in rom.locks:
        check_signed(cells, rom, offset, image.end, what)
    if rom.security_version > (own := int.from_bytes(image.segments[0][2][4:8], "little")):
        raise DeadError(f"{what}: security version {own}, the chip has {rom.security_version}")


def _is_mapped(chip: Silicon, addresses: list[int]) -> bool:
    if chip.data == chip.code:
        return len(addresses) == 2
    return any(one in chip.data for one in addresses) and any(one in chip.code for one in addresses)


# --- secure boot ----------------------------------------------------------------------------


def check_signed(cells: bytes | bytearray, rom: Rom, at: int, end: int, what: str) -> None:
    """Look for a signature of version 2 after an image, by a key that the chip knows."""
    sector = -(-end // SECTOR) * SECTOR
    digest = hashlib.sha256(cells[at:sector]).digest()
    by_others = False
    for number in range(SILICON[rom.chip].blocks):
        block = bytes(cells[sector + number * _SIGNATURE_SIZE :][:_SIGNATURE_SIZE])
        if len(block) < _SIGNATURE_SIZE or block[0] != 0xE7 or block[1] not in _KINDS:
            continue
        stored = int.from_bytes(block[1196:1200], "little")
        if zlib.crc32(block[:1196]) == stored and block[4:36] == digest:
            key = hashlib.sha256(block[36:812] if block[1] == 2 else block[36:101]).digest()
            if not rom.keys or (key, False) in rom.keys:
                return
            by_others = True
    why = "no key that it knows has signed it" if by_others else "no signature of secure boot v2"
    raise DeadError(f"{what}: {why}")


def _check_signed_v1(cells: bytes | bytearray, end: int, limit: int, what: str) -> None:
    """Look for version 0 and 64 bytes that may be a signature after an image."""
    tail = bytes(cells[end : min(end + 68, limit)])
    if len(tail) < 68 or tail[:4] != bytes(4) or len(set(tail[4:])) < 8:
        raise DeadError(f"{what}: no signature of secure boot v1")
