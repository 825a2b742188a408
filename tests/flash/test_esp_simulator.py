"""The simulated ESP chips: what the protocol asks, byte by byte, and what esptool makes of them."""

import os
import struct
import subprocess
import sys
import zlib
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from flash.esp_kit import SECTOR, bench, digest, firmware
from fwsign.flash.boards.board import (
    FLASH_ENCRYPTION,
    SECURE_BOOT,
    SECURE_BOOT_V1,
    SECURE_DOWNLOAD,
)
from fwsign.flash.esp.chips import CHIPS, chip_of
from fwsign.flash.simulate import Settings, Simulated
from fwsign.flash.simulate.esp import Simulator
from fwsign.flash.simulate.line import Fault
from support import refused, require_package

IMAGE = firmware(9 * SECTOR + 100)
NO_ERROR = b"\0\0"


class Host:
    """Speaks the protocol, and nothing more."""

    def __init__(self, board: str = "esp32c3", *faults: tuple[str, int], **settings: Any) -> None:
        wrong = tuple(Fault(*fault) for fault in faults)
        self.chip = Simulator(Settings(board, faults=wrong, **settings))

    def send(self, command: int, data: bytes = b"", checksum: int = 0) -> list[bytes]:
        """Send a request and return every frame that comes back."""
        return self.raw(struct.pack("<BBHI", 0, command, len(data), checksum) + data)

    def raw(self, frame: bytes) -> list[bytes]:
        """Send a frame and return every frame that comes back."""
        wire = frame.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
        return unframed(self.chip.receive(b"\xc0" + wire + b"\xc0"))

    def ask(self, command: int, *words: int, data: bytes = b"", checksum: int = 0) -> bytes:
        """Send a request of words, and return the body of the one answer to it."""
        (frame,) = self.send(command, struct.pack(f"<{len(words)}I", *words) + data, checksum)
        direction, answered, size, _ = struct.unpack_from("<BBHI", frame)
        assert (direction, answered, size) == (1, command, len(frame) - 8)
        return frame[8:]

    def block(self, command: int, number: int, data: bytes, checksum: int | None = None) -> bytes:
        """Send a block of data."""
        right = reduce(int.__xor__, data, 0xEF)
        used = right if checksum is None else checksum
        return self.ask(command, len(data), number, 0, 0, data=data, checksum=used)

    def start_stub(self) -> "Host":
        """Upload something and start it."""
        assert self.ask(5, 4, 1, 0x1800, 0x4038_0000)[:2] == NO_ERROR
        assert self.block(7, 0, b"stub")[:2] == NO_ERROR
        answer, hello = self.send(6, struct.pack("<II", 0, 0x4038_0000))
        assert (answer[8:10], hello) == (NO_ERROR, b"OHAI")
        return self


def unframed(wire: bytes) -> list[bytes]:
    frames = [frame for frame in wire.split(b"\xc0") if frame]
    return [one.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb") for one in frames]


# --- the protocol ----------------------------------------------------------------------------

SYNC = b"\x07\x07\x12\x20" + b"\x55" * 32


def test_sync_is_answered_eight_times_and_tells_rom_from_stub() -> None:
    host = Host()
    rom = host.send(8, SYNC)
    assert (len(rom), len(set(rom))) == (8, 1)
    assert rom[0][4:8] != bytes(4)
    stub = host.start_stub().send(8, SYNC)
    assert (len(stub), stub[0][4:8], stub[0][8:]) == (8, bytes(4), NO_ERROR)


@pytest.mark.parametrize(("board", "status"), [("esp8266", b"\1\5"), ("esp32", b"\1\5\0\0")])
def test_the_rom_says_eight_times_that_it_does_not_know_a_command(
    board: str, status: bytes
) -> None:
    frames = Host(board).send(0xD1, bytes(8))
    assert len(frames) == 8
    assert {frame[8:] for frame in frames} == {status}


def test_the_stub_does_not_know_everything_either() -> None:
    assert Host().start_stub().ask(0x55) == b"\xc3\0"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\x08\0\0",
        b"\1\x08\0\0" + bytes(4),  # an answer, not a request
        b"\0\x0a\5\0" + bytes(8),  # more announced than sent
        b"\0\x0a\3\0" + bytes(8),
    ],
)
def test_what_is_no_request_is_not_answered(frame: bytes) -> None:
    assert Host().raw(frame) == []


