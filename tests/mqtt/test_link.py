"""A link to brokers that lie, stall, flood and end; all of them prove who they are."""

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fwsign.mqtt.link as links
from fwsign.errors import Failed
from fwsign.gateway.https import server_dates
from fwsign.mqtt.address import Broker
from fwsign.mqtt.link import Link
from fwsign.mqtt.terms import Arrival, LinkTerms, need_library, pause
from mqtt_kit import (
    CONNACK,
    TOPIC,
    Site,
    Speech,
    make_site,
    message,
    packet,
    relay,
    silent,
    talking,
    welcome,
)
from support import require_package

require_package("paho")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for answers."""
    monkeypatch.setattr(links, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.3)


def refusal(call: Callable[[], object], code: str) -> Failed:
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.code == code, caught.value.message
    return caught.value


def listen(site: Site, broker: Broker, terms: LinkTerms | None = None) -> Arrival | None:
    """Connect, subscribe, and wait for a message."""
    with Link(broker, site.rules("gateway-7"), terms) as link:
        link.subscribe(TOPIC)
        return link.wait(10)


def fate(site: Site, speech: Speech, terms: LinkTerms | None = None) -> Failed:
    """Return how a link to a broker ends that says this."""
    with talking(site, speech) as broker:
        found = refusal(lambda: listen(site, broker, terms), "io.mqtt-lost")
        assert found.message.startswith(f"the connection to the broker {broker.url} is lost: ")
        assert found.expected == "a broker that keeps to MQTT 5"
    return found


def after(*packets: bytes) -> Speech:
    """Return the speech of a broker that takes a subscription and then says this."""

    def speech(one: ssl.SSLSocket) -> None:
        welcome(one)
        for data in packets:
            one.sendall(data)
        silent(one)

    return speech


def test_a_message_comes(site: Site) -> None:
    with talking(site, after(message(TOPIC, b"8"), message(TOPIC, b"9"))) as broker:
        assert listen(site, broker) == Arrival(TOPIC, b"8")


def test_several_messages_in_one_record_come_one_by_one(site: Site) -> None:
    data = b"".join(message(TOPIC, b"%d" % index) for index in range(50))
    with (
        talking(site, after(data)) as broker,
        Link(broker, site.rules("gateway-7")) as link,
    ):
        link.subscribe(TOPIC)
        found = [link.wait(10) for _ in range(50)]
        assert [one.payload for one in found if one] == [b"%d" % index for index in range(50)]
        assert link.wait(0.05) is None


GARBAGE = {
    "random": bytes(range(1, 255)),
    "zeros": bytes(100),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a head without end": b"\x30\xff\xff\xff\xff\xff",
    "a topic beyond its packet": packet(0x30, b"\xff\xff"),
    "an empty publish": packet(0x30, b""),
    "properties beyond the packet": packet(0x30, b"\0\1x\x7f"),
    "an unknown property": packet(0x30, b"\0\1x\x02\x7f\x00"),
    "QoS 3": message(TOPIC, b"8", 0x36),
    "a suback without codes": packet(0x90, b"\0\1\0"),
    "an empty puback": packet(0x40, b""),
    "a pingresp with content": packet(0xD0, b"x"),
    "a connack without content": packet(0x20, b""),
    "an end": packet(0xE0, b"\xff\xff\xff"),
    "an unknown reason": packet(0xE0, b"\x05\0"),
    "a request": packet(0x10, b"\0\4MQTT\5\2\0\0\0\0\0"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(site: Site, name: str) -> None:
    """Whatever a broker sends, the link ends with this code."""

    def speech(one: ssl.SSLSocket) -> None:
        welcome(one)
        one.sendall(GARBAGE[name])

    with talking(site, speech) as broker:
        refusal(lambda: listen(site, broker), "io.mqtt-lost")


def test_garbage_instead_of_an_answer(site: Site) -> None:
    for data in GARBAGE.values():

        def speech(one: ssl.SSLSocket, data: bytes = data) -> None:
            one.recv(4096)
            one.sendall(data)

        with talking(site, speech) as broker, pytest.raises(Failed) as caught:
            listen(site, broker)
        assert caught.value.code in ("io.mqtt-lost", "io.mqtt-refused"), caught.value.message


def test_a_topic_that_is_no_text_is_skipped(site: Site) -> None:
    bad = packet(0x30, b"\0\1\xff\0x")
    with talking(site, after(bad, message(TOPIC, b"8"))) as broker:
        assert listen(site, broker) == Arrival(TOPIC, b"8")


def test_a_packet_above_the_limit_is_not_taken_in(site: Site) -> None:
    found = fate(site, after(b"\x30\xff\xff\xff\x7f", b"x" * 100_000))
    assert found.found == "it sends a packet of 268435455 bytes, at most 4096"
    with talking(site, after(message(TOPIC, b"x" * 4000))) as broker:
        assert listen(site, broker) == Arrival(TOPIC, b"x" * 4000)


FLOODS = {
    "messages": message(TOPIC, b"x" * 500),
    "signs of life": packet(0xD0, b""),
    "messages of QoS 2 that are never released": message(TOPIC, b"x" * 500, 0x34),
    "answers to nothing": packet(0x40, b"\0\7"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_hint_flood_ends_the_link(site: Site, name: str) -> None:
    def speech(one: ssl.SSLSocket) -> None:
        welcome(one)
        while True:
            one.sendall(FLOODS[name] * 100)

    with (
        talking(site, speech) as broker,
        Link(broker, site.rules("gateway-7")) as link,
    ):
        link.subscribe(TOPIC)
        taken = 0

        def drain() -> None:
            nonlocal taken
            while link.wait(10) is not None:
                taken += 1

        found = refusal(drain, "io.mqtt-lost")
    assert found.found == "it sends more than 16384 bytes in 60 seconds"
    assert taken <= 16384 // 500


def test_a_collector_takes_more_but_not_what_is_no_message(site: Site) -> None:
    terms = LinkTerms(flood=10_000, fed=True)
    many = message(TOPIC, b"x" * 500) * 100
    with (
        talking(site, after(many, packet(0xD0, b"") * 10_000)) as broker,
        Link(broker, site.rules("collector"), terms) as link,
    ):
        link.subscribe(TOPIC)
        assert all(link.wait(10) for _ in range(100))
        found = refusal(lambda: link.wait(10), "io.mqtt-lost")
    assert found.found == "it sends more than 10000 bytes in 60 seconds"


def test_messages_that_are_never_released_end_the_link(site: Site) -> None:
    """The library would keep each message of QoS 2 until the broker releases it: without end."""
    data = message(TOPIC, b"8", 0x34)
    with talking(site, after(data)) as broker, Link(broker, site.rules("gateway-7")) as link:
        link.subscribe(TOPIC)
        found = refusal(lambda: link.wait(10), "io.mqtt-lost")
    assert found.found == "it sends a message with QoS 2, and no subscription asks for that"


def test_what_comes_while_an_answer_is_waited_for_is_bounded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that keeps an answer back must not fill the collector's memory meanwhile."""
    monkeypatch.setattr(links, "MAX_HELD", 20)
    terms = LinkTerms(fed=True)

    def speech(one: ssl.SSLSocket) -> None:
        welcome(one)
        one.recv(4096)
        one.sendall(message(TOPIC, b"x" * 500) * 300 + packet(0x40, b"\0\2"))
        silent(one)

    with talking(site, speech) as broker, Link(broker, site.rules("collector"), terms) as link:
        link.subscribe(TOPIC)
        link.publish("other", b"1")
        taken = 0
        while link.wait(0.5) is not None:
            taken += 1
    assert taken == 20


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x84, "unsupported protocol version (132)"),
        (0x86, "bad user name or password (134)"),
        (0x87, "not authorized (135)"),
        (0x88, "server unavailable (136)"),
        (0x89, "server busy (137)"),
        (0x9F, "connection rate exceeded (159)"),
    ],
)
def test_a_broker_that_refuses_the_connection_is_quoted(site: Site, code: int, words: str) -> None:
    def speech(one: ssl.SSLSocket) -> None:
        one.recv(4096)
        one.sendall(packet(0x20, bytes([0, code, 0])))

    with talking(site, speech) as broker:
        found = refusal(lambda: listen(site, broker), "io.mqtt-refused")
        assert found.message == f"the broker {broker.url} refuses the connection: {words}"
        assert found.expected == "success"


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x87, "not authorized (135)"), (0x8F, "topic filter invalid (143)")],
)
def test_a_refused_subscription_is_quoted(site: Site, code: int, words: str) -> None:
    def speech(one: ssl.SSLSocket) -> None:
        welcome(one, code)
        silent(one)

    with talking(site, speech) as broker:
        found = refusal(lambda: listen(site, broker), "io.mqtt-refused")
        said = f"the broker {broker.url} refuses to give messages of {TOPIC}: {words}"
        assert found.message == said


