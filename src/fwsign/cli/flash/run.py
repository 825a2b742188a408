# SPDX-License-Identifier: Apache-2.0
"""A run of `fwsign flash`: work on boards, print each result, and handle stops."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

from fwsign.cli import answer, ui
from fwsign.cli.flash.records import Records
from fwsign.cli.flash.table import ResultTable, Slots, sum_up, tell
from fwsign.errors import FwsignError
from fwsign.flash.conveyor import INSERT, PULL, Conveyor
from fwsign.flash.outcome import Outcome, abandoned
from fwsign.flash.station import Station

_WORST: Final = (70, answer.REFUSED, answer.FAILED, answer.UNSUITABLE, answer.STALE, 0)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else []))


def run(
    station: Station, records: Records, *, as_json: bool, bell: bool = False, count: bool = False
) -> int:
    """Flash all boards, print each result, and return the exit status of the worst.

    Args:
        station: the boards.
        records: keeps a receipt of each board, also of abandoned ones.
        as_json: print lines of JSON.
        bell: ring the terminal's bell for each board that has ended.
        count: sum up also a single board, since nobody named it.

    Raises:
        FwsignError: a receipt could not be kept.
        KeyboardInterrupt: the run was stopped.
    """
    waits = isinstance(station, Conveyor)
    errors, outcomes = list[Exception](), list[Outcome]()
    names = {port: records.label(port) or port for port in station.ports}
    left = [] if waits else list(station.ports)
    try:
        with (
            _stopped_by_signals(station),
            Slots(names) if waits else ResultTable(names) as table,
            contextlib.closing(iter(station)) as happenings,
        ):
            for job, what in happenings:
                port = job.port
                names.setdefault(port, records.label(port) or port)
                if not isinstance(what, Outcome):
                    table.show(port, what)
                    if port not in left and what.stage not in (INSERT, PULL):
                        left.append(port)
                    continue
                table.end(port, what)
                _tell(port, what, records, errors, as_json=as_json)
                _ring(bell=bell)
                outcomes.append(what)
                left = [one for one in left if one != port]
                if waits and any(not isinstance(one, ui.ReaderGone) for one in errors):
                    station.stop()  # no board without a receipt
    except KeyboardInterrupt:  # the remaining boards are abandoned, but were begun
        for port in left:
            outcomes.append(abandoned())
            with _later(errors):
                records.keep(records.describe(port, outcomes[-1]))
        _sum_up(outcomes, errors, as_json=as_json, always=count or waits)
        raise
    _sum_up(outcomes, errors, as_json=as_json, always=count or waits)
    for error in errors:
        if not isinstance(error, ui.ReaderGone):  # without a reader, the status still tells
            raise error
    if station.stopping and not (waits and not _cut_off(outcomes)):
        raise KeyboardInterrupt
    return min((_status(one) for one in outcomes), key=_WORST.index, default=0)


def _cut_off(outcomes: list[Outcome]) -> bool:
    """Tell whether a stop came while a board was at work."""
    return any(one.error is not None and one.error.code == "device.stopped" for one in outcomes)


def _ring(*, bell: bool) -> None:
    if bell and ui.is_terminal(sys.stderr):
        sys.stderr.write("\a")
        sys.stderr.flush()


def _sum_up(
    outcomes: list[Outcome], errors: list[Exception], *, as_json: bool, always: bool
) -> None:
    if not as_json:
        with _later(errors):
            sum_up(outcomes, always=always)


def _tell(
    port: str, outcome: Outcome, records: Records, errors: list[Exception], *, as_json: bool
) -> None:
    """Keep a board's receipt, then print its result; keep errors of either for later."""
    receipt = records.describe(port, outcome)
    with _later(errors):
        records.keep(receipt)
    ui.Console.json_told = as_json
    with _later(errors):
        if as_json:
            ui.print_json_line(receipt)
        else:
            tell(receipt["label"] or port, outcome, receipt)


def _status(outcome: Outcome) -> int:
    return answer.exit_status(outcome.error) if outcome.error else 0


@contextlib.contextmanager
def _later(errors: list[Exception]) -> Iterator[None]:
    """Keep an error until all boards have ended: it stops no board and loses no receipt."""
    try:
        yield
    except (FwsignError, ui.ReaderGone) as error:
        errors.append(error)


@contextlib.contextmanager
def _stopped_by_signals(station: Station) -> Iterator[None]:
    """Let the first Ctrl-C end all boards in order, and a second one the program."""

    def stop(*_: Any) -> None:
        if station.stopping:
            station.abandon()
            raise KeyboardInterrupt
        station.stop()
        with contextlib.suppress(RuntimeError):  # it came in the middle of a line being printed
            ui.note("stopping: each board is left at the end of its step; once more to end at once")

    # Ignored signals stay ignored: nohup(1) relies on that.
    heard = [one for one in _SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