def test_a_broken_escape_is_not_answered() -> None:
    assert Host().chip.receive(b"\xc0\0\x0a\4\0\0\0\0\0\xdb\x01\0\0\xc0") == b""


def test_a_request_may_come_in_pieces_and_after_noise() -> None:
    host = Host()
    request = b"noise\xc0" + struct.pack("<BBHII", 0, 10, 4, 0, 0x40001000) + b"\xc0"
    answers = [host.chip.receive(bytes([byte])) for byte in request]
    assert b"".join(answers[:-1]) == b""
    assert len(unframed(answers[-1])) == 1


@pytest.mark.parametrize(
    ("command", "words"), [(5, [1]), (6, [1]), (0x0F, [1]), (0x13, [0, 1]), (0xD1, [0]), (0xD2, [])]
)
def test_a_request_of_the_wrong_size_is_refused(command: int, words: list[int]) -> None:
    assert Host().start_stub().ask(command, *words) == b"\xc0\0"


def test_a_wrong_sync_is_refused() -> None:
    assert Host().send(8, SYNC[:-1])[0][8:10] == b"\1\6"


def test_a_block_with_a_wrong_checksum_is_refused_and_may_come_again() -> None:
    rom, stub = Host(), Host().start_stub()
    for host, damaged in ((rom, b"\1\7"), (stub, b"\xc1\0")):
        host.ask(2, 1024, 1, 1024, 0, 0)
        assert host.block(3, 0, b"x" * 1024, checksum=1)[:2] == damaged
        assert host.block(3, 0, b"x" * 1024)[:2] == NO_ERROR
        assert host.chip.flash[:1025] == b"x" * 1024 + b"\xff"


def test_blocks_out_of_order_too_long_or_without_beginning_are_refused() -> None:
    host = Host().start_stub()
    assert host.block(3, 0, b"x") == b"\xc6\0"
    assert host.block(7, 1, b"x") == b"\xc0\0"
    host.ask(2, 64, 1, 32, 0, 0)
    assert host.block(3, 1, b"x" * 32) == b"\xc0\0"
    assert host.block(3, 0, b"x" * 33) == b"\xc0\0"
    assert host.block(0x11, 0, b"x" * 32) == b"\xc6\0"
    assert set(host.chip.flash) == {0xFF}


def test_ram_is_not_started_half_loaded() -> None:
    host = Host()
    assert host.ask(6, 0, 0)[:2] == b"\1\6"
    host.ask(5, 0x1801, 2, 0x1800, 0)
    host.block(7, 0, b"x" * 0x1800)
    assert host.ask(6, 0, 0)[:2] == b"\1\6"
    assert host.ask(5, 0x1801, 1, 0x1800, 0)[:2] == b"\1\6"
    assert host.ask(5, 0, 0, 0, 0)[:2] == b"\1\6"


def deflated(host: Host, data: bytes, size: int, offset: int = 0) -> list[bytes]:
    packed = zlib.compress(data)
    answers = [host.ask(0x10, size, 1, 0x4000, offset, 0)]
    answers.append(host.block(0x11, 0, packed))
    return [*answers, host.ask(0x12, 1)]


def test_deflated_data_must_be_what_was_announced() -> None:
    host = Host().start_stub()
    assert deflated(host, b"x" * 5000, 5000) == [NO_ERROR] * 3
    assert host.chip.flash[:5001] == b"x" * 5000 + b"\xff"
    assert deflated(host, b"y" * 5001, 5000) == [NO_ERROR, b"\xc9\0", b"\xc8\0"]
    assert deflated(host, b"y" * 4999, 5000) == [NO_ERROR, NO_ERROR, b"\xc8\0"]
    host.ask(0x10, 100, 1, 0x4000, 0, 0)
    assert host.block(0x11, 0, b"not deflated") == b"\xc7\0"


