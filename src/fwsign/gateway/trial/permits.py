# SPDX-License-Identifier: Apache-2.0
"""Permits on a gateway: one release below the floor, once.

The memory has the permits that were used, until they have expired for certain, and the releases
that they let in. Such a release may be below the floor while it is begun, on trial, or in place: so
a crash does not strand it, and damaged files of it are repaired. The floor does not move, and once
another release is in place, the same one needs another permit.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed, Unsuitable
from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.trial.record import read_trial
from fwsign.memory.state import State
from fwsign.verify.permit import VerifiedPermit

PERMITTED: Final = "permitted"
"""The memory's name for the releases that permits let in, and that are still there."""
USED: Final = "permits"
"""The memory's name for the permits that were used."""
MAX_USED: Final = 64
"""Used permits that have not expired for certain."""


class UsedPermit(NamedTuple):
    """A permit that was used.

    Args:
        permit: its manifest digest, in hex.
        expires: the Unix time of its expiry.
    """

    permit: str
    expires: int


class PermittedRelease(NamedTuple):
    """The release that a permit let in.

    Args:
        manifest: the digest of its manifest, in hex.
        permit: the manifest digest of the permit, in hex.
        id: the permit's id, in hex.
    """

    manifest: str
    permit: str
    id: str


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
    text = state.remembered(PERMITTED)
    if text is None:
        return []
    permitted = _decode(PERMITTED, text, lambda value: [_permitted(one) for one in value])
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
    digest, now = permit.manifest_digest.hex(), allowed(state, permit.permit.release.hex())
    if now is not None and now.permit == digest:
        return
    if any(one.permit == digest for one in used(state)):
        own = permit.permit.id.hex()
        raise Unsuitable(
            "unsuitable.permit-used",
            f"permit {own} was used on this device before",
            expected="a permit that was not used",
            found=own,
        )


def use(state: State, permit: VerifiedPermit, floor: float | None) -> PermittedRelease:
    """Remember that a permit is used; inside the transaction that accepts its release.

    Args:
        state: the memory.
        permit: the permit.
        floor: the Unix time that has passed for certain; permits that expired before are forgotten,
            as no clock can make them good again.

    Raises:
        Unsuitable: `unsuitable.permit-used`; Failed: `state.limit`, `state.*`.
    """
    refuse_used(state, permit)
    own = UsedPermit(permit.manifest_digest.hex(), permit.permit.expires)
    others = [one for one in used(state) if one.permit != own.permit]
    kept = [one for one in others if floor is None or one.expires > floor]
    if len(kept) >= MAX_USED:
        raise Failed(
            "state.limit",
            f"{MAX_USED} permits were used on this device, and may not have expired yet",
            expected=f"fewer than {MAX_USED}",
            found=len(kept),
        )
    state.remember(USED, json.dumps([*kept, own]))
    release = PermittedRelease(permit.permit.release.hex(), own.permit, permit.permit.id.hex())
    there = [one for one in _still_there(state) if one.manifest != release.manifest]
    state.remember(PERMITTED, json.dumps([*there, release]))
    state.learn([one for signer in permit.signers if signer.for_vendor for one in signer.issued])
    return release


def used(state: State) -> Sequence[UsedPermit]:
    """Return the permits that were used here and are remembered.

    Raises:
        Failed: `state.*`.
    """
    text = state.remembered(USED)
    if text is None:
        return ()
    return tuple(_decode(USED, text, lambda value: [_used(one) for one in value]))


def _permitted(value: Any) -> PermittedRelease:
    found = PermittedRelease(*map(_text, value))
    bytes.fromhex(found.manifest)
    return found


def _used(value: Any) -> UsedPermit:
    permit, expires = value
    if type(expires) is not int:
        raise TypeError
    return UsedPermit(_text(permit), expires)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _decode(name: str, text: str, read: Any) -> Any:
    try:
        return read(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        what = f'what the memory calls "{name}" is no record of permits'
        raise Failed("state.damaged", what, expected="a record", found=text[:80]) from error
