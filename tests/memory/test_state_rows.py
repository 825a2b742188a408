"""No two boards get the same row of device data, whoever asks and whatever ends early."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fwsign.errors import Failed
from fwsign.memory.rows import Batch
from fwsign.memory.state import State
from pki_kit import needs_fork

BATCH = Batch(bytes(16), bytes(15) + b"\1")
ROWS = [f"SN-{number:03}" for number in range(400)]


def allot_next(path: Path, identity: str) -> str:
    """Allot the first free row, as long as another is faster."""
    while True:
        with State.open(path, create=True) as state:
            serial = state.serial_of(BATCH, identity) or state.first_free(BATCH, ROWS)
            assert serial is not None
            if state.allot(BATCH, identity, serial):
                return serial


def whole(path: Path) -> dict[str, str]:
    """Return the rows that are taken; each fact must have its counterpart."""
    found = {}
    with State.open(path) as state:
        for serial in ROWS:
            board = state.board_of(BATCH, serial)
            if board is not None:
                assert state.serial_of(BATCH, board) == serial
                found[serial] = board
    assert len(set(found.values())) == len(found)
    return found


def test_a_row_belongs_to_one_board_and_a_board_has_one_row(tmp_path: Path) -> None:
    with State.open(tmp_path / "boards.db", create=True) as state:
        assert state.first_free(BATCH, ROWS) == "SN-000"
        assert state.allot(BATCH, "mac:1", "SN-000")
        assert state.allot(BATCH, "mac:1", "SN-000")  # again: it is its own
        assert not state.allot(BATCH, "mac:2", "SN-000")
        assert not state.allot(BATCH, "mac:1", "SN-001")
        assert state.board_of(BATCH, "SN-001") is None
        assert state.first_free(BATCH, ROWS) == "SN-001"
        assert state.first_free(BATCH, ROWS[:1]) is None
        assert state.first_free(BATCH, []) is None
        assert state.serial_of(BATCH, "mac:2") is None


def test_products_and_simulated_boards_have_rows_of_their_own(tmp_path: Path) -> None:
    with State.open(tmp_path / "boards.db", create=True) as state:
        assert state.allot(BATCH, "mac:1", "SN-000")
        for other in (
            BATCH._replace(vendor=b"\2" * 16),
            BATCH._replace(klass=b"\2" * 16),
            BATCH._replace(simulated=True),
        ):
            assert state.board_of(other, "SN-000") is None
            assert state.allot(other, "mac:2", "SN-000")
        assert state.board_of(BATCH, "SN-000") == "mac:1"


def test_a_board_with_a_strange_name_gets_no_row(tmp_path: Path) -> None:
    with State.open(tmp_path / "boards.db", create=True) as state:
        with pytest.raises(Failed) as caught:
            state.allot(BATCH, "mac:\x1b", "SN-000")
        assert caught.value.code == "state.limit"
        assert state.board_of(BATCH, "SN-000") is None


def test_rows_are_kept_over_runs_and_covered_by_the_sum(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    assert allot_next(path, "mac:1") == "SN-000"
    assert allot_next(path, "mac:2") == "SN-001"
    assert allot_next(path, "mac:1") == "SN-000"
    data = path.read_bytes()
    assert data.count(b"mac:1") >= 2
    path.write_bytes(data.replace(b"mac:1", b"mac:3"))
    with pytest.raises(Failed) as caught:
        State.open(path)
    assert caught.value.code == "state.damaged"


def test_a_step_that_fails_leaves_the_row_free(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    with State.open(path, create=True) as state:
        with contextlib.suppress(RuntimeError), state.transaction():
            assert state.allot(BATCH, "mac:1", "SN-000")
            raise RuntimeError
        assert state.board_of(BATCH, "SN-000") is None
        assert state.serial_of(BATCH, "mac:1") is None


@needs_fork
def test_killed_at_any_time_no_row_is_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    allot_next(path, "mac:first")
    dice = random.Random(1)
    before = whole(path)
    for tries in range(200):
        if tries >= 30 and len(before) > 10:
            break
        child = os.fork()
        if child == 0:
            try:
                for number in range(1000):
                    allot_next(path, f"mac:{tries}-{number}")
            finally:
                os._exit(1)
        time.sleep(dice.random() / 20 * (1 + tries // 40))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        after = whole(path)
        assert after.items() >= before.items()
        assert list(after) == ROWS[: len(after)]
        before = after
    assert len(before) > 10


RACE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from memory.test_state_rows import allot_next
for number in range(15):
    print(allot_next(Path(sys.argv[1]), f"mac:{sys.argv[3]}-{number}"))
"""


def test_processes_at_once_never_get_the_same_row(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    here = str(Path(__file__).parents[1])
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path), here, str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    printed = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert sorted(one for each in printed for one in each) == ROWS[:60]
    assert len(whole(path)) == 60