def test_nothing_is_written_or_read_beyond_the_flash() -> None:
    host = Host().start_stub()
    end = len(host.chip.flash)
    assert end == 4 << 20
    assert host.ask(0x10, 8192, 1, 0x4000, end - 4096, 0) == b"\xc4\0"
    assert host.ask(0xD1, end, 4096) == b"\xc4\0"
    assert host.ask(0xD1, 1, 4096) == b"\xc0\0"
    assert host.ask(0x13, end, 1, 0, 0) == b"\xc4\0"
    assert host.ask(0xD2, end, 1, 4096, 64) == b"\xc4\0"


def test_flash_is_nor() -> None:
    host = Host(flash=bytes(SECTOR))
    host.chip._nor.program(0, b"\xff\xf0")
    assert host.chip.flash[:2] == b"\0\0"
    host.chip._nor.erase(0, 1)
    host.chip._nor.program(0, b"\xf0\x0f")
    host.chip._nor.program(0, b"\x3c\xff")
    assert host.chip.flash[:3] == b"\x30\x0f\xff"


def test_a_digest_is_binary_from_the_stub_and_hex_from_the_rom() -> None:
    rom = Host(flash=IMAGE)
    assert rom.ask(0x13, 0, 5000, 0, 0) == digest(IMAGE[:5000]).hex().encode() + bytes(4)
    assert rom.start_stub().ask(0x13, 0, 5000, 0, 0) == digest(IMAGE[:5000]) + NO_ERROR


def test_reading_waits_for_acknowledgements() -> None:
    host = Host(flash=IMAGE).start_stub()
    answer, *frames = host.send(0xD2, struct.pack("<IIII", 1, 10_000, 4096, 2))
    assert answer[8:] == NO_ERROR
    assert frames == [IMAGE[1:4097], IMAGE[4097:8193]]
    assert host.raw(struct.pack("<I", 4096)) == [IMAGE[8193:10_001]]
    assert host.raw(struct.pack("<I", 8192)) == []
    assert host.raw(struct.pack("<I", 10_000)) == [digest(IMAGE[1:10_001])]
    assert host.raw(struct.pack("<I", 10_000)) == []


def test_a_read_that_was_left_does_not_stop_the_next_command() -> None:
    host = Host(flash=IMAGE).start_stub()
    host.send(0xD2, struct.pack("<IIII", 0, 10_000, 4096, 1))
    assert len(host.send(8, SYNC)) == 8
    assert host.raw(struct.pack("<I", 4096)) == []


def test_the_rom_reads_64_bytes_at_a_time() -> None:
    host = Host(flash=IMAGE)
    assert host.ask(0x0E, 3, 10) == IMAGE[3:13] + bytes(54) + bytes(4)
    assert host.ask(0x0E, 0, 65)[:2] == b"\1\6"


def test_the_line_follows_the_boot_loader_only_where_it_shall() -> None:
    for asked, expected in ((None, [None, None]), (0, [115200, 921600]), (9600, [9600, 9600])):
        host = Host(baud=asked)
        before = host.chip.baud
        host.ask(0x0F, 921600, 0)
        assert [before, host.chip.baud] == expected


def test_erasing_all_and_leaving() -> None:
    host = Host(flash=IMAGE).start_stub()
    assert host.ask(0xD0) == NO_ERROR
    assert set(host.chip.flash) == {0xFF}
    assert host.send(0xD3) == []
    assert host.send(8, SYNC)[0][4:8] != bytes(4)


def test_finishing_with_a_reboot_goes_back_to_the_rom() -> None:
    host = Host().start_stub()
    assert host.ask(4, 1) == b"\xc6\0"
    host.ask(2, 0, 0, 0x4000, 0, 0)
    assert host.ask(4, 0) == NO_ERROR
    assert len(host.ask(0x13, 0, 1, 0, 0)) == 32 + 4


def test_a_larger_content_makes_a_larger_flash() -> None:
    host = Host(flash=bytes((4 << 20) + 1))
    assert len(host.chip.flash) == 8 << 20
    assert host.chip._nor.id >> 16 == 0x17


# --- faults and locks ------------------------------------------------------------------------


def test_a_power_cut_leaves_half_a_sector_and_the_rom() -> None:
    host = Host("esp32", ("power", 2), flash=bytes(5 * SECTOR), baud=0).start_stub()
    host.ask(0x0F, 921600, 115200)
    assert host.send(0xD1, struct.pack("<II", SECTOR, 3 * SECTOR)) == []
    half = SECTOR + SECTOR // 2
    assert host.chip.flash[: 5 * SECTOR] == bytes(SECTOR) + b"\xff" * half + bytes(
        4 * SECTOR - half
    )
    assert host.chip.baud == 115200
    assert len(host.send(0xD1, bytes(8))) == 8
    assert host.start_stub().ask(0xD1, SECTOR, 3 * SECTOR) == NO_ERROR


