# SPDX-License-Identifier: Apache-2.0
"""UF2 files after reports about other programs: what each is, and what boards hold afterwards."""

import io
import struct
from typing import NamedTuple

import pytest

from flash.kit import held
from flash.pico_rom import BootRom
from fwsign.errors import FwsignError, Malformed
from fwsign.flash.boards.board import Board
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judged, Options, Outcome
from fwsign.flash.pico import uf2 as pico_uf2
from fwsign.flash.pico.picoboot import PicobootBoard
from fwsign.flash.pico.usb import UsbLink
from fwsign.flash.simulate import Simulated
from fwsign.images import Image, recognise
from fwsign.images.uf2 import place_expected, places_of
from support import cases, needs_cases

pytestmark = [pytest.mark.external, needs_cases()]

FLASH = 0x10000000
NOT_FIRST = "the block for erratum RP2350-E10 is not the first, and so of no use"
BOTH = (("rp2040", 0), ("rp2350", 0))
PICO, PICO2 = BOTH[:1], BOTH[1:]
RAM = "for {} it is a program in RAM, which no flash keeps"
MIXED = "families are interleaved: a boot ROM may begin its count again with each change"


class Right(NamedTuple):
    """What is right for a file.

    Args:
        places: chips and offsets at which it is signed; none: as a file.
        notes: what its remarks begin with.
        chip: the chip that is named although it has no place.
    """

    places: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    chip: str | None = None


READ = {
    "e07-tinyuf2-s3": Right(
        (), ("it is for the drive of a UF2 boot loader on an esp32s3",), "esp32s3"
    ),
    "u01b-universal-2350first": Right(BOTH),
    "u01c-universal-3": Right(BOTH, ("for the same place in the flash of rp2350, left out",)),
    "u01d-e10-notag-last": Right(PICO2, (NOT_FIRST,)),
    "u01e-e10-pico2-4MB": Right(PICO2),
    "u02-join-per-family": Right(BOTH, (MIXED,)),
    "u02b-interleaved": Right(BOTH, (MIXED,)),
    "u02c-file-wide-count": Right(BOTH, ("one count for all families: a boot ROM waits",)),
    "u02d-reversed": Right(PICO),
    "u05-short-last": Right(PICO, ("a boot ROM drops blocks that are shorter than 256",)),
    "u07-pt-absolute": Right(PICO2),
    "u07b-pt-plus-app": Right(
        PICO2,
        (
            "the image covers the partition table that comes with it",
            "a boot ROM restarts rp2350 after the 16 blocks of absolute",
            NOT_FIRST,
        ),
    ),
    "u07c-combine-one-family": Right(PICO2),
    "u07d-abs-app": Right(PICO2),
    "u07e-data": Right((("rp2350", 0x10000),)),
    "u08-holes": Right(PICO),
    "u09-tags": Right(),
    "u09b-file-container": Right((), ("it holds files for the file system of a board's drive",)),
    "u09c-476": Right(),
    "u09d-notmain": Right(),
    "u09e-no-family": Right(),
    "u09f-unaligned-addr": Right(),
    "u10d-payload-bit": Right(PICO),  # no checksum covers it
    "u11-rp2350-32mb": Right((("rp2350", 0x1800000),)),
    "u11b-xip-sram": Right((), (RAM.format("rp2350"),), "rp2350"),
    "u11c-2040-xipram": Right((), (RAM.format("rp2040"),), "rp2040"),
    "u11d-ram-only": Right((), (RAM.format("rp2350"),), "rp2350"),
}
REFUSED = {
    "u04-2350-as-2040": "crc of boot2: expected 0x",
    "u06-overlap": "expected nothing else before 0x90000100, found 0x90000080",
    "u10-truncated": "number of blocks: expected 4, found 3",
    "u10b-half-block": "size: expected a multiple of 512 bytes, found 1948 bytes",
    "u10c-boot2-bit": "crc of boot2: expected 0x",
    "u10e-one-foreign": "of one count with others: expected an image from 0x10000000 on",
    "u10f-dup-block": "found 0 of 4 again",
}
FLASHED = [
    (name, chip)
    for name, right in READ.items()
    for chip, offset in right.places
    if offset < 1 << 24 and name != "u08-holes"
]


def data_of(name: str) -> bytes:
    return (cases() / "images" / f"{name}.uf2").read_bytes()


def image_of(name: str) -> Image:
    return recognise(io.BytesIO(data_of(name)))


def test_every_file_has_its_row() -> None:
    found = {path.stem for path in (cases() / "images").glob("*.uf2")}
    assert found == {*READ, *REFUSED}


@pytest.mark.parametrize("name", READ)
def test_file_is_read(name: str) -> None:
    right, image = READ[name], image_of(name)
    assert image.kind == "uf2"
    assert places_of(image) == right.places
    assert image.chip == (right.places[0][0] if len(right.places) == 1 else right.chip)
    assert len(image.notes) == len(right.notes), image.notes
    for note, words in zip(image.notes, right.notes, strict=True):
        assert note.startswith(words)
    for chip in ("rp2040", "rp2350"):
        expected = place_expected(image, chip, 0)
        assert (expected is None) == ((chip, 0) in right.places)
        assert (expected == "file") == (not right.places)


