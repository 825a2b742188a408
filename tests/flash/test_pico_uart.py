# SPDX-License-Identifier: Apache-2.0
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flash.kit import judging
from flash.pico_kit import START, XIP, Bench, bench, no_progress, padded, program, run
from fwsign.errors import Failed, Unsuitable
from fwsign.flash.boards.board import Board, Run
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Options, Outcome
from fwsign.flash.pico import line as pico_line
from fwsign.flash.pico import uart as pico_uart
from fwsign.flash.pico.line import PicoLine
from fwsign.flash.pico.uart import connect, refuse_unbootable
from fwsign.flash.simulate import Settings, Simulated, check
from fwsign.flash.simulate.line import Fault, Line
from fwsign.flash.simulate.noise import Noisy
from fwsign.flash.simulate.pico_uart import HEADER, SIZE, Simulator
from support import refused

SAMPLES = Path(__file__).parents[2] / "firmware-samples"
PROGRAM = program(3 * 4096 + 1001)
HELLO = b"SYNC"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pico_uart, "ANSWER", 0.3)
    monkeypatch.setattr(pico_line, "ANSWER", 0.3)
    monkeypatch.setattr(pico_line, "_SYNC", 0.05)
    monkeypatch.setattr(pico_line, "_QUIET", 0.01)
    # Closing a socket takes pyserial 0.3 s.
    monkeypatch.setattr("serial.urlhandler.protocol_socket.time", SimpleNamespace(sleep=id))


def install(board: Board, data: bytes) -> tuple[str, ...]:
    """Do what the engine does, without its judgement."""
    board.write([run(data)], no_progress)
    return board.finish([Run(START, data)])


# --- what it says of itself -------------------------------------------------------------------


def test_info_gives_all_places() -> None:
    with bench() as it, it.board() as board:
        info = board.probe()
    assert (info.kind, info.chip, info.identity) == ("pico-uart", "rp2040", None)
    assert (info.start, info.sector, info.digest, info.digest_block) == (START, 4096, "crc32", 4096)
    assert info.readable
    assert info.details == (("boot loader", "PICO"), ("block", "1024"))


def test_last_sector_is_not_offered_because_the_boot_loader_refuses_it() -> None:
    with bench() as it, it.board() as board:
        size = board.probe().flash_size
        assert size == SIZE - 4096
        board.write([Run(size - 4096, bytes(4096))], no_progress)
        with pytest.raises(Failed, match="the boot loader refused ERAS") as refusal:
            board.write([Run(size, bytes(4096))], no_progress)
    assert refusal.value.code == "device.refused"


@pytest.mark.parametrize(
    ("register", "chip", "identity"),
    [
        (0x10002927, "rp2040", None),
        (0x20004927, "rp2350", "chipid:0123456789abcdef"),
    ],
)
def test_chip_is_read_from_its_register(
    register: int, chip: str | None, identity: str | None
) -> None:
    with bench() as it:
        it.machine.chip_id = register
        with it.board() as board:
            info = board.probe()
    assert (info.chip, info.identity) == (chip, identity)


def test_chip_that_is_not_known_is_not_taken_for_one_that_does_not_tell() -> None:
    with bench() as it:
        it.machine.chip_id = 0xFFFFFFFF
        with it.board() as board, refused("device.protocol", "no chip that is known has the id"):
            board.probe()


