"""When `fwsign watch` polls: what hints and brokers can cause, with a clock in the test's hand."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from fwsign.errors import Failed
from fwsign.gateway.config.device import load
from fwsign.gateway.config.watch_rules import WatchRules
from fwsign.gateway.follow.watch import STEADY, HintPlace, Times, Watch, hint_place
from fwsign.mqtt.link import Link
from fwsign.mqtt.terms import LONGEST_PAUSE, Arrival
from gateway.kit import make_gateway
from mqtt_kit import TOPIC

HOUR = 3600.0
RULES = WatchRules(least=60, within=30)
LOST = Failed("io.mqtt-lost", "the connection is lost")


class World:
    """A clock, and a broker whose messages come at set times.

    Args:
        events: pairs of a time and what happens then: a message's bytes, an arrival, or the end of
            the connection.
        share: what chance says.
    """

    def __init__(self, *events: tuple[float, Any], share: float = 1.0) -> None:
        self.time, self.events, self.share = 0.0, list(events), share
        self.said: list[str] = []
        self.connected: list[float] = []
        self.refuses = False

    def watch(self, rules: WatchRules = RULES) -> Watch:
        times = Times(lambda: self.time, self.sleep, lambda: self.share)
        return Watch(HintPlace("stable", TOPIC), rules, self.connect, self.said.append, times)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def connect(self) -> Link:
        self.connected.append(self.time)
        if self.refuses:
            raise LOST
        return cast("Link", self)

    def wait(self, seconds: float) -> Arrival | None:
        """Stand for `Link.wait`."""
        if not self.events or self.events[0][0] > self.time + seconds:
            self.time += seconds
            return None
        at, event = self.events.pop(0)
        self.time = max(self.time, at)
        if isinstance(event, Failed):
            raise event
        return event if isinstance(event, Arrival) else Arrival(TOPIC, event)

    def close(self) -> None:
        """Stand for `Link.close`."""


def hint(number: Any, channel: Any = "stable", **more: Any) -> bytes:
    return json.dumps({"channel": channel, "number": number, **more}).encode()


def test_a_hint_wakes_one_poll() -> None:
    world = World((500.0, hint(8)))
    watch = world.watch()
    assert watch.wait(HOUR, 7) == 8
    assert world.time == 530  # at random within 30 seconds, here the last of them
    assert watch.wait(HOUR, 8) is None
    assert world.time == 530 + HOUR


def test_a_gateway_without_a_channel_takes_any_hint() -> None:
    assert World((100.0, hint(0))).watch().wait(HOUR, None) == 0


def test_gateways_that_hear_the_same_hint_do_not_poll_at_once() -> None:
    begins = []
    for share in (0.0, 0.5, 1.0):
        world = World((500.0, hint(8)), share=share)
        world.watch().wait(HOUR, 7)
        begins.append(world.time)
    assert begins == [500, 515, 530]


def test_without_a_hint_the_poll_comes_by_the_interval() -> None:
    world = World()
    assert world.watch().wait(HOUR, 7) is None
    assert world.time == HOUR


def test_replayed_hint() -> None:
    """A hint at or below the number that is known wakes nothing, however often it comes."""
    world = World(*((float(at), hint(at % 8)) for at in range(1, 1000)))
    assert world.watch().wait(HOUR, 7) is None
    assert world.time == HOUR


def test_retained_hint_of_a_dead_channel() -> None:
    """A number that never comes true wakes one poll, and not one more at each connection."""
    ends = [(at, LOST) for at in (100.0, 700.0, 1400.0)]
    again = [(at + 30, hint(10**15)) for at, _ in ends]
    world = World(*sorted([(5.0, hint(10**15)), *ends, *again], key=lambda one: one[0]))
    watch = world.watch()
    assert watch.wait(HOUR, 7) == 10**15
    assert world.time == 60
    assert watch.wait(HOUR, 7) is None
    assert world.time == 60 + HOUR
    assert len(world.connected) == 4


def test_hint_for_another_product() -> None:
    other = TOPIC.replace("gateway-x1", "gateway-x2")
    world = World(
        (1.0, Arrival(other, hint(99))), (2.0, hint(99, "beta")), (3.0, Arrival("", hint(99)))
    )
    assert world.watch().wait(HOUR, 7) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 100,
        b"8",
        b"null",
        b"[" * 512,
        hint("8"),
        hint(8.0),
        hint(True),
        hint(-1),
        hint(None),
        hint(1 << 64),
        hint(10**400),
        hint(8, 8),
        hint(8, "stable", more=1),
        hint(8, "Stable"),
        b'{"number":8}',
        b'{"channel":"stable","number":NaN}',
        hint(8) + b" " * 512,
    ],
)
def test_forged_hint(data: bytes) -> None:
    world = World((100.0, data), (200.0, hint(8)))
    assert world.watch().wait(HOUR, 7) == 8
    assert world.time == 230  # it was heard after the forged one


def test_oversized_hint() -> None:
    padded = hint(8)[:-1] + b" " * (512 - len(hint(8))) + b"}"
    assert len(padded) == 512
    assert World((1.0, padded)).watch().wait(HOUR, 7) == 8
    assert World((1.0, padded + b" ")).watch().wait(HOUR, 7) is None


def test_hint_flood() -> None:
    """However many hints come, and whatever they say, there is one poll in each `least`."""
    flood = [(index / 10, hint(100 + index)) for index in range(36_000)]
    world = World(*flood)
    watch, polls = world.watch(), 0
    while world.time < HOUR:
        watch.wait(HOUR, 7)
        polls += 1
    assert polls == 60  # one a minute for an hour


def test_hints_in_turn_cannot_wake_more() -> None:
    world = World(*((index / 10, hint(100 + index % 2)) for index in range(6000)))
    watch, polls = world.watch(), 0
    while world.time < 600:
        watch.wait(HOUR, 7)
        polls += 1
    assert polls <= 10


def test_a_poll_that_failed_is_tried_again_later_each_time() -> None:
    world = World((100.0, hint(8)))
    watch = world.watch()
    assert watch.wait(HOUR, 7) == 8
    waits = []
    for failures in range(1, 9):
        before = world.time
        assert watch.wait(HOUR, 7, failures) == 8
        waits.append(world.time - before)
    assert waits == [120, 240, 480, 960, 1920, HOUR, HOUR, HOUR]
    assert watch.wait(HOUR, 8) is None


def test_a_silent_or_lying_broker_delays_no_poll() -> None:
    for events in ([], [(float(at), LOST) for at in range(0, 20_000, 7)]):
        world = World(*events)
        watch = world.watch()
        for index in range(1, 5):
            assert watch.wait(HOUR, 7) is None
            assert world.time == index * HOUR


def test_a_broker_that_is_gone_is_asked_less_and_less() -> None:
    world = World()
    world.refuses = True
    assert world.watch().wait(HOUR, 7) is None
    gaps = [b - a for a, b in zip(world.connected, world.connected[1:], strict=False)]
    assert gaps == [2, 4, 8, 16, 32, 64, 128, 256, *[LONGEST_PAUSE] * (len(gaps) - 8)]
    assert len(world.connected) < 20
    assert world.time == HOUR
    assert world.said[0] == "the connection is lost; next try in 2 seconds"


def test_pauses_are_spread_by_chance() -> None:
    seconds = []
    for share in (0.0, 0.5, 1.0):
        world = World((0.0, LOST), share=share)
        world.watch().wait(10, 7)
        seconds.append(world.connected[1])
    assert seconds == [1, 1.5, 2]


@pytest.mark.parametrize(("lasts", "pause"), [(STEADY, 2), (STEADY - 1, 16)])
def test_only_a_connection_that_lasted_begins_the_pauses_anew(lasts: float, pause: float) -> None:
    """A broker that takes everybody and then ends it is not asked every second."""
    world = World((0.0, LOST), (2.0, LOST), (6.0, LOST), (14.0 + lasts, LOST))
    world.watch().wait(HOUR, 7)
    assert world.connected == [0, 2, 6, 14, 14 + lasts + pause]


def test_an_error_that_is_none_of_a_broker_ends_no_polls() -> None:
    def busy() -> Link:
        raise Failed("state.busy", "the memory is busy")

    said: list[str] = []
    world = World()
    times = Times(lambda: world.time, world.sleep, lambda: 1.0)
    watch = Watch(HintPlace("stable", TOPIC), RULES, busy, said.append, times)
    assert watch.wait(10, 7) is None
    assert said[0] == "the memory is busy; next try in 2 seconds"


# --- settings -------------------------------------------------------------------------------------


def settings(base: Path, text: str) -> WatchRules | None:
    gateway = make_gateway(base)
    gateway.configure(text)
    return load(gateway.config).watch


def test_the_table_and_what_it_leaves_open(tmp_path: Path) -> None:
    for name in ("none", "some"):
        (tmp_path / name).mkdir()
    assert settings(tmp_path / "none", "") is None
    found = settings(tmp_path / "some", '[watch]\nbroker = "mqtts://broker.acme.example"')
    assert found == WatchRules("mqtts://broker.acme.example")
    assert (found.least, found.within, found.keepalive) == (60, 30, 60)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('broker = "mqtt://b.example"', '"watch.broker" is not an address as mqtts://broker.acme'),
        ('broker = "mqtts://me:secret@b.example"', '"watch.broker" is not an address as mqtts://'),
        ('topic = "fwsign/#"', '"watch.topic" is not a topic of at most 256 characters'),
        ('topic = "fwsign/+/x"', '"watch.topic" is not a topic of at most 256 characters'),
        ("least = 0", '"watch.least" is not a number of 1 to 86400'),
        ("within = 86401", '"watch.within" is not a number of 1 to 86400'),
        ("keepalive = 0", '"watch.keepalive" is not a number of 1 to 3600'),
        ('client_cert = "/a.pem"', '"watch.client_cert" is not usable without "client_key"'),
        ('client_key = "/a.key"', '"watch.client_key" is not usable without "client_cert"'),
        ('ca = "a.pem"', '"watch.ca" is not an absolute path'),
        ("leest = 1", 'has the unknown key "watch.leest"'),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(Failed) as caught:
        settings(tmp_path, f"[watch]\n{line}")
    assert caught.value.code == "io.config"
    assert message in caught.value.message
    assert "secret" not in caught.value.message


def test_the_topic_is_that_of_the_device(tmp_path: Path) -> None:
    device = make_gateway(tmp_path).device
    assert hint_place(device, "stable") == ("stable", TOPIC)
    other = device._replace(watch=WatchRules(topic="acme/hints"))
    assert hint_place(other, "stable") == ("stable", "acme/hints")