@pytest.mark.parametrize("name", REFUSED)
def test_file_is_refused(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        image_of(name)
    assert caught.value.code == "malformed.image"
    assert REFUSED[name] in caught.value.message


def test_tags_give_the_version() -> None:
    assert image_of("u09-tags").version == "1.0"


# --- on boards ----------------------------------------------------------------------------------


def run(name: str, chip: str, board: Board, options: Options | None = None) -> Outcome:
    """Flash a file as it is signed by default."""
    data = data_of(name)
    parts = {f"{one}@0x{at:x}": data for one, at in READ[name].places}
    judged = Judged(held(parts), lambda: None)
    found = flash(lambda _: board, lambda _: judged, options or Options(), lambda _: None)
    assert {one.region.component.split("@")[0] for one in found.regions} <= {chip}
    return found


def usb(rom: BootRom) -> PicobootBoard:
    chip = "rp2350" if rom.rp2350 else "rp2040"
    return PicobootBoard(UsbLink(rom, chip, 1, 3, 0x84, rom.release))


def expected(name: str, chip: str, before: bytes) -> bytes:
    """Return what the flash must hold, from the blocks alone; later blocks cover earlier ones."""
    families = (
        {0xE48BFF56} if chip == "rp2040" else {0xE48BFF57, 0xE48BFF58, 0xE48BFF59}
    )  # no case has an image for RISC-V alone
    content, data = bytearray(before), data_of(name)
    for start in range(0, len(data), 512):
        fields = struct.unpack_from("<8I", data, start)
        page = data[start + 32 :][: fields[4]]
        if fields[7] in families and page != b"\xef" * 256:
            content[fields[3] - FLASH : fields[3] - FLASH + len(page)] = page
    return bytes(content)


@pytest.mark.parametrize(("name", "chip"), FLASHED)
def test_board_takes_its_part_over_picoboot(name: str, chip: str) -> None:
    rom = BootRom(chip)
    found = run(name, chip, usb(rom))
    assert found.status == "verified", found.error
    assert rom.restarted
    assert rom.flash == expected(name, chip, b"\xff" * len(rom.flash))


@pytest.mark.parametrize(("name", "chip"), FLASHED)
def test_boot_rom_takes_what_the_drive_gets(name: str, chip: str) -> None:
    with Simulated(f"sim:pico-bootsel?chip={chip}") as simulated:
        board = pico_uf2.connect(simulated.port)(0)
        found = run(name, chip, board, Options(accept_unverifiable=True))
        assert found.status == "not verifiable", found.error
        assert simulated.machine.restarted
        assert simulated.flash == expected(name, chip, b"\xff" * len(simulated.flash))
        # Three have no image, or one outside of the only partition of its table.
        if name not in ("u07e-data", "u07-pt-absolute", "u07c-combine-one-family"):
            assert simulated.machine.starts()


def test_gaps_in_a_sector_keep_what_the_flash_holds() -> None:
    rom = BootRom("rp2040", bytes(range(256)) * 64)
    before = bytes(rom.flash)
    found = run("u08-holes", "rp2040", usb(rom))
    assert found.status == "verified", found.error
    right = bytearray(expected("u08-holes", "rp2040", before))
    right[0x900:0x1000] = b"\xff" * 0x700  # the rest of a sector after the last page in it
    right[0x3900:0x4000] = b"\xff" * 0x700
    assert rom.flash == right


def test_gaps_in_a_sector_are_refused_where_they_cannot_be_kept() -> None:
    with Simulated("sim:pico-bootsel") as simulated:
        board = pico_uf2.connect(simulated.port)(0)
        found = run("u08-holes", "rp2040", board, Options(accept_unverifiable=True))
        assert (found.status, found.touched) == ("refused", False)
        assert isinstance(found.error, FwsignError)
        assert found.error.code == "unsuitable.region"
        assert "leaves out 1024 bytes at 0x400" in found.error.message
        assert "fwsign[usb]" in (found.error.hint or "")


@pytest.mark.parametrize("through", ["picoboot", "drive"])
def test_second_flash_that_a_board_does_not_have_is_refused(through: str) -> None:
    with Simulated("sim:pico-bootsel?chip=rp2350") as simulated:
        drive = pico_uf2.connect(simulated.port)(0)
        board = drive if through == "drive" else usb(BootRom("rp2350", bytes(range(256))))
        found = run("u11-rp2350-32mb", "rp2350", board, Options(accept_unverifiable=True))
    assert (found.status, found.touched) == ("refused", False)
    assert found.error is not None
    assert found.error.code == "unsuitable.flash-size"
    assert "ends at 0x1800400, the board's flash at 0x" in found.error.message
