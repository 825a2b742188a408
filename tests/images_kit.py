"""ESP files of our own making, by the descriptions of the formats, not by the code under test."""

import hashlib
import io
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from fwsign.errors import Malformed
from fwsign.images import Image, recognise
from fwsign.images.esp_chips import BY_NAME

ROWS = ((1, 2, 0x9000, 0x4000, "nvs"), (1, 0, 0xD000, 0x2000, "otadata"))
OTA = (*ROWS, (0, 0x10, 0x10000, 0x20000, "ota_0"), (0, 0x11, 0x30000, 0x20000, "ota_1"))
FACTORY = (ROWS[0], (0, 0, 0x10000, 0x20000, "factory"))


def image(
    chip: str,
    *segments: tuple[int, bytes],
    digest: bool = True,
    revisions: tuple[int, int, int] = (0, 0, 0),
    size: int = 0x20,
) -> bytes:
    number = BY_NAME[chip].id
    head = struct.pack("<BBBBI", 0xE9, len(segments), 2, size, 0x40380000)
    head += struct.pack("<4xHBHH4xB", number, *revisions, digest)
    body = head + b"".join(struct.pack("<II", at, len(data)) + data for at, data in segments)
    body += bytes(15 - len(body) % 16)
    checksum = 0xEF
    for byte in b"".join(data for _, data in segments):
        checksum ^= byte
    body += bytes([checksum])
    return body + (hashlib.sha256(body).digest() if digest else b"")


def descriptor(version: bytes = b"2.1", project: bytes = b"lamp", page: int = 0) -> bytes:
    texts = struct.pack("32s32s16s16s32s", version, project, b"12:00", b"Nov 22 2026", b"v5.5")
    head = struct.pack("<II8x", 0xABCD5432, 0) + texts + bytes(36) + bytes([page])
    return head.ljust(256, b"\0")


def app(chip: str = "esp32c3", code: int = 3000, **more: Any) -> bytes:
    """Make an application that a boot loader can map."""
    first, second = BY_NAME[chip].data[0] + 0x20, BY_NAME[chip].code[0] + 0x10000
    return image(chip, (first, descriptor()), (second + 0x20 + 256 + 8, bytes(code)), **more)


def boot(chip: str = "esp32c3", **more: Any) -> bytes:
    return image(chip, (0x40380000, b"boot" * 200), **more)


def table(*rows: tuple[int, int, int, int, str], digest: bool = True) -> bytes:
    made = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, at, size, label.encode(), 0)
        for kind, sub, at, size, label in rows
    )
    end = b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(made, usedforsecurity=False).digest()
    return (made + end * digest).ljust(0xC00, b"\xff")


def laid_out(*pieces: tuple[int, bytes], start: int = 0) -> bytes:
    """Lay out pieces by their flash offset, in a file that begins at `start`."""
    end = max(at + len(data) for at, data in pieces)
    flash = bytearray(b"\xff" * end)
    for at, data in pieces:
        flash[at : at + len(data)] = data
    return bytes(flash[start:])


def merged(
    chip: str = "esp32c3",
    rows: Sequence[tuple[int, int, int, int, str]] = FACTORY,
    *,
    at: int | None = None,
    table_at: int = 0x8000,
    app_at: int = 0x10000,
    start: int = 0,
) -> bytes:
    place = BY_NAME[chip].bootloader if at is None else at
    pieces = ((place, boot(chip)), (table_at, table(*rows)), (app_at, app(chip)))
    return laid_out(*pieces, start=start)


def read(data: bytes) -> Image:
    return recognise(io.BytesIO(data))


def refusal(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        read(data)
    assert caught.value.code == "malformed.image"
    assert caught.value.expected
    assert caught.value.found
    return caught.value.message


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]
