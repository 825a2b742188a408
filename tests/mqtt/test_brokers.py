"""Two real brokers, mosquitto and one in Python, with mutual TLS, a CRL and an ACL."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import fwsign.mqtt.link as links
from fwsign.errors import Failed
from fwsign.gateway.config.watch_rules import WatchRules
from fwsign.gateway.follow.watch import HintPlace, Times, Watch
from fwsign.mqtt.hint import Hint, encode_hint
from fwsign.mqtt.link import Link
from fwsign.mqtt.receipts import MAX_BODY, Uplink, device_of, serve, topic_of
from fwsign.mqtt.terms import Arrival, LinkTerms
from mqtt_kit import TOPIC, Running, Site, free_port, make_site, mosquitto, relay, second
from support import require_package

require_package("paho")
pytestmark = pytest.mark.external

BROKERS = {"mosquitto": mosquitto, "moat": second}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module", params=BROKERS)
def broker(site: Site, request: pytest.FixtureRequest) -> Iterator[Running]:
    with BROKERS[request.param](site) as found:
        yield found


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test alone."""
    return f"fwsign/acme.example/x1/{abs(hash(request.node.nodeid))}"


def refusal(call: Callable[[], object], code: str) -> Failed:
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.code == code, caught.value.message
    return caught.value


def turned_away(found: Running, call: Callable[[], object], words: str) -> None:
    """Assert that a broker turns a client away; the one in Python closes without an alert."""
    if found.program == "moat":
        said = f"the connection to the broker {found.broker.url} is lost: it closed the connection"
        assert refusal(call, "io.mqtt-lost").message == said
        return
    error = refusal(call, "io.mqtt-refused")
    said = f"the broker {found.broker.url} refuses the client's certificate: "
    assert error.message.startswith(said)
    assert words in error.message


def test_a_hint_is_kept_for_those_who_come_later(broker: Running, topic: str) -> None:
    for number in (7, 8):
        broker.publish(topic, encode_hint(Hint("stable", number)))
    with broker.link("gateway-7") as link:
        link.subscribe(topic)
        assert link.wait(10) == Arrival(topic, b'{"channel":"stable","number":8}')
        broker.publish(topic, b"9")
        assert link.wait(10) == Arrival(topic, b"9")
        assert link.wait(0.1) is None


def test_a_gateway_that_publishes_hints_is_refused(broker: Running, topic: str) -> None:
    with broker.link("gateway-7") as link:
        for name in (topic, "fwsign/receipts/gateway-8", "fwsign/receipts/gateway-7/ack"):
            found = refusal(partial(link.publish, name, b"9"), "io.mqtt-refused")
            said = f"the broker {broker.broker.url} refuses the message to {name}: "
            assert found.message == f"{said}not authorized (135)"
        link.publish("fwsign/receipts/gateway-7", b"its own")
    with broker.link("gateway-7") as link:
        link.subscribe(topic)
        assert link.wait(0.2) is None


def test_a_revoked_client_is_refused(broker: Running) -> None:
    turned_away(broker, lambda: broker.link("gateway-8"), "revoked")


def test_the_brokers_own_certificate_is_none_of_a_client(broker: Running) -> None:
    turned_away(broker, lambda: broker.link("broker"), "unsupported certificate")


def test_a_client_without_a_certificate_is_refused(broker: Running) -> None:
    rules = broker.site.rules("gateway-7")._replace(client_cert=None, client_key=None)
    turned_away(broker, lambda: Link(broker.broker, rules), "certificate required")


def test_a_renewed_certificate_is_used_by_the_next_connection(broker: Running, site: Site) -> None:
    """The files are read for each connection: nobody has to start fwsign again."""
    rules = site.rules("gateway-7")
    with pytest.raises(Failed):
        Link(broker.broker, rules._replace(client_cert=site.place / "gateway-8.pem"))
    with Link(broker.broker, rules):
        pass


def test_receipts_and_their_answer(broker: Running, site: Site) -> None:
    taken: list[tuple[str, bytes]] = []
    said: list[str] = []
    stop = threading.Event()

    def answer(device: str, body: bytes) -> bytes | None:
        taken.append((device, body))
        return b"{}" if body != b"forget me" else None

    def run() -> None:
        more = {"tell": said.append, "share": lambda: 0.5}
        serve(broker.broker, site.rules("collector"), answer, stop.is_set, **more)  # type: ignore[arg-type]

    collector = threading.Thread(target=run, daemon=True)
    collector.start()
    try:
        wait_until(lambda: bool(said))
        assert said == [f"takes receipts from {broker.broker.url}"]
        with Uplink(broker.broker, site.rules("gateway-7"), "gateway-7") as up:
            for body in (b"one\n", b"x" * MAX_BODY):
                assert up.send(body) == b"{}"
            found = refusal(lambda: up.send(b"forget me", 0.3), "io.mqtt-lost")
            url = broker.broker.url
            assert found.message == f"no collector answers at {url} in 0 seconds"
            with pytest.raises(ValueError, match="at most"):
                up.send(b"x" * (MAX_BODY + 1))
            assert up.send(b"after that") == b"{}"
        assert [body for _, body in taken] == [
            b"one\n",
            b"x" * MAX_BODY,
            b"forget me",
            b"after that",
        ]
        assert {device for device, _ in taken} == {"gateway-7"}
    finally:
        stop.set()
        collector.join(20)


