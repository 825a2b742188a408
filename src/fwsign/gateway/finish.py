# SPDX-License-Identifier: Apache-2.0
"""Finish an install without a trial: the last steps, and those that a crash left over."""

import contextlib
from typing import Any

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.judge import Judge
from fwsign.gateway.run import after_install
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.target.delivery import destination
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import ReleaseRecord, digest_of
from fwsign.gateway.target.stage import Staged, tells_of_files
from fwsign.gateway.trial.commit import remember_installed, tidy
from fwsign.gateway.trial.record import read_trial
from fwsign.verify.verified import VerifiedRelease


def finish(
    gateway: OpenGateway,
    release: VerifiedRelease,
    record: ReleaseRecord,
    files: list[Staged],
) -> None:
    """Steps 7 and 8 of an install: let `current` name the version, and remember it.

    Args:
        gateway: the gateway at work.
        release: the accepted release.
        record: its record.
        files: its files, verified.

    Raises:
        Tampered: `tampered.staged`; Failed: `state.*`, `io.*`.
    """
    target, state, version = gateway.target, gateway.state, record.directory
    before = target.current()
    if version is not None:
        target.check_version(version, files)
        if before != version:
            target.flip(version)
    known = release_record.read(state, INSTALLED)
    more: dict[str, Any] = {"no_trial": record.no_trial} if record.no_trial else {}
    with state.transaction():
        remember_installed(state, record._replace(forward_only=False), known)
        after_install.owe(state, gateway.device, "installed", record, known)
        gateway.log.add("installed", release=release, before=known and known.manifest, **more)
    with contextlib.suppress(FwsignError):  # the release is installed; the next run tidies up
        if gateway.device.trial is not None:
            keep_installed(gateway, release)
        tidy(gateway)
        target.clear()


def keep_installed(gateway: OpenGateway, release: VerifiedRelease) -> None:
    """Keep the staged release, for the time when it is the one to go back to.

    Raises:
        Failed: `io.*`.
    """
    KeptReleases(gateway.target).keep(release.manifest_digest.hex(), needed(gateway, release))


def keep_again(gateway: OpenGateway, envelope: bytes, release: VerifiedRelease) -> None:
    """Keep an installed release of files that was not kept: `[trial]` came later.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    digest, kept = release.manifest_digest.hex(), KeptReleases(gateway.target)
    known = release_record.read(gateway.state, INSTALLED)
    if gateway.device.trial is None or known is None or needed(gateway, release):
        return
    if known.judged_at is None or kept.envelope(digest) is None:
        kept.add(digest, envelope)
        judged_at = release.now.isoformat()
        release_record.write(gateway.state, INSTALLED, known._replace(judged_at=judged_at))


def _keep_leftover(gateway: OpenGateway) -> None:
    """Keep the installed release where a crash came before that."""
    known = release_record.read(gateway.state, INSTALLED)
    envelope = gateway.target.staged_envelope()
    if gateway.device.trial is None or known is None or envelope is None:
        return
    kept = KeptReleases(gateway.target)
    if kept.envelope(known.manifest) is None and digest_of(envelope) == known.manifest:
        kept.keep(known.manifest, None)


def _tidy_leftover(gateway: OpenGateway) -> None:
    """Remove the staged files and old versions that a crash after the last step has left."""
    target, known = gateway.target, release_record.read(gateway.state, INSTALLED)
    if known is None or read_trial(gateway.state) is not None:
        return
    with contextlib.suppress(FwsignError):  # it is in nobody's way
        envelope = target.staged_envelope()
        if envelope is not None and digest_of(envelope) != known.manifest:
            return  # another release was begun, and is not fetched again
        target.clear()
        tidy(gateway)


def needed(gateway: OpenGateway, release: VerifiedRelease) -> set[str]:
    """Return the names of staged payloads without which a release cannot come back."""
    return {
        str(number)
        for number, one in enumerate(release.components)
        if one.flash is not None or one.name in gateway.device.verbs
    }


def reconcile(gateway: OpenGateway, judge: Judge) -> list[str]:
    """Finish an accepted release of files, or record that it was undone; return notes.

    A release with commands or boards stays as it is: the same release or a newer finishes it.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    state, log = gateway.state, gateway.log
    intent = release_record.read(state, INTENT)
    if intent is None:
        _keep_leftover(gateway)
        _tidy_leftover(gateway)
    if intent is None or intent.forward_only:
        return []
    version = intent.directory
    try:
        release, files = _found(gateway, judge, intent)
    except FwsignError as error:
        if not tells_of_files(error):  # the next run may find them whole
            return [f"a release that was begun before cannot be checked: {error.message}"]
        if gateway.target.current() == version:  # nothing to undo: only the record is missing
            log.add("incomplete", error=error, manifest=intent.manifest)
            return []
        with state.transaction():
            release_record.write(state, INTENT, None)
            log.add("rolled back", error=error, manifest=intent.manifest)
        return [f"a release that was begun before was undone: {error.message}"]
    finish(gateway, release, intent, files)
    return ["a release that was accepted before was finished first"]


def _found(
    gateway: OpenGateway, judge: Judge, intent: ReleaseRecord
) -> tuple[VerifiedRelease, list[Staged]]:
    """Verify an accepted release again, from the files that a crash left."""
    envelope = gateway.target.staged_envelope()
    if envelope is None:
        raise Failed("state.nothing", "what had been staged is gone")
    release, _ = judge.verify(envelope)
    if release.manifest_digest.hex() != intent.manifest:
        raise Failed("state.nothing", "another release is staged than was accepted")
    parts = release.components
    files = [one for one in parts if destination(gateway.device, one) == "file"]
    version = intent.directory
    return release, gateway.target.adopt(files, version) if version is not None else []
