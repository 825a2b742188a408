# SPDX-License-Identifier: Apache-2.0
"""The policy for per-device data in a release: check it before signing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fwsign.cli import ui
from fwsign.cli.sign.targets import TargetFile
from fwsign.device_data.places import FlashRange, locate
from fwsign.device_data.policy import NAME, DataPlace, parse
from fwsign.errors import Malformed
from fwsign.images.esp_data import TABLE_OFFSET
from fwsign.images.esp_partitions import Partition, partitions

_URI = f"#{NAME}"


def check(integrated: Mapping[str, bytes], path: Path, group: Sequence[TargetFile]) -> None:
    """Check the policy of a release against its images.

    Args:
        integrated: the payloads inside the envelope.
        path: the policy's file, as typed.
        group: the other components.

    Raises:
        Malformed: `malformed.device-data`.
        Unsuitable: `unsuitable.device-data`: the release's table has no such place.
    """
    try:
        policy = parse(integrated[_URI])
    except Malformed as error:
        message = error.message.replace(NAME, str(path), 1)
        raise Malformed(
            error.code, message, expected=error.expected, found=error.found, hint=error.hint
        ) from None
    chips = {one.chip for one in group if one.chip}
    known: list[tuple[DataPlace, FlashRange]] = []
    for place in policy.places:
        if place.chip not in chips:
            ui.usage(
                f"{path} is for {place.chip}, the files are for {', '.join(sorted(chips)) or 'no'}"
                f"{'' if chips else ' board'}",
                "the policy belongs to the images of the boards that it fills",
            )
        table, at = _table(group, place.chip)
        if table is not None or place.offset is not None:
            found = locate(place, table, at)
            _check_apart(place, found, group)
            _check_others(path, place, found, known)
            known.append((place, found))


def _check_others(
    path: Path, place: DataPlace, found: FlashRange, known: Sequence[tuple[DataPlace, FlashRange]]
) -> None:
    """Refuse two places that share flash."""
    for other, there in known:
        if other.chip == place.chip and found.offset < there.end and there.offset < found.end:
            ui.usage(f"{path}: {other.name} and {place.name} overlap", "leave one of them out")


def _table(group: Sequence[TargetFile], chip: str) -> tuple[list[Partition] | None, int]:
    """Return the table that a release brings, alone or in a merged image, and its offset."""
    for one in group:
        for part in one.image.parts if one.image is not None and one.chip == chip else ():
            if part.role == "partition table":
                with one.part.path.open("rb") as file:
                    return partitions(file, part.start), one.offset + part.start
    return None, TABLE_OFFSET


def _check_apart(place: DataPlace, found: FlashRange, group: Sequence[TargetFile]) -> None:
    """Refuse a place over which the release itself writes."""
    for one in group:
        if one.chip != place.chip or (one.image is not None and one.image.kind == "uf2"):
            continue
        end = one.offset + one.part.path.stat().st_size
        if one.offset < found.end and found.offset < end and one.role != "merged":
            ui.usage(
                f"{place.name} is for device data, and {one.part.path} goes to "
                f"0x{one.offset:x} to 0x{end:x}",
                "leave the one or the other out",
            )