def test_an_answer_that_a_broker_retains_is_none(broker: Running, site: Site) -> None:
    """It would stand before every answer that is meant, for ever."""
    topic = f"{topic_of('gateway-7')}/ack"
    with Link(broker.broker, site.rules("collector")) as link:
        link.publish(topic, b"old", retain=True)
        with Uplink(broker.broker, site.rules("gateway-7"), "gateway-7") as up:
            found = refusal(lambda: up.send(b"one", 0.5), "io.mqtt-lost")
        link.publish(topic, b"", retain=True)
    assert found.message.startswith("no collector answers at ")


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- the watch ------------------------------------------------------------------------------------


def watch_of(found: Running, said: list[str], port: int | None = None) -> Watch:
    """Return a watch that polls at once, and connects again at once."""

    def connect() -> Link:
        where = found.broker._replace(port=port or found.port)
        link = Link(where, found.site.rules("gateway-7"), LinkTerms(keepalive=1))
        link.subscribe(TOPIC)
        return link

    rules = WatchRules(least=1, within=1)
    times = Times(sleep=lambda seconds: time.sleep(min(seconds, 0.05)), share=lambda: 0.0)
    return Watch(HintPlace("stable", TOPIC), rules, connect, said.append, times)


def hint(number: int) -> bytes:
    return encode_hint(Hint("stable", number))


def test_a_watch_hears_a_hint(broker: Running) -> None:
    broker.publish(TOPIC, hint(8))
    watch = watch_of(broker, [])
    try:
        assert watch.wait(20, 7) == 8  # kept from before
        timer = threading.Timer(0.1, lambda: broker.publish(TOPIC, hint(9)))
        timer.start()
        assert watch.wait(20, 8) == 9
        timer.join()
    finally:
        watch.close()


def test_a_watch_survives_the_restart_of_its_broker(site: Site) -> None:
    """The broker forgets the session; what it retained is on its disk, and comes again."""
    port, said = free_port(), list[str]()
    with mosquitto(site, port) as found:
        found.publish(TOPIC, hint(8))
        watch = watch_of(found, said)
        assert watch.wait(20, 7) == 8
    with mosquitto(site, port) as found:
        timer = threading.Timer(1.5, lambda: found.publish(TOPIC, hint(9)))
        timer.start()
        assert watch.wait(20, 8) == 9
        timer.join()
    watch.close()
    assert said[0] == said[-1] == f"listens for hints at {TOPIC}"
    url = f"mqtts://localhost:{port}"
    assert said[1].startswith(f"the connection to the broker {url} is lost: ")


def test_a_watch_survives_half_open_tcp(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CONNECT_SECONDS", 1.0)
    with mosquitto(site) as found, relay(found.port) as (port, stop):
        said = list[str]()
        watch = watch_of(found, said, port)
        found.publish(TOPIC, hint(8))
        assert watch.wait(20, 7) == 8
        stop.set()
        timer = threading.Timer(3.0, stop.clear)
        timer.start()
        found.publish(TOPIC, hint(9))  # it does not arrive
        assert watch.wait(20, 8) == 9
        timer.join()
        watch.close()
    assert [line for line in said if "is lost" in line]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "topic"),
    [
        ("gateway-7", "fwsign/receipts/gateway-7"),
        ("a/b", "fwsign/receipts/a%2Fb"),
        ("a+b", "fwsign/receipts/a%2Bb"),
        ("a b:c@d=1", "fwsign/receipts/a b:c@d=1"),
        ("a#%2F", "fwsign/receipts/a%23%252F"),
        ("a\nb\x85", "fwsign/receipts/a%0Ab%C2%85"),
        ("\u00e9\u4e16", "fwsign/receipts/\u00e9\u4e16"),
        ("\u4e16" * 64, "fwsign/receipts/" + "\u4e16" * 64),
        ("/" * 64, "fwsign/receipts/" + "%2F" * 64),
    ],
)
def test_a_device_has_one_level_of_a_topic(device: str, topic: str) -> None:
    assert topic_of(device) == topic
    assert device_of(topic) == device


@pytest.mark.parametrize(
    "topic",
    ["", "fwsign/receipts/", "fwsign/receipts/a/ack", "fwsign/receipts", "x/fwsign/receipts/a"],
)
def test_a_topic_of_no_device(topic: str) -> None:
    assert device_of(topic) is None
