"""What keeps an offer waiting: the decision, windows, and the tables of device.toml."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from fwsign.format.notice import Notice
from fwsign.gateway.config import window as windows
from fwsign.gateway.config.device import load
from fwsign.gateway.config.follow_rules import AfterInstall, FollowRules
from fwsign.gateway.config.window import Window, parse_window
from fwsign.gateway.hold import Hold
from fwsign.gateway.offer import Circumstances, Offer, backing_off, obstacles, spread
from gateway.kit import make_gateway
from support import DAY, NOW, refused

NIGHT = Window(time(2), time(5))


def offer(release_class: str | None = "feature", known: datetime | None = None) -> Offer:
    return Offer("ab", 40, "gateway-x1", "2.4.1", Notice(release_class), 10, 10, known)


USUAL = FollowRules()


def waits(one: Offer, rules: FollowRules = USUAL, **now: object) -> dict[str, str]:
    found = obstacles(one, rules, Circumstances(NOW)._replace(**now))  # type: ignore[arg-type]
    return {one.name: one.words for one in found}


# --- the decision -------------------------------------------------------------------------------


def test_without_a_rule_nothing_waits() -> None:
    for release_class in ("security", "feature", None):
        assert waits(offer(release_class)) == {}


def test_every_obstacle_is_named_at_once() -> None:
    rules = FollowRules(install=(), window=NIGHT)
    hold = Hold(NOW)
    found = waits(offer(), rules, hold=hold, trial="release 39", failed="it failed once")
    assert list(found) == ["trial", "failed", "held", "asks", "window"]
    assert found["trial"] == "release 39 is on trial"


@pytest.mark.parametrize("release_class", ["security", "feature", None])
@pytest.mark.parametrize("install", [(), ("security",), ("feature",), ("security", "feature")])
def test_classes(release_class: str | None, install: tuple[str, ...]) -> None:
    found = waits(offer(release_class), FollowRules(install=install))
    assert ("asks" in found) is ((release_class or "feature") not in install)


def test_a_hold_ends_by_the_latest_time_that_is_known() -> None:
    hold = Hold(NOW - 3 * DAY, NOW + DAY)
    assert "held" in waits(offer(), hold=hold)
    assert "held" not in waits(offer(), hold=hold, at=NOW + DAY)
    assert "held" not in waits(offer(), hold=hold, floor=NOW + DAY)
    assert "held" not in waits(offer(known=NOW + DAY), hold=hold)
    assert "held" in waits(offer(), hold=Hold(NOW), at=NOW + 9999 * DAY)


@pytest.mark.parametrize("release_class", ["security", "feature"])
def test_a_window_and_a_clock_that_is_behind(release_class: str) -> None:
    rules, one = FollowRules(window=NIGHT), offer(release_class)
    assert list(waits(one, rules)) == ["window"]
    assert waits(one, rules, at=NOW.replace(hour=3)) == {}
    # an hour behind is no reason for doubt, more is
    assert list(waits(one, rules, floor=NOW + timedelta(hours=1))) == ["window"]
    found = waits(one, rules, floor=NOW + timedelta(minutes=61))
    assert list(found) == ([] if release_class == "security" else ["clock"])
    found = waits(one, rules, at=NOW.replace(hour=3) - 90 * DAY, floor=NOW)
    assert list(found) == ([] if release_class == "security" else ["clock"])


def test_a_text_that_was_cut_off_is_named() -> None:
    one = offer(None)._replace(product=None, version=None)
    assert (one.name, one.counts_as) == ("text was cut off, sequence 40", "feature")


def test_back_off_has_a_bound() -> None:
    assert [backing_off(60, 1000, n) for n in (0, 1, 2, 5, 10**9)] == [60, 120, 240, 1000, 1000]
    assert [spread(100, share).total_seconds() for share in (0, 0.5, 1)] == [90, 100, 110]


# --- windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("", "2:00-5:00", "02:00", "02:00-02:00", "24:00-05:00", "02:60-05:00", "02:00-05:00 "),
        *("02:00-25:00", "02:00-05:99", "02:00\u201305:00", "\u0660\u0662:00-05:00"),
    ],
)
def test_what_is_no_window(text: str) -> None:
    assert parse_window(text) is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("02:00-05:00", ["02:00", "04:59"], ["01:59", "05:00", "14:00"]),
        ("22:30-04:00", ["22:30", "23:59", "00:00", "03:59"], ["22:29", "04:00", "12:00"]),
        ("00:00-23:59", ["00:00", "23:58"], ["23:59"]),
    ],
)
def test_windows(text: str, inside: list[str], outside: list[str]) -> None:
    found = parse_window(text)
    assert found is not None
    for hours, is_open in ((inside, True), (outside, False)):
        for hour in hours:
            at = datetime.combine(NOW.date(), time.fromisoformat(hour), UTC)
            assert found.is_open(at) is is_open
            opens = found.opens(at)
            assert found.is_open(opens)
            assert (opens == at) is is_open
            assert timedelta(0) <= opens - at < DAY


def test_zones_and_summer_time() -> None:
    berlin = Window(time(2, 30), time(3, 30), "Europe/Berlin")
    if not windows.is_zone("Europe/Berlin"):
        pytest.skip("this system has no time zones")
    assert berlin.is_open(datetime(2026, 11, 22, 1, 45, tzinfo=UTC))
    assert not berlin.is_open(datetime(2026, 7, 22, 1, 45, tzinfo=UTC))
    # 02:30 does not exist on the day on which the clock goes forward
    assert berlin.is_open(datetime(2026, 3, 29, 1, 15, tzinfo=UTC))
    opens = berlin.opens(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert opens == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    local = Window(time(0), time(23, 59), "local")
    assert local.opens(NOW) >= NOW
    assert str(berlin) == "02:30-03:30 Europe/Berlin"


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "x\0y"])
def test_unknown_zones(name: str) -> None:
    assert not windows.is_zone(name)


# --- device.toml --------------------------------------------------------------------------------


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    found = load(make_gateway(tmp_path).config)
    assert (found.follow, found.after_install, found.keep) == (FollowRules(), None, 2)


def test_everything_can_be_said(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure(
        """
[follow]
address = "/media/updates"
interval = 600
longest = 7200
install = ["security"]
window = "22:00-04:00"
zone = "local"
crls = ["https://a.example/a.crl"]
trust = "https://a.example/trust"
[after_install]
command = ["/bin/restart", "app"]
seconds = 5
user = "app"
"""
    )
    found = load(gateway.config)
    assert found.follow == FollowRules(
        "/media/updates",
        600,
        7200,
        ("security",),
        Window(time(22), time(4), "local"),
        ("https://a.example/a.crl",),
        "https://a.example/trust",
    )
    assert found.after_install == AfterInstall(("/bin/restart", "app"), 5, "app")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[follow]\naddress = "http://a.example/u"', "is not an https address, or an absolute"),
        ('[follow]\naddress = "updates"', "is not an https address, or an absolute path"),
        ("[follow]\ninterval = 59", "is not a number of 60 to 604800"),
        ("[follow]\ninterval = 600\nlongest = 599", "is not a number of 600 (interval) or more"),
        ("[follow]\nlongest = 604801", "is not a number of 1 to 604800"),
        ('[follow]\ninstall = ["urgent"]', "is not a list of some of security, feature"),
        ('[follow]\ninstall = ["security", "security"]', "is not a list of some of"),
        ('[follow]\nwindow = "2-5"', "is not hours of a day as 02:00-05:00"),
        ('[follow]\nzone = "Mars"', "is not UTC, local, or a zone that this system knows"),
        ('[follow]\ncrls = ["http://a.example/a.crl"]', "is not a list of at most 8 https"),
        (f"[follow]\ncrls = {['https://a.example/a'] * 9}", "is not a list of at most 8 https"),
        ('[follow]\ntrust = "/trust"', "is not an https address"),
        ("[follow]\nask = true", 'has the unknown key "follow.ask"'),
        ("[after_install]\nseconds = 3", "is not a command by its absolute path"),
        ('[after_install]\ncommand = ["restart"]', "is not a command by its absolute path"),
        ('[after_install]\ncommand = ["/r"]\nshell = true', 'unknown key "after_install.shell"'),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure(text)
    with refused("io.config", words):
        load(gateway.config)


@pytest.mark.parametrize("value", ["0", "17", '"2"'])
def test_how_many_versions_are_kept_has_bounds(tmp_path: Path, value: str) -> None:
    gateway = make_gateway(tmp_path)
    gateway.config.write_text(f"keep = {value}\n{gateway.config.read_text()}")
    with refused("io.config", '"keep" is not'):
        load(gateway.config)
