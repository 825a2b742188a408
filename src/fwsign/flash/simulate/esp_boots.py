# SPDX-License-Identifier: Apache-2.0
"""The boot of a simulated ESP: its ROM and second-stage boot loader, by the flash's bytes alone.

This is the counterpart of the flasher's own checks. It shares no code, table or constant with
`fwsign.images` or `fwsign.flash.esp_*`, so that a rule that is wrong there is not wrong here too.
It is as strict as ESP-IDF's boot loader with its usual configuration, and stricter in two places:
a wrong SHA-256 of the boot loader, of which some ROMs only complain, and an application in its
place, which they load and then crash. Signatures are not verified against keys, which nobody has.

A boot loader has the table's offset compiled in. One that the simulator made states it after the
word `TABLE_MARK` in its code; for others it is the board's setting.

Source: ESP-IDF programming guide, "Application Startup Flow", "Bootloader", "Partition Tables",
"Over The Air Updates", "Secure Boot" v1 and v2, "Chip Revision"; numbers are little-endian.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

TABLE_MARK: Final = b"table at"
SECTOR: Final = 4096
_TABLE: Final = 0x8000
_MAGIC: Final = 0xE9
_PAGE: Final = 0x10000  # flash is mapped in pages of this size
_LARGEST_APP: Final = 16 << 20
_APP_WORD: Final = 0xABCD5432
_SIGNATURE_SIZE: Final = 1216
_KINDS: Final = (2, 3)  # RSA and ECDSA; which of them a chip takes is not modelled
_ERASED: Final = 0xFFFFFFFF
_OTA_SLOTS: Final = range(0x10, 0x20)


class Started(NamedTuple):
    """The result of a reset.

    Args:
        offset: the place of the application that runs; None if nothing does.
        why: the reason for None; else empty.
    """

    offset: int | None
    why: str = ""

    def __str__(self) -> str:
        """Return it in words."""
        return f"application at 0x{self.offset:x}" if self.offset is not None else self.why


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
        mapped: whether an application needs a segment of data and one of code in flash, as
            ESP-IDF's boot loaders assert since version 5.0.
    """

    chip: str
    revision: int = 0
    locks: Collection[str] = ()
    table: int = _TABLE
    sealed: bytes = b""
    mapped: bool = False


class _DeadError(Exception):
    """A stage refuses what it should start."""


class _Found(NamedTuple):
    """An image that a stage accepted: its header's flash size, its end and its content."""

    flash_size: int
    end: int
    segments: tuple[tuple[int, int, bytes], ...]  # load address, offset of the data, data


def start(cells: bytes | bytearray, rom: Rom) -> Started:
    """Tell what a reset starts.

    Args:
        cells: the whole flash.
        rom: the board around it.
    """
    try:
        if rom.chip == "esp8266":
            return _start_old(cells)
        return _start_application(cells, rom)
    except _DeadError as dead:
        return Started(None, f"nothing: {dead}")


def bound_to(cells: bytes | bytearray) -> bytes:
    """Return a digest of the boot loader and its signature of secure boot v1."""
    return hashlib.sha256(cells[:_TABLE]).digest()


def _start_application(cells: bytes | bytearray, rom: Rom) -> Started:
    chip = SILICON[rom.chip]
    if "secure boot v1" in rom.locks and rom.sealed and bound_to(cells) != rom.sealed:
        raise _DeadError("boot loader: not the one that secure boot v1 knows")
    loader = _image(cells, rom, chip.place, len(cells), "boot loader")
    if _has_descriptor(loader):
        raise _DeadError("boot loader: an application is in its place")
    if "secure boot" in rom.locks:
        _check_signed(cells, chip, chip.place, loader.end, "boot loader")
    rows = _rows(cells, _table_of(loader, rom), loader.flash_size)
    reasons = []
    for offset, size in _candidates(cells, rows):
        try:
            _check_application(cells, rom, offset, size)
        except _DeadError as dead:
            reasons.append(str(dead))
            continue
        if loader.flash_size > len(cells):
            raise _DeadError(
                f"application at 0x{offset:x}: flash probe: the boot loader's header says "
                f"{loader.flash_size} bytes, the flash has {len(cells)}"
            )
        return Started(offset)
    raise _DeadError("; ".join(reasons) or "partition table: no partition for an application")


# --- images ---------------------------------------------------------------------------------


