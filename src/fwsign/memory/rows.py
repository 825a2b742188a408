# SPDX-License-Identifier: Apache-2.0
"""The rows of per-device data in the device's memory: each belongs to one board, for ever.

Two facts record a row: the board of a serial number, and the serial number of a board. They are
kept for each vendor and product, whatever file the row came from. Both are written in one step, so
that a crash leaves a row free or allotted. The memory's sum covers them.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fwsign.memory.file import StateFile

_GET = "SELECT value FROM facts WHERE name = ?"
_PUT = "INSERT INTO facts VALUES (?, ?)"


class Batch(NamedTuple):
    """The boards among which no two have the same row.

    Args:
        vendor: the vendor's identifier in the manifest.
        klass: the product's.
        simulated: simulated boards use up no rows of real ones.
    """

    vendor: bytes
    klass: bytes
    simulated: bool = False

    def name(self, what: str, key: str) -> str:
        """Return the name of a fact; `what` is "row" or "board"."""
        kind = f"simulated {what}" if self.simulated else what
        return f"{kind}:{self.vendor.hex()}:{self.klass.hex()}:{key}"


def serial_of(file: StateFile, batch: Batch, identity: str) -> str | None:
    """Return the serial number of a board's row; None if it has none."""
    return _fact(file, batch.name("board", identity))


def board_of(file: StateFile, batch: Batch, serial: str) -> str | None:
    """Return the identity of the board that has a row; None if it is free."""
    return _fact(file, batch.name("row", serial))


def first_free(file: StateFile, batch: Batch, serials: Iterable[str]) -> str | None:
    """Return the first serial number that no board has; None if there is none."""
    return next((one for one in serials if board_of(file, batch, one) is None), None)


def allot(file: StateFile, batch: Batch, identity: str, serial: str) -> bool:
    """Give a row to a board, inside a transaction for writing.

    Returns:
        Whether the board has the row now: False if another has it, or the board has another row.
    """
    before = board_of(file, batch, serial), serial_of(file, batch, identity)
    if before == (None, None):
        file.run(_PUT, batch.name("row", serial), identity)
        file.run(_PUT, batch.name("board", identity), serial)
        return True
    return before == (identity, serial)


def _fact(file: StateFile, name: str) -> str | None:
    found = file.run(_GET, name).fetchone()
    return str(found[0]) if found else None
