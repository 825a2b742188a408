# SPDX-License-Identifier: Apache-2.0
"""The target of each file of a release: from --target, else from its content."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from fwsign.cli import ui
from fwsign.cli.quoting import quoted
from fwsign.cli.sign.naming import assign
from fwsign.errors import Malformed
from fwsign.files import io_error
from fwsign.format.kinds import (
    FILE,
    KINDS,
    FlashPlace,
    flash_identifier,
    flash_place,
    name_of,
    target_identifier,
)
from fwsign.images import Image, recognise
from fwsign.signing.release import ReleaseFile

if TYPE_CHECKING:
    from fwsign.format.native import StatedNative


class TargetFile(NamedTuple):
    """A file with its component and the facts in its image.

    Args:
        part: the file and its component's identifier; empty while it is not known.
        version: as the image states it.
        image: the recognised image; None if --target says that it is only a file.
        typed: whether --target says where it goes.
        native: what the release states of its native signature; None if nothing.
    """

    part: ReleaseFile
    version: str | None
    image: Image | None
    typed: bool = False
    native: "StatedNative | None" = None

    @property
    def framework(self) -> str | None:
        """The framework's own project and version, where the image has no others."""
        return dict(self.image.details).get("framework") if self.image else None

    @property
    def role(self) -> str | None:
        """The image's role on an ESP board."""
        return self.image.role if self.image else None

    @property
    def place(self) -> FlashPlace | None:
        """Its place in flash; None if it goes elsewhere."""
        return flash_place(self.part.identifier)

    @property
    def chip(self) -> str | None:
        """The chip that it is for; None if it goes elsewhere."""
        return self.place.chip if self.place else None

    @property
    def offset(self) -> int:
        """Its offset, if it goes to flash."""
        return cast("FlashPlace", self.place).offset

    def at(self, chip: str, offset: int) -> "TargetFile":
        """Return the same with a place in flash."""
        identifier = flash_identifier(chip, offset)
        return self._replace(part=self.part._replace(identifier=identifier))


def find_targets(files: Sequence[Path], typed: Sequence[str]) -> list[TargetFile]:
    """Return the target of each file, as far as the file itself tells; call `placed` next.

    Args:
        files: the files to sign.
        typed: the values of --target, each `T` or `FILE=T`; a bare one only with a single file.
    """
    wanted = assign(files, typed, "--target", "T")
    identifiers = {file: _identifier(file, target) for file, target in wanted.items()}
    return [one for file in files for one in _found(file, identifiers.get(file))]


def placed(group: Sequence[TargetFile]) -> list[TargetFile]:
    """Set the places of partition tables and OTA data, which do not name their chip.

    Args:
        group: the targets of one release; one image may tell what another does not.
    """
    done = list(group)
    if not all(one.part.identifier for one in group):
        from fwsign.images.chips import is_esp32  # for files that do not name their chip

        esps = [one.chip for one in group if one.chip and is_esp32(one.chip)]
        done = [_with_table_place(one, set(esps)) for one in done]
        done = [_with_otadata_place(one, done, set(esps)) for one in done]
    done = [_with_app_place(one, done) for one in done]
    places: dict[tuple[bytes, ...], Path] = {}
    for one in done:
        before = places.setdefault(one.part.identifier, one.part.path)
        if before != one.part.path:
            name = name_of(one.part.identifier)
            ui.usage(f"{before} and {one.part.path} both go to {name}", "write --target FILE=T")
    return done


def remarks(targets: Sequence[TargetFile]) -> list[str]:
    """Return the remarks about the images, each with its file."""
    lines = [f"{one.part.path}: {note}" for one in targets for note in _remarks(one)]
    return list(dict.fromkeys(lines))


def doubts(targets: Sequence[TargetFile]) -> list[str]:
    """Return what may keep applications from starting, each with its file and partition."""
    parts = [(one.part.path, part) for one in targets if one.image for part in one.image.parts]
    return [
        f"{path} ({part.label}): {part.doubt}" if part.label else f"{path}: {part.doubt}"
        for path, part in parts
        if part.doubt
    ]


