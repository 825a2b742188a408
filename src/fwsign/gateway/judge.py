# SPDX-License-Identifier: Apache-2.0
"""Judge a release by a device's memory, as every install does, and rehearsals of one."""

from datetime import datetime

from fwsign.errors import Failed
from fwsign.gateway import release_record
from fwsign.gateway.session import INTENT, demands_of
from fwsign.memory.floors import Floor
from fwsign.memory.state import State
from fwsign.trust.lists import TrustState
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier


def judge(
    state: State, trust: TrustState, policy: DevicePolicy, envelope: bytes, at: datetime
) -> tuple[VerifiedRelease, Floor | None]:
    """Verify a release with all that a device demands and remembers.

    Args:
        state: the memory.
        trust: the device's list of anchors.
        policy: the policy in device.toml.
        envelope: the release's envelope.
        at: the clock's time.

    Returns:
        The release, and the floor for `State.accept`.

    Raises:
        FwsignError: as `Verifier.verify`.
        Failed: `state.unchecked`: a check was not made, and device.toml does not waive it.
    """
    anchors, base = demands_of(trust, policy)
    full, floor = state.policy(base, None)
    release = Verifier(anchors, full).verify(envelope, at=at)
    waived = ("revocation",) if base.revocation == "off" else ()
    if left := [name for name in release.unchecked if name not in waived]:
        words = ", ".join(left)
        message = f"not checked, and not waived in device.toml: {words}"
        raise Failed("state.unchecked", message, expected="every check", found=words)
    return release, floor


def refuse_unfinished(state: State, release: VerifiedRelease) -> None:
    """Refuse any but a newer release while commands or boards of another are unfinished.

    Raises:
        Failed: `state.unfinished`, `state.damaged`.
    """
    intent = release_record.read(state, INTENT)
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
