# SPDX-License-Identifier: Apache-2.0
"""Judge a release anew for each board, by that board's own floor."""

from __future__ import annotations

import io
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from fwsign.flash.boards.release import Find, HeldRelease
from fwsign.flash.device_data import refuse_missing
from fwsign.flash.outcome import Judged
from fwsign.flash.permits import Exemption
from fwsign.signing.release import DEVICE_DATA
from fwsign.verify.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from fwsign.device_data.policy import Policy
    from fwsign.flash.boards.board import BoardInfo
    from fwsign.flash.device_data import Filler
    from fwsign.format.component import Component
    from fwsign.format.key_wrap import AgreementKey
    from fwsign.verify.policy import DevicePolicy
    from fwsign.x509.anchor import Anchor


class Given(NamedTuple):
    """The inputs for judging a release.

    Args:
        envelope: the envelope's bytes.
        anchors: the trusted roots and keys.
        policy: the demands of every board.
        at: the clock's time.
        waived: what the user has waived by name.
        state: the memory of all boards; None if "rollback" was waived.
        remember: whether accepted releases move the floors; not in a dry run.
        left_out: names of components that the user has left out.
        settle: completes the policy that the memory gave its floors to.
        keys: the keys for encrypted payloads.
        permit: a permit for one board, to have the release although it is below its floor.
    """

    envelope: bytes
    anchors: Sequence[Anchor]
    policy: DevicePolicy
    at: datetime
    waived: Collection[str]
    state: Path | None
    remember: bool
    left_out: Collection[str] = ()
    settle: Callable[[DevicePolicy], DevicePolicy] = lambda policy: policy
    keys: Sequence[AgreementKey] = ()
    permit: bytes | None = None


class Judging:
    """Judges a release for boards; it verifies once at the start, before any board is asked.

    Args:
        given: what to judge by.

    Raises:
        FwsignError: as `Verifier.verify`.
    """

    def __init__(self, given: Given) -> None:
        self._given = given
        self.release = Verifier(given.anchors, given.policy).verify(given.envelope, at=given.at)
        self._bytes: dict[str, bytes] = {}
        self.policy: Policy | None = None

    def hold(
        self, find: Find, elsewhere: Collection[str] = (), *, decrypted: bool = False
    ) -> tuple[str, ...]:
        """Read and verify the payloads, once for all boards; return the chips they are for.

        Args:
            find: opens payloads.
            elsewhere: names of components that go to another place than any board.
            decrypted: `find` opens what was decrypted already.

        Raises:
            FwsignError: as `HeldRelease`.
        """
        # A board's floor is only known once the board has told its identity.
        waived = (*self._given.waived, "rollback")
        held = HeldRelease(
            self.release,
            find,
            waived,
            left_out=self._given.left_out,
            elsewhere=elsewhere,
            keys=None if decrypted else self._given.keys,
        )
        self._bytes = {one.component.name: one.data for one in held.payloads}
        if held.policy_data is not None:
            self._bytes[DEVICE_DATA] = held.policy_data
        self.policy = held.policy
        return tuple(sorted({one.chip for one in held.payloads}))

    @property
    def held(self) -> Mapping[str, bytes]:
        """The bytes that `hold` has verified, by the names of their components."""
        return MappingProxyType(self._bytes)

    def judge(
        self, info: BoardInfo, elsewhere: Collection[str] = (), filler: Filler | None = None
    ) -> Judged:
        """Verify for a board, its floor included; see `fwsign.flash.outcome.Judge`.

        Args:
            info: what the board says of itself.
            elsewhere: names of components that go to another place than this board.
            filler: chooses the data for this board alone.

        Raises:
            FwsignError: as above; Failed: `state.*`.
        """
        given = self._given
        policy, floor = given.policy, None
        exemption = Exemption(self.release.manifest_digest)
        if given.state is not None and (given.remember or given.state.exists()):
            from fwsign.memory.state import State  # only if there is a memory

            with State.open(given.state, create=given.remember) as memory:
                policy, floor = memory.policy(policy, info.floor_key, self.release)
                exemption = exemption.remembered(memory, info.floor_key)
            policy = given.settle(policy)
        elif given.state is not None and policy.min_sequence is None:
            policy = policy._replace(min_sequence=0)
        if given.permit is not None:
            permit = Verifier(given.anchors, policy).verify_permit(
                given.permit, at=given.at, device=info.identity, release=exemption.digest
            )
            exemption = exemption.given(permit)
        policy = exemption.lift(policy)
        release = Verifier(given.anchors, policy).verify(given.envelope, at=given.at)
        needed = exemption.needed(release, floor)
        held = HeldRelease(
            release,
            self._find,
            given.waived,
            left_out=given.left_out,
            elsewhere=elsewhere,
            keys=None,
        )

        refuse_missing(held.policy, given=filler is not None)

        def accept() -> None:
            if given.state is not None and given.remember:
                from fwsign.memory.state import State  # as above

                with State.open(given.state, create=False) as memory, memory.transaction():
                    exemption.settle(memory, policy.time_floor, below=needed is not None)
                    memory.accept(info.floor_key, release, floor)

        return Judged(held, accept, filler, needed)

    def _find(self, component: Component) -> io.BytesIO:
        """Return the bytes that were verified before; they are verified again, which is cheap."""
        return io.BytesIO(self._bytes[component.name])
