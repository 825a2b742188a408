# SPDX-License-Identifier: Apache-2.0
import importlib
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from flash.pico_kit import no_progress, padded
from flash.pico_rom import BootRom, Interface, UsbError
from fwsign.errors import Failed
from fwsign.flash.boards.board import Run
from fwsign.flash.pico import usb as pico_usb
from fwsign.flash.pico.picoboot import PicobootBoard
from fwsign.flash.pico.usb import UsbLink, link_to
from fwsign.images.pico_block import has_partitions, is_riscv
from support import require_package

IMAGE = random.Random(3).randbytes(70_000)  # no secret
SAMPLES = Path(__file__).parents[2] / "firmware-samples"


def board(rom: BootRom) -> PicobootBoard:
    chip = "rp2350" if rom.rp2350 else "rp2040"
    return PicobootBoard(UsbLink(rom, chip, 1, 3, 0x84, rom.release))


# --- what it says of itself -------------------------------------------------------------------


def test_rp2040_has_no_identity() -> None:
    rom = BootRom(flash=IMAGE)
    info = board(rom).probe()
    assert (info.kind, info.chip, info.identity) == ("pico-uf2", "rp2040", None)
    assert (info.flash_size, info.digest, info.readable) == (2 * 1024 * 1024, "crc32", True)
    assert rom.ejected


def test_rp2350_is_told_by_its_chip_id() -> None:
    info = board(BootRom("rp2350", IMAGE)).probe()
    assert (info.chip, info.identity, info.locks) == ("rp2350", "chipid:0123456789abcdef", ())


def test_secure_boot_is_told() -> None:
    rom = BootRom("rp2350", IMAGE)
    rom.secure = 1
    assert board(rom).probe().locks == ("secure boot",)


def test_size_of_an_erased_flash_is_not_known() -> None:
    assert board(BootRom()).probe().flash_size is None


def test_two_slots_that_begin_alike_are_not_taken_for_the_end() -> None:
    half = IMAGE.ljust(1024 * 1024, b"\xff")
    other = IMAGE[:5000] + bytes(100)
    assert board(BootRom(flash=half + other)).probe().flash_size == 2 * 1024 * 1024


def test_flash_as_large_as_the_window_never_begins_again() -> None:
    rom = BootRom(flash=IMAGE.ljust(16 * 1024 * 1024, b"\xff"))
    assert board(rom).probe().flash_size == 16 * 1024 * 1024


def test_info_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BootRom, "_info", lambda *_: struct.pack("<II", 1, 3))
    with pytest.raises(Failed, match="GET_INFO is not possible: 1 words, flags 3") as refusal:
        board(BootRom("rp2350", IMAGE)).probe()
    assert refusal.value.code == "device.protocol"


# --- reading and writing ------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_image_is_written_read_and_started(chip: str) -> None:
    rom = BootRom(chip, b"\0" * 80_000)
    it = board(rom)
    done: list[int] = []
    it.write([Run(0, padded(IMAGE)), Run(0x40000, padded(b"data"))], done.append)
    assert it.read(0, len(IMAGE)) == IMAGE
    assert it.read(0x40000, 4) == b"data"
    assert it.digest(1, 50_001) == zlib.crc32(IMAGE[1:50_002]).to_bytes(4, "big")
    assert sum(done) == len(padded(IMAGE)) + 4096
    it.reset()
    it.close()
    assert rom.restarted
    assert rom.released == 1


@pytest.mark.parametrize("command", range(2, 10))
def test_power_lost_while_writing_leaves_nothing_that_boots(command: int) -> None:
    rom = BootRom(flash=b"\x01" * 80_000)
    it = board(rom)
    rom.power_at = command
    with pytest.raises(Failed) as failure:
        it.write([Run(0, padded(IMAGE))], no_progress)
    assert failure.value.code == "device.lost"
    assert rom.flash[:2048] == b"\xff" * 2048  # without boot2 the ROM stays in BOOTSEL mode


