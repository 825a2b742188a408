# SPDX-License-Identifier: Apache-2.0
"""Hints that a channel has changed. A hint is not signed: it makes a gateway look, and no more."""

import json
from typing import Final, NamedTuple

MAX_HINT: Final = 512
"""Bytes of a hint, checked before it is parsed."""
MAX_NUMBER: Final = (1 << 64) - 1
"""The highest number of a channel: it is a sequence number of SUIT."""


class Hint(NamedTuple):
    """A hint: the channel, and the number that it has now."""

    channel: str
    number: int


def topic_of(vendor: str, product: str, channel: str) -> str:
    """Return the topic of a channel's hints."""
    return f"fwsign/{vendor}/{product}/{channel}"


def encode_hint(hint: Hint) -> bytes:
    """Return the bytes of a hint."""
    return json.dumps(hint._asdict(), separators=(",", ":")).encode()


def read_hint(data: bytes, channel: str) -> Hint | None:
    """Return the hint in a message; None if it is not one about this channel.

    Args:
        data: the message; anybody may have written it.
        channel: the channel's name.
    """
    if len(data) > MAX_HINT:
        return None
    try:
        found = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.keys() != {"channel", "number"}:
        return None
    name, number = found["channel"], found["number"]
    if name != channel or type(number) is not int or not 0 <= number <= MAX_NUMBER:
        return None
    return Hint(name, number)