def _image(cells: bytes | bytearray, rom: Rom, at: int, limit: int, what: str) -> _Found:
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
    if len(head) < 24 or head[0] != _MAGIC:
        raise _DeadError(f"{what}: no header")
    count, speed = head[1], head[3]
    if not 1 <= count <= 16:
        raise _DeadError(f"{what}: {count} segments")
    number, legacy, lowest, highest = struct.unpack_from("<HBHH", head, 12)
    if number != SILICON[rom.chip].number:
        raise _DeadError(f"{what}: for chip id {number}")
    _check_revision(rom, what, (legacy, lowest, highest))
    segments, position = _segments(cells, at, count, limit, what)
    end = position + 1
    checksum = 0xEF
    for _, _, data in segments:
        checksum ^= _xor(data)
    if end > limit or cells[position] != checksum:
        raise _DeadError(f"{what}: checksum")
    if head[23]:
        digest = hashlib.sha256(cells[at:end]).digest()
        end += len(digest)
        if end > limit or cells[end - len(digest) : end] != digest:
            raise _DeadError(f"{what}: sha-256")
    if speed >> 4 > 7:
        raise _DeadError(f"{what}: flash size {speed >> 4}")
    return _Found(1 << (20 + (speed >> 4)), end, segments)


def _segments(
    cells: bytes | bytearray, at: int, count: int, limit: int, what: str
) -> tuple[tuple[tuple[int, int, bytes], ...], int]:
    """Read the segments; return them, and the place of the checksum."""
    found = []
    position = at + 24
    for number in range(count):
        if position + 8 > limit:
            raise _DeadError(f"{what}: ends before segment {number}")
        address, size = struct.unpack_from("<II", cells, position)
        position += 8
        if size % 4 or position + size > limit:
            raise _DeadError(f"{what}: length of segment {number}")
        found.append((address, position, bytes(cells[position : position + size])))
        position += size
    return tuple(found), at + (position - at) // 16 * 16 + 15


def _xor(data: bytes) -> int:
    """XOR all bytes, by halves of one large number."""
    size = 1 << max(len(data) - 1, 0).bit_length()
    value = int.from_bytes(data, "little")
    while size > 1:
        size //= 2
        value = (value >> (8 * size)) ^ (value & ((1 << (8 * size)) - 1))
    return value


def _check_revision(rom: Rom, what: str, bounds: tuple[int, int, int]) -> None:
    legacy, lowest, highest = bounds
    lowest = max(lowest, 0 if lowest else legacy * SILICON[rom.chip].legacy)
    if rom.revision < lowest:
        raise _DeadError(f"{what}: needs revision {lowest} or later, this is {rom.revision}")
    # A boot loader does not look at its own upper bound, but whoever set one meant it.
    if highest not in (0, 0xFFFF) and rom.revision > highest:
        raise _DeadError(f"{what}: needs revision {highest} or earlier, this is {rom.revision}")


def _has_descriptor(image: _Found) -> bool:
    first = image.segments[0][2]
    return len(first) >= 256 and int.from_bytes(first[:4], "little") == _APP_WORD


def _check_application(cells: bytes | bytearray, rom: Rom, offset: int, size: int) -> None:
    """Refuse an application for each reason for which the boot loader does."""
    chip = SILICON[rom.chip]
    what = f"application at 0x{offset:x}"
    if size > _LARGEST_APP:
        raise _DeadError(f"{what}: its partition is larger than 16 MiB")
    image = _image(cells, rom, offset, offset + size, what)
    mapped = [part for part in image.segments if part[0] in chip.data or part[0] in chip.code]
    for address, position, _ in mapped:
        if (address - position) % _PAGE:
            raise _DeadError(f"{what}: 0x{address:x} does not match its place in flash")
    if rom.mapped and not _is_mapped(chip, [address for address, _, _ in mapped]):
        raise _DeadError(f"{what}: lacks code or data in flash")
    if "secure boot v1" in rom.locks:
        _check_signed_v1(cells, image.end, offset + size, what)
    if "secure boot" in rom.locks:
        _check_signed(cells, chip, offset, image.end, what)


def _is_mapped(chip: Silicon, addresses: list[int]) -> bool:
    if chip.data == chip.code:
        return len(addresses) == 2
    return any(one in chip.data for one in addresses) and any(one in chip.code for one in addresses)


# --- secure boot ----------------------------------------------------------------------------


