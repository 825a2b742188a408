"""`fwsign follow`: what a poll finds, installs, leaves, and remembers."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from fwsign.errors import FwsignError, Stale
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.notice import Notice
from fwsign.gateway import hold
from fwsign.gateway.follow.places import MAX_ENVELOPES
from fwsign.gateway.follow.polling import poll
from fwsign.gateway.run.session import INSTALLED, opened
from fwsign.gateway.run.uptime import Uptime
from gateway.follow_kit import FEATURE, SECURITY, Follower, days, release
from gateway.kit import crls, pki
from gateway.server import Server
from support import DAY, NOW, refused


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path)


def names(found: Any) -> list[str]:
    return [one.name for one in found.obstacles]


def memory(follower: Follower) -> bytes:
    return (follower.gateway.base / "state.db").read_bytes()


def test_an_empty_directory_has_nothing_new(follower: Follower) -> None:
    assert follower.poll()[:2] == ("nothing new", None)
    assert follower.installed is None


def test_the_highest_release_that_verifies_is_installed(follower: Follower) -> None:
    for number in (5, 40, 7):
        follower.offer(number)
    follower.offer(90).write_bytes(b"junk")
    bad = follower.offer(80)
    bad.write_bytes(bad.read_bytes().replace(b"app80", b"app81"))
    done = follower.poll()
    assert done.verdict == "installed"
    assert follower.installed == {"app40.bin": b"release 40"}
    assert follower.gateway.floor == 40
    assert [one.partition(":")[0].rpartition("/")[2] for one in follower.said] == ["80.suit"]


def test_a_poll_without_news_writes_nothing_and_reads_no_file(follower: Follower) -> None:
    follower.offer(40)
    follower.poll()
    assert follower.poll().verdict == "nothing new"  # the installed version is part of the basis
    before = memory(follower)
    (follower.offers / "40.suit").chmod(0)  # facts that a listing shows do not change
    assert follower.poll().verdict == "nothing new"
    assert memory(follower) == before


def test_releases_for_other_devices_leave_no_receipt(follower: Follower) -> None:
    gateway = follower.gateway
    release(gateway, follower.offers / "other.suit", 50, None, product="gateway-x9")
    before = gateway.results
    assert follower.poll()[:2] == ("nothing new", None)
    assert gateway.results == before


def test_a_refused_release_leaves_one_receipt_and_is_not_read_again(follower: Follower) -> None:
    follower.offer(40, crls=crls(9, revoked=[pki().leaf]))
    for _ in range(3):
        with refused("untrusted.revoked"):
            follower.poll()
    assert follower.gateway.results[1:] == [("refused", "untrusted.revoked")]


def test_the_revocation_of_a_refused_release_counts_for_the_next(follower: Follower) -> None:
    follower.offer(40, crls=crls(9, revoked=[pki().leaf]))
    with refused("untrusted.revoked"):
        follower.poll()
    (follower.offers / "40.suit").unlink()
    follower.offer(41, crls=crls(8))
    with refused("untrusted.revoked"):
        follower.poll()
    assert follower.installed is None


def test_an_older_release_is_refused(follower: Follower) -> None:
    follower.offer(40)
    follower.poll()
    (follower.offers / "40.suit").unlink()
    follower.offer(39)
    for _ in range(2):
        with refused("unsuitable.rollback"):
            follower.poll()
    assert follower.installed == {"app40.bin": b"release 40"}


def test_a_stale_release_is_tried_again(follower: Follower) -> None:
    follower.offer(40)
    follower.at = days(400)
    for _ in range(2):
        with pytest.raises(Stale):
            follower.poll()
    follower.at = NOW
    assert follower.poll().verdict == "installed"


class TestHold:
    def hold(self, follower: Follower, **more: Any) -> None:
        hold.begin(follower.gateway.device, hold.Hold(follower.at, **more), None)

    def test_a_held_device_installs_nothing_by_itself(self, follower: Follower) -> None:
        self.hold(follower, until=days(3), reason="harvest time")
        follower.offer(40, SECURITY)
        found = follower.poll()
        assert (found.verdict, names(found)) == ("waiting", ["held"])
        words = "this device is held until 2026-11-25 12:00 UTC: harvest time"
        assert found.obstacles[0].words == words
        assert follower.installed is None
        follower.at = days(3)
        assert follower.poll().verdict == "installed"

    def test_a_released_device_installs_what_waited(self, follower: Follower) -> None:
        self.hold(follower)
        follower.offer(40)
        assert names(follower.poll()) == ["held"]
        ended = hold.end(follower.gateway.device, NOW, None)
        assert ended == hold.Hold(NOW)
        assert follower.poll().verdict == "installed"
        assert hold.end(follower.gateway.device, NOW, None) is None
        assert [one for one, _ in follower.gateway.results[1:3]] == ["held", "released"]

    def test_a_person_installs_on_a_held_device(self, follower: Follower) -> None:
        self.hold(follower)
        done = follower.gateway.install(follower.offer(40))
        assert done.verdict == "installed"
        note = "this device is held until it is released; a typed install is done all the same"
        assert note in done.notes

    def test_a_clock_that_is_behind_does_not_prolong_a_hold(self, follower: Follower) -> None:
        follower.offer(30)
        follower.poll()  # its CRLs prove that it is the day before NOW, at least
        follower.at = days(-10)
        self.hold(follower, until=days(-5))
        follower.offer(40)
        assert follower.poll().verdict == "installed"

    def test_holds_are_bounded(self, follower: Follower) -> None:
        with refused("state.policy", "is over already"):
            self.hold(follower, until=NOW)
        for reason in ("", "a\nb", "x" * (hold.MAX_REASON + 1)):
            with refused("state.policy", "the reason has"):
                self.hold(follower, reason=reason)

    @pytest.mark.parametrize(
        "text",
        [
            *("x", "[]", "{}", '{"since": 1, "until": null, "reason": null}'),
            '{"since": "2026-11-22T12:00:00", "until": null, "reason": null}',
            '{"since": "2026-11-22T12:00:00+00:00", "until": null, "reason": 1}',
        ],
    )
    def test_a_damaged_hold_is_refused(self, follower: Follower, text: str) -> None:
        with opened(follower.gateway.device) as state:
            state.remember(hold.HOLD, text)
        follower.offer(40)
        with refused("state.damaged", 'what the memory calls "hold" is no hold'):
            follower.poll()


class TestClasses:
    @pytest.mark.parametrize(
        ("notice", "waits"), [(SECURITY, False), (FEATURE, True), (None, True)]
    )
    def test_only_named_classes_are_installed(
        self, tmp_path: Path, notice: Notice | None, waits: bool
    ) -> None:
        follower = Follower(tmp_path, 'install = ["security"]')
        follower.offer(40, notice)
        found = follower.poll()
        assert names(found) == (["asks"] if waits else [])
        assert (follower.installed is None) is waits

    def test_a_release_whose_text_was_cut_off_gets_no_favour(self, tmp_path: Path) -> None:
        follower = Follower(tmp_path, 'install = ["security"]')
        follower.offer(40, SECURITY, severed=True)
        found = follower.poll()
        words = "a release without a class, which counts as feature is installed by a person only"
        assert [one.words for one in found.obstacles] == [words]

    def test_ask_first(self, tmp_path: Path) -> None:
        follower = Follower(tmp_path, "install = []")
        follower.offer(40, SECURITY)
        found = follower.check()
        assert found.obstacles[0].words == "a security release is installed by a person only"


class TestWindow:
    WINDOW = 'window = "02:00-05:00"'

    def test_nothing_is_installed_outside(self, tmp_path: Path) -> None:
        follower = Follower(tmp_path, self.WINDOW)
        follower.offer(40, SECURITY)
        found = follower.poll()
        words = "the window 02:00-05:00 UTC opens 2026-11-23 02:00 UTC"
        assert [(one.name, one.words) for one in found.obstacles] == [("window", words)]
        follower.at = NOW.replace(hour=2) + DAY
        assert follower.poll().verdict == "installed"

    @pytest.mark.parametrize(("notice", "waits"), [(SECURITY, []), (FEATURE, ["clock"])])
    def test_a_clock_that_is_behind_keeps_all_but_security_releases(
        self, tmp_path: Path, notice: Notice, waits: list[str]
    ) -> None:
        follower = Follower(tmp_path, self.WINDOW)
        follower.offer(40, notice)
        follower.at = days(-20000)
        found = follower.poll()
        assert names(found) == waits
        assert (follower.installed is None) is bool(waits)


class TestFailures:
    def broken(self, tmp_path: Path) -> Follower:
        more = '[exec]\n"app40.bin" = ["/bin/false"]\n"app50.bin" = ["/bin/true"]'
        return Follower(tmp_path, "interval = 600\nlongest = 2000", more)

    def test_a_release_that_failed_is_tried_later_and_later(self, tmp_path: Path) -> None:
        follower = self.broken(tmp_path)
        follower.offer(40)
        for failures, wait in ((1, 1200), (2, 2000), (3, 2000)):
            with refused("io.hook", "/bin/false ended with status 1"):
                follower.poll()
            times = "once" if failures == 1 else f"{failures} times"
            found = follower.poll()
            assert (found.verdict, names(found)) == ("waiting", ["failed"])
            words = f"it failed {times}, the next try is in {wait} seconds: /bin/false ended"
            assert found.obstacles[0].words.startswith(words)
            follower.waits(wait - 1)
            assert names(follower.poll()) == ["failed"]
            follower.waits(1)

    def test_a_higher_release_is_welcome_at_once(self, tmp_path: Path) -> None:
        follower = self.broken(tmp_path)
        follower.offer(40)
        with refused("io.hook"):
            follower.poll()
        follower.offer(50)
        assert follower.poll().verdict == "installed"
        assert follower.poll().verdict == "nothing new"

    def test_a_release_that_starts_the_machine_again_does_not_loop(self, tmp_path: Path) -> None:
        follower = self.broken(tmp_path)
        follower.offer(40)
        with refused("io.hook"):
            follower.poll()
        for boot in ("two", "three"):
            follower.uptime = Uptime(boot, 30)
            assert (
                follower.poll()
                .obstacles[0]
                .words.startswith("it failed once, the next try is in 1170 seconds")
            )
        follower.waits(1170)
        with refused("io.hook"):
            follower.poll()

    def test_a_payload_that_is_missing_does_not_count(self, follower: Follower) -> None:
        follower.offer(40)
        payload = follower.offers / "app40.bin"
        data = payload.read_bytes()
        payload.unlink()
        with refused("io.payload-missing"):
            follower.poll()
        payload.write_bytes(data)
        found = follower.poll()
        assert names(found) in (["failed"], [])


class TestAddress:
    def follow(self, tmp_path: Path, server: Server, more: str = "") -> Follower:
        follower = Follower(tmp_path, more, f'[fetch]\nca = "{server.ca}"')
        follower.address = server.url("/x1/update.suit")
        return follower

    def publish(self, follower: Follower, server: Server, number: int, **more: Any) -> None:
        path = release(follower.gateway, follower.offers / "u.suit", number, FEATURE, **more)
        data, tag = path.read_bytes(), f'"{number}"'

        def give(handler: Any) -> None:
            if handler.headers.get("If-None-Match") == tag:
                handler.head(304, {"ETag": tag})
                return
            handler.head(200, {"ETag": tag, "Content-Length": str(len(data))})
            handler.wfile.write(data)

        server.answers["/x1/update.suit"] = give
        name = f"app{number}.bin"
        server.files[f"/x1/{name}"] = (follower.offers / name).read_bytes()

    def test_one_small_request_if_nothing_is_new(self, tmp_path: Path, server: Server) -> None:
        follower = self.follow(tmp_path, server)
        self.publish(follower, server, 40)
        assert follower.poll().verdict == "installed"
        assert [path for path, _ in server.requests] == ["/x1/update.suit", "/x1/app40.bin"]
        for _ in range(3):
            assert follower.poll().verdict == "nothing new"
        assert [path for path, _ in server.requests[2:]] == ["/x1/update.suit"] * 3
        self.publish(follower, server, 41)
        assert follower.poll().verdict == "installed"
        assert follower.installed == {"app41.bin": b"release 41"}

    def test_a_release_that_waits_is_not_fetched_again(
        self, tmp_path: Path, server: Server
    ) -> None:
        follower = self.follow(tmp_path, server, 'window = "02:00-05:00"')
        self.publish(follower, server, 40)
        whole = poll(follower.request())
        assert whole.to_fetch == len(b"release 40")
        again = follower.poll()
        assert (again.verdict, again.offer, names(again)) == ("waiting", whole.offer, ["window"])
        follower.at = NOW.replace(hour=3)
        assert follower.poll().verdict == "installed"

    def test_a_server_without_tags_costs_a_fetch_and_nothing_else(
        self, tmp_path: Path, server: Server
    ) -> None:
        follower = self.follow(tmp_path, server)
        self.publish(follower, server, 40)
        del server.answers["/x1/update.suit"]
        server.files["/x1/update.suit"] = (follower.offers / "u.suit").read_bytes()
        assert follower.poll().verdict == "installed"
        assert follower.poll().verdict == "nothing new"
        before = memory(follower)
        (follower.gateway.target / "current/app40.bin").chmod(0)
        for _ in range(2):
            assert follower.poll().notes == ()  # the installed files are not read again
        assert memory(follower) == before
        self.publish(follower, server, 41)
        assert follower.poll().verdict == "installed"

    def test_what_was_judged_is_what_is_installed(self, tmp_path: Path, server: Server) -> None:
        follower = self.follow(tmp_path, server, 'install = ["security"]')
        good = release(follower.gateway, follower.offers / "s.suit", 40, SECURITY).read_bytes()
        self.publish(follower, server, 41)  # a feature release, signed as well
        feature, seen = server.answers["/x1/update.suit"], []

        def switching(handler: Any) -> None:
            seen.append(handler.path)
            if len(seen) > 1:
                feature(handler)
                return
            handler.head(200, {"Content-Length": str(len(good))})
            handler.wfile.write(good)

        server.answers["/x1/update.suit"] = switching
        server.files["/x1/app40.bin"] = b"release 40"
        assert follower.poll().verdict == "installed"
        assert follower.installed == {"app40.bin": b"release 40"}
        assert names(follower.poll()) == ["asks"]

    def test_a_server_that_always_says_unchanged_can_only_delay(
        self, tmp_path: Path, server: Server
    ) -> None:
        follower = self.follow(tmp_path, server)
        self.publish(follower, server, 40)
        follower.poll()
        server.answers["/x1/update.suit"] = lambda handler: handler.head(304, {})
        assert follower.poll().verdict == "nothing new"
        assert follower.installed == {"app40.bin": b"release 40"}
        with opened(follower.gateway.device) as state:
            state.remember("follow", None)
        with refused("io.fetch-status"):
            follower.poll()

    def test_a_server_that_is_gone_changes_nothing(self, tmp_path: Path, server: Server) -> None:
        follower = self.follow(tmp_path, server)
        self.publish(follower, server, 40)
        follower.poll()
        before = memory(follower)
        server.answers["/x1/update.suit"] = lambda handler: handler.head(
            404, {"Content-Length": "0"}
        )
        with refused("io.fetch-status"):
            follower.poll()
        assert memory(follower) == before


class TestCheck:
    def test_it_tells_and_changes_nothing(self, follower: Follower) -> None:
        follower.offer(40, SECURITY, data=b"x" * 5000)
        before = memory(follower)
        found = follower.check()
        assert (found.verdict, found.obstacles, found.to_fetch) == ("offered", (), 5000)
        assert found.offer is not None
        assert found.offer.name == "gateway-x1 2.4.1, sequence 40"
        assert found.offer.as_json() | {"manifest_digest": ""} == {
            "manifest_digest": "",
            "sequence_number": 40,
            "product": "gateway-x1",
            "version": "2.4.1",
            "class": "security",
            "advisories": ["CVE-2026-1234"],
            "support_until": "2031-12-31",
            "size": 5000,
        }
        assert memory(follower) == before
        assert follower.installed is None
        follower.poll()
        assert follower.check().verdict == "nothing new"

    def test_a_refusal_leaves_no_receipt(self, follower: Follower) -> None:
        follower.offer(40, crls=crls(9, revoked=[pki().leaf]))
        before = memory(follower)
        with refused("untrusted.revoked"):
            follower.check()
        assert memory(follower) == before


def test_mutated_hints_crash_nothing(follower: Follower) -> None:
    follower.offer(40, SECURITY)
    hold.begin(follower.gateway.device, hold.Hold(NOW), None)
    assert follower.poll().verdict == "waiting"
    names = ("follow", "follow chains", "hold")
    with opened(follower.gateway.device) as state:
        good = {name: json.loads(state.remembered(name) or "") for name in names}
    rng = random.Random(20261127)
    for _ in range(60):
        name = rng.choice(names)
        with opened(follower.gateway.device) as state:
            for known, value in good.items():
                state.remember(known, json.dumps(value))
            state.remember(name, json.dumps(mutated(good[name], rng)))
        try:
            assert follower.poll().verdict in ("waiting", "installed")
        except FwsignError as error:
            assert (name, error.code) == ("hold", "state.damaged")  # noqa: PT017 - few raise it


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one part exchanged."""
    if rng.random() < 0.7 and isinstance(value, dict | list) and value:
        place = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = value.copy()
        copy[place] = mutated(value[place], rng)
        return copy
    return rng.choice([None, 1, -1, [], {}, "x", 2**70, "state.x", [[]]])