def test_a_lie_is_what_was_sent() -> None:
    host = Host("esp32c3", ("lie", 0), ("stuck", 1)).start_stub()
    deflated(host, b"abc", 3)
    assert host.chip.flash[:3] == b"a\xffc"
    assert host.ask(0x13, 0, 3, 0, 0) == digest(b"abc") + NO_ERROR


def test_a_refusal_happens_once() -> None:
    host = Host("esp32c3", ("nak", 1))
    assert [host.ask(0x0A, 0)[:2] for _ in range(3)] == [NO_ERROR, b"\1\6", NO_ERROR]


def test_noise_is_there_above_a_speed() -> None:
    host = Host("esp32c3", ("noise", 460800)).start_stub()
    host.ask(0x0F, 921600, 115200)
    host.ask(2, 32, 1, 32, 0, 0)
    assert host.block(3, 0, b"x" * 32) == b"\xc1\0"
    host.ask(0x0F, 460800, 921600)
    assert host.block(3, 0, b"x" * 32) == NO_ERROR


def test_secure_download_mode_knows_few_commands() -> None:
    host = Host(locks=(SECURE_DOWNLOAD,))
    for command in (0x05, 0x0A, 0x0E, 0x10, 0x13):
        assert len(host.send(command, bytes(16))) == 8
    assert host.ask(2, 1024, 1, 1024, 0, 0)[:2] == NO_ERROR


@pytest.mark.parametrize(
    ("board", "lock", "words"),
    [
        ("esp8266", SECURE_BOOT, "expected no lock"),
        ("esp32", SECURE_DOWNLOAD, "expected secure-boot-v1, secure-boot, flash-encryption"),
        ("esp32c3", SECURE_BOOT_V1, "expected secure-boot, flash-encryption, secure-download-mode"),
        ("esp32c3", "seven seals", "a simulated esp32c3 has no such lock: seven-seals"),
    ],
)
def test_a_lock_that_a_chip_does_not_have(board: str, lock: str, words: str) -> None:
    with refused("device.port", words):
        Simulator(Settings(board, locks=(lock,)))


@pytest.mark.parametrize("identity", ["", "12", "0123456789abcd", "xyzxyzxyzxyz"])
def test_an_identity_is_a_mac(identity: str) -> None:
    if not identity:  # none given
        Simulator(Settings("esp32", identity=identity))
        return
    with refused("device.port", identity, "12 hex digits"):
        Simulator(Settings("esp32", identity=identity))


@pytest.mark.parametrize(
    ("board", "revision"),
    [
        *((board, revision) for board in ("esp32", "esp32c3", "esp32s3") for revision in (1, 101)),
        *((board, 103) for board in CHIPS if board != "esp8266"),
        ("esp32", 0),
        ("esp32", 201),
        ("esp32c3", 11),
        ("esp32p4", 301),
        ("esp32s2", 108),
    ],
)
def test_esptool_reads_the_revision(board: str, revision: int) -> None:
    with bench(board, revision=revision) as one, one.board() as opened:
        words = f"v{revision // 100}.{revision % 100}"
        assert dict(opened.probe().details)["revision"] == words


@pytest.mark.parametrize("megabytes", [1, 2, 4, 8, 16, 32])
def test_esptool_reads_the_size_of_the_flash(megabytes: int) -> None:
    with bench("esp32s3", size=megabytes << 20) as one, one.board() as opened:
        assert opened.probe().flash_size == len(one.flash) == megabytes << 20


@pytest.mark.parametrize("chip", CHIPS)
def test_a_stock_board_starts_its_application(chip: str) -> None:
    with Simulated(f"sim:{chip}?size=8MB&table=0x10000") as one:
        assert one.started == f"application at 0x{0 if chip == 'esp8266' else 0x20000:x}"
    with Simulated(f"sim:{chip}?content=blank") as one:
        assert (one.started or "").startswith("nothing: ")


