# SPDX-License-Identifier: Apache-2.0
"""Find the place for per-device data on an ESP, in the partition table that is in force."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.device_data.policy import MAX_PLACE_SIZE, DataPlace
from fwsign.errors import FwsignError, Unsuitable
from fwsign.images import esp_nvs
from fwsign.images.chips import is_esp32
from fwsign.images.esp_data import TABLE_OFFSET
from fwsign.images.esp_partitions import SECTOR, Partition

_DATA: Final = 1
_CUSTOM: Final = 0x40  # the first type that projects choose themselves
_OTADATA, _NVS_KEYS = 0, 4


class FlashRange(NamedTuple):
    """A place in flash: offset and size in bytes."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.offset + self.size


def locate(
    place: DataPlace, table: Sequence[Partition] | None, table_at: int = TABLE_OFFSET
) -> FlashRange:
    """Return the flash that a place has, and check that data may be there.

    Args:
        place: a place of the policy, for this chip.
        table: the partition table; None if it is not known, or if the chip has none.
        table_at: its offset; below it lies the boot loader.

    Raises:
        Unsuitable: `unsuitable.device-data`, also if the longest values would not fit.
    """
    if place.offset is None or place.size is None:
        part = _labelled(place, table)
        found = FlashRange(part.offset, part.size)
    else:
        found = FlashRange(place.offset, place.size)
        if is_esp32(place.chip) and found.offset < (first := table_at + SECTOR):
            raise _unfit(place, f"0x{first:x} or more", place.at)
        _check_free(place, found, table or ())
    if found.size > MAX_PLACE_SIZE:
        raise _unfit(place, f"at most {MAX_PLACE_SIZE} bytes", f"{found.size} bytes")
    try:
        place.check_size(found.size)
    except FwsignError as error:
        expected, words = str(error.expected), str(error.found)
        raise _unfit(place, f"{expected} for the longest values", words) from None
    return found


def _labelled(place: DataPlace, table: Sequence[Partition] | None) -> Partition:
    if table is None:
        raise _unfit(place, f'a table with the partition "{place.label}"', "no known table")
    parts = [part for part in table if part.label == place.label]
    if len(parts) != 1:
        names = ", ".join(f'"{part.label}"' for part in table) or "no partition"
        found = f"{len(parts)} of that name" if parts else names
        raise _unfit(place, f'one partition "{place.label}"', found)
    part = parts[0]
    if not _takes_data(part) or (place.format == "nvs" and not _is_nvs(part)):
        expected = "a partition for NVS" if place.format == "nvs" else "a partition for data"
        raise _unfit(place, expected, f"type {part.type}, subtype {part.subtype}")
    return part


def _check_free(place: DataPlace, found: FlashRange, table: Sequence[Partition]) -> None:
    """Check that a place by its offset lies in one partition for data, or in none."""
    for part in table:
        end = part.offset + part.size
        if found.end <= part.offset or end <= found.offset:
            continue
        within = part.offset <= found.offset and found.end <= end
        if not within or not _takes_data(part):
            raise _unfit(
                place,
                "a place in one partition for data, or in none",
                f'a part of "{part.label}", 0x{part.offset:x} to 0x{end:x}',
            )


def _takes_data(part: Partition) -> bool:
    """Tell whether a station may fill a partition: nothing that decides what starts, or keys."""
    if part.type == _DATA:
        return part.subtype not in (_OTADATA, _NVS_KEYS)
    return part.type >= _CUSTOM


def _is_nvs(part: Partition) -> bool:
    return (part.type, part.subtype) == (_DATA, esp_nvs.SUBTYPE)


def _unfit(place: DataPlace, expected: str, found: str) -> Unsuitable:
    return Unsuitable(
        "unsuitable.device-data",
        f"device data for {place.chip}, {place.name}: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )
