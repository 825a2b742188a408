# SPDX-License-Identifier: Apache-2.0
"""Strict parsers of firmware images: ESP images, UF2 and MCUboot.

They find a file's kind and chip, so that a wrong `--target` is caught at signing and a wrong board
before writing. They are no substitute for the signature: a checksum, or a digest beside the bytes
that it covers, only detects accidents.
"""

from typing import BinaryIO

from fwsign.errors import Failed
from fwsign.images.base import Image, Reader, size_of

__all__ = ["Image", "recognise"]

_HEAD = 600  # bytes that suffice to recognise any format (the longest record of Intel HEX)


def recognise(file: BinaryIO) -> Image:
    """Recognise a firmware image, and refuse a damaged one.

    A file claims a format by its first bytes: the ESP magic with a plausible header and a known
    chip, both UF2 magics, or the MCUboot magic; an ESP partition table by its rows, OTA data by
    its entries and size. An ESP image with a damaged header is told by what is still right. All
    else is "unknown", and what a linker makes is named. The payload is read in pieces of 64 KiB.

    Args:
        file: seekable and opened in binary mode; its position is 0 afterwards.

    Raises:
        Malformed: `malformed.image`, the file claims a format but breaks its rules.
        Failed: `io.read`, the file cannot be read.
    """
    try:
        file.seek(0)
        head = file.read(_HEAD)
        try:
            return _parse(file, head)
        finally:
            file.seek(0)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failed("io.read", f"cannot read the image: {reason}", found=reason) from error


def glance(head: bytes) -> Image:
    """Return the format that a file's first bytes claim; the rest is not checked."""
    if head[:1] in (b"\xe9", b"\xea"):
        from fwsign.images import esp, esp8266, esp_chips

        if esp8266.claims(head):
            return Image("esp", esp_chips.ESP8266)
        return Image("esp", esp.chip_name(head)) if esp.claims(head) else Image("unknown")
    kinds = {b"\xff": "esp", b"U": "uf2", b"\x3d": "mcuboot", b"\x96": "mcuboot"}
    return Image(kinds.get(head[:1], "unknown"))


def _parse(file: BinaryIO, head: bytes) -> Image:
    """Ask the parser that the first byte suggests; the others are not imported."""
    if head[:1] in (b"\xe9", b"\xea"):
        from fwsign.images import esp8266, esp_chips

        if esp8266.claims(head):
            return esp8266.parse(Reader(file, esp_chips.ESP8266, 0, size_of(file)))
    if head[:1] == b"\xe9":
        from fwsign.images import esp

        if esp.claims(head):
            return esp.parse(file)
    if head[:1] == b"U":
        from fwsign.images import uf2

        if uf2.claims(head):
            return uf2.parse(file)
    if head[:1] in (b"\x3d", b"\x96"):
        from fwsign.images import mcuboot

        if mcuboot.claims(head):
            return mcuboot.parse(file)
    from fwsign.images import foreign  # it is small

    if (found := foreign.parse(head)) is not None:
        return found
    from fwsign.images import esp, esp8266, esp_data

    if (image := esp_data.parse(file, head) or esp.parse_later(file)) is not None:
        return image
    esp8266.refuse_damaged(file)
    return Image("unknown")
