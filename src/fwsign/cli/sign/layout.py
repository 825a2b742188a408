# SPDX-License-Identifier: Apache-2.0
"""What the images of one release say about each other, before they are signed.

A board is judged when it is flashed. What no board could make right is refused here already.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fwsign.errors import Malformed
from fwsign.files import io_error
from fwsign.flash.boards.waivers import FLASH_SIZE, LAYOUT, RAW, UNBOOTABLE
from fwsign.images.base import Image
from fwsign.images.esp_chips import ESP8266, bootloader_offset, size_name
from fwsign.images.esp_data import otadata_of
from fwsign.images.esp_partitions import SECTOR, Partition, partitions

if TYPE_CHECKING:
    from fwsign.cli.sign.targets import TargetFile


class _Table(NamedTuple):
    """A partition table of a release, at its place in flash."""

    target: "TargetFile"
    offset: int
    rows: list[Partition]

    @property
    def apps(self) -> list[Partition]:
        return [row for row in self.rows if row.is_app]


def check(
    groups: Sequence[Sequence["TargetFile"]], waived: Collection[str], *, strict: bool = False
) -> None:
    """Refuse releases whose images contradict each other or themselves.

    Args:
        groups: the targets of each release.
        waived: the names of the checks that the user has waived.
        strict: refuse files with a remark.

    Raises:
        Malformed: `malformed.image`.
    """
    for group in groups:
        for one in group:
            if strict and one.image and one.image.notes:
                hint = "without --strict it is signed as it is"
                raise _refused(f"{one.part.path}: {one.image.notes[0]}", "no remark", "one", hint)
            if UNBOOTABLE not in waived:
                _check_starts(one)
            if RAW not in waived:
                _check_format(one)
        for chip in dict.fromkeys(one.chip for one in group if one.chip):
            _check_chip([one for one in group if one.chip == chip], chip, waived)


def app_place(image: Image, group: Sequence["TargetFile"]) -> int | None:
    """Return the place of an application by the only partition table of its release."""
    mine = [one for one in group if one.role == "partition table" and one.chip == image.chip]
    if image.role != "application" or len(mine) != 1:
        return None
    for table in _tables(mine):
        first = min(table.apps, key=lambda row: row.subtype, default=None)
        return first.offset if first else None
    return None


def _refused(message: str, expected: object, found: object, hint: str) -> Malformed:
    return Malformed("malformed.image", message, expected=expected, found=found, hint=hint)


def _check_starts(target: "TargetFile") -> None:
    """Refuse an image that no boot loader starts."""
    for part in target.image.parts if target.image else ():
        if part.unstartable:
            where = f" ({part.label})" if part.label else ""
            raise _refused(
                f"{target.part.path}{where}: no boot loader of ESP-IDF starts it: "
                f"{part.unstartable}",
                "an application that starts",
                part.unstartable,
                f"build it again; --accept {UNBOOTABLE} signs it, and boards refuse it",
            )


def _check_format(target: "TargetFile") -> None:
    """Refuse what a linker made for a place in flash."""
    image = target.image
    name = dict(image.details).get("format") if image and target.chip else None
    if image and name:
        raise _refused(
            f"{target.part.path} is {name}, not the bytes for flash",
            "an image of flash",
            name,
            image.notes[0].partition("; ")[2] if image.notes else "build an image for the chip",
        )


def _check_chip(group: Sequence["TargetFile"], chip: str, waived: Collection[str]) -> None:
    """Check what one chip gets."""
    tables = list(_tables(group))
    if RAW not in waived:
        for one in group:
            _check_raw(one, chip, tables)
    if len(tables) != 1:  # a board takes one: flashing refuses two
        return
    table = tables[0]
    if FLASH_SIZE not in waived:
        for one in group:
            _check_size(one, table)
    if LAYOUT not in waived:
        for one in group:
            _check_place(one, table)


def _tables(group: Sequence["TargetFile"]) -> Iterator[_Table]:
    for one in group:
        for part in one.image.parts if one.image else ():
            if part.role == "partition table":
                yield _Table(one, one.offset + part.start, _rows(one.part.path, part.start))


def _rows(path: Path, start: int) -> list[Partition]:
    try:
        with path.open("rb") as opened:
            return partitions(opened, start)
    except OSError as error:
        raise io_error(error, path) from error


def _size(target: "TargetFile") -> int:
    try:
        return target.part.path.stat().st_size
    except OSError as error:
        raise io_error(error, target.part.path) from error


def _check_raw(target: "TargetFile", chip: str, tables: Sequence[_Table]) -> None:
    """Refuse bytes that are no image at a place that is executed."""
    if target.image is None or target.image.role or target.image.chip:
        return
    boot = 0 if chip == ESP8266 else bootloader_offset(chip)
    places = [] if boot is None else [("boot loader", boot)]
    places += [(f'application in "{row.label}"', row.offset) for one in tables for row in one.apps]
    end = target.offset + _size(target)
    for what, place in places:
        if target.offset <= place < end:
            raise _refused(
                f"{target.part.path} is no image for {chip}, and {chip} starts its {what} at "
                f"{place:#x}, which it covers",
                f"an image for {chip}",
                "other bytes",
                "is the offset right? --raw signs it for this place all the same",
            )


def _check_size(target: "TargetFile", table: _Table) -> None:
    """Refuse a boot loader whose flash is smaller than the partition table."""
    last = max(table.rows, key=lambda row: row.offset + row.size, default=None)
    for part in target.image.parts if target.image else ():
        size = part.needs.flash_size if part.needs and part.role == "boot loader" else None
        if last is not None and size is not None and last.offset + last.size > size:
            end = last.offset + last.size
            raise _refused(
                f"the boot loader in {target.part.path} is for {size_name(size)} of flash, and "
                f'partition "{last.label}" of {table.target.part.path} ends at {end:#x}',
                f"at least {end:#x}",
                f"{size:#x} ({size_name(size)})",
                f"set the flash size and build again; --accept {FLASH_SIZE} signs it all the same",
            )


def _check_place(target: "TargetFile", table: _Table) -> None:
    """Refuse an application that is not in a partition for one, or bytes over the table."""
    hint = f"--accept {LAYOUT} signs it all the same"
    path, at = target.part.path, target.offset
    end = at + _size(target)
    if target is not table.target and at < table.offset + SECTOR and table.offset < end:
        raise _refused(
            f"{path} lies over the partition table, {table.target.part.path}",
            f"nothing at {table.offset:#x} to {table.offset + SECTOR:#x}",
            f"{at:#x} to {end:#x}",
            hint,
        )
    if target.role == "ota data":
        _check_otadata(target, table, hint)
    if target.role != "application":
        return
    own = next((row for row in table.apps if row.offset == at), None)
    if own is None:
        names = ", ".join(f'"{row.label}" at {row.offset:#x}' for row in table.apps) or "none"
        raise _refused(
            f"{path} is an application for {at:#x}, the partitions for one in "
            f"{table.target.part.path} are {names}",
            names,
            f"{at:#x}",
            f"type its place with --target, or {hint}",
        )
    used = max(part.end for part in target.image.parts) if target.image else 0
    if used > own.size:
        raise _refused(
            f'{path} has an image of {used} bytes, partition "{own.label}" has {own.size}',
            f"at most {own.size} bytes",
            f"{used} bytes",
            hint,
        )


def _check_otadata(target: "TargetFile", table: _Table, hint: str) -> None:
    """Refuse OTA data that are not where the table has them."""
    row = otadata_of(table.rows)
    if row is None or row.offset != target.offset:
        raise _refused(
            f"{target.part.path} is ESP OTA data for {target.offset:#x}, and "
            f"{table.target.part.path} has them {f'at {row.offset:#x}' if row else 'nowhere'}",
            f"{row.offset:#x}" if row else "a partition for them",
            f"{target.offset:#x}",
            hint,
        )
