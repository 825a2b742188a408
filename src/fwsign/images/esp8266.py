# SPDX-License-Identifier: Apache-2.0
"""Images for the ESP8266, which have another header than those of its successors.

    0x00  E9, number of segments, flash mode, flash size << 4 | frequency, entry point (u32)
    0x08  per segment: load address (u32), length (u32), data; then padding up to 15 modulo 16 and
          the checksum byte

The form for a second stage boot loader has EA and 04 in the first two bytes; its one segment at
address 0 is read in place, and a header with E9 and the other segments follow. After the first
image come bytes that it reads in place, which no header names: they are not judged.

A successor's header has pins where the first load address is here, so neither passes as the other.

Source: ESP8266 SDK, "Firmware Image Format"; esptool's documentation, same title.
"""

import struct
from typing import BinaryIO, Final, NamedTuple

from fwsign.errors import Malformed
from fwsign.images.base import Image, Reader, damaged, size_of
from fwsign.images.esp_chips import ESP8266, MODES
from fwsign.images.esp_image import fold

MAGIC: Final = 0xE9
MAGIC_V2: Final = 0xEA
_MAX_SEGMENTS: Final = 16
_V2_SEGMENTS: Final = 4  # which is a version here
_HEADER: Final = struct.Struct("<BBBBI")
_SEGMENT: Final = struct.Struct("<II")
_AFTER_BOOT_LOADER: Final = 0x1000
"""The offset of the first application after the SDK's second stage boot loader."""
_CODE: Final = (0x40100000, 0x4010C000)
_MEMORIES: Final = (_CODE, (0x3FFE8000, 0x40000000), (0x40200000, 0x40300000))
_SIZES: Final = ("512KB", "256KB", "1MB", "2MB", "4MB", "2MB-c1", "4MB-c1", "", "8MB", "16MB")


class _Segment(NamedTuple):
    address: int
    length: int


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be an image for an ESP8266."""
    if len(head) < _HEADER.size + _SEGMENT.size:
        return False
    magic, count, _, _, entry = _HEADER.unpack_from(head)
    if magic == MAGIC_V2:
        address, _ = _SEGMENT.unpack_from(head, _HEADER.size)
        return bool(count == _V2_SEGMENTS and address == 0 and _within(entry, _CODE))
    return magic == MAGIC and _has_addresses(head)


def refuse_damaged(file: BinaryIO) -> None:
    """Refuse an image with a damaged magic, if all else in it is right.

    Raises:
        Malformed: `malformed.image`.
    """
    size = size_of(file)
    head = Reader(file, ESP8266, 0, size).peek(_HEADER.size + _SEGMENT.size)
    if len(head) < _HEADER.size + _SEGMENT.size or not _has_addresses(head):
        return
    if head[0] == MAGIC_V2:  # no damage, but another form
        return
    try:
        parse(Reader(file, ESP8266, 0, size), MAGIC)
    except Malformed:
        return
    raise damaged(ESP8266, "damaged header, magic", f"{MAGIC:#04x}", f"{head[0]:#04x}")


def _has_addresses(head: bytes) -> bool:
    """Tell whether the entry point and the first load address are those of an ESP8266."""
    entry, address = struct.unpack_from("<II", head, 4)
    return _within(entry, _CODE) and any(_within(address, one) for one in _MEMORIES)


def parse(reader: Reader, taken_for: int | None = None) -> Image:
    """Read an image for an ESP8266.

    Args:
        reader: at the first byte of the file.
        taken_for: the magic to read instead of the first byte.

    Raises:
        Malformed: `malformed.image`.
    """
    magic, count, mode, size, entry = _HEADER.unpack(reader.take(_HEADER.size, "header"))
    magic = magic if taken_for is None else taken_for
    offset = _AFTER_BOOT_LOADER if magic == MAGIC_V2 else 0
    in_place: tuple[_Segment, ...] = ()
    if magic == MAGIC_V2:
        in_place = (_take(reader, "segment that is read in place")[0],)
        magic, count, _, _, entry = _HEADER.unpack(reader.take(_HEADER.size, "second header"))
    if magic != MAGIC or not 1 <= count <= _MAX_SEGMENTS:
        found = f"{magic:#04x} and {count}"
        raise damaged(ESP8266, "header", f"e9 and 1 to {_MAX_SEGMENTS} segments", found)
    segments, folded = list(in_place), 0
    for number in range(count):
        segment, xor = _take(reader, f"segment {number}")
        segments.append(segment)
        folded ^= xor
    reader.take(15 - reader.position % 16, "padding before the checksum")
    stored, computed = reader.take(1, "checksum")[0], fold(folded)
    if stored != computed:
        raise damaged(ESP8266, "checksum", f"{computed:#04x}", f"{stored:#04x}")
    words = (
        MODES[mode] if mode < len(MODES) else f"mode {mode}",
        _SIZES[size >> 4] if size >> 4 < len(_SIZES) else "",
    )
    details = (
        ("entry", f"{entry:#010x}"),
        *(
            (f"segment {number}", f"{one.length} bytes at {one.address:#010x}")
            for number, one in enumerate(segments)
        ),
        ("flash", ", ".join(filter(None, words))),
        ("checksum", f"{stored:#04x}"),
        *((("after the image", f"{reader.left} bytes, not judged"),) if reader.left else ()),
    )
    return Image("esp", ESP8266, offset=offset, details=details)


def _take(reader: Reader, what: str) -> tuple[_Segment, int]:
    """Read a segment, and XOR its words into one number."""
    segment = _Segment(*_SEGMENT.unpack(reader.take(_SEGMENT.size, f"header of {what}")))
    if segment.address and not any(_within(segment.address, one) for one in _MEMORIES):
        raise damaged(ESP8266, f"address of {what}", "one of the chip", f"{segment.address:#x}")
    folded = 0
    for piece in reader.pieces(segment.length, what):
        folded ^= int.from_bytes(piece, "little")
    return segment, folded


def _within(address: int, memory: tuple[int, int]) -> bool:
    return memory[0] <= address < memory[1]
