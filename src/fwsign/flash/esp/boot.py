# SPDX-License-Identifier: Apache-2.0
"""The boot selection of an ESP board: the OTA data of its slots.

The valid entry of the OTA data with the highest number selects slot (number - 1) modulo the number
of OTA slots. If none is valid, the factory application boots, or slot 0 if there is no factory
partition. An entry whose application has not confirmed itself is valid once: a boot loader with
rollback gives it up at the next start, so it selects nothing here.

Source: ESP-IDF programming guide, "Over The Air Updates", "Partition Tables"; ESP-IDF's otatool.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.flash.boards.board import Run
from fwsign.images.esp_data import NO_SEQUENCE, OTADATA_SIZE, entries, make_entry, otadata_of
from fwsign.images.esp_partitions import SECTOR, Partition

_FACTORY: Final = 0x00
_SLOTS: Final = range(0x10, 0x20)
_PENDING: Final = 1  # the state of an application that was started and is not confirmed


class Selection(NamedTuple):
    """The run that makes the written application boot.

    Args:
        run: the run; None if none is needed, or there is none.
        note: why there is none, though the table has a place for it.
        control: why there can be none: the table leaves it to the applications, or the board
            cannot be read.
    """

    run: Run | None = None
    note: str | None = None
    control: str | None = None


def select(
    table: Sequence[Partition], apps: Sequence[Partition], otadata: bytes | None, *, fresh: bool
) -> Selection:
    """Return the further run that makes a written application boot.

    Args:
        table: the future partition table.
        apps: its partitions that an application is written to.
        otadata: the future content of the OTA data partition; None if there is none, or if it
            cannot be read.
        fresh: whether the release brings OTA data, which is never replaced.
    """
    part = otadata_of(table)
    if part is not None and otadata is None and apps:
        return Selection(control=f'the OTA data that may select "{apps[0].label}" cannot be read')
    if not apps or booted(table, otadata) in apps:
        return Selection()
    slots = _slots(table)
    known = (_factory(table), *slots.values())
    chosen = next((app for app in apps if app in known), None)
    if part is None and chosen is not None:
        return Selection(control=f'nothing selects "{chosen.label}", which was written')
    if part is None or otadata is None or chosen is None:
        return Selection(note=f'nothing selects "{apps[0].label}", which was written')
    if fresh:
        return Selection(note=f'the OTA data of the release does not select "{chosen.label}"')
    if chosen.subtype == _FACTORY:
        return Selection(Run(part.offset, b"\xff" * OTADATA_SIZE))
    number = next(number for number, one in slots.items() if one == chosen)
    return Selection(_entry_for(number, _count(table), part.offset, otadata))


def _factory(table: Sequence[Partition]) -> Partition | None:
    """Return the factory partition; of several, a boot loader takes the last."""
    return next(
        (part for part in reversed(table) if part.is_app and part.subtype == _FACTORY), None
    )


def _count(table: Sequence[Partition]) -> int:
    """Return the number of slots as a boot loader counts them: a repeated one counts again."""
    return sum(part.is_app and part.subtype in _SLOTS for part in table)


def _slots(table: Sequence[Partition]) -> dict[int, Partition]:
    """Return the slots by number, of repeated ones the last; numbers are below their count."""
    slots = {
        part.subtype - _SLOTS.start: part
        for part in table
        if part.is_app and part.subtype in _SLOTS
    }
    return {number: part for number, part in slots.items() if number < _count(table)}


def booted(table: Sequence[Partition], otadata: bytes | None) -> Partition | None:
    """Return the partition that the boot loader starts; None if nothing tells for sure.

    Args:
        table: the partition table.
        otadata: both sectors of the OTA data; None if there is none.
    """
    slots = _count(table)
    valid = [one for one in entries(otadata or b"") if one is not None and one.counts]
    newest = max(valid, key=lambda one: one.sequence, default=None)
    if newest is not None and slots:
        if newest.state == _PENDING:
            return None
        return _slots(table).get((newest.sequence - 1) % slots)
    return _factory(table) or _slots(table).get(0)


def _sequences(otadata: bytes) -> list[int]:
    """Return the sequence numbers of the two entries, 0 for an invalid one."""
    return [one.sequence if one is not None and one.counts else 0 for one in entries(otadata)]


def _entry_for(number: int, slots: int, offset: int, otadata: bytes) -> Run:
    """Make the next entry in the unused sector, so that power may be lost meanwhile.

    Args:
        number: the slot to select.
        slots: the number of slots.
        offset: the OTA data's place.
        otadata: its present content.
    """
    sequences = _sequences(otadata) or [0, 0]
    newest = max(sequences)
    sequence = newest + 1
    while (sequence - 1) % slots != number:
        sequence += 1
    if sequence >= NO_SEQUENCE:  # the numbers are used up: begin anew, with one entry
        return Run(offset, make_entry(number + 1) + b"\xff" * SECTOR)
    place = 1 if newest and sequences[0] == newest else 0
    return Run(offset + place * SECTOR, make_entry(sequence))
