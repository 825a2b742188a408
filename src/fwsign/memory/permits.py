# SPDX-License-Identifier: Apache-2.0
"""Permits in a device's memory: those that were used, and the releases that they let in.

A used permit is remembered until it has expired for certain. Whether a release that one let in is
still there, so that it needs no other, is for the caller to say.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.errors import Failed, Unsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.memory.state import State
    from fwsign.verify.permit import VerifiedPermit

PERMITTED: Final = "permitted"
"""The memory's name for the releases that permits let in."""
USED: Final = "permits"
"""The memory's name for the permits that were used."""
MAX_USED: Final = 64
"""Used permits of one device that have not expired for certain."""


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


def let_in(permit: VerifiedPermit) -> PermittedRelease:
    """Return the release that a permit lets in."""
    said = permit.permit
    return PermittedRelease(said.release.hex(), permit.manifest_digest.hex(), said.id.hex())


def refuse_used(permit: VerifiedPermit, used: Sequence[UsedPermit]) -> None:
    """Refuse a permit that is among those that were used.

    Raises:
        Unsuitable: `unsuitable.permit-used`.
    """
    digest, own = permit.manifest_digest.hex(), permit.permit.id.hex()
    if any(one.permit == digest for one in used):
        raise Unsuitable(
            "unsuitable.permit-used",
            f"permit {own} was used on this device before",
            expected="a permit that was not used",
            found=own,
        )


class Permits:
    """The permits of one device in a memory.

    Args:
        state: the open memory.
        board: the key of a board's floor; None for the device whose memory it is.
    """

    def __init__(self, state: State, board: str | None = None) -> None:
        ending = "" if board is None else f" {board}"
        self._state = state
        self._used, self._permitted = USED + ending, PERMITTED + ending

    @property
    def used(self) -> Sequence[UsedPermit]:
        """The permits that were used and are remembered.

        Raises:
            Failed: `state.*`.
        """
        return tuple(self._read(self._used, _used))

    @property
    def permitted(self) -> list[PermittedRelease]:
        """The releases that permits let in, as far as they are remembered.

        Raises:
            Failed: `state.*`.
        """
        return self._read(self._permitted, _permitted)

    def keep(self, releases: Sequence[PermittedRelease]) -> None:
        """Remember the releases that permits let in, instead of all before; none forgets them.

        Raises:
            Failed: `state.*`.
        """
        self._state.remember(self._permitted, json.dumps(releases) if releases else None)

    def use(
        self, permit: VerifiedPermit, floor: float | None, there: Sequence[PermittedRelease] = ()
    ) -> PermittedRelease:
        """Remember that a permit is used; inside the transaction that accepts its release.

        Args:
            permit: the permit.
            floor: the Unix time that has passed for certain; permits that expired before are
                forgotten, as no clock can make them good again.
            there: the releases that permits let in before, and that are still there.

        Raises:
            Unsuitable: `unsuitable.permit-used`; Failed: `state.limit`, `state.*`.
        """
        used = self.used
        refuse_used(permit, used)
        kept = [one for one in used if floor is None or one.expires > floor]
        if len(kept) >= MAX_USED:
            raise Failed(
                "state.limit",
                f"{MAX_USED} permits were used on this device, and may not have expired yet",
                expected=f"fewer than {MAX_USED}",
                found=len(kept),
            )
        own = UsedPermit(permit.manifest_digest.hex(), permit.permit.expires)
        self._state.remember(self._used, json.dumps([*kept, own]))
        release = let_in(permit)
        self.keep([*(one for one in there if one.manifest != release.manifest), release])
        known = [one for signer in permit.signers if signer.for_vendor for one in signer.issued]
        self._state.learn(known)
        return release

    def _read(self, name: str, read: Any) -> list[Any]:
        text = self._state.remembered(name)
        if text is None:
            return []
        try:
            return [read(one) for one in json.loads(text)]
        except (ValueError, TypeError, RecursionError) as error:
            what = f'what the memory calls "{name}" is no record of permits'
            raise Failed("state.damaged", what, expected="a record", found=text[:80]) from error


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
