"""Many boards at once, which port is which kind of board, and what people see meanwhile."""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flash.kit import ERASED, STOCK, MemoryBoard, board_info, esp_image, judging, lost, run
from fwsign.cli import ui
from fwsign.cli.flash import table as flash_table
from fwsign.errors import Failed, Malformed
from fwsign.flash import backends, ports
from fwsign.flash.boards.board import Connect
from fwsign.flash.boards.port import INSTALL, Port
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Event, Judge, Options, Outcome, never_reached
from fwsign.flash.pico import drives
from fwsign.flash.simulate import Simulated
from fwsign.flash.station import MAX_BOARDS, Job, Station
from support import refused, require_package, require_terminals

PARTS = {"esp32c3@0x10000": esp_image()}


def job(board: MemoryBoard, port: str = "A", judge: Judge | None = None) -> Job:
    """Return the job of flashing a board in memory."""

    @contextlib.contextmanager
    def attach() -> Iterator[Connect]:
        yield board.connect

    return Job(port, attach, judge or judging(PARTS))


def blank() -> MemoryBoard:
    return MemoryBoard(STOCK)


class TestStation:
    def outcomes(self, station: Station) -> dict[str, Outcome]:
        return {job.port: what for job, what in station if isinstance(what, Outcome)}

    def test_a_bad_board_never_stops_the_others(self) -> None:
        def dead(_: int) -> None:
            raise lost()

        jobs = [job(blank(), "A"), job(MemoryBoard(fault=dead), "B"), job(blank(), "C")]
        found = self.outcomes(Station(jobs, Options()))
        assert {port: one.status for port, one in found.items()} == {
            "A": "verified",
            "B": "incomplete",
            "C": "verified",
        }

    def test_a_port_that_is_not_there_is_an_outcome(self) -> None:
        @contextlib.contextmanager
        def attach() -> Iterator[Connect]:
            raise Failed("device.port", "cannot open A")
            yield MemoryBoard().connect

        found = self.outcomes(Station([Job("A", attach, judging(PARTS))], Options()))
        assert found["A"].status == "incomplete"
        assert found["A"].error is not None
        assert found["A"].error.code == "device.port"

    def test_stop_ends_all_in_order(self) -> None:
        asked = threading.Event()  # else a quick board ends before it hears of the stop

        def judge(info: Any) -> Any:
            assert asked.wait(10)
            return judging(PARTS)(info)

        station = Station([job(blank(), "A", judge), job(blank(), "B", judge)], Options())
        statuses = []
        for _, what in station:
            station.stop()
            asked.set()
            if isinstance(what, Outcome):
                statuses.append(what.status)
        assert station.stopping
        assert len(statuses) == 2
        assert statuses == ["incomplete", "incomplete"]
        assert threading.active_count() == 1 or statuses

    def test_a_mistake_of_ours_is_raised_when_all_have_ended(self) -> None:
        def judge(_: object) -> Any:
            raise ZeroDivisionError

        board = blank()
        station = Station([job(board, "A", judge), job(blank(), "B")], Options())
        with pytest.raises(ZeroDivisionError):
            list(station)
        assert board.closed == 1

    def test_a_refusal_while_judging_is_that_boards_own(self) -> None:
        def judge(_: object) -> Any:
            raise Malformed("malformed.image", "no")

        found = self.outcomes(Station([job(blank(), "A", judge), job(blank(), "B")], Options()))
        assert (found["A"].status, found["B"].status) == ("refused", "verified")

    def test_limits(self) -> None:
        with refused("device.port", "A was given twice"):
            Station([job(blank()), job(blank())], Options())
        with refused("device.port", f"{MAX_BOARDS + 1} boards at once"):
            Station([job(blank(), str(one)) for one in range(MAX_BOARDS + 1)], Options())


