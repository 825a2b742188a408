"""The answers of a small fleet, on SQLite and on PostgreSQL."""

import json

import pytest

from collect.kit import chain_of, collector
from collect.postgres import Postgres, emptied
from fleet.kit import AT, CVE, DAY, HOSTILE, asked, hostile, receipt, release, small, take
from fwsign.collect.store import FleetStore, open_store
from fwsign.fleet import questions as module
from fwsign.fleet.model import FleetTotals, read_notice
from fwsign.fleet.questions import DeviceFilter, curves_of, shown_releases
from support import refused


def filled(store: FleetStore) -> FleetStore:
    with store.transaction() as run:
        small(run)
    return store


def test_the_fleet_in_numbers(store: FleetStore) -> None:
    with asked(filled(store)) as questions:
        found = questions.totals()
    # 7 devices and 2 boards; the station is none. gw-7 never said what it runs.
    assert found == FleetTotals(9, 7, 1, 1, 1, {})
    assert found.as_json()["only_said"] == 1


def test_lines_that_a_collector_took_are_answered(store: FleetStore) -> None:
    taker = collector(store)
    device, forged = chain_of("gw-1", 3), chain_of("gw-2", 2)
    device.add("refused", code="stale.crl", message="too old")
    taker.send(device.lines)
    assert taker.send(forged.lines, "gw-1").status == 422
    with asked(store) as questions:
        assert questions.totals().problems == {"forged": 1}
        (found,) = questions.devices(DeviceFilter())
        (curve,) = curves_of(questions, questions.releases())
        events = questions.events("gw-1")
    assert (found.id, found.version, found.signed, found.code) == (
        *("gw-1", "1.2.0", True, "stale.crl"),
    )
    assert curve.points[-1][1] == 1
    assert [one.signer for one in events] == ["gw-1"] * 4
    assert events[0].message == "too old"


def test_an_empty_store_has_answers(store: FleetStore) -> None:
    with asked(store) as questions:
        assert questions.totals() == FleetTotals(0, 0, 0, 0, 0, {})
        assert questions.releases() == []
        assert questions.refusals() == []
        assert questions.problems() == []
        assert questions.devices(DeviceFilter()) == []
        assert questions.device("x") == []
        assert questions.events("x") == []


def test_devices_by_release(store: FleetStore) -> None:
    with asked(filled(store)) as questions:
        found = [(one.of, one.name, one.devices, one.signed) for one in questions.releases()]
    assert found == [
        ("acme.example/gateway-x1", "2.0.0", 1, 1),
        ("acme.example/gateway-x1", "1.5.0", 3, 3),
        ("acme.example/gateway-x1", "1.4.0", 2, 1),
        ("acme.example/sensor", "9.0", 2, 2),
    ]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (DeviceFilter(version="1.5.0"), ["gw-1", "gw-2", "gw-3"]),
        (DeviceFilter(version="9.0"), ["mac:01", "mac:02"]),
        (DeviceFilter(version="1.5.0", product="sensor"), []),
        (DeviceFilter(product="sensor"), ["mac:01", "mac:02"]),
        (DeviceFilter(silent=True), ["gw-4"]),
        (DeviceFilter(refused=True), ["gw-5"]),
        (DeviceFilter(code="stale.crl"), ["gw-5"]),
        (DeviceFilter(code="stale"), []),
        (DeviceFilter(signed=False), ["gw-5"]),
        (DeviceFilter(like="mac:0"), ["mac:01", "mac:02"]),
        (DeviceFilter(like="station"), ["station-1", "mac:01", "mac:02"]),
        (DeviceFilter(like="gw-_"), []),
        (DeviceFilter(like="gw-%"), []),
        (DeviceFilter(like="' OR '1'='1"), []),
        (DeviceFilter(version="' OR '1'='1"), []),
    ],
)
def test_devices_by_what_is_asked(
    store: FleetStore, wanted: DeviceFilter, names: list[str]
) -> None:
    with asked(filled(store)) as questions:
        assert [one.id for one in questions.devices(wanted)] == names


def test_a_station_is_silent_and_its_boards_are_not(store: FleetStore) -> None:
    long_ago = AT - 30 * DAY
    flashed = receipt("station-1", "verified", long_ago, kind="flash", board={"identity": "mac:9"})
    with store.transaction() as run:
        take(run, "station-1", {**flashed, "release": release()}, received=long_ago)
    with asked(store) as questions:
        assert [one.id for one in questions.devices(DeviceFilter(silent=True))] == ["station-1"]
        assert questions.totals() == FleetTotals(1, 1, 0, 1, 0, {})


def test_pages_follow_each_other_without_a_device_lost_or_twice(store: FleetStore) -> None:
    found, after = [], None
    with asked(filled(store)) as questions:
        every = questions.devices(DeviceFilter())
        while part := questions.devices(DeviceFilter(), after, 2):
            found += part
            after = (part[-1].name, part[-1].board)
    assert found == every
    assert len(found) == 9


