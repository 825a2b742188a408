# SPDX-License-Identifier: Apache-2.0
"""UF2 files as they are published: orders, counts, families, and what is refused."""

import hashlib
import io
import random
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from fwsign.errors import Malformed
from fwsign.images import Image, recognise, uf2, uf2_count
from fwsign.images.pico_block import has_partitions, partition_for
from fwsign.images.uf2 import boot2_crc, contents, place_expected, write_uf2

RP2040, ABSOLUTE, DATA = 0xE48BFF56, 0xE48BFF57, 0xE48BFF58
ARM, RISCV, ARM_NS = 0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B
STM32, ESP32S2, ESP32S3 = 0x57755A57, 0xBFDD4EEE, 0xC47E5767
FLASH = 0x10000000


class B(NamedTuple):
    """A UF2 block to be written."""

    family: int
    address: int
    data: bytes
    number: int = 0
    total: int = 0
    flags: int = 0x2000
    extra: bytes = b""


def pack(blocks: Sequence[B]) -> bytes:
    return b"".join(
        struct.pack(
            "<8I", 0x0A324655, 0x9E5D5157, b.flags, b.address, len(b.data), *b[3:5], b.family
        )
        + (b.data + b.extra).ljust(476, b"\0")
        + struct.pack("<I", 0x0AB16F30)
        for b in blocks
    )


def numbered(blocks: Sequence[B]) -> list[B]:
    return [b._replace(number=n, total=len(blocks)) for n, b in enumerate(blocks)]


def program(family: int, pages: int = 4, at: int = 0, seed: int = 1) -> list[B]:
    """Make the blocks of an image at an offset in flash; an RP2040's begins with a boot2."""
    data = bytearray(random.Random(seed + family).randbytes(256 * pages))  # no secret
    if family == RP2040 and at == 0:
        data[252:256] = struct.pack("<I", boot2_crc(bytes(data[:252])))
    if family in (ARM, RISCV, ABSOLUTE) and at == 0:
        kind = 0x11010142 if family == RISCV else 0x10210142
        data[:20] = struct.pack("<5I", 0xFFFFDED3, kind, 0x1FF, 0, 0xAB123579)
    return numbered(
        [B(family, FLASH + at + n, bytes(data[n : n + 256])) for n in range(0, len(data), 256)]
    )


def table(*partitions: tuple[int, int]) -> bytes:
    """Make a partition table of the first sectors of partitions, and their flags."""
    words = [0]
    for sector, flags in partitions:
        words += [sector | 0x3FF << 13, flags]
    head = len(partitions) << 24 | (len(words) + 1) << 8 | 0x0A
    return struct.pack(
        f"<{len(words) + 5}I", 0xFFFFDED3, head, *words, (len(words) + 1) << 8 | 0xFF, 0, 0xAB123579
    ).ljust(256, b"\0")


def joined(blocks: Sequence[B]) -> bytes:
    return b"".join(b.data for b in sorted(blocks, key=lambda b: b.address))


def workaround(at: int = 0x10FFFF00, *, tag: bool = True) -> B:
    extra = b"\x04\xe3\x57\x99" if tag else b""
    return B(ABSOLUTE, at, b"\xef" * 256, 0, 2, 0xA000 if tag else 0x2000, extra)


def read(blocks: Sequence[B]) -> Image:
    return recognise(io.BytesIO(pack(blocks)))


def refusal(blocks: Sequence[B]) -> str:
    with pytest.raises(Malformed) as caught:
        read(blocks)
    assert caught.value.code == "malformed.image"
    return caught.value.message


def flash_of(blocks: Sequence[B], chip: str) -> list[tuple[int, bytes]]:
    return [(address - FLASH, data) for address, data in contents(pack(blocks), chip)]


# --- orders and counts --------------------------------------------------------------------------


def shared(*images: list[B]) -> list[B]:
    return numbered([b for image in images for b in image])


def interleaved(*images: list[B]) -> list[B]:
    return [b for group in zip(*images, strict=True) for b in group]