@pytest.mark.parametrize("at", range(4))
def test_flipped_bit_does_not_change_which_chip_or_board_it_is(at: int) -> None:
    with bench() as it:
        it.machine.chip_id = 0x20004927
        with it.board() as board:
            # After OKOK of each READ: the chip's register, then the chip's id.
            it.line._faults.append(Fault("flip-back", it.line._sent + 4 + 16 * (at // 2) + at % 2))
            with refused("device.protocol", "was read as "):
                board.probe()


def test_chip_without_an_id_has_no_identity() -> None:
    with bench() as it:
        it.machine.chip_id, it.machine.otp_id = 0x20004927, bytes(8)
        with it.board() as board:
            assert board.probe().identity is None


def test_boot_loader_that_refuses_to_read_registers_is_used_all_the_same() -> None:
    with bench(("nak", 2)) as it, it.board() as board:  # SYNC, INFO, READ
        assert board.probe().chip is None
        assert board.read(0, 8) == b"\xff" * 8


def test_cable_pulled_while_the_chip_is_read_is_a_lost_connection() -> None:
    failing = pytest.raises(Failed)
    with bench(("cable", 16 + 4 + 4 + 5)) as it, it.board() as board, failing as failure:
        board.probe()
    assert failure.value.code == "device.lost"


def test_simulator_knows_what_the_client_does_not_use() -> None:
    machine = Simulator(Settings("pico-uart", flash=bytes(START) + PROGRAM))
    machine.receive(b"SYNC")
    words = struct.unpack("<4I", PROGRAM[:16])
    expected = b"OKOK" + struct.pack("<I", sum(words) & 0xFFFFFFFF)
    assert machine.receive(b"CSUM" + struct.pack("<II", XIP + START, 16)) == expected
    assert machine.receive(b"GOGO" + struct.pack("<I", XIP + START)) == b""
    assert machine.running


def test_picowota_is_accepted() -> None:
    with bench() as it:
        it.machine.name = b"WOTA"
        with it.board() as board:
            assert ("boot loader", "WOTA") in board.probe().details


@pytest.mark.parametrize(
    "words",
    [
        (0x20004000, 0x1FC000, 4096, 256, 1024),
        (0x10000000, 0x1FC000, 4096, 256, 1024),
        (0x10004000, 0x2000000, 4096, 256, 1024),
        (0x10004000, 0x1FC000, 1000, 256, 1024),
        (0x10004000, 0x1FC000, 4096, 0, 1024),
        (0x10004000, 0x1FC000, 4096, 256, 255),
        (0x10004000, 4096, 4096, 256, 1024),
        (0x10004100, 0x1FC000, 4096, 256, 1024),
    ],
)
def test_info_that_cannot_be_is_refused(
    words: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Simulator, "_info", lambda *_: struct.pack("<5I", *words))
    with bench() as it, pytest.raises(Failed, match="INFO is not possible") as refusal, it.board():
        pass
    assert refusal.value.code == "device.protocol"


# --- writing, comparing, starting ---------------------------------------------------------------


def test_program_is_written_sealed_and_started() -> None:
    with bench() as it, it.board() as board:
        assert install(board, PROGRAM) == ()
        assert it.machine.sealed()
        assert board.read(START, len(PROGRAM)) == PROGRAM
        board.reset()
        board.close()
        board.close()
        assert it.machine.running
    assert bytes(it.machine.flash[START : START + len(padded(PROGRAM))]) == padded(PROGRAM)


@pytest.mark.parametrize("size", [4, 1001, 4096, 8190])
def test_digest_is_crc32_of_any_size(size: int) -> None:
    with bench(flash=bytes(START) + PROGRAM) as it, it.board() as board:
        expected = zlib.crc32(PROGRAM[:size]).to_bytes(4, "big")
        assert board.digest(START, size) == expected


def test_reading_starts_and_ends_anywhere() -> None:
    with bench(flash=bytes(START) + PROGRAM) as it, it.board() as board:
        assert board.read(START + 3, 6001) == PROGRAM[3:6004]


def test_erased_blocks_are_not_sent() -> None:
    data = PROGRAM[:1024] + b"\xff" * 7168
    with bench(flash=bytes(SIZE)) as it, it.board() as board:
        board.write([Run(START, data)], no_progress)
    assert it.machine.commands.count(b"WRIT") == 1
    assert it.machine.flash[START : START + len(data)] == data


def test_header_that_fits_is_not_written_again() -> None:
    with bench() as it, it.board() as board:
        install(board, PROGRAM)
        assert board.finish([Run(START, PROGRAM)]) == ()
    assert it.machine.commands.count(b"SEAL") == 1


def test_seal_covers_what_follows_in_the_last_word() -> None:
    flash = bytes(START) + PROGRAM + b"\x12\x34\x56\x78"  # left there by something else
    with bench(flash=flash) as it, it.board() as board:
        board.finish([Run(START, PROGRAM)])
    assert it.machine.sealed()


def test_seal_that_does_not_fit_is_refused() -> None:
    with bench() as it, it.board() as board, pytest.raises(Failed, match="refused SEAL") as refusal:
        board.finish([Run(START, PROGRAM)])
    assert refusal.value.code == "device.refused"
    assert not it.machine.sealed()


def test_note_says_so_where_no_program_was_written() -> None:
    with bench() as it, it.board() as board:
        assert board.finish([Run(0x8000, PROGRAM)]) == (
            "boot not controlled: nothing was written at 0x4000",
        )


def test_boot_loader_without_boot_says_so() -> None:
    with bench(("nak", 2)) as it, it.board() as board, pytest.raises(Failed, match="refused BOOT"):
        board.reset()


@pytest.mark.parametrize(
    ("vectors", "found"),
    [
        ((0x1FFFFFFF, 0x10004101), "stack pointer 0x1fffffff, reset vector 0x10004101"),
        ((0x20042000, 0x10004100), "reset vector 0x10004100"),
        ((0x20042000, 0x10000101), "reset vector 0x10000101"),  # linked for the start of flash
        ((0x20042000, 0x10005001), "reset vector 0x10005001"),
    ],
)
def test_program_for_another_place_is_refused(vectors: tuple[int, int], found: str) -> None:
    data = struct.pack("<II", *vectors) + bytes(1000)
    with pytest.raises(Unsuitable, match="linked to 0x10004000") as refusal:
        refuse_unbootable(Run(START, data))
    assert refusal.value.code == "unsuitable.payload"
    assert str(refusal.value).endswith(found)


def test_program_without_vectors_is_refused() -> None:
    with pytest.raises(Unsuitable, match="found 7 bytes"):
        refuse_unbootable(Run(START, bytes(7)))


def test_sample_program_is_one_that_the_boot_loader_starts() -> None:
    sample = (SAMPLES / "blink-rp2040-uart.bin").read_bytes()
    refuse_unbootable(Run(START, sample))
    with bench() as it, it.board() as board:
        install(board, sample)
        board.reset()
    assert it.machine.running


# --- noise and half-sent commands ---------------------------------------------------------------

_BLOCK = PROGRAM[:1024]
STREAM = (
    HELLO
    + b"INFO"
    + b"READ" + struct.pack("<II", XIP + START, 1024)
    + b"CRCC" + struct.pack("<II", XIP + START, 4096)
    + b"ERAS" + struct.pack("<II", XIP + START, 0x11000)
    + b"WRIT" + struct.pack("<II", XIP + START, 1024) + _BLOCK
    + b"SEAL" + struct.pack("<III", XIP + START, 1024, zlib.crc32(_BLOCK))
)  # fmt: skip


def half_sent(stream: bytes) -> None:
    """Leave the boot loader where a host has sent this much, and connect again."""
    machine = Simulator(Settings("pico-uart"))
    machine.receive(stream)
    line = PicoLine(_Wire(machine), 1, ahead=2)  # type: ignore[arg-type]
    board = pico_uart._UartBoard(line)
    board.write([run(PROGRAM)], no_progress)
    board.finish([Run(START, PROGRAM)])
    assert machine.sealed()
    assert machine.flash[START:].startswith(PROGRAM)


class _Wire:
    """A port without a line, so that thousands of connections take no time."""

    url = "wire"

    def __init__(self, machine: Simulator) -> None:
        self._machine, self._answers = machine, b""

    def write(self, data: bytes) -> None:
        self._answers += self._machine.receive(data)

    def read(self, size: int) -> bytes:
        data, self._answers = self._answers[:size], self._answers[size:]
        return data

    def drop_input(self) -> None:
        self._answers = b""

    def set_timeout(self, seconds: float) -> None:
        assert seconds > 0


@pytest.mark.parametrize("cut", range(len(STREAM) - len(_BLOCK) + 1))
def test_connects_again_after_a_host_that_stopped_anywhere(cut: int) -> None:
    at = STREAM.index(_BLOCK)
    half_sent(STREAM[: cut if cut <= at else cut + len(_BLOCK)])


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(STREAM)))
def test_connects_again_after_any_cut(cut: int) -> None:
    half_sent(STREAM[:cut])


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=40), synced=st.booleans())
def test_connects_again_after_noise(noise: bytes, synced: bool) -> None:
    half_sent((HELLO if synced else b"") + noise)


