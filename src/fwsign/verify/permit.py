# SPDX-License-Identifier: Apache-2.0
"""A permit that was verified, and a device's demands on it, beside those on every envelope."""

from datetime import UTC, datetime, timedelta
from typing import Final, final

from fwsign.errors import Stale, Unsuitable
from fwsign.format.permit import Permit
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.sealed import make
from fwsign.verify.verified import Proven, Verified

MAX_BEHIND: Final = timedelta(days=1)
"""How far the clock may be behind a time that is known to have passed, for a permit to be used."""


@final
class VerifiedPermit(Verified, made_by="Verifier.verify_permit"):
    """A permit for this device; only `Verifier.verify_permit` makes one.

    Whether it was used before is known to the device's memory.

    Attributes:
        permit: what it says.
    """

    __slots__ = ("permit",)
    permit: Permit


def permit_policy(policy: DevicePolicy) -> DevicePolicy:
    """Return the demands on a permit: those on releases, without their numbers."""
    return policy._replace(min_sequence=None, recorded=(), permitted=None)


def check_permitted(permit: Permit, device: str | None, release: bytes) -> None:
    """Step 9: it is for this device, and for this release.

    Args:
        permit: what it says.
        device: this device's id; None if it has none.
        release: the manifest digest of the release.

    Raises:
        Unsuitable: `unsuitable.permit-device`, `unsuitable.permit-release`.
    """
    if permit.device != device:
        own = f'"{device}"' if device is not None else "without an id"
        raise Unsuitable(
            "unsuitable.permit-device",
            f'the permit is for device "{permit.device}", this device is {own}',
            expected=device,
            found=permit.device,
        )
    if permit.release != release:
        wanted, found = permit.release.hex(), release.hex()
        raise Unsuitable(
            "unsuitable.permit-release",
            f"the permit is for the release with manifest {wanted[:16]}, this has {found[:16]}",
            expected=wanted,
            found=found,
        )


def check_time(permit: Permit, at: datetime, now: datetime) -> None:
    """Step 9: it was made before now, and the clock can tell its end.

    A clock that is set back makes an expired permit look good, so one that is behind the known time
    is no evidence.

    Args:
        permit: what it says.
        at: the clock's time.
        now: the time that is known to have passed, or the clock's.

    Raises:
        Stale: `stale.permit`.
    """
    if now - at > MAX_BEHIND:
        raise Stale(
            "stale.permit",
            f"this device's clock says {at.isoformat()}, and {now.isoformat()} has passed: it "
            "cannot tell whether the permit has expired",
            expected="a clock that is right",
            found=at.isoformat(),
        )
    if permit.made > (now + MAX_BEHIND).timestamp():
        raise Stale(
            "stale.permit",
            f"the permit was made at {_date(permit.made)}, it is {now.isoformat()}",
            expected="a permit that was made before now",
            found=_date(permit.made),
        )


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def seal_permit(facts: Proven, permit: Permit) -> VerifiedPermit:
    """Make a `VerifiedPermit`; only `Verifier.verify_permit` may call this."""
    return make(VerifiedPermit, **facts._asdict(), permit=permit)
