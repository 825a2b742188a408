# SPDX-License-Identifier: Apache-2.0
"""Merged files for an ESP: a boot loader, a partition table and all that the table names.

The boot loader has one place in the flash of its chip, so it tells to which offset the file's first
byte goes. The table says where applications are: each of these partitions is erased, or holds an
intact image for the same chip that fits. An application anywhere else would never start. All else
in partitions is the user's; bytes that are in none are counted in a note.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fwsign.images.base import Image, Part, Reader, damaged, others, size_of
from fwsign.images.esp_data import OTADATA_SIZE, TABLE_OFFSET, otadata_of
from fwsign.images.esp_flash import (
    DIGEST_ROW,
    ROW_SIZE,
    SECTOR,
    TABLE_SIZE,
    Partition,
    is_row,
    partitions,
)
from fwsign.images.esp_image import HEADER, extent
from fwsign.images.esp_part import One, read_one, remark, tail


class _Layout(NamedTuple):
    """A merged file: sizes and positions are of the file, `base` is the flash offset of byte 0."""

    file: BinaryIO
    size: int
    base: int
    table: int
    rows: list[Partition]

    def start_of(self, row: Partition) -> int:
        """Return the position of a partition in the file, which may be outside of it."""
        return row.offset - self.base

    def end_of(self, row: Partition) -> int:
        """Return the first position after a partition, at most the end of the file."""
        return min(row.offset + row.size - self.base, self.size)

    def reader(self, start: int, end: int) -> Reader:
        """Return a reader for a part of the file."""
        start = min(max(start, 0), self.size)
        return Reader(self.file, "esp", start, min(max(end, start), self.size))


class _Found(NamedTuple):
    """The applications of a merged file."""

    parts: tuple[Part, ...]
    apps: tuple[One, ...]
    details: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def find_table(file: BinaryIO, start: int) -> int | None:
    """Return the position of the first partition table on a sector from `start` on.

    One of its first two rows says what it is, so that a damaged one does not pass as other bytes.
    """
    size = size_of(file)
    for at in _sectors(start, size):
        head = Reader(file, "esp", at, size).peek(2 * ROW_SIZE)
        if is_row(head[:ROW_SIZE]) or is_row(head[ROW_SIZE:]):
            return at
    return None


def refuse_unplaced(file: BinaryIO, start: int) -> None:
    """Refuse images after a boot loader that no partition table places, and a table off its place.

    Raises:
        Malformed: `malformed.image`.
    """
    size = size_of(file)
    at = _image_in(file, start, size)
    if at is not None:
        what = f"partition table before the image at {at:#x}"
        raise damaged("esp", what, "one on a 4 KiB boundary", "none")
    before = b""
    for piece in Reader(file, "esp", start, size).pieces(size - start, "bytes after the image"):
        if DIGEST_ROW in before + piece:
            raise damaged("esp", "partition table", "one on a 4 KiB boundary", "one elsewhere")
        before = piece[-len(DIGEST_ROW) :]


def merged(file: BinaryIO, boot: One, table: int | None) -> Image:
    """Read a merged file.

    Args:
        file: seekable.
        boot: its boot loader, the first thing in it that is not erased.
        table: the position of its partition table; None if it has none.

    Raises:
        Malformed: `malformed.image`.
    """
    base = boot.chip.bootloader - boot.start
    usual = table is not None and table + base == TABLE_OFFSET
    if base < 0 or (base and boot.start and not usual):
        what = f"place of the boot loader for {boot.chip.name}"
        raise damaged("esp", what, f"{boot.chip.bootloader:#x}", f"{boot.start:#x}")
    if table is None:
        refuse_unplaced(file, boot.end)
        note = tail(file, boot.end, "boot loader")
        return Image(
            "esp",
            boot.chip.name,
            offset=base,
            details=boot.details,
            role="merged",
            parts=(boot.part(),),
            notes=(*note, "no partition table is in the file"),
        )
    layout = _Layout(file, size_of(file), base, table, partitions(file, table))
    _check_table(layout, boot)
    found = _applications(layout, boot)
    unsure = "" if usual or found.apps else f"the partition table is at {table + base:#x}"
    doubt = f"{unsure}: boot loaders look for it at {TABLE_OFFSET:#x} unless built otherwise"
    return Image(
        "esp",
        boot.chip.name,
        version=_same([one.app.version for one in found.apps if one.app]),
        project=_same([one.app.project for one in found.apps if one.app]),
        offset=base,
        details=(
            *boot.details,
            ("merged", f"partition table at {table + base:#x}"),
            *found.details,
            *dict.fromkeys(
                pair
                for one in found.apps
                for pair in (one.app.details if one.app else ())
                if pair[0] == "framework"
            ),
        ),
        role="merged",
        parts=(boot.part(), *_table_parts(layout), *found.parts),
        notes=(*found.notes, *([doubt] if unsure else ()), *_gaps(layout, boot)),
    )


def _same(texts: list[str | None]) -> str | None:
    """Return the text that all applications have."""
    return texts[0] if texts and len(set(texts)) == 1 else None


def _check_table(layout: _Layout, boot: One) -> None:
    """Refuse a table that lies over a partition or before it: it was made for another place."""
    start, end = layout.table + layout.base, layout.table + layout.base + SECTOR
    for row in layout.rows:
        over = row.offset < end and row.offset + row.size > start
        if over or (row.is_app and row.offset < end):
            _refuse_shifted(layout, boot)
            what = f"offset of partition {row.label}"
            raise damaged("esp", what, f"{end:#x} or more, after the table", f"{row.offset:#x}")


def _refuse_shifted(layout: _Layout, boot: One) -> None:
    """Refuse a file that was laid out from the start of flash, with its boot loader there."""
    if layout.base == 0:
        return
    for row in layout.rows:
        if row.is_app and extent(layout.file, min(row.offset, layout.size), layout.size):
            what = f"place of the boot loader for {boot.chip.name}, by the place of {row.label}"
            raise damaged("esp", what, f"{boot.chip.bootloader:#x}", f"{boot.start:#x}")


def _table_parts(layout: _Layout) -> Iterator[Part]:
    """Yield the table, and the OTA data if the file has all of it."""
    yield Part("partition table", layout.table, min(layout.table + TABLE_SIZE, layout.size))
    row = otadata_of(layout.rows)
    if row is not None and 0 <= layout.start_of(row) <= layout.size - OTADATA_SIZE:
        start = layout.start_of(row)
        yield Part("ota data", start, start + OTADATA_SIZE, label=row.label)


def _applications(layout: _Layout, boot: One) -> _Found:
    """Read the application partitions."""
    parts, apps, details, notes = [], [], [], []
    for row in layout.rows:
        words = f"{row.size} bytes at {row.offset:#x}"
        start = layout.start_of(row)
        if row.is_app and 0 <= start < layout.size:
            if layout.reader(start, layout.end_of(row)).peek(HEADER.size).strip(b"\xff"):
                one = _application(layout, row, boot)
                names = (one.app.project, one.app.version) if one.app else ()
                words += f", holds {' '.join(filter(None, names)) or 'an image'}"
                parts.append(one.part(row.label))
                apps.append(one)
                notes += [f"{row.label}: {note}" for note in one.notes]
                rest = layout.reader(one.end, layout.end_of(row))
                notes += remark(others(rest, rest.left), f"after the application in {row.label}")
            else:
                notes += _erased(layout, row, boot)
        details.append((f"partition {row.label}", words))
    if not apps:
        notes.append("no application is in the file: by itself it starts nothing")
    return _Found(tuple(parts), tuple(apps), tuple(details), tuple(notes))


def _application(layout: _Layout, row: Partition, boot: One) -> One:
    """Read the image in a partition for applications."""
    start = layout.start_of(row)
    size = extent(layout.file, start, layout.size)
    if size is not None and size > row.size:
        raise damaged("esp", f"image in {row.label}", f"at most {row.size} bytes", f"{size} bytes")
    if size is not None and start + size > layout.size:
        there = layout.size - start
        expected = f"at least {size} bytes"
        raise damaged("esp", f"image in {row.label}", expected, f"{there} bytes, cut")
    one = read_one(layout.file, start, layout.end_of(row))
    if one.chip != boot.chip:
        raise damaged("esp", f"chip of {row.label}", boot.chip.name, one.chip.name)
    return one


def _erased(layout: _Layout, row: Partition, boot: One) -> tuple[str, ...]:
    """Judge a partition for an application that begins erased."""
    start, end = layout.start_of(row), layout.end_of(row)
    at = _image_in(layout.file, start, end)
    if at is not None:
        _refuse_shifted(layout, boot)
        what = f"place of the application in {row.label}"
        raise damaged("esp", what, f"{row.offset:#x}", f"{at + layout.base:#x}")
    rest = layout.reader(start, end)
    return remark(others(rest, rest.left), f"in {row.label}, which begins erased,")


def _gaps(layout: _Layout, boot: One) -> Iterator[str]:
    """Yield notes about bytes in no partition; refuse applications there.

    Raises:
        Malformed: `malformed.image`.
    """
    known = [(boot.start, boot.end), (layout.table, layout.table + TABLE_SIZE)]
    known += [(layout.start_of(row), layout.end_of(row)) for row in layout.rows]
    at, before = 0, "at the beginning"
    names = ["after the boot loader", "after the partition table"]
    names += [f"after {row.label}" for row in layout.rows]
    for (start, end), name in sorted(zip(known, names, strict=True)):
        yield from _gap(layout, at, start, before)
        if end > at:
            at, before = end, name
    yield from _gap(layout, at, layout.size, before)


def _gap(layout: _Layout, start: int, end: int, where: str) -> tuple[str, ...]:
    start, end = max(start, 0), min(end, layout.size)
    if start >= end:
        return ()
    rest = layout.reader(start, end)
    found = others(rest, rest.left)
    at = _image_in(layout.file, start, end) if found else None
    if at is not None:
        what = f"partition for the image at {at + layout.base:#x}"
        raise damaged("esp", what, "one that begins there", "none")
    return remark(found, where)


def _image_in(file: BinaryIO, start: int, end: int) -> int | None:
    """Return the place of the first image that begins on a sector; headers alone are read."""
    size = size_of(file)
    for at in _sectors(start, end):
        if extent(file, at, size) is not None:
            return at
    return None


def _sectors(start: int, end: int) -> range:
    return range(-(-start // SECTOR) * SECTOR, end, SECTOR)