def _remarks(target: TargetFile) -> list[str]:
    image = target.image
    if image is None:
        return []
    lines = list(image.notes)
    if image.kind == "mcuboot" and target.chip is None:
        name = target.part.path.name
        lines.append(
            "an MCUboot image does not name its chip, so this is signed as a file; for boards with "
            f"serial recovery: --target {quoted(f'{name}=CHIP@0x0')}, --target file if it is meant"
        )
    return lines


def common_version(targets: Sequence[TargetFile]) -> str | None:
    """Return the version that the images state, if they agree."""
    versions = {target.version for target in targets if target.version}
    return versions.pop() if len(versions) == 1 else None


def _identifier(file: Path, typed: str) -> tuple[bytes, ...]:
    try:
        identifier = target_identifier(typed, os.fsencode(file.name))
    except Malformed as error:
        ui.usage(f"--target {typed}: {error.expected} is expected")
    if identifier is None:
        ui.usage(f'"{typed}" is not a target', f"write {', or '.join(_targets())}")
    if (place := flash_place(identifier)) is not None:
        _check_sector(typed, place)
    return identifier


def _targets() -> list[str]:
    """Return the forms of places, each with its example."""
    kinds = KINDS.values()
    return [one.target + (f" as in {one.example}" if one.example else "") for one in kinds]


def _check_sector(typed: str, place: FlashPlace) -> None:
    from fwsign.images.esp_partitions import SECTOR  # where a place is typed

    if _is_ours(typed, place.chip) and (over := place.offset % SECTOR):
        below = place._replace(offset=place.offset - over)
        above = below._replace(offset=below.offset + SECTOR)
        ui.usage(
            f"--target {typed}: 0x{place.offset:x} is not a multiple of {SECTOR}",
            f"flash is erased in whole sectors: {below}, {above}",
        )


def _is_ours(typed: str, chip: str) -> bool:
    """Tell whether a chip's flash is written in sectors; boards with MCUboot have any other chip.

    What is nearly the name of one of ours, or would be one of its maker's, is refused.
    """
    from fwsign.images.chips import NAMES, is_esp, is_rp  # where a place is typed

    if chip in NAMES:
        return True
    from difflib import get_close_matches  # for what may be mistyped

    if is_esp(chip) or is_rp(chip) or get_close_matches(chip, NAMES, n=1, cutoff=0.8):
        ui.usage(f'--target {typed}: there is no chip "{chip}"', f"choose from {', '.join(NAMES)}")
    return False


def _found(file: Path, identifier: tuple[bytes, ...] | None) -> list[TargetFile]:
    """Return the targets that a file alone tells: several for a file with several chips' images."""
    found = _find(file, identifier)
    places = found.image.places if found.image and identifier is None else ()
    return [found.at(chip, offset) for chip, offset in places] or [found]


def _find(file: Path, identifier: tuple[bytes, ...] | None) -> TargetFile:
    """Return the target that a file alone tells."""
    place = flash_place(identifier or ())
    if identifier is not None and place is None:
        return TargetFile(ReleaseFile(file, identifier), None, None)
    image, typed = _image(file), identifier is not None
    if place is None and image.chip is not None and image.offset is not None:
        place = FlashPlace(image.chip, image.offset)
        identifier = flash_identifier(*place)
    if identifier is None and image.role is None:
        identifier = _of_file(file)
    if place is not None:
        _check_fits(file, image, *place)
    return TargetFile(ReleaseFile(file, identifier or ()), image.version, image, typed)


def _check_fits(file: Path, image: Image, chip: str, offset: int) -> None:
    if image.chip is not None and image.chip != chip:
        raise Malformed(
            "malformed.image",
            f"{file} is an image for {image.chip}, the target is {chip}",
            expected=chip,
            found=image.chip,
        )
    if image.kind == "uf2":
        _check_uf2(file, image, chip, offset)
    from fwsign.images.esp import place_expected  # for images alone

    if (expected := place_expected(image, chip, offset)) is not None:
        raise Malformed(
            "malformed.image",
            f"{file} is {_named(image.role)}: it goes to 0x{expected:x}, not 0x{offset:x}",
            expected=f"0x{expected:x}",
            found=f"0x{offset:x}",
            hint=f"--target {quoted(f'{file.name}={chip}@0x{expected:x}')}",
        )


