# SPDX-License-Identifier: Apache-2.0
"""Check that everything a release writes to an ESP lies where the partition table has room for it.

The table that judges is the one in force after the run. A write is never its own witness: only a
recognised partition table, alone or in a merged image, assigns places.
"""

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from fwsign.errors import Unsuitable
from fwsign.flash.boards.board import Run
from fwsign.flash.boards.release import Payload
from fwsign.flash.boards.waivers import LAYOUT, RAW
from fwsign.flash.esp.table import PartitionTable
from fwsign.images import Image, esp
from fwsign.images.esp_data import TABLE_OFFSET, otadata_of
from fwsign.images.esp_partitions import Partition

Piece: TypeAlias = tuple[Payload, Run]
"""A payload, or a part of it, at its place."""
_NO_IMAGE: Final = "no image for an ESP"
RAW_HINT: Final = "--raw writes it all the same"


def check_places(
    pieces: Sequence[Piece], table: PartitionTable | None, waived: Collection[str]
) -> None:
    """Refuse images and OTA data that are not in a partition of their kind.

    Args:
        pieces: what is written.
        table: the table in force; None if unknown.
        waived: names of waivers.

    Raises:
        Unsuitable: `unsuitable.region`, `unsuitable.partition`.
    """
    for payload, run in pieces:
        role = payload.image.role
        if role == "ota data" and table is not None:
            _check_otadata(payload, otadata_of(table.partitions))
        if role not in ("merged", "partition table"):  # reading these checked their own layout
            _refuse_over_table(payload, run, table)
        if role == "application" and table is not None and LAYOUT not in waived:
            check_app(table.partitions, payload.component.name, run)


def check_data(
    pieces: Sequence[Piece], table: PartitionTable | None, chip: str, waived: Collection[str]
) -> None:
    """Refuse data over the boot loader, an application or OTA data, or beyond its partition.

    Args:
        pieces: what is written.
        table: the table in force; None if unknown.
        chip: the board's chip.
        waived: names of waivers.

    Raises:
        Unsuitable: `unsuitable.region`, `unsuitable.partition`.
    """
    for payload, run in pieces:
        # Where MCUboot boots there is no such table.
        is_data = payload.image.role is None and payload.image.kind != "mcuboot"
        if is_data and RAW not in waived:
            _check_data(payload, run, table, esp.bootloader_offset(chip) or 0)


def told(payload: Payload, table: PartitionTable) -> Payload:
    """Return blank bytes at the beginning of other data as data: only their size says OTA data.

    Args:
        payload: a payload.
        table: the table in force.
    """
    blank = payload.image.role == "ota data" and not payload.data.strip(b"\xff")
    others = [
        part.offset
        for part in table.partitions
        if not part.is_app and part != otadata_of(table.partitions)
    ]
    return (
        payload._replace(image=Image("unknown")) if blank and payload.offset in others else payload
    )


def _check_otadata(payload: Payload, part: Partition | None) -> None:
    if part is None or part.offset != payload.offset:
        expected = f"0x{part.offset:x}" if part else "a partition for it in the table"
        raise payload.misplaced(expected, f"OTA data at 0x{payload.offset:x}")


def _refuse_over_table(payload: Payload, run: Run, table: PartitionTable | None) -> None:
    """Refuse to write over the table in force, or over the place where it usually is."""
    at = table.at if table is not None else TABLE_OFFSET
    if table is None and payload.image.role == "boot loader":
        return  # a large one, which has its table elsewhere
    if run.offset <= at < run.end:
        words = payload.image.role or "other bytes"
        raise payload.misplaced(f"a partition table at 0x{at:x}", words)


def _check_data(payload: Payload, run: Run, table: PartitionTable | None, boot: int) -> None:
    limit = table.at if table is not None else TABLE_OFFSET
    if run.offset < limit and boot < run.end and boot < limit:
        raise payload.misplaced(f"the boot loader below 0x{limit:x}", _NO_IMAGE, RAW_HINT)
    rows = table.partitions if table is not None else ()
    under = [one for one in rows if one.offset < run.end and run.offset < one.offset + one.size]
    for part in under:
        if part.is_app:
            what = f'an application in "{part.label}" at 0x{part.offset:x}'
            raise payload.misplaced(what, _NO_IMAGE, RAW_HINT)
        if part == otadata_of(rows):
            raise payload.misplaced(f'OTA data in "{part.label}"', "other bytes", RAW_HINT)
    for part in under:
        end = part.offset + part.size
        if run.offset < part.offset or run.end > end:
            place, room = f"0x{run.offset:x} to 0x{run.end:x}", f"0x{part.offset:x} to 0x{end:x}"
            raise Unsuitable(
                "unsuitable.partition",
                f'{payload.component.name} goes to {place}, partition "{part.label}" is at {room}',
                expected=f"within {room}",
                found=place,
                hint=RAW_HINT,
            )


def outside(pieces: Sequence[Piece], table: PartitionTable) -> list[str]:
    """Say of applications that are at no place for one that nothing starts them.

    Args:
        pieces: what is written.
        table: the table in force.
    """
    places = [one.offset for one in table.apps]
    return [
        f"no partition for an application begins where {payload.component.name} was written"
        for payload, run in pieces
        if payload.image.role == "application" and run.offset not in places
    ]


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
        hint="sign it for one of these places; --accept layout writes it all the same",
    )
