# SPDX-License-Identifier: Apache-2.0
"""Where each file of a release goes: as typed with --target, else as its content tells."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.atomic import io_error
from fwsign.cli import ui
from fwsign.cli.naming import assign
from fwsign.component import flash_identifier
from fwsign.errors import Malformed
from fwsign.images import Image, recognise
from fwsign.release import Part

_FLASH: Final = re.compile(r"([a-z][a-z0-9-]+)@(0x[0-9a-fA-F]{1,8}|\d{1,10})")


class Target(NamedTuple):
    """A file with its component and what its image says about itself."""

    part: Part
    version: str | None


def find_targets(files: Sequence[Path], typed: Sequence[str]) -> list[Target]:
    """Return the target of each file.

    Args:
        files: what is signed.
        typed: the values of --target, each `T` or `FILE=T`; a bare one only with a single file.
    """
    wanted = assign(files, typed, "--target", "T")
    identifiers = {file: _identifier(file, target) for file, target in wanted.items()}
    return [_find(file, wanted.get(file), identifiers.get(file)) for file in files]


def common_version(targets: Sequence[Target]) -> str | None:
    """Return the version that the images state, where they do not contradict each other."""
    versions = {target.version for target in targets if target.version}
    return versions.pop() if len(versions) == 1 else None


def _identifier(file: Path, typed: str) -> tuple[bytes, ...]:
    if typed == "file":
        return _of_file(file)
    if not (match := _FLASH.fullmatch(typed)):
        ui.usage(f'"{typed}" is not a target', "write file, or CHIP@OFFSET as in esp32c3@0x10000")
    try:
        return flash_identifier(match[1], int(match[2], 16 if match[2][:2] == "0x" else 10))
    except Malformed as error:
        ui.usage(f"--target {typed}: {error.expected} is expected")


def _find(file: Path, typed: str | None, identifier: tuple[bytes, ...] | None) -> Target:
    if identifier is not None and typed == "file":
        return Target(Part(file, identifier), None)
    image = _image(file)
    if identifier is not None:
        chip = identifier[1].decode()
        if image.chip is not None and image.chip != chip:
            raise Malformed(
                "malformed.image",
                f"{file} is an image for {image.chip}, the target is {chip}",
                expected=chip,
                found=image.chip,
            )
        return Target(Part(file, identifier), image.version)
    if image.chip is None or image.offset is None:
        return Target(Part(file, _of_file(file)), image.version)
    return Target(Part(file, flash_identifier(image.chip, image.offset)), image.version)


def _of_file(file: Path) -> tuple[bytes, ...]:
    """Return the identifier of a file; `naming.renamed` gives the name that is signed."""
    return b"file", os.fsencode(file.name)


def _image(file: Path) -> Image:
    try:
        with file.open("rb") as opened:
            return recognise(opened)
    except OSError as error:
        raise io_error(error, file) from error
