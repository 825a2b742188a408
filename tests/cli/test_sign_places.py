# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign`: where boot loaders, partition tables and OTA data go."""

import hashlib
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from flash.kit import FACTORY_TABLE, OTA_TABLE, esp_image, partition_table
from fwsign.images.esp import CHIPS
from fwsign.images.esp_data import make_entry

ERASED = b"\xff" * 0x2000
KNOWN = ", ".join((*(chip.name for chip in CHIPS), "esp8266", "rp2040", "rp2350"))


@pytest.fixture(autouse=True)
def files(project: Path) -> Path:
    """A project with what the build system of an ESP32-C3 makes."""
    made = {
        "app.bin": esp_image(),
        "boot.bin": esp_image(app=False),
        "table.bin": OTA_TABLE,
        "factory.bin": FACTORY_TABLE,
        "ota.bin": ERASED,
        "notes.txt": b"notes",
    }
    for name, data in made.items():
        (project / name).write_bytes(data)
    return project


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_what_a_build_makes_goes_where_the_chip_wants_it(project: Path, chip: object) -> None:
    name, boot = getattr(chip, "name", ""), getattr(chip, "bootloader", 0)
    (project / "app.bin").write_bytes(esp_image(name))
    (project / "boot.bin").write_bytes(esp_image(name, app=False))
    found = run("sign", "ota.bin", "table.bin", "boot.bin", "app.bin", "--output", "all.suit")
    assert found.status == 0, found
    places = [line.split(": ")[1] for line in found.err.splitlines() if "payload" in line]
    assert places == [f"{name}@0xd000", f"{name}@0x8000", f"{name}@0x{boot:x}", f"{name}@0x10000"]
    assert "warning: table" not in found.err


def test_a_typed_target_says_the_chip_for_the_table() -> None:
    arguments = ("build.bin", "table.bin", "--target", "build.bin=esp32s3@0x20000")
    found = run("sign", *arguments, "--output", "all.suit")
    assert "fwsign: esp32s3@0x8000: 3072 bytes, payload table.bin" in found.err


@pytest.mark.parametrize("output", [(), ("--output", "one.suit")])
def test_a_table_alone_asks_for_its_chip(output: tuple[str, ...]) -> None:
    refused(
        run("sign", "table.bin", *output),
        2,
        "table.bin is a partition table for an ESP, and does not say for which chip: "
        "nor does any file signed with it",
        "say where it goes: --target table.bin=CHIP@0x8000, or =file",
    )
    good("sign", "table.bin", "--target", "esp32c3@0x8000", *output)
    good("sign", "table.bin", "--target", "file", "--force", *output)


def test_files_in_envelopes_of_their_own_say_nothing_about_each_other() -> None:
    found = run("sign", "app.bin", "table.bin")
    assert (found.status, found.errors[0][:16]) == (2, "error: table.bin")


def test_a_table_with_images_for_two_chips_asks(project: Path) -> None:
    (project / "boot.bin").write_bytes(esp_image("esp32s3", app=False))
    refused(
        run("sign", "app.bin", "boot.bin", "table.bin", "--output", "all.suit"),
        2,
        "table.bin is a partition table for an ESP, and does not say for which chip: "
        "the files signed with it are for esp32c3, esp32s3",
        "say where it goes: --target table.bin=CHIP@0x8000, or =file",
    )
    found = run(
        *("sign", "app.bin", "boot.bin", "table.bin", "--output", "all.suit"),
        *("--target", "table.bin=esp32c3@0x8000"),
    )
    assert "warning: for esp32c3, esp32s3: each board takes what is for its own chip" in found.err


def test_two_tables_for_one_chip_are_refused() -> None:
    refused(
        run("sign", "app.bin", "table.bin", "factory.bin", "--output", "all.suit"),
        2,
        "table.bin and factory.bin both go to esp32c3@0x8000",
        "write --target FILE=T",
    )


