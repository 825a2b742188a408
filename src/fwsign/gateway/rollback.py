# SPDX-License-Identifier: Apache-2.0
"""Go back by hand: end a trial, or install the release before, within what the floor allows."""

from fwsign.errors import Failed, Unsuitable
from fwsign.gateway.install import install_kept
from fwsign.gateway.judge import Judge
from fwsign.gateway.run.open_gateway import at_work
from fwsign.gateway.run.session import Installed, InstallRequest, opened, refuse_platform
from fwsign.gateway.target import release_record
from fwsign.gateway.target.directory import Target
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import digest_of
from fwsign.gateway.trial.record import PREVIOUS, read_trial
from fwsign.gateway.trial.status import TrialStatus
from fwsign.gateway.trial.steps import end


def rollback(request: InstallRequest) -> TrialStatus | Installed:
    """Go back to the release before.

    A release on trial ends as one that failed. After a commit, the release before is installed like
    any other, so it must not be below the floor.

    Args:
        request: the device and the time.

    Raises:
        Unsuitable: `unsuitable.rollback`: the floor is above the release before.
        Failed: `state.nothing`: no release before is kept; `state.*`, `io.*`, `device.*`.
        FwsignError: as `fwsign.gateway.install.install`.
    """
    refuse_platform()
    with opened(request.device) as state, Target(request.device.target_dir) as target:
        gateway = at_work(request, state, target)
        record = read_trial(state)
        if record is not None and record.phase != "stays":
            return end(gateway, "it was ended by hand")
        before = record.before if record else release_record.read(state, PREVIOUS)
        envelope = _kept(target, before.manifest) if before else None
        if before is None or envelope is None:
            hint = "with [trial] in device.toml, each release that another one replaces is kept"
            raise Failed("state.nothing", "no release before this one is kept", hint=hint)
        _verify(Judge(request, state), envelope)  # before anything moves
        return install_kept(gateway, before.manifest)


def _verify(judge: Judge, envelope: bytes) -> None:
    """Verify the release before as any other; say what helps where the floor is above it."""
    try:
        judge.verify(envelope)
    except Unsuitable as refusal:
        if refusal.code != "unsuitable.rollback":
            raise
        hint = "sign its payloads again with a higher sequence number, and install that release"
        raise refusal.with_hint(hint) from None


def _kept(target: Target, manifest: str) -> bytes | None:
    """Return the envelope of a kept release, or of one that an earlier run staged to go back."""
    staged = target.staged_envelope()
    if staged is not None and digest_of(staged) == manifest:
        return staged
    return KeptReleases(target).envelope(manifest)
