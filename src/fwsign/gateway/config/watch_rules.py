# SPDX-License-Identifier: Apache-2.0
"""The table `[watch]` of device.toml: the broker that tells when a channel has changed."""

from pathlib import Path
from typing import Final, NamedTuple

from fwsign.toml import TomlTable

LEAST: Final = 60
"""Seconds between two polls that hints wake, by default."""
WITHIN: Final = 30
"""Seconds within which a hint's poll begins, by default: many gateways hear the same hint."""
KEEPALIVE: Final = 60
"""Seconds of silence, by default, before the broker is asked for a sign of life."""
MAX_SECONDS: Final = 24 * 3600
MAX_TOPIC: Final = 256
"""Characters of a topic."""
_LONGEST_KEEPALIVE: Final = 3600
_BEGINNING: Final = "mqtts://"


class WatchRules(NamedTuple):
    """The rules of `fwsign watch`.

    Args:
        broker: the broker's address; None if it is typed.
        topic: the topic of the hints; None for the usual one of the channel.
        least: seconds between two polls that hints wake.
        within: seconds within which a hint's poll begins, at random.
        keepalive: seconds of silence before the broker is asked for a sign of life.
        ca: a PEM file with the roots for the broker; None for that of `[fetch]`.
        client_cert: a PEM file with the gateway's certificate; None for that of `[fetch]`.
        client_key: a PEM file with its private key.
    """

    broker: str | None = None
    topic: str | None = None
    least: int = LEAST
    within: int = WITHIN
    keepalive: int = KEEPALIVE
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


def parse_watch(table: TomlTable) -> WatchRules | None:
    """Read the table `[watch]`; None if it is not there.

    Raises:
        Failed: `io.config`.
    """
    if not table.keys():
        return None
    broker, topic = table.maybe("broker"), table.maybe("topic")
    if broker is not None and (not broker.startswith(_BEGINNING) or "@" in broker):
        raise table.wrong("broker", "an address as mqtts://broker.acme.example", broker)
    if topic is not None and (len(topic) > MAX_TOPIC or set(topic) & set("+#\n")):
        what = f"a topic of at most {MAX_TOPIC} characters, without + and #"
        raise table.wrong("topic", what, topic)
    rules = WatchRules(
        broker,
        topic,
        table.number("least", LEAST, MAX_SECONDS),
        table.number("within", WITHIN, MAX_SECONDS),
        table.number("keepalive", KEEPALIVE, _LONGEST_KEEPALIVE),
        table.maybe_place("ca"),
        table.maybe_place("client_cert"),
        table.maybe_place("client_key"),
    )
    for key, given, other in (
        ("client_cert", rules.client_cert, rules.client_key),
        ("client_key", rules.client_key, rules.client_cert),
    ):
        if given and not other:
            partner = "client_key" if key == "client_cert" else "client_cert"
            raise table.wrong(key, f'usable without "{partner}"', given)
    table.end()
    return rules
