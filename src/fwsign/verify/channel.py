# SPDX-License-Identifier: Apache-2.0
"""A device's demands on a channel, beside those on every envelope."""

from typing import Final, NamedTuple

from fwsign.errors import Unsuitable
from fwsign.format.channel import Channel
from fwsign.format.suit import STATEMENTS
from fwsign.verify.policy import DevicePolicy, Recorded

MAX_LEAP: Final = 2**32
"""How far a channel's number may be above the last one that the device saw."""
MAX_FIRST: Final = 2**48
"""The highest number that a device takes which has seen none. Whoever has a stolen key cannot use
up the numbers above it: it takes two million channels, one after another."""


class SeenChannel(NamedTuple):
    """The last channel of a name that a device took: its number and its manifest digest."""

    number: int
    manifest_digest: bytes


def channel_policy(policy: DevicePolicy, seen: SeenChannel | None) -> DevicePolicy:
    """Return the demands on a channel: those on releases, but one signer and its own numbers.

    A channel expires, so that it needs no time stamp; who must sign releases, the releases say.
    """
    recorded = (Recorded(seen.manifest_digest, (STATEMENTS["channel"],)),) if seen else ()
    return policy._replace(
        threshold=None,
        slots=(),
        signers=None,
        require_token=False,
        min_sequence=seen.number if seen else None,
        recorded=recorded,
    )


def check_followed(channel: Channel, name: str | None, seen: SeenChannel | None) -> None:
    """Step 9: it is the channel that the device follows, and leaves room for others.

    Raises:
        Unsuitable: `unsuitable.channel-name`, `unsuitable.fast-forward`.
    """
    if name is not None and channel.name != name:
        raise Unsuitable(
            "unsuitable.channel-name",
            f'this is the channel "{channel.name}", this device follows "{name}"',
            expected=name,
            found=channel.name,
        )
    highest = MAX_FIRST if seen is None else seen.number + MAX_LEAP
    if channel.number > highest:
        raise Unsuitable(
            "unsuitable.fast-forward",
            f"channel number {channel.number} is above {highest}, the highest that is accepted",
            expected=f"{highest} or less",
            found=channel.number,
        )