def test_a_device_says_what_it_runs_and_how_well_that_is_known(store: FleetStore) -> None:
    with asked(filled(store)) as questions:
        (found,) = questions.device("gw-5")
        board = questions.device("mac:02")[0].as_json()
        station = [one.id for one in questions.device("station-1")]
    assert (found.version, found.code, found.signed, found.silent) == (
        *("1.4.0", "stale.crl", False, False),
    )
    assert found.as_json()["said_by"] == "only said"
    assert (board["device"], board["station"], board["said_by"]) == (
        *("mac:02", "station-1", "signed"),
    )
    assert station == ["station-1", "mac:01", "mac:02"]


def test_a_history_is_newest_first_and_goes_on(store: FleetStore) -> None:
    with asked(filled(store)) as questions:
        first, second = questions.events("gw-5")
        assert questions.events("gw-5", before=first.number) == [second]
        assert questions.events("gw-5", most=1) == [first]
        board = questions.events("mac:01")
    assert (first.result, first.code, first.message) == (
        *("refused", "stale.crl", "the CRL is too old"),
    )
    assert first.as_json()["said_by"] == "only said"
    assert [one.version for one in board] == ["9.0"]


def test_a_curve_counts_each_device_once_and_only_rises(store: FleetStore) -> None:
    with asked(filled(store)) as questions:
        releases = questions.releases()
        curves = {one.release.name: one.points for one in curves_of(questions, releases)}
    assert curves["1.5.0"][0] == (AT - 3 * 3600, 0)
    assert curves["1.5.0"][-1] == (AT - 3600, 3)
    assert curves["1.4.0"][-1][1] == 5  # also those that have a newer one now
    for points in curves.values():
        assert list(points) == sorted(points)


