# SPDX-License-Identifier: Apache-2.0
"""Permits for boards: one board may have one release below its floor, once (ADR 56).

The release that a permit let in stays allowed on its board until the flasher accepts another one
for it: so a run that was cut short goes on, and damaged flash is repaired. The floor does not move.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fwsign.memory.floors import Floor, is_below
from fwsign.memory.permits import Permits, PermittedRelease, UsedPermit, let_in, refuse_used
from fwsign.memory.state import State
from fwsign.verify.permit import VerifiedPermit
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease


class Exemption(NamedTuple):
    """What may let one release be below one board's floor.

    Args:
        digest: the digest of the release's manifest.
        board: the key of the board's floor; None for a board without an identity, which has no
            permits.
        known: what an earlier permit let in there, if that is this release.
        used: the permits that the board used.
        permit: the permit that was given for this run.
    """

    digest: bytes
    board: str | None = None
    known: PermittedRelease | None = None
    used: Sequence[UsedPermit] = ()
    permit: VerifiedPermit | None = None

    def remembered(self, memory: State, board: str | None) -> "Exemption":
        """Return what the memory says of a board.

        Raises:
            Failed: `state.*`.
        """
        if board is None:
            return self
        permits = Permits(memory, board)
        mine = (one for one in permits.permitted if one.manifest == self.digest.hex())
        return self._replace(board=board, known=next(mine, None), used=permits.used)

    def given(self, permit: VerifiedPermit) -> "Exemption":
        """Return this with a permit, which the board has not used for anything else.

        Args:
            permit: the permit, verified for this board and this release.

        Raises:
            Unsuitable: `unsuitable.permit-used`.
        """
        if self.known is None or self.known.permit != permit.manifest_digest.hex():
            refuse_used(permit, self.used)
        return self._replace(permit=permit)

    def lift(self, policy: DevicePolicy) -> DevicePolicy:
        """Return a policy by which the release may be below the floor, if a permit says so."""
        if self.known is None and self.permit is None:
            return policy
        return policy._replace(permitted=self.digest)

    def needed(self, release: VerifiedRelease, floor: Floor | None) -> PermittedRelease | None:
        """Return what lets the verified release be below the floor; None if it is not below."""
        if not is_below(release.manifest, release.manifest_digest, floor):
            return None
        return self.known or (let_in(self.permit) if self.permit else None)

    def settle(self, memory: State, known_time: datetime | None, *, below: bool) -> None:
        """Use the permit if the release needs it, else forget another one that was let in before.

        It belongs into the transaction that accepts the release. A permit that was unused when the
        board was judged must still be so: another board with this identity may be in the run.

        Args:
            memory: the flasher's memory.
            known_time: the time that has passed for certain.
            below: whether the release is below the floor.

        Raises:
            Unsuitable: `unsuitable.permit-used`; Failed: `state.*`.
        """
        if self.board is None or self.known is not None:
            return
        permits = Permits(memory, self.board)
        if below and self.permit is not None:
            permits.use(self.permit, known_time.timestamp() if known_time else None)
        elif permits.permitted:
            permits.keep([])