def _check_signed(cells: bytes | bytearray, chip: Silicon, at: int, end: int, what: str) -> None:
    """Look for a signature of version 2 after an image."""
    sector = -(-end // SECTOR) * SECTOR
    digest = hashlib.sha256(cells[at:sector]).digest()
    for number in range(chip.blocks):
        block = bytes(cells[sector + number * _SIGNATURE_SIZE :][:_SIGNATURE_SIZE])
        if len(block) < _SIGNATURE_SIZE or block[0] != 0xE7 or block[1] not in _KINDS:
            continue
        stored = int.from_bytes(block[1196:1200], "little")
        if zlib.crc32(block[:1196]) == stored and block[4:36] == digest:
            return
    raise _DeadError(f"{what}: no signature of secure boot v2")


def _check_signed_v1(cells: bytes | bytearray, end: int, limit: int, what: str) -> None:
    """Look for version 0 and 64 bytes that may be a signature after an image."""
    tail = bytes(cells[end : min(end + 68, limit)])
    if len(tail) < 68 or tail[:4] != bytes(4) or len(set(tail[4:])) < 8:
        raise _DeadError(f"{what}: no signature of secure boot v1")


# --- which application ----------------------------------------------------------------------


def _table_of(loader: _Found, rom: Rom) -> int:
    for _, _, data in loader.segments:
        mark = data.find(TABLE_MARK)
        if mark >= 0:
            return int.from_bytes(data[mark + len(TABLE_MARK) :][:4], "little")
    return rom.table


def _rows(cells: bytes | bytearray, at: int, flash_size: int) -> list[tuple[int, int, int, int]]:
    """Read type, subtype, offset and size of all partitions."""
    rows = []
    digest = None
    for position in range(at, at + 0xC00, 32):
        row = bytes(cells[position : position + 32])
        if len(row) < 32 or row[:4] == b"\xff" * 4:
            break
        if row[:2] == b"\xeb\xeb" and digest is None:
            digest = hashlib.md5(cells[at:position], usedforsecurity=False).digest()
            if digest != row[16:]:
                raise _DeadError(f"partition table at 0x{at:x}: md5")
            continue
        if row[:2] != b"\xaa\x50":
            raise _DeadError(f"partition table at 0x{at:x}: no row at 0x{position:x}")
        kind, subtype, offset, size = struct.unpack_from("<BBII", row, 2)
        if offset + size > flash_size:
            raise _DeadError(
                f"partition table at 0x{at:x}: a partition ends at 0x{offset + size:x}, "
                f"the boot loader's header says 0x{flash_size:x}"
            )
        rows.append((kind, subtype, offset, size))
    else:
        raise _DeadError(f"partition table at 0x{at:x}: no end")
    if not rows:
        raise _DeadError(f"partition table at 0x{at:x}: none")
    return rows


def _candidates(
    cells: bytes | bytearray, rows: list[tuple[int, int, int, int]]
) -> list[tuple[int, int]]:
    """Return the applications in the order in which the boot loader tries them."""
    apps = {subtype: (offset, size) for kind, subtype, offset, size in rows if kind == 0}
    slots = [apps.get(subtype) for subtype in _OTA_SLOTS]
    count = sum(1 for kind, subtype, _, _ in rows if kind == 0 and subtype in _OTA_SLOTS)
    data = next((row for row in reversed(rows) if row[:2] == (1, 0)), None)
    index = -1  # the factory application
    if data is not None:
        if data[3] < 2 * SECTOR:
            raise _DeadError("ota data: too small")
        sequence, empty = _sequence(cells, data[2])
        if sequence is not None and count:
            index = (sequence - 1) % count
        elif (empty or not count) and 0 not in apps:
            index = 0
    downwards = [slots[one] for one in range(index, -1, -1)]
    upwards = [slots[one] for one in range(index + 1, count)]
    order = [*downwards, apps.get(0), *upwards, apps.get(0x20)]
    return [one for one in order if one is not None]


def _sequence(cells: bytes | bytearray, at: int) -> tuple[int | None, bool]:
    """Return the highest valid number in the OTA data, and whether no entry is in use."""
    found = []
    used = False
    for place in (at, at + SECTOR):
        number, _, state, crc = struct.unpack("<I20sII", cells[place : place + 32])
        if number == _ERASED or state in (3, 4):
            continue
        used = True
        if crc == zlib.crc32(struct.pack("<I", number), 0xFFFFFFFF):
            found.append(number)
    return (max(found) if found else None), not used


# --- ESP8266 --------------------------------------------------------------------------------


def _start_old(cells: bytes | bytearray) -> Started:
    """Start the image that the ESP8266's ROM finds at 0, or the one after a boot loader there."""
    if cells[0] == 0xEA:
        raise _DeadError("boot loader: a second part of an application is in its place")
    if cells[0] != _MAGIC:
        raise _DeadError("application at 0x0: no header")
    count = cells[1]
    if not 1 <= count <= 16:
        raise _DeadError(f"application at 0x0: {count} segments")
    position, checksum = 8, 0xEF
    for number in range(count):
        size = int.from_bytes(cells[position + 4 : position + 8], "little")
        position += 8
        if position + size + 16 > len(cells):
            raise _DeadError(f"application at 0x0: length of segment {number}")
        checksum ^= _xor(bytes(cells[position : position + size]))
        position += size
    if cells[position // 16 * 16 + 15] != checksum:
        raise _DeadError("application at 0x0: checksum")
    return Started(0)
