"""ESP images and merged files for each chip: what they are, what they need, and damaged headers."""

import hashlib

import pytest

from fwsign.images import Image
from fwsign.images.esp_chips import CHIPS, Chip
from fwsign.images.esp_data import OTADATA_SIZE
from images_kit import OTA, app, boot, image, merged, patched, read, refusal

NAMES = [chip.name for chip in CHIPS]


@pytest.mark.parametrize("chip", CHIPS, ids=NAMES)
def test_an_application_and_a_boot_loader_of_each_chip(chip: Chip) -> None:
    found = read(app(chip.name))
    assert found[:5] == ("esp", chip.name, "2.1", "lamp", 0x10000)
    assert (found.role, found.notes) == ("application", ())
    assert found.parts[0][:4] == ("application", 0, len(app(chip.name)), chip.name)
    found = read(boot(chip.name))
    assert (found.role, found.offset, found.notes) == ("boot loader", chip.bootloader, ())


@pytest.mark.parametrize("chip", CHIPS, ids=NAMES)
def test_a_merged_file_of_each_chip(chip: Chip) -> None:
    for start in {0, chip.bootloader}:
        found = read(merged(chip.name, OTA, start=start))
        assert (found.role, found.chip, found.offset) == ("merged", chip.name, start)
        assert (found.version, found.project, found.notes) == ("2.1", "lamp", ())
        assert [(one.role, one.start + start, one.label) for one in found.parts] == [
            ("boot loader", chip.bootloader, None),
            ("partition table", 0x8000, None),
            ("ota data", 0xD000, "otadata"),
            ("application", 0x10000, "ota_0"),
        ]
        assert found.parts[2].end - found.parts[2].start == OTADATA_SIZE


@pytest.mark.parametrize("place", [0x0, 0x1000, 0x2000, 0x3000])
@pytest.mark.parametrize("chip", CHIPS, ids=NAMES)
def test_a_boot_loader_at_any_other_place_is_refused(chip: Chip, place: int) -> None:
    data = merged(chip.name, at=place)
    if place == chip.bootloader:
        assert read(data).offset == 0
        return
    expected = f"expected {chip.bootloader:#x}, found {place:#x}"
    assert refusal(data).startswith(f"esp image: place of the boot loader for {chip.name}")
    assert expected in refusal(data)


@pytest.mark.parametrize("table_at", [0x9000, 0xC000, 0x10000])
@pytest.mark.parametrize("chip", ["esp32", "esp32c3", "esp32p4"])
def test_a_table_may_lie_elsewhere(chip: str, table_at: int) -> None:
    rows = ((0, 0, 0x20000, 0x20000, "factory"),)
    found = read(merged(chip, rows, table_at=table_at, app_at=0x20000))
    assert (found.offset, found.notes) == (0, ())
    assert dict(found.details)["merged"] == f"partition table at {table_at:#x}"


@pytest.mark.parametrize("chip", CHIPS, ids=NAMES)
@pytest.mark.parametrize(
    ("at", "new", "words"),
    [
        (0, b"\xe8", "magic: expected 0xe9, found 0xe8"),
        (0, b"\xff", "magic: expected 0xe9, found 0xff"),
        (0, b"U", "magic: expected 0xe9, found 0x55"),
        (1, b"\0", "number of segments: expected 1 to 16, found 0"),
        (1, b"\x82", "number of segments: expected 1 to 16, found 130"),
        (12, b"\xfd", "chip id: expected the number of a known chip, found 253"),
        (23, b"\x81", "digest flag: expected 0 or 1, found 129"),
    ],
)
def test_a_damaged_header_is_named(chip: Chip, at: int, new: bytes, words: str) -> None:
    for data in (app(chip.name), boot(chip.name), app(chip.name, digest=False)):
        assert refusal(patched(data, at, new)) == f"esp image: damaged header, {words}"
    whole = patched(merged(chip.name), chip.bootloader + at, new)
    assert "damaged header" in refusal(whole)


@pytest.mark.parametrize("count", range(17, 33))
def test_too_many_segments_are_named(count: int) -> None:
    data = image("esp32", *((0x40080000 + 16 * number, bytes(16)) for number in range(count)))
    assert refusal(data).endswith(f"number of segments: expected 1 to 16, found {count}")


def test_other_files_are_not_damaged_images() -> None:
    for head in (b"\xe9" + b"\0" * 200, b"\xe9" + b"text" * 50, b"<html>" * 99, bytes(4096)):
        assert read(head) == Image("unknown")


def test_a_chip_that_came_later_is_told_by_its_digest() -> None:
    for data in (app(), boot()):
        body = patched(data[:-32], 12, b"\xfd")
        found = read(body + hashlib.sha256(body).digest())
        assert found == Image(
            "esp", details=(("chip number", "253"),), notes=("chip number 253 is not known",)
        )


# Revisions, flash


@pytest.mark.parametrize(
    ("chip", "revisions", "expected"),
    [
        ("esp32", (3, 0, 0), (300, None)),
        ("esp32", (3, 301, 399), (301, 399)),
        ("esp32c3", (3, 0, 0xFFFF), (3, None)),
        ("esp32c3", (3, 4, 199), (4, 199)),
        ("esp32s3", (2, 0, 99), (200, 99)),
        ("esp32p4", (0, 300, 0), (300, None)),
    ],
)
def test_revisions(chip: str, revisions: tuple[int, int, int], expected: object) -> None:
    needs = read(app(chip, revisions=revisions)).parts[0].needs
    assert needs is not None
    assert (needs.min_revision, needs.max_revision) == expected


@pytest.mark.parametrize(
    ("chip", "field", "size", "frequency"),
    [
        ("esp32", 0x2F, 4, "80m"),
        ("esp32", 0x11, 2, "26m"),
        ("esp32c2", 0x00, 1, "30m"),
        ("esp32c6", 0x5F, 32, "80m"),
        ("esp32h2", 0x3F, 8, "48m"),
        ("esp32h21", 0x71, 128, None),
        ("esp32s3", 0x83, None, None),
    ],
)
def test_flash_size_and_frequency(
    chip: str, field: int, size: int | None, frequency: str | None
) -> None:
    needs = read(image(chip, (0x40380000, bytes(64)), size=field)).parts[0].needs
    assert needs is not None
    assert needs.flash_size == (None if size is None else size << 20)
    assert (needs.flash_frequency, needs.flash_mode) == (frequency, "dio")
