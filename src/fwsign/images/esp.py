# SPDX-License-Identifier: Apache-2.0
"""Images for Espressif chips: header, segments, checksum, appended SHA-256, descriptors.

    0x00  E9, number of segments, flash mode, flash size << 4 | frequency, entry point (u32)
    0x08  pins (4 bytes), chip id (u16), chip revisions (5 bytes), 4 bytes, digest flag (u8)
    0x18  per segment: load address (u32), length (u32), data; then padding up to 15 modulo 16,
          the checksum byte and, where the flag is 1, SHA-256 over all of it so far

Source: ESP-IDF programming guide, "App Image Format" and "Bootloader Image Format"; numbers are
little-endian. The ESP8266 has no chip id in its header: such a file is "unknown" here.

Every application has a descriptor since ESP-IDF 3.1. An image without one is started by the ROM: it
is a boot loader, which has its own kind only since ESP-IDF 5.1, or a program without descriptors.
"""

import hashlib
import struct
from typing import BinaryIO, NamedTuple

from fwsign.images import esp_flash
from fwsign.images.base import (
    Hasher,
    Image,
    Needs,
    Part,
    Reader,
    Role,
    damaged,
    first_other,
    size_of,
    text,
)

MAGIC = 0xE9
APP_OFFSET = 0x10000
"""The offset of the factory application in ESP-IDF's stock partition tables."""
MAX_SEGMENTS = 16
"""The ROM's and the boot loader's own limit."""
_HEADER = struct.Struct("<BBBBI4xHBHH4xB")
_NO_LIMIT = (0, 0xFFFF)  # values of the highest revision in headers that state none
_CHECKSUM_SEED = 0xEF
_APP_MAGIC = 0xABCD5432
_APP = struct.Struct("<II8x32s32s16s16s32s32s80x")
_BOOT_MAGIC = 0x50
_BOOT = struct.Struct("<B3xI32s24s16x")
_MODES = ("qio", "qout", "dio", "dout", "fast read", "slow read")
_SIZES = ("1MB", "2MB", "4MB", "8MB", "16MB", "32MB", "64MB", "128MB")


class Chip(NamedTuple):
    """One chip: its name, id in image headers, boot loader's flash offset and UF2 family."""

    name: str
    id: int
    bootloader: int
    family: int


CHIPS = (
    Chip("esp32", 0, 0x1000, 0x1C5F21B0),
    Chip("esp32s2", 2, 0x1000, 0xBFDD4EEE),
    Chip("esp32c3", 5, 0x0, 0xD42BA06C),
    Chip("esp32s3", 9, 0x0, 0xC47E5767),
    Chip("esp32c2", 12, 0x0, 0x2B88D29C),
    Chip("esp32c6", 13, 0x0, 0x540DDF62),
    Chip("esp32h2", 16, 0x0, 0x332726F6),
    Chip("esp32p4", 18, 0x2000, 0x3D308E94),
    Chip("esp32c61", 20, 0x0, 0x77D850C4),
    Chip("esp32c5", 23, 0x2000, 0xF71C0343),
    Chip("esp32h21", 25, 0x0, 0xB6DD00AF),
    Chip("esp32h4", 28, 0x2000, 0x9E0BAA8A),
    Chip("esp32s31", 32, 0x2000, 0x3101F7C1),
)
_BY_ID = {chip.id: chip for chip in CHIPS}
_BY_NAME = {chip.name: chip for chip in CHIPS}


