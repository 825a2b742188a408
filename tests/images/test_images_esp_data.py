# SPDX-License-Identifier: Apache-2.0
"""Partition tables and OTA data as files of their own, whole and damaged."""

import hashlib
import io
import struct
import zlib

import pytest

from fwsign.images import Image, esp, recognise
from fwsign.images.esp import place_expected
from fwsign.images.esp_data import entries, make_entry
from support import refused

OTA_ROWS = (
    (1, 2, 0x9000, 0x4000, "nvs"),
    (1, 0, 0xD000, 0x2000, "otadata"),
    (0, 0, 1 << 16, 1, "a"),
)
ERASED = b"\xff" * 0x2000


def table(*rows: tuple[int, int, int, int, str], digest: bool = True) -> bytes:
    """Make a partition table of rows: type, subtype, offset, size, label."""
    made = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, at, size, label.encode(), 0)
        for kind, sub, at, size, label in rows
    )
    end = b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(made, usedforsecurity=False).digest()
    return (made + end * digest).ljust(0xC00, b"\xff")


def entry(sequence: int, state: int = 0xFFFFFFFF, crc: int | None = None) -> bytes:
    """Make a sector with an OTA entry, by the description of the format."""
    right = zlib.crc32(struct.pack("<I", sequence), 0xFFFFFFFF)
    head = struct.pack("<I20sII", sequence, b"\xff" * 20, state, right if crc is None else crc)
    return head.ljust(0x1000, b"\xff")


def read(data: bytes) -> Image:
    return recognise(io.BytesIO(data))


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("size", [0xC00, 0x1000])
def test_a_partition_table_is_told_and_names_no_chip(size: int, digest: bool) -> None:
    image = read(table(*OTA_ROWS, digest=digest).ljust(size, b"\xff"))
    assert (image.kind, image.role) == ("esp", "partition table")
    assert (image.chip, image.offset) == (None, 0x8000)
    assert image.details[1] == ("partition otadata", "8192 bytes at 0xd000")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (patched(table(*OTA_ROWS), 0, b"\xab"), "partition 0: expected aa50, ebeb or 0xff"),
        (patched(table(OTA_ROWS[0]), 0, b"\xab"), "partition 0: expected aa50, ebeb or 0xff"),
        (patched(table(*OTA_ROWS), 40, b"\x01"), "md5 of partition table: expected "),
        (patched(table(*OTA_ROWS), 4, b"\x01"), "an offset in whole sectors and a size"),
        (
            table((1, 2, 0x9000, 0x5000, "a"), (1, 2, 0xD000, 0x1000, "b")),
            "offset of partition b: expected 0xe000 or more, found 0xd000",
        ),
        (table(), "partition table: expected at least one partition, found none"),
        (
            table((1, 0, 0xD000, 0x1000, "otadata")),
            "size of partition otadata, for OTA data: expected at least 0x2000, found 0x1000",
        ),
        (
            table((0, 0, 1 << 16, (16 << 20) + 1, "a")),
            "size of partition a, for an application: expected at most 0x1000000, found 0x1000001",
        ),
        *(
            (
                table(*((64, 0, n << 12, 1, "") for n in range(96 - digest)), digest=digest),
                "rows of partition table: expected at most 95, found 96 without an end",
            )
            for digest in (False, True)
        ),
        (table(*OTA_ROWS)[:40], "partition 1: expected 32 bytes, found 8 bytes"),
    ],
)
def test_a_damaged_table_is_refused_and_never_unknown(data: bytes, words: str) -> None:
    with refused("malformed.image", words):
        read(data)


def test_what_only_begins_as_a_table_and_is_longer_is_unknown() -> None:
    assert read(table(*OTA_ROWS) + bytes(0x1000)) == Image("unknown")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ERASED, ["erased", "erased"]),
        (entry(1) + entry(2, 2), ["1", "2"]),
        (ERASED[:0x1000] + entry(7), ["erased", "7"]),
    ],
)
def test_ota_data_is_told(data: bytes, words: list[str]) -> None:
    image = read(data)
    assert (image.kind, image.role, image.chip, image.offset) == ("esp", "ota data", None, None)
    assert [value for _, value in image.details] == words


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (entry(1), "size of ota data: expected 8192 bytes, found 4096 bytes"),
        (entry(1) + ERASED, "size of ota data: expected 8192 bytes, found 12288 bytes"),
        (entry(1, crc=5) + ERASED[:0x1000], "ota data entry 0: expected a crc that is right"),
        (entry(1) + entry(2, crc=5), "ota data entry 1: expected a crc that is right"),
        (patched(ERASED, 20, b"x"), "ota data entry 0: expected erased, found bytes without"),
    ],
)
def test_damaged_ota_data_is_refused(data: bytes, words: str) -> None:
    with refused("malformed.image", words):
        read(data)


@pytest.mark.parametrize(
    "data", [ERASED[1:], ERASED * 2, bytes(0x2000), entry(1)[:-1] + b"x" + ERASED[:0x1000], b"\1"]
)
def test_what_is_not_ota_data_is_unknown(data: bytes) -> None:
    assert read(data) == Image("unknown")


def test_entries_are_read_as_they_are_written() -> None:
    assert make_entry(3) == entry(3)
    found = entries(entry(3, 3) + entry(4, crc=0))
    assert [one and (one.sequence, one.counts) for one in found] == [(3, False), (4, False)]
    assert entries(entry(3)) == []


@pytest.mark.parametrize("chip", esp.CHIPS, ids=lambda chip: chip.name)
def test_each_role_has_its_place(chip: esp.Chip) -> None:
    boot = Image("esp", chip.name, offset=chip.bootloader, role="boot loader")
    app = Image("esp", chip.name, offset=0x10000, role="application")
    part = Image("esp", offset=0x8000, role="partition table")
    assert place_expected(boot, chip.name, chip.bootloader) is None
    for other in {0x0, 0x1000, 0x2000, 0x8000, 0x10000} - {chip.bootloader}:
        assert place_expected(boot, chip.name, other) == chip.bootloader
        assert place_expected(app, chip.name, other) is None
        assert place_expected(part, chip.name, other) is None
    assert place_expected(app, chip.name, chip.bootloader) == 0x10000
    assert place_expected(part, chip.name, chip.bootloader) == 0x8000
    assert place_expected(Image("unknown"), chip.name, chip.bootloader) is None
