# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: names of slots, tables that fit the terminal, and the closing line."""

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from cli.kit import SAMPLES, good, run
from fwsign.cli import ui
from fwsign.cli.flash import labels as flash_labels
from fwsign.cli.flash import table as flash_table
from fwsign.errors import Failed
from fwsign.flash import ports
from fwsign.flash.attempts import WAITING
from fwsign.flash.outcome import Event, never_reached
from support import require_package

ONE = "sim:esp32c3?flash=one.flash&id=a0b765c1d2e3"
TWO = "sim:esp32c3?flash=two.flash&id=a0b765ffffff"
PORTS = [
    f"/dev/serial/by-path/pci-0000:00:14.0-usb-0:{at}:1.0-port{at}-with-a-long-name"
    for at in range(8)
]


class Terminal(io.StringIO):
    """A terminal of some size."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int = 24) -> Terminal:
    """Put a terminal of some size in the place of standard error."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((columns, rows)))
    monkeypatch.setattr(ui.Console, "quiet", False)
    return screen


def drawn(screen: Terminal) -> list[str]:
    """Return the lines without control sequences."""
    return re.sub(r"\x1b\[[0-9]*[AJK]", "", screen.getvalue()).splitlines()


EVENTS = (
    Event("connecting"),
    Event("comparing", 1, 3),
    Event("writing", 10_000_000, 10_000_000),
    Event(WAITING),
    Event("verifying", 5, 1000),
    Event("selecting", 0, 8192),
)


