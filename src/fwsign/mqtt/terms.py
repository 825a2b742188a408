# SPDX-License-Identifier: Apache-2.0
"""The terms of a link to a broker, what comes over it, and the pauses between two links."""

from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.gateway.https.credentials import OF_FETCH, ClientKey

KEEPALIVE: Final = 60
"""Seconds of silence before a sign of life is asked for; after twice as many the link is lost."""
MAX_PACKET: Final = 4096
"""Bytes of the largest packet: a hint with its topic is below 1,000."""
FLOOD: Final = 16 * 1024
"""Bytes in each `KEEPALIVE`: 20 of the longest hints, or 8,000 signs of life."""
FIRST_PAUSE: Final = 1
"""Seconds before the second try to connect; twice as many before each further one."""
LONGEST_PAUSE: Final = 300


class Arrival(NamedTuple):
    """A message that came.

    Args:
        topic: its topic.
        payload: its bytes, as the broker sent them.
        mark: its correlation data; empty if there is none.
    """

    topic: str
    payload: bytes
    mark: bytes = b""


class LinkTerms(NamedTuple):
    """The terms of a link.

    Args:
        keepalive: seconds of silence before a sign of life is asked for.
        max_packet: bytes of the largest packet.
        flood: bytes that are accepted in each `keepalive`.
        fed: whether each message begins the count of `flood` anew: a collector has many senders.
        name: the client identifier; empty for one that the broker makes.
        client: the names of the client's files in errors.
    """

    keepalive: int = KEEPALIVE
    max_packet: int = MAX_PACKET
    flood: int = FLOOD
    fed: bool = False
    name: str = ""
    client: ClientKey = OF_FETCH


def need_library() -> None:
    """Refuse to begin if the library for MQTT is not there.

    Raises:
        Failed: `state.library`.
    """
    try:
        from fwsign.mqtt import client  # in an extra
    except ImportError as error:  # Debian 12's has another interface
        raise Failed(
            "state.library",
            "MQTT needs the library paho-mqtt 2.1 or newer, which is not installed",
            expected="paho-mqtt 2.1 or newer",
            found=str(error),
            hint="pip install 'fwsign[mqtt]'",
        ) from error
    del client


def pause(failures: int, share: float) -> float:
    """Return the seconds before the next try to connect: up to twice as many after each failure.

    Args:
        failures: consecutive failures, at least 1.
        share: a random number from 0 to 1: many gateways must not come back at once.
    """
    most = min(FIRST_PAUSE << min(failures, 32), LONGEST_PAUSE)
    return most * (1 + share) / 2
