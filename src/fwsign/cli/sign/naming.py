# SPDX-License-Identifier: Apache-2.0
"""The names of files in a release, and the options for each file."""

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli import quoting, ui
from fwsign.errors import Failed, Malformed
from fwsign.files import io_error
from fwsign.format.kinds import FILE, check_name, file_identifier
from fwsign.signing.release import DEVICE_DATA

if TYPE_CHECKING:
    from fwsign.cli.sign.targets import TargetFile


def name_files(
    files: Sequence[Path], typed: Sequence[str], *, together: bool, empty: bool = False
) -> dict[Path, str]:
    """Return the name of each file in the release; refuse files that obviously cannot be signed.

    This comes before any file is read and before any prompt for a passphrase.

    Args:
        files: the files to sign.
        typed: the values of --name, each `NAME` or `FILE=NAME`.
        together: whether they become components of one release, whose names must differ.
        empty: accept empty files, which a failed build may leave.
    """
    given = assign(files, typed, "--name", "NAME")
    seen: dict[str, Path] = {}
    names: dict[Path, str] = {}
    for file in files:
        names[file] = _checked_name(file, given.get(file), alone=len(files) == 1)
        key = names[file].lower() if together else os.path.realpath(file)
        if key in seen:
            words = "have the same name" if together else "are the same file"
            hint = "--name FILE=NAME gives one another name" if together else "give each once"
            ui.usage(f"{seen[key]} and {file} {words}", hint)
        seen[key] = file
    for file in files:
        _check_regular(file, empty=empty)
    return names


def _checked_name(file: Path, given: str | None, *, alone: bool) -> str:
    """Return a file's name in the release, if devices accept it."""
    name = file.name if given is None else given
    if name.lower() == DEVICE_DATA:
        ui.usage(
            f'the name "{name}" is for the policy of per-device data',
            f"sign it as that with --device-data {quoting.quoted(str(file))}; or --name NAME",
        )
    try:
        return check_name(name)
    except Malformed as error:
        expected = error.expected
    if given is not None:
        ui.usage(f'--name "{given}" is not allowed, expected {expected}')
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "-", file.name).lstrip(".+-").rstrip(".")[:100]
    try:
        safe = check_name(safe)
    except Malformed:
        safe = "NAME"
    value = safe if alone else quoting.quoted(f"{file}={safe}")
    message = f'the name "{file.name}" is not allowed in a release, expected {expected}'
    return ui.usage(message, f"give it another name there: --name {value}")


def _check_regular(file: Path, *, empty: bool) -> None:
    try:
        found = file.stat()
    except OSError as error:
        raise io_error(error, file) from error
    mode = found.st_mode
    if stat.S_ISREG(mode) and not found.st_size and not empty:
        raise Failed(
            "io.empty",
            f"{file} is empty",
            expected="a file with content",
            found="0 bytes",
            hint="did the build fail? --allow-empty signs it all the same",
        )
    if stat.S_ISDIR(mode):
        raise Failed("io.directory", f"cannot read {file}: is a directory")
    if not stat.S_ISREG(mode):
        raise Failed(
            "io.format",
            f"{file} is not a regular file: it must be read twice",
            expected="a regular file",
            found="a pipe or device",
        )


def renamed(targets: "Iterable[TargetFile]", names: Mapping[Path, str]) -> "list[TargetFile]":
    """Return the targets with the given names for their components."""
    found = []
    for target in targets:
        name, part = names[target.part.path], target.part
        identifier = part.identifier
        if identifier[:1] == (FILE,):
            identifier = file_identifier(name)
        found.append(target._replace(part=part._replace(name=name, identifier=identifier)))
    return found


def assign(files: Sequence[Path], typed: Sequence[str], option: str, value: str) -> dict[Path, str]:
    """Return an option's value for each file.

    Args:
        files: the files of the command line.
        typed: the option's values, each `VALUE` or `FILE=VALUE`; a bare one for a single file.
        option: as typed.
        value: the name of its value in help.
    """
    wanted: dict[Path, str] = {}
    for text in typed:
        name, equals, said = text.rpartition("=")
        if not equals and len(files) > 1:
            hint = f"write {option} FILE={value} for each"
            ui.usage(f"{option} {text} with {len(files)} files", hint)
        matches = [file for file in files if not equals or name == file.name or Path(name) == file]
        if len(matches) != 1:
            known = ", ".join(map(str, files))
            ui.usage(f'{option} {text}: {len(matches)} of the files are called "{name}"', known)
        if matches[0] in wanted:
            kind = option.removeprefix("--")
            ui.usage(f"two {kind}s for {matches[0]}: {wanted[matches[0]]} and {said}")
        wanted[matches[0]] = said
    return wanted