@pytest.mark.parametrize(
    ("others", "error"),
    [
        ((), "ota.bin is ESP OTA data, and does not say for which chip: nor does any file signed"),
        (
            ("app.bin",),
            "ota.bin is ESP OTA data: only a partition table says where it goes, and 0 of the",
        ),
        (
            ("app.bin", "factory.bin"),
            "ota.bin is ESP OTA data, and factory.bin has no partition for it",
        ),
    ],
)
def test_ota_data_asks_where_no_table_says(others: tuple[str, ...], error: str) -> None:
    found = run("sign", "ota.bin", *others, "--output", "all.suit")
    assert (found.status, found.errors[0][7:][: len(error)]) == (2, error)
    assert "--target ota.bin=" in found.errors[1]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("table.bin", OTA_TABLE[:40] + b"\x01" + OTA_TABLE[41:], "md5 of partition table: "),
        ("table.bin", b"\xab" + OTA_TABLE[1:], "partition 0: expected aa50, ebeb or 0xff"),
        (
            "table.bin",
            partition_table(("a", 1, 2, 0x9000, 0x5000), ("b", 0, 0, 0xD000, 0x8000)),
            "offset of partition b: expected 0xe000 or more, found 0xd000",
        ),
        ("ota.bin", make_entry(1), "size of ota data: expected 8192 bytes, found 4096 bytes"),
    ],
)
def test_what_is_damaged_is_refused_and_no_file(
    project: Path, name: str, data: bytes, words: str
) -> None:
    (project / name).write_bytes(data)
    found = run("sign", "app.bin", "table.bin", "ota.bin", "--output", "all.suit")
    assert found.status == 1
    assert found.errors[0].startswith(f"error: esp image: {words}")
    assert not (project / "all.suit").exists()


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("boot.bin", "esp32c3@0x1000", "boot.bin is a boot loader for an ESP: it goes to 0x0, not"),
        ("app.bin", "esp32c3@0x0", "app.bin is an application: it goes to 0x10000, not 0x0"),
        ("table.bin", "esp32@0x1000", "table.bin is a partition table for an ESP: it goes to 0x8"),
    ],
)
def test_what_cannot_be_there_is_refused(name: str, target: str, words: str) -> None:
    found = run("sign", name, "--target", target)
    assert found.status == 1
    assert found.errors[0].startswith(f"error: {words}")
    assert found.errors[1].startswith(f"hint: --target {name}=esp32")


def test_the_hint_for_a_wrong_place_works_with_several_files() -> None:
    typed = ("sign", "app.bin", "boot.bin", "--output", "two.suit")
    found = run(*typed, "--target", "boot.bin=esp32c3@0x1000")
    assert found.errors[1] == "hint: --target boot.bin=esp32c3@0x0"
    good(*typed, *found.errors[1].removeprefix("hint: ").split())


@pytest.mark.parametrize("chip", ["esp99", "esp32c9", "esp33c3", "rp2041", "exp32c3", "esp32-c3"])
def test_a_chip_that_is_not_known_is_refused(chip: str) -> None:
    refused(
        run("sign", "build.bin", "--target", f"{chip}@0x0"),
        2,
        f'--target {chip}@0x0: there is no chip "{chip}"',
        f"choose from {KNOWN}",
    )


@pytest.mark.parametrize(
    ("target", "found", "ways"),
    [
        ("esp32c3@0x10100", "0x10100", "esp32c3@0x10000, esp32c3@0x11000"),
        ("esp8266@1", "0x1", "esp8266@0x0, esp8266@0x1000"),
        ("rp2040@0x4100", "0x4100", "rp2040@0x4000, rp2040@0x5000"),
    ],
)
def test_an_offset_within_a_sector_is_refused(target: str, found: str, ways: str) -> None:
    refused(
        run("sign", "build.bin", "--target", target),
        2,
        f"--target {target}: {found} is not a multiple of 4096",
        f"flash is erased in whole sectors: {ways}",
    )


def test_boards_with_mcuboot_have_any_chip_and_place() -> None:
    good("sign", "build.bin", "--target", "nrf52840@0xc200")


def test_what_boards_leave_out_is_warned_about() -> None:
    found = run("sign", "app.bin", "notes.txt", "--output", "all.suit")
    assert (
        "fwsign: warning: notes.txt is not for flash: fwsign flash refuses the release unless it "
        "is left out by name; --target CHIP@OFFSET says where on the board it goes\n"
    ) in found.err
    assert "not for flash" not in run("sign", "notes.txt", "build.bin", "--output", "x.suit").err


def test_the_signed_bytes_are_those_of_the_file() -> None:
    digest = hashlib.sha256(OTA_TABLE).hexdigest()
    good("sign", "app.bin", "table.bin", "--output", "all.suit")
    assert digest in good("show", "all.suit")
