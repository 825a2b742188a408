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
from typing import Final, NamedTuple

from fwsign.flash.simulate.esp_boot_image import (
    MAGIC,
    SECTOR,
    SILICON,
    TABLE,
    BootImage,
    DeadError,
    Rom,
    check_application,
    check_signed,
    has_descriptor,
    load_image,
)
from fwsign.flash.simulate.esp_frame import xor

TABLE_MARK: Final = b"table at"
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
    except DeadError as dead:
        return Started(None, f"nothing: {dead}")


def bound_to(cells: bytes | bytearray) -> bytes:
    """Return a digest of the boot loader and its signature of secure boot v1."""
    return hashlib.sha256(cells[:TABLE]).digest()


def _start_application(cells: bytes | bytearray, rom: Rom) -> Started:
    chip = SILICON[rom.chip]
    if "secure boot v1" in rom.locks and rom.sealed and bound_to(cells) != rom.sealed:
        raise DeadError("boot loader: not the one that secure boot v1 knows")
    loader = load_image(cells, rom, chip.place, len(cells), "boot loader")
    if has_descriptor(loader):
        raise DeadError("boot loader: an application is in its place")
    if "secure boot" in rom.locks:
        check_signed(cells, rom, chip.place, loader.end, "boot loader")
    rows = _rows(cells, _table_of(loader, rom), loader.flash_size)
    reasons = []
    for offset, size in _candidates(cells, rows):
        try:
            check_application(cells, rom, offset, size)
        except DeadError as dead:
            reasons.append(str(dead))
            continue
        if loader.flash_size > len(cells):
            raise DeadError(
                f"application at 0x{offset:x}: flash probe: the boot loader's header says "
                f"{loader.flash_size} bytes, the flash has {len(cells)}"
            )
        return Started(offset)
    raise DeadError("; ".join(reasons) or "partition table: no partition for an application")


# --- which application ----------------------------------------------------------------------


def _table_of(loader: BootImage, rom: Rom) -> int:
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
                raise DeadError(f"partition table at 0x{at:x}: md5")
            continue
        if row[:2] != b"\xaa\x50":
            raise DeadError(f"partition table at 0x{at:x}: no row at 0x{position:x}")
        kind, subtype, offset, size = struct.unpack_from("<BBII", row, 2)
        if offset + size > flash_size:
            raise DeadError(
                f"partition table at 0x{at:x}: a partition ends at 0x{offset + size:x}, "
                f"the boot loader's header says 0x{flash_size:x}"
            )
        rows.append((kind, subtype, offset, size))
    else:
        raise DeadError(f"partition table at 0x{at:x}: no end")
    if not rows:
        raise DeadError(f"partition table at 0x{at:x}: none")
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
            raise DeadError("ota data: too small")
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
        raise DeadError("boot loader: a second part of an application is in its place")
    if cells[0] != MAGIC:
        raise DeadError("application at 0x0: no header")
    count = cells[1]
    if not 1 <= count <= 16:
        raise DeadError(f"application at 0x0: {count} segments")
    position, checksum = 8, 0xEF
    for number in range(count):
        size = int.from_bytes(cells[position + 4 : position + 8], "little")
        position += 8
        if position + size + 16 > len(cells):
            raise DeadError(f"application at 0x0: length of segment {number}")
        checksum ^= xor(bytes(cells[position : position + size]))
        position += size
    if cells[position // 16 * 16 + 15] != checksum:
        raise DeadError("application at 0x0: checksum")
    return Started(0)
