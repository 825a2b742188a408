# SPDX-License-Identifier: Apache-2.0
"""The address of a broker: mqtts://HOST[:PORT]."""

import re
from typing import Final, NamedTuple

from fwsign.errors import Failed

PORT: Final = 8883
"""The port of MQTT over TLS (IANA secure-mqtt)."""
EXPECTED: Final = "mqtts://HOST or mqtts://HOST:PORT, without user and password"

_ADDRESS: Final = re.compile(
    r"mqtts://(?:(?P<name>[A-Za-z0-9._-]{1,253})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_LAST_PORT: Final = 65535


class Broker(NamedTuple):
    """The address of a broker.

    Args:
        host: its name, or its IP address.
        port: its port.
    """

    host: str
    port: int = PORT

    @property
    def url(self) -> str:
        """The address as text."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtts://{host}" + (f":{self.port}" if self.port != PORT else "")


def is_broker(text: str) -> bool:
    """Tell whether a text means a broker, whatever its mistakes."""
    return text.lower().startswith(("mqtts:", "mqtt:"))


def read_broker(text: str) -> Broker | None:
    """Return the broker of an address; None if it is not one of TLS, or has more than a host."""
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or PORT) if match else 0
    if match is None or not 1 <= port <= _LAST_PORT:
        return None
    return Broker(match["v6"] or match["name"].lower(), port)


def parse_broker(text: str) -> Broker:
    """Return the broker of an address.

    Raises:
        Failed: `io.fetch-address`.
    """
    found = read_broker(text)
    if found is None:
        shown = "the address" if "@" in text else text  # it may have a password
        raise Failed(
            "io.fetch-address",
            f"{shown} is not that of an MQTT broker with TLS",
            expected=EXPECTED,
            found=None if "@" in text else text,
        )
    return found