class TestKinds:
    @pytest.mark.parametrize(
        ("port", "chip", "vendor", "kind"),
        [
            ("/dev/ttyUSB0", "esp32c3", None, "esp"),
            ("COM5", "rp2040", None, "pico-uart"),
            ("COM5", "rp2040", 0x2E8A, "pico-uf2"),
            ("drive:/media/x", "rp2350", None, "pico-uf2"),
            ("socket://127.0.0.1:1", "rp2040", None, "pico-uart"),
            ("sim:esp32s3", "nrf52840", None, "esp"),
            ("sim:smp?baud=1", "nrf52840", None, "smp"),
            ("sim:pico-uart", "rp2040", None, "pico-uart"),
        ],
    )
    def test_kind(self, port: str, chip: str, vendor: int | None, kind: str) -> None:
        assert backends.kind_for(port, [chip], vendor) == kind

    def test_a_directory_is_a_drive(self, tmp_path: Path) -> None:
        assert backends.kind_for(str(tmp_path), ["rp2040"]) == "pico-uf2"

    def test_nothing_is_guessed_of_other_chips(self) -> None:
        with refused("unsuitable.chip", "nothing tells how boards with nrf52840 are flashed"):
            backends.kind_for("/dev/ttyACM0", ["nrf52840"])

    def test_an_unknown_kind_is_refused(self) -> None:
        with (
            refused("device.support", 'no board is of kind "toaster"'),
            backends.attached("COM1", backends.ConnectOptions(kind="toaster")),
        ):
            pass

    @pytest.mark.parametrize(
        ("uri", "words"),
        [
            ("sim:toaster", "toaster, expected esp"),
            ("sim:esp32c3?color=red", "color=red, expected flash, baud, id, revision, size, "),
            ("sim:esp32c3?fault=fire", "fire, expected NAME or NAME@N"),
            ("sim:esp32c3?fault=nak@x", "nak@x, expected NAME or NAME@N"),
            ("sim:esp32c3?baud=quick", "baud=quick"),
            ("sim:esp32c3?revision=3", "revision=3, expected revision with MAJOR.MINOR"),
            ("sim:esp32c3?revision=9.1", "a simulated esp32c3 has no such revision: 9.1"),
            ("sim:esp32?revision=4.0", "a simulated esp32 has no such revision: 4.0"),
            ("sim:esp8266?revision=1.0", "a simulated esp8266 has no such revision: 1.0"),
            ("sim:esp32c3?size=3MB", "size=3MB, expected size with one of 1MB, 2MB, 4MB, 8MB"),
            ("sim:esp32c3?table=0x8001", "table=0x8001, expected table with an offset in hex"),
            ("sim:esp32c3?content=full", "content=full, expected content with stock or blank"),
            ("sim:smp?size=4MB", "size, expected an ESP for it"),
            ("sim:pico-uart?content=stock", "content, expected an ESP for it"),
        ],
    )
    def test_a_simulated_board_that_cannot_be_is_refused(self, uri: str, words: str) -> None:
        with refused("device.port", words):
            Simulated(uri)


class TestPort:
    def test_a_port_that_is_not_there(self) -> None:
        require_package("serial")
        with refused("device.port", "cannot open /dev/there-is-none: ") as caught:
            Port("/dev/there-is-none", 9600, 1)
        if os.name == "posix":
            assert caught.value.found == "no such file or directory"
            with refused("device.port", "cannot open /dev/null: inappropriate ioctl for device"):
                Port("/dev/null", 9600, 1)

    @pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
    def test_a_port_that_another_program_uses(self) -> None:
        require_package("serial")
        require_terminals()
        ours, theirs = os.openpty()
        with contextlib.closing(Port(os.ttyname(theirs), 9600, 1)) as first:
            assert first.url == os.ttyname(theirs)
            with refused("device.port", ": another program is using it"):
                Port(first.url, 9600, 1)
        os.close(ours)
        os.close(theirs)

    def test_a_scheme_that_is_not_there(self) -> None:
        require_package("serial")
        with refused("device.port", "cannot open gopher://x"):
            Port("gopher://x", 9600, 1)

    def test_without_pyserial_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "serial", None)
        monkeypatch.setitem(sys.modules, "serial.tools", None)
        with refused("device.support", "pyserial is not installed") as caught:
            Port("COM1", 9600, 1)
        assert caught.value.hint == INSTALL
        with refused("device.support", "pyserial is not installed"):
            ports.find()

    def test_a_cut_connection_is_lost(self) -> None:
        require_package("serial")
        with Simulated("sim:pico-uart") as board:
            port = Port(board.port, 9600, 0.1)
            board.close()
            with refused("device.lost", "the connection over socket://127.0.0.1"):
                for _ in range(100):
                    port.write(b"x" * 1000)
                    port.read(1)
            port.close()
            port.close()


