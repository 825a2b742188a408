"""A board counts once, however many stations flashed it, and what was renamed or reinstalled."""

from typing import Any

import pytest

from collect.kit import Chain, chain_of, collector
from collect.kit import release as collected
from fleet.kit import AT, CVE, DAY, asked, receipt, release, take
from fwsign.collect.store import FleetRun, FleetStore
from fwsign.fleet.answer import FleetAsked, find_answer, unknowns
from fwsign.fleet.own import OwnRelease
from fwsign.fleet.questions import DeviceFilter, curves_of

BOARD = "mac:01"


def flash(run: FleetRun, station: str, at: int, version: str = "1.0.0", **more: Any) -> None:
    """Flash the board at a station; `more` goes to the receipt, but `received` and `signed`."""
    received, signed = more.pop("received", at), more.pop("signed", True)
    result = more.pop("result", "verified")
    told = release(version, int(version.replace(".", "")), product="sensor")
    content = receipt(station, result, at, kind="flash", board={"identity": BOARD}, release=told)
    take(run, station, {**content, **more}, received=received, signed=signed)


def runs(store: FleetStore) -> list[tuple[str, str, str | None]]:
    """Return the boards with their station and version, as every question counts them."""
    with asked(store) as questions:
        found = questions.devices(DeviceFilter())
        assert questions.totals().devices == len(found)
        assert sum(one.devices for one in questions.releases()) == sum(
            one.manifest is not None for one in found
        )
        for one in questions.releases():
            wanted = DeviceFilter(release=one.manifest)
            assert len(questions.devices(wanted)) == one.devices
    return [(one.board or one.name, one.name, one.version) for one in found]


def test_a_board_of_two_stations_counts_once(store: FleetStore) -> None:
    with store.transaction() as run:
        flash(run, "line-1", AT - 2 * DAY, "1.0.0")
        flash(run, "line-2", AT - DAY, "2.0.0")
    assert runs(store) == [(BOARD, "line-2", "2.0.0")]
    with asked(store) as questions:
        totals = questions.totals()
        assert (totals.devices, totals.signed, totals.moved) == (1, 1, 1)
        assert questions.devices(DeviceFilter(version="1.0.0")) == []
        (found,) = questions.device(BOARD)
        assert (found.name, found.version) == ("line-2", "2.0.0")
        history = [(one.station, one.version) for one in questions.events(BOARD)]
        assert [one.id for one in questions.device("line-1")] == ["line-1"]
        assert [one.id for one in questions.device("line-2")] == ["line-2", BOARD]
        assert [one.board for one in questions.events("line-1")] == [BOARD]
    assert history == [("line-2", "2.0.0"), ("line-1", "1.0.0")]


def test_the_same_release_at_two_stations_is_taken_once(store: FleetStore) -> None:
    with store.transaction() as run:
        flash(run, "line-2", AT - DAY)
        flash(run, "line-1", AT - 2 * DAY, received=AT)
    with asked(store) as questions:
        (only,) = questions.releases()
        (curve,) = curves_of(questions, [only])
    assert (only.devices, only.signed) == (1, 1)
    assert curve.points[-1][1] == 1


def test_a_line_that_comes_late_does_not_count_before_a_newer_one(store: FleetStore) -> None:
    """Line 1 was without a network while line 2 flashed the board again."""
    with store.transaction() as run:
        flash(run, "line-2", AT - DAY, "2.0.0")
        flash(run, "line-1", AT - 2 * DAY, "1.0.0", received=AT)
    assert runs(store) == [(BOARD, "line-2", "2.0.0")]


@pytest.mark.parametrize(
    ("clock", "version"),
    [
        (AT + 1, "2.0.0"),  # ahead of its arrival: the arrival counts, which is before the other
        (AT - 91 * DAY, "2.0.0"),  # too far behind: again the arrival
        (250_000_000_000, "2.0.0"),
    ],
)
def test_a_clock_that_lies_wins_nothing(store: FleetStore, clock: int, version: str) -> None:
    with store.transaction() as run:
        flash(run, "line-1", clock, "1.0.0", received=AT - 2 * DAY)
        flash(run, "line-2", AT - DAY, "2.0.0", received=AT - DAY)
    assert runs(store) == [(BOARD, "line-2", version)]


