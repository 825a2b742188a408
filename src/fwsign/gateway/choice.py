# SPDX-License-Identifier: Apache-2.0
"""What a channel offers this device now. The decision is pure: facts go in, a choice comes out.

A channel names releases, each with a rollout. The highest sequence number whose rollout takes this
device in counts, if the channel is not held, and if the device has nothing newer already. None of
it replaces a check of the release.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.rollout import WHOLE, why_not
from fwsign.gateway.offer import Obstacle

ENDING: Final = ".channel"
"""The ending of a channel's file; the name before it is the channel's."""


class Who(NamedTuple):
    """The device, as far as a rollout asks for it.

    Args:
        name: its own name; None if it has none.
        cohorts: the cohorts of its device.toml.
        floor: the lowest sequence number that it accepts.
    """

    name: str | None
    cohorts: tuple[str, ...]
    floor: int


class Said(NamedTuple):
    """What a channel says of one release to this device; `why_not` is None if it may have it."""

    manifest: str
    sequence: int
    why_not: str | None


class ChannelChoice(NamedTuple):
    """What a channel offers this device.

    Args:
        channel: the channel.
        release: the release to install; None if there is none.
        obstacles: what keeps newer releases from it.
        said: what it says of each release, the highest sequence number first.
    """

    channel: Channel
    release: ChannelRelease | None
    obstacles: tuple[Obstacle, ...]
    said: tuple[Said, ...]

    @property
    def manifest(self) -> str:
        """The manifest digest of the release to install, in hex; empty without one."""
        return self.release.manifest_digest.hex() if self.release is not None else ""

    @property
    def words(self) -> str:
        """The channel for people."""
        until = datetime.fromtimestamp(self.channel.expires, UTC)
        return (
            f"{self.channel.name}, number {self.channel.number}, until {until:%Y-%m-%d %H:%M} UTC"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        expires = datetime.fromtimestamp(self.channel.expires, UTC)
        return {
            "name": self.channel.name,
            "number": self.channel.number,
            "expires": expires.isoformat(),
            "hold": self.channel.hold,
            "releases": [
                {
                    "manifest_digest": one.manifest,
                    "sequence_number": one.sequence,
                    "in": one.why_not is None,
                    "why_not": one.why_not,
                }
                for one in self.said
            ],
        }


def is_channel(address: str) -> bool:
    """Tell whether an address is that of a channel."""
    return address.partition("?")[0].partition("#")[0].endswith(ENDING)


def name_in(address: str) -> str:
    """Return the name of the channel at an address."""
    path = address.partition("?")[0].partition("#")[0]
    return path.rpartition("/")[2].removesuffix(ENDING)


def choose(channel: Channel, who: Who, now: datetime, has: Sequence[str] = ()) -> ChannelChoice:
    """Return what a channel offers a device.

    Args:
        channel: a verified channel, which has not expired.
        who: the device.
        now: the time of verification; never before the clock's.
        has: the manifest digests, in hex, of what is in place, on trial or not.
    """
    said, obstacles, chosen = [], [], None
    for one in sorted(channel.releases, key=lambda one: -one.sequence_number):
        manifest = one.manifest_digest.hex()
        reason = _why_not(one, who, now)
        said.append(Said(manifest, one.sequence_number, reason))
        if chosen is not None or one.sequence_number < who.floor:
            continue
        if manifest in has or (reason is None and channel.hold is None):
            chosen = one
        elif channel.hold is None:
            words = f"release {one.sequence_number}: {reason}"
            obstacles.append(Obstacle("rollout", words))
        elif not obstacles:
            obstacles.append(Obstacle("channel-held", f"the channel is held: {channel.hold}"))
    return ChannelChoice(channel, chosen, tuple(obstacles), tuple(said))


def _why_not(release: ChannelRelease, who: Who, now: datetime) -> str | None:
    """Return why a release is not for a device; None if it is."""
    if release.sequence_number < who.floor:
        return f"this device has release {who.floor} already"
    if who.name is None and release.rollout.share < WHOLE:
        return "the rollout is for a part of all devices, and this one has no id in device.toml"
    return why_not(release.rollout, who.name or "", who.cohorts, now)
