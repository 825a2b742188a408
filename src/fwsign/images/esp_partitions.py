# SPDX-License-Identifier: Apache-2.0
"""The partition table of an ESP's flash; it is also a file of its own: see `esp_data`.

Source: ESP-IDF programming guide, "Partition Tables"; numbers are little-endian.
"""

import hashlib
import itertools
import struct
from typing import BinaryIO, NamedTuple

from fwsign.images.base import Reader, damaged, first_other, size_of, text

SECTOR = 4096
"""Flash is erased in sectors, so everything in flash begins on one."""
TABLE_SIZE = 0xC00
"""The rows that ESP-IDF reads of the sector: 96, of which one is for the digest."""
_ROW = struct.Struct("<2sBBII16sI")
_ROW_HEAD = struct.Struct("<2sBBII")
ROW_SIZE = _ROW.size
_ROW_MAGIC = b"\xaa\x50"
DIGEST_ROW = b"\xeb\xeb" + b"\xff" * 14
"""The beginning of the row with the digest, which never occurs by chance."""
_TYPE_APP = 0
_OTADATA = (1, 0)  # type and subtype
_OTADATA_LEAST = 2 * SECTOR
_LARGEST_APP = 16 << 20
_TYPES = range(4)  # applications, data, boot loaders, tables
_TYPE_CUSTOM = 0x40
_LARGEST = 1 << 30


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


def is_row(row: bytes) -> bool:
    """Tell whether bytes are a plausible row of a table, or the beginning of its digest's row."""
    if len(row) < _ROW_HEAD.size or not row.startswith(_ROW_MAGIC):
        return row.startswith(DIGEST_ROW)
    _, kind, _, offset, size = _ROW_HEAD.unpack_from(row)
    known = kind in _TYPES or kind >= _TYPE_CUSTOM
    return bool(known and offset % SECTOR == 0 and 0 < size <= _LARGEST)


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
        Malformed: `malformed.image`, also for a wrong digest row, which may be absent, and for a
            table that no boot loader accepts.
    """
    reader = Reader(file, "esp", position, min(position + TABLE_SIZE, size_of(file)))
    found: list[Partition] = []
    hasher = hashlib.md5(usedforsecurity=False)
    digested = False
    while reader.left:
        row = reader.take(_ROW.size, f"partition {len(found)}")
        if row.startswith(_ROW_MAGIC):
            found.append(_partition(len(found), row))
            hasher.update(row)
            continue
        if row.startswith(DIGEST_ROW):
            if row[16:] != hasher.digest():
                raise damaged("esp", "md5 of partition table", hasher.hexdigest(), row[16:].hex())
            digested = True
        elif row.strip(b"\xff"):
            raise damaged("esp", f"partition {len(found)}", "aa50, ebeb or 0xff", row[:2].hex())
        if first_other(reader, reader.left) is not None:
            raise damaged("esp", "bytes after the partition table", "0xff", "other bytes")
    rows = len(found) + digested
    if rows * ROW_SIZE >= TABLE_SIZE:  # a boot loader looks for an erased row after the last one
        most = TABLE_SIZE // ROW_SIZE - 1
        raise damaged("esp", "rows of partition table", f"at most {most}", f"{rows} without an end")
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
    if (kind, subtype) == _OTADATA and size < _OTADATA_LEAST:
        what = f"size of partition {text(label)}, for OTA data"
        raise damaged("esp", what, f"at least {_OTADATA_LEAST:#x}", f"{size:#x}")
    if kind == _TYPE_APP and size > _LARGEST_APP:
        what = f"size of partition {text(label)}, for an application"
        raise damaged("esp", what, f"at most {_LARGEST_APP:#x}", f"{size:#x}")
    return Partition(text(label), kind, subtype, offset, size)