ORDERS: dict[str, Callable[[list[B], list[B]], list[B]]] = {
    "joined": lambda a, b: a + b,
    "interleaved": interleaved,
    "one inside the other": lambda a, b: a[:2] + b + a[2:],
    "one count": shared,
    "one count, interleaved": lambda a, b: numbered(interleaved(a, b)),
    "reversed": lambda a, b: a[::-1] + b[::-1],
    "shuffled": lambda a, b: random.Random(7).sample(a + b, len(a + b)),  # no secret
    "workaround first": lambda a, b: [workaround(), *a, *b],
    "workaround before each": lambda a, b: [workaround(), *a, workaround(), *b],
    "workaround last": lambda a, b: [*a, *b, workaround(0x103FFF00, tag=False)],
    "workaround inside": lambda a, b: [*a[:1], workaround(0x101FFF00), *a[1:], *b],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("other", [ARM, RISCV, ABSOLUTE])
@pytest.mark.parametrize("swapped", [False, True])
def test_each_chip_gets_its_image_in_any_order(order: str, other: int, swapped: bool) -> None:
    one, two = program(RP2040), program(other)
    blocks = ORDERS[order](*((two, one) if swapped else (one, two)))
    image = read(blocks)
    assert (image.chip, image.offset) == (None, None)
    assert image.places == (("rp2040", 0), ("rp2350", 0))
    assert flash_of(blocks, "rp2040") == [(0, joined(one))]
    assert flash_of(blocks, "rp2350") == [(0, joined(two))]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("one count", "one count for all families: a boot ROM waits for blocks that"),
        ("interleaved", "families are interleaved: a boot ROM may begin its count again"),
        ("workaround last", "the block for erratum RP2350-E10 is not the first, and so of no use"),
    ],
)
def test_order_that_a_boot_rom_would_not_take_is_said(order: str, words: str) -> None:
    image = read(ORDERS[order](program(RP2040), program(ARM)))
    assert any(note.startswith(words) for note in image.notes), image.notes


def test_published_order_has_no_remarks() -> None:
    assert read([workaround(), *program(ARM), *program(RP2040)]).notes == ()
    assert read([*program(RP2040), workaround(), *program(ARM)]).notes == ()


def test_order_against_the_numbers_is_shown() -> None:
    assert ("order", "not that of the numbers") in read(program(RP2040)[::-1]).details
    assert "order" not in dict(read(program(RP2040)).details)


def test_several_files_for_one_chip_are_read_and_the_restart_is_said() -> None:
    both = program(RP2040) + program(RP2040, at=0x8000)
    assert flash_of(both, "rp2040") == [(0, joined(both[:4])), (0x8000, joined(both[4:]))]
    (note,) = read(both).notes
    assert note == "a boot ROM restarts rp2040 after the 4 blocks of rp2040 (0xe48bff56)"


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize(("whole", "foreign"), [(RP2040, ARM), (RP2040, ABSOLUTE), (ARM, RP2040)])
def test_a_block_of_a_foreign_family_is_refused(at: int, whole: int, foreign: int) -> None:
    blocks = program(whole)
    data = program(foreign)[0].data if at == 0 else blocks[at].data
    blocks[at] = blocks[at]._replace(family=foreign, data=data)
    assert "of one count with others: expected an image from 0x10000000 on" in refusal(blocks)


@pytest.mark.parametrize("family", [RP2040, ARM, STM32])
def test_missing_doubled_and_false_blocks_are_refused(family: int) -> None:
    blocks = program(family)
    for at in range(4):
        assert "number of blocks: expected 4, found 3" in refusal(blocks[:at] + blocks[at + 1 :])
        doubled = [*blocks[: at + 1], *blocks[at:]]
        assert any(words in refusal(doubled) for words in (" again", "nothing else before"))
        false = [*blocks[:at], blocks[at]._replace(total=3), *blocks[at + 1 :]]
        assert "numbering of block" in refusal(false) or "number of blocks" in refusal(false)


def test_overlaps_are_refused_in_any_order() -> None:
    pages = [B(STM32, 0x8000000 + at, bytes(256)) for at in (0, 0x80, 0x180)]
    for order in (pages, pages[::-1], [pages[1], pages[2], pages[0]]):
        words = "expected nothing else before 0x08000100, found 0x08000080"
        assert words in refusal(numbered(order))


# --- the memory of a reader ---------------------------------------------------------------------


def test_memory_is_bounded_in_any_order() -> None:
    count = 6000
    pages = [B(STM32, 0x8000000 + 256 * n, bytes(256), n, count) for n in range(count)]
    random.Random(5).shuffle(pages)  # no secret
    file = io.BytesIO(pack(pages))
    tracemalloc.start()
    try:
        assert dict(recognise(file).details)["range"] == f"{256 * count} bytes at 0x08000000"
        assert tracemalloc.get_traced_memory()[1] < 1_500_000  # the file has 3,072,000
    finally:
        tracemalloc.stop()


# --- the RP2350 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(ARM, RISCV), (RISCV, ARM), (ABSOLUTE, ARM)])
def test_of_two_images_for_one_place_the_first_is_taken(first: int, second: int) -> None:
    blocks = program(first) + program(second)
    assert flash_of(blocks, "rp2350") == [(0, joined(blocks[:4]))]
    (note,) = read(blocks).notes
    assert note.startswith("for the same place in the flash of rp2350, left out: ")
    assert note.endswith(f"({second:#010x})")


