"""What a device's lines make of its row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.kit import AT, DAY, HOSTILE, receipt, release, take
from fwsign.collect.store import FleetRun, FleetStore, open_store
from fwsign.collect.summary import MAX_COLUMN, OLDEST
from fwsign.fleet.questions import Questions

ROW = (
    "SELECT {} FROM running r JOIN devices d ON d.device = r.device WHERE d.name = ? AND board = ?"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with open_store(f"sqlite:///{tmp_path}/fleet.db") as made:
        yield made


@pytest.fixture
def run(store: FleetStore) -> Iterator[FleetRun]:
    with store.transaction() as made:
        yield made


def row(run: FleetRun, columns: str, name: str = "gw-1", board: str = "") -> tuple[Any, ...]:
    (found,) = run.rows(ROW.format(columns), name, board)
    return found


def taken(run: FleetRun) -> list[tuple[Any, ...]]:
    return run.rows("SELECT board, at FROM taken ORDER BY at, board")


def test_an_installed_release_is_in_place(run: FleetRun) -> None:
    take(run, "gw-1", receipt("gw-1", "installed", release=release("1.4.0", 14)))
    found = row(run, "version, sequence, state, since, heard, result, r.code, signed")
    assert found == ("1.4.0", 14, "installed", AT, AT, "installed", None, 1)
    assert taken(run) == [("", AT)]


def test_a_refusal_changes_only_the_end_of_the_last_action(run: FleetRun) -> None:
    take(run, "gw-1", receipt("gw-1", "installed", release=release("1.4.0", 14)))
    refusal = receipt("gw-1", "refused", AT + 60, code="stale.crl", release=release("1.5.0", 15))
    take(run, "gw-1", refusal, received=AT + 90, signed=False)
    found = row(run, "version, state, since, heard, result, r.code, signed")
    assert found == ("1.4.0", "installed", AT, AT + 90, "refused", "stale.crl", 1)
    assert len(taken(run)) == 1


def test_a_device_that_only_refuses_runs_nothing_known(run: FleetRun) -> None:
    take(run, "gw-1", receipt("gw-1", "refused", code="tampered.signature"))
    assert row(run, "manifest, state, r.code") == (None, "unknown", "tampered.signature")


def test_counts_of_refusals_are_no_action(run: FleetRun) -> None:
    take(run, "gw-1", receipt("gw-1", "refused", code="stale.crl"))
    counts = receipt("gw-1", "not written", AT + 5, kind="refusals", dropped={"stale.crl": 9})
    take(run, "gw-1", counts, received=AT + 5)
    take(run, "gw-1", receipt("gw-1", None, AT + 6, kind="pruned"), received=AT + 6)
    assert row(run, "result, r.code, heard") == ("refused", "stale.crl", AT + 6)


def test_a_trial_is_in_place_until_it_falls_back(run: FleetRun) -> None:
    before, tried = release("1.4.0", 14), release("1.5.0", 15)
    take(run, "gw-1", receipt("gw-1", "installed", release=before))
    take(run, "gw-1", receipt("gw-1", "on trial", release=tried))
    assert row(run, "version, state") == ("1.5.0", "on trial")
    trial = {"sequence_number": 15, "before": before["manifest_digest"]}
    fell = receipt("gw-1", "fell back", manifest=tried["manifest_digest"], trial=trial)
    take(run, "gw-1", fell)
    found = row(run, "version, state, manifest, result")
    assert found == ("1.4.0", "installed", bytes.fromhex(before["manifest_digest"]), "fell back")


def test_a_device_that_fell_back_names_its_release_as_others_do(run: FleetRun) -> None:
    old, tried = release("1.4.0", 14, advisories=("CVE-1",)), release("1.5.0", 15)
    for name in ("gw-1", "gw-2", "gw-3"):
        take(run, name, receipt(name, "installed", release=old))
    take(run, "gw-1", receipt("gw-1", "rolled back", manifest=old["manifest_digest"]))
    take(run, "gw-1", receipt("gw-1", "on trial", release=tried))
    fell = {"manifest": tried["manifest_digest"], "trial": {"before": old["manifest_digest"]}}
    take(run, "gw-1", receipt("gw-1", "fell back", **fell))
    (found,) = Questions(run, AT, DAY).releases()
    assert (found.version, found.devices, found.disputed) == ("1.4.0", 3, 0)
    assert found.advisories == ("CVE-1",)


def test_a_release_that_failed_its_trial_and_stays_is_not_on_trial(run: FleetRun) -> None:
    """Its receipt has its digest alone, as `fwsign.gateway.trial.going_back` writes it."""
    before, tried = release("1.4.0", 14), release("1.5.0", 15)
    take(run, "gw-1", receipt("gw-1", "on trial", release=tried))
    trial = {"sequence_number": 15, "before": before["manifest_digest"]}
    stays = receipt("gw-1", "stays", manifest=tried["manifest_digest"], trial=trial, release=None)
    take(run, "gw-1", stays)
    assert row(run, "version, sequence, state, result") == ("1.5.0", 15, "stays", "stays")
    take(run, "gw-2", {**stays, "manifest": "no digest"})
    assert row(run, "manifest, state", "gw-2") == (None, "unknown")


def test_a_release_before_that_nobody_reported_has_no_name(run: FleetRun) -> None:
    fell = receipt("gw-1", "fell back", trial={"before": "ab" * 32})
    take(run, "gw-1", fell)
    assert row(run, "version, manifest, state") == (None, b"\xab" * 32, "installed")


def test_boards_have_rows_of_their_own_and_their_station_runs_nothing(run: FleetRun) -> None:
    flashed = receipt("station-7", "verified", kind="flash", board={"identity": "mac:01"})
    take(run, "station-7", {**flashed, "release": release("2.0.0", 20)})
    half = receipt("station-7", "incomplete", kind="flash", board={"identity": "mac:02"})
    take(run, "station-7", {**half, "touched": True, "code": "device.lost"})
    take(run, "station-7", receipt("station-7", "refused", kind="flash", board=None))
    assert row(run, "state, manifest", "station-7") == ("station", None)
    assert row(run, "version, state", "station-7", "mac:01") == ("2.0.0", "installed")
    assert row(run, "manifest, state, r.code", "station-7", "mac:02") == (
        *(None, "incomplete"),
        "device.lost",
    )
    assert len(run.rows("SELECT * FROM running")) == 3


@pytest.mark.parametrize("result", ["incomplete", "not verifiable", "not bootable"])
def test_a_board_that_was_written_does_not_run_what_was_there(run: FleetRun, result: str) -> None:
    flashed = receipt("station-7", "verified", kind="flash", board={"identity": "mac:01"})
    take(run, "station-7", {**flashed, "release": release("2.0.0", 20), "touched": True})
    again = {**flashed, "result": result, "release": release("1.0.0", 10)}
    take(run, "station-7", {**again, "touched": False})
    assert row(run, "version, state", "station-7", "mac:01") == ("2.0.0", "installed")
    take(run, "station-7", {**again, "touched": True})
    assert row(run, "version, manifest, state", "station-7", "mac:01") == (None, None, "incomplete")


def test_a_simulated_board_runs_nothing(run: FleetRun) -> None:
    board = {"identity": "mac:03", "simulated": True}
    flashed = receipt("station-7", "verified", kind="flash", board=board)
    take(run, "station-7", {**flashed, "release": release("2.0.0", 20)})
    assert run.rows("SELECT board, state FROM running") == [("", "station")]
    assert taken(run) == []


def test_an_older_line_that_closes_a_gap_changes_only_the_curve(run: FleetRun) -> None:
    take(run, "gw-1", receipt("gw-1", "installed", release=release("1.5.0", 15)))
    old = receipt("gw-1", "installed", AT - DAY, release=release("1.4.0", 14))
    take(run, "gw-1", old, newest=False)
    assert row(run, "version") == ("1.5.0",)
    assert taken(run) == [("", AT - DAY), ("", AT)]


@pytest.mark.parametrize("said", [AT - OLDEST - 1, AT + 1, -(10**9), 250_000_000_000])
def test_a_clock_that_lies_does_not_stretch_the_curve(run: FleetRun, said: int) -> None:
    take(run, "gw-1", receipt("gw-1", "installed", said, release=release()))
    assert taken(run) == [("", AT)]


@pytest.mark.parametrize("said", [None, 5, "yesterday", "2026-11-27T12:00:00", "9" * 50])
def test_a_clock_that_is_none_is_none(run: FleetRun, said: object) -> None:
    content = {**receipt("gw-1", "installed", release=release()), "clock": said}
    take(run, "gw-1", content)
    assert row(run, "since") == (None,)
    assert taken(run) == [("", AT)]


def test_the_same_release_again_is_taken_once(run: FleetRun) -> None:
    for at in (AT - 50, AT - 20):
        take(run, "gw-1", receipt("gw-1", "installed", at, release=release()))
    assert taken(run) == [("", AT - 50)]


def test_what_no_column_can_keep_is_bounded(run: FleetRun) -> None:
    wild = {
        "manifest_digest": "ab" * 32,
        "vendor": "v" * 10_000,
        "product": "nul\0 and \ud800",
        "version": HOSTILE,
        "sequence_number": 2**63,
        "class": "security",
        "advisories": ["A" * 64] * 32,
    }
    take(run, "gw-1", receipt("gw-1", "installed", release=wild))
    vendor, product, version, sequence, notice = row(
        run, "r.vendor, r.product, version, sequence, notice"
    )
    assert len(vendor) == MAX_COLUMN
    assert product == "nul\\x00 and \\ud800"
    assert version == HOSTILE
    assert sequence is None
    assert notice is None


@pytest.mark.parametrize(
    "release",
    [None, [], "1.0", {"manifest_digest": "zz"}, {"manifest_digest": 5}, {"manifest_digest": ""}],
)
def test_a_release_that_is_none_is_not_in_place(run: FleetRun, release: object) -> None:
    take(run, "gw-1", receipt("gw-1", "installed", release=release))
    assert row(run, "manifest, state, result") == (None, "unknown", "installed")
