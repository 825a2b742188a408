# SPDX-License-Identifier: Apache-2.0
"""The partition table that is in force after a run: the release's own, otherwise the board's.

The table's place is compiled into the boot loader, which does not state it. 0x8000 is usual; larger
boot loaders have it at a later sector.
"""

import io
from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Unsuitable
from fwsign.flash.boards.board import Read
from fwsign.flash.boards.release import Payload
from fwsign.images.esp_data import TABLE_OFFSET
from fwsign.images.esp_partitions import SECTOR, TABLE_SIZE, Partition, is_table, partitions

LAST_PLACE: Final = 0x20000
"""The last offset where a board's table is looked for."""
_TABLES: Final = 3  # type of partitions for the partition table itself
_OF_BOOTING: Final = (2, _TABLES)  # types: a boot loader, a partition table


class PartitionTable(NamedTuple):
    """A partition table in flash.

    Args:
        at: its offset in flash.
        partitions: its rows.
        payload: the payload that brings it; None for the board's own.
    """

    at: int
    partitions: Sequence[Partition]
    payload: Payload | None = None

    @property
    def end(self) -> int:
        """The first offset after its sector."""
        return self.at + SECTOR

    @property
    def apps(self) -> list[Partition]:
        """The partitions for applications."""
        return [part for part in self.partitions if part.is_app]


def of_release(payloads: Sequence[Payload]) -> PartitionTable | None:
    """Return the table that a release brings, as a file of its own or in a merged image.

    Raises:
        Unsuitable: `unsuitable.partition`: it brings two.
    """
    found = [table for one in payloads if (table := _brought(one)) is not None]
    if len(found) > 1:
        names = " and ".join(one.payload.component.name for one in found if one.payload)
        raise Unsuitable(
            "unsuitable.partition",
            f"{names} are both partition tables, a board has one",
            expected="one partition table",
            found=names,
        )
    return found[0] if found else None


def _brought(payload: Payload) -> PartitionTable | None:
    for part in payload.image.parts:
        if part.role == "partition table":
            rows = read_rows(payload.data[part.start :]) or []
            return PartitionTable(payload.offset + part.start, rows, payload)
    return None


def of_board(read: Read, own: PartitionTable | None = None) -> PartitionTable | None:
    """Return the table that a board has; None if it has none, or cannot be read.

    A release that moved the table has left the former one where it was. The place of the release's
    own table counts first; without one, nothing tells which of two tables is in force.

    Args:
        read: reads its flash.
        own: the release's table, which replaces a damaged one.

    Raises:
        Unsuitable: `unsuitable.partition`: it is damaged, or there are two.
    """
    if own is not None and (same := _table_at(read, own.at, damaged_is_none=True)) is not None:
        return same
    found: PartitionTable | None = None
    end = LAST_PLACE
    for at in range(TABLE_OFFSET, LAST_PLACE, SECTOR):
        if at >= end:
            break
        table = _table_at(read, at, damaged_is_none=own is not None or found is not None)
        if table is None:
            continue
        if found is None:
            found = table
            if own is not None:
                break
            end = min((one.offset for one in table.apps), default=end)  # these may hold anything
        elif not _is_copy(found, at):
            raise _two_tables(found, table)
    return found


def _is_copy(table: PartitionTable, at: int) -> bool:
    """Tell whether a table says itself that another one lies at a place."""
    return any(
        row.type == _TABLES and row.offset <= at < row.offset + row.size for row in table.partitions
    )


def _table_at(read: Read, at: int, *, damaged_is_none: bool) -> PartitionTable | None:
    """Return the table at a place, if there is one."""
    head = read(at, 2)
    content = read(at, SECTOR) if head is not None and is_row(head) else None
    if content is None:
        return None
    try:
        rows = read_rows(content)
    except Malformed as error:
        if damaged_is_none:
            return None
        raise Unsuitable(
            "unsuitable.partition",
            f"the board's partition table is damaged: {error.message}",
            expected=error.expected,
            found=error.found,
        ) from None
    return PartitionTable(at, rows) if rows else None


def _two_tables(first: PartitionTable, second: PartitionTable) -> Unsuitable:
    places = f"0x{first.at:x} and 0x{second.at:x}"
    return Unsuitable(
        "unsuitable.partition",
        f"the board has partition tables at {places}, and its boot loader alone knows which counts",
        expected="one partition table",
        found=places,
        hint="sign and flash the table in force in the same release",
    )


def is_row(head: bytes) -> bool:
    """Tell whether bytes begin like a table."""
    return is_table(io.BytesIO(head), 0, TABLE_OFFSET)


def read_rows(content: bytes) -> list[Partition] | None:
    """Read the partition table in the content of its sector; None if there is none.

    Raises:
        Malformed: `malformed.image`: it is damaged.
    """
    file = io.BytesIO(content[:TABLE_SIZE])
    return partitions(file, 0) if is_table(file, 0, TABLE_OFFSET) else None


def check(table: PartitionTable, flash_size: int | None) -> None:
    """Refuse a table whose partitions are outside the flash, or overlap the table itself.

    Args:
        table: the table.
        flash_size: the board's flash size; None if unknown.

    Raises:
        Unsuitable: `unsuitable.partition`.
    """
    for part in table.partitions:
        end = part.offset + part.size
        low = part.offset < table.end and part.type not in _OF_BOOTING
        if low or (flash_size is not None and end > flash_size):
            size = f"0x{flash_size:x}" if flash_size is not None else "the end of the flash"
            raise Unsuitable(
                "unsuitable.partition",
                f'partition "{part.label}" is at 0x{part.offset:x} to 0x{end:x}, '
                f"there is room from 0x{table.end:x} to {size}",
                expected=f"0x{table.end:x} to {size}",
                found=f"0x{part.offset:x} to 0x{end:x}",
                hint="the partition table is for another board: build it for this one's flash",
            )
