# SPDX-License-Identifier: Apache-2.0
"""Flash one board, from the first question to the outcome: judge, compare, write, verify, start.

Even if cable or power fail, a board ends as verified, or the outcome clearly says that it is not.
The flash's present content is compared first, and only differences are written. An interrupted run
continues in the same way.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed, FwsignError, Unsuitable
from fwsign.flash import plan as planning
from fwsign.flash.attempts import WAITING, Attempts, left_running, refuse_another, restart
from fwsign.flash.boards.board import Board, BoardInfo, Connect, Run
from fwsign.flash.boards.release import HeldRelease
from fwsign.flash.compare import different, digest
from fwsign.flash.outcome import (
    Checked,
    Event,
    How,
    Judge,
    Judged,
    Options,
    Outcome,
    Report,
    Status,
    Stopped,
)
from fwsign.flash.plan import Plan, Region

if TYPE_CHECKING:
    from fwsign.flash.device_data import Filled

READ_SIZE: Final = 64 * 1024
"""Bytes per request when flash is read back."""


def flash(connect: Connect, judge: Judge, options: Options, report: Report) -> Outcome:
    """Flash one board; every result is an `Outcome`."""
    return _Run(connect, judge, options, report).outcome()


class _Run:
    """One run. It keeps the state that must outlive a lost connection."""

    def __init__(self, connect: Connect, judge: Judge, options: Options, report: Report) -> None:
        self._judge, self._options, self._report = judge, options, report
        self._attempts = Attempts(connect, self._wait)
        self._info: BoardInfo | None = None
        self._judged: Judged | None = None
        self._plan = Plan(())
        self._filled: Filled | None = None
        self._checked: list[Checked] = []
        self._notes: list[str] = []
        self._written: dict[int, int] = {}  # region's offset: bytes
        self._distrusted: set[int] = set()  # regions whose digests were wrong once
        self._current: set[int] = set()  # regions that were found to be correct
        self._differing: int | None = None
        self._accepted = False
        self._touched = False
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "", time.monotonic()
        self._done = self._total = 0  # bytes of the stage

    def outcome(self) -> Outcome:
        """Make attempts until one completes, or none is left."""
        try:
            while True:
                try:
                    return self._end(self._attempt())
                except Failed as error:
                    if not self._goes_on(error):
                        raise
        except FwsignError as error:
            board_failed = isinstance(error, Failed) and error.code.startswith("device.")
            return self._end("incomplete" if self._touched or board_failed else "refused", error)
        except Stopped:
            stopped = Failed("device.stopped", "stopped before the end")
            return self._end("incomplete", stopped)

    def _attempt(self) -> Status:
        self._enter("connecting")
        board = self._attempts.open()
        try:
            info = board.probe()
            if self._judged is None or self._info is None:
                self._judged = self._refuse_early(board, info)
            else:
                refuse_another(self._info, info)
                _refuse_unverifiable(info, self._options)
            self._info = info
            return self._flash(board, info, self._judged)
        except BaseException as error:
            if not self._goes_on(error):
                self._leave(board, error)
            raise
        finally:
            board.close()

    def _goes_on(self, error: BaseException) -> bool:
        return self._attempts.may_help(error, seen=self._info is not None)

    def _leave(self, board: Board, error: BaseException | None = None) -> None:
        """Let a board go on as before that nothing was written to."""
        another = isinstance(error, Failed) and error.code == "device.changed"
        if self._touched and not another:
            return
        self._clock("leaving")
        self._notes += left_running(board)

    def _refuse_early(self, board: Board, info: BoardInfo) -> Judged:
        """Make all checks that can refuse, before the flash is touched."""
        self._info = info
        judged = self._judge(info)
        _refuse_unverifiable(info, self._options)

        def read(offset: int, size: int) -> bytes | None:
            return board.read(offset, size) if info.readable else None

        while True:  # until the chosen data is this board's
            filled = judged.filler.choose(info) if judged.filler else None
            self._plan = planning.make(judged.held, info, read, self._options.waived, filled)
            _refuse_unplaced(judged.held)
            if judged.filler is None or judged.filler.allot(info, filled):
                self._filled = filled
                return judged

    def _flash(self, board: Board, info: BoardInfo, judged: Judged) -> Status:
        self._checked = []  # the results of an earlier attempt may be outdated
        dirty = self._compare(board, info)
        if self._differing is None:
            self._differing = sum(len(run.data) for _, run in dirty)
        if self._options.dry_run:
            run = self._plan.selection
            if run is not None and board.read(run.offset, len(run.data)) != run.data:
                self._differing += len(run.data)
            self._leave(board)
            return "dry run"
        if not self._accepted:
            judged.accept()
            self._accepted = True
        self._write(board, dirty)
        self._checked = self._verify(board, info)
        if self._select(board):
            self._checked = self._verify(board, info)
        self._enter("finishing")
        finishing = board.finish([one.run for one in self._plan.regions])
        self._notes = [*finishing, *restart(board)]
        return _status([one.how for one in self._checked], self._plan.unbootable)

    # --- compare and write ------------------------------------------------------------------

    def _compare(self, board: Board, info: BoardInfo) -> list[tuple[int, Run]]:
        """Return the runs to write, in safe order, each with its region's offset."""
        self._enter("comparing", sum(region.size for region in self._plan.regions))
        force = self._options.force_rewrite and not self._touched
        self._current = set()
        dirty: list[tuple[int, Run]] = []
        for region in self._plan.regions:
            blind = force or region.offset in self._distrusted
            found = different(board, info, region.run, self._progress, blind=blind)
            runs = [(region.offset, run) for run in found]
            if not runs:
                self._current.add(region.offset)
            dirty += runs
        return dirty

    def _write(self, board: Board, dirty: Sequence[tuple[int, Run]]) -> None:
        if not dirty:
            return
        self._enter("writing", sum(len(run.data) for _, run in dirty))
        self._touched = True
        self._current = set()  # writing one region may have damaged another
        left = [(offset, len(run.data)) for offset, run in reversed(dirty)]

        def progress(size: int) -> None:
            done = size
            while done and left:
                offset, rest = left.pop()
                now = min(rest, done)
                self._written[offset] = self._written.get(offset, 0) + now
                done -= now
                if now < rest:
                    left.append((offset, rest - now))
            self._progress(size)

        board.write([run for _, run in dirty], progress)

    def _select(self, board: Board) -> bool:
        """Write the run that selects the verified regions, and read it back; return if needed."""
        run = self._plan.selection
        if run is None:
            return False
        self._enter("selecting", len(run.data))
        if board.read(run.offset, len(run.data)) == run.data:
            return False
        self._touched = True
        self._current = set()
        board.write([run], self._progress)
        if board.read(run.offset, len(run.data)) != run.data:
            raise _mismatch("the ota data", run.offset)
        return True

    # --- verify -----------------------------------------------------------------------------

    def _verify(self, board: Board, info: BoardInfo) -> list[Checked]:
        self._enter("verifying", sum(region.size for region in self._plan.regions))
        return [
            Checked(
                region,
                self._verify_region(board, info, region),
                self._written.get(region.offset, 0),
            )
            for region in self._plan.regions
        ]

    def _verify_region(self, board: Board, info: BoardInfo, region: Region) -> How:
        if _reads_back(info, self._options):
            state = hashlib.sha256()
            for start in range(region.offset, region.end, READ_SIZE):
                piece = board.read(start, min(READ_SIZE, region.end - start))
                state.update(piece)
                self._progress(len(piece))
            good = state.digest() == region.sha256
            how: How = "sha256"
        elif info.digest is None:
            return "none"
        else:
            how = info.digest
            good = region.offset in self._current  # every block's digest was right just now
            if not good:
                expected = digest(info.digest, region.run.data)
                good = board.digest(region.offset, region.size) == expected
            self._progress(region.size)
        if not good:
            self._distrusted.add(region.offset)
            raise _mismatch(region.component, region.offset)
        return how

    # --- telling ----------------------------------------------------------------------------

    def _enter(self, stage: str, total: int = 0) -> None:
        self._clock(stage)
        self._done, self._total = 0, total
        self._report(Event(stage, 0, total))

    def _wait(self) -> None:
        if self._stage != WAITING:
            self._enter(WAITING)
        self._progress(0)  # which may raise, so that a stop ends the wait

    def _progress(self, size: int) -> None:
        self._done = min(self._done + size, self._total)
        self._report(Event(self._stage, self._done, self._total))

    def _clock(self, stage: str) -> None:
        now = time.monotonic()
        if self._stage:
            spent = self._seconds.get(self._stage, 0.0) + now - self._since
            self._seconds[self._stage] = spent
        self._stage, self._since = stage, now

    def _end(self, status: Status, error: FwsignError | None = None) -> Outcome:
        self._clock("")
        permit = self._judged.permit if self._judged else None
        by_permit = [f"below the floor, by permit {permit.id}"] if permit else []
        return Outcome(
            status=status,
            info=self._info,
            held=self._judged.held if self._judged else None,
            regions=tuple(self._checked),
            written=sum(self._written.values()),
            differing=self._differing,
            touched=self._touched,
            attempts=self._attempts.count,
            notes=(*by_permit, *self._plan.notes, *self._notes),
            error=error,
            seconds=tuple(self._seconds.items()),
            kept=self._plan.kept,
            filled=self._filled,
            permit=permit,
        )


