# SPDX-License-Identifier: Apache-2.0
"""Many boards at once: a thread for each port, and one iterator of all events.

A board that fails never stops the others. Threads do little but wait for their lines, and esptool
runs in a process of its own for each port.
"""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, TypeAlias

from fwsign.errors import Failed
from fwsign.flash import engine
from fwsign.flash.boards.board import Connect
from fwsign.flash.outcome import Event, Judge, Options, Outcome, Stopped, never_reached

MAX_BOARDS: Final = 64
"""Boards at once: more than any USB tree has, and few enough for a thread each."""
_POLL: Final = 0.2  # seconds; on Windows, waiting would block Ctrl-C for longer


class Job(NamedTuple):
    """A board to flash.

    Args:
        port: the user's name for it.
        attach: yields the function that opens the board, for the time of its use.
        judge: verifies the release for this board.
    """

    port: str
    attach: Callable[[], AbstractContextManager[Connect]]
    judge: Judge


Happening: TypeAlias = tuple[Job, Event | Outcome]


class Station:
    """Flashes boards at once; iteration yields events, and each job's `Outcome` last.

    Args:
        jobs: at most `MAX_BOARDS`.
        options: for every board.

    Raises:
        Failed: `device.port`: one port twice, or too many.
    """

    def __init__(self, jobs: Sequence[Job], options: Options) -> None:
        ports = [job.port for job in jobs]
        twice = next((port for port in ports if ports.count(port) > 1), None)
        if twice is not None or len(jobs) > MAX_BOARDS:
            what = f"{twice} was given twice" if twice else f"{len(jobs)} boards at once"
            expected = f"at most {MAX_BOARDS}, each once"
            hint = f"name at most {MAX_BOARDS} boards, each once"
            raise Failed("device.port", what, expected=expected, found=what, hint=hint)
        self._jobs, self._options = jobs, options
        self._happenings: queue.SimpleQueue[tuple[Job, Event | Outcome | BaseException]]
        self._happenings = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._abandoned = False

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the boards."""
        return tuple(job.port for job in self._jobs)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let every board end at its next step; the iteration goes on until all have."""
        self._stopping.set()

    def abandon(self) -> None:
        """Stop, and let the iteration end without waiting for any board."""
        self._abandoned = True
        self.stop()

    def __iter__(self) -> Generator[Happening, None, None]:
        """Start all jobs, and yield their events until the last one has ended."""
        # Daemons: the program can end while a thread still waits for a board.
        threads = [
            threading.Thread(target=self._run, args=(job,), daemon=True) for job in self._jobs
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        mistake: BaseException | None = None
        try:
            while left:
                try:
                    job, what = self._happenings.get(timeout=_POLL)
                except queue.Empty:
                    continue
                left -= not isinstance(what, Event)
                if isinstance(what, BaseException):
                    mistake = what
                else:
                    yield job, what
        finally:  # also if the caller stops iterating: then no board goes on by itself
            if left:
                self.stop()
            for thread in () if self._abandoned else threads:
                thread.join()
        if mistake is not None:
            raise mistake

    def _run(self, job: Job) -> None:
        def report(event: Event) -> None:
            if self._stopping.is_set():
                raise Stopped
            self._happenings.put((job, event))

        try:
            with job.attach() as connect:
                outcome = engine.flash(connect, job.judge, self._options, report)
        except Failed as error:  # there is no such port
            outcome = never_reached(error)
        except BaseException as error:  # noqa: BLE001 - our own mistake: passed on, and raised there
            self._happenings.put((job, error))
            return
        self._happenings.put((job, outcome))