@pytest.mark.parametrize(
    ("code", "words"), [(0x87, "not authorized (135)"), (0x97, "quota exceeded (151)"), (0x10, "")]
)
def test_a_refused_message_is_quoted(site: Site, code: int, words: str) -> None:
    def speech(one: ssl.SSLSocket) -> None:
        one.recv(4096)
        one.sendall(CONNACK)
        one.recv(4096)
        one.sendall(packet(0x40, bytes([0, 1, code, 0])))
        silent(one)

    with talking(site, speech) as broker, Link(broker, site.rules("publisher")) as link:
        if not words:  # no matching subscribers
            link.publish(TOPIC, b"8")
            return
        found = refusal(lambda: link.publish(TOPIC, b"8"), "io.mqtt-refused")
        assert found.message == f"the broker {broker.url} refuses the message to {TOPIC}: {words}"


def test_the_reason_of_an_end_is_quoted(site: Site) -> None:
    assert fate(site, after(packet(0xE0, b"\x8b\0"))).found == "server shutting down (139)"
    assert fate(site, after(packet(0xE0, b"\x8e\0"))).found == "session taken over (142)"
    assert fate(site, welcome).found == "it closed the connection"


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_broker_that_does_not_answer(site: Site) -> None:
    assert fate(site, silent).found == "it does not answer to CONNECT"

    def no_suback(one: ssl.SSLSocket) -> None:
        one.recv(4096)
        one.sendall(CONNACK)
        silent(one)

    found = fate(site, no_suback)
    assert found.found == f"no answer to the subscription of {TOPIC} in 0 seconds"
    with talking(site, no_suback) as broker, Link(broker, site.rules("publisher")) as link:
        found = refusal(lambda: link.publish(TOPIC, b"8"), "io.mqtt-lost")
        assert found.found == f"no answer to the message to {TOPIC} in 0 seconds"


