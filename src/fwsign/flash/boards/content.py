# SPDX-License-Identifier: Apache-2.0
"""The content of a board: its places, and what they seem to hold."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

ReadAll: TypeAlias = Callable[[int, int], bytes]
"""Reads the flash of a board that can be read: offset and size."""


class BoardEntry(NamedTuple):
    """A place in the flash, and what it seems to hold.

    Args:
        name: "boot loader", "partition table", a partition's label, or a slot.
        offset: in bytes from the start of the flash; None if the board does not tell.
        size: of the place; None if unknown.
        holds: "boot loader", "application", "partition table", "data", "blank" or "unknown".
        project: the program's name; None if it does not tell.
        version: the program's version; None if it does not tell.
        starts: whether the boot loader selects it; None if that is not known here.
        details: names and values for people.
    """

    name: str
    offset: int | None
    size: int | None
    holds: str
    project: str | None = None
    version: str | None = None
    starts: bool | None = None
    details: tuple[tuple[str, str], ...] = ()


class BoardContent(NamedTuple):
    """What a board holds: its places, and notes for the reader."""

    entries: tuple[BoardEntry, ...] = ()
    notes: tuple[str, ...] = ()