def test_erased_blocks_are_not_sent() -> None:
    rom = BootRom(flash=bytes(100_000))
    board(rom).write([Run(65536, b"\xff" * 8192)], no_progress)
    assert 5 not in rom.commands
    assert rom.flash[65536:73728] == b"\xff" * 8192


# --- what boots -----------------------------------------------------------------------------------


def picobin(*items: int) -> bytes:
    """Make an image with one block."""
    last = 0xFF | len(items) << 8
    return struct.pack(f"<{5 + len(items)}I", 0, 0xFFFFDED3, *items, last, 0, 0xAB123579)


ARM, RISCV, TABLE = 0x10210142, 0x11010142, 0x0200010A


def test_block_names_cores_and_partitions() -> None:
    assert is_riscv(picobin(RISCV))
    assert not is_riscv(picobin(ARM))
    assert has_partitions(picobin(ARM, TABLE))
    assert not has_partitions(picobin(ARM))
    for image in (
        picobin(*[0x102] * 64, RISCV),
        b"",
        b"\0" * 8192,
        picobin(0x142)[:8],
        picobin(0),
        b"\0" + picobin(RISCV),
    ):
        assert not is_riscv(image)
        assert not has_partitions(image)


@pytest.mark.parametrize(
    ("present", "image", "noted"),
    [(0, picobin(ARM), False), (0x100, picobin(ARM), True), (0, picobin(ARM, TABLE), True)],
)
def test_partition_table_is_noted(present: int, image: bytes, noted: bool) -> None:
    rom = BootRom("rp2350", IMAGE)
    rom.partitions = present
    it = board(rom)
    it.probe()
    note = "boot not controlled: the partition table selects what starts"
    assert it.finish([Run(0, image)]) == ((note,) if noted else ())


def test_unknown_partitions_are_noted() -> None:
    rom = BootRom("rp2350", IMAGE)
    it = board(rom)
    rom.refuse_at = 3  # exclusive, exit xip, GET_INFO of the system, of the partitions
    assert it.probe().flash_size == 2 * 1024 * 1024
    assert it.finish([Run(0, picobin(ARM))]) != ()


def test_rp2040_has_no_partitions() -> None:
    assert board(BootRom()).finish([Run(0, IMAGE)]) == ()


# --- faults ---------------------------------------------------------------------------------------


def test_board_that_restarts_before_it_answers_has_restarted() -> None:
    rom = BootRom()
    it = board(rom)
    rom.hasty = True
    it.reset()
    assert rom.restarted


def test_refused_restart_is_told() -> None:
    rom = BootRom()
    it = board(rom)
    rom.refuse_at = 2
    with pytest.raises(Failed, match="command 02: not permitted"):
        it.reset()


def test_refused_command_says_why() -> None:
    rom = BootRom()
    it = board(rom)
    rom.refuse_at = 2
    with pytest.raises(Failed, match="refused command 03: not permitted") as refusal:
        it.write([Run(4096, padded(IMAGE))], no_progress)
    assert refusal.value.code == "device.refused"


def test_misaligned_erase_says_why() -> None:
    with pytest.raises(Failed, match="command 03: address not aligned"):
        board(BootRom()).write([Run(1, padded(IMAGE))], no_progress)


def test_board_goes_on_after_a_refusal_with_a_new_connection() -> None:
    rom = BootRom(flash=IMAGE)
    with pytest.raises(Failed):
        board(rom).read(1 << 25, 4)
    assert board(rom).read(0, 100) == IMAGE[:100]


@pytest.mark.parametrize("command", range(2, 9))
def test_unplugged_board_is_lost(command: int) -> None:
    rom = BootRom(flash=IMAGE)
    it = board(rom)
    rom.unplug_at = command
    with pytest.raises(Failed, match="over USB was lost: no such device") as failure:
        it.write([Run(0, padded(IMAGE))], no_progress)
    assert failure.value.code == "device.lost"