def test_half_matched_sync_is_not_waited_for() -> None:
    half_sent(b"S")


def test_connects_again_over_a_real_line() -> None:
    at = STREAM.index(_BLOCK) + 300
    with bench(("cable", at)) as it:
        port = connect(it.line.port)
        with pytest.raises(Failed), it.board() as board:
            board.write([run(PROGRAM)] * 9, no_progress)
        board = port(1)
        install(board, PROGRAM)
        board.close()
        assert it.machine.sealed()


@pytest.mark.parametrize("attempt", [0, 1])
def test_board_that_runs_something_else_is_absent(attempt: int) -> None:
    with bench() as it:
        it.machine.running = True
        with pytest.raises(Failed, match="no boot loader answers") as refusal, it.board(attempt):
            pass
    assert refusal.value.code == "device.absent"


def test_program_that_talks_without_end_is_no_boot_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Wire, "read", lambda _, size: b"log " * (size // 4))
    with pytest.raises(Failed, match="no boot loader answers"):
        PicoLine(_Wire(Simulator(Settings(""))), 1, ahead=2)  # type: ignore[arg-type]


def test_closed_port_cannot_be_opened() -> None:
    with bench() as it:
        port = it.line.port
    with pytest.raises(Failed) as refusal:
        connect(port)(0)
    assert refusal.value.code == "device.port"


# --- faults -------------------------------------------------------------------------------------


def test_refused_command_says_which() -> None:
    refusals = [("nak", number) for number in range(2, 20)]
    with bench(*refusals) as it, it.board() as board, pytest.raises(Failed) as refusal:
        board.write([run(PROGRAM)], no_progress)
    assert refusal.value.code == "device.refused"
    assert refusal.value.message == "the boot loader refused ERAS"


@pytest.mark.parametrize("number", range(2, 12))
def test_command_that_is_refused_once_is_sent_again(number: int) -> None:
    with bench(("nak", number)) as it, it.board() as board:
        board.write([run(PROGRAM)], no_progress)
    assert it.machine.flash[START : START + len(padded(PROGRAM))] == padded(PROGRAM)


@pytest.mark.parametrize("at", [0, 100, 1023, 1024 + 12, 4096 + 48 + 7])
def test_bit_flipped_in_data_costs_one_sector(at: int) -> None:
    start = len(HELLO + b"INFO") + 12 + 12 + at
    with bench(("flip", start)) as it, it.board() as board:
        board.write([run(PROGRAM)], no_progress)
    assert it.machine.flash[START : START + len(padded(PROGRAM))] == padded(PROGRAM)
    assert it.machine.commands.count(b"ERAS") == 2
    assert it.machine.received < len(PROGRAM) * 1.5


@pytest.mark.parametrize("at", [4 + 24 + 1, 4 + 24 + 4 + 100, 4 + 24 + 4 + 4096 + 14])
def test_bit_flipped_in_what_is_read_costs_one_block(at: int) -> None:
    flash = bytes(START) + PROGRAM
    with bench(("flip-back", at), flash=flash) as it, it.board() as board:
        assert board.read(START, 4096) == PROGRAM[:4096]


def test_what_can_never_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulator, "_crcc", lambda *_: b"\0\0\0\0")
    failing = pytest.raises(Failed, match="damaged on its way")
    with bench(flash=bytes(START) + PROGRAM) as it, it.board() as board, failing as refusal:
        board.read(START, 4096)
    assert refusal.value.code == "device.protocol"


