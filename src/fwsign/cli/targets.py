# SPDX-License-Identifier: Apache-2.0
"""Where each file of a release goes: as typed with --target, else as its content tells."""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.atomic import io_error
from fwsign.cli import ui
from fwsign.component import check_name, file_identifier, flash_identifier
from fwsign.errors import Failed, Malformed
from fwsign.images import Image, recognise
from fwsign.release import Part

_FLASH: Final = re.compile(r"([a-z][a-z0-9-]+)@(0x[0-9a-fA-F]{1,8}|\d{1,10})")


class Target(NamedTuple):
    """A file with its component and what its image says about itself."""

    part: Part
    version: str | None


def check_files(files: Sequence[Path], *, together: bool, empty: bool = False) -> None:
    """Refuse what cannot be signed at a glance, before anything is read or asked for.

    Args:
        files: what is signed.
        together: as components of one release, where names must differ.
        empty: take files without content: an empty one is what a failed build leaves.
    """
    seen: dict[str, Path] = {}
    for file in files:
        try:
            check_name(file.name)
        except Malformed as error:
            safe = re.sub(r"[^A-Za-z0-9._+-]+", "-", file.name).lstrip(".+-").rstrip(".")[:100]
            error.hint = f"rename it, as in {safe}" if safe and safe != file.name else "rename it"
            raise
        key = file.name.lower() if together else os.path.realpath(file)
        if key in seen:
            words = "have the same name" if together else "are the same file"
            ui.usage(f"{seen[key]} and {file} {words}", "give each once")
        seen[key] = file
    for file in files:
        try:
            found = file.stat()
        except OSError as error:
            raise io_error(error, file) from error
        mode = found.st_mode
        if stat.S_ISREG(mode) and not found.st_size and not empty:
            refusal = Failed(
                "io.empty", f"{file} is empty", expected="a file with content", found="0 bytes"
            )
            refusal.hint = "did the build fail? --allow-empty signs it all the same"
            raise refusal
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a directory is refused when opened
            raise Failed(
                "io.format",
                f"{file} is not a regular file: it must be read twice",
                expected="a regular file",
                found="a pipe or device",
            )


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
        matches = [file for file in files if not equals or name == file.name or Path(name) == file]
        if len(matches) != 1:
            known = ", ".join(map(str, files))
            ui.usage(f'--target {text}: {len(matches)} of the files are called "{name}"', known)
        if matches[0] in wanted:
            ui.usage(f"two targets for {matches[0]}: {wanted[matches[0]]} and {target}")
        wanted[matches[0]] = target
    identifiers = {file: _identifier(file, target) for file, target in wanted.items()}
    return [_find(file, wanted.get(file), identifiers.get(file)) for file in files]


def common_version(targets: Sequence[Target]) -> str | None:
    """Return the version that the images state, where they do not contradict each other."""
    versions = {target.version for target in targets if target.version}
    return versions.pop() if len(versions) == 1 else None


def _identifier(file: Path, typed: str) -> tuple[bytes, ...]:
    if typed == "file":
        return file_identifier(file.name)
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
        return Target(Part(file, file_identifier(file.name)), image.version)
    return Target(Part(file, flash_identifier(image.chip, image.offset)), image.version)


def _image(file: Path) -> Image:
    try:
        with file.open("rb") as opened:
            return recognise(opened)
    except OSError as error:
        raise io_error(error, file) from error
