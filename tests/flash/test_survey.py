# SPDX-License-Identifier: Apache-2.0
"""What a board is and holds, asked without a release, and left as it was."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flash import pico_kit, pico_rom, smp_kit
from flash.esp_kit import bench
from flash.kit import (
    BOOT,
    OTA_TABLE,
    MemoryBoard,
    board_info,
    content,
    esp_image,
    lost,
)
from fwsign.errors import Failed
from fwsign.flash import backends, ports, survey
from fwsign.flash.backends import ConnectOptions
from fwsign.flash.boards.board import FLASH_ENCRYPTION, SECURE_DOWNLOAD
from fwsign.flash.boards.content import BoardContent, BoardEntry
from fwsign.flash.esp.board import connect as connect_esp
from fwsign.flash.pico import drives, picoboot
from fwsign.flash.pico import usb as pico_usb
from fwsign.flash.pico.uart import connect as connect_uart
from fwsign.flash.pico.uf2 import _DriveBoard
from fwsign.flash.smp import board as smp
from fwsign.flash.survey import Survey, ask
from fwsign.flash.survey import survey as survey_of
from fwsign.images.esp_data import make_entry
from support import refused, require_package

APP = esp_image()


def ota(**more: bytes) -> MemoryBoard:
    return MemoryBoard(content(at_0=BOOT, at_8000=OTA_TABLE, **more))


def entry(found: Survey, name: str) -> BoardEntry:
    (one,) = [one for one in found.content.entries if one.name == name]
    return one


class TestEsp:
    def test_boot_loader_table_and_applications(self) -> None:
        board = ota(at_10000=APP, at_d000=make_entry(1))
        found = survey_of(board.connect)
        assert found.info == board.info
        assert found.content.notes == ()
        assert [(one.name, one.offset, one.holds) for one in found.content.entries] == [
            ("boot loader", 0, "boot loader"),
            ("partition table", 0x8000, "partition table"),
            ("nvs", 0x9000, "data"),
            ("otadata", 0xD000, "data"),
            ("ota_0", 0x10000, "application"),
            ("ota_1", 0x50000, "blank"),
        ]
        app = entry(found, "ota_0")
        assert (app.project, app.version, app.starts, app.size) == ("app", "1.0", True, 0x40000)
        assert entry(found, "ota_1").starts is False
        assert (board.resets, board.closed) == (1, 1)
        assert board.did("erase") == board.did("program") == []

    def test_ota_data_selects(self) -> None:
        board = ota(at_10000=APP, at_50000=APP, at_d000=make_entry(1), at_e000=make_entry(2))
        found = survey_of(board.connect)
        assert [entry(found, name).starts for name in ("ota_0", "ota_1")] == [False, True]

    def test_an_application_on_trial_is_not_said_to_start(self) -> None:
        trial = bytearray(make_entry(1))
        trial[24:28] = struct.pack("<I", 1)
        found = survey_of(ota(at_10000=APP, at_d000=bytes(trial)).connect)
        assert found.content.notes == ("nothing tells which application starts",)

    def test_other_bytes_are_unknown(self) -> None:
        found = survey_of(ota(at_10000=b"text").connect)
        assert entry(found, "ota_0").holds == "unknown"

    def test_a_board_without_a_table(self) -> None:
        found = survey_of(MemoryBoard(content(at_0=BOOT)).connect)
        assert [one.holds for one in found.content.entries] == ["boot loader"]
        assert found.content.notes == ("there is no partition table",)

    def test_a_damaged_table_is_a_note(self) -> None:
        table = bytearray(OTA_TABLE)
        table[40] ^= 1
        found = survey_of(MemoryBoard(content(at_0=BOOT, at_8000=bytes(table))).connect)
        assert [one.name for one in found.content.entries] == ["boot loader"]
        assert found.content.notes[0].startswith("the board's partition table is damaged: ")

    @pytest.mark.parametrize(
        ("facts", "note"),
        [
            ({"locks": (FLASH_ENCRYPTION,)}, "the flash is encrypted"),
            (
                {"locks": (SECURE_DOWNLOAD,), "readable": False},
                "the flash cannot be read: secure download mode",
            ),
        ],
    )
    def test_what_cannot_be_read_is_said(self, facts: dict[str, Any], note: str) -> None:
        board = MemoryBoard(info=board_info(**facts))
        found = survey_of(board.connect)
        assert found.content.entries == ()
        assert found.content.notes[0].startswith(note)
        assert (board.did("read"), board.resets) == ([], 1)

    @pytest.mark.external
    @pytest.mark.parametrize("chip", ["esp32", "esp32c3", "esp32s3"])
    @pytest.mark.parametrize("stub", [True, False])
    def test_by_the_real_protocol_with_and_without_the_stub(self, chip: str, stub: bool) -> None:
        require_package("esptool")
        place = {"esp32": "at_1000"}.get(chip, "at_0")
        flash = content(
            **{place: esp_image(chip, app=False)}, at_8000=OTA_TABLE, at_10000=esp_image(chip)
        )
        with bench(chip, flash=flash) as table:
            found = survey_of(connect_esp(table.port, stub=stub))
            assert bytes(table.flash[: len(flash)]) == flash
            if chip != "esp32":  # over a socket only a watchdog resets it
                assert table.restarts(1) == 1
        assert dict(found.info.details)["boot loader"] == ("stub" if stub else "rom")
        assert (found.info.chip, entry(found, "boot loader").holds) == (chip, "boot loader")
        assert entry(found, "ota_0").version == "1.0"

    @pytest.mark.external
    def test_an_esp8266_needs_the_stub(self) -> None:
        require_package("esptool")
        with (
            bench("esp8266") as table,
            refused("device.support", "an ESP8266 needs the stub: its ROM cannot read the flash"),
        ):
            survey_of(connect_esp(table.port, stub=False))
        with bench("esp8266") as table:
            found = survey_of(connect_esp(table.port))
        assert [one.name for one in found.content.entries] == ["program"]


class TestAttempts:
    def test_a_lost_board_is_asked_again(self) -> None:
        board, left = ota(), [lost(), lost()]

        def fault(_: int) -> None:
            if board.log[-1][0] == "read" and left:
                raise left.pop()

        board.fault = fault
        assert entry(survey_of(board.connect), "ota_0").holds == "blank"
        assert (board.closed, board.resets) == (3, 1)

    def test_a_board_that_fails_goes_on(self) -> None:
        board = ota()

        def fault(_: int) -> None:
            if board.log[-1][0] == "read":
                raise lost()

        board.fault = fault
        with refused("device.lost", "the cable was pulled"):
            survey_of(board.connect)
        assert (board.closed, board.resets) == (4, 1)

    def test_ctrl_c_lets_the_board_go_on(self) -> None:
        board = ota()

        def fault(_: int) -> None:
            if board.log[-1][0] == "read":
                raise KeyboardInterrupt

        board.fault = fault
        with pytest.raises(KeyboardInterrupt):
            survey_of(board.connect)
        assert (board.closed, board.resets) == (1, 1)

    def test_an_error_of_the_restart_is_a_note(self) -> None:
        board = ota()

        def fault(_: int) -> None:
            if board.log[-1][0] == "reset":
                raise lost()

        board.fault = fault
        (note,) = survey_of(board.connect).content.notes
        assert note == "the board may still be in its boot loader: the cable was pulled"


def binary_info(start: int, **texts: int) -> bytes:
    """Make a program with binary info; names are texts, values their ids."""
    xip = 0x10000000 + start
    table, strings, words = b"", b"", b""
    entries_at, strings_at = 0x400, 0x600
    for number, (text, key) in enumerate(texts.items()):
        table += struct.pack("<I", xip + entries_at + 12 * number)
        words += struct.pack("<HHII", 6, 0x5052, key, xip + strings_at + len(strings))
        strings += text.encode() + b"\0"
    head = struct.pack("<IIIII", 0x7188EBF2, xip + 0x200, xip + 0x200 + len(table), 0, 0xE71AA390)
    made = bytearray(0x800)
    for at, data in ((0, pico_kit.program(64)[:8]), (0x100, head), (0x200, table)):
        made[at : at + len(data)] = data
    for at, data in ((entries_at, words), (strings_at, strings)):
        made[at : at + len(data)] = data
    return bytes(made)


PROGRAM = {"blink": 0x02031C86, "1.4.2": 0x11A9BC3A, "2.1.0": 0x5360B3AB}


class TestPico:
    @pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
    def test_binary_info_in_bootsel_mode(self, chip: str) -> None:
        rom = pico_rom.BootRom(chip, binary_info(0, **PROGRAM))
        found = survey_of(lambda _: picoboot.PicobootBoard(pico_usb.link_to(rom)))
        program = entry(found, "program")
        assert (program.holds, program.project, program.version) == (
            "application",
            "blink",
            "1.4.2",
        )
        assert program.details == (("sdk", "2.1.0"),)
        assert rom.restarted

    def test_binary_info_behind_a_uart(self) -> None:
        require_package("serial")
        flash = b"\xff" * 0x4000 + binary_info(0x4000, **PROGRAM)
        with pico_kit.bench(flash=flash) as table:
            found = survey_of(connect_uart(table.line.port))
            assert table.machine.commands[-1] == b"BOOT"
        assert (entry(found, "program").project, entry(found, "program").offset) == (
            "blink",
            0x4000,
        )
        assert ("boot loader", "PICO") in found.info.details

    @pytest.mark.parametrize(
        ("flash", "holds"),
        [
            (b"", "blank"),
            (b"code" * 600, "unknown"),
            (binary_info(0x1000, **PROGRAM), "application"),  # its texts are elsewhere
        ],
    )
    def test_other_content(self, flash: bytes, holds: str) -> None:
        rom = pico_rom.BootRom("rp2040", flash)
        found = survey_of(lambda _: picoboot.PicobootBoard(pico_usb.link_to(rom)))
        assert entry(found, "program").holds in (holds, "unknown")
        assert entry(found, "program").project is None

    @pytest.mark.parametrize("count", [0, 300])
    def test_a_list_that_cannot_be_is_not_read(self, count: int) -> None:
        xip = 0x10000000
        ends = (xip + 0x200, xip + 0x200 + 4 * count)
        head = struct.pack("<IIIII", 0x7188EBF2, *ends, 0, 0xE71AA390)
        rom = pico_rom.BootRom("rp2040", bytes(0x100) + head + bytes(4000))
        found = survey_of(lambda _: picoboot.PicobootBoard(pico_usb.link_to(rom)))
        assert entry(found, "program").holds == "unknown"

    def test_a_drive_shows_nothing_and_stays(self, tmp_path: Path) -> None:
        found = survey_of(lambda _: _DriveBoard(drives.Drive(tmp_path, "rp2040")))
        assert found.info.chip == "rp2040"
        assert found.content.notes == (
            "the flash cannot be read: a drive shows nothing",
            (
                "the board stays in BOOTSEL mode until its power is taken away: "
                "a drive cannot restart it"
            ),
        )

    def test_a_running_pico_is_not_stranded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        message = "the Pico at /dev/x would stay in BOOTSEL mode: restarting it needs pyusb"
        with refused("device.support", message):
            ask("/dev/x", ConnectOptions(), ["pico-uf2"])


class TestSmp:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        require_package("serial")
        smp_kit.quick(monkeypatch)

    def test_images_with_versions_and_hashes(self) -> None:
        flash = smp_kit.image()
        with smp_kit.bench(flash=flash) as table:
            table.machine.own = {"bootable": True, "confirmed": True}
            found = survey_of(smp.connect(table.line.port))
        (one,) = found.content.entries
        assert (one.name, one.version, one.offset) == ("image 0, slot 0", "1.2.3", None)
        assert dict(one.details)["states"] == "bootable, confirmed"
        assert len(dict(one.details)["hash"]) == 64
        assert table.machine.started == 1

    def test_no_image(self) -> None:
        with smp_kit.bench() as table:
            found = survey_of(smp.connect(table.line.port))
        assert found.content == BoardContent((), ("the boot loader lists no image",))


class TestAsking:
    @contextmanager
    def _silent(self, port: str, how: ConnectOptions) -> Iterator[Any]:
        self.asked.append(str(how.kind))
        if how.kind == self.answers:
            yield ota().connect
            return
        raise Failed("device.absent", f"no answer at {port}")

    @pytest.fixture(autouse=True)
    def _attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answers = "none"
        monkeypatch.setattr(survey, "attached", self._silent)

    def test_kinds_are_tried_in_turn(self) -> None:
        self.answers = "pico-uart"
        assert ask("P", ConnectOptions(), backends.SERIAL_KINDS).info.chip == "esp32c3"
        assert self.asked == ["esp", "pico-uart"]

    def test_no_answer_names_what_was_tried(self) -> None:
        message = "no boot loader answers at P: tried esp, pico-uart, smp"
        with refused("device.absent", message):
            ask("P", ConnectOptions(), backends.SERIAL_KINDS)

    def test_one_kind_keeps_its_own_error(self) -> None:
        with refused("device.absent", "no answer at P"):
            ask("P", ConnectOptions(), ["esp"])

    def test_kinds_come_from_the_usb_identity(self, tmp_path: Path) -> None:
        here = [
            ports.PortInfo("/dev/a", "/dev/a", "Espressif USB", ("esp",)),
            ports.PortInfo("/dev/b", "/dev/b", "serial port"),
        ]
        assert backends.kinds_at("/dev/a", here) == ("esp",)
        assert backends.kinds_at("/dev/b", here) == backends.SERIAL_KINDS
        assert backends.kinds_at("/dev/c", here) == backends.SERIAL_KINDS
        assert backends.kinds_at("sim:esp32c3", here) == ("esp",)
        assert backends.kinds_at("sim:smp?baud=line", here) == ("smp",)
        assert backends.kinds_at(str(tmp_path), here) == ("pico-uf2",)
