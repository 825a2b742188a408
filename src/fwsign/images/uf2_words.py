# SPDX-License-Identifier: Apache-2.0
"""A UF2 file in words: its details, its purpose, and why a boot ROM would not take it."""

from collections.abc import Iterator, Mapping

from fwsign.images import uf2_block
from fwsign.images.base import Image, text
from fwsign.images.rp_chips import FLASH
from fwsign.images.uf2_block import PAGE, chip_of, name
from fwsign.images.uf2_content import RP_CHIPS, Choice, Uf2Content, choose


def image(found: Uf2Content) -> Image:
    """Return the facts in a file."""
    ranges = found.ranges()
    choices = {chip: choose(chip, ranges, bytes(found.window)) for chip in RP_CHIPS}
    places = {
        chip: min(ranges[key][0][0] + shift for key, shift in choice.shifts.items()) - FLASH
        for chip, choice in choices.items()
        if choice.shifts
    }
    chips = {chip for key in ranges if (chip := chip_of(key)) is not None}
    alone = next(iter(chips)) if len(chips) == 1 else None
    version = text(found.tags.get(uf2_block.TAG_VERSION, b""))
    return Image(
        "uf2",
        alone,
        version=version or None,
        offset=places.get(alone) if alone else None,
        details=_details(found),
        places=tuple(places.items()) if len(chips) > 1 else (),
        notes=tuple(_notes(found, choices, places, chips)),
    )


def _notes(
    found: Uf2Content,
    choices: Mapping[str, Choice],
    places: Mapping[str, int],
    chips: set[str],
) -> Iterator[str]:
    """Say what this file is for, and where a boot ROM would not take it as it is."""
    ranges = found.ranges()
    if any(isinstance(key, str) for key in ranges):
        yield "it holds files for the file system of a board's drive, nothing for flash"
    for chip in sorted(chips - set(places)):
        if chip in RP_CHIPS:
            yield f"for {chip} it is a program in RAM, which no flash keeps"
        else:
            yield (
                f"it is for the drive of a UF2 boot loader on an {chip}, such as tinyuf2, which "
                "counts addresses from the start of its application partition ota_0; for a place "
                "in flash, sign the application itself"
            )
    if places and (others := [name(key) for key in ranges if chip_of(key) is None]):
        yield f"for other boards: {', '.join(others)}"
    for chip in places:
        yield from _choice_notes(chip, choices[chip], found)
    if places and found.shared and len(ranges) > 1:
        yield "one count for all families: a boot ROM waits for blocks that another chip takes"
    if "rp2350" in places and found.mixed:
        yield "families are interleaved: a boot ROM may begin its count again with each change"
    if "rp2350" in places and found.late:
        yield "the block for erratum RP2350-E10 is not the first, and so of no use"
    if places and any(one.short and chip_of(key) in places for key, one in found.families.items()):
        yield f"a boot ROM drops blocks that are shorter than {PAGE} bytes"


def _choice_notes(chip: str, choice: Choice, found: Uf2Content) -> Iterator[str]:
    for key in choice.left:
        yield f"for the same place in the flash of {chip}, left out: {name(key)}"
    if choice.covers:
        yield "the image covers the partition table that comes with it"
    for key, shift in choice.shifts.items():
        if shift:
            yield f"{name(key)} goes into the partition at 0x{shift:x}"
    if not found.shared and sum(found.families[key].whole for key in choice.shifts) > 1:
        first = found.families[next(iter(choice.shifts))]
        yield f"a boot ROM restarts {chip} after the {first.total} blocks of {name(first.key)}"


def _details(found: Uf2Content) -> tuple[tuple[str, str], ...]:
    details = [("blocks", str(found.blocks))]
    details += [
        (f"block {place}", "workaround for erratum RP2350-E10") for place in found.workarounds
    ]
    for label, kind in (
        ("version", uf2_block.TAG_VERSION),
        ("description", uf2_block.TAG_DESCRIPTION),
    ):
        if value := found.tags.get(kind):
            details.append((label, text(value)))
    if skipped := sum(family.skipped for family in found.families.values()):
        details.append(("not for the main flash", f"{skipped} blocks"))
    if not all(family.ordered for family in found.families.values()):
        details.append(("order", "not that of the numbers"))
    for key, family in found.families.items():
        details.append(("family", name(key)))
        whose = f", {name(key)}" if len(found.families) > 1 else ""
        details += [
            ("range", f"{end - at} bytes at {at:#010x}{whose}") for at, end in family.ranges
        ]
    return tuple(details)
