# SPDX-License-Identifier: Apache-2.0
"""Permits on a gateway: one release below the floor, once.

A release that a permit let in may be below the floor while it is begun, on trial, or in place: so
a crash does not strand it, and damaged files of it are repaired. The floor does not move, and once
another release is in place, the same one needs another permit.
"""

from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.trial.record import read_trial
from fwsign.memory import permits as memory
from fwsign.memory.permits import Permits, PermittedRelease
from fwsign.memory.state import State
from fwsign.verify.permit import VerifiedPermit


def allowed(state: State, manifest: str) -> PermittedRelease | None:
    """Return what lets a release be below the floor now; None if nothing does.

    Args:
        state: the memory.
        manifest: the digest of its manifest, in hex.

    Raises:
        Failed: `state.*`.
    """
    found = (one for one in _still_there(state) if one.manifest == manifest)
    return next(found, None)


def _still_there(state: State) -> list[PermittedRelease]:
    """Return the permitted releases that are begun, on trial or in place."""
    permitted = Permits(state).permitted
    if not permitted:
        return []
    tried = read_trial(state)
    known = [release_record.read(state, name) for name in (INTENT, INSTALLED)]
    known += [tried.release, tried.before] if tried is not None else []
    manifests = {one.manifest for one in known if one is not None}
    return [one for one in permitted if one.manifest in manifests]


def refuse_used(state: State, permit: VerifiedPermit) -> None:
    """Refuse a permit that was used before, unless what it let in is still there.

    Raises:
        Unsuitable: `unsuitable.permit-used`; Failed: `state.*`.
    """
    now = allowed(state, permit.permit.release.hex())
    if now is None or now.permit != permit.manifest_digest.hex():
        memory.refuse_used(permit, Permits(state).used)


def use(state: State, permit: VerifiedPermit, floor: float | None) -> PermittedRelease:
    """Remember that a permit is used; see `fwsign.memory.permits.Permits.use`."""
    return Permits(state).use(permit, floor, _still_there(state))
