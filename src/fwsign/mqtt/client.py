# SPDX-License-Identifier: Apache-2.0
"""The client of paho-mqtt, on sockets of our own: the one module that imports the library.

The library would ask for names and connect without a deadline, and would take in packets of 256
megabytes. So it gets a socket that is connected already, and the socket counts.
"""

import ssl
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

__all__ = ["BrokerClient", "CountedSocket", "publish", "subscribe"]


class CountedSocket(ssl.SSLSocket):
    """A socket that refuses packets above a size, and a flood of whatever kind.

    paho reads the head of a packet byte by byte, and then asks for the rest in one call.
    """

    max_packet: int
    """Bytes of the largest packet."""
    flood: int
    """Bytes that are accepted in each period."""
    period: float
    """Seconds of a period."""
    heard: float = 0.0
    """The time of the last byte, by `time.monotonic`."""
    trouble: str | None = None
    """The first thing that was wrong with it."""
    _since: float = 0.0
    _bytes: int = 0

    def refill(self) -> None:
        """Begin a new period."""
        self._since, self._bytes = time.monotonic(), 0

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive at most so many bytes.

        Raises:
            OSError: the connection broke, or the broker sends too much.
        """
        if buflen > self.max_packet:
            raise self._wrong(f"it sends a packet of {buflen} bytes, at most {self.max_packet}")
        try:
            data = super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise self._wrong(str(reason).lower().replace("_", " ")) from error
        now = time.monotonic()
        if now - self._since >= self.period:
            self.refill()
        self.heard = now
        self._bytes += len(data)
        if self._bytes > self.flood:
            raise self._wrong(f"it sends more than {self.flood} bytes in {self.period:.0f} seconds")
        return data

    def _wrong(self, words: str) -> OSError:
        self.trouble = self.trouble or words
        return OSError(words)


class BrokerClient(paho.Client):
    """paho's client, which takes the socket that it is given.

    Args:
        dial: returns a connected socket.
        name: the client identifier; empty for one that the broker makes.
    """

    def __init__(self, dial: Callable[[], ssl.SSLSocket], name: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self._dial = dial

    @property
    def withheld(self) -> int:
        """The messages of QoS 2 whose release has not come; the library keeps them without end."""
        return len(self._in_messages)

    def _create_socket(self) -> Any:
        return self._dial()

    def open(self, host: str, port: int, keepalive: int, max_packet: int) -> None:
        """Connect, and send CONNECT: a new session, which ends with the connection.

        A retained hint and a spool of receipts need no session that outlives it.
        """
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        properties.MaximumPacketSize = max_packet
        self.connect(host, port, keepalive, clean_start=True, properties=properties)


def publish(client: BrokerClient, topic: str, payload: bytes, mark: bytes, *, retain: bool) -> int:
    """Send a message with QoS 1, and return the identifier of its packet."""
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if mark:
        properties.CorrelationData = mark
    return client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid


def subscribe(client: BrokerClient, topic: str, *, retained: bool) -> int | None:
    """Ask for the messages of a topic, and return the identifier of the packet.

    No local: nobody wants their own messages back.
    """
    kept = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
    if not retained:
        kept = SubscribeOptions.RETAIN_DO_NOT_SEND
    options = SubscribeOptions(qos=1, noLocal=True, retainHandling=kept)
    return client.subscribe(topic, options=options)[1]
