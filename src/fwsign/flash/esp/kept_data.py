# SPDX-License-Identifier: Apache-2.0
"""Keep the data of a board when a merged image is written over it.

A merged image covers the flash from the boot loader to the application, with blank bytes over the
data partitions: settings, Wi-Fi calibration, the slot to start. This data is the board's own.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fwsign.flash.boards.board import Read, Run
from fwsign.flash.esp.future import READ_SIZE
from fwsign.flash.esp.table import PartitionTable
from fwsign.images.esp_partitions import SECTOR, Partition

_OTHERS: Final = (0, 2, 3)  # types: applications, boot loader, partition table
_BLANK: Final = b"\xff"
_ERASED: Final = 0xFF


class Kept(NamedTuple):
    """Flash that is left as it is; offset and size in bytes."""

    label: str
    offset: int
    size: int


def kept_of(
    run: Run, table: PartitionTable, before: PartitionTable | None, read: Read
) -> list[Kept]:
    """Return the data partitions under a merged image that belong to the board.

    A partition belongs to the board if its table already has the same one. Content that the image
    brings for it is written only if the partition holds nothing else yet; so a run that was cut
    short goes on.

    Args:
        run: the merged image.
        table: the table that it brings.
        before: the table that the board has.
        read: reads the board's flash.
    """
    places = [one[1:] for one in before.partitions] if before is not None else []
    kept = []
    for part in table.partitions:
        start, end = max(part.offset, run.offset), min(part.offset + part.size, run.end)
        if part.type in _OTHERS or start >= end:
            continue
        brought = run.data[start - run.offset : end - run.offset]
        if part[1:] in places and (_is_blank(brought) or _has_own(brought, start, read)):
            kept.append(Kept(part.label, part.offset, part.size))
    return kept


def apart_of(run: Run, others: Sequence[Run], table: PartitionTable) -> list[Kept]:
    """Return where other components fill blank bytes of a merged image's data partitions.

    Args:
        run: the merged image.
        others: the other components.
        table: the table that the merged image brings.
    """
    found = []
    for other in others:
        start, end = other.offset, -(-other.end // SECTOR) * SECTOR
        inside = any(
            one.type not in _OTHERS and one.offset <= start and end <= one.offset + one.size
            for one in table.partitions
        )
        if (
            inside
            and run.offset <= start
            and _is_blank(run.data[start - run.offset :][: end - start])
        ):
            found.append(Kept("", start, end - start))
    return found


def touches(one: Kept, run: Run) -> bool:
    """Tell whether a component of its own is written into a kept partition."""
    return one.offset < run.end and run.offset < one.offset + one.size


def was_cut_short(run: Run, table: PartitionTable, read: Read) -> bool:
    """Tell whether a board without a table lost it while this merged image was written.

    All else is written before the table, so the image's application and its end are there. What the
    former table kept is then still the board's own, and all the rest is blank already.

    Args:
        run: the merged image.
        table: the table that it brings.
        read: reads the board's flash.
    """
    apps = [one.offset for one in table.apps if run.offset <= one.offset < run.end]
    places = [*apps, max(run.end - SECTOR, run.offset)]
    pieces = [(at, run.data[at - run.offset :][:SECTOR]) for at in places]
    if all(_is_blank(piece) for at, piece in pieces if at in apps):
        return False
    return all(read(at, len(piece)) == piece for at, piece in pieces)


def lost_of(run: Run, table: PartitionTable, before: PartitionTable | None) -> list[str]:
    """Return the board's data partitions under a merged image that its table does not have.

    One that both tables have, and that is not kept, held nothing but the image's own content.
    """
    places = [one[1:] for one in table.partitions]
    rows = before.partitions if before is not None else ()
    return [
        one.label
        for one in rows
        if one.type not in _OTHERS
        and one.offset < run.end
        and run.offset < one.offset + one.size
        and one[1:] not in places
    ]


def _has_own(brought: bytes, start: int, read: Read) -> bool:
    """Tell whether a sector holds something else than what the image wants, or a part of it."""
    for at in range(0, len(brought), READ_SIZE):
        wanted = brought[at : at + READ_SIZE]
        content = read(start + at, len(wanted))
        if content is None:
            return False
        for sector in range(0, len(wanted), SECTOR):
            now = content[sector : sector + SECTOR]
            if not _is_begun(now, wanted[sector : sector + SECTOR]):
                return True
    return False


def _is_begun(now: bytes, wanted: bytes) -> bool:
    """Tell whether a sector is what a run leaves that lost its power: as wanted, blank elsewhere.

    While the last byte was programmed, only some of its bits may have been cleared.
    """
    end = max(len(now.rstrip(_BLANK)) - 1, 0)
    if now[end] & wanted[end] != wanted[end]:
        return False
    return all(one in (_ERASED, other) for one, other in zip(now[:end], wanted, strict=False))


def _is_blank(data: bytes) -> bool:
    return not data.strip(_BLANK)


def cut(run: Run, kept: Sequence[Kept], table: PartitionTable | None = None) -> Iterator[Run]:
    """Yield the pieces of a merged image that are written; the table's sector is one of its own.

    Args:
        run: the merged image.
        kept: what is left out of it.
        table: the table that it brings; None if it was cut there already.
    """
    edges = {table.at, table.end} if table is not None else set[int]()
    edges |= {edge for one in kept for edge in (one.offset, one.offset + one.size)}
    inner = sorted(edge for edge in edges if run.offset < edge < run.end)
    places = [run.offset, *inner, run.end]
    for start, end in itertools.pairwise(places):
        if not any(one.offset <= start < one.offset + one.size for one in kept):
            yield Run(start, run.data[start - run.offset : end - run.offset])


def labels(partitions: Sequence[Partition]) -> str:
    """Return the names of partitions and their places, for a message."""
    return ", ".join(f'"{one.label}" at 0x{one.offset:x}' for one in partitions)
