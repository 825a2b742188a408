# SPDX-License-Identifier: Apache-2.0
"""A station that goes on: when a board is pulled, the next one at its port is flashed.

The system's list of ports tells what comes and goes: no board is asked again, for that would
restart it. A port is free again if it was gone for a while, or if the USB serial number at it has
changed. A board that ended well is left alone if its serial number shows that it comes back.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Final

from fwsign.errors import Failed, FwsignError
from fwsign.flash.outcome import Event, Options, Outcome, never_reached
from fwsign.flash.station import MAX_BOARDS, Happening, Job, Station

INSERT: Final = "insert a board"
PULL: Final = "pull the board"
"""The stages of a port without work."""
GONE: Final = 1.5
"""Seconds after which a port that is gone counts as pulled: restarting takes it away too."""
_POLL: Final = 0.3  # seconds between two looks
_GOOD: Final = ("verified", "device-reported", "not verifiable", "dry run")

Look = Callable[[], Mapping[str, str | None]]
"""Returns the ports with boards, each with the USB serial number; None if it has none."""
Make = Callable[[str], Job]
"""Makes the job for the board that is at a port now."""


class _Slot:
    """A port, and what became of its board."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.busy = False
        self.done = False  # the board that is here has had its turn
        self.good = False
        self.serial: str | None = None
        self.left: float | None = None  # when the port was first seen gone


class Conveyor(Station):
    """Flashes one board after another at each port, until it is stopped.

    Args:
        look: tells which boards are here.
        make: makes the job of a board.
        options: for every board.
        ports: those to name from the start, also while no board is there.
    """

    def __init__(
        self, look: Look, make: Make, options: Options, ports: tuple[str, ...] = ()
    ) -> None:
        super().__init__([], options)
        self._look, self._make = look, make
        self._slots = {port: _Slot(port) for port in ports}

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the ports that were seen so far."""
        return tuple(self._slots)

    def __iter__(self) -> Generator[Happening, None, None]:
        """Yield events and outcomes until `stop`, and until the last board has ended."""
        for slot in self._slots.values():
            yield _idle(slot.port), Event(INSERT)
        next_look = 0.0
        try:
            while not self.stopping or any(slot.busy for slot in self._slots.values()):
                if not self.stopping and time.monotonic() >= next_look:
                    yield from self._advance()
                    next_look = time.monotonic() + _POLL
                try:
                    job, what = self._happenings.get(timeout=_POLL / 2)
                except queue.Empty:
                    continue
                if isinstance(what, BaseException):
                    raise what
                yield job, what
                if isinstance(what, Outcome):
                    yield from self._ended(self._slots[job.port], what)
        finally:
            self.stop()

    def _ended(self, slot: _Slot, outcome: Outcome) -> Generator[Happening, None, None]:
        slot.busy, slot.done, slot.left = False, True, None
        slot.good = outcome.status in _GOOD
        yield _idle(slot.port), Event(PULL)

    def _advance(self) -> Generator[Happening, None, None]:
        """Compare the ports with those before, and begin what there is to do."""
        here = self._look()
        for port in here:
            if port not in self._slots and len(self._slots) < MAX_BOARDS:
                self._slots[port] = _Slot(port)
        for slot in self._slots.values():
            if slot.busy:
                continue
            if slot.port not in here:
                yield from self._gone(slot)
            elif self._is_next(slot, here[slot.port]):
                yield from self._begin(slot, here[slot.port])

    def _gone(self, slot: _Slot) -> Generator[Happening, None, None]:
        now = time.monotonic()
        slot.left = slot.left or now
        if slot.done and now - slot.left >= GONE:
            slot.done = False
            yield _idle(slot.port), Event(INSERT)

    def _is_next(self, slot: _Slot, serial: str | None) -> bool:
        """Tell whether the board at a port has not had its turn."""
        same = serial is not None and serial == slot.serial
        if not slot.done:
            slot.done = same and slot.good  # it came back as it went
            return not slot.done
        slot.left = None
        return serial is not None and not same

    def _begin(self, slot: _Slot, serial: str | None) -> Generator[Happening, None, None]:
        slot.serial, slot.left = serial, None
        try:
            job = self._make(slot.port)
        except FwsignError as error:
            outcome = never_reached(error)
            yield _idle(slot.port), outcome
            yield from self._ended(slot, outcome)
            return
        slot.busy = True
        threading.Thread(target=self._run, args=(job,), daemon=True).start()


def _idle(port: str) -> Job:
    """Return what stands for a port without work."""

    def nothing(*_: object) -> None:
        raise Failed("device.absent", f"no board is at {port}")

    return Job(port, nothing, nothing)  # type: ignore[arg-type]  # neither is ever called
