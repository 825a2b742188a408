# SPDX-License-Identifier: Apache-2.0
import errno
import io
import os
import pty
import random
import shutil
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flash.pico_kit import no_progress, padded
from flash.pico_rom import BootRom
from flash.test_picoboot import ARM, RISCV, picobin
from fwsign.errors import Failed, Malformed
from fwsign.flash.boards.board import Board, Run
from fwsign.flash.boards.port import Port
from fwsign.flash.pico import drives, picoboot
from fwsign.flash.pico import uf2 as pico_uf2
from fwsign.flash.pico import usb as pico_usb
from fwsign.flash.pico.drives import Drive
from fwsign.flash.pico.uf2 import build, connect
from fwsign.images import rp_chips, uf2
from support import require_terminals

SAMPLES = Path(__file__).parents[2] / "firmware-samples"
INFO = "UF2 Bootloader v1.0\r\nModel: Raspberry Pi {0}\r\nBoard-ID: {0}\r\n"
IDS = {"rp2040": "RPI-RP2", "rp2350": "RP2350"}
DATA = random.Random(4).randbytes(150_000)  # no secret


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, "_LEAVES", 0.05)
    monkeypatch.setattr(drives, "_POLL", 0.001)
    monkeypatch.setattr(pico_uf2, "_APPEARS", 0.05)
    monkeypatch.setattr(pico_uf2, "_THERE", 0.02)
    monkeypatch.setattr(pico_uf2, "_POLL", 0.001)
    monkeypatch.setattr(pico_usb, "find", dict)  # none on this machine
    monkeypatch.setattr(drives, "find", list)


def drive_in(folder: Path, chip: str = "rp2040") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / drives.INFO).write_text(INFO.format(IDS[chip]))
    return folder


