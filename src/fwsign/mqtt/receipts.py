# SPDX-License-Identifier: Apache-2.0
"""Receipts to a collector over MQTT, and its answers.

A device sends lines to fwsign/receipts/ID, and the collector answers at fwsign/receipts/ID/ack with
the same correlation data. QoS 1 ends at the broker: only the collector's answer says that it has
them. The broker can invent an answer, so a device keeps its receipts after it too.
"""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from fwsign.errors import Failed
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.mqtt.address import Broker
from fwsign.mqtt.link import Link
from fwsign.mqtt.terms import LinkTerms, pause

MAX_BODY: Final = 100 * 1024
"""Bytes of one message with receipts; some brokers take 128 KiB."""
MAX_ANSWER: Final = 2048
"""Bytes of a collector's answer."""
ACK_SECONDS: Final = 30.0
"""The longest time for a collector's answer."""
WAIT: Final = 1.0
"""Seconds between two looks whether the collector is to stop."""

_ALL: Final = "fwsign/receipts/+"
_TOPIC: Final = re.compile(r"fwsign/receipts/([^/+#\x00]{1,256})")
_SPECIAL: Final = re.compile(r"[%/+#\x00-\x1f\x7f-\x9f]")
"""What a level of a topic must not have, and the sign that escapes it."""
_MARK: Final = 16


def topic_of(device: str) -> str:
    """Return the topic of a device's receipts.

    In its name "/", "+", "#" and "%" are escaped, as in a URL. Nothing else is, so that rights of a
    broker which are for the name in a certificate fit.
    """
    return f"fwsign/receipts/{_SPECIAL.sub(_escaped, device)}"


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{one:02X}" for one in found[0].encode())


def device_of(topic: str) -> str | None:
    """Return the device of a topic; None if it is not a topic of receipts."""
    match = _TOPIC.fullmatch(topic)
    return unquote(match[1]) if match else None


class Uplink:
    """A device's way to its collector; a context manager.

    Args:
        broker: the broker.
        rules: as for fetching; the client certificate is that of the device.
        device: the device's name in its receipts.

    Raises:
        Failed: as `Link`.
    """

    def __init__(self, broker: Broker, rules: FetchRules, device: str) -> None:
        self._broker, self._topic = broker, topic_of(device)
        self._link = Link(broker, rules, LinkTerms())
        try:
            # An answer that is kept for ever is none to what is sent now.
            self._link.subscribe(f"{self._topic}/ack", retained=False)
        except BaseException:
            self._link.close()
            raise

    def __enter__(self) -> "Uplink":
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def send(self, body: bytes, seconds: float = ACK_SECONDS) -> bytes:
        """Send lines, and return the collector's answer to them; its content says up to where.

        Args:
            body: at most `MAX_BODY` bytes.
            seconds: the longest time for the answer.

        Raises:
            Failed: `io.mqtt-refused`, `io.mqtt-lost`, also if no collector answers.
        """
        if len(body) > MAX_BODY:
            raise ValueError(f"{len(body)} bytes of receipts, at most {MAX_BODY}")
        mark = hashlib.sha256(body).digest()[:_MARK]
        self._link.publish(self._topic, body, mark=mark)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            found = self._link.wait(left)
            ours = found is not None and found.mark in (mark, b"")  # some brokers drop it
            if found is not None and ours and len(found.payload) <= MAX_ANSWER:
                return found.payload
        raise Failed(
            "io.mqtt-lost",
            f"no collector answers at {self._broker.url} in {seconds:.0f} seconds",
            expected=f"an answer at {self._topic}/ack",
            found="nothing",
        )


def serve(
    broker: Broker,
    rules: FetchRules,
    answer: Callable[[str, bytes], bytes | None],
    stopped: Callable[[], bool],
    *,
    tell: Callable[[str], object],
    sleep: Callable[[float], object] = time.sleep,
    share: Callable[[], float],
) -> None:
    """Take in receipts until stopped; the connection comes back by itself.

    Args:
        broker: the broker.
        rules: as for fetching.
        answer: is given a device's name, as its topic says, and its lines; returns the answer, or
            None for none, so that the device sends them again.
        stopped: tells whether to end; it is asked every `WAIT` seconds.
        tell: told of connections that end.
        sleep: waits so many seconds.
        share: returns a random number from 0 to 1.

    Raises:
        Failed: `state.library`; whatever `answer` raises.
    """
    failures = 0
    terms = LinkTerms(max_packet=MAX_BODY + 4096, flood=2 * MAX_BODY, fed=True)
    while not stopped():
        try:
            with Link(broker, rules, terms) as link:
                link.subscribe(_ALL)
                tell(f"takes receipts from {broker.url}")
                while not stopped():
                    _one(link, answer)
                    failures = 0
        except Failed as error:
            if not error.code.startswith("io."):  # such as a certificate that is being renewed
                raise
            failures += 1
            seconds = pause(failures, share())
            tell(f"{error.message}; next try in {seconds:.0f} seconds")
            _rest(seconds, stopped, sleep)


def _one(link: Link, answer: Callable[[str, bytes], bytes | None]) -> None:
    """Take in the next message, if one comes soon."""
    message = link.wait(WAIT)
    device = device_of(message.topic) if message is not None else None
    if message is None or device is None or len(message.payload) > MAX_BODY:
        return
    found = answer(device, message.payload)
    if found is not None:
        link.publish(f"{message.topic}/ack", found, mark=message.mark)


def _rest(seconds: float, stopped: Callable[[], bool], sleep: Callable[[float], object]) -> None:
    """Sleep, in parts, so that a stop is noticed."""
    while seconds > 0 and not stopped():
        sleep(min(seconds, WAIT))
        seconds -= WAIT
