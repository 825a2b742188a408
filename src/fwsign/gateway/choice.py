# SPDX-License-Identifier: Apache-2.0
"""What a channel offers this device now. The decision is pure: facts go in, and the choice comes out.

A channel names releases, each with a rollout. The highest sequence number whose rollout takes this
device in counts, if the channel is not held, and if the device has nothing newer already. None of
it replaces a check of the release.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.rollout import why_not
from fwsign.gateway.offer import Obstacle

ENDING: Final = ".channel"
"""The ending of a channel's file; the name before it is the channel's."""


class Who(NamedTuple):
    """The device, as far as a rollout asks for it.

    Args:
        name: its own name.
        cohorts: the cohorts of its device.toml.
        floor: the lowest sequence number that it accepts.
    """

    name: str
    cohorts: tuple[str, ...]
    floor: int


class Said(NamedTuple):
    """What a channel says of one release to this device; `why_not` is None if it may have it."""

    manifest: str
    sequence: int
    why_not: str | None


class Choice(NamedTuple):
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
        return f"{self.channel.name}, number {self.channel.number}, until {until:%Y-%m-%d %H:%M} UTC"

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


def choose(channel: Channel, who: Who, now: datetime, has: Sequence[str] = ()) -> Choice:
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
        reason = why_not(one.rollout, who.name, who.cohorts, now)
        if one.sequence_number < who.floor:
            reason = f"this device has release {who.floor} already"
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
    return Choice(channel, chosen, tuple(obstacles), tuple(said))