class TestTable:
    @pytest.mark.parametrize("columns", [200, 80, 60, 40, 20])
    def test_no_line_wraps(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        screen = terminal(monkeypatch, columns)
        with flash_table.ResultTable({port: port for port in PORTS}) as table:
            for event in EVENTS:
                for port in PORTS:
                    table.show(port, event)
        lines = drawn(screen)
        assert len(lines) >= len(PORTS) * len(EVENTS)
        assert max(map(len, lines)) < columns

    def test_labels_leave_room_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = terminal(monkeypatch, 80)
        with flash_table.ResultTable(
            {PORTS[0]: "slot 1", PORTS[1]: "a label of 24 letters..."}
        ) as table:
            table.show(PORTS[0], Event("writing", 1, 2))
        first, second = drawn(screen)
        assert first.startswith("slot 1                    writing    [##########..........]  50%")
        assert second == "a label of 24 letters...  waiting"

    def test_a_narrow_terminal_has_no_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = terminal(monkeypatch, 40)
        with flash_table.ResultTable({PORTS[0]: "slot 1"}) as table:
            table.show(PORTS[0], Event("writing", 1, 2))
        assert drawn(screen)[0].startswith("slot 1  writing     50% ")

    def test_a_table_is_no_taller_than_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = terminal(monkeypatch, 80, rows=5)
        with flash_table.ResultTable({port: port for port in PORTS}) as table:
            table.show(PORTS[0], Event("connecting"))
        assert len(drawn(screen)) == 4
        assert drawn(screen)[-1] == "and 5 more"
        assert screen.getvalue().endswith("\x1b[4A\x1b[J")

    def test_elsewhere_a_wait_is_a_note(self, capsys: pytest.CaptureFixture[str]) -> None:
        with flash_table.ResultTable({"A": "slot 1"}) as table:
            table.show("A", Event(WAITING))
            table.show("A", Event(WAITING))
        assert capsys.readouterr().err == (
            "fwsign: slot 1: waiting for the port, 10 seconds at most\n"
        )


class TestResultLines:
    def line(self, monkeypatch: pytest.MonkeyPatch, columns: int | None) -> list[str]:
        monkeypatch.setattr(ui, "columns", lambda: columns)
        told: list[str] = []
        monkeypatch.setattr(ui, "_write", told.append)
        ui.painted_parts("verified", "green", ("slot 1", "", "b" * 30, "c" * 30, "d\x1b"))
        return told[0].splitlines()

    def test_parts_stay_on_one_line_where_there_is_room(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for columns in (None, 100):
            (line,) = self.line(monkeypatch, columns)
            assert line == f"verified  slot 1  {'b' * 30}  {'c' * 30}  d\\x1b"

    def test_parts_go_to_further_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = self.line(monkeypatch, 40)
        assert lines == ["verified  slot 1", f"  {'b' * 30}", f"  {'c' * 30}  d\\x1b"]


class TestLabels:
    def test_a_port_may_contain_an_equals_sign(self) -> None:
        assert flash_labels.typed([f"{ONE}=slot 1"], [ONE]) == {ONE: "slot 1"}

    @pytest.mark.parametrize("text", ["slot", "=slot", "A=", "A= x", "A=x\n", "A=" + "x" * 25])
    def test_impossible_ones_are_usage_errors(self, text: str) -> None:
        with pytest.raises(ui.UsageFailure, match="--label") as caught:
            flash_labels.typed([text], ["A"])
        assert caught.value.hint == "expected PORT=NAME, a name of 1 to 24 letters"

    def test_a_label_for_no_board_is_a_usage_error(self) -> None:
        with pytest.raises(ui.UsageFailure, match="no board is at B") as caught:
            flash_labels.typed(["B=x"], ["A"])
        assert caught.value.hint == "the ports are: A"
        assert flash_labels.typed(["B=x"], []) == {"B": "x"}  # --all finds ports later

    def test_two_ports_cannot_share_one(self) -> None:
        with pytest.raises(ui.UsageFailure, match='the label "x" is for A and for B'):
            flash_labels.labels_of(["A", "B"], {"A": "x", "B": "x"})
        assert flash_labels.labels_of(["A"], {"A": "x", "B": "x"}) == {"A": "x"}

    def test_a_port_may_be_called_by_any_of_its_paths(self, tmp_path: Path) -> None:
        (tmp_path / "ttyUSB0").touch()
        link = tmp_path / "usb-0:1"
        link.symlink_to(tmp_path / "ttyUSB0")
        labels = {str(tmp_path / "ttyUSB0"): "slot 1"}
        assert flash_labels.labels_of([str(link)], labels) == {str(link): "slot 1"}


class TestFlashing:
    @pytest.fixture(autouse=True)
    def _release(self, project: Path) -> None:
        require_package("serial")
        require_package("esptool")
        (project / "app.bin").write_bytes((SAMPLES / "blink-esp32c3.bin").read_bytes())
        good("sign", "app.bin", "--sequence", "1000", "--version", "1.2.3")

    def test_lines_errors_json_and_receipts_have_the_label(self) -> None:
        names = ("--label", f"{ONE}=slot 1", "--label", "/dev/none=slot 2")
        ports = ("--port", ONE, "--port", "/dev/none")
        found = run("flash", "app.bin.suit", *ports, *names)
        assert found.status == 5
        good_line = next(line for line in found.out.splitlines() if line.startswith("verified"))
        assert good_line.startswith("verified  slot 1  esp32c3 mac:a0b765c1d2e3  ")
        assert good_line.endswith("  1.2.3 #1000")
        assert "incomplete  slot 2  1.2.3 #1000" in found.out.splitlines()
        assert "slot 2: cannot open /dev/none" in found.err
        assert found.out.splitlines()[-1] == "1 of 2 verified, 1 incomplete"
        shown = good("receipts", "show")
        assert "slot 1 mac:a0b765c1d2e3 (simulated)" in shown
        assert "/dev/none" not in shown.replace("open /dev/none", "")
        again = run("flash", "app.bin.suit", *ports, *names, "--json")
        told = {one["port"]: one["label"] for one in map(json.loads, again.out.splitlines())}
        assert told == {ONE: "slot 1", "/dev/none": "slot 2"}

    def test_fwsign_toml_has_labels_and_typed_ones_come_first(self, project: Path) -> None:
        with (project / "fwsign.toml").open("a") as file:
            file.write(f'[labels]\n"{ONE}" = "left"\n"{TWO}" = "right"\n"/dev/x" = "spare"\n')
        ports = ("--port", ONE, "--port", TWO, "--label", f"{TWO}=slot 2")
        found = good("flash", "app.bin.suit", *ports, "--json")
        told = {one["port"]: one["label"] for one in map(json.loads, found.splitlines())}
        assert told == {ONE: "left", TWO: "slot 2"}

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ('labels = "x"', 'fwsign.toml: "labels" is not a table: [labels]'),
            ("[labels]\na = 1", 'fwsign.toml: "labels.a" is not a name of 1 to 24 letters'),
            ('[labels]\na = ""', 'fwsign.toml: "labels.a" is not a name of 1 to 24 letters'),
        ],
    )
    def test_a_wrong_table_is_an_error(self, project: Path, text: str, error: str) -> None:
        with (project / "fwsign.toml").open("a") as file:
            file.write(text + "\n")
        found = run("flash", "app.bin.suit", "--port", ONE)
        assert found.status == 5
        assert found.errors[0] == f"error: {error}"

    def test_a_refused_board_names_the_release_too(self) -> None:
        found = run("flash", "app.bin.suit", "--port", "sim:esp32s3")
        assert found.out.splitlines()[0].startswith("refused  sim:esp32s3  esp32s3 mac:")
        assert found.out.splitlines()[0].endswith("  1.2.3 #1000")

    def test_an_early_refusal_has_the_label(self) -> None:
        found = run(
            *("flash", "app.bin.suit", "--port", ONE, "--label", f"{ONE}=slot 1"),
            *("--product", "other", "--json"),
        )
        line = json.loads(found.out)
        assert (line["result"], line["port"], line["label"]) == ("refused", ONE, "slot 1")

    def test_a_single_board_that_nobody_named_is_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = [ports.PortInfo(ONE, ONE, "Espressif USB", ("esp",), None, 0x303A)]
        monkeypatch.setattr(ports, "find", lambda: here)
        assert good("flash", "app.bin.suit", "--all").splitlines()[-1] == "1 of 1 verified"
        assert "1 of 1" not in good("flash", "app.bin.suit", "--port", ONE)

    @pytest.mark.parametrize("columns", [80, 40])
    def test_receipts_fit_the_terminal(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        run("flash", "app.bin.suit", "--port", "sim:esp32s3")
        good("flash", "app.bin.suit", "--port", ONE, "--any-product")
        monkeypatch.setattr(ui, "columns", lambda: columns)
        lines = good("receipts", "show").splitlines()
        assert max(map(len, lines)) <= columns
        assert any(line.replace(":", "").split() == ["result", "verified"] for line in lines)
        assert any("#1000" in line for line in lines)


def test_the_sum_counts_every_board(capsys: pytest.CaptureFixture[str]) -> None:
    lost = never_reached(Failed("device.lost", "gone"))
    flash_table.sum_up([lost._replace(status="verified")] * 6 + [lost, lost])
    assert capsys.readouterr().out == "6 of 8 verified, 2 incomplete\n"
