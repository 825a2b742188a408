# SPDX-License-Identifier: Apache-2.0
"""Read TOML files that other users cannot write."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Final

from fwsign.errors import Failed
from fwsign.files import io_error
from fwsign.toml import TomlTable

LIMIT: Final = 1024 * 1024
"""Bytes of device.toml, and of each file that it names."""

_OWNED: Final = "writable by its owner alone: root, or who runs this"


def read_toml(path: Path) -> TomlTable:
    """Read a TOML file.

    Raises:
        Failed: `io.config`, `io.*`.
    """
    try:
        content = tomllib.loads(read_owned(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        words = str(error)
        raise Failed("io.config", f"{path}: {words[:1].lower()}{words[1:]}") from None
    return TomlTable(path, "", content)


def read_owned(path: Path) -> bytes:
    """Read a file that only root or this user can write.

    Raises:
        Failed: `io.config`, `io.*`.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise io_error(error, path) from error
    if what := _foreign(facts):
        message = f"{path} could have been written by another user: {what}"
        raise Failed("io.config", message, expected=_OWNED, found=what)
    if len(data) > LIMIT:
        raise Failed("io.config", f"{path} is larger than {LIMIT} bytes", expected=LIMIT)
    return data


def refuse_writable(place: int | Path, path: Path) -> None:
    """Refuse a file or directory that another user could change.

    Args:
        place: the file's path or descriptor.
        path: the path to name in the error.

    Raises:
        Failed: `io.permission`.
        OSError: its facts cannot be read.
    """
    if what := _foreign(os.stat(place)):  # noqa: PTH116 - a descriptor too
        message = f"{path} can be changed by other users: {what}"
        raise Failed("io.permission", message, expected=_OWNED, found=what)


def _foreign(facts: os.stat_result) -> str | None:
    """Return the facts that let another user write a file or directory; None if none do."""
    if facts.st_uid in (0, os.geteuid()) and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return f"mode {stat.S_IMODE(facts.st_mode):04o}, owner {facts.st_uid}"
