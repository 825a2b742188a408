# SPDX-License-Identifier: Apache-2.0
"""The content of an ESP: boot loader, partition table, applications, and the selected one."""

from typing import Final

from fwsign.errors import Unsuitable
from fwsign.flash.boards.board import BoardInfo
from fwsign.flash.boards.content import BoardContent, BoardEntry, ReadAll
from fwsign.flash.esp import boot as esp_boot
from fwsign.flash.esp import table as esp_table
from fwsign.images.esp_chips import ESP8266, bootloader_offset
from fwsign.images.esp_data import OTADATA_SIZE, otadata_of
from fwsign.images.esp_glance import HEAD_SIZE, glance
from fwsign.images.esp_partitions import SECTOR, Partition

_ENTRY_SIZE: Final = 32
_BLANK: Final = b"\xff"


def look(read: ReadAll, info: BoardInfo) -> BoardContent:
    """Read the beginnings of all that is executed, and the table.

    Args:
        read: reads the board's flash.
        info: what the board says of itself.

    Raises:
        Failed: `device.*`.
    """
    boot = _entry("boot loader", bootloader_offset(info.chip or "") or 0, None, read)
    if info.chip == ESP8266:
        return BoardContent((boot._replace(name="program"),))
    try:
        table = esp_table.of_board(read)
    except Unsuitable as error:
        return BoardContent((boot,), (error.message,))
    if table is None:
        return BoardContent((boot,), ("there is no partition table",))
    rows = table.partitions
    otadata = otadata_of(rows)
    selected = esp_boot.booted(rows, _sectors(read, otadata.offset) if otadata else None)
    entries = [_partition(one, read, selected) for one in sorted(rows, key=lambda one: one.offset)]
    count = ("partitions", str(len(rows)))
    entries.append(
        BoardEntry("partition table", table.at, SECTOR, "partition table", details=(count,))
    )
    note = "nothing tells which application starts"
    return BoardContent(
        tuple(sorted((boot, *entries), key=lambda one: one.offset or 0)),
        () if selected is not None or not table.apps else (note,),
    )


def _partition(part: Partition, read: ReadAll, selected: Partition | None) -> BoardEntry:
    if not part.is_app:
        kind = ("type", f"{part.type:#x}, {part.subtype:#x}")
        return BoardEntry(part.label, part.offset, part.size, "data", details=(kind,))
    found = _entry(part.label, part.offset, part.size, read)
    return found._replace(starts=part == selected)


def _entry(name: str, offset: int, size: int | None, read: ReadAll) -> BoardEntry:
    head = read(offset, HEAD_SIZE)
    found = glance(head)
    if found is None:
        holds = "unknown" if head.strip(_BLANK) else "blank"
        return BoardEntry(name, offset, size, holds)
    chip = (("chip", found.chip),) if found.chip else ()
    details = (*chip, *found.details)
    return BoardEntry(name, offset, size, found.role, found.project, found.version, None, details)


def _sectors(read: ReadAll, offset: int) -> bytes:
    """Return the OTA data, of which only the entries are read."""
    heads = [read(offset + at, _ENTRY_SIZE) for at in range(0, OTADATA_SIZE, SECTOR)]
    return b"".join(head.ljust(SECTOR, _BLANK) for head in heads)