class _Body(NamedTuple):
    """One intact image."""

    chip: Chip
    header: tuple[int, ...]
    segments: tuple[tuple[int, int], ...]  # load address, length
    first: bytes  # the beginning of the first segment, with the descriptors
    checksum: int
    digest: bytes | None
    hasher: Hasher  # over all bytes read
    reader: Reader  # its position is after the image


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be an ESP image."""
    return _chip(head) is not None


def chip_name(head: bytes) -> str | None:
    """Return the name of the chip in a file that begins with `head`."""
    chip = _chip(head)
    return chip.name if chip else None


def parse(file: BinaryIO) -> Image:
    """Read an ESP image, and judge what follows it.

    After the image may come, in this order: 0xFF up to the next 4 KiB and the signature sector
    of secure boot v2; 0xFF of any length; and, only after a boot loader, a partition table on
    a 4 KiB boundary. With a table the file is a merged image: its application partitions must be
    erased or hold intact images for the same chip; all else in them is the user's. Anything
    else is refused, such as a signature of secure boot v1.

    Args:
        file: seekable; the image begins at its first byte.

    Raises:
        Malformed: `malformed.image`.
    """
    return _parse(file, 0)


def parse_padded(file: BinaryIO, head: bytes) -> Image | None:
    """Read a merged image that begins with the erased sectors before the boot loader.

    Args:
        file: seekable.
        head: its first bytes.

    Returns:
        None if it is not such an image.

    Raises:
        Malformed: `malformed.image`, as `parse`.
    """
    if not head or head.strip(b"\xff"):
        return None
    for start in sorted({chip.bootloader for chip in CHIPS} - {0}):
        chip = _chip(Reader(file, "esp", start, size_of(file)).peek(_HEADER.size))
        if chip is not None and chip.bootloader == start:
            erased = first_other(Reader(file, "esp", 0, start), start) is None
            return _parse(file, start) if erased else None
    return None


def part_at(file: BinaryIO, start: int, end: int) -> Part:
    """Read the one image at a place in a file or in a flash, with its signatures.

    Args:
        file: seekable.
        start: its first byte.
        end: the first byte that cannot belong to it.

    Raises:
        Malformed: `malformed.image`: there is none, or it is damaged.
    """
    return _part(_read(file, start, end), start)


def _part(body: _Body, start: int, label: str | None = None) -> Part:
    signatures = esp_flash.signature(body.reader, start, body.hasher)
    role: Role = "application" if _app(body) else "boot loader"
    signed = tuple(f"v2 {kind}" for _, kind in signatures)
    end = body.reader.position
    return Part(role, start, end, body.chip.name, _needs(body.header), signed, label)


def _needs(header: tuple[int, ...]) -> Needs:
    _, _, mode, size, _, _, legacy, lowest, highest, _ = header
    megabytes = size >> 4
    return Needs(
        min_revision=lowest or 100 * legacy,
        max_revision=None if highest in _NO_LIMIT else highest,
        flash_size=1 << (20 + megabytes) if megabytes < len(_SIZES) else None,
        flash_mode=_MODES[mode] if mode < len(_MODES) else f"mode {mode}",
    )


def _chip(head: bytes) -> Chip | None:
    """Return the chip in a plausible header."""
    if len(head) < _HEADER.size:
        return None
    magic, count, _mode, _size, _entry, chip_id, *_, digest = _HEADER.unpack_from(head)
    if magic != MAGIC or not 1 <= count <= MAX_SEGMENTS or digest > 1:
        return None
    return _BY_ID.get(chip_id)


def _parse(file: BinaryIO, start: int) -> Image:
    body = _read(file, start, size_of(file))
    app, boot = _app(body), _boot(body)
    signature = esp_flash.signature(body.reader, start, body.hasher)
    details = (*_header_details(body), *signature)
    rest = first_other(body.reader, body.reader.left)
    if rest is None and start == 0:
        return Image(
            "esp",
            body.chip.name,
            version=app.version if app else None,
            project=app.project if app else None,
            offset=APP_OFFSET if app else body.chip.bootloader,
            details=details + (app.details if app else boot or (("descriptor", "none"),)),
            role="application" if app else "boot loader",
        )
    flash_start = body.chip.bootloader - start  # the file's first byte goes to this offset
    if rest is not None:
        if app is not None or not esp_flash.is_table(file, rest, flash_start):
            raise damaged(
                "esp",
                "bytes after the image",
                "0xff, a signature sector or, after a boot loader, a partition table",
                f"other bytes at {rest:#x}",
            )
        details += (("merged", f"partition table at {rest + flash_start:#x}"),)
        details += _partitions(file, rest, flash_start, body.chip)
    parts = (Part("partition table", rest, rest + esp_flash.SECTOR),) if rest is not None else ()
    return Image(
        "esp",
        body.chip.name,
        offset=flash_start,
        details=details + boot,
        role="merged",
        parts=parts,
    )


def bootloader_offset(chip: str) -> int | None:
    """Return the offset of a chip's boot loader; None for a chip without an image format."""
    return _BY_NAME[chip].bootloader if chip in _BY_NAME else None


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


