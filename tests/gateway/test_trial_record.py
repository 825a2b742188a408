"""The memory's records of trials: read strictly, and their time is that of the machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.run.uptime import Uptime, read_uptime
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.record import (
    FAILED,
    MAX_FAILED,
    TRIAL,
    FailedRelease,
    TrialRecord,
    end_for_epoch,
    read_failed,
    read_trial,
    with_failed,
    write_failed,
    write_trial,
)
from fwsign.memory.state import State
from support import refused

NEW = ReleaseRecord("ab" * 32, 2, "ab" * 32, files=("app.tar",), judged_at="2026-01-01T00:00:00Z")
OLD = NEW._replace(manifest="cd" * 32, sequence=1)
RECORD = TrialRecord(NEW, OLD, "running", 600, 2, "boot 1", 100, 100)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(tmp_path / "state.db", create=True)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        RECORD._replace(before=None, reason="it hung", boards={"sim:a": "mac:1"}),
        RECORD._replace(commands=("app.tar",), healthy=True, confirmed=True, blamed=True),
    ],
)
def test_a_trial_is_read_as_it_was_written(state: State, record: TrialRecord) -> None:
    write_trial(state, record)
    assert read_trial(state) == record
    write_trial(state, None)
    assert read_trial(state) is None


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "perfect"},
        {"phase": ["running"]},
        {"deadline": "600"},
        {"deadline": True},
        {"boots": -1},
        {"since": 1.5},
        {"healthy": 1},
        {"confirmed": "yes"},
        {"blamed": None},
        {"boot": None},
        {"reason": 7},
        {"commands": [1]},
        {"commands": None},
        {"boards": {"sim:a": 7}},
        {"boards": ["sim:a"]},
        {"release": None},
        {"release": {"manifest": 7, "sequence": 1, "directory": None}},
        {"before": {"sequence": 1}},
        {"before": []},
        {"surprise": 1},
    ],
)
def test_a_damaged_record_of_a_trial_is_an_error(state: State, change: dict[str, Any]) -> None:
    state.remember(TRIAL, json.dumps({**RECORD.as_json(), **change}))
    with refused("state.damaged", 'what the memory calls "trial" is no record of a trial'):
        read_trial(state)


@pytest.mark.parametrize("text", ["", "[]", "7", "null", '"x"', "{", "{}"])
def test_what_is_no_record_of_a_trial_is_an_error(state: State, text: str) -> None:
    state.remember(TRIAL, text)
    with refused("state.damaged", "is no record of a trial"):
        read_trial(state)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        "[7]",
        "[{}]",
        '[{"manifest": 7, "sequence": 1}]',
        '[{"manifest": "a", "x": 1}]',
        '[{"manifest": "a", "sequence": -1}]',
        '[{"manifest": "a", "sequence": 1, "reason": 7}]',
    ],
)
def test_a_damaged_list_of_failed_releases_is_an_error(state: State, text: str) -> None:
    state.remember(FAILED, text)
    with refused("state.damaged", 'what the memory calls "failed" is no record of a trial'):
        read_failed(state)


def test_failed_releases_are_few_and_the_oldest_is_forgotten(state: State) -> None:
    found: tuple[FailedRelease, ...] = ()
    for number in range(MAX_FAILED + 5):
        found = with_failed(found, FailedRelease(f"{number:064}", number, 0, "it hung"))
    write_failed(state, found)
    assert [one.sequence for one in read_failed(state)] == list(range(5, MAX_FAILED + 5))
    again = with_failed(read_failed(state), FailedRelease(f"{9:064}", 9, 1))
    assert again[-1] == FailedRelease(f"{9:064}", 9, 1)
    assert len(again) == MAX_FAILED
    write_failed(state, ())
    assert state.remembered(FAILED) is None


@pytest.mark.parametrize(
    ("now", "elapsed", "boots"),
    [
        (Uptime("boot 1", 100), 0, 0),
        (Uptime("boot 1", 160), 60, 0),
        (Uptime("boot 2", 160), 160, 1),
        (Uptime("boot 2", 5), 5, 1),
        (Uptime("boot 1", 99), 99, 1),  # no id changes on this system: the seconds went down
        (Uptime("", 160), 160, 1),
    ],
)
def test_a_start_of_the_machine_is_counted_and_its_seconds_too(
    now: Uptime, elapsed: int, boots: int
) -> None:
    found = RECORD.at(now)
    assert (found.elapsed, found.boots, found.left) == (elapsed, boots, 600 - elapsed)


def test_seconds_before_a_start_are_not_forgotten() -> None:
    found = RECORD.at(Uptime("boot 1", 150)).at(Uptime("boot 2", 20)).at(Uptime("boot 3", 7))
    assert (found.elapsed, found.boots, found.left) == (50 + 20 + 7, 2, 523)
    assert found.at(Uptime("boot 3", 10_000)).left == 0


@pytest.mark.parametrize(("confirmed", "kept"), [(True, True), (False, False)])
def test_health_is_asked_again_after_a_start(*, confirmed: bool, kept: bool) -> None:
    record = RECORD._replace(healthy=True, confirmed=confirmed)
    assert record.at(Uptime("boot 1", 200)).healthy
    assert record.at(Uptime("boot 2", 200)).healthy == kept


def test_a_new_epoch_ends_a_trial(state: State) -> None:
    end_for_epoch(state)
    assert read_trial(state) is None
    write_trial(state, RECORD)
    end_for_epoch(state)
    found = read_trial(state)
    assert found is not None
    assert (found.phase, found.blamed) == ("going back", True)
    assert found.reason == "a trust update with a new epoch ended its trial"
    stays = RECORD._replace(phase="stays", reason="revoked")
    write_trial(state, stays)
    end_for_epoch(state)
    assert read_trial(state) == stays


def test_this_machine_has_an_uptime() -> None:
    first, second = read_uptime(), read_uptime()
    assert first.boot == second.boot
    assert 0 < first.seconds <= second.seconds
