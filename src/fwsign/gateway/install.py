# SPDX-License-Identifier: Apache-2.0
"""Install a release from an envelope, so that a crash leaves the old one or the new one.

    1  finish or undo an interrupted install       5  remember: floor, intent, receipt, in one step
    2  verify, with the memory's demands           6  commands, then boards
    3  stage every payload, verified and synced    7  `current` becomes the new version
    4  move the files to their version             8  remember that it is done; prune

Up to step 4 only staged files have changed. From step 5 on the floor has risen. For a later run,
staged files are only a hint: it verifies the envelope anew, and reads every byte again.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fwsign.errors import Failed, FwsignError
from fwsign.gateway import boards, hooks, release_record
from fwsign.gateway.delivery import Delivery, deliveries, destination
from fwsign.gateway.judge import judge, refuse_unfinished
from fwsign.gateway.log import Log
from fwsign.gateway.release_record import ReleaseRecord, record_of
from fwsign.gateway.session import (
    INSTALLED,
    INTENT,
    SOURCES,
    Installed,
    InstallRequest,
    demands,
    opened,
    refuse_platform,
    timed,
    trusted,
)
from fwsign.gateway.sources import Sources
from fwsign.gateway.stage import Staged
from fwsign.gateway.target import Target
from fwsign.memory.floors import Floor
from fwsign.memory.state import State
from fwsign.receipts.chain import waivers
from fwsign.verify.verified import VerifiedRelease

if TYPE_CHECKING:
    from fwsign.trust.lists import TrustState

__all__ = ["install"]


def install(request: InstallRequest, sources: Sources | None) -> Installed:
    """Install a release.

    Args:
        request: the device, the time, and the options.
        sources: the places of the release; None to resume the one that was begun.

    Raises:
        FwsignError: as `Verifier.verify` and `VerifiedRelease.receive`; besides
            Unsuitable: `unsuitable.target`; Tampered: `tampered.staged`;
            Failed: `state.*`, `io.*`, `device.*`.
    """
    refuse_platform()
    with opened(request.device) as state, contextlib.ExitStack() as stack:
        request, sources = timed(request, sources, state)
        if request.dry_run:
            return _Judge(request, state).rehearse(_known(sources))
        target = stack.enter_context(Target(request.device.target_dir))
        run = _Run(request, state, target)
        run.reconcile()
        if sources is None:
            sources = _remembered(state, request)
        return run.install(sources)


class _Judge:
    """Decides by the memory, and changes nothing."""

    def __init__(self, request: InstallRequest, state: State) -> None:
        self._request, self._state, self._device = request, state, request.device
        self._trust: TrustState | None = None  # the list that the release was judged by

    def rehearse(self, sources: Sources) -> Installed:
        """Do all steps of an install that change nothing."""
        release, _ = self.verify(sources.read_envelope())
        for one in self.deliveries(release, sources):
            with one.open(0) as source:
                release.receive(one.component, source)
        return Installed("dry run", release, ())

    def verify(self, envelope: bytes) -> tuple[VerifiedRelease, Floor | None]:
        self._trust = trusted(self._device, self._state)
        policy, at = self._device.policy, self._request.at
        return judge(self._state, self._trust, policy, envelope, at)

    def refuse_other_trust(self) -> None:
        """Refuse if a trust update was applied while payloads were on their way."""
        now = trusted(self._device, self._state)
        if now != self._trust:
            raise Failed(
                "state.conflict",
                f"a trust update came in meanwhile: its list has number {now.number}",
                expected="the list by which the release was judged",
                found=f"number {now.number}",
            )

    def deliveries(self, release: VerifiedRelease, sources: Sources) -> list[Delivery]:
        """Return the way of each component, if the release can be installed here now."""
        found = deliveries(self._device, release.components, sources)
        sources.check(release.components)
        refuse_unfinished(self._state, release)
        return found


class _Run:
    """One run, with the memory and the target directory open."""

    def __init__(self, request: InstallRequest, state: State, target: Target) -> None:
        self._request, self._state, self._device = request, state, request.device
        self._target = target
        self._judge = _Judge(request, state)
        self._log = Log(state, request.device, request.at, request.signer)
        self._notes: list[str] = []

    def install(self, sources: Sources) -> Installed:
        """Install, and write a receipt of the decision."""
        envelope = sources.read_envelope()
        with self._refusals(envelope):
            release, floor = self._judge.verify(envelope)
            wanted = self._judge.deliveries(release, sources)
            if self._is_installed(release, wanted):
                self._keep_crls(release, floor)
                self._notes.append("it was installed before")
                return Installed("already installed", release, tuple(self._notes))
            digest = release.manifest_digest.hex()
            self._state.remember(SOURCES, sources.hint())
            self._target.begin(envelope, digest)
            progress = self._request.progress
            staged = [self._target.receive(release, one, progress) for one in wanted]
            files = [one for one in staged if one.to == "file"]
            version = self._target.settle(digest, files) if files else None
            others = len(files) < len(staged)
            intent = record_of(release, version, files, forward_only=others)
            self._accept(release, floor, intent)
        with self._refusals(envelope, release):
            self._run_hooks(release, staged)
            self._flash_boards(release, envelope, staged)
            self._commit(release, version, files)
        return Installed("installed", release, tuple(self._notes))

    def _is_installed(self, release: VerifiedRelease, wanted: Sequence[Delivery]) -> bool:
        """Tell whether this very release is in place, byte for byte; boards are asked again."""
        known = release_record.read(self._state, INSTALLED)
        if known is None or known.manifest != release.manifest_digest.hex():
            return False
        if any(one.to == "flash" for one in wanted):
            return False
        if release_record.read(self._state, INTENT) is not None:
            return False
        files = [one.component for one in wanted if one.to == "file"]
        if known.directory is None:
            return not files  # device.toml may have had a command for the file then
        try:
            self._target.adopt(files, known.directory)
            return self._target.current() == known.directory
        except FwsignError:
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
            if release_record.read(self._state, INTENT) != intent:  # equal if a command failed
                release_record.write(self._state, INTENT, intent)
                self._log.add("accepted", release=release)

    def _run_hooks(self, release: VerifiedRelease, staged: Sequence[Staged]) -> None:
        """Step 6, commands."""
        for one in staged:
            if one.to == "exec":
                name = one.component.name
                self._request.tell(f"{name}: {self._device.hooks[name][0]}")
                hooks.run_hook(self._device, release, one, self._target, self._request.tell)

    def _flash_boards(
        self, release: VerifiedRelease, envelope: bytes, staged: Sequence[Staged]
    ) -> None:
        """Step 6, boards."""
        payloads = [one for one in staged if one.to == "flash"]
        if not payloads:
            return
        from fwsign.flash.receipt import Told, describe  # few gateways have boards

        failures = []
        at = self._request.at
        for port, outcome in boards.flash(
            self._device, envelope, demands(self._device, self._state), at, payloads
        ):
            told = Told(port, at, release, waivers(self._device.policy))
            self._state.append_receipt(describe(outcome, told), self._request.signer)
            self._request.tell(f"{port}: {outcome.status}")
            self._notes += [f"{port}: {note}" for note in outcome.notes]
            if outcome.error is not None:
                failures.append(outcome.error)
        if failures:
            raise failures[0]

    def _commit(self, release: VerifiedRelease, version: str | None, files: list[Staged]) -> None:
        """Steps 7 and 8."""
        before = self._target.current()
        if version is not None:
            self._target.check_version(version, files)
            if before != version:
                self._target.flip(version)
        known = release_record.read(self._state, INSTALLED)
        with self._state.transaction():
            release_record.write(self._state, INSTALLED, record_of(release, version, files))
            release_record.write(self._state, INTENT, None)
            self._log.add("installed", release=release, before=known and known.manifest)
        with contextlib.suppress(FwsignError):  # the release is installed; the next run tidies up
            self._target.clear()
            if version is not None and before != version:
                self._target.prune({version, before})

    # --- after a crash ----------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Step 1: finish an accepted release of files, or record that it was undone.

        A release with commands or boards stays as it is: the same release or a newer finishes it.
        """
        intent = release_record.read(self._state, INTENT)
        if intent is None or intent.forward_only:
            return
        version = intent.directory
        try:
            release, files = self._found(intent)
        except FwsignError as error:
            if self._target.current() == version:  # nothing to undo: only the record is missing
                self._log.add("incomplete", error=error, manifest=intent.manifest)
                return
            with self._state.transaction():
                release_record.write(self._state, INTENT, None)
                self._log.add("rolled back", error=error, manifest=intent.manifest)
            self._notes.append(f"a release that was begun before was undone: {error.message}")
            return
        self._commit(release, version, files)
        self._notes.append("a release that was accepted before was finished first")

    def _found(self, intent: ReleaseRecord) -> tuple[VerifiedRelease, list[Staged]]:
        """Verify an accepted release again, from the files that a crash left."""
        envelope = self._target.staged_envelope()
        if envelope is None:
            raise Failed("state.nothing", "what had been staged is gone")
        release, _ = self._judge.verify(envelope)
        if release.manifest_digest.hex() != intent.manifest:
            raise Failed("state.nothing", "another release is staged than was accepted")
        files = [one for one in release.components if destination(self._device, one) == "file"]
        version = intent.directory
        return release, self._target.adopt(files, version) if version is not None else []

    @contextlib.contextmanager
    def _refusals(self, envelope: bytes, release: VerifiedRelease | None = None) -> Iterator[None]:
        """Write a receipt of a refusal, or of a release that was accepted and not finished."""
        try:
            yield
        except FwsignError as error:
            if release is not None or not isinstance(error, Failed):
                result = "incomplete" if release else "refused"
                with contextlib.suppress(FwsignError):  # keep the first error
                    self._log.add(result, release=release, envelope=envelope, error=error)
            raise


def _known(sources: Sources | None) -> Sources:
    if sources is None:
        raise Failed("state.nothing", "a dry run has to know which release to verify")
    return sources


def _remembered(state: State, request: InstallRequest) -> Sources:
    """Return the sources of the release that was begun last; they are only a hint."""
    text = state.remembered(SOURCES)
    if text is None:
        raise Failed("state.nothing", "no install was begun here: there is nothing to resume")
    return Sources.from_hint(text, request.device.fetch, request.tell)