def _read(file: BinaryIO, start: int, end: int) -> _Body:
    """Read one image and check all facts in it."""
    hasher = hashlib.sha256()
    reader = Reader(file, "esp", start, end, hasher)
    head = reader.take(_HEADER.size, "header")
    chip = _chip(head)
    if chip is None:
        raise damaged("esp", "header", "a header of a known chip", head.hex())
    header = _HEADER.unpack(head)
    segments = []
    first = b""
    folded = 0
    for number in range(header[1]):
        address, length = struct.unpack("<II", reader.take(8, f"header of segment {number}"))
        if length % 4:  # the boot loader copies words
            raise damaged("esp", f"length of segment {number}", "a multiple of 4", length)
        for piece in reader.pieces(length, f"segment {number}"):
            if number == 0:
                first += piece[: _APP.size - len(first)]
            folded ^= int.from_bytes(piece, "little")
        segments.append((address, length))
    reader.take(15 - (reader.position - start) % 16, "padding before the checksum")
    stored = reader.take(1, "checksum")[0]
    if stored != (computed := _fold(folded)):
        raise damaged("esp", "checksum", f"{computed:#04x}", f"{stored:#04x}")
    digest = hasher.digest() if header[-1] else None
    if digest is not None and (appended := reader.take(32, "appended sha-256")) != digest:
        raise damaged("esp", "appended sha-256", digest.hex(), appended.hex())
    return _Body(chip, header, tuple(segments), first, stored, digest, hasher, reader)


def _fold(value: int) -> int:
    """XOR all bytes of a long integer, halving it: a thousand times faster than byte by byte."""
    width = 1 << max(value.bit_length() - 1, 7).bit_length()
    while width > 8:
        width //= 2
        value = (value >> width) ^ (value & ((1 << width) - 1))
    return value ^ _CHECKSUM_SEED


class _App(NamedTuple):
    version: str | None
    project: str | None
    details: tuple[tuple[str, str], ...]


def _app(body: _Body) -> _App | None:
    """Read the application descriptor (esp_app_desc_t), whose texts may be empty."""
    if len(body.first) < _APP.size:
        return None
    magic, secure, version, project, time, date, idf, elf = _APP.unpack(body.first)
    if magic != _APP_MAGIC:
        return None
    pairs = (
        ("built", f"{text(date)} {text(time)}".strip()),
        ("idf version", text(idf)),
        ("secure version", str(secure)),
        ("elf sha-256", elf.hex() if any(elf) else ""),
    )
    details = tuple(pair for pair in pairs if pair[1])
    return _App(text(version) or None, text(project) or None, details)


def _boot(body: _Body) -> tuple[tuple[str, str], ...]:
    """Read the boot loader descriptor (esp_bootloader_desc_t); empty if there is none."""
    if len(body.first) < _BOOT.size:
        return ()
    magic, version, idf, date = _BOOT.unpack_from(body.first)
    # One byte of magic proves little: some code begins alike. The texts must be texts as well.
    if magic != _BOOT_MAGIC or not (_is_text(idf) and _is_text(date)):
        return ()
    return (
        ("boot loader", f"version {version}"),
        ("built", text(date)),
        ("idf version", text(idf)),
    )


def _is_text(field: bytes) -> bool:
    """Tell whether a field is printable ASCII, then only NULs, at least one."""
    words = field.rstrip(b"\0").decode("latin-1")
    return 0 < len(words) < len(field) and words.isascii() and words.isprintable()


def _header_details(body: _Body) -> tuple[tuple[str, str], ...]:
    _, _, mode, size, entry, _, _, revision, *_ = body.header
    flash_mode = _MODES[mode] if mode < len(_MODES) else f"mode {mode}"
    flash_size = _SIZES[size >> 4] if size >> 4 < len(_SIZES) else f"size {size >> 4}"
    return (
        ("entry", f"{entry:#010x}"),
        *(
            (f"segment {number}", f"{length} bytes at {address:#010x}")
            for number, (address, length) in enumerate(body.segments)
        ),
        ("flash", f"{flash_mode}, {flash_size}"),
        ("minimum chip revision", f"{revision // 100}.{revision % 100}"),
        ("checksum", f"{body.checksum:#04x}"),
        ("sha-256", body.digest.hex() if body.digest else "none"),
    )


def _partitions(
    file: BinaryIO, table: int, flash_start: int, chip: Chip
) -> tuple[tuple[str, str], ...]:
    """List the partitions of a merged image, and check the images in application partitions."""
    size = size_of(file)
    details = []
    for part in esp_flash.partitions(file, table):
        words = f"{part.size} bytes at {part.offset:#x}"
        start = part.offset - flash_start
        head = Reader(file, "esp", max(start, 0), size).peek(_HEADER.size)
        if part.is_app and start >= 0 and head.strip(b"\xff"):
            body = _read(file, start, min(size, start + part.size))
            if body.chip != chip:
                raise damaged("esp", f"chip of {part.label}", chip.name, body.chip.name)
            app = _app(body)
            names = (app.project, app.version) if app else ()
            words += f", holds {' '.join(filter(None, names)) or 'an image'}"
        details.append((f"partition {part.label}", words))
    return tuple(details)
