# SPDX-License-Identifier: Apache-2.0
"""One image for an ESP32 or its successors: header, segments, checksum, digest, descriptors.

    0x00  E9, number of segments, flash mode, flash size << 4 | frequency, entry point (u32)
    0x08  pins (4 bytes), chip id (u16), least revision in old units (u8), least and highest
          revision (u16 each), 4 bytes, digest flag (u8)
    0x18  per segment: load address (u32), length (u32), data; then padding up to 15 modulo 16,
          the checksum byte and, where the flag is 1, SHA-256 over all of it so far

Source: ESP-IDF programming guide, "App Image Format", "Bootloader Image Format" and "Chip
Revision"; numbers are little-endian.
"""

import hashlib
import struct
from typing import BinaryIO, Final, NamedTuple

from fwsign.images import esp_chips
from fwsign.images.base import Hasher, Needs, Reader, damaged, text
from fwsign.images.esp_chips import BY_ID, MODES, Chip

MAGIC: Final = 0xE9
MAX_SEGMENTS: Final = 16
"""The ROM's and the boot loader's own limit."""
HEADER: Final = struct.Struct("<BBBBI4xHBHH4xB")
SEGMENT: Final = struct.Struct("<II")
DIGEST_SIZE: Final = 32
APP_MAGIC: Final = 0xABCD5432
_NO_LIMIT: Final = (0, 0xFFFF)  # values of the highest revision in headers that state none
_CHECKSUM_SEED: Final = 0xEF
_APP: Final = struct.Struct("<II8x32s32s16s16s32s32s4xB75x")
_BOOT_MAGIC: Final = 0x50
_BOOT: Final = struct.Struct("<B3xI32s24s16x")
_FRAMEWORK: Final = "arduino-lib-builder"
"""The project of Arduino's own libraries, whose version is not the product's."""
_PAGE: Final = 0x10000  # of flash that is mapped, where the descriptor does not say


class Segment(NamedTuple):
    """A segment: its load address, length, and place in the image."""

    address: int
    length: int
    start: int


class Body(NamedTuple):
    """One intact image.

    Args:
        chip: by its number in the header.
        header: the header's fields.
        segments: in the order of the file.
        first: the beginning of the first segment, with the descriptors.
        checksum: as stored, and right.
        digest: the appended SHA-256, which is right; None if there is none.
        hasher: SHA-256 over all bytes read.
        reader: its position is after the image.
    """

    chip: Chip
    header: tuple[int, ...]
    segments: tuple[Segment, ...]
    first: bytes
    checksum: int
    digest: bytes | None
    hasher: Hasher
    reader: Reader

    @property
    def needs(self) -> Needs:
        """The demands in its header."""
        _, _, mode, size, _, _, legacy, lowest, highest, _ = self.header
        return Needs(
            min_revision=lowest or esp_chips.legacy_revision(self.chip, legacy),
            max_revision=None if highest in _NO_LIMIT else highest,
            flash_size=esp_chips.flash_size(size),
            flash_mode=MODES[mode] if mode < len(MODES) else f"mode {mode}",
            flash_frequency=esp_chips.flash_frequency(self.chip, size),
        )


class App(NamedTuple):
    """The descriptor of an application (esp_app_desc_t); empty texts are None.

    Args:
        version: the product's; None if the field has a framework's.
        project: the product's; None if the field has a framework's.
        page: the size of the pages in which flash is mapped.
        details: as in `Image`.
        secure_version: the number against rollback.
    """

    version: str | None
    project: str | None
    page: int
    details: tuple[tuple[str, str], ...]
    secure_version: int


def chip_of(head: bytes) -> Chip | None:
    """Return the chip in a plausible header."""
    if len(head) < HEADER.size:
        return None
    magic, count, _mode, _size, _entry, chip_id, *_, digest = HEADER.unpack_from(head)
    if magic != MAGIC or not 1 <= count <= MAX_SEGMENTS or digest > 1:
        return None
    return BY_ID.get(chip_id)


def read(file: BinaryIO, start: int, end: int) -> Body:
    """Read one image and check all facts in it.

    Args:
        file: seekable.
        start: its first byte.
        end: the first byte that cannot belong to it.

    Raises:
        Malformed: `malformed.image`.
    """
    hasher = hashlib.sha256()
    reader = Reader(file, "esp", start, end, hasher)
    head = reader.take(HEADER.size, "header")
    chip = chip_of(head)
    if chip is None:
        raise damaged("esp", "header", "a header of a known chip", head.hex())
    header = HEADER.unpack(head)
    segments = []
    first = b""
    folded = 0
    for number in range(header[1]):
        address, length = SEGMENT.unpack(reader.take(SEGMENT.size, f"header of segment {number}"))
        if length % 4:  # the boot loader copies words
            raise damaged("esp", f"length of segment {number}", "a multiple of 4", length)
        segments.append(Segment(address, length, reader.position - start))
        for piece in reader.pieces(length, f"segment {number}"):
            if number == 0:
                first += piece[: _APP.size - len(first)]
            folded ^= int.from_bytes(piece, "little")
    reader.take(15 - (reader.position - start) % 16, "padding before the checksum")
    stored = reader.take(1, "checksum")[0]
    if stored != (computed := fold(folded)):
        raise damaged("esp", "checksum", f"{computed:#04x}", f"{stored:#04x}")
    digest = hasher.digest() if header[-1] else None
    if digest is not None:
        appended = reader.take(DIGEST_SIZE, "appended sha-256")
        if appended != digest:
            raise damaged("esp", "appended sha-256", digest.hex(), appended.hex())
    return Body(chip, header, tuple(segments), first, stored, digest, hasher, reader)


