# SPDX-License-Identifier: Apache-2.0
"""A port that is gone for a while, and boards that go on as before where nothing was written."""

import contextlib
import io
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from flash import pico_kit, pico_rom, smp_kit
from flash.esp_kit import bench
from flash.kit import (
    ERASED,
    STOCK,
    MemoryBoard,
    board_info,
    esp_image,
    ignore,
    judging,
    lost,
    run,
    stock,
)
from fwsign.errors import Failed
from fwsign.flash import attempts
from fwsign.flash.attempts import ATTEMPTS, WAITING
from fwsign.flash.boards.board import Connect
from fwsign.flash.engine import flash
from fwsign.flash.esp import worker as esp_worker
from fwsign.flash.esp.board import connect as connect_esp
from fwsign.flash.esp.pipe import Message
from fwsign.flash.outcome import Event, Options, Outcome, Stopped
from fwsign.flash.pico import drives, picoboot
from fwsign.flash.pico import usb as pico_usb
from fwsign.flash.pico.uart import connect as connect_uart
from fwsign.flash.pico.uf2 import _DriveBoard
from fwsign.flash.pico.uf2 import connect as connect_drive
from fwsign.flash.simulate import line
from fwsign.flash.smp import board as smp
from support import refused, require_package

APP = esp_image()
PARTS = {"esp32c3@0x10000": APP}
OTHER_CHIP = {"esp32s3@0x10000": esp_image("esp32s3")}


def blank() -> MemoryBoard:
    return MemoryBoard(STOCK)


def gone() -> Failed:
    return Failed("device.port", "cannot open it: no such file or directory")


