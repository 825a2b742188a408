# SPDX-License-Identifier: Apache-2.0
"""The parts that may follow an ESP image in a file: a secure boot signature, a partition table.

A table is also a file of its own: see `esp_data`.

Source: ESP-IDF programming guide, "Secure Boot v2" (signature block format) and "Partition
Tables"; numbers are little-endian.
"""

import binascii
import hashlib
import itertools
import struct
from typing import BinaryIO, NamedTuple

from fwsign.images.base import Hasher, Reader, damaged, first_other, size_of, text

SECTOR = 4096
"""Flash is erased in sectors, so everything in flash begins on one."""
MAX_SIGNATURES = 3
"""The ROM's own limit; a sector holds as many."""
_SIGNATURE = struct.Struct("<BBB1x32s1160xI16x")
_SIGNATURE_MAGIC = 0xE7
_KINDS = {2: "rsa", 3: "ecdsa"}
_SHA256 = 0

TABLE_SIZE = 0xC00
"""The rows that ESP-IDF reads of the sector: 96, of which one is for the digest."""
_ROW = struct.Struct("<2sBBII16sI")
ROW_SIZE = _ROW.size
_ROW_MAGIC = b"\xaa\x50"
_DIGEST_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_TYPE_APP = 0


class Partition(NamedTuple):
    """One row of a partition table; offset and size in bytes of flash."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int

    @property
    def is_app(self) -> bool:
        """Whether it is for an application."""
        return self.type == _TYPE_APP


def signature(reader: Reader, start: int, hasher: Hasher) -> tuple[tuple[str, str], ...]:
    """Read the signature sector of secure boot v2, if there is one.

    The signatures are not verified, since the key is in the chip; digest and CRC are checked.

    Args:
        reader: its position is after the image; afterwards it is after the sector, or after 0xFF.
        start: the image's offset in the file.
        hasher: SHA-256 over the image, which also takes in the bytes from `reader`.

    Returns:
        Details for `Image`; empty if there is no such sector.

    Raises:
        Malformed: `malformed.image`.
    """
    gap = (start - reader.position) % SECTOR
    before = reader.peek(gap + 1)
    if before[:gap].strip(b"\xff") or before[gap:] != bytes([_SIGNATURE_MAGIC]):
        return ()
    reader.take(gap, "padding before the signature sector")
    digest = hasher.digest()
    sector = reader.take(SECTOR, "signature sector")
    details = []
    for number in range(MAX_SIGNATURES):
        block = sector[number * _SIGNATURE.size :][: _SIGNATURE.size]
        if not block.strip(b"\xff"):
            break
        details.append((f"secure boot signature {number}", _signature(number, block, digest)))
    rest = sector[len(details) * _SIGNATURE.size :].strip(b"\xff")
    if rest:
        raise damaged("esp", "bytes after the secure boot signatures", "0xff", rest[:4].hex())
    return tuple(details)


def _signature(number: int, block: bytes, digest: bytes) -> str:
    what = f"secure boot signature {number}"
    magic, version, sha, stored, crc = _SIGNATURE.unpack(block)
    if magic != _SIGNATURE_MAGIC or version not in _KINDS:
        raise damaged("esp", what, "magic e7 and version 2 or 3", block[:2].hex())
    computed = binascii.crc32(block[:1196])
    if crc != computed:
        raise damaged("esp", f"crc of {what}", f"{computed:#010x}", f"{crc:#010x}")
    if sha != _SHA256:  # SHA-384 is for ECDSA P-384 only, and the image would be read again
        return f"{_KINDS[version]}, digest not checked"
    if stored != digest:
        raise damaged("esp", f"digest of {what}", digest.hex(), stored.hex())
    return _KINDS[version]


def begins_row(head: bytes) -> bool:
    """Tell whether bytes begin like a row of a table, or like the row of its digest."""
    return head.startswith((_ROW_MAGIC, _DIGEST_MAGIC))


def is_table(file: BinaryIO, position: int, flash_start: int) -> bool:
    """Tell whether a table begins at `position` in the file, plus `flash_start` in flash."""
    head = Reader(file, "esp", position, size_of(file)).peek(len(_ROW_MAGIC))
    return head == _ROW_MAGIC and (position + flash_start) % SECTOR == 0


def partitions(file: BinaryIO, position: int) -> list[Partition]:
    """Read a partition table.

    Args:
        file: seekable.
        position: the table's offset in the file.

    Raises:
        Malformed: `malformed.image`, also for a wrong digest row; the row may be absent.
    """
    reader = Reader(file, "esp", position, min(position + TABLE_SIZE, size_of(file)))
    found: list[Partition] = []
    hasher = hashlib.md5(usedforsecurity=False)
    while reader.left:
        row = reader.take(_ROW.size, f"partition {len(found)}")
        if row.startswith(_ROW_MAGIC):
            found.append(_partition(len(found), row))
            hasher.update(row)
            continue
        if row.startswith(_DIGEST_MAGIC):
            if row[16:] != hasher.digest():
                raise damaged("esp", "md5 of partition table", hasher.hexdigest(), row[16:].hex())
        elif row.strip(b"\xff"):
            raise damaged("esp", f"partition {len(found)}", "aa50, ebeb or 0xff", row[:2].hex())
        if first_other(reader, reader.left) is not None:
            raise damaged("esp", "bytes after the partition table", "0xff", "other bytes")
    # Without this, a small table could make us read the same large partition many times.
    for before, after in itertools.pairwise(sorted(found, key=lambda part: part.offset)):
        if before.offset + before.size > after.offset:
            end = before.offset + before.size
            what = f"offset of partition {after.label}"
            raise damaged("esp", what, f"{end:#x} or more", f"{after.offset:#x}")
    return found


def _partition(number: int, row: bytes) -> Partition:
    _, kind, subtype, offset, size, label, _ = _ROW.unpack(row)
    if offset % SECTOR or not size or offset + size > 1 << 32:
        raise damaged(
            "esp",
            f"partition {number}",
            "an offset in whole sectors and a size",
            f"offset {offset:#x}, size {size:#x}",
        )
    return Partition(text(label), kind, subtype, offset, size)
