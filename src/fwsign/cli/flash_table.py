# SPDX-License-Identifier: Apache-2.0
"""What people see of boards being flashed: a live table, and a line for each that has ended."""

import sys
import time
from collections.abc import Sequence
from typing import Final

from fwsign.cli import ui
from fwsign.flash.engine import Event, Outcome

_BAR: Final = 20  # columns
_REDRAW: Final = 0.1  # seconds
_COLOURS: Final = {
    "verified": "green",
    "device-reported": "green",
    "dry run": "green",
    "not verifiable": "yellow",
    "incomplete": "red",
    "refused": "red",
}


class Table:
    """A line for each board that is at work, on a terminal; elsewhere a note for each stage.

    Args:
        ports: what the boards are called, in the order to show.
    """

    def __init__(self, ports: Sequence[str]) -> None:
        self._live = ui.is_terminal(sys.stderr) and not ui.Console.quiet
        self._at: dict[str, tuple[Event, float]] = {
            port: (Event("waiting"), time.monotonic()) for port in ports
        }
        self._width = max(map(len, ports), default=0)
        self._drawn = 0  # lines on the screen
        self._last = 0.0

    def __enter__(self) -> "Table":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the screen without the table."""
        self._clear()

    def show(self, port: str, event: Event) -> None:
        """Show where a board is."""
        before, since = self._at[port]
        entered = event.stage != before.stage
        self._at[port] = (event, time.monotonic() if entered else since)
        if not self._live:
            if entered and event.stage in ("writing", "verifying"):
                ui.note(f"{port}: {event.stage} {event.total} bytes")
        elif entered or time.monotonic() - self._last > _REDRAW:
            self._clear()
            self._draw()

    def end(self, port: str) -> None:
        """Take a board out, and make room for lines about it."""
        del self._at[port]
        self._clear()

    def _draw(self) -> None:
        self._last = time.monotonic()
        lines = [self._line(port) for port in self._at]
        sys.stderr.write("".join(f"{ui.clean(line)}\x1b[K\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            sys.stderr.flush()
            self._drawn = 0

    def _line(self, port: str) -> str:
        event, since = self._at[port]
        if not event.total:
            return f"{port:{self._width}}  {event.stage}"
        share = event.done / event.total
        bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
        spent = max(time.monotonic() - since, 0.001)
        speed = f"{event.done / spent / 1000:7.1f} kB/s"
        return f"{port:{self._width}}  {event.stage:10} [{bar}] {share:4.0%} {speed}"


def tell(port: str, outcome: Outcome) -> None:
    """Print how it ended for a board."""
    info, error = outcome.info, outcome.error
    who = " ".join(filter(None, (info.chip, info.identity))) if info else ""
    size = sum(one.region.size for one in outcome.regions)
    seconds = sum(spent for _, spent in outcome.seconds)
    facts = f"{size} bytes, {outcome.written} written, {seconds:.1f} s" if size else ""
    line = "  ".join(filter(None, (port, who, facts)))
    ui.painted(outcome.status, _COLOURS[outcome.status], line)
    for one in outcome.regions:
        digest = one.region.sha256.hex()
        ui.out(f"  {one.region.component}  {one.region.size} bytes, {digest[:16]}..., by {one.how}")
    for note in outcome.notes:
        ui.painted("  note", "yellow", note)
    if error is not None:
        ui.complain(f"{port}: {error.message}", _hint(outcome))


def _hint(outcome: Outcome) -> str | None:
    if outcome.error is not None and (hint := ui.hint_for(outcome.error)):
        return hint
    if outcome.touched:
        return "the board may not start as it is; the same command again goes on where it was"
    return "nothing was written to this board" if outcome.status == "incomplete" else None
