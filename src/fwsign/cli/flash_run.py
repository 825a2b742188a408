# SPDX-License-Identifier: Apache-2.0
"""A run of `fwsign flash`: work on boards, print each result, and handle stops."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any, Final

from fwsign.cli import ui
from fwsign.cli.flash_records import Records
from fwsign.cli.flash_table import Table, sum_up, tell
from fwsign.errors import FwsignError
from fwsign.flash.engine import Outcome, abandoned
from fwsign.flash.station import Station

_WORST: Final = (70, ui.REFUSED, ui.FAILED, ui.UNSUITABLE, ui.STALE, 0)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else []))


def run(station: Station, records: Records, *, as_json: bool) -> int:
    """Flash all boards, print each result, and return the exit status of the worst.

    Args:
        station: the boards.
        records: keeps a receipt of each board, also of abandoned ones.
        as_json: print lines of JSON.

    Raises:
        FwsignError: a receipt could not be kept.
        KeyboardInterrupt: the run was stopped.
    """
    errors, outcomes = list[Exception](), list[Outcome]()
    left = list(station.ports)
    try:
        with (
            _stopped_by_signals(station),
            Table({port: records.labels.get(port, port) for port in station.ports}) as table,
            contextlib.closing(iter(station)) as happenings,
        ):
            for job, what in happenings:
                if not isinstance(what, Outcome):
                    table.show(job.port, what)
                    continue
                table.end(job.port)
                _tell(job.port, what, records, errors, as_json=as_json)
                outcomes.append(what)
                left.remove(job.port)
    except KeyboardInterrupt:  # the remaining boards are abandoned, but were begun
        for port in left:
            outcomes.append(abandoned())
            with _later(errors):
                records.keep(records.describe(port, outcomes[-1]))
        _sum_up(outcomes, errors, as_json=as_json)
        raise
    _sum_up(outcomes, errors, as_json=as_json)
    for error in errors:
        if not isinstance(error, ui.ReaderGone):  # without a reader, the status still tells
            raise error
    if station.stopping:
        raise KeyboardInterrupt
    return min((_status(one) for one in outcomes), key=_WORST.index, default=0)


def _sum_up(outcomes: list[Outcome], errors: list[Exception], *, as_json: bool) -> None:
    if not as_json:
        with _later(errors):
            sum_up(outcomes)


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
    return ui.exit_status(outcome.error) if outcome.error else 0


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
