# SPDX-License-Identifier: Apache-2.0
"""Files with images for Espressif chips: one image, or a merged file with several.

Every application has a descriptor since ESP-IDF 3.1. An image without one is started by the ROM: it
is a boot loader, which has its own kind only since ESP-IDF 5.1, or a program without descriptors.

After an image may come, in this order: a signature of secure boot; 0xFF of any length; and, only
after a boot loader, a partition table on a 4 KiB boundary, which makes it a merged file: see
`esp_merged`. Other bytes are counted in a note: files that were read back from a board have
them.
"""

from typing import BinaryIO

from fwsign.images import esp_damage, esp_merged
from fwsign.images.base import Image, ImagePart, Reader, damaged, first_other, size_of
from fwsign.images.esp_chips import BY_NAME, CHIPS, Chip, bootloader_offset
from fwsign.images.esp_image import HEADER, MAGIC, MAX_SEGMENTS, chip_of
from fwsign.images.esp_part import One, read_one, tail
from fwsign.images.esp_partitions import SECTOR

__all__ = [
    "APP_OFFSET",
    "BY_NAME",
    "CHIPS",
    "MAGIC",
    "MAX_SEGMENTS",
    "Chip",
    "bootloader_offset",
    "claims",
    "parse",
    "parse_later",
    "part_at",
    "place_expected",
]

APP_OFFSET = 0x10000
"""The offset of the factory application in ESP-IDF's stock partition tables."""
_DIGEST_SIZE = 192  # a vector of 128 bytes, a digest of 64
_DIGEST_BEFORE = 0x1000
_LATEST = 0x10000
"""The first image or table of a merged file begins here at the latest."""


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be an ESP image."""
    return chip_of(head) is not None


def chip_name(head: bytes) -> str | None:
    """Return the name of the chip in a file that begins with `head`."""
    chip = chip_of(head)
    return chip.name if chip else None


def parse(file: BinaryIO) -> Image:
    """Read a file that begins with an ESP image, and judge what follows it.

    Args:
        file: seekable; the image begins at its first byte.

    Raises:
        Malformed: `malformed.image`.
    """
    return _parse(file, 0)


def parse_later(file: BinaryIO) -> Image | None:
    """Read a merged file that begins with something else than its boot loader.

    Before the boot loader may be erased sectors, or the digest that secure boot v1 of the ESP32 has
    at the start of flash. A file may also begin with a partition table, at its first sector that is
    not erased.

    Args:
        file: seekable.

    Returns:
        None if it is not such a file.

    Raises:
        Malformed: `malformed.image`: a boot loader or application is at no place of its chip.
    """
    size = size_of(file)
    start = first_other(Reader(file, "esp", 0, size), min(size, _LATEST + 1))
    if start is None:
        return None
    if start % SECTOR:
        return esp_damage.refuse_damaged(file, start - start % SECTOR)
    if chip_of(Reader(file, "esp", start, size).peek(HEADER.size)) is not None:
        return _parse(file, start)
    if start == 0 and _has_digest(file, size):
        return _parse(file, _DIGEST_BEFORE, digest=True)
    if esp_merged.has_table(file, start) and size - start > SECTOR:
        return esp_merged.without_boot_loader(file, start)
    return esp_damage.refuse_damaged(file, start)


def _has_digest(file: BinaryIO, size: int) -> bool:
    """Tell whether a file begins with a digest for secure boot v1, and a boot loader after it."""
    before = Reader(file, "esp", 0, size).peek(_DIGEST_BEFORE + HEADER.size)
    erased = not before[_DIGEST_SIZE:_DIGEST_BEFORE].strip(b"\xff")
    chip = chip_of(before[_DIGEST_BEFORE:])
    return erased and chip is not None and chip.name == "esp32"


def part_at(file: BinaryIO, start: int, end: int, *, signed: bool = True) -> ImagePart:
    """Read the one image at a place in a flash, with its signatures.

    A bad signature is none: an earlier image at this place may have left it.

    Args:
        file: seekable.
        start: its first byte.
        end: the first byte that cannot belong to it.
        signed: whether its signatures are wanted, which are two sectors to read.

    Raises:
        Malformed: `malformed.image`: there is none, or it is damaged.
    """
    return read_one(file, start, end, in_flash=True, signed=signed).part()


def place_expected(image: Image, chip: str, offset: int) -> int | None:
    """Return the place of an image that cannot go to `offset`; None if it can.

    A boot loader or merged image goes only to its own place. Applications, partition tables and
    OTA data go anywhere else.
    """
    boot = bootloader_offset(chip)
    if image.role in ("boot loader", "merged"):
        return None if offset == image.offset else image.offset
    if image.role is not None and offset == boot:
        return image.offset
    return None


def _parse(file: BinaryIO, start: int, *, digest: bool = False) -> Image:
    one = read_one(file, start, size_of(file))._replace(digest=digest)
    if one.is_app:
        if start:
            what = f"place of the application at {start:#x}"
            raise damaged("esp", what, "the first byte of the file", f"{start} erased bytes before")
        return _application(file, one)
    table = esp_merged.find_table(file, one.end)
    if table is not None or start:
        return esp_merged.merged(file, one, table)
    esp_merged.refuse_unplaced(file, one.end)
    return Image(
        "esp",
        one.chip.name,
        offset=one.chip.bootloader,
        details=one.details,
        role="boot loader",
        parts=(one.part(),),
        notes=tail(file, one.end, "boot loader"),
    )


def _application(file: BinaryIO, one: One) -> Image:
    if esp_merged.find_table(file, one.end) is not None:
        raise damaged(
            "esp", "first image before a partition table", "a boot loader", "an application"
        )
    return Image(
        "esp",
        one.chip.name,
        version=one.app.version if one.app else None,
        project=one.app.project if one.app else None,
        offset=APP_OFFSET,
        details=one.details,
        role="application",
        parts=(one.part(),),
        notes=tail(file, one.end, "application"),
    )