def test_boot_loader_that_goes_away_after_noise_keeps_the_first_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bench(("nak", 2)) as it, it.board() as board:
        monkeypatch.setattr(Simulator, "_wait_for_sync", lambda _: None)
        with pytest.raises(Failed, match="refused ERAS"):
            board.write([run(PROGRAM)], no_progress)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [1e-5, 1e-4])
def test_noise_on_the_line_only_costs_time(rate: float, seed: int) -> None:
    data = program(60_000, seed)
    machine = Simulator(Settings("pico-uart"))
    noisy = Noisy(machine, rate * (1 + seed / 100))
    with Line(noisy) as line:
        judge = judging({f"rp2040@0x{START:x}": data})
        outcome = flash(connect(line.port), judge, Options(), lambda _: None)
    assert outcome.status == "verified", outcome.error
    assert machine.flash[START : START + len(data)] == data
    assert machine.sealed()
    assert machine.received < 3 * len(data)
    assert noisy.damaged > 0 or rate < 1e-4


@pytest.mark.parametrize("rate", ["x", "1", "-1", "nan", ""])
def test_noise_that_is_no_probability_is_refused(rate: str) -> None:
    with refused("device.port", f"noise={rate}, expected noise with a number from 0 to below 1"):
        check(f"sim:pico-uart?noise={rate}")


def test_noise_is_for_pico_uart_and_smp() -> None:
    check("sim:pico-uart?noise=1e-4")
    check("sim:smp?noise=1e-4")
    with refused("device.port", "noise, expected fault=noise@N for an ESP"):
        check("sim:esp32?noise=1e-4")


def test_answer_that_is_none_is_refused() -> None:
    failing = pytest.raises(Failed, match="answered INFO")
    with bench(("flip-back", 4)) as it, failing as refusal, it.board():
        pass
    assert refusal.value.code == "device.protocol"


def test_byte_that_cannot_be_programmed_is_noticed() -> None:
    data = program(4096)[:-1] + b"\0"
    failing = pytest.raises(Failed, match="the flash at 0x4c00")
    with bench(("stuck", START + 4095)) as it, it.board() as board, failing as refusal:
        board.write([run(data)], no_progress)
    assert refusal.value.code == "device.mismatch"