class Syncs:
    """Imitates the board behind fsync: it vanishes with the last block, or does something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, drive: Path) -> None:
        self.drive = drive
        self.calls = 0
        self.vanish_at: int | None = None  # number of the call; None: with the last block
        self.error: int | None = errno.EIO
        self.copied = b""
        monkeypatch.setattr("fwsign.flash.pico.drives.os.fsync", self)

    def __call__(self, _: int) -> None:
        self.calls += 1
        self.copied = (self.drive / drives.NAME).read_bytes()
        blocks = len(self.copied) // 512
        total = int.from_bytes(self.copied[-488:-484], "little")
        whole = int.from_bytes(self.copied[-492:-488], "little") == total - 1
        if self.calls == self.vanish_at or (self.vanish_at is None and whole and blocks):
            (self.drive / drives.INFO).unlink()
            if self.error is not None:
                raise OSError(self.error, os.strerror(self.error))


def drive_board(path: Path) -> Board:
    return connect(f"drive:{path}")(0)


# --- the drive ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENODEV, None])
def test_file_is_copied_and_the_board_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chip: str, error: int | None
) -> None:
    syncs = Syncs(monkeypatch, drive_in(tmp_path / "RPI", chip))
    syncs.error = error
    board = connect(str(tmp_path / "RPI"))(0)
    info = board.probe()
    assert (info.kind, info.chip, info.identity) == ("pico-uf2", chip, None)
    assert (info.digest, info.readable, info.flash_size) == (None, False, None)
    done: list[int] = []
    runs = [Run(0x10000, padded(DATA)), Run(0x40000, padded(b"more"))]
    board.write(runs, done.append)
    assert sum(done) == sum(len(run.data) for run in runs)
    assert uf2.parse(io.BytesIO(syncs.copied)).chip == chip
    found = [(address - 0x10000000, data) for address, data in uf2.contents(syncs.copied, chip)]
    assert found == [(run.offset, run.data) for run in runs]
    board.reset()
    board.close()


def test_partition_table_of_an_rp2350_is_noted(tmp_path: Path) -> None:
    assert drive_board(drive_in(tmp_path / "a")).finish([]) == ()
    note = ("boot not controlled: a partition table may have moved it",)
    assert drive_board(drive_in(tmp_path / "b", "rp2350")).finish([]) == note


def test_drive_that_vanishes_early_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch, drive_in(tmp_path / "a"))
    syncs.vanish_at = 2
    with pytest.raises(Failed, match=r"took 65536 of \d+ bytes: input/output error") as failure:
        drive_board(tmp_path / "a").write([Run(0, boot2_image())], no_progress)
    assert failure.value.code == "device.lost"


def test_drive_that_vanishes_before_the_last_block_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch, drive_in(tmp_path / "a"))
    size = len(build([Run(0x1000, padded(DATA))], "rp2040"))
    syncs.vanish_at = -(-(size - 512) // 65536)
    with pytest.raises(Failed, match=f"took {size - 512 - (size - 512) % 65536} of {size} bytes"):
        drive_board(tmp_path / "a").write([Run(0x1000, padded(DATA))], no_progress)


def test_other_trouble_with_the_last_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch, drive_in(tmp_path / "a"))
    syncs.error = errno.ENOSPC
    with pytest.raises(Failed, match="no space left on device") as failure:
        drive_board(tmp_path / "a").write([Run(0x1000, padded(b"x"))], no_progress)
    assert failure.value.code == "device.refused"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_drive_is_refused(tmp_path: Path) -> None:
    drive = drive_in(tmp_path / "a")
    (drive / drives.NAME).symlink_to("/dev/full")
    with pytest.raises(Failed, match="took 0 of 8192 bytes: no space left") as failure:
        drive_board(drive).write([Run(0x1000, bytes(4096))], no_progress)
    assert failure.value.code == "device.refused"


def test_file_that_the_boot_rom_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="the board does not restart") as failure:
        drive_board(drive_in(tmp_path / "a")).write([Run(0x1000, bytes(4096))], no_progress)
    assert failure.value.code == "device.refused"


def test_drive_that_is_gone_is_lost(tmp_path: Path) -> None:
    board = drive_board(drive_in(tmp_path / "a"))
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(Failed, match="no such file or directory") as failure:
        board.write([Run(0x1000, bytes(4096))], no_progress)
    assert failure.value.code == "device.lost"


@pytest.mark.parametrize("text", [None, "", "Board-ID: ESP32S2-Generic\r\n", "Model: RP2350\r\n"])
def test_other_drives_are_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / drives.INFO).write_text(text)
    for port in (str(tmp_path), f"drive:{tmp_path}"):
        with pytest.raises(Failed, match="does not name RPI-RP2 or RP2350") as refusal:
            connect(port)(0)
        assert refusal.value.code == "device.absent"


@pytest.mark.parametrize("call", ["digest", "read"])
def test_drive_shows_nothing(tmp_path: Path, call: str) -> None:
    with pytest.raises(Failed, match=f"a drive cannot .*{call}.* 4096 bytes") as refusal:
        getattr(drive_board(drive_in(tmp_path / "a")), call)(0, 4096)
    assert refusal.value.code == "device.support"


# --- the file ---------------------------------------------------------------------------------


def boot2_image() -> bytes:
    boot2 = DATA[: uf2.BOOT2_SIZE]
    return padded(boot2 + uf2.boot2_crc(boot2).to_bytes(4, "little") + DATA[256:])


def test_rp2040_image_without_boot2_is_refused() -> None:
    with pytest.raises(Malformed, match="crc of boot2") as refusal:
        build([Run(0, padded(DATA))], "rp2040")
    assert refusal.value.code == "malformed.image"
    assert len(build([Run(0, boot2_image())], "rp2040")) == 2 * len(boot2_image())


def test_overlapping_runs_are_refused() -> None:
    with pytest.raises(Malformed, match="nothing else before"):
        build([Run(0x1000, bytes(8192)), Run(0x2000, bytes(4096))], "rp2040")


def test_rp2350_file_begins_with_the_workaround() -> None:
    file = build([Run(0, padded(picobin(ARM)))], "rp2350")
    details = uf2.parse(io.BytesIO(file)).details
    assert ("block 0", "workaround for erratum RP2350-E10") in details
    assert ("family", "rp2350-arm-s (0xe48bff59)") in details


def test_riscv_image_has_its_own_family() -> None:
    file = build([Run(0, padded(picobin(RISCV)))], "rp2350")
    assert ("family", "rp2350-riscv (0xe48bff5a)") in uf2.parse(io.BytesIO(file)).details


def test_last_page_belongs_to_the_workaround() -> None:
    with pytest.raises(Failed, match="cannot write the last page") as refusal:
        build([Run(0xFFF000, bytes(4096))], "rp2350")
    assert refusal.value.code == "device.support"
    assert build([Run(0xFFF000, bytes(4096))], "rp2040")


def test_file_of_another_family_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = rp_chips.BY_NAME["rp2040"]._replace(family=rp_chips.RP2350_RISCV)
    monkeypatch.setitem(rp_chips.BY_NAME, "rp2040", other)
    with pytest.raises(Failed, match="one for rp2350, the board is rp2040") as refusal:
        build([Run(0x1000, bytes(4096))], "rp2040")
    assert refusal.value.code == "device.support"


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_sample_comes_out_as_it_went_in(chip: str) -> None:
    sample = (SAMPLES / f"blink-{chip}.uf2").read_bytes()
    pages = uf2.contents(sample, chip)
    built = build([Run(address - 0x10000000, data) for address, data in pages], chip)
    assert uf2.contents(built, chip) == pages


# --- from the serial port to BOOTSEL mode -------------------------------------------------------


@pytest.fixture
def tty() -> Any:
    require_terminals()
    master, slave = pty.openpty()
    try:
        yield slave, os.ttyname(slave)
    finally:
        os.close(master)
        os.close(slave)


def touched(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Let a board change into BOOTSEL mode when it is touched."""
    real = Port.touch

    def touch(port: Port) -> None:
        real(port)
        then()

    monkeypatch.setattr(Port, "touch", touch)


