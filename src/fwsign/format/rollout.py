# SPDX-License-Identifier: Apache-2.0
"""Rollouts: which devices a release of a channel is for, and when.

The device decides, from signed values alone. Its place in a rollout is the SHA-256 of salt and
device id, read as a number, modulo 10,000. It is in if its place is below the share. So a larger
share keeps everybody who was in, and another salt draws anew.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, NamedTuple

from fwsign.format.algorithms import SHA256
from fwsign.format.payload import digest

WHOLE: Final = 10_000
"""The share of all devices: shares are counted in ten-thousandths."""
SALT_SIZE: Final = 16
"""Bytes; nobody can choose a device's id so that it is in or out of rollouts to come."""


class Rollout(NamedTuple):
    """Which devices a release is for, and when.

    Args:
        salt: 16 random bytes, the same as long as the rollout goes on.
        share: the share of devices, in ten-thousandths.
        cohorts: the cohorts that it is for; empty for all devices.
        start: the beginning of its window, a Unix time; None for no beginning.
        until: the end of its window, a Unix time that is not in it; None for no end.
    """

    salt: bytes
    share: int = WHOLE
    cohorts: tuple[str, ...] = ()
    start: int | None = None
    until: int | None = None


def place(salt: bytes, device_id: str) -> int:
    """Return the place of a device in a rollout, from 0 to 9,999."""
    return int.from_bytes(digest(SHA256, salt, device_id.encode())) % WHOLE


def why_not(
    rollout: Rollout, device_id: str, cohorts: Collection[str], now: datetime
) -> str | None:
    """Return the reason why a device is not in a rollout, for people; None if it is in.

    Args:
        rollout: the rollout, from a verified channel.
        device_id: the device's own name, which never changes.
        cohorts: the cohorts that the device belongs to.
        now: the time of verification, with a zone.

    Raises:
        Nothing: whatever a verified channel says has an answer.
    """
    if rollout.cohorts and not set(rollout.cohorts) & set(cohorts):
        own = ", ".join(sorted(cohorts)) or "none"
        return f"the rollout is for {', '.join(rollout.cohorts)}, this device's cohorts are: {own}"
    time = now.timestamp()
    if rollout.start is not None and time < rollout.start:
        return f"the rollout begins {_shown(rollout.start)}, it is {_shown(time)}"
    if rollout.until is not None and time >= rollout.until:
        return f"the rollout ended {_shown(rollout.until)}, it is {_shown(time)}"
    if (there := place(rollout.salt, device_id)) >= rollout.share:
        return f"the rollout is for {percent(rollout.share)}, this device is at {percent(there)}"
    return None


def percent(share: int) -> str:
    """Return ten-thousandths as people write them, such as "12.5 %"."""
    return f"{share / 100:g} %"


def _shown(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
