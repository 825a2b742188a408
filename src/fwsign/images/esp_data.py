# SPDX-License-Identifier: Apache-2.0
"""Partition tables and OTA data as files of their own; neither names its chip.

The OTA data partition has two sectors; each is erased, or begins with an entry of 32 bytes:
sequence number (u32), label (20 bytes), state (u32), CRC-32 of the sequence number. The build
system's own file is erased, which lets the factory application or the first slot boot.

Source: ESP-IDF programming guide, "Partition Tables" and "Over The Air Updates"; numbers are
little-endian.
"""

import binascii
import struct
from collections.abc import Sequence
from typing import BinaryIO, Final, NamedTuple

from fwsign.images.base import Image, ImagePart, Reader, damaged, others, size_of
from fwsign.images.esp_part import remark
from fwsign.images.esp_partitions import (
    ROW_SIZE,
    SECTOR,
    TABLE_SIZE,
    Partition,
    is_row,
    partitions,
)
from fwsign.images.esp_signature import Signatures, read_v1

TABLE_OFFSET: Final = 0x8000
"""The default offset of ESP-IDF's partition table."""
OTADATA_SIZE: Final = 2 * SECTOR
NO_SEQUENCE: Final = 0xFFFFFFFF
_OTADATA: Final = (1, 0x00)  # type and subtype of its partition
_BAD_STATES: Final = (3, 4)  # invalid, aborted
_STATES: Final = (*range(5), 0xFFFFFFFF)
_ENTRY: Final = struct.Struct("<I20sII")


class OtaEntry(NamedTuple):
    """The entry in one sector of the OTA data.

    Args:
        sequence: its sequence number.
        state: the state of the application that it selects.
        intact: whether its CRC is right.
    """

    sequence: int
    state: int
    intact: bool

    @property
    def counts(self) -> bool:
        """Whether a boot loader uses it."""
        return self.intact and self.state not in _BAD_STATES


def entries(data: bytes) -> list[OtaEntry | None]:
    """Read the two entries of OTA data; None for an erased one; missing bytes give no entry.

    Args:
        data: both sectors.
    """
    found: list[OtaEntry | None] = []
    for start in (0, SECTOR):
        head = data[start : start + _ENTRY.size]
        if len(head) < _ENTRY.size:
            return []
        sequence, _, state, crc = _ENTRY.unpack(head)
        intact = crc == _crc(sequence)
        found.append(None if sequence == NO_SEQUENCE else OtaEntry(sequence, state, intact))
    return found


def otadata_of(table: Sequence[Partition]) -> Partition | None:
    """Return the OTA data partition, if there is one; of several, a boot loader takes the last."""
    found = [part for part in table if (part.type, part.subtype) == _OTADATA]
    return found[-1] if found else None


def make_entry(sequence: int) -> bytes:
    """Return the sector of a new entry."""
    entry = _ENTRY.pack(sequence, b"\xff" * 20, _STATES[-1], _crc(sequence))
    return entry.ljust(SECTOR, b"\xff")


def _crc(sequence: int) -> int:
    return binascii.crc32(struct.pack("<I", sequence), 0xFFFFFFFF)


def parse(file: BinaryIO, head: bytes) -> Image | None:
    """Read a file that is a partition table, or OTA data; None if it is neither.

    A table is recognised by its first or second row, so that a damaged one cannot pass as another
    file; OTA data by an entry, or by its size if all of it is erased.

    Args:
        file: seekable.
        head: its first bytes, two rows of a table if it has so many.

    Raises:
        Malformed: `malformed.image`.
    """
    size = size_of(file)
    if size <= SECTOR and (is_row(head[:ROW_SIZE]) or is_row(head[ROW_SIZE:])):
        return _table(file)
    return _otadata(file, head, size)


def _table(file: BinaryIO) -> Image:
    found = partitions(file, 0)
    if not found:
        raise damaged("esp", "partition table", "at least one partition", "none")
    details = tuple(
        (f"partition {one.label}", f"{one.size} bytes at {one.offset:#x}") for one in found
    )
    signed, notes = _after_table(file)
    return Image(
        "esp",
        offset=TABLE_OFFSET,
        details=(*details, *signed.details),
        role="partition table",
        parts=(ImagePart("partition table", 0, TABLE_SIZE, secure_boot=signed.intact),),
        notes=notes,
    )


def _after_table(file: BinaryIO) -> tuple[Signatures, tuple[str, ...]]:
    """Read a signature of secure boot v1 after a table, and judge the other bytes there."""
    size = size_of(file)
    reader = Reader(file, "esp", min(TABLE_SIZE, size), size)
    signatures = read_v1(reader)
    return signatures, remark(others(reader, reader.left), "after the partition table")


def _otadata(file: BinaryIO, head: bytes, size: int) -> Image | None:
    if not _is_entry(head) and size != OTADATA_SIZE:
        return None
    file.seek(0)
    data = file.read(min(size, OTADATA_SIZE))
    found = entries(data)
    sectors = [data[start : start + SECTOR] for start in (0, SECTOR)]
    if any(sector[_ENTRY.size :].strip(b"\xff") for sector in sectors):
        return None  # more than entries: something else
    if size != OTADATA_SIZE:
        raise damaged("esp", "size of ota data", f"{OTADATA_SIZE} bytes", f"{size} bytes")
    details = []
    for number, entry in enumerate(found):
        if entry is None and sectors[number].strip(b"\xff"):
            raise damaged("esp", f"ota data entry {number}", "erased", "bytes without a number")
        if entry is not None and not entry.intact:
            raise damaged("esp", f"ota data entry {number}", "a crc that is right", "another")
        details.append((f"ota data entry {number}", f"{entry.sequence}" if entry else "erased"))
    parts = (ImagePart("ota data", 0, OTADATA_SIZE),)
    return Image("esp", details=tuple(details), role="ota data", parts=parts)


def _is_entry(head: bytes) -> bool:
    """Tell whether a file begins with a valid entry, which never happens by chance."""
    if len(head) < _ENTRY.size:
        return False
    sequence, _, state, crc = _ENTRY.unpack_from(head)
    return sequence != NO_SEQUENCE and state in _STATES and crc == _crc(sequence)
