# SPDX-License-Identifier: Apache-2.0
"""The simulated Pico in BOOTSEL mode, by itself and with the flasher."""

import io
import random
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash.kit import board_info
from flash.pico_kit import no_progress
from flash.test_plan import make
from fwsign.errors import Failed
from fwsign.flash.backends import ConnectOptions, attached, kind_for
from fwsign.flash.boards.board import Run
from fwsign.flash.pico.uf2 import build
from fwsign.flash.simulate import Settings, Simulated, check
from fwsign.flash.simulate.pico_bootsel import SIZES, Simulator
from fwsign.images import recognise
from images.test_images_uf2 import (
    ABSOLUTE,
    ACCEPTS_ARM,
    ARM,
    FLASH,
    ORDERS,
    RISCV,
    RP2040,
    STM32,
    B,
    joined,
    numbered,
    pack,
    program,
    table,
    with_table,
    workaround,
)
from support import require_package

INFO = board_info(kind="pico-uf2", chip="rp2040", digest=None, flash_size=None)
SAMPLES = Path(__file__).parents[2] / "firmware-samples"


def board(chip: str, flash: bytes = b"") -> Simulator:
    return Simulator(Settings("pico-bootsel", flash=flash, chip=chip))


def taken(machine: Simulator, file: bytes) -> Simulator:
    for at in range(0, len(file), 512):
        machine.take(file[at : at + 512])
    return machine


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_published_file_starts(chip: str) -> None:
    machine = taken(board(chip), (SAMPLES / f"blink-{chip}.uf2").read_bytes())
    assert machine.restarted
    assert machine.starts()
    assert not board(chip).starts()


@pytest.mark.parametrize("order", ["joined", "reversed", "workaround first"])
def test_universal_file_as_it_is(order: str) -> None:
    one, two = program(RP2040), program(ARM)
    file = pack(ORDERS[order](one, two))
    for chip, image in (("rp2040", one), ("rp2350", two)):
        machine = taken(board(chip), file)
        assert machine.restarted
        assert machine.starts()
        assert machine.flash[:1024] == joined(image)
        assert machine.dropped >= 4


def test_one_count_for_two_chips_never_ends() -> None:
    file = pack(ORDERS["one count"](program(RP2040), program(ARM)))
    for chip in ("rp2040", "rp2350"):
        assert not taken(board(chip), file).restarted


def test_short_block_never_ends() -> None:
    blocks = program(RP2040)
    blocks[3] = blocks[3]._replace(data=blocks[3].data[:100])
    machine = taken(board("rp2040"), pack(blocks))
    assert (machine.restarted, machine.dropped) == (False, 1)


@pytest.mark.parametrize(
    "block",
    [
        B(STM32, 0x10000000, bytes(256), 0, 1),
        B(RP2040, 0x10000000, bytes(256), 1, 1),
        B(RP2040, 0x10000000, bytes(256), 0, 1, 0x2001),
        B(RP2040, 0x10000000, bytes(256), 0, 1, 0),
        B(RP2040, 0x10000080, bytes(256), 0, 1),
        B(RP2040, 0x11000000, bytes(256), 0, 1),
        B(RP2040, 0x0FFFFF00, bytes(256), 0, 1),
    ],
)
def test_block_of_no_use_is_dropped(block: B) -> None:
    machine = taken(board("rp2040"), pack([block]))
    assert (machine.restarted, machine.dropped) == (False, 1)
    assert machine.flash == b"\xff" * len(machine.flash)


def test_what_comes_after_the_restart_is_dropped() -> None:
    machine = taken(board("rp2040"), pack(program(RP2040) + program(RP2040, seed=2)))
    assert machine.dropped == 4
    assert machine.flash[:1024] == joined(program(RP2040))


def test_sector_is_erased_once() -> None:
    machine = taken(board("rp2040", bytes(8192)), pack(program(RP2040)))
    assert machine.flash[1024:4096] == b"\xff" * 3072
    assert machine.flash[4096:8192] == bytes(4096)


def test_program_in_ram_starts_without_flash() -> None:
    machine = taken(board("rp2040"), pack([B(RP2040, 0x20000000, bytes(256), 0, 1)]))
    assert machine.restarted
    assert not machine.starts()


def test_workaround_begins_no_count_that_stays() -> None:
    machine = taken(board("rp2350"), pack([workaround(), *program(ARM)]))
    assert machine.restarted
    assert machine.starts()


def test_image_goes_into_a_partition() -> None:
    blocks = with_table([(2, ACCEPTS_ARM)])
    machine = taken(board("rp2350", blocks[0].data), pack(blocks[2:]))
    assert machine.flash[0x2000:0x2400] == joined(blocks[2:])
    assert machine.starts()
    machine = taken(board("rp2350", table((2, 0))), pack(blocks[2:]))
    assert machine.flash[:1024] == joined(blocks[2:])  # no partition accepts it