@pytest.mark.parametrize(
    "text", ["x", "[]", "{}", '{"address": 1}', '{"address": "a", "tag": "b", "basis": "c"}']
)
def test_damaged_hints_are_no_hints(follower: Follower, text: str) -> None:
    with opened(follower.gateway.device) as state:
        state.remember("follow", text)
        state.remember("follow attempts", text)
    follower.offer(40)
    assert follower.poll().verdict == "installed"


def test_odd_files_in_a_directory_stop_nothing(follower: Follower) -> None:
    follower.offer(40)
    os.mkfifo(follower.offers / "pipe.suit")
    (follower.offers / "link.suit").symlink_to("/dev/zero")
    (follower.offers / "gone.suit").symlink_to("nowhere")
    (follower.offers / "folder.suit").mkdir()
    (follower.offers / ".hidden.suit").write_bytes(b"x")
    with (follower.offers / "large.suit").open("wb") as file:
        file.truncate(MAX_ENVELOPE_SIZE + 1)
    assert follower.poll().verdict == "installed"
    assert follower.poll().verdict == "nothing new"


def test_only_bad_files_are_named_by_the_first(follower: Follower) -> None:
    with (follower.offers / "large.suit").open("wb") as file:
        file.truncate(MAX_ENVELOPE_SIZE + 1)
    with refused("io.format", "large.suit is larger than"):
        follower.poll()