def test_absolute_and_data_families_are_for_the_rp2350() -> None:
    for family in (ABSOLUTE, DATA):
        image = read(program(family, at=0x10000))
        assert (image.chip, image.offset, image.places) == ("rp2350", 0x10000, ())
    both = program(ARM) + program(DATA, at=0x100000)
    assert flash_of(both, "rp2350") == [(0, joined(both[:4])), (0x100000, joined(both[4:]))]


ACCEPTS_ARM, ACCEPTS_RISCV = 1 << 16, 1 << 17


def with_table(partitions: list[tuple[int, int]], family: int = ARM) -> list[B]:
    page = B(ABSOLUTE, FLASH, table(*partitions), 0, 1)
    return [page, workaround(), *program(family)]


@pytest.mark.parametrize(
    ("partitions", "family", "offset"),
    [
        ([(2, ACCEPTS_ARM)], ARM, 0x2000),
        ([(2, ACCEPTS_RISCV), (0x40, ACCEPTS_ARM)], ARM, 0x40000),
        ([(2, ACCEPTS_RISCV), (0x40, ACCEPTS_ARM)], RISCV, 0x2000),
    ],
)
def test_image_goes_into_the_partition_that_accepts_it(
    partitions: list[tuple[int, int]], family: int, offset: int
) -> None:
    blocks = with_table(partitions, family)
    assert flash_of(blocks, "rp2350") == [(0, blocks[0].data), (offset, joined(blocks[2:]))]
    image = read(blocks)
    assert (image.chip, image.offset) == ("rp2350", 0)
    assert f" goes into the partition at 0x{offset:x}" in "".join(image.notes)


def test_image_without_a_partition_covers_the_table() -> None:
    blocks = with_table([(2, ACCEPTS_RISCV)])
    assert flash_of(blocks, "rp2350") == [(0, joined(blocks[2:]))]
    assert "the image covers the partition table that comes with it" in read(blocks).notes


def test_partitions_with_ids_families_and_names() -> None:
    words = [0, 2, 0x1081 | ACCEPTS_RISCV, 1, 2, 3]  # an id, one more family, and a name
    name = b"\x04abcd\0\0\0"
    last = [0x30, ACCEPTS_ARM]
    body = struct.pack("<6I", *words) + name + struct.pack("<2I", *last)
    head = 2 << 24 | (len(body) // 4 + 1) << 8 | 0x0A
    block = struct.pack("<2I", 0xFFFFDED3, head) + body
    assert has_partitions(block)
    assert partition_for(block, RISCV) == 0x2000
    assert partition_for(block, ARM) == 0x30000
    assert partition_for(block, ARM_NS) == partition_for(block, STM32) == 0
    for cut in range(len(block)):
        assert partition_for(block[:cut], ARM) in (0, 0x30000)
    assert partition_for(b"", ARM) == 0


# --- what is not for flash ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "address", "chip"),
    [
        (RP2040, 0x20000000, "rp2040"),
        (RP2040, 0x15000000, "rp2040"),
        (ARM, 0x20080000, "rp2350"),
        (ARM, 0x13FFC000, "rp2350"),
        (RISCV, 0x20000000, "rp2350"),
    ],
)
def test_program_in_ram_is_named(family: int, address: int, chip: str) -> None:
    blocks = numbered([B(family, address, bytes(256))])
    image = read(blocks)
    assert (image.chip, image.offset) == (chip, None)
    assert image.notes == (f"for {chip} it is a program in RAM, which no flash keeps",)
    assert place_expected(image, chip, 0) == "file"
    with pytest.raises(Malformed, match=f"expected some for the flash of {chip}, found "):
        contents(pack(blocks), chip)


@pytest.mark.parametrize(
    ("family", "address"),
    [(RP2040, 0x11000000), (RP2040, 0x13FFC000), (ARM, 0x12000000), (ARM, 0x15000000)],
)
def test_address_that_a_chip_does_not_have_is_refused(family: int, address: int) -> None:
    words = f"expected in flash or ram of {'rp2040' if family == RP2040 else 'rp2350'}, found "
    assert words in refusal(numbered([B(family, address, bytes(256))]))


def test_second_flash_of_an_rp2350_has_an_offset() -> None:
    assert read(program(ARM, at=0x1800000)).offset == 0x1800000


@pytest.mark.parametrize("family", [ESP32S2, ESP32S3, 0xD42BA06C])
@pytest.mark.parametrize("address", [0, 0x10000])
def test_uf2_for_an_esp_has_no_place(family: int, address: int) -> None:
    image = read(numbered([B(family, address, b"\xe9" + bytes(255))]))
    assert image.chip is not None
    assert image.chip.startswith("esp32")
    assert image.offset is None
    assert "such as tinyuf2, which counts addresses from the start of its" in image.notes[0]
    assert place_expected(image, image.chip, 0x10000) == "file"


