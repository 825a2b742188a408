# SPDX-License-Identifier: Apache-2.0
"""Check that signed payloads fit an ESP's partition table, and find the one it will start."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from fwsign.errors import Malformed, Unsuitable
from fwsign.flash import esp_boot
from fwsign.flash.board import BoardInfo, Run
from fwsign.flash.held import Payload
from fwsign.images import esp
from fwsign.images.esp_data import OTADATA_SIZE, TABLE_OFFSET, otadata_of
from fwsign.images.esp_flash import SECTOR, Partition

Read: TypeAlias = Callable[[int, int], bytes | None]
"""Reads the board's flash; None if that is not possible."""


def selection(
    payloads: Sequence[Payload], runs: Sequence[Run], info: BoardInfo, read: Read
) -> esp_boot.Selection:
    """Check the application that an ESP will start, and return its selection.

    Args:
        payloads: the signed payloads for this chip.
        runs: the same payloads as bytes for places.
        info: the board's facts.
        read: reads its flash.

    Raises:
        Unsuitable: `unsuitable.region`, `unsuitable.partition`.
        Malformed: `malformed.image`: a partition table in the release is damaged.
    """
    if info.chip == "esp8266":  # it has no partition table, and boots the image at 0
        controlled = any(run.offset == 0 for run in runs)
        return esp_boot.Selection(note=None if controlled else "nothing was written at 0x0")
    for payload in payloads:
        _check_not_over(payload, "the boot loader", esp.bootloader_offset(payload.chip))
    found = _table(payloads, read)
    if found is None:
        apps = any(one.image.role == "application" for one in payloads)
        return esp_boot.Selection(note="the board's partition table is not known" if apps else None)
    at, table = found
    esp_boot.check_table(table, at, info.flash_size)
    part = otadata_of(table)
    for payload in payloads:
        _check_partition(payload, table, part)
    otadata = _after(runs, part.offset, OTADATA_SIZE, read) if part else None
    if any(one.image.role for one in payloads):
        missing = _missing_app(table, runs, read)
        if missing is not None:
            return esp_boot.Selection(note=missing)
    return esp_boot.select(table, runs, otadata)


def _missing_app(table: Sequence[Partition], runs: Sequence[Run], read: Read) -> str | None:
    """Return a note if no app partition holds an application: perhaps only a table was written."""
    apps = [part for part in table if part.is_app]
    heads = [_after(runs, part.offset, 1, read) for part in apps]
    if None in heads or bytes([esp.MAGIC]) in heads:
        return None  # the flash cannot be read, or there is one, which `select` makes start
    names = ", ".join(f'"{part.label}" at 0x{part.offset:x}' for part in apps) or "no partition"
    return f"no application is in {names}"


def _check_partition(
    payload: Payload, table: Sequence[Partition], otadata: Partition | None
) -> None:
    """Check that a payload fits its place in the table."""
    name, role = payload.component.name, payload.image.role
    if role == "application":
        esp_boot.check_app(table, name, Run(payload.offset, payload.data))
    elif role == "ota data" and (otadata is None or otadata.offset != payload.offset):
        expected = f"0x{otadata.offset:x}" if otadata else "a partition for it in the table"
        raise payload.misplaced(expected, f"OTA data at 0x{payload.offset:x}")
    for part in table:
        if part.is_app:
            _check_not_over(payload, f'the application in "{part.label}"', part.offset)


def _check_not_over(payload: Payload, what: str, place: int | None) -> None:
    """Refuse to write anything but an image to a place that the board starts."""
    if payload.image.role == "merged" or place is None:  # reading it checked its own layout
        return
    if payload.offset <= place < payload.end and payload.data[place - payload.offset] != esp.MAGIC:
        words = payload.image.role or "no image for an ESP"
        raise payload.misplaced(f"{what} at 0x{place:x}", words)


def _table(payloads: Sequence[Payload], read: Read) -> tuple[int, list[Partition]] | None:
    """Return the future partition table and its offset; None if unknown."""
    own = [one for one in payloads if one.image.role == "partition table"]
    if len(own) > 1:
        names = " and ".join(one.component.name for one in own)
        raise Unsuitable(
            "unsuitable.partition",
            f"{names} are both partition tables, a board has one",
            expected="one partition table",
            found=names,
        )
    for payload in own:
        return payload.offset, esp_boot.read_table(payload.data) or []
    at = TABLE_OFFSET
    for payload in payloads:
        if payload.offset <= at < payload.end:
            table = esp_boot.read_table(payload.data[at - payload.offset :])
            if table is None and payload.image.role != "boot loader":  # a large one moves the table
                raise payload.misplaced(f"a partition table at 0x{at:x}", "other bytes")
            return None if table is None else (at, table)
    content = read(at, SECTOR)
    try:
        table = esp_boot.read_table(content) if content is not None else None
        return None if table is None else (at, table)
    except Malformed as error:
        raise Unsuitable(
            "unsuitable.partition",
            f"the board's partition table is damaged: {error.message}",
            expected=error.expected,
            found=error.found,
        ) from None


def _after(runs: Sequence[Run], offset: int, size: int, read: Read) -> bytes | None:
    """Return the future content of a part of the flash."""
    content = read(offset, size)
    if content is None:
        return None
    for run in runs:
        start, end = max(run.offset, offset), min(run.end, offset + size)
        if start < end:
            piece = run.data[start - run.offset : end - run.offset]
            content = content[: start - offset] + piece + content[end - offset :]
    return content