def _check_uf2(file: Path, image: Image, chip: str, offset: int) -> None:
    from fwsign.images import uf2  # for these files alone

    if (expected := uf2.place_expected(image, chip, offset)) is None:
        return
    why = f", {image.notes[0]}" if expected == "file" and image.notes else ""
    raise Malformed(
        "malformed.image",
        f"{file} is a UF2 file for {expected}, the target is {chip}@0x{offset:x}{why}",
        expected=expected,
        found=f"{chip}@0x{offset:x}",
        hint=f"--target {expected.partition(' ')[0]}",
    )


def _named(role: str | None) -> str:
    """Return the kind of a file, with its article."""
    return {"ota data": "ESP OTA data", "application": "an application"}.get(
        role or "", f"a {role} for an ESP"
    )


def _with_table_place(target: TargetFile, chips: Collection[str]) -> TargetFile:
    if target.part.identifier or target.role != "partition table":
        return target
    from fwsign.images.esp_data import TABLE_OFFSET  # for tables alone

    return target.at(_only_chip(target, chips, f"0x{TABLE_OFFSET:x}"), TABLE_OFFSET)


def _with_otadata_place(
    target: TargetFile, group: Sequence[TargetFile], chips: Collection[str]
) -> TargetFile:
    if target.part.identifier:
        return target
    chip = _only_chip(target, chips, "OFFSET")
    tables = [one.part.path for one in group if one.role == "partition table" and one.chip == chip]
    if len(tables) != 1:
        ui.usage(
            f"{target.part.path} is {_named(target.role)}: only a partition table says where it "
            f"goes, and {len(tables)} of the files signed with it are one",
            _typed_hint(target, f"{chip}@OFFSET"),
        )
    offset = _otadata_offset(tables[0])
    if offset is None:
        ui.usage(
            f"{target.part.path} is {_named(target.role)}, and {tables[0]} has no partition for it",
            _typed_hint(target, f"{chip}@OFFSET"),
        )
    return target.at(chip, offset)


def _with_app_place(target: TargetFile, group: Sequence[TargetFile]) -> TargetFile:
    """Set the place of an application by its release's own table."""
    if target.typed or target.image is None or target.image.role != "application":
        return target
    from fwsign.cli.sign.layout import app_place  # for applications alone

    place = app_place(target.image, group)
    return target if place is None else target.at(str(target.image.chip), place)


def _otadata_offset(table: Path) -> int | None:
    from fwsign.images.esp_data import otadata_of  # for OTA data alone
    from fwsign.images.esp_partitions import partitions

    with table.open("rb") as opened:
        part = otadata_of(partitions(opened, 0))
    return part.offset if part else None


def _only_chip(target: TargetFile, chips: Collection[str], offset: str) -> str:
    """Return the one chip of a release, for a file that does not name it."""
    if len(chips) != 1:
        words = f"the files signed with it are for {', '.join(sorted(chips))}" if chips else ""
        ui.usage(
            f"{target.part.path} is {_named(target.role)}, and does not say for which chip: "
            + (words or "nor does any file signed with it"),
            _typed_hint(target, f"CHIP@{offset}"),
        )
    return next(iter(chips))


def _typed_hint(target: TargetFile, place: str) -> str:
    return f"say where it goes: --target {target.part.path.name}={place}, or =file"


def _of_file(file: Path) -> tuple[bytes, ...]:
    """Return the identifier of a file; `naming.renamed` gives the name that is signed."""
    return FILE, os.fsencode(file.name)


def _image(file: Path) -> Image:
    try:
        with file.open("rb") as opened:
            return recognise(opened)
    except OSError as error:
        raise io_error(error, file) from error
