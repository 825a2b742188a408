# SPDX-License-Identifier: Apache-2.0
"""Simulate a rollout: each device decides as a real one does, at its own polls.

A device polls every so many seconds, at its own offset, which its id decides. At a poll it fetches
the channel first, and takes the release if it is in the rollout then. So a pause stops whoever has
not taken it yet, and one poll later all devices know of it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from fwsign.format.rollout import WHOLE, Rollout, place

HOUR: Final = 3600
MAX_DEVICES: Final = 10_000_000
"""Devices of one simulation, which are in memory."""


class RolloutStep(NamedTuple):
    """A step of a plan: from then on, a share of devices.

    Args:
        share: in ten-thousandths; no step has a smaller one than the step before.
        at: seconds since the beginning.
    """

    share: int
    at: int


class Pollster(NamedTuple):
    """A device of a fleet, by its id, with its cohorts."""

    device_id: str
    cohorts: tuple[str, ...] = ()


class Curve(NamedTuple):
    """The result: when devices take the release.

    Args:
        devices: how many there are.
        taken: the seconds since the beginning at which each that takes it does so, sorted.
        steps: the plan.
        every: the seconds between two polls.
        end: the seconds after which nothing changes any more.
        pause: the seconds after which the channel is on hold; None if it never is.
        members: how many devices the release is for by its cohorts.
    """

    devices: int
    taken: tuple[int, ...]
    steps: tuple[RolloutStep, ...]
    every: int
    end: int
    pause: int | None
    members: int

    def by(self, time: int) -> int:
        """Return how many devices have taken the release before a time."""
        return bisect_left(self.taken, time)

    def share_at(self, time: int) -> int:
        """Return the share that the plan has at a time."""
        return max((one.share for one in self.steps if one.at <= time), default=0)

    @property
    def peak(self) -> int:
        """The most devices that take the release within one minute: so many fetch it."""
        counts: dict[int, int] = {}
        for time in self.taken:
            counts[time // 60] = counts.get(time // 60, 0) + 1
        return max(counts.values(), default=0)

    @property
    def spared(self) -> int:
        """How many devices the pause kept from taking it."""
        whole = max(one.share for one in self.steps)
        return max(round(self.members * whole / WHOLE) - len(self.taken), 0) if self.pause else 0


def numbered(count: int) -> Iterable[Pollster]:
    """Yield made-up devices."""
    return (Pollster(f"device-{number:07}") for number in range(count))


def simulate(
    rollout: Rollout,
    steps: Sequence[RolloutStep],
    devices: Iterable[Pollster],
    *,
    every: int,
    begin: int,
    pause: int | None = None,
    any_cohort: bool = False,
) -> Curve:
    """Simulate a rollout.

    Args:
        rollout: its salt, cohorts and window; the shares are those of the steps.
        steps: the plan, by time.
        devices: the fleet.
        every: the seconds between two polls of a device.
        begin: the Unix time of the beginning.
        pause: the seconds after which the channel is on hold.
        any_cohort: whether all devices count as in the cohorts, as made-up ones do.
    """
    opens = max(rollout.start - begin, 0) if rollout.start is not None else 0
    closes = rollout.until - begin if rollout.until is not None else None
    wanted, taken, count, members = set(rollout.cohorts), [], 0, 0
    for device in devices:
        count += 1
        if wanted and not any_cohort and wanted.isdisjoint(device.cohorts):
            continue
        members += 1
        own = place(rollout.salt, device.device_id)
        since = next((one.at for one in steps if one.share > own), None)
        if since is None:
            continue
        time = _poll(device.device_id, max(since, opens), every)
        late = closes is not None and time >= closes
        if not late and (pause is None or time < pause):
            taken.append(time)
    last = max(steps[-1].at, opens, pause or 0)
    end = last + every + last // 10
    return Curve(count, tuple(sorted(taken)), tuple(steps), every, end, pause, members)


def _poll(device_id: str, since: int, every: int) -> int:
    """Return the time of a device's first poll from a time on."""
    offset = place(b"poll", device_id) * every // WHOLE
    return since + (offset - since) % every
