# SPDX-License-Identifier: Apache-2.0
"""Judge a release by the memory: whether it may be installed here, now. Nothing is changed."""

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fwsign.errors import Failed, Unsuitable
from fwsign.gateway.run.session import INTENT, Installed, InstallRequest, demands_of, trusted
from fwsign.gateway.space import in_the_way
from fwsign.gateway.target import release_record
from fwsign.gateway.target.delivery import Delivery, deliveries
from fwsign.gateway.target.release_record import digest_of
from fwsign.gateway.target.sources import Sources
from fwsign.gateway.trial.permits import allowed, refuse_used, use
from fwsign.gateway.trial.record import failed_of, read_failed, read_trial
from fwsign.memory.floors import Floor, is_below
from fwsign.memory.permits import Permits
from fwsign.memory.state import State
from fwsign.verify.permit import VerifiedPermit
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier

if TYPE_CHECKING:
    from fwsign.trust.lists import TrustState


class Judge:
    """Decides by the memory, and changes nothing.

    Args:
        request: the device, the time, and the options.
        state: the open memory.

    Attributes:
        notes: what people should know of the last release that was judged.
        clock: the clock's time by which it was judged.
    """

    def __init__(self, request: InstallRequest, state: State) -> None:
        self._request, self._state, self._device = request, state, request.device
        self._trust: TrustState | None = None  # the list that the release was judged by
        self._begun = request.uptime().seconds
        self._permit: VerifiedPermit | None = None  # the one that the release needs, to be used
        self.notes: list[str] = []
        self.clock = request.at

    def rehearse(self, sources: Sources) -> Installed:
        """Do all steps of an install that change nothing."""
        envelope = sources.read_envelope()
        release, _ = self.verify(envelope)
        wanted = self.deliveries(release, sources)
        goes = in_the_way(self._device, self._state, release, envelope, wanted)
        for one in wanted:
            with one.open(0) as source:
                release.receive(one.component, source, keys=one.keys())
        release, _ = self.verify_after(envelope)
        notes = [*self.notes, *(f"for room, it would remove version {name}" for name in goes)]
        return Installed("dry run", release, tuple(notes))

    def verify(self, envelope: bytes) -> tuple[VerifiedRelease, Floor | None]:
        """Verify an envelope by the memory; return the release, and the floor it was judged by.

        Raises:
            FwsignError: as `Verifier.verify`; Failed: `state.unchecked`.
        """
        self._trust = trusted(self._device, self._state)
        return self._verify(envelope, self._request.at)

    def verify_after(self, envelope: bytes) -> tuple[VerifiedRelease, Floor | None]:
        """Verify an envelope again when its payloads have come: by now it may have ended.

        The time of now is the clock's at the start, and the uptime since: nobody can set it back.

        Raises:
            FwsignError: as `verify`; Failed: `state.conflict`.
        """
        self.refuse_other_trust()
        at, passed = self._request.at, self._request.uptime().seconds - self._begun
        with contextlib.suppress(OverflowError):  # a clock at the end of all years
            at += timedelta(seconds=max(0, passed))
        return self._verify(envelope, at)

    def _verify(self, envelope: bytes, at: datetime) -> tuple[VerifiedRelease, Floor | None]:
        self.clock = at
        trust = self._trust or self._device.trust  # `verify` was first
        anchors, base = demands_of(trust, self._device.policy)
        policy, floor = self._state.policy(base, None)
        given, permit, known = self._request.permit, None, None
        if given is not None or Permits(self._state).permitted:
            digest = digest_of(envelope)
            if digest is not None:  # an envelope without one is refused as such
                own = bytes.fromhex(digest)
                if given is not None:
                    permit = self._permit_for(Verifier(anchors, policy), given, own, at)
                known = allowed(self._state, digest)
                if permit is not None or known is not None:
                    policy = policy._replace(permitted=own)
        release = Verifier(anchors, policy).verify(envelope, at=at)
        refuse_unchecked(base, release.unchecked)
        below = is_below(release.manifest, release.manifest_digest, floor)
        self._permit = permit if below and known is None else None  # else it stays good
        names = [known.id] if known else [permit.permit.id.hex()] if permit else []
        self.notes = [f"below the floor, by permit {one}" for one in names if below]
        return release, floor

    def _permit_for(
        self, verifier: Verifier, data: bytes, digest: bytes, at: datetime
    ) -> VerifiedPermit:
        """Verify a permit for the release with a manifest's digest.

        Raises:
            FwsignError: as `Verifier.verify_permit`; `unsuitable.permit-used`.
        """
        own = self._device.identity.name()
        permit = verifier.verify_permit(data, at=at, device=own, release=digest)
        left = [one for one in permit.unchecked if one != "rollback"]
        refuse_unchecked(self._device.policy, left)
        refuse_used(self._state, permit)
        return permit

    def use_permit(self) -> dict[str, Any]:
        """Remember that the permit is used, in the transaction that accepts its release.

        Returns:
            What the receipt says of it; nothing if none was needed.

        Raises:
            Unsuitable: `unsuitable.permit-used`; Failed: `state.*`.
        """
        if self._permit is None:
            return {}
        policy, _ = self._state.policy(self._device.policy, None)
        floor = policy.time_floor.timestamp() if policy.time_floor is not None else None
        return {"permit": use(self._state, self._permit, floor)._asdict()}

    def refuse_other_trust(self) -> None:
        """Refuse if a trust update was applied while payloads were on their way.

        Raises:
            Failed: `state.conflict`.
        """
        now = trusted(self._device, self._state)
        if now != self._trust:
            raise Failed(
                "state.conflict",
                f"a trust update came in meanwhile: its list has number {now.number}",
                expected="the list by which the release was judged",
                found=f"number {now.number}",
            )

    def deliveries(self, release: VerifiedRelease, sources: Sources) -> list[Delivery]:
        """Return the way of each component, if the release can be installed here now.

        Raises:
            Unsuitable: `unsuitable.target`, `unsuitable.failed-before`, `unsuitable.permit-device`.
            Failed: `state.unfinished`, `state.trial`, `io.payload-missing`.
        """
        found = deliveries(self._device, release.components, sources)
        if self._permit is not None:
            _refuse_boards(found, self._permit)
        sources.check(release.components)
        self.refuse_here(release)
        return found

    def refuse_here(self, release: VerifiedRelease) -> None:
        """Refuse a release that what was begun or tried here before rules out.

        Raises:
            Failed: `state.unfinished`, `state.trial`; Unsuitable: `unsuitable.failed-before`.
        """
        self._refuse_on_trial(release)
        self._refuse_unfinished(release)
        self._refuse_failed(release)

    def _refuse_on_trial(self, release: VerifiedRelease) -> None:
        """Refuse any other release while one is on trial."""
        record = read_trial(self._state)
        if record is None or record.phase == "stays":
            return
        if record.release.manifest == release.manifest_digest.hex():
            return
        number, starts = record.release.sequence, record.most_boots - record.boots
        raise Failed(
            "state.trial",
            f"release {number} is on trial, for {record.left} more seconds of uptime and {starts} "
            "more starts of the machine at most",
            expected=f"release {number} committed, or gone",
            found=f"release {number} on trial",
        )

    def _refuse_failed(self, release: VerifiedRelease) -> None:
        """Refuse a release that failed a trial here, unless somebody asks for it again."""
        known = failed_of(read_failed(self._state), release.manifest_digest.hex())
        if known is None or known.reason is None or self._request.retry:
            return
        raise Unsuitable(
            "unsuitable.failed-before",
            f"release {known.sequence} failed its trial here before: {known.reason}",
            expected="another release, with a higher sequence number",
            found=f"release {known.sequence}",
        )

    def _refuse_unfinished(self, release: VerifiedRelease) -> None:
        """Refuse any but a newer release while commands or boards of another are unfinished."""
        intent = release_record.read(self._state, INTENT)
        if intent is None or not intent.forward_only:
            return
        number = release.manifest.sequence_number
        if release.manifest_digest.hex() != intent.manifest and number <= intent.sequence:
            raise Failed(
                "state.unfinished",
                f"release {intent.sequence} was begun and not finished; it goes on forward only",
                expected=f"the same release, or a sequence number above {intent.sequence}",
                found=number,
            )


def _refuse_boards(wanted: Sequence[Delivery], permit: VerifiedPermit) -> None:
    """Refuse a release for boards too: each has a floor of its own, and the permit names none."""
    for one in wanted:
        if one.to == "flash":
            name = one.component.name
            raise Unsuitable(
                "unsuitable.permit-device",
                f'the permit is for device "{permit.permit.device}", and not for a board: the '
                f'release has "{name}" for one',
                expected="a release without components for boards",
                found=name,
            )


def refuse_unchecked(policy: DevicePolicy, unchecked: Sequence[str]) -> None:
    """Refuse what was not checked by all steps, unless device.toml waives the others.

    Raises:
        Failed: `state.unchecked`.
    """
    waived = ("revocation",) if policy.revocation == "off" else ()
    if left := [name for name in unchecked if name not in waived]:
        words = ", ".join(left)
        message = f"not checked, and not waived in device.toml: {words}"
        raise Failed("state.unchecked", message, expected="every check", found=words)