def test_port_is_opened_at_1200(
    tty: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave, name = tty
    speeds = []
    drive = Drive(drive_in(tmp_path / "a"), "rp2040", None)

    def then() -> None:
        speeds.append(termios.tcgetattr(slave)[4])
        monkeypatch.setattr(drives, "find", lambda: [drive])

    touched(monkeypatch, then)
    assert connect(name)(0).probe().details[1] == ("path", str(drive.path))
    assert speeds == [termios.B1200]


def test_board_on_the_same_usb_port_is_taken(
    tty: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Drive(drive_in(tmp_path / "a", "rp2350"), "rp2350", "1-2.3")
    other = Drive(drive_in(tmp_path / "b"), "rp2040", "1-2.4")
    monkeypatch.setattr(drives, "serial_location", lambda _: "1-2.3")
    touched(monkeypatch, lambda: monkeypatch.setattr(drives, "find", lambda: [other, mine]))
    assert connect(tty[1])(0).probe().chip == "rp2350"


def test_board_on_another_usb_port_is_not_taken(
    tty: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Drive(drive_in(tmp_path / "b"), "rp2040", "1-2.4")
    monkeypatch.setattr(drives, "serial_location", lambda _: "1-2.3")
    touched(monkeypatch, lambda: monkeypatch.setattr(drives, "find", lambda: [other]))
    with pytest.raises(Failed, match="no board in BOOTSEL mode has come") as refusal:
        connect(tty[1])(0)
    assert refusal.value.code == "device.absent"
    assert refusal.value.hint is not None


def test_board_that_was_there_before_is_not_taken_for_the_one_touched(
    tty: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Drive(drive_in(tmp_path / "b"), "rp2040", None)
    monkeypatch.setattr(drives, "find", lambda: [other])
    with pytest.raises(Failed, match="no board in BOOTSEL mode has come"):
        connect(tty[1])(0)


def test_two_boards_that_came_are_not_told_apart(
    tty: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [Drive(drive_in(tmp_path / name), "rp2040", None) for name in "ab"]
    touched(monkeypatch, lambda: monkeypatch.setattr(drives, "find", lambda: both))
    with pytest.raises(Failed, match="no board in BOOTSEL mode has come"):
        connect(tty[1])(0)


def test_board_in_bootsel_mode_already_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(drive_in(tmp_path / "a"), "rp2040", None)
    monkeypatch.setattr(drives, "find", lambda: [drive])
    assert connect(str(tmp_path / "ttyACM0"))(0).probe().chip == "rp2040"


def test_port_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"cannot open .*ttyACM0") as refusal:
        connect(str(tmp_path / "ttyACM0"))(0)
    assert refusal.value.code == "device.port"


def test_missing_pyserial_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(Failed, match="pyserial is not installed") as refusal:
        connect("/dev/ttyACM0")(0)
    assert refusal.value.code == "device.support"


# --- PICOBOOT where it is ---------------------------------------------------------------------


def with_device(monkeypatch: pytest.MonkeyPatch, rom: BootRom, *, usable: bool = True) -> None:
    def link_to(device: object) -> pico_usb.UsbLink:
        assert device is rom
        if not usable:
            raise Failed("device.port", "access denied")
        return pico_usb.UsbLink(rom, "rp2040", 1, 3, 0x84, rom.release)

    monkeypatch.setattr(pico_usb, "find", lambda: {"1-2.3": rom})
    monkeypatch.setattr(pico_usb, "link_to", link_to)


@pytest.mark.parametrize("location", ["1-2.3", None])
def test_picoboot_is_preferred(
    tty: tuple[int, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    location: str | None,
) -> None:
    drive = Drive(drive_in(tmp_path / "a"), "rp2040", location)

    def then() -> None:
        with_device(monkeypatch, BootRom())
        monkeypatch.setattr(drives, "find", lambda: [drive])

    touched(monkeypatch, then)
    assert isinstance(connect(tty[1])(0), picoboot.PicobootBoard)


def test_drive_is_used_where_picoboot_may_not(
    tty: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(drive_in(tmp_path / "a"), "rp2040", "1-2.3")

    def then() -> None:
        with_device(monkeypatch, BootRom(), usable=False)
        monkeypatch.setattr(drives, "find", lambda: [drive])

    touched(monkeypatch, then)
    assert not connect(tty[1])(0).probe().readable


def test_device_that_may_not_be_used_is_told_where_there_is_no_drive(
    tty: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    touched(monkeypatch, lambda: with_device(monkeypatch, BootRom(), usable=False))
    with pytest.raises(Failed, match="access denied"):
        connect(tty[1])(0)


def test_drive_given_leads_to_picoboot_and_back_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drive_in(tmp_path / "a")
    with_device(monkeypatch, BootRom())
    monkeypatch.setattr(drives, "at", lambda path: Drive(path, "rp2040", "1-2.3"))
    port = connect(str(path))
    assert isinstance(port(0), picoboot.PicobootBoard)
    (path / drives.INFO).unlink()  # PICOBOOT has taken it away
    monkeypatch.setattr(drives, "at", None)
    assert isinstance(port(1), picoboot.PicobootBoard)


# --- where drives and ports are -----------------------------------------------------------------


def linux(root: Path, *mounts: str) -> None:
    (root / "proc").mkdir()
    (root / "proc/mounts").write_text("".join(f"{line}\n" for line in mounts))
    (root / "sys/class/block").mkdir(parents=True)
    (root / "sys/class/tty/ttyACM0").mkdir(parents=True)
    usb = root / "sys/devices/pci0/usb1/1-2/1-2.3"
    for name in ("1-2.3:1.0/host0/block/sda/sda1", "1-2.3:1.1/tty/ttyACM0"):
        (usb / name).mkdir(parents=True)
    (root / "sys/class/block/sda1").symlink_to(usb / "1-2.3:1.0/host0/block/sda/sda1")
    (root / "sys/class/tty/ttyACM0/device").symlink_to(usb / "1-2.3:1.1")


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux has it")
def test_drives_are_found_with_their_usb_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    drive = drive_in(tmp_path / "RPI RP2")
    escaped = str(drive).replace(" ", "\\040")
    linux(
        tmp_path,
        f"/dev/sda1 {escaped} vfat rw 0 0",
        f"/dev/sdb1 {tmp_path} vfat rw 0 0",  # another stick
        "proc /proc proc rw 0 0",
        "",
    )
    expected = Drive(drive, "rp2040", "1-2.3")
    assert drives.find(tmp_path) == [expected]
    assert drives.at(drive, tmp_path) == expected
    assert drives.serial_location("/dev/ttyACM0", tmp_path) == "1-2.3"
    assert drives.serial_location("/dev/ttyS0", tmp_path) is None


def test_system_without_a_mount_table_has_no_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("fwsign.flash.pico.drives.sys.platform", "linux")
    assert drives.find(tmp_path) == []


def test_drives_of_macos_are_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "Volumes").mkdir()
    drive = drive_in(tmp_path / "Volumes/RP2350", "rp2350")
    monkeypatch.setattr("fwsign.flash.pico.drives.sys.platform", "darwin")
    assert drives.find(tmp_path) == [Drive(drive, "rp2350", None)]


def test_drives_of_windows_are_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("fwsign.flash.pico.drives.sys.platform", "win32")
    letters = [str(path) for path, _ in drives._mounted(Path("/"))]
    assert letters[:3] == ["A:\\", "B:\\", "C:\\"]
    assert len(letters) == 26
