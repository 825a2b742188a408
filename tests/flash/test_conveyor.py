# SPDX-License-Identifier: Apache-2.0
"""A station that takes the next board when one is pulled."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from flash.kit import STOCK, MemoryBoard, board_info, esp_image, judging, lost
from fwsign.errors import Failed, Unsuitable
from fwsign.flash import conveyor
from fwsign.flash.boards.board import Connect
from fwsign.flash.conveyor import INSERT, PULL, Conveyor
from fwsign.flash.outcome import Options, Outcome
from fwsign.flash.station import Job

PARTS = {"esp32c3@0x10000": esp_image()}
Here = Mapping[str, str | None]


class Bench:
    """Boards that come and go, by a script: what is here at each look; the last look stops."""

    def __init__(self, *looks: Here, gone: float = 0.0) -> None:
        self.looks = list(looks)
        self.boards: list[MemoryBoard] = []
        self.fault: Failed | None = None
        self.refusal: Exception | None = None
        self.told: list[tuple[str, str]] = []
        self.gone = gone

    def look(self) -> Here:
        busy = any(slot.busy for slot in self.station._slots.values())
        if len(self.looks) == 1 and not busy:
            self.station.stop()
        return self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)

    def make(self, port: str) -> Job:
        if self.refusal is not None:
            raise self.refusal
        fault = self.fault

        def fail(_: int) -> None:
            if fault is not None:
                raise fault

        board = MemoryBoard(STOCK, board_info(), fail)
        self.boards.append(board)

        @contextlib.contextmanager
        def attach() -> Iterator[Connect]:
            yield board.connect

        return Job(port, attach, judging(PARTS))

    def run(self, monkeypatch: pytest.MonkeyPatch, ports: tuple[str, ...] = ()) -> list[str]:
        monkeypatch.setattr(conveyor, "_POLL", 0.001)
        monkeypatch.setattr(conveyor, "GONE", self.gone)
        self.station = Conveyor(self.look, self.make, Options(), ports)
        for job, what in self.station:
            if isinstance(what, Outcome):
                self.told.append((job.port, what.status))
            elif what.stage in (INSERT, PULL):
                self.told.append((job.port, what.stage))
        return [status for _, status in self.told if status not in (INSERT, PULL)]


A, NONE = {"A": None}, dict[str, None]()


def still(here: Here, times: int = 200) -> list[Here]:
    """Let nothing change for many looks, so that a board at work can end."""
    return [here] * times


def test_the_next_board_is_taken_when_one_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(A, *still(A), NONE, NONE, A, *still(A), NONE)
    assert bench.run(monkeypatch) == ["verified", "verified"]
    assert len(bench.boards) == 2
    assert [what for _, what in bench.told][:4] == ["verified", PULL, INSERT, "verified"]


def test_a_board_that_stays_has_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Bench(*still(A, 400)).run(monkeypatch) == ["verified"]


def test_a_port_that_is_gone_for_a_moment_is_no_pulled_board(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(*still(A), NONE, NONE, *still(A), gone=60.0)
    assert bench.run(monkeypatch) == ["verified"]


def test_another_serial_number_is_another_board(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(*still({"A": "S1"}), *still({"A": "S2"}))
    assert bench.run(monkeypatch) == ["verified", "verified"]


def test_a_good_board_that_comes_back_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"A": "S1"}
    assert Bench(*still(one), NONE, NONE, *still(one)).run(monkeypatch) == ["verified"]


def test_a_bad_board_that_comes_back_has_another_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"A": "S1"}
    bench = Bench(*still(one), NONE, NONE, *still(one), NONE)
    bench.fault = lost()
    assert bench.run(monkeypatch) == ["incomplete", "incomplete"]


def test_new_ports_are_new_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(*still(A), *still({"A": None, "B": None}))
    assert bench.run(monkeypatch) == ["verified", "verified"]
    assert {port for port, _ in bench.told} == set(bench.station.ports) == {"A", "B"}


def test_named_ports_ask_for_their_board_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(NONE, *still(A))
    assert bench.run(monkeypatch, ("A", "B")) == ["verified"]
    assert bench.told[:2] == [("A", INSERT), ("B", INSERT)]


def test_a_board_for_which_nothing_can_be_made_is_an_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(*still(A))
    bench.refusal = Unsuitable("unsuitable.chip", "nothing tells")
    assert bench.run(monkeypatch) == ["incomplete"]


def test_a_mistake_of_ours_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(*still(A))
    bench.refusal = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        bench.run(monkeypatch)


def test_a_stop_lets_the_last_board_end(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(A)
    found: list[Any] = bench.run(monkeypatch)
    assert found in (["incomplete"], ["verified"], [])
    assert bench.station.stopping