def test_wide_items_are_passed_over() -> None:
    items = struct.pack("<6I", 0xFFFFDED3, 2 << 8 | 0x83, 0, 0x10210142, 0x3FF, 0)
    assert board("rp2350", items).starts()
    assert not board("rp2350", struct.pack("<3I", 0xFFFFDED3, 0x103, 0x1FF)).starts()


# --- through the flasher ------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_flasher_copies_and_the_board_restarts(chip: str, tmp_path: Path) -> None:
    port = f"sim:pico-bootsel?chip={chip}&flash={tmp_path / 'content'}"
    data = bytearray(random.Random(1).randbytes(8192))  # no secret
    data[:256] = program(RP2040)[0].data if chip == "rp2040" else program(ARM)[0].data
    assert kind_for(port, ["rp2040"]) == "pico-uf2"
    with attached(port, ConnectOptions("pico-uf2")) as connect:
        one = connect(0)
        info = one.probe()
        assert (info.chip, info.simulated, info.readable) == (chip, True, False)
        one.write([Run(0, bytes(data)), Run(0x10000, bytes(4096))], no_progress)
        one.close()
    content = (tmp_path / "content").read_bytes()
    assert content[:8192] == data
    assert content[0x10000:0x11000] == bytes(4096)
    assert board(chip, content).starts()


def test_partition_table_is_written_where_it_says() -> None:
    data = table((2, ACCEPTS_ARM)).ljust(4096, b"\xff")
    image = joined(program(ARM)).ljust(4096, b"\xff")
    with Simulated("sim:pico-bootsel?chip=rp2350") as simulated:
        from fwsign.flash.pico.uf2 import connect

        one = connect(simulated.port)(0)
        one.write([Run(0, data), Run(0x2000, image)], no_progress)
        assert simulated.flash[:0x1000] == data
        assert simulated.flash[0x2000:0x3000] == image
        assert simulated.machine.starts()


def test_any_file_that_is_copied_is_taken() -> None:
    with Simulated("sim:pico-bootsel") as simulated:
        folder = Path(simulated.port.removeprefix("drive:"))
        (folder / "blink.uf2").write_bytes((SAMPLES / "blink-rp2040.uf2").read_bytes())
        end = time.monotonic() + 10
        while (folder / "INFO_UF2.TXT").exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        assert simulated.machine.restarted


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("chip=rp2060", "no Pico has the chip rp2060, expected rp2040 or rp2350"),
        ("chip=", "chip=, expected chip with a name"),
        ("fault=nak@1", "a fault, baud or noise, expected a board with a line"),
        ("noise=0.1", "a fault, baud or noise, expected a board with a line"),
        ("baud=9600", "a fault, baud or noise, expected a board with a line"),
        ("id=0123456789abcdef", "id, expected a board that has one"),
        ("lock=secure-boot", "a lock, expected an ESP for it"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(more: str, words: str) -> None:
    with pytest.raises(Failed) as caught:
        check(f"sim:pico-bootsel?{more}")
    assert caught.value.code == "device.port"
    assert words in caught.value.message


def test_chip_is_for_this_board_alone() -> None:
    require_package("serial")
    with pytest.raises(Failed, match="chip, expected pico-bootsel for it"):
        check("sim:pico-uart?chip=rp2040")


def test_absolute_family_is_that_of_the_rp2350() -> None:
    machine = taken(board("rp2040"), pack(program(ABSOLUTE)))
    assert machine.dropped == 4
    assert taken(board("rp2350"), pack(program(ABSOLUTE))).restarted


# --- whatever is read is taken --------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    pages=st.sets(st.integers(1, 200), max_size=40),
    family=st.sampled_from([RP2040, ARM, RISCV, ABSOLUTE]),
    order=st.sampled_from(sorted(set(ORDERS) - {"interleaved", "one count, interleaved"})),
    seed=st.integers(0, 99),
)
def test_boot_rom_takes_what_was_read_from_any_file(
    pages: set[int], family: int, order: str, seed: int
) -> None:
    chip, other = ("rp2040", ARM) if family == RP2040 else ("rp2350", RP2040)
    first = program(family, pages=1, seed=seed)[0]
    later = [B(family, FLASH + 256 * page, bytes([page]) * 256) for page in sorted(pages)]
    mine = numbered([first, *later])
    file = pack(ORDERS[order](mine, program(other, pages=2, seed=seed)))
    image = recognise(io.BytesIO(file))
    assert dict(image.places)[chip] == 0
    expected = bytearray(b"\xff" * SIZES[chip])
    for block in mine:
        at = block.address - FLASH
        expected[at : at + 256] = block.data
    plan = make({f"{chip}@0x0": file}, INFO._replace(chip=chip), b"\xff" * 0x100000)
    machine = taken(board(chip), build([padded(one.run) for one in plan.regions], chip))
    assert machine.restarted
    assert machine.starts()
    assert machine.flash == expected


def padded(run: Run) -> Run:
    """Fill up the last sector, as the engine does."""
    return Run(run.offset, run.data.ljust(-(-len(run.data) // 4096) * 4096, b"\xff"))
