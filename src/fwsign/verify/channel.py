# SPDX-License-Identifier: Apache-2.0
"""A device's demands on a channel, beside those on every envelope."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fwsign.errors import Unsuitable
from fwsign.format.channel import Channel
from fwsign.format.suit import STATEMENTS
from fwsign.verify.policy import DevicePolicy, Recorded

MAX_AHEAD: Final = timedelta(days=1)
"""A channel's number is at most the Unix time at which it is judged, and so much more. So a stolen
key cannot use up the numbers: the owner's next channel has the time so much later as its number."""


class SeenChannel(NamedTuple):
    """The last channel of a name that a device took.

    Args:
        number: its number.
        manifest_digest: the digest that was signed; None takes any channel of that number.
    """

    number: int
    manifest_digest: bytes | None = None


def channel_policy(policy: DevicePolicy, seen: SeenChannel | None) -> DevicePolicy:
    """Return the demands on a channel: those on releases, but one signer and its own numbers.

    A channel expires, so that it needs no time stamp; who must sign releases, the releases say.
    """
    last = seen.manifest_digest if seen else None
    recorded = (Recorded(last, (STATEMENTS["channel"],)),) if last is not None else ()
    return policy._replace(
        threshold=None,
        slots=(),
        signers=None,
        require_token=False,
        min_sequence=seen.number if seen else None,
        recorded=recorded,
    )


def check_followed(channel: Channel, name: str | None, now: datetime) -> None:
    """Step 9: it is the channel that the device follows, and leaves room for others.

    Args:
        channel: the channel.
        name: the name of the channel that the device follows; None takes any.
        now: the time at which it is judged.

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
    highest = int(now.timestamp() + MAX_AHEAD.total_seconds())
    if channel.number > highest:
        raise Unsuitable(
            "unsuitable.fast-forward",
            f"channel number {channel.number} is above {highest}, the highest that is accepted now",
            expected=f"{highest} or less",
            found=channel.number,
        )
