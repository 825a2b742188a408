# SPDX-License-Identifier: Apache-2.0
"""Merged files for an ESP: a boot loader, a partition table and all that the table names.

The boot loader has one place in the flash of its chip, which gives the offset of the file's first
byte. The table has the places of applications: each of these partitions is erased, or holds an
intact image for the same chip that fits. An application anywhere else would never start. All else
in partitions is the user's; bytes that are in none are counted in a note.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from fwsign.images.base import Image, ImagePart, Reader, damaged, others, size_of
from fwsign.images.esp_chips import Chip
from fwsign.images.esp_data import OTADATA_SIZE, TABLE_OFFSET, otadata_of
from fwsign.images.esp_image import HEADER, extent
from fwsign.images.esp_part import One, read_one, remark, tail
from fwsign.images.esp_partitions import (
    DIGEST_ROW,
    ROW_SIZE,
    SECTOR,
    TABLE_SIZE,
    Partition,
    is_row,
    partitions,
)

_UNUSUAL: Final = "the partition table is at {:#x}: boot loaders look for it at 0x8000 by default"
_NO_BOOT_LOADER: Final = "no boot loader is in the file"


class _Layout(NamedTuple):
    """A merged file: sizes and positions are of the file, `base` is the flash offset of byte 0."""

    file: BinaryIO
    size: int
    base: int
    table: int
    rows: list[Partition]
    boot: One | None

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

    parts: tuple[ImagePart, ...]
    apps: tuple[One, ...]
    details: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def find_table(file: BinaryIO, start: int) -> int | None:
    """Return the position of the first partition table on a sector from `start` on."""
    return next((at for at in _sectors(start, size_of(file)) if has_table(file, at)), None)


def has_table(file: BinaryIO, at: int) -> bool:
    """Tell whether a partition table begins at `at`.

    One of its first two rows says what it is, so that a damaged one does not pass as other bytes.
    """
    head = Reader(file, "esp", at, size_of(file)).peek(2 * ROW_SIZE)
    return is_row(head[:ROW_SIZE]) or is_row(head[ROW_SIZE:])


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
    layout = _Layout(file, size_of(file), base, table, partitions(file, table), boot)
    _check_table(layout)
    found = _applications(layout, boot.chip)
    doubts = [] if usual or found.apps else [_UNUSUAL.format(table + base)]
    return _image(layout, boot.chip, found, doubts)


def without_boot_loader(file: BinaryIO, table: int) -> Image | None:
    """Read a file that has a partition table and applications, and no boot loader before them.

    It goes where the table then lies at the place at which boot loaders look for it, or to the
    start of flash if the table is further on.

    Args:
        file: seekable.
        table: the position of its partition table.

    Returns:
        None if there is no application in it.

    Raises:
        Malformed: `malformed.image`.
    """
    size, base = size_of(file), max(TABLE_OFFSET - table, 0)
    layout = _Layout(file, size, base, table, partitions(file, table), None)
    starts = [layout.start_of(row) for row in layout.rows if row.is_app]
    first = next((at for at in starts if at >= 0 and extent(file, at, size)), None)
    if first is not None:
        _check_table(layout)
        chip = read_one(file, first, size).chip
        return _image(layout, chip, _applications(layout, chip), [_NO_BOOT_LOADER])
    at = _image_in(file, table, size)
    if at is not None:
        places = ", ".join(f"{row.offset:#x}" for row in layout.rows if row.is_app) or "none"
        raise damaged("esp", "place of the first image", places, f"{at + base:#x}")
    return None


def _image(layout: _Layout, chip: Chip, found: _Found, notes: list[str]) -> Image:
    boot = layout.boot
    own = [pair for one in found.apps for pair in (one.app.details if one.app else ())]
    frameworks = dict.fromkeys(pair for pair in own if pair[0] == "framework")
    return Image(
        "esp",
        chip.name,
        version=_same([one.app.version for one in found.apps if one.app]),
        project=_same([one.app.project for one in found.apps if one.app]),
        offset=layout.base,
        details=(
            *(boot.details if boot else ()),
            ("merged", f"partition table at {layout.table + layout.base:#x}"),
            *found.details,
            *frameworks,
        ),
        role="merged",
        parts=(*([boot.part()] if boot else ()), *_table_parts(layout), *found.parts),
        notes=(*found.notes, *notes, *_gaps(layout)),
    )


def _same(texts: list[str | None]) -> str | None:
    """Return the text that all applications have."""
    return texts[0] if texts and len(set(texts)) == 1 else None


def _check_table(layout: _Layout) -> None:
    """Refuse a table that lies over a partition or before it: it was made for another place."""
    start, end = layout.table + layout.base, layout.table + layout.base + SECTOR
    for row in layout.rows:
        over = row.offset < end and row.offset + row.size > start
        if over or (row.is_app and row.offset < end):
            _refuse_shifted(layout)
            what = f"offset of partition {row.label}"
            raise damaged("esp", what, f"{end:#x} or more, after the table", f"{row.offset:#x}")


def _refuse_shifted(layout: _Layout) -> None:
    """Refuse a file that was laid out from the start of flash, with its boot loader there."""
    boot = layout.boot
    if layout.base == 0 or boot is None:
        return
    for row in layout.rows:
        if row.is_app and extent(layout.file, min(row.offset, layout.size), layout.size):
            what = f"place of the boot loader for {boot.chip.name}, by the place of {row.label}"
            raise damaged("esp", what, f"{boot.chip.bootloader:#x}", f"{boot.start:#x}")


def _table_parts(layout: _Layout) -> Iterator[ImagePart]:
    """Yield the table, and the OTA data if the file has all of it."""
    yield ImagePart("partition table", layout.table, min(layout.table + TABLE_SIZE, layout.size))
    row = otadata_of(layout.rows)
    if row is not None and 0 <= layout.start_of(row) <= layout.size - OTADATA_SIZE:
        start = layout.start_of(row)
        yield ImagePart("ota data", start, start + OTADATA_SIZE, label=row.label)


def _applications(layout: _Layout, chip: Chip) -> _Found:
    """Read the application partitions."""
    parts, apps, details = [], [], []
    notes: list[str] = []
    for row in layout.rows:
        words = f"{row.size} bytes at {row.offset:#x}"
        start = layout.start_of(row)
        if row.is_app and 0 <= start < layout.size:
            if layout.reader(start, layout.end_of(row)).peek(HEADER.size).strip(b"\xff"):
                one = _application(layout, row, chip)
                names = (one.app.project, one.app.version) if one.app else ()
                words += f", holds {' '.join(filter(None, names)) or 'an image'}"
                parts.append(one.part(row.label))
                apps.append(one)
                rest = layout.reader(one.end, layout.end_of(row))
                notes += remark(others(rest, rest.left), f"after the application in {row.label}")
            else:
                notes += _erased(layout, row)
        details.append((f"partition {row.label}", words))
    if not apps:
        notes.append("no application is in the file: by itself it starts nothing")
    return _Found(tuple(parts), tuple(apps), tuple(details), tuple(notes))


def _application(layout: _Layout, row: Partition, chip: Chip) -> One:
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
    if one.chip != chip:
        raise damaged("esp", f"chip of {row.label}", chip.name, one.chip.name)
    return one


def _erased(layout: _Layout, row: Partition) -> tuple[str, ...]:
    """Judge a partition for an application that begins erased."""
    start, end = layout.start_of(row), layout.end_of(row)
    at = _image_in(layout.file, start, end)
    if at is not None:
        _refuse_shifted(layout)
        what = f"place of the application in {row.label}"
        raise damaged("esp", what, f"{row.offset:#x}", f"{at + layout.base:#x}")
    rest = layout.reader(start, end)
    return remark(others(rest, rest.left), f"in {row.label}, which begins erased,")


def _gaps(layout: _Layout) -> Iterator[str]:
    """Yield notes about bytes in no partition; refuse applications there.

    Raises:
        Malformed: `malformed.image`.
    """
    known = [(layout.table, layout.table + TABLE_SIZE, "after the partition table")]
    if layout.boot is not None:
        known.append((layout.boot.start, layout.boot.end, "after the boot loader"))
    known += [
        (layout.start_of(row), layout.end_of(row), f"after {row.label}") for row in layout.rows
    ]
    at, before = 0, "at the beginning"
    if layout.boot is not None and layout.boot.digest:
        at = layout.boot.start
    for start, end, name in sorted(known):
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