def test_file_container_is_named() -> None:
    parts = [
        B(5, 0, b"hello", 0, 1, 0x1000, b"docs/a.txt\0"),
        B(300, 0, bytes(256), 0, 2, 0x1000, b"b.bin\0"),
        B(300, 256, bytes(44), 1, 2, 0x1000, b"b.bin\0"),
        B(9, 0, bytes(9), 0, 1, 0x1000),
    ]
    image = read(parts)
    assert (image.chip, image.offset) == (None, None)
    assert image.notes == (
        "it holds files for the file system of a board's drive, nothing for flash",
    )
    assert [value for key, value in image.details if key == "family"] == [
        'file "docs/a.txt"',
        'file "b.bin"',
        'file "file of 9 bytes"',
    ]
    assert place_expected(image, "rp2040", 0) == "file"
    assert place_expected(image, "stm32", 0) is None


def test_other_sizes_and_addresses_are_read() -> None:
    odd = numbered([B(STM32, 0x8000000 + 258 * n, bytes(258)) for n in range(3)])
    assert ("range", "774 bytes at 0x08000000") in read(odd).details
    large = numbered([B(STM32, 0x8000000 + 476 * n, bytes(476)) for n in range(3)])
    assert ("range", "1428 bytes at 0x08000000") in read(large).details


def test_short_last_block_is_read_and_said() -> None:
    blocks = program(RP2040)
    blocks[3] = blocks[3]._replace(data=blocks[3].data[:100])
    assert flash_of(blocks, "rp2040") == [(0, joined(blocks))]
    assert read(blocks).notes == ("a boot ROM drops blocks that are shorter than 256 bytes",)


# --- tags ---------------------------------------------------------------------------------------


def test_tags_tell_version_and_description() -> None:
    version = b"\x09\xbc\xc7\x9f2.4.1\0\0\0"
    description = b"\x0a\x9d\x0d\x65Blinky"
    blocks = [
        b._replace(flags=0xA000, extra=version + description) for b in program(ARM, at=0x1000)
    ]
    image = read(blocks)
    assert image.version == "2.4.1"
    assert ("version", "2.4.1") in image.details
    assert ("description", "Blinky") in image.details


@pytest.mark.parametrize("size", [1, 3, 221])
def test_damaged_tags_are_refused(size: int) -> None:
    blocks = [b._replace(flags=0xA000, extra=bytes([size, 1, 2, 3])) for b in program(ARM)]
    assert f"tag at 256 of block 0: expected 4 to 220 bytes, found {size} bytes" in refusal(blocks)


def test_tags_end_with_the_block() -> None:
    blocks = [b._replace(flags=0xA000, extra=b"\x04\1\2\3" * 55) for b in program(ARM)]
    assert read(blocks).chip == "rp2350"


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("family", [ESP32S3, STM32])
def test_digest_after_the_payload_or_at_the_end_is_checked(family: int, *, at_end: bool) -> None:
    data = bytes(range(200))
    part = struct.pack("<II", 0x8000, 200) + hashlib.md5(data, usedforsecurity=False).digest()
    extra = part.rjust(276, b"\0") if at_end else part
    (block,) = numbered([B(family, 0x8000, data, flags=0x6000, extra=extra)])
    assert read([block]).kind == "uf2"
    assert "md5 of block 0: expected " in refusal([block._replace(data=b"!" + data[1:])])


# --- targets ------------------------------------------------------------------------------------


def test_place_expected() -> None:
    universal = read(program(RP2040) + program(ARM))
    for chip in ("rp2040", "rp2350"):
        assert place_expected(universal, chip, 0) is None
    assert place_expected(universal, "rp2040", 0x1000) == "rp2040@0x0 or rp2350@0x0"
    assert place_expected(universal, "esp32", 0) == "rp2040@0x0 or rp2350@0x0"
    assert place_expected(Image("esp", "esp32", offset=0), "esp32", 9) is None
    assert place_expected(read(program(STM32, at=0)), "stm32", 0) is None


def test_contents_for_another_chip_are_refused() -> None:
    with pytest.raises(Malformed, match=r"expected some for the flash of rp2350, found rp2040"):
        contents(pack(program(RP2040)), "rp2350")


def test_written_files_are_read_back() -> None:
    data = random.Random(2).randbytes(1024)  # no secret
    assert contents(write_uf2(data, FLASH + 0x4000, ARM), "rp2350") == [(FLASH + 0x4000, data)]
    assert uf2_count.MAX_PIECES == 1024
    assert uf2.MAX_BLOCKS == 1 << 20
