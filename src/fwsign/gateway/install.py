# SPDX-License-Identifier: Apache-2.0
"""Install a release from an envelope, so that a crash leaves the old one or the new one.

    1  finish or undo an interrupted install       5  remember: floor, intent, receipt, in one step
    2  verify, with the memory's demands           6  commands, then boards
    3  stage every payload, verified and synced    7  `current` becomes the new version
    4  move the files to their version             8  remember that it is done; prune

Up to step 4 only staged files have changed. From step 5 on the floor has risen. For a later run,
staged files are only a hint: it verifies the envelope anew, and reads every byte again.

On trial (`[trial]` in device.toml), step 5 leaves the floor as it was, and step 8 waits until the
release has shown that it works; see `fwsign.gateway.trial.ends`.
"""

import contextlib
from collections.abc import Iterator, Sequence

from fwsign.errors import Failed, FwsignError
from fwsign.gateway import hold
from fwsign.gateway.config.trial_rules import TrialRules
from fwsign.gateway.downloaded import download, resumed
from fwsign.gateway.finish import finish, keep_again, needed, reconcile
from fwsign.gateway.judge import Judge
from fwsign.gateway.run import after_install, boards, hooks, refused, verb_commands
from fwsign.gateway.run.open_gateway import OpenGateway, at_work
from fwsign.gateway.run.session import (
    INSTALLED,
    INTENT,
    SOURCES,
    Installed,
    InstallRequest,
    opened,
    refuse_platform,
    timed,
)
from fwsign.gateway.space import make_room
from fwsign.gateway.target import release_record
from fwsign.gateway.target.delivery import Delivery
from fwsign.gateway.target.directory import ENVELOPE, OWN, STAGE, Target
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import ReleaseRecord, record_of
from fwsign.gateway.target.sources import Sources
from fwsign.gateway.target.stage import Staged
from fwsign.gateway.trial import steps as trial_steps
from fwsign.gateway.trial.record import TrialRecord, write_trial
from fwsign.gateway.trial.start import first_record, refuse_unjudgeable, why_no_trial
from fwsign.gateway.trial.status import TrialStatus
from fwsign.memory.floors import Floor
from fwsign.memory.state import State
from fwsign.verify.verified import VerifiedRelease

__all__ = ["install"]


def install(request: InstallRequest, sources: Sources | None) -> Installed:
    """Install a release.

    Args:
        request: the device, the time, and the options.
        sources: the places of the release; None to resume the one that was begun.

    Raises:
        FwsignError: as `Verifier.verify` and `VerifiedRelease.receive`; besides
            Unsuitable: `unsuitable.target`, `unsuitable.trial`, `unsuitable.failed-before`;
            Tampered: `tampered.staged`; Failed: `state.*`, `io.*`, `device.*`.
    """
    refuse_platform()
    with opened(request.device) as state, contextlib.ExitStack() as stack:
        request, sources = timed(request, sources, state)
        if request.dry_run:
            return Judge(request, state).rehearse(_known(sources))
        target = stack.enter_context(Target(request.device.target_dir))
        run = _Run(request, state, target)
        run.reconcile()
        return run.install(sources)


def install_kept(gateway: OpenGateway, manifest: str) -> Installed:
    """Install a kept release, given the digest of its manifest; nothing is fetched.

    Args:
        gateway: the gateway at work; no release is on trial.
        manifest: the digest of its manifest, in hex.

    Raises:
        FwsignError: as `install`.
    """
    run = _Run(gateway.request, gateway.state, gateway.target)
    run.reconcile()  # may keep again what an earlier run had staged
    KeptReleases(gateway.target).unkeep(manifest)
    envelope = gateway.target.path / OWN / STAGE / ENVELOPE
    request = gateway.request
    return run.install(Sources(str(envelope), (), request.device.fetch, request.tell))


