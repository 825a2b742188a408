# SPDX-License-Identifier: Apache-2.0
"""The channel that `fwsign follow` heard last, so that a poll without news costs one small request.

A rollout's window opens while the channel stays the same, so its content is kept, and judged anew
at each poll. It was verified when it was remembered, and is verified again when something ends that
this rested on: a stolen key can sign a channel for ever. Whatever is installed by it is fetched and
verified anew.
"""

import base64
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.errors import FwsignError
from fwsign.format.channel import Channel, read_channel
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.gateway.choice import ChannelChoice, Who, choose
from fwsign.gateway.config.device import Device
from fwsign.memory.state import State

if TYPE_CHECKING:
    from fwsign.verify.verified import VerifiedChannel

HEARD: Final = "follow channel"
"""The memory's name for the channel."""


class Heard(NamedTuple):
    """A channel that was verified here.

    Args:
        address: its address.
        tag: the tag of its content there.
        channel: its content.
        notes: notes of its verification.
        until: the Unix time from which on it has to be verified again.
        unsigned: its file without signatures: they were verified.
    """

    address: str
    tag: str
    channel: Channel
    notes: tuple[str, ...]
    until: int
    unsigned: bytes

    @classmethod
    def of(cls, address: str, tag: str, data: bytes, notes: tuple[str, ...], until: int) -> "Heard":
        """Return a verified channel, given its file."""
        envelope = decode_envelope(data)._replace(blocks=())
        return cls(address, tag, read_channel(envelope), notes, until, encode_envelope(envelope))

    def is_at(self, address: str, tag: str) -> bool:
        """Tell whether it is the content of an address with a tag."""
        return (self.address, self.tag) == (address, tag)


def stands_until(verified: "VerifiedChannel", allow_stale: timedelta) -> int:
    """Return the Unix time from which on a channel has to be verified again.

    It expires, or a certificate or a CRL of its signers ends. What has ended already was judged: a
    time stamp, or a policy, made up for it.

    Args:
        verified: the channel.
        allow_stale: how long after its next update a CRL is still used.
    """
    issued = [one for signer, _ in verified.counted for one in signer.issued]
    ends = [int(one.certificate.not_after.timestamp()) for one in issued]
    more = int(allow_stale.total_seconds())  # no datetime: the sum must not overflow the calendar
    ends += [int(crl.next_update.timestamp()) + more for one in issued for crl in one.newest]
    now = int(verified.now.timestamp())
    return min([verified.channel.expires, *(one + 1 for one in ends if one >= now)])


def read_heard(state: State) -> Heard | None:
    """Return the channel that was heard last; None if there is none, or if it cannot be read."""
    text = state.remembered(HEARD)
    try:
        found = json.loads(text or "null")
        if found is None:
            return None
        data = base64.b64decode(found["channel"], validate=True)
        notes = tuple(map(str, found["notes"]))
        until = int(found["until"])
        return Heard.of(str(found["address"]), str(found["tag"]), data, notes, until)
    except (ValueError, TypeError, LookupError, RecursionError, FwsignError):
        return None


def write_heard(state: State, heard: Heard) -> None:
    """Remember a channel; the same again is not written."""
    if heard == read_heard(state):
        return
    content = base64.b64encode(heard.unsigned).decode()
    named = {"address": heard.address, "tag": heard.tag, "notes": heard.notes, "until": heard.until}
    state.remember(HEARD, json.dumps({**named, "channel": content}))


def status_of(state: State, device: Device, floor: int, at: datetime) -> dict[str, Any] | None:
    """Return what the channel that was heard last says to this device at a time."""
    heard = read_heard(state)
    if heard is None or heard.address != device.follow.address:
        return None
    who = Who(device.identity.name(), device.follow.cohorts, floor)
    return choice_json(choose(heard.channel, who, at), at)


def choice_json(choice: ChannelChoice, at: datetime) -> dict[str, Any]:
    """Return a choice as a JSON object, with whether its channel has expired by a time."""
    return {**choice.as_json(), "expired": at.timestamp() >= choice.channel.expires}
