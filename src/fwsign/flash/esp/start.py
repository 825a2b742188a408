# SPDX-License-Identifier: Apache-2.0
"""Tell whether a board will start the written firmware, and if not, why."""

from collections.abc import Callable, Sequence
from typing import Final

from fwsign.errors import Malformed, Unsuitable
from fwsign.flash.esp import boot as esp_boot
from fwsign.flash.esp.executed import Executed, ExecutedPlace, app_place
from fwsign.flash.esp.future import Future
from fwsign.flash.esp.kept_data import labels
from fwsign.flash.esp.table import PartitionTable
from fwsign.images import esp
from fwsign.images.esp_data import OTADATA_SIZE, otadata_of
from fwsign.images.esp_partitions import Partition

NO_TABLE: Final = "no partition table is in the release or on the board"

_MAGIC: Final = bytes([esp.MAGIC])


def boot_loader(future: Future, place: ExecutedPlace) -> Executed | str | None:
    """Return the boot loader as it will be; words if there is none; None if nothing tells."""
    try:
        part = future.part(place.offset, place.end)
    except Malformed as error:
        head = future.read(place.offset, 1)
        what = "there is none" if head == b"\xff" else f"it is damaged: {error.message}"
        return f"the chip starts a boot loader at 0x{place.offset:x}, and {what}"
    return None if part is None else Executed(place, part, None)


def may_need_no_table(brought: Executed | None) -> bool:
    """Tell whether a written image may be a program that the ROM starts, or MCUboot.

    ESP-IDF's own boot loaders have a descriptor since version 5.1; these have none.
    """
    return (
        brought is not None
        and brought.payload is not None
        and ("descriptor", "none") in brought.payload.image.details
    )


def app_reason(
    table: PartitionTable,
    found: Sequence[Executed],
    future: Future,
    check: Callable[[Executed], None],
) -> str | None:
    """Return why the boot loader will find no application; None if it will find one.

    A written one was judged before. Without one, the board's own are read, until one is intact and
    suits the board: another table may give them other bounds or place another one first.

    Args:
        table: the table in force.
        found: the written images.
        future: the flash as it will be.
        check: raises `Unsuitable` for an image that the board does not start.
    """
    if any(_is_at(part, found) for part in table.apps):
        return None
    reasons = []
    for part in table.apps:
        place = app_place(part)
        try:
            image = future.part(place.offset, place.end)
            if image is not None:
                check(Executed(place, image, None))
        except Malformed as error:
            if future.read(part.offset, 1) == _MAGIC:
                reasons.append(f'the one in "{part.label}" is damaged or cut: {error.message}')
        except Unsuitable as error:
            reasons.append(error.message)
        else:
            return None  # it starts, or the flash cannot be read
    if reasons:
        return f"no application is one to start: {'; '.join(reasons)}"
    return f"no application is in {labels(table.apps) or 'the partition table'}"


def selection(
    table: PartitionTable,
    found: Sequence[Executed],
    future: Future,
    check: Callable[[Executed], None],
) -> esp_boot.Selection:
    """Return the run that makes a written application start, or the reason why nothing does.

    Args:
        table: the table in force.
        found: the written images.
        future: the flash as it will be.
        check: raises `Unsuitable` for an image that the board does not start.
    """
    part = otadata_of(table.partitions)
    otadata = future.read(part.offset, OTADATA_SIZE) if part is not None else None
    fresh = part is not None and future.written(part.offset, OTADATA_SIZE)
    written = [one for one in table.apps if _is_at(one, found)]
    if fresh and not written:
        return esp_boot.Selection(control=_empty_choice(table, otadata, future, check))
    return esp_boot.select(table.partitions, written, otadata, fresh=fresh)


def _empty_choice(
    table: PartitionTable, otadata: bytes | None, future: Future, check: Callable[[Executed], None]
) -> str | None:
    """Say that the release's OTA data select a slot without an application that starts."""
    chosen = esp_boot.booted(table.partitions, otadata)
    if chosen is None:
        return "nothing tells which application the OTA data select"
    place = app_place(chosen)
    try:
        image = future.part(place.offset, place.end)
        if image is not None:
            check(Executed(place, image, None))
    except Malformed:
        return f'the OTA data select "{chosen.label}", which has no whole application'
    except Unsuitable as error:
        return f'the OTA data select "{chosen.label}", and {error.message}'
    return None


def _is_at(app: Partition, found: Sequence[Executed]) -> bool:
    return any(one.place.offset == app.offset for one in found)
