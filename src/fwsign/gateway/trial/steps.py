# SPDX-License-Identifier: Apache-2.0
"""The steps of a trial: it begins to run, its health is judged, it is committed or goes back.

`trial_decision` decides, this module does.
"""

import contextlib
from collections.abc import Mapping
from typing import Final

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.config.trial_rules import TrialRules
from fwsign.gateway.run import after_install, verb_commands
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import (
    demands,
)
from fwsign.gateway.target import programs
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.trial.commit import remember_installed, tidy
from fwsign.gateway.trial.decision import Decision, TrialFacts, decide, is_blamed
from fwsign.gateway.trial.going_back import Returned, go_back, receipt_facts
from fwsign.gateway.trial.judged_again import JudgedAgain, judge_again
from fwsign.gateway.trial.record import (
    TrialRecord,
    failed_of,
    read_failed,
    read_trial,
    write_trial,
)
from fwsign.gateway.trial.status import TrialStatus, TrialVerdict, nothing_on_trial

NOT_YET: Final = 75
"""The exit status of a health command that cannot tell yet (EX_TEMPFAIL); it is asked again."""


def settle(gateway: OpenGateway) -> TrialStatus:
    """Do what is due for the release on trial, and tell how it is.

    Raises:
        Failed: `state.*`, `io.*`; commands or boards that are not back yet.
    """
    record = read_trial(gateway.state)
    return TrialStatus("no trial") if record is None else _Trial(gateway, record).settle()


def end(gateway: OpenGateway, reason: str) -> TrialStatus:
    """End the trial by hand: the release is taken for one that failed.

    Raises:
        Failed: `state.nothing`: none is on trial; `state.*`, `io.*`.
    """
    record = read_trial(gateway.state)
    if record is None:
        raise nothing_on_trial("no release is on trial", "one", "none")
    return _Trial(gateway, record).go_back(reason, blamed=True)


def is_running(gateway: OpenGateway, record: TrialRecord, boards: Mapping[str, str]) -> None:
    """Remember that a release is in place, and that its trial begins now, unless it was ended.

    Args:
        gateway: the gateway at work.
        record: the release.
        boards: port -> the identity of the board that was flashed there.
    """
    now = gateway.request.uptime()
    running = record._replace(phase="running", boards={**record.boards, **boards})
    running = running._replace(boot=now.boot, since=now.seconds, seen=now.seconds)
    with gateway.state.transaction():
        known = read_trial(gateway.state)
        if known is None:
            raise _ended_meanwhile(record)
        write_trial(gateway.state, running.ended_as(known))
        after_install.owe(gateway.state, gateway.device, "installed", record.release, record.before)


def give_up(gateway: OpenGateway, record: TrialRecord, error: FwsignError) -> FwsignError:
    """Go back from a release that could not be put in place; return the error for this run.

    A command that fails is the release's fault. All else, such as a cable, may be better next time.

    Raises:
        Failed: commands or boards are not back yet.
    """
    blamed = not isinstance(error, Failed) or error.code == "io.hook"
    found = _Trial(gateway, record).go_back(error.message, blamed=blamed)
    if blamed or found.verdict == "stays":
        return found.refusal()
    outcome = ", ".join((*found.notes, "the release before is in place again"))
    message = f"{error.message}; {outcome}"
    return type(error)(error.code, message, expected=error.expected, found=error.found)


