# SPDX-License-Identifier: Apache-2.0
"""Images for an ESP whose header is damaged: they are refused, and never pass as another file.

Other evidence shows that they are images: the magic of an application's descriptor at its place, or
a chain of segments with plausible addresses that ends in the right checksum.
"""

import hashlib
import struct
from typing import BinaryIO, Final

from fwsign.images import esp_chips
from fwsign.images.base import Image, Reader, damaged, size_of
from fwsign.images.esp_image import (
    APP_MAGIC,
    DIGEST_SIZE,
    HEADER,
    MAGIC,
    MAX_SEGMENTS,
    SEGMENT,
    fold,
)

_DESCRIPTOR: Final = HEADER.size + SEGMENT.size
_MOST_WALKED: Final = 32
"""Segments to follow in an image whose number of segments is wrong."""


def refuse_damaged(file: BinaryIO, start: int) -> Image | None:
    """Refuse an image whose header is damaged.

    Args:
        file: seekable.
        start: the place of the header.

    Returns:
        None if there is no image; an image without a chip if its digest shows that it is intact,
        and only its chip is not known here.

    Raises:
        Malformed: `malformed.image`.
    """
    end = size_of(file)
    head = Reader(file, "esp", start, end).peek(_DESCRIPTOR + 4)
    if len(head) < _DESCRIPTOR:
        return None
    faults = _faults(head)
    if not faults:
        return None
    described = head[_DESCRIPTOR:] == struct.pack("<I", APP_MAGIC)
    only_chip = len(faults) == 1 and faults[0][0] == "chip id"
    chained = len(faults) == 1 and (described or _seems_right(head))
    walked = _walk(file, start, end, head) if chained else None
    if only_chip and walked == "digest":
        words = f"chip number {faults[0][2]} is not known"
        return Image("esp", details=(("chip number", faults[0][2]),), notes=(words,))
    if described or walked:
        name, expected, found = faults[0]
        raise damaged("esp", f"damaged header, {name}", expected, found)
    return None


def _faults(head: bytes) -> list[tuple[str, str, str]]:
    """Return the fields of a header that no image has: name, expected, found."""
    magic, count, _, _, _, chip, *_, flag = HEADER.unpack_from(head)
    found = []
    if magic != MAGIC:
        found.append(("magic", f"{MAGIC:#04x}", f"{magic:#04x}"))
    if not 1 <= count <= MAX_SEGMENTS:
        found.append(("number of segments", f"1 to {MAX_SEGMENTS}", str(count)))
    if chip not in esp_chips.BY_ID:
        found.append(("chip id", "the number of a known chip", str(chip)))
    if flag > 1:
        found.append(("digest flag", "0 or 1", str(flag)))
    return found


def _seems_right(head: bytes) -> bool:
    """Tell whether entry point and first address are plausible, so that it is worth reading."""
    _, _, mode, _, entry, *_ = HEADER.unpack_from(head)
    address, length = SEGMENT.unpack_from(head, HEADER.size)
    plausible = esp_chips.is_memory(entry) and esp_chips.is_memory(address) and address > 0xFFFF
    return plausible and mode < len(esp_chips.MODES) and length % 4 == 0


def _walk(file: BinaryIO, start: int, end: int, head: bytes) -> str | None:
    """Follow the segments up to the right checksum; return "digest" if that is right as well."""
    hasher = hashlib.sha256()
    reader = Reader(file, "esp", start, end, hasher)
    reader.take(HEADER.size, "header")
    count = head[1] if 1 <= head[1] <= MAX_SEGMENTS else 0
    folded = 0
    for number in range(1, (count or _MOST_WALKED) + 1):
        row = reader.peek(SEGMENT.size)
        if len(row) < SEGMENT.size:
            return None
        address, length = SEGMENT.unpack(row)
        if length % 4 or not esp_chips.is_memory(address) or length > reader.left - SEGMENT.size:
            return None
        reader.take(SEGMENT.size, "header of a segment")
        for piece in reader.pieces(length, "segment"):
            folded ^= int.from_bytes(piece, "little")
        if number == count or (not count and length):
            padding = 15 - (reader.position - start) % 16
            rest = reader.peek(padding + 1)
            if len(rest) > padding and not any(rest[:padding]) and rest[-1] == fold(folded):
                reader.take(padding + 1, "checksum")
                digest = hasher.digest()
                return "digest" if reader.peek(DIGEST_SIZE) == digest else "checksum"
    return None
