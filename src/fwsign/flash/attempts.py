# SPDX-License-Identifier: Apache-2.0
"""The connections of one run: a limited number, and the wait for a port that is gone for a while.

A loose plug or a restarting hub takes the port away for some tenths of a second. Meanwhile every
connection fails at once, so these failures do not count. Another board that comes back is refused.
"""

import time
from collections.abc import Callable
from typing import Final

from fwsign.errors import Failed, FwsignError
from fwsign.flash.boards.board import Board, BoardInfo, Connect

ATTEMPTS: Final = 4
"""Connections for one run. A failed one may have made progress; the next may be slower."""
PORT_WAIT: Final = 10.0
"""Seconds for a port to come back that was there before."""
WAITING: Final = "waiting for the port"
"""The stage of a run that waits so."""

_PAUSES: Final = (0.1, 0.2, 0.4, 0.8)  # seconds between two tries, the last one again and again
_SLICE: Final = 0.1  # seconds between two looks for a stop
_AT_ONCE: Final = ("device.lost", "device.protocol", "device.refused", "device.mismatch")
_ONCE_SEEN: Final = (*_AT_ONCE, "device.absent")


class Attempts:
    """Opens a board, up to `ATTEMPTS` times.

    Args:
        connect: opens the board's port.
        waiting: called again and again while the port is gone; may raise to end the wait.
    """

    def __init__(self, connect: Connect, waiting: Callable[[], None]) -> None:
        self._connect, self._waiting = connect, waiting
        self.count = 0
        """Connections for which the port was there."""

    def open(self) -> Board:
        """Open the board. If its port was there before and is gone, wait for it.

        Raises:
            Failed: as `Connect`; `device.port` at once if the port was never there.
        """
        end: float | None = None
        pauses = list(_PAUSES)
        while True:
            try:
                board = self._connect(self.count)
            except Failed as error:
                if error.code != "device.port":
                    self.count += 1
                    raise
                end = end or time.monotonic() + PORT_WAIT
                if not self.count or time.monotonic() >= end:
                    raise
            else:
                self.count += 1
                return board
            self._pause(pauses.pop(0) if len(pauses) > 1 else pauses[0])

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._waiting()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
            self._waiting()

    def may_help(self, error: BaseException, *, seen: bool) -> bool:
        """Tell whether another connection may end better than with this error.

        Args:
            error: what ended the last one.
            seen: whether the board has answered before.
        """
        codes = _ONCE_SEEN if seen else _AT_ONCE
        return isinstance(error, FwsignError) and error.code in codes and self.count < ATTEMPTS


def restart(board: Board) -> tuple[str, ...]:
    """Restart a board; return a note if only its user can.

    Raises:
        Failed: as `Board.reset`.
    """
    try:
        board.reset()
    except Failed as error:
        if error.code != "device.support":
            raise
        return (error.message,)
    return ()


def left_running(board: Board) -> tuple[str, ...]:
    """Let a board go on that nothing was written to; return notes, also for an error."""
    try:
        return restart(board)
    except Failed as error:  # the result is the reason why it was left
        return (f"the board may still be in its boot loader: {error.message}",)


def refuse_another(before: BoardInfo, now: BoardInfo) -> None:
    """Refuse to go on if another board was put in the place of the judged one.

    Raises:
        Failed: `device.changed`.
    """
    # The flash size is not compared: some boards derive it from the flash's content.
    facts = [
        (one.kind, one.chip, one.identity, one.start, one.sector, one.locks)
        for one in (before, now)
    ]
    if facts[0] != facts[1]:
        names = [
            ", ".join((f"{one.chip or one.kind} {one.identity or ''}".strip(), *one.locks))
            for one in (before, now)
        ]
        raise Failed(
            "device.changed",
            f"{names[1]} is at the port where {names[0]} was",
            expected=names[0],
            found=names[1],
        )