def test_content_that_is_larger_than_the_flash_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "board.flash"
    with Simulated(f"sim:esp32c3?size=2MB&flash={file}"):
        pass
    with Simulated(f"sim:esp32c3?size=2MB&flash={file}") as one:
        assert len(one.flash) == 2 << 20
    words = "board.flash has 2097152 bytes, expected at most 1048576 for this size"
    with refused("device.port", words):
        Simulated(f"sim:esp32c3?size=1MB&flash={file}")


def test_another_board_does_not_tell_what_it_starts() -> None:
    with Simulated("sim:smp") as one:
        assert one.started is None


def test_names_of_chips() -> None:
    assert chip_of("ESP32-C61") == "esp32c61"
    assert chip_of("ESP32-E22") is None


# --- the real esptool ------------------------------------------------------------------------


def esptool(port: str, *arguments: object, cwd: Path) -> str:
    """Run esptool's command line, with nobody's settings, and return what it prints."""
    clean = {name: value for name, value in os.environ.items() if "ESPTOOL" not in name}
    (cwd / "empty.cfg").write_text("[esptool]\n")
    run = subprocess.run(
        [sys.executable, "-m", "esptool", "--port", port, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**clean, "ESPTOOL_CFGFILE": str(cwd / "empty.cfg")},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Give a file for esptool to write."""
    require_package("esptool")
    path = tmp_path / "image.bin"
    path.write_bytes(IMAGE)
    return path


@pytest.mark.external
@pytest.mark.parametrize("chip", CHIPS)
def test_esptool_writes_every_chip(chip: str, image: Path) -> None:
    with bench(chip, identity="24:6f:28:00:00:01".replace(":", "")) as table:
        out = esptool(table.port, "write-flash", "0x10000", image, cwd=image.parent)
        assert f"Connected to {CHIPS[chip]} on" in out
        assert "24:6f:28:00:00:01" in out
        assert "Hash of data verified." in out
        assert table.flash[0x10000 : 0x10000 + len(IMAGE)] == IMAGE


@pytest.mark.external
def test_esptool_does_all_else(image: Path) -> None:
    with bench("esp32c3") as table:
        folder = image.parent
        esptool(table.port, "--baud", 921600, "write-flash", 0, image, cwd=folder)
        out = esptool(table.port, "verify-flash", 0, image, cwd=folder)
        assert "erification successful" in out
        assert "Detected flash size: 4MB" in esptool(table.port, "flash-id", cwd=folder)
        back = folder / "back.bin"
        esptool(table.port, "read-flash", 0, len(IMAGE), back, cwd=folder)
        assert back.read_bytes() == IMAGE
        esptool(table.port, "erase-region", 0, SECTOR, cwd=folder)
        assert table.flash[:SECTOR] == b"\xff" * SECTOR
        assert table.flash[SECTOR : len(IMAGE)] == IMAGE[SECTOR:]


@pytest.mark.external
def test_esptool_without_its_stub(image: Path) -> None:
    with bench("esp32") as table:
        how = ("--no-stub", "write-flash")
        out = esptool(table.port, *how, 0x1000, image, cwd=image.parent)
        assert "Hash of data verified." in out
        assert table.flash[0x1000 : 0x1000 + len(IMAGE)] == IMAGE


@pytest.mark.external
def test_esptool_sends_data_that_does_not_compress_as_it_is(image: Path) -> None:
    image.write_bytes(os.urandom(5 * SECTOR + 3))
    with bench("esp32s3") as table:
        out = esptool(table.port, "write-flash", 0, image, cwd=image.parent)
        assert "Hash of data verified." in out
        assert table.flash[: 5 * SECTOR + 3] == image.read_bytes()


@pytest.mark.external
@pytest.mark.parametrize("chip", ["esp32s2", "esp32c6"])
def test_esptool_sees_secure_download_mode(chip: str, image: Path) -> None:
    with bench(chip, locks=(SECURE_BOOT, FLASH_ENCRYPTION, SECURE_DOWNLOAD)) as table:
        out = esptool(table.port, "get-security-info", cwd=image.parent)
        assert f"{CHIPS[chip]} in Secure Download Mode" in out
        assert "Secure Boot: Enabled" in out
        assert "Flash Encryption: Enabled" in out