def _refuse_unverifiable(info: BoardInfo, options: Options) -> None:
    if options.readback == "full" and not info.readable:
        raise Unsuitable(
            "unsuitable.locked",
            "the board does not let its flash be read back",
            expected="a board that can be read",
            found=", ".join(info.locks) or info.kind,
            hint="leave out --readback full",
        )
    if info.digest is None and not info.readable and not options.accept_unverifiable:
        raise Unsuitable(
            "unsuitable.locked",
            "the board cannot show what it holds, so that nothing could be verified",
            expected="digests, or reading back",
            found=", ".join(info.locks) or info.kind,
            hint="--accept-unverifiable writes it all the same",
        )


def _refuse_unplaced(held: HeldRelease) -> None:
    """Refuse, before any write, a run that would leave out a part of the release."""
    if held.unplaced:
        names = ", ".join(held.unplaced)
        leave = " ".join(f"--leave-out {name}" for name in held.unplaced)
        raise Failed(
            "device.left-out",
            f"not for flash, and not left out by name: {names}",
            expected="a place in flash, or its name to leave it out",
            found=names,
            hint=f"{leave} flashes the rest; what is for the board is signed so: "
            "fwsign sign FILE --target CHIP@OFFSET",
        )


def _reads_back(info: BoardInfo, options: Options) -> bool:
    wanted = options.readback or ("digest" if info.digest == "md5" else "full")
    return (wanted == "full" or info.digest is None) and info.readable


def _mismatch(what: str, offset: int) -> Failed:
    return Failed(
        "device.mismatch",
        f"the flash at 0x{offset:x} does not hold what was written for {what}",
        expected="what was written",
        found="other bytes",
    )


def _status(hows: Sequence[How], unbootable: str | None) -> Status:
    if "none" in hows:
        return "not verifiable"
    if unbootable is not None:
        return "not bootable"
    return "verified" if all(how in ("sha256", "md5") for how in hows) else "device-reported"