def hidden(board: MemoryBoard, times: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Lose the cable at the first byte, and the port for some tries after it."""
    left = [times]
    begun: list[int] = []

    def fault(step: int) -> None:
        what = board.log[-1][0]
        if what == "program" and not begun:
            begun.append(step)
            raise lost()
        if what == "connect" and begun and left[0]:
            left[0] -= 1
            meanwhile()
            raise gone()

    board.fault = fault


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_PAUSES", (0.001, 0.002))
    monkeypatch.setattr(attempts, "_SLICE", 0.001)


class TestAPortThatIsGone:
    @pytest.mark.parametrize("times", [1, ATTEMPTS, 20])
    def test_it_is_waited_for_and_no_attempt_is_counted(self, times: int) -> None:
        board, stages = blank(), list[str]()
        hidden(board, times)
        found = run(board, PARTS, lambda event: stages.append(event.stage))
        assert (found.status, found.attempts, found.error) == ("verified", 2, None)
        assert board.holds(PARTS)
        at = stages.index(WAITING)
        assert stages[at - 1] == "connecting"
        assert dict.fromkeys(stages[at:]).keys() >= {WAITING, "comparing", "writing", "verifying"}
        assert WAITING in dict(found.seconds)

    def test_it_is_not_waited_for_where_it_never_was(self) -> None:
        def fault(_: int) -> None:
            raise gone()

        board, stages = MemoryBoard(fault=fault), list[str]()
        found = run(board, PARTS, lambda event: stages.append(event.stage))
        assert (found.status, found.attempts, stages) == ("incomplete", 0, ["connecting"])
        assert found.error is not None
        assert (found.error.code, found.error.message) == (gone().code, gone().message)
        assert len(board.did("connect")) == 1

    def test_it_is_not_waited_for_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attempts, "PORT_WAIT", 0.02)
        board = blank()
        hidden(board, 1 << 30)
        found = run(board, PARTS)
        assert (found.status, found.touched, found.attempts) == ("incomplete", True, 1)
        assert found.error is not None
        assert (found.error.code, found.error.message) == (gone().code, gone().message)
        board.fault = ignore
        assert run(board, PARTS).status == "verified"

    def test_it_is_waited_for_before_anything_was_written_too(self) -> None:
        board, left = blank(), [lost(), gone(), gone()]

        def fault(_: int) -> None:
            if board.log[-1][0] == ("digest" if len(left) == 3 else "connect") and left:
                raise left.pop(0)

        board.fault = fault
        found = run(board, PARTS)
        assert (found.status, found.attempts) == ("verified", 2)

    def test_a_port_that_flaps_uses_up_the_attempts(self) -> None:
        board, odd = blank(), [False]

        def fault(_: int) -> None:
            what = board.log[-1][0]
            if what == "connect" and board.did("program"):
                odd[0] = not odd[0]
                if odd[0]:
                    raise gone()
            if what == "program":
                raise lost()

        board.fault = fault
        found = run(board, PARTS)
        assert (found.status, found.attempts) == ("incomplete", ATTEMPTS)

    def test_another_board_that_comes_back_is_refused(self) -> None:
        board = blank()
        another = board_info(identity="mac:ffffffffffff")
        hidden(board, 3, lambda: setattr(board, "info", another))
        found = run(board, PARTS)
        assert found.error is not None
        assert (found.status, found.error.code) == ("incomplete", "device.changed")
        assert found.error.message == (
            "esp32c3 mac:ffffffffffff is at the port where esp32c3 mac:a0b765c1d2e3 was"
        )
        assert board.resets == 1  # the other board, to which nothing was written

    def test_a_stop_ends_the_wait(self) -> None:
        board = blank()
        hidden(board, 1 << 30)

        def report(event: Event) -> None:
            if event.stage == WAITING:
                raise Stopped

        found = run(board, PARTS, report)
        assert found.error is not None
        assert (found.status, found.error.code) == ("incomplete", "device.stopped")

    def test_pauses_are_cut_into_slices(self) -> None:
        seen: list[None] = []
        one = attempts.Attempts(blank().connect, lambda: seen.append(None))
        one._pause(0.25)
        assert len(seen) >= 3


@pytest.mark.external
def test_an_esp_whose_port_is_gone_for_a_while_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("esptool")
    monkeypatch.setattr(attempts, "_PAUSES", (0.1,))
    monkeypatch.setattr(line, "AWAY", 4.0)  # esptool needs a while to end and to start
    with bench("esp32c3", ("gone", 60_000), flash=STOCK) as table:
        stages: list[str] = []
        connect = connect_esp(table.port)
        parts = {"esp32c3@0x10000": esp_image(size=80_000)}
        found = flash(connect, judging(parts), Options(), lambda one: stages.append(one.stage))
    assert (found.status, found.attempts) == ("verified", 2)
    assert table.flash[0x10000:].startswith(parts["esp32c3@0x10000"])
    assert WAITING in stages


def test_a_pico_whose_port_is_gone_for_a_while_is_written() -> None:
    require_package("serial")
    program = pico_kit.program(20_000)
    with pico_kit.bench(("gone", 9000)) as table:
        connect = connect_uart(table.line.port)
        found = flash(connect, judging({"rp2040@0x4000": program}), Options(), ignore)
    assert (found.status, found.attempts) == ("verified", 2)
    assert table.machine.flash[0x4000:].startswith(program)


def test_a_drive_that_is_gone_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """Its path is the port: that it vanished is no other board."""
    drive = tmp_path / "RPI-RP2"
    left = [3]

    def appear() -> None:
        left[0] -= 1
        if not left[0]:
            drive.mkdir()
            (drive / drives.INFO).write_text("Board-ID: RPI-RP2\n")

    one = attempts.Attempts(connect_drive(f"drive:{drive}"), appear)
    with refused("device.port", f"cannot open {drive}: no such file or directory"):
        one.open()
    one.count = 1  # it was there before
    assert one.open().probe().chip == "rp2040"
    assert one.count == 2


def test_the_simulated_port_is_really_gone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "AWAY", 0.2)
    with pico_kit.bench(("gone", 0)) as table:
        address = ("127.0.0.1", int(table.line.port.rpartition(":")[2]))
        with socket.create_connection(address) as host:
            host.sendall(b"SYNC")
            assert host.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(address) as host:
                host.sendall(b"SYNC")
                assert host.recv(4) == b"PICO"
                return
            threading.Event().wait(0.02)
    pytest.fail("it did not come back")


def test_a_simulated_board_can_be_closed_while_its_port_is_gone() -> None:
    with pico_kit.bench(("gone", 0)) as table:
        address = ("127.0.0.1", int(table.line.port.rpartition(":")[2]))
        with socket.create_connection(address) as host:
            host.sendall(b"SYNC")
            assert host.recv(1) == b""


class TestLeftAsItWas:
    """Nothing was written, so the board goes on with the program that it has."""

    def test_a_refused_release(self) -> None:
        board = blank()
        found = run(board, OTHER_CHIP)
        assert found.error is not None
        assert (found.status, found.error.code) == ("refused", "unsuitable.chip")
        assert (board.resets, board.closed, found.notes) == (1, 1, ())

    def test_a_memory_that_refuses(self) -> None:
        def judge(info: object) -> object:
            def accept() -> None:
                raise Failed("state.conflict", "another release was accepted meanwhile")

            return judging(PARTS)(info)._replace(accept=accept)  # type: ignore[arg-type]

        board = blank()
        assert run(board, judge).status == "refused"  # type: ignore[arg-type]
        assert board.resets == 1

    @pytest.mark.parametrize("stage", ["comparing", "connecting"])
    def test_a_stop_before_the_first_write(self, stage: str) -> None:
        def report(event: Event) -> None:
            if event.stage == stage:
                raise Stopped

        board = blank()
        assert run(board, PARTS, report).status == "incomplete"
        assert board.resets == len(board.did("connect"))

    def test_a_probe_that_fails_half_way(self) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "probe":
                raise Failed("device.absent", "no answer")

        board.fault = fault
        found = run(board, PARTS)
        assert (found.status, board.resets, board.closed) == ("incomplete", 1, 1)

    def test_it_is_not_restarted_between_two_attempts(self) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "digest":
                raise lost()

        board.fault = fault
        found = run(board, PARTS)
        assert (found.attempts, board.resets) == (ATTEMPTS, 1)
        assert board.log[-1][0] == "reset"

    def test_an_error_of_the_restart_does_not_hide_the_refusal(self) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "reset":
                raise lost()

        board.fault = fault
        found = run(board, OTHER_CHIP)
        assert found.error is not None
        assert (found.status, found.error.code) == ("refused", "unsuitable.chip")
        assert found.notes == ("the board may still be in its boot loader: the cable was pulled",)

    def test_a_board_that_was_written_to_stays_in_its_boot_loader(self) -> None:
        board = blank()

        def report(event: Event) -> None:
            if event.stage == "writing" and event.done:
                raise Stopped

        found = run(board, PARTS, report)
        assert (found.touched, board.resets) == (True, 0)

    def test_what_only_a_user_can_do_is_a_note_of_a_good_run_too(self) -> None:
        board = blank()

        def fault(_: int) -> None:
            if board.log[-1][0] == "reset":
                raise Failed("device.support", "reset the board by hand")

        board.fault = fault
        assert run(board, PARTS).notes == ("reset the board by hand",)
        assert run(board, PARTS, dry_run=True).notes == ("reset the board by hand",)
        assert run(board, OTHER_CHIP).notes == ("reset the board by hand",)


def refused_and_dry(
    connect: Connect, good: dict[str, bytes], bad: dict[str, bytes]
) -> list[Outcome]:
    """Refuse a release, then try another without writing it."""
    ends = (judging(bad), Options()), (judging(good), Options(dry_run=True))
    found = [flash(connect, judge, options, ignore) for judge, options in ends]
    assert [one.status for one in found] == ["refused", "dry run"]
    return found


@pytest.mark.external
@pytest.mark.parametrize(
    ("chip", "after", "restarts", "note"),
    [
        ("esp32c3", None, 2, None),
        ("esp32s3", None, 2, None),
        ("esp8266", None, 2, None),
        ("esp32c3", "no-reset", 0, None),
        ("esp32", None, 0, "reset the board by hand: the port has no lines for it"),
    ],
)
def test_an_esp_goes_on_unless_it_shall_not(
    chip: str, after: str | None, restarts: int, note: str | None
) -> None:
    require_package("esptool")
    good = {f"{chip}@0x90000": b"data"}
    with bench(chip, flash=ERASED if chip == "esp8266" else stock(chip)) as table:
        found = refused_and_dry(
            connect_esp(table.port, after=after), good, {"esp32c6@0x90000": b"data"}
        )
        assert table.restarts(restarts) == restarts
    assert [note in one.notes for one in found] == [note is not None] * 2


@pytest.mark.parametrize("recoverable", [True, False])
def test_an_esp_whose_stub_does_not_start_is_reset_where_it_can_be_found_again(
    monkeypatch: pytest.MonkeyPatch, recoverable: bool
) -> None:
    require_package("esptool")
    from fwsign.flash.esp import loader as esp_loader
    from fwsign.flash.esp import tuned as esp_tuned

    class Stubborn:
        resets: ClassVar[list[str]] = []

        def __init__(self, *_: object) -> None:
            pass

        def begin(self, *_: object, **__: object) -> None:
            raise Failed("device.refused", "no stub")

        def reset(self, after: str) -> None:
            self.resets.append(after)
            raise lost()

    monkeypatch.setattr(esp_loader, "Loader", Stubborn)
    monkeypatch.setattr(esp_tuned, "tune", lambda: None)
    asked = {"port": "P", "baud": None, "before": "default-reset", "after": "hard-reset"}
    with refused("device.refused", "no stub"):
        esp_worker._Worker(io.BytesIO())._connect(
            Message({**asked, "stub": True, "recoverable": recoverable})
        )
    assert Stubborn.resets == ["hard-reset"] * recoverable


def test_a_pico_behind_a_uart_goes_on() -> None:
    require_package("serial")
    program = pico_kit.program(5000)
    with pico_kit.bench() as table:
        connect = connect_uart(table.line.port)
        assert flash(connect, judging({"rp2040@0x4000": program}), Options(), ignore).error is None
        for parts, dry_run in (
            ({"rp2350@0x4000": program}, False),
            ({"rp2040@0x4000": program}, True),
        ):
            table.machine.running = False  # as with the pin held down
            found = flash(connect, judging(parts), Options(dry_run=dry_run), ignore)
            assert found.status == ("dry run" if dry_run else "refused")
            assert table.machine.running


def test_a_pico_goes_on_after_a_refused_command() -> None:
    """After ERR! only SYNC is understood."""
    require_package("serial")
    program = pico_kit.program(5000)
    with pico_kit.bench() as table:
        connect = connect_uart(table.line.port)
        flash(connect, judging({"rp2040@0x4000": program}), Options(), ignore)
        table.machine.running = False
        with table.board() as board:
            with refused("device.refused", "refused ERAS"):
                board.write([pico_kit.run(program, 1)], ignore)
            board.reset()
        assert table.machine.running


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_a_pico_in_bootsel_goes_on(chip: str) -> None:
    other = {"rp2040": "rp2350", "rp2350": "rp2040"}[chip]
    for parts, dry_run in (
        ({f"{other}@0x1000": b"data"}, False),
        ({f"{chip}@0x1000": b"data"}, True),
    ):
        rom = pico_rom.BootRom(chip)

        def connect(_: int, rom: pico_rom.BootRom = rom) -> picoboot.PicobootBoard:
            return picoboot.PicobootBoard(pico_usb.link_to(rom))

        found = flash(connect, judging(parts), Options(dry_run=dry_run), ignore)
        assert found.status == ("dry run" if dry_run else "refused")
        assert rom.restarted


def test_a_drive_cannot_restart_its_board_and_says_so(tmp_path: Path) -> None:
    drive = drives.Drive(tmp_path, "rp2040")
    parts = {"rp2350@0x1000": b"data"}
    options = Options(accept_unverifiable=True)
    found = flash(lambda _: _DriveBoard(drive), judging(parts), options, ignore)
    assert found.status == "refused"
    assert found.notes == (
        "the board stays in BOOTSEL mode until its power is taken away: a drive cannot restart it",
    )


def test_a_board_in_serial_recovery_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("serial")
    smp_kit.quick(monkeypatch)
    with smp_kit.bench() as table:
        refused_and_dry(
            smp.connect(table.line.port),
            {"nrf52840@0x0": smp_kit.image()},
            {"nrf52840@0x0": smp_kit.image(), "nrf52840@0x40000": smp_kit.image(seed=2)},
        )
    assert table.machine.started == 2
