"""The ESP backend against the simulator, and against a boot loader that we did not write."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flash.esp_kit import SECTOR, Bench, bench, differing, digest, firmware, write
from fwsign.errors import Failed
from fwsign.flash.boards.board import (
    FLASH_ENCRYPTION,
    SECURE_BOOT,
    SECURE_BOOT_V1,
    SECURE_DOWNLOAD,
    Run,
)
from fwsign.flash.boards.port import INSTALL
from fwsign.flash.esp import board as esp
from fwsign.flash.esp.board import EspBoard, connect, rung
from fwsign.flash.esp.chips import CHIPS
from fwsign.flash.esp.pipe import Message, receive, send
from fwsign.flash.simulate.esp_chip import own_mac
from support import refused, require_package

pytestmark = pytest.mark.external
IMAGE = firmware(12 * SECTOR)
APP = Run(0x10000, IMAGE)


@pytest.fixture(autouse=True)
def _esptool() -> None:
    require_package("esptool")


# --- every chip ------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", CHIPS)
def test_every_chip_is_recognized_written_and_read_back(chip: str) -> None:
    with bench(chip, identity="0123456789ab") as table, table.board(921600) as board:
        info = board.probe()
        assert (info.kind, info.chip, info.identity) == ("esp", chip, "mac:0123456789ab")
        assert (info.flash_size, info.sector, info.digest) == (4 << 20, SECTOR, "md5")
        assert info.readable
        assert info.locks == ()
        details = dict(info.details)
        assert (details["boot loader"], details["baud"]) == ("stub", "921600")
        assert ("revision" in details) is (chip != "esp8266")
        assert sum(write(board, APP)) == len(IMAGE)
        assert differing(board, [APP]) == []
        assert board.read(APP.offset, len(IMAGE)) == IMAGE == table.flash[APP.offset : APP.end]
        assert set(table.flash[: APP.offset]) == set(table.flash[APP.end :]) == {0xFF}


def test_runs_are_written_in_the_order_given_and_sectors_between_them_stay() -> None:
    old = firmware(8 * SECTOR, seed=1)
    runs = [Run(6 * SECTOR, b"\0" * SECTOR), Run(SECTOR, IMAGE[: 2 * SECTOR])]
    with bench("esp32c3", flash=old) as table, table.board() as board:
        assert write(board, *runs) == [SECTOR, SECTOR * 2]
        assert differing(board, runs) == []
        expected = bytearray(old)
        for run in runs:
            expected[run.offset : run.end] = run.data
        assert table.flash[: len(old)] == expected


def test_data_that_does_not_compress_is_sent_as_it_is() -> None:
    noise = os.urandom(5 * SECTOR)
    with bench("esp32s3") as table, table.board() as board:
        write(board, Run(0, noise))
        assert table.flash[: len(noise)] == noise


def test_a_long_run_is_written_in_pieces() -> None:
    long = bytes(6 << 20)
    with bench("esp32s3", flash=b"\xff" * len(long)) as table, table.board() as board:
        assert board.probe().flash_size == 8 << 20
        assert sum(write(board, Run(0, long))) == len(long)
        assert table.flash[: len(long)] == long


@pytest.mark.parametrize("chip", ["esp32", "esp32c3"])
def test_header_bytes_are_never_changed(chip: str) -> None:
    header = bytes([0xE9, 1, 0xAB, 0xCD]) + IMAGE[: SECTOR - 4]
    with bench(chip) as table, table.board() as board:
        offset = {"esp32": 0x1000, "esp32c3": 0}[chip]
        write(board, Run(offset, header))
        assert table.flash[offset : offset + SECTOR] == header


# --- locks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chip", "locks"),
    [
        ("esp32", [SECURE_BOOT_V1]),
        ("esp32", [SECURE_BOOT, FLASH_ENCRYPTION]),
        ("esp32s2", [SECURE_BOOT]),
        ("esp32s3", [SECURE_BOOT, FLASH_ENCRYPTION]),
        ("esp32c2", [FLASH_ENCRYPTION]),
        ("esp32c5", [SECURE_BOOT]),
        ("esp32c61", [SECURE_BOOT, FLASH_ENCRYPTION]),
        ("esp32p4", [SECURE_BOOT]),
    ],
)
def test_locks_are_reported(chip: str, locks: list[str]) -> None:
    with bench(chip, locks=tuple(locks)) as table, table.board() as board:
        assert board.probe().locks == tuple(locks)
        assert dict(board.probe().details)["boot loader"] == "stub"


@pytest.mark.parametrize("chip", ["esp32s2", "esp32c3", "esp32c2"])
def test_secure_download_mode_is_written_through_the_rom_and_not_verifiable(chip: str) -> None:
    locks = (SECURE_BOOT, FLASH_ENCRYPTION, SECURE_DOWNLOAD)
    with bench(chip, locks=locks, baud=None) as table, table.board(460800) as board:
        info = board.probe()
        assert info.chip == chip
        assert info.locks == locks
        assert (info.identity, info.flash_size, info.digest, info.readable) == (
            None,
            None,
            None,
            False,
        )
        assert dict(info.details)["boot loader"] == "rom"
        write(board, APP)
        assert table.flash[APP.offset : APP.end] == IMAGE
        with refused("device.protocol", "digest the flash"):
            board.digest(APP.offset, SECTOR)


def test_a_c3_with_secure_boot_is_written_by_its_rom_alone() -> None:
    with bench("esp32c3", locks=(SECURE_BOOT,)) as table, table.board() as board:
        info = board.probe()
        assert (info.locks, info.digest) == ((SECURE_BOOT,), "md5")
        assert dict(info.details)["boot loader"] == "rom"
        write(board, APP)
        assert differing(board, [APP]) == []
        assert board.read(APP.offset, SECTOR) == IMAGE[:SECTOR]


# --- faults ----------------------------------------------------------------------------------


def finish_after(table: Bench, code: str, *fault: tuple[str, int]) -> None:
    """Write, expect a failure, connect anew and write what differs: as the engine does."""
    with table.board() as board:
        first = board.probe().identity
        for one in fault:
            table.soon(*one)
        with refused(code):
            write(board, APP)
    with table.board(attempt=1) as board:
        assert board.probe().identity == first
        missing = differing(board, [APP])
        assert missing != []
        write(board, *missing)
        assert differing(board, [APP]) == []
    assert table.flash[APP.offset : APP.end] == IMAGE


def test_after_a_pulled_cable_it_goes_on() -> None:
    with bench("esp32c3") as table:
        finish_after(table, "device.lost", ("cable", 20_000))


def test_after_a_power_cut_it_goes_on() -> None:
    with bench("esp32c3", ("power", APP.offset // SECTOR + 5)) as table:
        finish_after(table, "device.lost")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_after_a_refused_command_it_goes_on(after: int) -> None:
    with bench("esp32c3") as table:
        finish_after(table, "device.refused", ("nak", after))


def test_a_stub_that_does_not_start_is_not_waited_for_for_ever() -> None:
    with bench("esp32c3", ("nak", 8)) as table:  # the command that starts it
        with refused("device.protocol", "could not start the stub: Failed to start stub flasher"):
            EspBoard(table.port, None)
        with table.board() as board:
            assert board.probe().chip == "esp32c3"


def test_a_refusal_names_command_and_status() -> None:
    with bench("esp32c3") as table, table.board() as board:
        with refused("device.refused", table.port, "begin to write", "C400", "spi") as caught:
            write(board, Run(64 << 20, IMAGE[:SECTOR]))
        assert (caught.value.expected, caught.value.found) == (
            "success",
            "status C400 (failed spi operation)",
        )


def test_a_damaged_block_is_sent_again() -> None:
    plain = Run(0, b"A" * SECTOR)  # the ROM is sent it as it is
    with bench("esp32c3", locks=(SECURE_BOOT,)) as table, table.board() as board:
        table.soon("flip", 2000)
        write(board, plain)
        assert table.line._faults == []
        assert differing(board, [plain]) == []


def failure(table: Bench, attempt: int, fault: tuple[str, int] | None) -> str | None:
    """Write and check everything; return the code of what went wrong."""
    try:
        with table.board(attempt=attempt) as board:
            if fault is not None:
                table.soon(*fault)
            write(board, APP)
            assert differing(board, [APP]) == []
            assert board.read(APP.offset, len(IMAGE)) == IMAGE
    except Failed as error:
        return error.code
    return None


@pytest.mark.parametrize("name", ["flip", "flip-back"])
@pytest.mark.parametrize("after", [3, 20, 41])
def test_a_flipped_bit_never_ends_as_success_with_wrong_bytes(name: str, after: int) -> None:
    with bench("esp32c3") as table:
        code = failure(table, 0, (name, after))
        assert table.line._faults == []
        if code is not None:
            assert code in ("device.lost", "device.protocol", "device.refused")
            assert failure(table, 1, None) is None
        assert table.flash[APP.offset : APP.end] == IMAGE


def test_a_byte_that_cannot_be_programmed_shows_in_the_digest() -> None:
    at = APP.offset + IMAGE.index(b"\0")
    with bench("esp32c3", ("stuck", at)) as table, table.board() as board:
        write(board, APP)
        assert [one.offset for one in differing(board, [APP])] == [at - at % SECTOR]


def test_a_digest_that_lies_is_found_out_by_reading() -> None:
    at = APP.offset + IMAGE.index(b"\0")
    with bench("esp32c3", ("stuck", at), ("lie", 0)) as table, table.board() as board:
        write(board, APP)
        assert differing(board, [APP]) == []
        with refused("device.protocol", "Digest mismatch"):
            board.read(APP.offset, len(IMAGE))


def test_a_bad_line_is_left_behind_by_going_slower() -> None:
    with bench("esp32c3", ("noise", 460800), baud=None) as table:
        with refused("device.protocol", "damaged 3 times"), table.board(921600) as board:
            write(board, APP)
        with table.board(921600, attempt=1) as board:
            assert dict(board.probe().details)["baud"] == "460800"
            write(board, APP)
            assert differing(board, [APP]) == []


@pytest.mark.parametrize(
    ("baud", "attempt", "expected"),
    [
        (None, 0, None),
        (None, 3, None),
        (921600, 0, 921600),
        (921600, 1, 460800),
        (921600, 3, 115200),
        (921600, 9, 115200),
        (3_000_000, 1, 2_000_000),
        (1_000_000, 1, 921600),
        (9600, 2, 9600),
    ],
)
def test_each_attempt_is_slower(baud: int | None, attempt: int, expected: int | None) -> None:
    assert rung(baud, attempt) == expected


# --- the port and the worker -----------------------------------------------------------------


def test_a_stub_that_runs_already_is_used() -> None:
    with bench("esp32s2") as table:
        for baud in (921600, None):
            with table.board(baud) as board:
                assert dict(board.probe().details)["boot loader"] == "stub"


def test_connect_stays_at_the_speed_of_a_socket_unless_asked() -> None:
    with bench("esp32c3", baud=0) as table:
        board = connect(table.port)(0)
        board.close()
        assert table.chip.baud == 115200
        board = connect(table.port, baud=460800)(0)
        board.close()
        assert table.chip.baud == 460800


def test_other_ports_begin_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(esp, "EspBoard", lambda *how, stub: asked.append((*how, stub)))
    connect("/dev/ttyUSB0")(0)
    connect("COM5", baud=115200, before="usb-reset", after="no-reset", stub=False)(2)
    assert asked == [
        ("/dev/ttyUSB0", 921600, 0, "default-reset", "hard-reset", True),
        ("COM5", 115200, 2, "usb-reset", "no-reset", False),
    ]


@pytest.mark.parametrize(
    ("chip", "after", "restarts"),
    [
        ("esp32", "no-reset", 0),
        ("esp32c3", "hard-reset", 1),
        ("esp32c3", "watchdog-reset", 1),
        ("esp8266", "hard-reset", 1),
    ],
)
def test_what_can_be_reset_over_a_socket_is_reset(chip: str, after: str, restarts: int) -> None:
    with bench(chip) as table, table.board(after=after) as board:
        assert board.finish([APP]) == ()
        board.reset()
        assert table.restarts(restarts) == restarts


@pytest.mark.parametrize("chip", ["esp32", "esp32h2"])
def test_what_cannot_be_reset_over_a_socket_is_said(chip: str) -> None:
    message = "reset the board by hand: the port has no lines for it"
    with bench(chip) as table, table.board() as board, refused("device.support", message):
        board.reset()


def test_a_port_that_is_not_there() -> None:
    with refused("device.port", "/dev/no-such-port", "no such file"):
        EspBoard("/dev/no-such-port")


def test_a_port_that_nobody_listens_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with refused("device.port", f"cannot open socket://127.0.0.1:{port}"):
        EspBoard(f"socket://127.0.0.1:{port}")


def test_a_port_that_cannot_be() -> None:
    with refused("device.port", "cannot open nonsense://x"):
        EspBoard("nonsense://x")


def test_a_port_with_no_boot_loader_behind_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with refused("device.absent", f"no ESP boot loader answers at {port}") as caught:
            EspBoard(port)
        assert "no answer from the board" in str(caught.value.found)


def test_a_port_that_closes_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with refused("device.lost", f"the connection over {port} was lost"):
            EspBoard(port)
        thread.join()


def test_two_answers_about_the_mac_must_agree() -> None:
    with bench("esp32c3") as table, table.board() as board:
        table.soon("flip-back", 3 * 12 + 6)  # behind three answers about the revision
        with refused("device.protocol", "gives two macs", f"then {own_mac('esp32c3')}"):
            board.probe()


def test_a_worker_that_dies_is_a_lost_board() -> None:
    with bench("esp32c3") as table, table.board() as board:
        board._worker.kill()
        with refused("device.lost", table.port, "ended unexpectedly"):
            board.probe()
        with refused("device.lost"):
            board.digest(0, SECTOR)


def test_a_worker_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(esp, "_SILENCE", 0.5)
        with refused("device.lost", "ended unexpectedly"):
            EspBoard(f"socket://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "_GRACE", 0.1)
    with bench("esp32c3") as table, table.board() as board:
        board._worker.send_signal(signal.SIGSTOP)
        board.close()
        assert board._worker.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_is_for_the_parent() -> None:
    with bench("esp32c3") as table, table.board() as board:
        board._worker.send_signal(signal.SIGINT)
        assert board.probe().chip == "esp32c3"
        board.close()
        board.close()
        assert board._worker.returncode == 0


def test_a_worker_in_mid_write_ends_when_the_parent_goes() -> None:
    with bench("esp32c3", baud=1_000_000) as table, table.board() as board:

        def stop(_count: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            board.write([Run(0, firmware(80 * SECTOR))], stop)
        board.close()
        assert board._worker.returncode == 0


def test_a_digest_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench("esp32c3") as table, table.board() as board:
        monkeypatch.setattr(board, "_call", lambda *_, **__: Message({"digest": "green"}))
        with refused("device.protocol", "not hex"):
            board.digest(0, SECTOR)


def test_half_a_message_is_none() -> None:
    whole = io.BytesIO()
    send(whole, Message({"call": "read", "size": 3}, b"abc"))
    for size in range(len(whole.getvalue())):
        assert receive(io.BytesIO(whole.getvalue()[:size])) is None
    whole.seek(0)
    assert receive(whole) == Message({"call": "read", "size": 3}, b"abc")


HOSTILE = "[esptool]\ncustom_reset_sequence = W9\nconnect_attempts = 1\ntimeout = 0.000001\n"


@pytest.mark.parametrize("where", ["here", "home", "environment"])
def test_settings_for_esptool_are_not_read(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("esptool.cfg", "setup.cfg", "tox.ini"):
        (tmp_path / name).write_text(HOSTILE)
    if where == "here":
        monkeypatch.chdir(tmp_path)
    elif where == "home":
        monkeypatch.setenv("HOME", str(tmp_path))
    else:
        monkeypatch.setenv("ESPTOOL_CFGFILE", str(tmp_path / "esptool.cfg"))
        monkeypatch.setenv("ESP_IDE_WS", "ws://127.0.0.1:1")
    with bench("esp32c3") as table, table.board() as board:
        assert board.probe().chip == "esp32c3"


def test_nothing_is_imported_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("esptool", "serial", "fwsign"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.chdir(tmp_path)
    with bench("esp32c3") as table, table.board() as board:
        assert board.probe().chip == "esp32c3"


def test_without_esptool_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with refused("device.support", "esptool is not installed") as caught:
        EspBoard("/dev/ttyUSB0")
    assert caught.value.hint == INSTALL


def test_an_esptool_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "esptool.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with refused("device.support", "the esptool that is installed cannot be used") as caught:
        EspBoard("/dev/ttyUSB0")
    assert caught.value.expected == "esptool 5.6 or newer, before 6"


def test_our_process_never_loads_esptool() -> None:
    code = "import fwsign.flash.esp.board, sys; print('esptool' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_same_image_is_compressed_once_for_all_boards() -> None:
    image = firmware(16 * SECTOR, seed=3)
    esp._deflated.cache_clear()

    def flash() -> None:
        with bench("esp32c3") as table, table.board() as board:
            write(board, Run(0, bytes(bytearray(image))))
            assert table.flash[: len(image)] == image

    threads = [threading.Thread(target=flash) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert esp._deflated.cache_info().misses == 1
    assert esp._deflated.cache_info().hits == 2


# --- what esptool is made faster with --------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\0", b"\xef", bytes(7), bytes(range(256)), IMAGE[:999]])
def test_the_fast_checksum_is_esptools(data: bytes) -> None:
    from esptool.loader import ESPLoader  # the package may be absent

    from fwsign.flash.esp.tuned import checksum

    assert checksum(data) == ESPLoader.checksum(data)
    assert checksum(data, 0x11) == ESPLoader.checksum(data, 0x11)


class Wire:
    """A port that has bytes waiting in pieces."""

    name = "/dev/ttyS0"
    timeout = 1.0

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    @property
    def in_waiting(self) -> int:
        return len(self._pieces[0]) if self._pieces else 0

    def read(self, _size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_frames_come_whole_and_noise_between_them_is_dropped() -> None:
    from fwsign.flash.esp.tuned import SilenceError, slip_frames

    wire = Wire(b"boot:0x7\r\n\xc0", b"a\xdb", b"\xdcb\xc0\xc0\xdb\xdd\xdc\xc0", b"\xc0c")
    frames = slip_frames(wire, print)
    assert [next(frames) for _ in range(3)] == [b"boot:0x7\r\n", b"a\xc0b", b"\xdb\xdc"]
    with pytest.raises(SilenceError, match="no answer"):
        next(frames)


# --- a boot loader that we did not write -----------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its pipes
@pytest.mark.parametrize("chip", ["esp32", "esp32c3", "esp8266"])
def test_against_an_independent_boot_loader(chip: str) -> None:
    require_package("esp32_mock_bootloader")
    from esp32_mock_bootloader import mock_bootloader  # the package may be absent

    # Else it ends 3 s after the last write, whatever it is asked meanwhile.
    with mock_bootloader(chip=chip, exit_on_disconnect=True) as mock:
        board = EspBoard(mock.url(), 460800)
        try:
            info = board.probe()
            assert info.chip == chip
            assert str(info.identity).startswith("mac:")
            write(board, APP)
            assert differing(board, [APP]) == []
            assert board.digest(APP.offset, len(IMAGE)) == digest(IMAGE)
            assert board.read(APP.offset, len(IMAGE)) == IMAGE
            with suppress(Failed):  # a socket has no lines to reset an ESP32
                board.reset()
        finally:
            board.close()
