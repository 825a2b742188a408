# SPDX-License-Identifier: Apache-2.0
"""The words of a run on one board: its options, its progress, and its outcome."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from fwsign.errors import Failed, FwsignError
from fwsign.flash.boards.board import BoardInfo
from fwsign.flash.boards.release import HeldRelease
from fwsign.flash.device_data import Filled, Filler
from fwsign.flash.esp.kept_data import Kept
from fwsign.flash.plan import Region

if TYPE_CHECKING:
    from fwsign.memory.permits import PermittedRelease

Status: TypeAlias = Literal[
    "verified",
    "device-reported",
    "not bootable",
    "not verifiable",
    "incomplete",
    "refused",
    "dry run",
]
How: TypeAlias = Literal["sha256", "md5", "crc32", "image", "none"]


class Options(NamedTuple):
    """The options of flashing.

    Args:
        readback: "full" reads everything back, "digest" lets the board compute digests; None
            takes the cheapest way that suffices for `verified`.
        force_rewrite: also write bytes that are there already.
        dry_run: stop before the first erase.
        accept_unverifiable: write to boards that cannot show their content.
        waived: names of checks of images against the board that are waived, as in
            `fwsign.flash.boards.waivers`.
    """

    readback: Literal["full", "digest"] | None = None
    force_rewrite: bool = False
    dry_run: bool = False
    accept_unverifiable: bool = False
    waived: tuple[str, ...] = ()


class Judged(NamedTuple):
    """The release for one board.

    Args:
        held: the release.
        accept: records it in the memory before the start.
        filler: chooses the data for this board alone; None without.
        permit: the permit by which the release is below the board's floor; None if it is not.
    """

    held: HeldRelease
    accept: Callable[[], None]
    filler: Filler | None = None
    permit: "PermittedRelease | None" = None


Judge: TypeAlias = Callable[[BoardInfo], Judged]
"""Verifies the release for a board whose facts are known."""


class Event(NamedTuple):
    """The progress of one board.

    Args:
        stage: what is being done, such as "writing".
        done: bytes of the stage.
        total: bytes of the stage in all; 0 if it has none.
    """

    stage: str
    done: int = 0
    total: int = 0


Report: TypeAlias = Callable[[Event], None]
"""Told of progress; may raise `Stopped`, for an outcome that says what the board holds.

Any other exception but a `FwsignError` leaves `flash` unchanged, without an outcome; the board is
released first.
"""


class Stopped(Exception):
    """The user wants to stop; never leaves `flash`."""


class Checked(NamedTuple):
    """A region after the run: the way it was verified, and the number of bytes written."""

    region: Region
    how: How
    written: int


class Outcome(NamedTuple):
    """The outcome for one board.

    Args:
        status: the known state of the flash.
        info: the board's facts; None if it never answered.
        held: the flashed release; None if it was refused before.
        regions: the checked regions.
        written: bytes that were written.
        differing: bytes that differed, in whole sectors; None if nothing was compared.
        touched: whether anything in the flash may have changed.
        attempts: connections that were made.
        notes: notes for the reader.
        error: the reason for "refused" or "incomplete".
        seconds: time in each stage.
        kept: data of the board under the release's images that was left as it is.
        filled: the data for this board alone; None without.
        permit: the permit by which the release is below the board's floor; None if it is not.
    """

    status: Status
    info: BoardInfo | None
    held: HeldRelease | None
    regions: tuple[Checked, ...]
    written: int
    differing: int | None
    touched: bool
    attempts: int
    notes: tuple[str, ...]
    error: FwsignError | None
    seconds: tuple[tuple[str, float], ...]
    kept: tuple[Kept, ...] = ()
    filled: Filled | None = None
    permit: "PermittedRelease | None" = None


def never_reached(error: FwsignError) -> Outcome:
    """Return the outcome for a board that cannot be reached."""
    return Outcome("incomplete", None, None, (), 0, None, False, 0, (), error, ())


def abandoned() -> Outcome:
    """Return the outcome for an abandoned board, which may have been written to."""
    error = Failed("device.stopped", "ended at once: what the board holds is not known")
    return never_reached(error)._replace(touched=True)
