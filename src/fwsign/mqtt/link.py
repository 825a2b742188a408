# SPDX-License-Identifier: Apache-2.0
"""One connection to a broker, in one thread: subscribe, publish, wait. It ends at any trouble."""

import contextlib
import selectors
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from fwsign.errors import Failed
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.answer import Cut
from fwsign.gateway.https.connection import Connector
from fwsign.mqtt.address import Broker
from fwsign.mqtt.terms import Arrival, LinkTerms, need_library

if TYPE_CHECKING:
    from fwsign.mqtt.client import CountedSocket

VERDICT_SECONDS: Final = 0.3
"""The longest wait for a broker's verdict on the own certificate."""
CONNECT_SECONDS: Final = 20.0
"""The longest time to connect, with TLS and the broker's answer."""
ANSWER_SECONDS: Final = 20.0
"""The longest time for the broker's answer to a message or a subscription."""
MAX_WAITING: Final = 16
"""Messages that are taken in before the first is asked for."""
MAX_HELD: Final = 256
"""Messages that are kept while an answer is waited for; who sent others sends them again."""
_FAILURE: Final = 128
"""MQTT 5 s.2.4: reason codes from here on are failures."""


class Link:
    """A connection to a broker.

    Args:
        broker: its address.
        rules: whom to trust as a server, the own certificate, the proxy, the time that has passed.
        terms: the limits; the usual ones if there are none.

    Raises:
        Failed: `state.library`, `io.config`, `io.fetch-connect`, `io.mqtt-refused`,
            `io.mqtt-lost`, `io.*`.
    """

    def __init__(self, broker: Broker, rules: FetchRules, terms: LinkTerms | None = None) -> None:
        need_library()
        from fwsign.mqtt.client import BrokerClient, CountedSocket

        self._broker, self._terms = broker, terms or LinkTerms()
        self._connector = Connector(rules, CountedSocket, self._terms.client)
        self._messages: deque[Arrival] = deque()
        self._answers: dict[int | None, Any] = {}
        self._connected: Any = None
        self._ended: Any = None
        self._sock: CountedSocket | None = None
        self._client = BrokerClient(self._dial, self._terms.name)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Link":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def subscribe(self, topic: str, *, retained: bool = True) -> None:
        """Ask for the messages of a topic.

        Args:
            topic: the topic.
            retained: whether the message that the broker retains for it comes at once.

        Raises:
            Failed: `io.mqtt-refused`, `io.mqtt-lost`.
        """
        from fwsign.mqtt.client import subscribe

        found = self._answer(
            subscribe(self._client, topic, retained=retained), f"the subscription of {topic}"
        )
        self._refuse(found[0] if found else None, f"to give messages of {topic}")

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, mark: bytes = b""
    ) -> None:
        """Send a message, and wait until the broker has it.

        Args:
            topic: its topic.
            payload: its bytes.
            retain: whether the broker keeps it for those who come later.
            mark: correlation data, which an answer repeats.

        Raises:
            Failed: `io.mqtt-refused`, `io.mqtt-lost`.
        """
        from fwsign.mqtt.client import publish

        sent = publish(self._client, topic, payload, mark, retain=retain)
        self._refuse(self._answer(sent, f"the message to {topic}"), f"the message to {topic}")

    def wait(self, seconds: float) -> Arrival | None:
        """Return the next message; None if none comes within the time.

        Raises:
            Failed: `io.mqtt-lost`.
        """
        self._until(lambda: bool(self._messages), seconds)
        return self._messages.popleft() if self._messages else None

    def close(self) -> None:
        """Say goodbye, if that is possible, and close the connection."""
        with contextlib.suppress(Exception):
            self._client.disconnect()
        if self._sock is not None:
            self._sock.close()

    # --- connecting -------------------------------------------------------------------------------

    def _open(self) -> None:
        broker, terms = self._broker, self._terms
        end = time.monotonic() + CONNECT_SECONDS
        try:
            self._client.open(broker.host, broker.port, terms.keepalive, terms.max_packet)
        except (TimeoutError, ConnectionResetError, Cut) as error:
            words = str(error).lower() or "no answer"
            raise Failed(
                "io.fetch-connect",
                f"{broker.url}: no connection: {words}",
                expected="a broker that answers",
                found=words,
            ) from error
        left = max(end - time.monotonic(), 1)
        try:
            answered = self._until(lambda: self._connected is not None, left)
        except Failed:  # the end of a connection follows a refusal
            if self._connected is None:
                raise
            answered = True
        if not answered:
            raise self._lost("it does not answer to CONNECT")
        self._refuse(self._connected, "the connection")

    def _dial(self) -> "CountedSocket":
        broker, terms = self._broker, self._terms
        place, end = (broker.host, broker.port), time.monotonic() + CONNECT_SECONDS
        sock = cast("CountedSocket", self._connector.secure(broker.url, place, end, own=True))
        sock.max_packet, sock.flood, sock.period = terms.max_packet, terms.flood, terms.keepalive
        sock.heard = time.monotonic()
        sock.refill()
        self._sock = sock
        self._hear_verdict(sock)
        return sock

    def _hear_verdict(self, sock: "CountedSocket") -> None:
        """Wait a moment for an alert about the own certificate.

        In TLS 1.3 a client is done before the server has judged it. If it sends its first packet
        meanwhile, a reset of the connection may overtake the alert, and the reason is lost. Most
        servers send a session ticket when they are content, so there is something to read at once.
        """
        sock.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.select(VERDICT_SECONDS)
        try:
            ended = sock.recv(1) == b""
        except OSError as error:
            if sock.trouble is None:  # there is nothing to read yet
                return
            raise self._lost() from error
        if ended:
            raise self._lost()

    # --- the library's calls ----------------------------------------------------------------------

    def _on_connect(self, *given: Any) -> None:
        self._connected = given[3]

    def _on_disconnect(self, *given: Any) -> None:
        _, _, flags, reason, _ = given
        if flags.is_disconnect_packet_from_server:
            self._ended = reason

    def _on_publish(self, *given: Any) -> None:
        self._answers[given[2]] = given[3]

    def _on_subscribe(self, *given: Any) -> None:
        self._answers[given[2]] = given[3]

    def _on_message(self, *given: Any) -> None:
        message = given[2]
        with contextlib.suppress(UnicodeDecodeError):  # of the topic
            mark = getattr(message.properties, "CorrelationData", b"")
            if len(self._messages) < MAX_HELD:
                self._messages.append(Arrival(message.topic, bytes(message.payload), mark))
        if self._terms.fed and self._sock is not None:
            self._sock.refill()

    # --- waiting ----------------------------------------------------------------------------------

    def _answer(self, packet: int | None, words: str) -> Any:
        """Return the broker's answer to a packet."""
        if not self._until(lambda: packet in self._answers, ANSWER_SECONDS):
            raise self._lost(f"no answer to {words} in {ANSWER_SECONDS:.0f} seconds")
        return self._answers.pop(packet)

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serve the connection until something is done, or the time is up; tell which."""
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._serve(min(left, self._terms.keepalive / 4))
        return True

    def _serve(self, seconds: float) -> None:
        """Wait for the socket at most so long, and do what is due.

        The library parses what the broker sends, and not every mistake in it is caught there.
        """
        try:
            failure = self._step(seconds)
        except Exception as error:
            raise self._lost(f"it breaks the protocol: {type(error).__name__}") from error
        if self._client.withheld:
            raise self._lost("it sends a message with QoS 2, and no subscription asks for that")
        if failure or self._client.socket() is None:
            raise self._lost()
        if self._sock is not None:
            silence = time.monotonic() - self._sock.heard
            if silence > 2 * self._terms.keepalive:
                raise self._lost(f"it has been silent for {silence:.0f} seconds")

    def _step(self, seconds: float) -> Any:
        client, sock = self._client, self._sock
        if sock is None or client.socket() is None:
            return True
        writes = client.want_write()
        if not sock.pending():
            with selectors.DefaultSelector() as selector:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writes else 0)
                selector.register(sock, wanted)
                selector.select(seconds)
        failure = client.loop_read()
        while not failure and client.socket() and sock.pending():
            if len(self._messages) >= MAX_WAITING:
                break
            failure = client.loop_read()
        if not failure and writes:
            failure = client.loop_write()
        return failure or client.loop_misc()

    # --- errors -----------------------------------------------------------------------------------

    def _refuse(self, reason: Any, what: str) -> None:
        """Refuse a failure that the broker tells."""
        if reason is not None and reason.value < _FAILURE:
            return
        words = "nothing" if reason is None else f"{reason.getName()} ({reason.value})".lower()
        raise Failed(
            "io.mqtt-refused",
            f"the broker {self._broker.url} refuses {what}: {words}",
            expected="success",
            found=words,
        )

    def _lost(self, words: str | None = None) -> Failed:
        """Return the error for a link that has ended; the reason that was first is named."""
        trouble = self._sock.trouble if self._sock is not None else None
        ended = f"{self._ended.getName()} ({self._ended.value})".lower() if self._ended else None
        found = trouble or ended or words or "it closed the connection"
        if self._connected is None and "alert" in found:  # TLS 1.3 judges clients after its start
            return Failed(
                "io.mqtt-refused",
                f"the broker {self._broker.url} refuses the client's certificate: {found}",
                expected="a client certificate that it trusts",
                found=found,
            )
        return Failed(
            "io.mqtt-lost",
            f"the connection to the broker {self._broker.url} is lost: {found}",
            expected="a broker that keeps to MQTT 5",
            found=found,
        )