def extent(file: BinaryIO, start: int, end: int) -> int | None:
    """Return the size of the image that seems to begin at `start`; None if none does.

    Only headers are read, so that many places can be asked about.

    Args:
        file: seekable.
        start: the place of its header.
        end: the end of the file.
    """
    head = Reader(file, "esp", start, end).peek(HEADER.size)
    if chip_of(head) is None:
        return None
    at = HEADER.size
    for _ in range(head[1]):
        row = Reader(file, "esp", min(start + at, end), end).peek(SEGMENT.size)
        if len(row) < SEGMENT.size:
            return at + SEGMENT.size
        address, length = SEGMENT.unpack(row)
        if length % 4 or not esp_chips.is_memory(address):
            return None
        at += SEGMENT.size + length
    return at + 16 - at % 16 + DIGEST_SIZE * head[-1]


def fold(value: int) -> int:
    """XOR all bytes of a long integer, halving it: a thousand times faster than byte by byte."""
    width = 1 << max(value.bit_length() - 1, 7).bit_length()
    while width > 8:
        width //= 2
        value = (value >> width) ^ (value & ((1 << width) - 1))
    return value ^ _CHECKSUM_SEED


def app_of(body: Body) -> App | None:
    """Read the application descriptor, if there is one."""
    if len(body.first) < _APP.size:
        return None
    magic, secure, version, project, time, date, idf, elf, page = _APP.unpack(body.first)
    if magic != APP_MAGIC:
        return None
    built_on = f"{text(project)} {text(version)}" if _is_frameworks(project, version, idf) else ""
    pairs = (
        ("framework", built_on),
        ("built", f"{text(date)} {text(time)}".strip()),
        ("idf version", text(idf)),
        ("secure version", str(secure)),
        ("elf sha-256", elf.hex() if any(elf) else ""),
    )
    details = tuple(pair for pair in pairs if pair[1])
    size = 1 << page if 12 <= page <= 16 else _PAGE
    if built_on:
        return App(None, None, size, details, secure)
    return App(text(version) or None, text(project) or None, size, details, secure)


def _is_frameworks(project: bytes, version: bytes, idf: bytes) -> bool:
    """Tell whether project and version are those of the framework: no one typed others."""
    words = text(version)
    own = words.startswith("esp-idf:") or (words != "" and words == text(idf))
    return own or text(project).endswith(_FRAMEWORK)


def boot_of(body: Body) -> tuple[tuple[str, str], ...]:
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


def header_details(body: Body) -> tuple[tuple[str, str], ...]:
    """Describe an image's header and segments."""
    needs = body.needs
    size = esp_chips.size_name(needs.flash_size) if needs.flash_size else ""
    words = (needs.flash_mode, size or f"size {body.header[3] >> 4}", needs.flash_frequency or "")
    highest = needs.max_revision
    return (
        ("entry", f"{body.header[4]:#010x}"),
        *(
            (f"segment {number}", f"{length} bytes at {address:#010x}")
            for number, (address, length, _) in enumerate(body.segments)
        ),
        ("flash", ", ".join(filter(None, words))),
        ("minimum chip revision", revision_name(needs.min_revision)),
        *((("maximum chip revision", revision_name(highest)),) if highest is not None else ()),
        ("checksum", f"{body.checksum:#04x}"),
        ("sha-256", body.digest.hex() if body.digest else "none"),
    )


def revision_name(revision: int) -> str:
    """Return a chip revision in words, such as "3.1"."""
    return f"{revision // 100}.{revision % 100}"


def unstartable(body: Body, app: App) -> str | None:
    """Return why no boot loader of ESP-IDF starts an application; None if it may start.

    A segment that is mapped lies in flash as in memory, modulo the size of a page. Applications
    begin on whole pages, so its place in the image decides.
    """
    for number, (address, length, start) in enumerate(body.segments):
        mapped = _within(address, body.chip.code) or _within(address, body.chip.data)
        if mapped and length and (address - start) % app.page:
            return (
                f"segment {number} is to be mapped to {address:#x}, but lies at {start:#x}: "
                f"they differ within a page of {app.page} bytes"
            )
    return None


def has_code(body: Body) -> bool:
    """Tell whether a segment is mapped as code: without one, ESP-IDF's boot loaders abort.

    On a chip with one bus code and constants are told apart by their segments: there are two.
    """
    mapped = [one for one in body.segments if _within(one.address, body.chip.code)]
    return len(mapped) >= (2 if body.chip.code == body.chip.data else 1)


def is_mapped(body: Body) -> bool:
    """Tell whether segments are mapped as data and as code, each from where it can be."""
    held = [one for one in body.segments if one.length]
    right = [one.address for one in held if (one.address - one.start) % _PAGE == 0]
    data = [one for one in right if _within(one, body.chip.data)]
    code = [one for one in right if _within(one, body.chip.code)]
    if body.chip.code == body.chip.data:
        return len(code) > 1
    return bool(data and code)


def _within(address: int, memory: tuple[int, int]) -> bool:
    return memory[0] <= address < memory[1]
