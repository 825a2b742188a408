# SPDX-License-Identifier: Apache-2.0
"""The display of boards at work: a live table, and a line for each that has ended."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fwsign.cli import answer, ui
from fwsign.flash.attempts import PORT_WAIT, WAITING
from fwsign.flash.conveyor import INSERT, PULL
from fwsign.flash.outcome import Event, Outcome

_BAR: Final = 20  # columns
_REST: Final = 53  # columns of a line, beside the board's name
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


class ResultTable:
    """A line for each board at work, on a terminal; elsewhere a note for each stage.

    Args:
        names: what the boards are called, by their ports, in the order to show.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._live = ui.is_terminal(sys.stderr) and not ui.Console.quiet
        self._at: dict[str, tuple[Event, float]] = {
            port: (Event("waiting"), time.monotonic()) for port in names
        }
        self._called = names
        self._drawn = 0  # lines on the screen
        self._last = 0.0

    def __enter__(self) -> "ResultTable":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the screen without the table."""
        self._clear()

    def show(self, port: str, event: Event) -> None:
        """Show a board's progress."""
        before, since = self._at.get(port, (None, 0.0))
        entered = before is None or event.stage != before.stage
        self._at[port] = (event, time.monotonic() if entered else since)
        if not self._live:
            if entered and event.stage in ("writing", "verifying"):
                ui.note(f"{self._called[port]}: {event.stage} {event.total} bytes")
            elif entered and event.stage == WAITING:
                ui.note(f"{self._called[port]}: {WAITING}, {PORT_WAIT:.0f} seconds at most")
        elif entered or time.monotonic() - self._last > _REDRAW:
            self._clear()
            self._draw()

    def end(self, port: str, outcome: Outcome) -> None:  # noqa: ARG002 - for slots
        """Remove a board, and make room for lines about it."""
        del self._at[port]
        self._clear()

    def _draw(self) -> None:
        self._last = time.monotonic()
        columns, rows = _size()
        names = short_names([self._called[port] for port in self._at], columns - _REST)
        shown = list(self._at)
        if len(shown) >= rows:  # a taller table could not be cleared
            shown = shown[: max(rows - 2, 0)]
        lines = []
        for port in shown:
            line = ui.clean(self._line(port, names[self._called[port]], columns))
            lines.append(self._paint(port, line[: columns - 1]))
        if len(shown) < len(self._at):
            lines.append(f"and {len(self._at) - len(shown)} more")
        sys.stderr.write("".join(f"{line}\x1b[K\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _paint(self, port: str, line: str) -> str:  # noqa: ARG002 - for slots
        return line

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            sys.stderr.flush()
            self._drawn = 0

    def _line(self, port: str, name: str, columns: int) -> str:
        event, since = self._at[port]
        width = max(len(name), min(columns - _REST, max(map(len, self._called.values()))))
        if not event.total:
            return f"{name:{width}}  {event.stage}"
        share = event.done / event.total
        bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
        spent = max(time.monotonic() - since, 0.001)
        speed = f"{event.done / spent / 1000:7.1f} kB/s"
        if columns > width + _REST:
            return f"{name:{width}}  {event.stage:10} [{bar}] {share:4.0%} {speed}"
        return f"{name:{width}}  {event.stage:10} {share:4.0%} {speed}"


class Slots(ResultTable):
    """A block of lines that stays: each slot's state in a word, and the count of its boards."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(names)
        self._good: dict[str, int] = {}
        self._bad: dict[str, int] = {}
        self._last_status: dict[str, str] = {}

    def end(self, port: str, outcome: Outcome) -> None:
        """Count a board, and make room for lines about it."""
        counts = self._bad if _COLOURS[outcome.status] == "red" else self._good
        counts[port] = counts.get(port, 0) + 1
        self._last_status[port] = outcome.status
        self._clear()

    def _paint(self, port: str, line: str) -> str:
        """Colour a slot by what its operator has to do."""
        stage = self._at[port][0].stage
        if stage == PULL:
            return ui.paint(line, _COLOURS[self._last_status[port]], sys.stderr)
        return ui.paint(line, "yellow", sys.stderr) if stage == INSERT else line

    def _line(self, port: str, name: str, columns: int) -> str:
        event, _ = self._at[port]
        width = min(max(columns - _REST, _SHORTEST), max(map(len, self._called.values())))
        good, bad = self._good.get(port, 0), self._bad.get(port, 0)
        counts = f"{good} good" + (f", {bad} bad" if bad else "")
        share = f" {event.done / event.total:4.0%}" if event.total else ""
        status = f"{self._last_status[port].upper()}: " if event.stage == PULL else ""
        return f"{name:{width}}  {status}{event.stage.upper()}{share}  {counts}"


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


def _size() -> tuple[int, int]:
    """Return the columns and rows of the terminal; a larger table would break."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return 80, 24
    return size.columns or 80, size.lines or 24


def tell(name: str, outcome: Outcome, receipt: Mapping[str, Any]) -> None:
    """Print a board's result.

    Args:
        name: what it is called.
        outcome: how it ended.
        receipt: its receipt.
    """
    info, error = outcome.info, outcome.error
    who = " ".join(filter(None, (info.chip, info.identity))) if info else ""
    typed = [
        f"{words}: {', '.join(receipt[key])}"
        for words, key in (("waived", "waived"), ("left out", "left_out"))
        if receipt[key]
    ]
    serial = f"serial {outcome.filled.row.serial}" if outcome.filled else ""
    parts = (name, who, serial, _facts(outcome), _release(receipt["release"]), *typed)
    ui.painted_parts(outcome.status, _COLOURS[outcome.status], parts)
    for one in outcome.regions:
        digest = one.region.sha256.hex()
        how = "not verified" if one.how == "none" else f"by {one.how}"
        ui.out(f"  {one.region.component}  {one.region.size} bytes, {digest[:16]}..., {how}")
    for note in outcome.notes:
        ui.painted("  note", "yellow", note)
    if error is not None:
        ui.complain(f"{name}: {error.message}", _hint(outcome))


def _release(facts: Mapping[str, Any] | None) -> str:
    """Return a release's version and sequence number."""
    return (
        " ".join(filter(None, (facts["version"], f"#{facts['sequence_number']}"))) if facts else ""
    )


def _facts(outcome: Outcome) -> str:
    seconds = sum(spent for _, spent in outcome.seconds)
    if outcome.status == "dry run":
        return f"{outcome.differing} bytes would change, {seconds:.1f} s"
    size = sum(one.region.size for one in outcome.regions)
    return f"{size} bytes, {outcome.written} written, {seconds:.1f} s" if size else ""


def sum_up(outcomes: Sequence[Outcome], *, always: bool = False) -> None:
    """Print the number of boards with each result, the good ones first; for one only if always."""
    if len(outcomes) < 2 and not always:
        return
    statuses: list[str] = [one.status for one in outcomes]
    counts = {status: statuses.count(status) for status in _COLOURS}
    aim = "dry run" if counts["dry run"] else "verified"
    others = [f"{n} {status}" for status, n in counts.items() if n and status != aim]
    ui.out(", ".join([f"{counts[aim]} of {len(outcomes)} {aim}", *others]))


def _hint(outcome: Outcome) -> str | None:
    if outcome.error is not None and (hint := answer.hint_for(outcome.error)):
        return hint
    if outcome.touched:
        return "the board may not start as it is; the same command again goes on where it was"
    return "nothing was written to this board" if outcome.status == "incomplete" else None