def test_boot_loader_that_lies_is_caught_by_reading() -> None:
    data = program(4096)[:-1] + b"\0"
    with bench(("stuck", START + 4095), ("lie", 0)) as it, it.board() as board:
        board.write([run(data)], no_progress)
        assert board.digest(START, 4096) == zlib.crc32(data).to_bytes(4, "big")
        with pytest.raises(Failed, match="damaged on its way"):
            board.read(START, 4096)


def test_noise_of_the_simulator_damages_both_ways() -> None:
    with Simulated("sim:pico-uart?noise=0.01") as simulated:
        assert connect(simulated.port) is not None
    noisy = Noisy(Simulator(Settings("pico-uart", baud=1)), 0.5)
    noisy.connected()
    noisy.left()
    assert noisy.baud == 1
    assert noisy.receive(bytes(100)) == b""
    assert 20 < noisy.damaged < 80


@pytest.mark.parametrize("sector", [HEADER // 4096, *range(4, 8)])
def test_power_loss_is_survived(sector: int) -> None:
    with bench() as it:
        with it.board() as board:
            install(board, program(len(PROGRAM), seed=2))
        it.machine._faults.append(Fault("power", sector))
        with pytest.raises(Failed) as failure, it.board() as board:
            install(board, PROGRAM)
        assert failure.value.code == "device.lost"
        assert not it.machine.running  # neither the old nor half of the new one
        with it.board(1) as board:
            install(board, PROGRAM)
        assert it.machine.sealed()


def test_half_an_answer_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulator, "_crcc", lambda *_: b"\0\0")
    failing = pytest.raises(Failed, match="no whole answer to CRCC")
    with bench() as it, it.board() as board, failing as failure:
        board.digest(START, 4096)
    assert failure.value.code == "device.lost"


# --- with the engine --------------------------------------------------------------------------


def engine(it: Bench, data: bytes) -> Outcome:
    judge = judging({f"rp2040@0x{START:x}": data})
    return flash(connect(it.line.port), judge, Options(), lambda _: None)


def test_engine_flashes_verifies_seals_and_starts() -> None:
    with bench() as it:
        outcome = engine(it, PROGRAM)
        assert (outcome.status, outcome.notes, outcome.error) == ("verified", (), None)
        assert it.machine.sealed()
        assert it.machine.running


def test_program_for_another_place_is_refused_before_the_first_erase() -> None:
    with bench() as it:
        outcome = engine(it, struct.pack("<II", 0x20042000, XIP + 0x101) + bytes(1000))
        assert outcome.status == "refused"
        assert outcome.error is not None
        assert outcome.error.code == "unsuitable.payload"
        assert b"ERAS" not in it.machine.commands


def test_program_for_another_chip_is_refused() -> None:
    with bench() as it:
        it.machine.chip_id = 0x20004927
        outcome = engine(it, PROGRAM)
        assert outcome.error is not None
        assert outcome.error.code == "unsuitable.chip"
        assert b"ERAS" not in it.machine.commands


_FAULTS = st.one_of(
    st.tuples(st.sampled_from(["cable", "flip"]), st.integers(0, 15_000)),
    st.tuples(st.just("flip-back"), st.integers(0, 15_000)),
    st.tuples(st.just("nak"), st.integers(0, 40)),
    st.tuples(st.just("power"), st.integers(3, 7)),
    st.tuples(st.just("stuck"), st.integers(START, START + len(PROGRAM))),
)


@settings(max_examples=30, deadline=None)
@given(fault=_FAULTS, lies=st.booleans())
@example(fault=("power", 3), lies=False)
@example(fault=("stuck", START + 5000), lies=True)
def test_after_any_single_fault_the_board_is_verified_or_said_not_to_be(
    fault: tuple[str, int], lies: bool
) -> None:
    with bench(fault, *([("lie", 0)] if lies else [])) as it:
        outcome = engine(it, PROGRAM)
        if outcome.status == "verified":
            assert bytes(it.machine.flash[START : START + len(PROGRAM)]) == PROGRAM
            assert it.machine.sealed()
        else:
            assert outcome.status == "incomplete"
            assert not it.machine.running
            assert fault[0] in ("stuck", "power")


# --- how much goes over the line ------------------------------------------------------------------


def test_one_changed_byte_costs_one_sector() -> None:
    data = program(200_000)
    changed = data[:100_000] + bytes([data[100_000] ^ 1]) + data[100_001:]
    with bench() as it:
        assert engine(it, data).status == "verified"
        full = it.machine.received
        it.machine.running = False
        assert engine(it, changed).status == "verified"
        partial = it.machine.received - full
        assert bytes(it.machine.flash[START : START + len(changed)]) == changed
    assert full > 200_000
    assert partial < 10_000  # a sector, and the commands to compare and read all
