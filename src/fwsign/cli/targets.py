# SPDX-License-Identifier: Apache-2.0
"""Where each file of a release goes: as typed with --target, else as its content tells."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.atomic import io_error
from fwsign.cli import ui
from fwsign.component import check_name, file_identifier, flash_identifier
from fwsign.errors import Malformed
from fwsign.images import Image, recognise
from fwsign.release import Part

_FLASH: Final = re.compile(r"([a-z][a-z0-9-]+)@(0x[0-9a-fA-F]{1,8}|\d{1,10})")


class Target(NamedTuple):
    """A file with its component and what its image says about itself."""

    part: Part
    version: str | None
    words: str


def find_targets(files: Sequence[Path], typed: Sequence[str]) -> list[Target]:
    """Return the target of each file.

    Args:
        files: what is signed.
        typed: the values of --target, each `T` or `FILE=T`; a bare one only with a single file.
    """
    wanted: dict[Path, str] = {}
    for text in typed:
        name, equals, target = text.rpartition("=")
        if not equals and len(files) > 1:
            ui.usage(f"--target {text} with {len(files)} files", "write --target FILE=T for each")
        matches = [file for file in files if not equals or name in (str(file), file.name)]
        if len(matches) != 1:
            ui.usage(f'--target {text}: {len(matches)} of the files are called "{name}"')
        if matches[0] in wanted:
            ui.usage(f"two targets for {matches[0]}")
        wanted[matches[0]] = target
    return [_find(file, wanted.get(file)) for file in files]


def common_version(targets: Sequence[Target]) -> str | None:
    """Return the version that the images state, where they do not contradict each other."""
    versions = {target.version for target in targets if target.version}
    return versions.pop() if len(versions) == 1 else None


def _find(file: Path, typed: str | None) -> Target:
    check_name(file.name)
    if typed is None:
        image = _image(file)
        if image.chip is None or image.offset is None:
            return Target(Part(file, file_identifier(file.name)), image.version, "file")
        words = f"{image.chip}@0x{image.offset:x}"
        return Target(Part(file, flash_identifier(image.chip, image.offset)), image.version, words)
    if typed == "file":
        return Target(Part(file, file_identifier(file.name)), None, "file")
    match = _FLASH.fullmatch(typed)
    if not match:
        ui.usage(f'"{typed}" is not a target', "write file, or CHIP@OFFSET as in esp32c3@0x10000")
    chip, offset = match[1], int(match[2], 0)
    image = _image(file)
    if image.chip is not None and image.chip != chip:
        raise Malformed(
            "malformed.image",
            f"{file} is an image for {image.chip}, the target is {chip}",
            expected=chip,
            found=image.chip,
        )
    return Target(Part(file, flash_identifier(chip, offset)), image.version, typed)


def _image(file: Path) -> Image:
    try:
        with file.open("rb") as opened:
            return recognise(opened)
    except OSError as error:
        raise io_error(error, file) from error
