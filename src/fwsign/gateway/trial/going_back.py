# SPDX-License-Identifier: Apache-2.0
"""Go back from a release on trial to the one that was in place, and to no other.

    1  remember that it goes back            5  remove the failed version
    2  verify the release before again,      6  commands: revert
       and hash every byte of its files      7  boards: flash what they had
    3  make a commit impossible              8  remember the end, with a receipt
    4  `current` becomes the version before

Up to step 7 nothing needs new space, and step 1 may fail: after step 3 the trial can only end like
this. An interrupted run does all of it again.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.config.trial_rules import TrialRules
from fwsign.gateway.run import after_install, boards, verb_commands
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import INSTALLED
from fwsign.gateway.target import release_record
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.stage import Staged, facts
from fwsign.gateway.trial.judged_again import JudgedAgain, judge_again
from fwsign.gateway.trial.record import (
    MAX_REASON,
    FailedRelease,
    TrialRecord,
    failed_of,
    read_failed,
    with_failed,
    write_failed,
    write_trial,
)

MAX_RETURNS: Final = 3
"""Runs that try to bring commands and boards back; then what is not back is named and left."""


class Returned(NamedTuple):
    """The end of going back.

    Args:
        record: the release that was on trial.
        stays: whether it stays in place, since the release before must not come back.
        reason: the reason why it failed, and why it stays.
        notes: notes for people: waived checks, and commands and boards that are not back.
    """

    record: TrialRecord
    stays: bool
    reason: str
    notes: tuple[str, ...] = ()


def go_back(gateway: OpenGateway, record: TrialRecord, reason: str, *, blamed: bool) -> Returned:
    """Bring the release before back.

    Args:
        gateway: the gateway at work.
        record: the release on trial.
        reason: the reason why it failed.
        blamed: whether it is at fault, and must not be installed again by itself.

    Raises:
        Failed: commands or boards are not back yet; the next run tries again.
    """
    if record.phase != "going back":
        record = record._replace(phase="going back", reason=reason[:MAX_REASON], blamed=blamed)
        with contextlib.suppress(Failed):  # a full disk must not prolong a trial
            write_trial(gateway.state, record)
    return _Return(gateway, record).run()


def receipt_facts(record: TrialRecord) -> dict[str, Any]:
    """Return the facts about a trial that receipts have."""
    return {
        "manifest": record.release.manifest,
        "trial": {
            "sequence_number": record.release.sequence,
            "before": record.before.manifest if record.before else None,
            "reason": record.reason,
            "seconds": record.elapsed,
            "boots": record.boots,
            "blamed": record.blamed,
        },
    }


class _Return:
    """Going back, with the gateway open."""

    def __init__(self, gateway: OpenGateway, record: TrialRecord) -> None:
        self._gateway, self._record = gateway, record
        self._kept = KeptReleases(gateway.target)
        self._reason = record.reason or "it failed"
        self._notes: list[str] = []
        self._errors: list[FwsignError] = []

    def run(self) -> Returned:
        try:
            before = self._judge_before()
        except FwsignError as refusal:
            passing = refusal.code == "state.busy" or refusal.code.startswith("io.")
            if passing and self._may_retry():
                raise
            return self._stay(refusal)
        self._restore_files()
        self._revert_commands(before)
        self._flash_boards(before)
        if self._errors and self._may_retry():
            raise self._errors[0]
        return self._finish()

    def _judge_before(self) -> JudgedAgain | None:
        """Step 2."""
        record = self._record.before
        if record is None:
            return None
        rules = self._gateway.device.trial or TrialRules(())
        judged = judge_again(self._gateway, record, revoked_returns=rules.revoked == "return")
        target = self._gateway.target
        if record.files and record.directory is not None:
            files = [one for one in judged.release.components if one.name in record.files]
            target.adopt(files, record.directory)
        elif record.directory is not None:
            with target.opened_version(record.directory):
                pass  # it has no files itself, and left those of an older release in use
        if judged.waived is not None:
            self._notes.append(f"revocation was waived for the release before: {judged.waived}")
        return judged

    def _restore_files(self) -> None:
        """Steps 3 to 5."""
        target, release = self._gateway.target, self._record.release
        before = self._record.before
        self._kept.drop(release.manifest)
        if release.directory is None:
            return
        wanted = before.directory if before else None
        if target.current() != wanted:
            self._kept.go_back(wanted)
        if release.directory != wanted:
            target.remove_version(release.directory)

    def _revert_commands(self, before: JudgedAgain | None) -> None:
        """Step 6."""
        for name in reversed(self._record.commands):
            with self._named(name):
                verb_commands.revert(
                    self._gateway, name, self._record.before, before.release if before else None
                )

    def _flash_boards(self, before: JudgedAgain | None) -> None:
        """Step 7: each board gets what the release before had for it."""
        if not self._record.boards:
            return
        record, device = self._record.before, self._gateway.device
        lost = dict.fromkeys(self._record.boards)
        why = "the release before had nothing for this board"
        with contextlib.ExitStack() as stack:
            staged = []
            for number, one in enumerate(before.release.components if before else ()):
                port = device.ports.get(one.flash.chip) if one.flash is not None else None
                if record is None or port not in lost:
                    if one.flash is not None and port is None:
                        chip = one.flash.chip
                        why = f"it is not back: device.toml has no port for {chip} any more"
                    continue
                with self._named(port):
                    handle = stack.enter_context(self._kept.opened(record.manifest, str(number)))
                    staged.append(Staged(one, "flash", str(number), handle, facts(handle)))
            if before is not None and staged:
                for port in boards.ports_of(device, staged):
                    lost.pop(port, None)
                self._flash(before, staged)
        for port in lost:
            self._notes.append(f"{port}: {why}")

    def _flash(self, before: JudgedAgain, staged: list[Staged]) -> None:
        from fwsign.flash.verify_per_board import Given  # few gateways have boards

        gateway = self._gateway
        given = Given(
            before.envelope,
            before.anchors,
            before.policy,
            before.at,
            ("revocation",),  # judged by `judge_again`
            gateway.device.state,
            remember=False,
            settle=before.at_that_time,
        )
        try:
            found = boards.flash(gateway.device, given, staged, self._record.boards)
        except FwsignError as error:
            self._add("boards", error)
            return
        for port, outcome in found:
            with contextlib.suppress(Failed):  # the board counts, not its receipt
                boards.record(gateway, before.release, port, outcome)
            if outcome.error is not None:
                self._add(port, outcome.error)

    def _finish(self) -> Returned:
        """Step 8."""
        gateway, record = self._gateway, self._record
        with gateway.state.transaction():
            write_trial(gateway.state, _still_uncommitted(gateway, record))
            write_failed(gateway.state, _with_this(gateway, record))
            after_install.owe(
                gateway.state, gateway.device, "fell-back", record.before, record.release
            )
            gateway.log.add("fell back", **receipt_facts(record), trial_notes=self._notes)
        with contextlib.suppress(FwsignError):  # the next run tidies up
            self._kept.forget_back()
        with contextlib.suppress(Failed):  # it is owed still, and the next run does it
            if (failure := after_install.run_owed(gateway)) is not None:
                self._notes.append(failure)
        return Returned(record, stays=False, reason=self._reason, notes=tuple(self._notes))

    def _stay(self, refusal: FwsignError) -> Returned:
        """Leave the release in place, uncommitted: no other may run here."""
        gateway = self._gateway
        why = f"{self._reason}; it stays, since the release before must not come back: "
        reason = f"{why}{refusal.message}"[:MAX_REASON]
        record = self._record._replace(phase="stays", reason=reason)
        with gateway.state.transaction():
            write_trial(gateway.state, record)
            write_failed(gateway.state, _with_this(gateway, record))
            gateway.log.add("stays", **receipt_facts(record), refusal=refusal.code)
        return Returned(record, stays=True, reason=reason)

    # --- what does not come back ------------------------------------------------------------------

    def _may_retry(self) -> bool:
        """Count this run; tell whether another one may try again."""
        self._record = self._record._replace(returns=self._record.returns + 1)
        if self._record.returns >= MAX_RETURNS:
            return False
        with contextlib.suppress(Failed):
            write_trial(self._gateway.state, self._record)
        return True

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except FwsignError as error:
            self._add(name, error)

    def _add(self, name: str, error: FwsignError) -> None:
        self._errors.append(error)
        self._notes.append(f"{name} is not back: {error.message}"[:MAX_REASON])


def _still_uncommitted(gateway: OpenGateway, record: TrialRecord) -> TrialRecord | None:
    """Return the record of a release before that had failed and stays; None if it is committed."""
    before, installed = record.before, release_record.read(gateway.state, INSTALLED)
    if before is None or (installed is not None and installed.manifest == before.manifest):
        return None
    own = before.directory if before.files else None  # else of an older release
    return record._replace(
        release=before._replace(directory=own),
        before=installed,
        phase="stays",
        reason="it had failed its trial, and is in place again",
        commands=(),
        boards={},
    )


def _with_this(gateway: OpenGateway, record: TrialRecord) -> tuple[FailedRelease, ...]:
    """Return the releases that failed, with this one."""
    failed = read_failed(gateway.state)
    known = failed_of(failed, record.release.manifest)
    interrupted = known.interrupted if known else 0
    one = FailedRelease(
        record.release.manifest,
        record.release.sequence,
        interrupted if record.blamed else interrupted + 1,
        record.reason if record.blamed else None,
    )
    return with_failed(failed, one)
