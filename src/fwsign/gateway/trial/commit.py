# SPDX-License-Identifier: Apache-2.0
"""Remember an installed release for good, and remove what no release needs any more."""

from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.record import PREVIOUS, read_failed, read_trial, write_failed, write_trial
from fwsign.memory.state import State


def remember_installed(state: State, release: ReleaseRecord, before: ReleaseRecord | None) -> None:
    """Write that a release is installed for good; forget failed ones that are below it."""
    if before is not None and before.manifest != release.manifest:
        release_record.write(state, PREVIOUS, before)
    release_record.write(state, INSTALLED, release)
    release_record.write(state, INTENT, None)
    write_trial(state, None)
    number, failed = release.sequence, read_failed(state)
    others = [one for one in failed if one.manifest != release.manifest]
    write_failed(state, [one for one in others if one.sequence >= number])


def tidy(gateway: OpenGateway) -> None:
    """Remove all but the installed release, the one before, one on trial, and what `keep` wants.

    Raises:
        Failed: `io.*`.
    """
    device = gateway.device
    back = (PREVIOUS,) if device.keep > 1 or device.trial is not None else ()
    found = [release_record.read(gateway.state, name) for name in (INSTALLED, *back)]
    record = read_trial(gateway.state)
    found += [record.release, record.before] if record else []
    kept = KeptReleases(gateway.target)
    kept.prune([one.manifest for one in found if one])
    needed = {one.directory for one in found if one} | {gateway.target.current()}
    gateway.target.prune(needed, device.keep)
    if record is None:
        kept.forget_back()