def test_a_curve_has_a_bounded_number_of_points(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_POINTS", 10)
    with store.transaction() as run:
        for number in range(60):
            name = f"gw-{number:04}"
            at = AT - number * 3600
            take(run, name, receipt(name, "installed", at, release=release()), received=at)
    with asked(store) as questions:
        (curve,) = curves_of(questions, questions.releases())
    assert 2 < len(curve.points) <= 22
    assert curve.points[-1] == (AT, 60)


def test_one_device_cannot_rename_a_release_that_others_run(store: FleetStore) -> None:
    true, false = release("1.4.0", 14), release("0.0", 99, advisories=("CVE-1",))
    false["manifest_digest"] = true["manifest_digest"]
    with store.transaction() as run:
        take(run, "aaa", receipt("aaa", "installed", release=false))
        for name in ("gw-1", "gw-2"):
            take(run, name, receipt(name, "installed", release=true))
    with asked(store) as questions:
        (found,) = questions.releases()
    assert (found.version, found.sequence, found.advisories) == ("1.4.0", 14, ())
    assert (found.devices, found.disputed) == (3, 1)


def test_a_device_with_many_boards_has_one_voice(store: FleetStore) -> None:
    true, false = release("1.4.0", 14), release("0.0", 99, advisories=("CVE-1",))
    false["manifest_digest"] = true["manifest_digest"]
    with store.transaction() as run:
        for number in range(5):
            board = {"identity": f"mac:{number}"}
            flashed = receipt("aaa", "verified", kind="flash", board=board, release=false)
            take(run, "aaa", flashed)
        for name in ("gw-1", "gw-2"):
            take(run, name, receipt(name, "installed", release=true))
    with asked(store) as questions:
        (found,) = questions.releases()
    assert (found.version, found.sequence, found.advisories) == ("1.4.0", 14, ())
    assert (found.devices, found.disputed) == (7, 5)


@pytest.mark.parametrize("wild", [5, ["security"], {"a": 1}, True])
def test_a_class_that_is_no_text_breaks_no_answer(store: FleetStore, wild: object) -> None:
    with store.transaction() as run:
        strange = {**release(), "class": wild}
        take(run, "gw-1", receipt("gw-1", "installed", release=strange))
        other = {**release("2.0"), "advisories": ["CVE-1", wild]}
        take(run, "gw-2", receipt("gw-2", "installed", release=other))
    with asked(store) as questions:
        found = questions.releases()
    assert [(one.release_class, one.advisories) for one in found] == [(None, ()), (None, ())]
    assert read_notice(json.dumps({"class": wild, "advisories": []})) == (None, ())


def test_unsigned_lines_cannot_rename_a_release_that_others_signed(store: FleetStore) -> None:
    true, false = release("1.4.0", 14), release("0.0", 99)
    false["manifest_digest"] = true["manifest_digest"]
    with store.transaction() as run:
        take(run, "gw-1", receipt("gw-1", "installed", release=true))
        for number in range(5):
            take(run, f"x{number}", receipt(f"x{number}", "installed", release=false), signed=False)
    with asked(store) as questions:
        (found,) = questions.releases()
    assert (found.version, found.devices, found.signed, found.disputed) == ("1.4.0", 6, 1, 5)


def test_devices_that_each_claim_a_release_of_their_own_do_not_flood(store: FleetStore) -> None:
    with store.transaction() as run:
        for number in range(module.MAX_RELEASES + 20):
            wild = release(f"9.{number}", 1000 + number)
            take(run, f"x{number}", receipt(f"x{number}", "installed", release=wild))
        for number in range(3):
            take(run, f"gw-{number}", receipt(f"gw-{number}", "installed", release=release()))
    with asked(store) as questions:
        every = questions.releases()
        shown = shown_releases(every)
        assert len(curves_of(questions, shown)) == module.MAX_CURVES
    assert (len(every), len(shown)) == (module.MAX_RELEASES + 21, module.MAX_RELEASES)
    assert "1.0.0" in [one.name for one in shown]


def test_problems_are_named_and_count_nowhere_else(store: FleetStore) -> None:
    with store.transaction() as run:
        hostile(run)
    with asked(store) as questions:
        totals, problems = questions.totals(), questions.problems()
    assert totals.problems == {"fork": 1, "forged": 1}
    fork, forged = sorted(problems, key=lambda one: one.kind, reverse=True)
    assert fork.device == "evil"
    assert fork.detail == (
        "two lines name the same one before them: lines were deleted, or a memory was put back "
        f"({'cd' * 8})"
    )
    assert forged.device == HOSTILE
    assert forged.detail.startswith(f'sent by "{HOSTILE}", 3 times: untrusted.receipt: ')


def test_one_device_does_not_hide_the_problems_of_others(store: FleetStore) -> None:
    with store.transaction() as run:
        hostile(run)
        take(run, "loud", receipt("loud", "installed", release=release()))
        ((device,),) = run.rows("SELECT device FROM devices WHERE name = 'loud'")
        for number in range(module.MAX_PROBLEMS + 10):
            run.rows(
                "INSERT INTO breaks (device, kind, noticed, digest, chain) VALUES (?, 'gap', ?, ?,"
                " 1)",
                *(device, AT + number, bytes([number]) * 32),
            )
            run.rows(
                "INSERT INTO forged (client, claimed, first_seen, last_seen, times, code, message,"
                " digest, line) VALUES ('loud', NULL, ?, ?, 2, 'x', 'y', ?, 'z')",
                *(AT, AT + number, bytes([number]) * 32),
            )
    with asked(store) as questions:
        found = [(one.kind, one.device) for one in questions.problems()]
        details = [one.detail for one in questions.problems()]
    assert sorted(found, key=str) == sorted(
        [("gap", "loud"), ("forged", None), ("fork", "evil"), ("forged", HOSTILE)], key=str
    )
    assert f'sent by "loud", {2 * (module.MAX_PROBLEMS + 10)} times: x: y' in details


def test_a_break_that_was_mended_is_no_problem(store: FleetStore) -> None:
    with store.transaction() as run:
        hostile(run)
        run.rows("UPDATE breaks SET closed = ?", AT)
    with asked(store) as questions:
        assert questions.totals().problems == {"forged": 1}
        assert [one.kind for one in questions.problems()] == ["forged"]


def test_refusals_by_code(store: FleetStore) -> None:
    with store.transaction() as run:
        for number, code in enumerate(["stale.crl", "io.full", "stale.crl"]):
            take(run, f"gw-{number}", receipt(f"gw-{number}", "refused", code=code))
    with asked(store) as questions:
        found = [(one.code, one.devices, one.last) for one in questions.refusals()]
    assert found == [("stale.crl", 2, AT), ("io.full", 1, AT)]


def test_a_release_names_the_advisories_that_it_closes(store: FleetStore) -> None:
    with asked(filled(store)) as questions:
        found = {one.name: one.as_json() for one in questions.releases()}
    assert found["1.5.0"]["advisories"] == [CVE]
    assert (found["1.5.0"]["class"], found["1.4.0"]["class"]) == ("security", "feature")


def test_a_question_on_postgresql_cannot_write(postgres: Postgres) -> None:
    with (
        refused("io.store", "cannot execute DELETE in a read-only transaction"),
        open_store(emptied(postgres)) as store,
        asked(store) as questions,
    ):
        questions._run.rows("DELETE FROM running")


def test_questions_change_nothing(store: FleetStore) -> None:
    filled(store)
    whole = ("SELECT * FROM running", "SELECT * FROM taken", "SELECT * FROM receipts")
    with store.transaction("read") as run:
        before = [run.rows(one) for one in whole]
    with asked(store) as questions:
        questions.totals()
        curves_of(questions, questions.releases())
    with store.transaction("read") as run:
        after = [run.rows(one) for one in whole]
    assert before == after