@pytest.mark.parametrize("first", [True, False])
def test_of_equal_times_a_signed_line_counts_first(store: FleetStore, first: bool) -> None:
    with store.transaction() as run:
        flash(run, "line-1", AT, "1.0.0", signed=first)
        flash(run, "line-2", AT, "2.0.0", signed=not first)
    assert runs(store) == [(BOARD, *(("line-1", "1.0.0") if first else ("line-2", "2.0.0")))]


@pytest.mark.parametrize("signed", [True, False])
def test_of_equal_times_and_proofs_the_last_to_arrive_counts(
    store: FleetStore, signed: bool
) -> None:
    with store.transaction() as run:
        flash(run, "line-2", AT, "2.0.0", signed=signed)
        flash(run, "line-1", AT, "1.0.0", signed=signed)
    assert runs(store) == [(BOARD, "line-1", "1.0.0")]


def test_a_refusal_at_another_station_leaves_what_runs(store: FleetStore) -> None:
    with store.transaction() as run:
        flash(run, "line-1", AT - DAY, "1.0.0")
        flash(run, "line-2", AT, "2.0.0", result="refused", code="unsuitable.chip")
    assert runs(store) == [(BOARD, "line-1", "1.0.0")]
    with asked(store) as questions:
        (found,) = questions.devices(DeviceFilter(refused=True))
        assert (found.id, found.version, found.code) == (BOARD, "1.0.0", "unsuitable.chip")
        assert (found.result, found.heard) == ("refused", AT)
        assert questions.totals().refused == 1
        assert [(one.code, one.devices) for one in questions.refusals()] == [("unsuitable.chip", 1)]
        assert questions.ended(found.manifest or b"") == (0, {"unsuitable.chip": 1})
        assert questions.devices(DeviceFilter(code="unsuitable.chip")) == [found]


def test_a_refusal_that_was_mended_at_another_station_is_over(store: FleetStore) -> None:
    with store.transaction() as run:
        flash(run, "line-1", AT - DAY, "2.0.0", result="refused", code="unsuitable.chip")
        flash(run, "line-2", AT, "2.0.0")
    assert runs(store) == [(BOARD, "line-2", "2.0.0")]
    with asked(store) as questions:
        assert questions.refusals() == []
        assert questions.totals().refused == 0
        assert questions.devices(DeviceFilter(refused=True)) == []


def test_a_board_that_another_station_left_half_written_runs_nothing(store: FleetStore) -> None:
    with store.transaction() as run:
        flash(run, "line-1", AT - DAY, "1.0.0")
        flash(run, "line-2", AT, "2.0.0", result="incomplete", touched=True, code="device.lost")
    with asked(store) as questions:
        (found,) = questions.devices(DeviceFilter())
        assert (found.name, found.state, found.manifest) == ("line-2", "incomplete", None)
        assert questions.totals().unknown == 1
        assert questions.releases() == []


def test_a_board_that_nobody_wrote_counts_once(store: FleetStore) -> None:
    with store.transaction() as run:
        for station in ("line-1", "line-2", "line-3"):
            flash(run, station, AT, result="refused", code="unsuitable.chip")
    with asked(store) as questions:
        totals = questions.totals()
        assert (totals.devices, totals.unknown, totals.refused, totals.moved) == (1, 1, 1, 1)
        assert len(questions.devices(DeviceFilter())) == 1


