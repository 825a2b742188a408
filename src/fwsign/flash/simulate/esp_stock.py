# SPDX-License-Identifier: Apache-2.0
"""Make the content of a simulated ESP board that is not blank: boot loader, table, application.

The images are intact and at their usual places, with code that nothing runs. Like `esp_boots` this
shares nothing with `fwsign.images`: it is what others would have flashed.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from fwsign.flash.simulate.esp_boot_image import SECTOR, SILICON
from fwsign.flash.simulate.esp_boots import TABLE_MARK

TABLE: Final = 0x8000
_RAM: Final = 0x3FFE8000
_MEGABYTE: Final = 1 << 20
_RSA: Final = 2
_APP_WORD: Final = 0xABCD5432
_VERSION: Final = b"v5.5"


class Head(NamedTuple):
    """The fields of an image's header that a test may want to be wrong.

    Args:
        chip: a key of `SILICON`.
        flash_size: in bytes, a power of two.
        lowest, highest: chip revisions, major * 100 + minor.
        legacy: the lowest revision in the older field.
        hashed: whether SHA-256 is appended.
    """

    chip: str
    flash_size: int = 4 * _MEGABYTE
    lowest: int = 0
    highest: int = 0xFFFF
    legacy: int = 0
    hashed: bool = True


def boot_loader(head: Head, table: int | None = TABLE, seed: int = 0) -> bytes:
    """Make a boot loader that states the offset of its partition table, or does not."""
    described = struct.pack("<B3xI32s24s16x", 0x50, 1, _VERSION, b"Jan  1 2026 10:00:00")
    code = b"" if table is None else TABLE_MARK + struct.pack("<I", table)
    code += _code(6000, seed)
    return _image(head, [(_RAM, described), (_RAM + 0x1000, _words(code))])


def application(
    head: Head, code: bytes | None = None, *, version: str = "1.0", seed: int = 1
) -> bytes:
    """Make an application.

    Args:
        head: its header.
        code: its code; empty for none in flash, which no boot loader starts; None for some.
        version: of the product.
        seed: another one makes other code.
    """
    chip = SILICON[head.chip]
    texts = (version.encode(), b"stock", b"10:00:00", b"Jan  1 2026", _VERSION)
    described = struct.pack("<II8x32s32s16s16s32s32s80x", _APP_WORD, 0, *texts, bytes(32))
    parts = [(chip.data.start + 0x20, described)]
    code = _code(8000, seed) if code is None else code
    if code:
        at = 0x20 + len(described) + 8  # of the data of the next segment
        parts.append((chip.code.start + 0x10000 + at, _words(code)))
    return _image(head, parts)


def old_application(size: int = 8000, seed: int = 1) -> bytes:
    """Make an application for an ESP8266."""
    data = _words(_code(size, seed))
    body = struct.pack("<BBBBIII", 0xE9, 1, 2, 0x40, 0x40100004, 0x40100000, len(data)) + data
    body += bytes(15 - len(body) % 16)
    return body + bytes([_checksum([data])])


def table(rows: Sequence[tuple[str, int, int, int, int]], *, digest: bool = True) -> bytes:
    """Make a partition table; a row is label, type, subtype, offset, size."""
    made = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, offset, size, label.encode(), 0)
        for label, kind, subtype, offset, size in rows
    )
    if digest:
        md5 = hashlib.md5(made, usedforsecurity=False).digest()
        made += b"\xeb\xeb" + b"\xff" * 14 + md5
    return made.ljust(0xC00, b"\xff")


def rows(
    place: int = TABLE, flash_size: int = 4 * _MEGABYTE
) -> list[tuple[str, int, int, int, int]]:
    """Return the partitions of a table at a place, with two slots that fill the flash."""
    start = place + SECTOR
    first = -(-(start + 0x7000) // 0x10000) * 0x10000
    slot = (flash_size - first) // 0x20000 * 0x10000
    return [
        ("nvs", 1, 2, start, 0x4000),
        ("otadata", 1, 0, start + 0x4000, 0x2000),
        ("phy_init", 1, 1, start + 0x6000, 0x1000),
        ("ota_0", 0, 0x10, first, slot),
        ("ota_1", 0, 0x11, first + slot, slot),
    ]


def stock(chip: str, flash_size: int, place: int = TABLE, signature: int = 0) -> bytes:
    """Make what a board has when it leaves its maker: it starts `ota_0`.

    Args:
        chip: a key of `SILICON`, or "esp8266".
        flash_size: in bytes.
        place: the offset of the partition table.
        signature: see `signed`.
    """
    if chip == "esp8266":
        return old_application()
    head = Head(chip, flash_size)
    parts = rows(place, flash_size)
    app = next(offset for label, *_, offset, _ in parts if label == "ota_0")
    return laid_out(
        [
            (SILICON[chip].place, signed(boot_loader(head, place), signature)),
            (place, table(parts)),
            (app, signed(application(head), signature)),
        ]
    )


def signature_for(locks: Collection[str]) -> int:
    """Return the signature that a board with these locks starts; see `signed`."""
    return _RSA if "secure boot" in locks else int("secure boot v1" in locks)


def signed(image: bytes, signature: int) -> bytes:
    """Append a signature of secure boot: its place and its digest are right, its key is nobody's.

    Args:
        image: what is signed.
        signature: 0 for none, 1 for version 1; for version 2, 2 with RSA and 3 with ECDSA.
    """
    if signature == 0:
        return image
    if signature == 1:
        return image + bytes(4) + hashlib.shake_128(image).digest(64)
    padded = image + b"\xff" * (-len(image) % SECTOR)
    return padded + signature_block(padded, signature).ljust(SECTOR, b"\xff")


def signature_block(padded: bytes, signature: int) -> bytes:
    """Make a block of a signature sector, for an image that fills its sectors."""
    block = bytes([0xE7, signature, 0, 0]) + hashlib.sha256(padded).digest()
    block = block.ljust(1196, b"\x5a")
    return block + struct.pack("<I16x", zlib.crc32(block))


def laid_out(pieces: Sequence[tuple[int, bytes]]) -> bytes:
    """Put pieces at their places, on erased flash."""
    made = bytearray()
    for place, data in pieces:
        made.extend(b"\xff" * (place + len(data) - len(made)))
        made[place : place + len(data)] = data
    return bytes(made)


def _image(head: Head, parts: Sequence[tuple[int, bytes]]) -> bytes:
    number = SILICON[head.chip].number
    size = (head.flash_size.bit_length() - 21) << 4
    body = struct.pack("<BBBBI4x", 0xE9, len(parts), 2, size, 0x40380000)
    bounds = (head.legacy, head.lowest, head.highest)
    body += struct.pack("<HBHH4xB", number, *bounds, head.hashed)
    for address, data in parts:
        body += struct.pack("<II", address, len(data)) + data
    body += bytes(15 - len(body) % 16) + bytes([_checksum([data for _, data in parts])])
    return body + hashlib.sha256(body).digest() if head.hashed else body


def _checksum(parts: Sequence[bytes]) -> int:
    value = 0xEF
    for part in parts:
        for byte in part:
            value ^= byte
    return value


def _code(size: int, seed: int) -> bytes:
    return hashlib.shake_128(b"code %d" % seed).digest(size)


def _words(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
