# SPDX-License-Identifier: Apache-2.0
"""`fwsign flash --wait`, on simulated boards that come and go."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.kit import SAMPLES, good, refused, run
from fwsign.cli import ui
from fwsign.cli.flash import table as flash_table
from fwsign.errors import Failed
from fwsign.flash import conveyor, ports
from fwsign.flash.conveyor import INSERT, PULL
from fwsign.flash.outcome import Event, never_reached
from support import require_package

ONE = "sim:esp32c3?id=a0b765c1d2e3"


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Hear Ctrl-C, which ends a run, also where it is ignored: a shell's background, nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _release(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("serial")
    require_package("esptool")
    (project / "app.bin").write_bytes((SAMPLES / "blink-esp32c3.bin").read_bytes())
    good("sign", "app.bin", "--sequence", "1000", "--version", "1.2.3")
    monkeypatch.setattr(conveyor, "_POLL", 0.01)
    monkeypatch.setattr(conveyor, "GONE", 0.0)


def coming_and_going(receipts: Path, boards: int) -> Callable[[], list[ports.PortInfo]]:
    """Return what finds ports: each board is pulled when it has a receipt; then Ctrl-C."""
    pulled = {0}

    def find() -> list[ports.PortInfo]:
        done = len(receipts.read_text().splitlines()) if receipts.exists() else 0
        if done == boards:
            signal.raise_signal(signal.SIGINT)
        if done not in pulled:
            pulled.add(done)
            return []
        return [ports.PortInfo(ONE, ONE, "Espressif USB", ("esp",), f"S{done}", 0x303A)]

    return find


@pytest.mark.parametrize("where", [("--all",), ("--all", "--bell")])
def test_one_board_after_another_until_ctrl_c(
    project: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[str, ...]
) -> None:
    receipts = project / "r.jsonl"
    monkeypatch.setattr(ports, "find", coming_and_going(receipts, 3))
    label = ("--label", f"{ONE}=slot 1")
    found = run("flash", "app.bin.suit", *where, "--wait", *label, "--receipt", receipts)
    results = [line for line in found.out.splitlines() if not line.startswith("  ")]
    assert found.status == 0, found
    assert [line.split("  ")[:2] for line in results[:-1]] == [["verified", "slot 1"]] * 3
    assert results[-1] == "3 of 3 verified"
    assert "stopping" in found.err
    assert "\a" not in found.out + found.err  # no terminal is there to ring


def test_lines_of_json(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = project / "r.jsonl"
    monkeypatch.setattr(ports, "find", coming_and_going(receipts, 2))
    found = run("flash", "app.bin.suit", "--all", "--wait", "--json", "--receipt", receipts)
    assert [json.loads(line)["result"] for line in found.out.splitlines()] == ["verified"] * 2


def test_a_serial_number_is_for_one_board(project: Path) -> None:
    (project / "d.csv").write_text("serial\n")
    data = ("--device-data", "d.csv", "--serial", f"{ONE}=1")
    found = run("flash", "app.bin.suit", "--port", ONE, "--wait", *data)
    refused(found, 2, "--serial and --wait exclude each other", "a serial number is for one board")


def test_slots_show_what_to_do_and_count(capsys: pytest.CaptureFixture[str]) -> None:
    del capsys
    slots = flash_table.Slots({"A": "slot 1"})
    lost = never_reached(Failed("device.lost", "gone"))
    told = []
    for event, outcome in (
        (Event(INSERT), None),
        (Event("writing", 1, 4), lost._replace(status="verified")),
        (Event(PULL), None),
        (Event("connecting"), lost),
        (Event(PULL), None),
    ):
        slots._at["A"] = (event, 0.0)
        told.append(slots._line("A", "slot 1", 80))
        if outcome is not None:
            slots.end("A", outcome)
    assert told == [
        "slot 1  INSERT A BOARD  0 good",
        "slot 1  WRITING  25%  0 good",
        "slot 1  VERIFIED: PULL THE BOARD  1 good",
        "slot 1  CONNECTING  1 good",
        "slot 1  INCOMPLETE: PULL THE BOARD  1 good, 1 bad",
    ]
    assert ui.clean(slots._paint("A", told[-1])) == told[-1]