class _Trial:
    """A release on trial, with the gateway open."""

    def __init__(self, gateway: OpenGateway, record: TrialRecord) -> None:
        self._gateway, self._state, self._record = gateway, gateway.state, record
        self._rules = gateway.device.trial or TrialRules(())
        self._counted = True

    def settle(self) -> TrialStatus:
        """Act on decisions until one ends this run."""
        if self._record.phase == "running":
            self._count()
        while (decision := decide(self._facts())).action == "check health":
            ended = self._check_health()
            if ended is not None:
                return ended
        match decision.action:
            case "go back":
                return self.go_back(decision.reason, blamed=self._is_blamed(decision))
            case "commit":
                return self._commit()
            case "nothing":
                return TrialStatus("stays", self._record, decision.reason)
            case _:
                self._write(self._record)
                return TrialStatus("on trial", self._record, decision.reason)

    def go_back(self, reason: str, *, blamed: bool) -> TrialStatus:
        """Bring the release before back."""
        done: Returned = go_back(self._gateway, self._record, reason, blamed=blamed)
        verdict: TrialVerdict = "stays" if done.stays else "fell back"
        return TrialStatus(verdict, done.record, done.reason, done.notes)

    def _count(self) -> None:
        """Count another start of the machine, before anything of the release is asked."""
        seen = self._record.at(self._gateway.request.uptime())
        if seen.boots != self._record.boots:
            self._counted = self._write(seen)
        self._record = seen

    def _write(self, record: TrialRecord) -> bool:
        """Write the record; a confirmation or an end that others wrote meanwhile stays.

        Returns:
            Whether that was possible. If not, this run goes on with the record all the same.
        """
        self._record = record
        try:
            with self._state.transaction():
                known = read_trial(self._state)
                if known is None:
                    return False
                self._record = record._replace(confirmed=known.confirmed).ended_as(known)
                write_trial(self._state, self._record)
        except Failed:
            return False
        return True

    def _facts(self) -> TrialFacts:
        record, release = self._record, self._record.release
        return TrialFacts(
            record.phase,
            in_place=KeptReleases(self._gateway.target).envelope(release.manifest) is not None
            and (release.directory in (None, self._gateway.target.current())),
            ruled=self._gateway.device.trial is not None,
            counted=self._counted,
            boots=record.boots,
            most_boots=record.most_boots,
            elapsed=record.elapsed,
            deadline=record.deadline,
            healthy=record.healthy,
            confirmed=record.confirmed or self._rules.confirm == "health",
            reason=record.reason,
        )

    def _is_blamed(self, decision: Decision) -> bool:
        """Tell whether the release is at fault, and not the power or the owner."""
        record = self._record
        if record.phase == "activating":
            if not record.commands and not record.boards:
                return False  # moving a link cannot end the machine
            known = failed_of(read_failed(self._state), record.release.manifest)
            return is_blamed((known.interrupted if known else 0) + 1, record.most_boots)
        return record.blamed if record.phase == "going back" else decision.blamed

    def _check_health(self) -> TrialStatus | None:
        """Run the health command; return the status if that ends this run, else decide again."""
        if (failure := after_install.run_owed(self._gateway)) is not None:
            return self.go_back(failure, blamed=True)  # what uses the release does not run
        self._record = self._record.at(self._gateway.request.uptime())
        if self._record.left == 0:
            return None
        rules, record = self._rules, self._record
        version = record.release.version or ""
        try:
            ended = programs.run(
                rules.health,
                seconds=min(rules.health_seconds, record.left),
                environment={
                    "FWSIGN_SEQUENCE": str(record.release.sequence),
                    "FWSIGN_VERSION": version if version.isprintable() else "",
                },
                user=rules.user,
                lock=self._gateway.target.lock,
            )
        except Failed as error:
            return self.go_back(f"its health is not known: {error.message}", blamed=True)
        ended.tell_output("health", self._gateway.request.tell)
        record = self._record.at(self._gateway.request.uptime())
        if ended.status == 0:
            self._write(record._replace(healthy=True))
            return None
        self._write(record)
        if self._record.phase != "running":
            return None
        if ended.status == NOT_YET:
            why = f"{rules.health[0]} cannot tell yet whether it is healthy"
            return TrialStatus("on trial", self._record, why)
        return self.go_back(f"{rules.health[0]} {ended.said()}", blamed=True)

    # --- commit -----------------------------------------------------------------------------------

    def _commit(self) -> TrialStatus:
        """Let the release stay: from here on nothing older is accepted."""
        record = self._record
        try:
            self._check_files(self._judged())
            for name in record.commands:
                verb_commands.confirm(self._gateway, record.release, name)
            with self._state.transaction():
                known = read_trial(self._state)
                if known is None or known.phase != "running":
                    raise _ended_meanwhile(record)
                judged = self._judged()  # again: anchors and CRLs may have changed meanwhile
                self._state.accept(None, judged.release, judged.floor)
                self._raise_boards(judged)
                remember_installed(self._state, record.release, record.before)
                self._gateway.log.add("committed", release=judged.release, **receipt_facts(record))
        except FwsignError as error:
            if isinstance(error, Failed) and error.code != "io.hook" and self._may_wait(error):
                raise
            return self.go_back(f"it cannot be committed: {error.message}", blamed=True)
        with contextlib.suppress(FwsignError):  # it is committed; the next run tidies up
            tidy(self._gateway)
        return TrialStatus("committed", record, "it passed its trial")

    def _may_wait(self, error: Failed) -> bool:
        """Tell whether a commit that was not possible may be tried again by another run."""
        record, passing = self._record, error.code in ("state.busy", "state.conflict")
        return passing or (record.left > 0 and record.boots <= record.most_boots)

    def _judged(self) -> JudgedAgain:
        return judge_again(self._gateway, self._record.release, commit=True)

    def _check_files(self, judged: JudgedAgain) -> None:
        directory = self._record.release.directory
        if directory is not None:
            names = self._record.release.files
            files = [one for one in judged.release.components if one.name in names]
            self._gateway.target.adopt(files, directory)

    def _raise_boards(self, judged: JudgedAgain) -> None:
        """Let the floors of the boards rise too, in the same transaction."""
        _, base = demands(self._gateway.device, self._state)
        for identity in filter(None, self._record.boards.values()):
            _, floor = self._state.policy(base, identity, judged.release)
            self._state.accept(identity, judged.release, floor)


def _ended_meanwhile(record: TrialRecord) -> Failed:
    number = record.release.sequence
    return Failed(
        "state.conflict",
        f"the trial of release {number} was ended meanwhile, by a trust update or a reset",
        expected=f"release {number} on trial",
        found="none",
    )