def test_pages_have_each_board_once(store: FleetStore) -> None:
    with store.transaction() as run:
        for number in range(6):
            for station in ("line-1", "line-2"):
                board = {"identity": f"mac:{number}"}
                at = AT - (DAY if (number % 2) == (station == "line-1") else 0)
                flash(run, station, at, board=board)
    found, after = [], None
    with asked(store) as questions:
        while part := questions.devices(DeviceFilter(), after, 2):
            found += part
            after = (part[-1].name, part[-1].board)
    assert [(one.board, one.name) for one in found] == [
        *(("mac:0", "line-1"), ("mac:2", "line-1"), ("mac:4", "line-1")),
        *(("mac:1", "line-2"), ("mac:3", "line-2"), ("mac:5", "line-2")),
    ]


def test_the_answer_counts_each_board_once_and_says_so(store: FleetStore) -> None:
    with store.transaction() as run:
        flash(run, "line-1", AT - 2 * DAY, "1.0.0")
        mended = release("2.0.0", 200, "sensor", (CVE,))
        flash(run, "line-2", AT - DAY, "2.0.0", release=mended)
    made = bytes.fromhex(mended["manifest_digest"])
    own = OwnRelease(made, "acme.example", "sensor", "2.0.0", 200, "security", (CVE,))
    with asked(store) as questions:
        found = find_answer(questions, FleetAsked(CVE, own=(own,)), "here", "7d")
    assert (found.devices, found.mended, found.everyone, found.moved) == (0, 1, 1, 1)
    assert (
        "what 1 boards run that several stations flashed: the latest receipt counts, whichever "
        "station wrote it"
    ) in unknowns(found)


# --- the siblings --------------------------------------------------------------------------------


def flashed(chain: Chain, version: str, sequence: int) -> None:
    told = collected(version, sequence, "sensor")
    chain.add("verified", kind="flash", board={"identity": BOARD}, release=told)


def test_a_gateway_that_was_reinstalled_counts_once(store: FleetStore) -> None:
    """Its record begins anew under its name: a break is noted, and the newest line counts."""
    taker = collector(store)
    before = chain_of("gw-1", 3)
    assert taker.send(before.lines).status == 200
    again = Chain("gw-1")
    again.add("enrolled", kind="enrol")
    assert taker.send(again.lines).status == 200
    # What it ran last is all that is known, until it says more.
    assert runs(store) == [("gw-1", "gw-1", "1.2.0")]
    again.add(release=collected("1.0.0", 1000))
    assert taker.send(again.lines).status == 200
    assert runs(store) == [("gw-1", "gw-1", "1.0.0")]
    assert taker.breaks == [("restart", False)]
    with asked(store) as questions:
        versions = [one.version for one in questions.events("gw-1")]
    assert versions == ["1.0.0", None, "1.2.0", "1.1.0", "1.0.0"]


def test_a_station_that_was_renamed_counts_its_boards_once(store: FleetStore) -> None:
    """With a certificate of another name it goes on in its chain, or begins one."""
    taker = collector(store)
    old, new = Chain("line-1"), Chain("line-1b")
    flashed(old, "1.0.0", 1)
    assert taker.send(old.lines, "line-1").status == 200
    new.lines = list(old.lines)
    flashed(new, "2.0.0", 2)
    assert taker.send(new.lines[1:], "line-1b").status == 200
    assert runs(store) == [(BOARD, "line-1b", "2.0.0")]
    with asked(store) as questions:
        stations = [one.station for one in questions.events(BOARD)]
        assert questions.totals().devices == 1
    assert stations == ["line-1b", "line-1"]


def test_a_board_that_moved_behind_a_gateway_counts_once(store: FleetStore) -> None:
    taker = collector(store)
    line, gateway = Chain("line-1"), chain_of("gw-1", 1)
    flashed(line, "1.0.0", 1)
    flashed(gateway, "2.0.0", 2)
    assert taker.send(line.lines, "line-1").status == 200
    assert taker.send(gateway.lines).status == 200
    assert runs(store) == [("gw-1", "gw-1", "1.0.0"), (BOARD, "gw-1", "2.0.0")]