def test_short_answer_is_refused() -> None:
    rom = BootRom(flash=IMAGE)
    it = board(rom)
    rom.short = 1
    with pytest.raises(Failed, match="sent 3 bytes of 4") as refusal:
        it.read(0, 4)
    assert refusal.value.code == "device.protocol"


def test_byte_that_cannot_be_programmed_is_seen_when_read() -> None:
    rom = BootRom()
    rom.stuck = 100
    it = board(rom)
    it.write([Run(0, bytes(4096))], no_progress)
    assert it.read(0, 4096) == bytes(100) + b"\xff" + bytes(3995)


def test_device_that_is_gone_cannot_be_used() -> None:
    rom = BootRom()
    rom._gone = True
    with pytest.raises(Failed, match="cannot be used: no such device") as refusal:
        board(rom)
    assert refusal.value.code == "device.port"
    assert rom.released == 1


def test_trouble_with_releasing_is_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: BootRom) -> None:
        raise UsbError(19, "No such device")

    monkeypatch.setattr(BootRom, "release", fail)
    board(BootRom()).close()


# --- finding it -----------------------------------------------------------------------------------


def found(monkeypatch: pytest.MonkeyPatch, devices: Any) -> dict[str, Any]:
    def find(find_all: bool, idVendor: int) -> Any:  # noqa: N803 - pyusb's name
        assert find_all
        assert idVendor == 0x2E8A
        if isinstance(devices, Exception):
            raise devices
        return iter(devices)

    core = type("core", (), {"find": staticmethod(find)})
    util = type("util", (), {"dispose_resources": staticmethod(lambda rom: rom.release())})
    modules = {"usb.core": core, "usb.util": util}
    monkeypatch.setattr(pico_usb, "importlib", type("i", (), {"import_module": modules.get}))
    return pico_usb.find()


def test_devices_are_found_by_their_usb_port(monkeypatch: pytest.MonkeyPatch) -> None:
    rom, other, hub = BootRom(), BootRom(), BootRom()
    other.idProduct = 0x000A  # a serial port of a running program
    hub.port_numbers = None  # type: ignore[assignment]
    assert found(monkeypatch, [rom, other, hub]) == {"1-2.3": rom}
    link = link_to(rom)
    assert (link.chip, link.interface, link.out_endpoint, link.in_endpoint) == (
        *("rp2040", 1),
        *(3, 0x84),
    )
    PicobootBoard(link).close()
    assert rom.released == 1


@pytest.mark.parametrize("error", [ValueError("no backend"), UsbError(13, "denied"), ImportError()])
def test_nothing_is_found_where_usb_does_not_work(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert found(monkeypatch, error) == {}


def test_device_without_picoboot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rom = BootRom()
    rom.interfaces = [Interface(8, 0, 1, 0x82)]
    found(monkeypatch, [rom])
    with pytest.raises(Failed, match="no PICOBOOT interface") as refusal:
        link_to(rom)
    assert refusal.value.code == "device.support"


def test_device_that_may_not_be_opened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: BootRom) -> None:
        raise UsbError(13, "Access denied")

    found(monkeypatch, [])
    monkeypatch.setattr(BootRom, "get_active_configuration", denied)
    with pytest.raises(Failed, match="cannot be opened: access denied") as refusal:
        link_to(BootRom())
    assert refusal.value.code == "device.port"


def test_nothing_is_found_without_pyusb(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(pico_usb, "importlib", type("i", (), {"import_module": absent}))
    assert pico_usb.find() == {}


@pytest.mark.external
def test_pyusb_has_what_is_used_of_it() -> None:
    require_package("usb")
    core, util = importlib.import_module("usb.core"), importlib.import_module("usb.util")
    assert issubclass(core.USBError, OSError)
    assert issubclass(core.NoBackendError, ValueError)
    device = core.Device
    assert all((device.write, device.read, device.ctrl_transfer, device.clear_halt))
    assert util.dispose_resources
    pico_usb.find()  # whatever is there, it does not fail
