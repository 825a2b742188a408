# SPDX-License-Identifier: Apache-2.0
"""The display of boards at work: a live table, and a line for each that has ended."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from fwsign.cli import ui
from fwsign.flash.engine import Event, Outcome

_BAR: Final = 20  # columns
_REST: Final = 53  # columns of a line, beside the port's name
_SHORTEST: Final = 8  # columns of a name, even in a narrow terminal
_GAP: Final = "..."
_REDRAW: Final = 0.1  # seconds
_COLOURS: Final = {
    "verified": "green",
    "device-reported": "green",
    "not bootable": "yellow",
    "dry run": "green",
    "not verifiable": "yellow",
    "incomplete": "red",
    "refused": "red",
}


class Table:
    """A line for each board at work, on a terminal; elsewhere a note for each stage.

    Args:
        ports: what the boards are called, in the order to show.
    """

    def __init__(self, ports: Sequence[str]) -> None:
        self._live = ui.is_terminal(sys.stderr) and not ui.Console.quiet
        self._at: dict[str, tuple[Event, float]] = {
            port: (Event("waiting"), time.monotonic()) for port in ports
        }
        self._names = short_names(ports, _columns() - _REST)
        self._width = max(map(len, self._names.values()), default=0)
        self._drawn = 0  # lines on the screen
        self._last = 0.0

    def __enter__(self) -> "Table":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the screen without the table."""
        self._clear()

    def show(self, port: str, event: Event) -> None:
        """Show a board's progress."""
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
        """Remove a board, and make room for lines about it."""
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
        name = self._names[port]
        if not event.total:
            return f"{name:{self._width}}  {event.stage}"
        share = event.done / event.total
        bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
        spent = max(time.monotonic() - since, 0.001)
        speed = f"{event.done / spent / 1000:7.1f} kB/s"
        return f"{name:{self._width}}  {event.stage:10} [{bar}] {share:4.0%} {speed}"


def short_names(ports: Sequence[str], room: int) -> dict[str, str]:
    """Return a name that fits for each port: its end, which differs between ports.

    Args:
        ports: what the boards are called.
        room: columns; at least a few are taken.
    """
    room = max(room, _SHORTEST)
    names = {port: ui.clean(port) for port in ports}
    for port, name in names.items():
        if len(name) > room:
            last = name.rpartition("/")[2]
            kept = last if len(last) <= room else _GAP + last[len(_GAP) - room :]
            names[port] = kept
    if len(set(names.values())) < len(names):  # some ends are equal
        return {
            port: f"{number} {name[: room - len(str(number)) - 1]}"
            for number, (port, name) in enumerate(names.items(), 1)
        }
    return names


def _columns() -> int:
    """Return the width of the terminal; a longer line would break the table."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def tell(
    port: str, outcome: Outcome, waived: Sequence[str] = (), left_out: Sequence[str] = ()
) -> None:
    """Print a board's result.

    Args:
        port: what it is called.
        outcome: how it ended.
        waived: names of checks that were waived or loosened.
        left_out: names of components that were left out.
    """
    info, error = outcome.info, outcome.error
    who = " ".join(filter(None, (info.chip, info.identity))) if info else ""
    typed = [
        f"{words}: {', '.join(names)}"
        for words, names in (("waived", waived), ("left out", left_out))
        if names
    ]
    serial = f"serial {outcome.filled.row.serial}" if outcome.filled else ""
    line = "  ".join(filter(None, (port, who, serial, _facts(outcome), *typed)))
    ui.painted(outcome.status, _COLOURS[outcome.status], line)
    for one in outcome.regions:
        digest = one.region.sha256.hex()
        how = "not verified" if one.how == "none" else f"by {one.how}"
        ui.out(f"  {one.region.component}  {one.region.size} bytes, {digest[:16]}..., {how}")
    for note in outcome.notes:
        ui.painted("  note", "yellow", note)
    if error is not None:
        ui.complain(f"{port}: {error.message}", _hint(outcome))


def _facts(outcome: Outcome) -> str:
    seconds = sum(spent for _, spent in outcome.seconds)
    if outcome.status == "dry run":
        return f"{outcome.differing} bytes would change, {seconds:.1f} s"
    size = sum(one.region.size for one in outcome.regions)
    return f"{size} bytes, {outcome.written} written, {seconds:.1f} s" if size else ""


def sum_up(outcomes: Sequence[Outcome]) -> None:
    """Print the number of boards with each result, the good results first."""
    if len(outcomes) < 2:
        return
    statuses: list[str] = [one.status for one in outcomes]
    counts = {status: statuses.count(status) for status in _COLOURS}
    aim = "dry run" if counts["dry run"] else "verified"
    others = [f"{n} {status}" for status, n in counts.items() if n and status != aim]
    ui.out(", ".join([f"{counts[aim]} of {len(outcomes)} {aim}", *others]))


def _hint(outcome: Outcome) -> str | None:
    if outcome.error is not None and (hint := ui.hint_for(outcome.error)):
        return hint
    if outcome.touched:
        return "the board may not start as it is; the same command again goes on where it was"
    return "nothing was written to this board" if outcome.status == "incomplete" else None