def test_a_broker_that_wants_no_signs_of_life_does_not_stay_silent_for_ever(site: Site) -> None:
    """Server Keep Alive is the broker's to say (MQTT 5 s.3.2.2.3.14), and 0 turns it off."""

    def speech(one: ssl.SSLSocket) -> None:
        one.recv(4096)
        one.sendall(packet(0x20, b"\0\0\x03\x13\0\0"))
        asked = one.recv(4096)
        one.sendall(packet(0x90, asked[2:4] + b"\0\1"))
        silent(one)

    begin = time.monotonic()
    found = fate(site, speech, LinkTerms(keepalive=1))
    assert found.found == "it has been silent for 2 seconds"
    assert time.monotonic() - begin < 9


def test_half_open_tcp(site: Site) -> None:
    """Packets that no longer arrive, without an end of the connection: keepalive notices."""
    with talking(site, after(message(TOPIC, b"8"))) as far, relay(far.port) as (port, stop):
        broker = Broker("localhost", port)
        with Link(broker, site.rules("gateway-7"), LinkTerms(keepalive=1)) as link:
            link.subscribe(TOPIC)
            assert link.wait(10) == Arrival(TOPIC, b"8")
            stop.set()
            begin = time.monotonic()
            refusal(lambda: link.wait(20), "io.mqtt-lost")
            assert 0.5 < time.monotonic() - begin < 9


@pytest.mark.usefixtures("impatient")
def test_a_port_that_takes_connections_and_says_nothing(site: Site) -> None:
    with talking(site, silent) as far, relay(far.port) as (port, stop):
        stop.set()
        broker = Broker("localhost", port)
        found = refusal(lambda: listen(site, broker), "io.fetch-connect")
        assert found.message.startswith(f"mqtts://localhost:{port}: no connection: ")


# --- who it is ------------------------------------------------------------------------------------


def test_a_broker_with_another_name_is_refused(site: Site) -> None:
    with talking(site, silent) as broker:
        there = Broker("127.0.0.1", broker.port)
        found = refusal(lambda: listen(site, there), "io.fetch-connect")
        assert "ip address mismatch" in found.message


def test_a_broker_of_another_ca_is_refused(site: Site, tmp_path: Path) -> None:
    other = make_site(tmp_path)
    with talking(other, silent) as broker:
        found = refusal(lambda: listen(site, broker), "io.fetch-connect")
        assert found.expected == "a server with a certificate that is trusted"


def test_nobody_there(site: Site) -> None:
    found = refusal(lambda: listen(site, Broker("localhost", 1)), "io.fetch-connect")
    assert found.message == "mqtts://localhost:1: no connection: connection refused"


def test_a_clock_of_1970(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dates of the broker's certificates are judged by a time that has passed (ADR 37)."""
    now = datetime.now(UTC)
    monkeypatch.setattr(server_dates, "now", lambda: datetime(1970, 1, 1, tzinfo=UTC))

    def connect(since: datetime) -> Arrival | None:
        rules = site.rules("gateway-7")._replace(since=since)
        with Link(broker, rules) as link:
            link.subscribe(TOPIC)
            return link.wait(10)

    with talking(site, after(message(TOPIC, b"8"))) as broker:
        assert connect(now) == Arrival(TOPIC, b"8")
        later = now + timedelta(days=365 * 30)
        found = refusal(lambda: connect(later), "io.fetch-connect")
        assert "certificate 0 of its chain ended" in found.message


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    monkeypatch.delitem(sys.modules, "fwsign.mqtt.client", raising=False)
    import fwsign.mqtt

    monkeypatch.delattr(fwsign.mqtt, "client", raising=False)
    found = refusal(need_library, "state.library")
    said = "MQTT needs the library paho-mqtt 2.1 or newer, which is not installed"
    assert found.message == said
    assert found.hint == "pip install 'fwsign[mqtt]'"


def test_pauses_have_a_bound() -> None:
    assert [pause(failures, 1.0) for failures in (1, 2, 8, 9, 10**6)] == [2, 4, 256, 300, 300]
    assert [pause(failures, 0.0) for failures in (1, 2, 8, 9, 10**6)] == [1, 2, 128, 150, 150]
