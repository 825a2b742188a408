# SPDX-License-Identifier: Apache-2.0
"""The boot selection of an ESP board: its partition table, and the OTA data of its slots.

The valid entry of the OTA data with the highest number selects slot (number - 1) modulo the number
of OTA slots. If none is valid, the factory application boots, or slot 0 if there is no factory
partition.

Source: ESP-IDF programming guide, "Over The Air Updates", "Partition Tables"; ESP-IDF's otatool.
"""

import io
from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Unsuitable
from fwsign.flash.board import Run
from fwsign.images.esp import MAGIC
from fwsign.images.esp_data import OTADATA_SIZE, TABLE_OFFSET, entries, make_entry, otadata_of
from fwsign.images.esp_flash import SECTOR, TABLE_SIZE, Partition, is_table, partitions

_FACTORY: Final = 0x00
_SLOTS: Final = range(0x10, 0x20)
_OF_BOOTING: Final = (2, 3)  # types: a boot loader, the partition table itself


class Selection(NamedTuple):
    """The run that makes the written application boot, or a note why there is none."""

    run: Run | None = None
    note: str | None = None


def read_table(content: bytes) -> list[Partition] | None:
    """Read the partition table in the content of its sector; None if there is none.

    Raises:
        Malformed: `malformed.image`: it is damaged.
    """
    file = io.BytesIO(content[:TABLE_SIZE])
    return partitions(file, 0) if is_table(file, 0, TABLE_OFFSET) else None


def check_table(table: Sequence[Partition], at: int, flash_size: int | None) -> None:
    """Refuse a table whose partitions are outside the flash, or overlap the table itself.

    Args:
        table: its partitions.
        at: the table's offset.
        flash_size: the board's flash size; None if unknown.

    Raises:
        Unsuitable: `unsuitable.partition`.
    """
    for part in table:
        end = part.offset + part.size
        low = part.offset < at + SECTOR and part.type not in _OF_BOOTING
        if low or (flash_size is not None and end > flash_size):
            size = f"0x{flash_size:x}" if flash_size is not None else "the end of the flash"
            raise Unsuitable(
                "unsuitable.partition",
                f'partition "{part.label}" is at 0x{part.offset:x} to 0x{end:x}',
                expected=f"0x{at + SECTOR:x} to {size}",
                found=f"0x{part.offset:x} to 0x{end:x}",
            )


def check_app(table: Sequence[Partition], name: str, app: Run) -> None:
    """Refuse an application that is not at the beginning of an app partition, or does not fit.

    Raises:
        Unsuitable: `unsuitable.partition`.
    """
    for part in table:
        if part.is_app and part.offset == app.offset:
            if app.end > part.offset + part.size:
                raise Unsuitable(
                    "unsuitable.partition",
                    f'{name} has {len(app.data)} bytes, partition "{part.label}" has {part.size}',
                    expected=f"at most {part.size} bytes",
                    found=f"{len(app.data)} bytes",
                )
            return
    apps = ", ".join(f"{part.label} at 0x{part.offset:x}" for part in table if part.is_app)
    raise Unsuitable(
        "unsuitable.partition",
        f"{name} is an application, and no partition for one begins at 0x{app.offset:x}",
        expected=apps or "a partition for an application",
        found=f"0x{app.offset:x}",
    )


def select(table: Sequence[Partition], written: Sequence[Run], otadata: bytes | None) -> Selection:
    """Return the further run that makes a written application boot.

    Args:
        table: the future partition table.
        written: the signed runs to write.
        otadata: the future content of the OTA data partition; None if there is none, or if it
            cannot be read.
    """
    apps = [part for part in table if part.is_app and _begins(part, written)]
    part = otadata_of(table)
    if part is not None and otadata is None and apps:
        return Selection(note=f'the OTA data that may select "{apps[0].label}" cannot be read')
    if not apps or _booted(table, otadata) in apps:
        return Selection()
    chosen = next((app for app in apps if app.subtype in (_FACTORY, *_SLOTS)), None)
    if part is None or otadata is None or chosen is None:
        return Selection(note=f'nothing selects "{apps[0].label}", which was written')
    if any(run.offset < part.offset + OTADATA_SIZE and part.offset < run.end for run in written):
        return Selection(note=f'the OTA data of the release does not select "{chosen.label}"')
    if chosen.subtype == _FACTORY:
        return Selection(Run(part.offset, b"\xff" * OTADATA_SIZE))
    return Selection(_entry_for(table, chosen, part.offset, otadata))


def _begins(part: Partition, written: Sequence[Run]) -> bool:
    """Tell whether an image was written to the beginning of a partition."""
    return any(
        run.offset <= part.offset < run.end and run.data[part.offset - run.offset] == MAGIC
        for run in written
    )


def _slots(table: Sequence[Partition]) -> list[Partition]:
    slots = [part for part in table if part.is_app and part.subtype in _SLOTS]
    return sorted(slots, key=lambda part: part.subtype)


def _booted(table: Sequence[Partition], otadata: bytes | None) -> Partition | None:
    slots = _slots(table)
    sequence = max(_sequences(otadata or b""), default=0)
    if sequence and slots:
        return slots[(sequence - 1) % len(slots)]
    factory = next((part for part in table if part.is_app and part.subtype == _FACTORY), None)
    return factory or (slots[0] if slots else None)


def _sequences(otadata: bytes) -> list[int]:
    """Return the sequence numbers of the two entries, 0 for an invalid one."""
    return [one.sequence if one is not None and one.counts else 0 for one in entries(otadata)]


def _entry_for(table: Sequence[Partition], chosen: Partition, offset: int, otadata: bytes) -> Run:
    """Make the next entry in the unused sector, so that power may be lost meanwhile."""
    slots = _slots(table)
    sequences = _sequences(otadata) or [0, 0]
    newest = max(sequences)
    sequence = newest + 1
    while (sequence - 1) % len(slots) != slots.index(chosen):
        sequence += 1
    place = 1 if newest and sequences[0] == newest else 0
    return Run(offset + place * SECTOR, make_entry(sequence))