def test_a_directory_has_a_bound(follower: Follower) -> None:
    for number in range(MAX_ENVELOPES + 1):
        (follower.offers / f"{number}.suit").write_bytes(b"x")
    with refused("state.limit", f"has {MAX_ENVELOPES + 1} files *.suit"):
        follower.poll()


def test_a_directory_that_is_gone_is_an_error(follower: Follower) -> None:
    follower.offers.rmdir()
    with refused("io.missing"):
        follower.poll()


def test_a_restapled_envelope_of_the_installed_release_teaches_its_crls(
    follower: Follower,
) -> None:
    path = follower.offer(40, crls=crls(8))
    follower.poll()
    path.unlink()
    follower.offer(40, crls=crls(9))
    assert follower.poll().verdict == "nothing new"
    with opened(follower.gateway.device) as state:
        assert state.remembered(INSTALLED) is not None
    follower.offer(41, crls=crls(8, revoked=[]))
    assert follower.poll().verdict == "installed"


class TestTrial:
    """A release on trial, and one that failed its trial."""

    def follower(self, tmp_path: Path, health: str) -> Follower:
        script = tmp_path / "health"
        script.write_text(f"#!/bin/sh\n{health}\n")
        script.chmod(0o755)
        return Follower(tmp_path, "", f'[trial]\nhealth = ["{script}"]\ndeadline = 600')

    def test_a_release_that_failed_its_trial_waits_for_a_person(self, tmp_path: Path) -> None:
        follower = self.follower(tmp_path, f"test ! -e {tmp_path}/sick")
        follower.offer(40)
        assert follower.poll().verdict == "installed"
        (tmp_path / "sick").touch()
        follower.offer(41)
        with refused("unsuitable.trial"):
            follower.poll()
        assert follower.installed == {"app40.bin": b"release 40"}
        before = follower.gateway.results
        for _ in range(2):
            found = follower.poll()
            assert (found.verdict, names(found)) == ("waiting", ["failed"])
            assert found.obstacles[0].words.startswith("it failed its trial here before: ")
        assert names(follower.check()) == ["failed"]
        assert follower.gateway.results == before
        (tmp_path / "sick").unlink()
        follower.offer(42)
        assert follower.poll().verdict == "installed"

    def test_a_poll_ends_the_trial_that_is_due(self, tmp_path: Path) -> None:
        follower = self.follower(tmp_path, f"test -e {tmp_path}/well || exit 75")
        follower.offer(40)
        assert follower.poll().verdict == "on trial"
        again = follower.poll()
        assert (again.verdict, again.obstacles) == ("nothing new", ())
        follower.offer(41)
        waiting = follower.poll()
        assert (waiting.verdict, names(waiting)) == ("waiting", ["trial"])
        assert waiting.obstacles[0].words == "release 40 is on trial"
        hold.begin(follower.gateway.device, hold.Hold(NOW), None)
        (tmp_path / "well").touch()
        found = follower.poll()
        assert "release 40, committed: it passed its trial" in found.notes
        assert names(found) == ["held"]  # a hold does not stop what is on trial already
        assert follower.gateway.floor == 40

    def test_a_trial_whose_time_is_over_ends_at_a_poll(self, tmp_path: Path) -> None:
        follower = self.follower(tmp_path, "exit 75")
        follower.offer(40)
        assert follower.poll().verdict == "on trial"
        follower.waits(601)
        found = follower.poll()
        assert any("release 40, fell back" in one for one in found.notes)
        assert names(found) == ["failed"]
        assert follower.installed is None


def test_receipts_carry_the_notice(follower: Follower) -> None:
    follower.offer(40, SECURITY)
    follower.poll()
    with opened(follower.gateway.device) as state:
        last = json.loads(state.last_receipt() or "")
    assert last["result"] == "installed"
    said = {name: last["release"][name] for name in SECURITY.as_json()}
    assert said == SECURITY.as_json()