class TestPorts:
    def found(self, monkeypatch: pytest.MonkeyPatch, *known: Any) -> list[ports.PortInfo]:
        require_package("serial")
        from serial.tools import list_ports  # where it is installed

        monkeypatch.setattr(list_ports, "comports", lambda: list(known))
        return ports.find()

    def one(self, device: str, vid: int | None, pid: int | None = None) -> Any:
        class Sorted(SimpleNamespace):
            def __lt__(self, other: Any) -> bool:
                return bool(self.device < other.device)

        return Sorted(device=device, vid=vid, pid=pid, description="n/a", serial_number="S1")

    def test_what_usb_identities_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.found(
            monkeypatch,
            self.one("/dev/z", 0x303A, 0x1001),
            self.one("/dev/a", 0x2E8A, 0x000A),
            self.one("/dev/b", 0x2E8A, 0x000C),
            self.one("/dev/c", 0x1234, 0x5678),
            self.one("/dev/d", None),
        )
        assert [(one.port, one.words, one.kinds) for one in found] == [
            ("/dev/a", "Raspberry Pi Pico, running", ("pico-uf2",)),
            ("/dev/b", "Raspberry Pi Debug Probe", ("pico-uart", "smp")),
            ("/dev/c", "USB device 1234:5678", ()),
            ("/dev/d", "serial port", ()),
            ("/dev/z", "Espressif USB", ("esp",)),
        ]
        assert ports.vendor_of("/dev/z", found) == 0x303A
        assert ports.vendor_of("/dev/nowhere", found) is None

    def test_the_drives_of_boot_roms_are_listed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(drives, "find", lambda: [drives.Drive(tmp_path, "rp2350")])
        (found,) = self.found(monkeypatch)
        assert (found.port, found.kinds) == (str(tmp_path), ("pico-uf2",))
        assert found.words == "Raspberry Pi RP2350 in BOOTSEL, its drive"

    @pytest.mark.skipif(os.name == "nt", reason="Linux has these links")
    def test_names_that_stay_with_the_socket(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "ttyUSB0").touch()
        links = tmp_path / "by-path"
        links.mkdir()
        for name in ("pci-usb-0:1", "pci-usbv2-0:1"):
            (links / name).symlink_to(tmp_path / "ttyUSB0")
        monkeypatch.setattr(ports, "_BY_PATH", links)
        (found,) = self.found(monkeypatch, self.one(str(tmp_path / "ttyUSB0"), 0x0403))
        assert (found.port, found.device) == (str(links / "pci-usb-0:1"), str(tmp_path / "ttyUSB0"))


NO_RECEIPT: dict[str, Any] = {"waived": [], "left_out": [], "release": None}


class Terminal(io.StringIO):
    """Standard error with somebody in front of it."""

    def isatty(self) -> bool:
        return True


class TestTable:
    def test_a_live_table_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(ui.Console, "quiet", False)
        with flash_table.ResultTable({"A": "A", "BB": "BB"}) as table:
            table.show("A", Event("connecting"))
            table.show("A", Event("writing", 0, 1000))
            table.show("A", Event("writing", 500, 1000))  # too soon to be drawn
            table.show("BB", Event("verifying", 1000, 1000))
            table.end("A", never_reached(lost()))
        text = screen.getvalue()
        assert "A   connecting\x1b[K\nBB  waiting\x1b[K\n\x1b[2A\x1b[J" in text
        assert "A   writing    [....................]   0%" in text
        assert "[##########..........]  50%" in text
        assert "BB  verifying  [####################] 100%" in text
        assert text.endswith("\x1b[2A\x1b[J")

    def test_notes_elsewhere(self, capsys: pytest.CaptureFixture[str]) -> None:
        with flash_table.ResultTable({"A": "A"}) as table:
            table.show("A", Event("writing", 0, 10))
            table.show("A", Event("writing", 5, 10))
        assert capsys.readouterr().err == "fwsign: A: writing 10 bytes\n"

    def test_what_to_do_is_said_with_how_it_ended(self, capsys: pytest.CaptureFixture[str]) -> None:
        flash_table.tell("A", never_reached(lost()), NO_RECEIPT)
        found = capsys.readouterr()
        assert found.out == "incomplete  A\n"
        assert found.err.splitlines() == [
            "fwsign: error: A: the cable was pulled",
            "fwsign: hint: nothing was written to this board",
        ]

    def test_a_touched_board_may_not_start(self, capsys: pytest.CaptureFixture[str]) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "program":
                raise lost()

        board.fault = fault
        flash_table.tell("A", run(board, PARTS), NO_RECEIPT)
        found = capsys.readouterr()
        assert found.out == "incomplete  A  esp32c3 mac:a0b765c1d2e3\n"
        assert "the same command again goes on where it was" in found.err

    def test_notes_are_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        board = MemoryBoard(ERASED, board_info())
        options = Options(waived=("unbootable",))
        outcome = flash(board.connect, judging(PARTS), options, lambda _: None)
        flash_table.tell("A", outcome, NO_RECEIPT)
        found = capsys.readouterr().out
        assert found.startswith("not bootable  A  esp32c3 mac:a0b765c1d2e3")
        assert "  note  boot not controlled: " in found