class _Run:
    """One run, with the memory and the target directory open."""

    def __init__(self, request: InstallRequest, state: State, target: Target) -> None:
        self._request, self._state, self._device = request, state, request.device
        self._target = target
        self._gateway = at_work(request, state, target)
        self._judge = Judge(request, state)
        self._log = self._gateway.log
        self._notes: list[str] = []

    def reconcile(self) -> None:
        """Step 1: end a trial that is due, and finish or undo an interrupted install."""
        self._trial = trial_steps.settle(self._gateway)
        self._notes += [self._trial.words] * self._trial.ended_now
        self._notes += reconcile(self._gateway, self._judge) + after_install.notes(self._gateway)

    def install(self, sources: Sources | None) -> Installed:
        """Install, and write a receipt of the decision."""
        sources, notes = (sources, []) if sources else resumed(self._gateway)
        self._notes += notes
        envelope = sources.read_envelope()
        record = None
        with self._refusals(envelope):
            release, floor = self._judge.verify(envelope)
            self._notes += self._judge.notes
            self._notes += hold.notes(self._state, self._request.at)
            wanted = self._judge.deliveries(release, sources)
            if self._trial.verdict == "on trial":  # this release, or it had been refused
                return self._settled(release, self._trial)
            if self._is_installed(release, wanted):
                self._keep_crls(release, floor)
                keep_again(self._gateway, envelope, release)
                self._notes.append("it was installed before")
                return Installed("already installed", release, tuple(self._notes))
            rules, no_trial = self._rules_for(release, wanted)
            self._notes += make_room(self._gateway, release, envelope, wanted)
            self._state.remember(SOURCES, sources.hint())
            if self._request.download_only:
                return download(self._gateway, release, envelope, wanted)
            staged, intent = self._stage(release, envelope, wanted)
            release, floor = self._judge.verify_after(envelope)
            self._log.judged_by = self._judge.clock
            intent = intent._replace(no_trial=no_trial)
            if rules is not None:
                record = self._begin_trial(rules, release, floor, intent, staged)
            else:
                self._accept(release, floor, intent)
        if record is not None:
            return self._try(release, envelope, staged, record)
        with self._refusals(envelope, release):
            self._run_commands(release, intent, staged)
            self._judge.refuse_other_trust()  # a new epoch has set the floors of boards, too
            self._notes += boards.flash_release(self._gateway, release, envelope, staged).notes
            self._confirm_commands(intent, staged)
            finish(self._gateway, release, intent, [one for one in staged if one.to == "file"])
        self._notes += after_install.notes(self._gateway)
        return Installed("installed", release, tuple(self._notes))

    def _stage(
        self, release: VerifiedRelease, envelope: bytes, wanted: Sequence[Delivery]
    ) -> tuple[list[Staged], ReleaseRecord]:
        """Steps 3 and 4; return the staged payloads, and the record of the release."""
        digest = release.manifest_digest.hex()
        self._target.begin(envelope, digest)
        progress = self._request.progress
        staged = [self._target.receive(release, one, progress) for one in wanted]
        files = [one for one in staged if one.to == "file"]
        version = self._target.settle(digest, files) if files else None
        return staged, record_of(release, version, files, forward_only=len(files) < len(staged))

    def _is_installed(self, release: VerifiedRelease, wanted: Sequence[Delivery]) -> bool:
        """Tell whether this very release is in place, byte for byte; boards are asked again."""
        known = release_record.read(self._state, INSTALLED)
        if known is None or known.manifest != release.manifest_digest.hex():
            return False
        unfinished = release_record.read(self._state, INTENT) is not None
        if unfinished or any(one.to == "flash" for one in wanted):
            return False
        files = [one.component for one in wanted if one.to == "file"]
        if known.directory is None:
            return not files  # device.toml may have had a command for the file then
        if self._target.holds(files, known.directory):
            return self._target.current() == known.directory
        self._notes.append("the installed files were damaged, and are installed again")
        return False

    def _keep_crls(self, release: VerifiedRelease, floor: Floor | None) -> None:
        """Keep CRLs that came with the installed release: they may revoke the next one's signer."""
        if self._state.knows(release):
            return  # a device that asks every minute must not wear the disk out
        with self._state.transaction():
            self._judge.refuse_other_trust()
            self._state.accept(None, release, floor)

    # --- doing ------------------------------------------------------------------------------------

    def _accept(self, release: VerifiedRelease, floor: Floor | None, intent: ReleaseRecord) -> None:
        """Step 5. From here on nothing older is accepted, even if this release fails."""
        with self._state.transaction():
            self._judge.refuse_other_trust()
            self._state.accept(None, release, floor)
            permit = self._judge.use_permit()
            if release_record.read(self._state, INTENT) != intent:  # equal if a command failed
                release_record.write(self._state, INTENT, intent)
                self._log.add("accepted", release=release, **permit)

    def _run_commands(
        self, release: VerifiedRelease, record: ReleaseRecord, staged: Sequence[Staged]
    ) -> None:
        """Step 6, commands."""
        for one in staged:
            name = one.component.name
            if one.to == "exec" and name in self._device.verbs:
                verb_commands.activate(self._gateway, record, one)
            elif one.to == "exec":
                self._request.tell(f"{name}: {self._device.hooks[name][0]}")
                hooks.run_hook(self._device, release, one, self._target, self._request.tell)

    def _confirm_commands(self, record: ReleaseRecord, staged: Sequence[Staged]) -> None:
        for one in staged:
            if one.to == "exec" and one.component.name in self._device.verbs:
                verb_commands.confirm(self._gateway, record, one.component.name)

    # --- on trial ---------------------------------------------------------------------------------

    def _rules_for(
        self, release: VerifiedRelease, wanted: Sequence[Delivery]
    ) -> tuple[TrialRules | None, str | None]:
        """Return the rules if a release is to be tried, else the reason why it is not."""
        rules, manifest = self._device.trial, release.manifest_digest.hex()
        known = release_record.read(self._state, INSTALLED)
        if rules is None or (known is not None and known.manifest == manifest):
            return None, None  # what was committed before is repaired, not tried
        why = why_no_trial(self._gateway, manifest, wanted)
        if why is None:
            refuse_unjudgeable(self._device, rules)
            return rules, None
        self._notes.append(f"no trial: {why}")
        return None, why

    def _begin_trial(
        self,
        rules: TrialRules,
        release: VerifiedRelease,
        floor: Floor | None,
        wanted: ReleaseRecord,
        staged: Sequence[Staged],
    ) -> TrialRecord:
        """Step 5 on trial: learn what the release brings, and leave the floor as it was."""
        commands = [one.component.name for one in staged if one.to == "exec"]
        ports = dict.fromkeys(boards.ports_of(self._device, staged), "")
        record = first_record(
            self._gateway, rules, wanted._replace(forward_only=False), commands, ports
        )
        before = record.before
        kept = KeptReleases(self._target)
        kept.keep(wanted.manifest, needed(self._gateway, release))
        kept.prepare_back(before.directory if before else None)
        with self._state.transaction():
            self._judge.refuse_other_trust()
            self._state.accept(None, release, floor, on_trial=True)
            permit = self._judge.use_permit()
            write_trial(self._state, record)
            known = before and before.manifest
            self._log.add("on trial", release=release, before=known, **permit)
        return record

    def _try(
        self,
        release: VerifiedRelease,
        envelope: bytes,
        staged: Sequence[Staged],
        record: TrialRecord,
    ) -> Installed:
        """Steps 6 to 8 on trial: put the release in place, and judge it."""
        try:
            self._run_commands(release, record.release, staged)
            done = boards.flash_release(self._gateway, release, envelope, staged, on_trial=True)
            self._notes += done.notes
            if record.release.directory is not None:
                files = [one for one in staged if one.to == "file"]
                self._target.check_version(record.release.directory, files)
                self._target.flip(record.release.directory)
            trial_steps.is_running(self._gateway, record, done.identities)
        except FwsignError as error:
            raise trial_steps.give_up(self._gateway, record, error) from error
        return self._settled(release, trial_steps.settle(self._gateway))

    def _settled(self, release: VerifiedRelease, found: TrialStatus) -> Installed:
        """Return the result of a trial that goes on or was passed.

        Raises:
            Unsuitable: `unsuitable.trial`: it failed.
        """
        if found.ended_badly:
            raise found.refusal()
        verdict = "installed" if found.verdict == "committed" else "on trial"
        if verdict == "on trial":
            self._notes.append(found.words)
        return Installed(verdict, release, tuple(self._notes))

    # --- receipts ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _refusals(self, envelope: bytes, release: VerifiedRelease | None = None) -> Iterator[None]:
        """Write a receipt of a refusal, or of a release that was accepted and not finished."""
        try:
            yield
        except FwsignError as error:
            refused.record(self._log, envelope, error, release)
            raise


def _known(sources: Sources | None) -> Sources:
    if sources is None:
        raise Failed("state.nothing", "a dry run has to know which release to verify")
    return sources
