"""`fwsign sign`: what the images of one release say about each other, and about themselves."""

import hashlib
import json
import struct
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from flash.kit import FACTORY_TABLE, OTA_TABLE, esp_image, noise, partition_table
from images_kit import descriptor, image

SMALL = 0x10  # in a header: 2 MB of flash
LARGE_TABLE = partition_table(("factory", 0, 0, 0x10000, 0x80000), ("data", 1, 6, 0x200000, 0x1000))
MOVED_TABLE = partition_table(("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x20000, 0x80000))
TINY_TABLE = partition_table(("factory", 0, 0, 0x10000, 0x1000))


def for_flash(image: bytes, size: int) -> bytes:
    """Return an image for another size of flash, with the digest that belongs to it."""
    body = image[:3] + bytes([size]) + image[4:-32]
    return body + hashlib.sha256(body).digest()


def merged(boot: bytes, table: bytes, app: bytes = b"", at: int = 0x10000) -> bytes:
    return (boot.ljust(0x8000, b"\xff") + table).ljust(at, b"\xff") + app


@pytest.fixture(autouse=True)
def files(project: Path) -> Path:
    made = {
        "app.bin": esp_image(),
        "boot.bin": esp_image(app=False),
        "table.bin": OTA_TABLE,
        "noise.bin": noise(4096),
    }
    for name, data in made.items():
        (project / name).write_bytes(data)
    return project


def places(*arguments: str) -> list[str]:
    found = run("sign", *arguments, "--output", "all.suit")
    assert found.status == 0, found
    return [line.split(": ")[1] for line in found.err.splitlines() if "payload" in line]


@pytest.mark.parametrize(
    ("table", "place"),
    [(OTA_TABLE, 0x10000), (FACTORY_TABLE, 0x10000), (MOVED_TABLE, 0x20000)],
)
def test_an_application_goes_where_its_own_table_has_one(
    project: Path, table: bytes, place: int
) -> None:
    (project / "table.bin").write_bytes(table)
    assert places("app.bin", "table.bin") == [f"esp32c3@{place:#x}", "esp32c3@0x8000"]


@pytest.mark.parametrize(
    ("name", "place"), [("noise.bin", "0x0"), ("noise.bin", "0x10000"), ("notes.txt", "0x50000")]
)
def test_other_bytes_at_a_place_that_is_executed_are_refused(
    project: Path, name: str, place: str
) -> None:
    (project / "notes.txt").write_bytes(b"notes\n" * 99)
    arguments = (
        *("table.bin", name, "--target", f"{name}=esp32c3@{place}"),
        *("--target", "table.bin=esp32c3@0x8000", "-o", "all.suit"),
    )
    found = run("sign", *arguments)
    assert found.status == 1
    assert found.errors[0].startswith(
        f"error: {name} is no image for esp32c3, and esp32c3 starts its "
    )
    assert f"at {place}, which it covers" in found.errors[0]
    assert "--raw signs it" in found.errors[1]
    assert not (project / "all.suit").exists()
    good("sign", *arguments, "--raw")


@pytest.mark.parametrize("chip", ["esp8266", "esp32s3", "esp32c6"])
def test_each_chip_starts_what_is_at_its_own_place(chip: str) -> None:
    found = run("sign", "noise.bin", "--target", f"{chip}@0x0")
    assert (found.status, "starts its boot loader at 0x0" in found.errors[0]) == (1, True)
    good("sign", "noise.bin", "--target", f"{chip}@0x300000")


@pytest.mark.parametrize("chip", ["esp32p4", "esp32c5"])
def test_other_chips_start_nothing_there(chip: str) -> None:
    good("sign", "noise.bin", "--target", f"{chip}@0x0")
    assert run("sign", "noise.bin", "--target", f"{chip}@0x2000", "--force").status == 1


def test_a_boot_loader_for_less_flash_than_the_table_is_refused(project: Path) -> None:
    boot = for_flash(esp_image(app=False), SMALL)
    (project / "boot.bin").write_bytes(boot)
    (project / "table.bin").write_bytes(LARGE_TABLE)
    (project / "merged.bin").write_bytes(merged(boot, LARGE_TABLE, esp_image()))
    for arguments in (("boot.bin", "table.bin"), ("merged.bin",)):
        path = arguments[0]
        refused(
            run("sign", *arguments, "-o", "all.suit"),
            1,
            f'the boot loader in {path} is for 2MB of flash, and partition "data" of '
            f"{arguments[-1]} ends at 0x201000",
            "set the flash size and build again; --accept flash-size signs it all the same",
        )
        good("sign", *arguments, "-o", "all.suit", "--accept", "flash-size", "--force")
        (project / "all.suit").unlink()


@pytest.mark.parametrize("place", ["0x20000", "0xd0000"])
def test_an_application_off_its_table_is_refused(place: str) -> None:
    arguments = ("app.bin", "table.bin", "--target", f"app.bin=esp32c3@{place}", "-o", "all.suit")
    found = run("sign", *arguments)
    assert found.status == 1
    assert found.errors[0] == (
        f"error: app.bin is an application for {place}, the partitions for one in table.bin are "
        '"ota_0" at 0x10000, "ota_1" at 0x50000'
    )
    good("sign", *arguments, "--accept", "layout")


def test_an_application_that_is_too_large_for_its_partition_is_refused(project: Path) -> None:
    (project / "table.bin").write_bytes(TINY_TABLE)
    size = len(esp_image())
    refused(
        run("sign", "app.bin", "table.bin", "-o", "all.suit"),
        1,
        f'app.bin has an image of {size} bytes, partition "factory" has 4096',
        "--accept layout signs it all the same",
    )


def test_bytes_over_the_table_are_refused(project: Path) -> None:
    (project / "noise.bin").write_bytes(noise(8192))
    found = run(
        *("sign", "boot.bin", "table.bin", "noise.bin", "-o", "all.suit"),
        *("--target", "noise.bin=esp32c3@0x7000"),
    )
    assert found.status == 1
    assert found.errors[0] == "error: noise.bin lies over the partition table, table.bin"


def test_an_image_that_no_boot_loader_starts_is_refused(project: Path) -> None:
    data = bytearray(esp_image())
    struct.pack_into("<I", data, 24, 0x3C000000)
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    (project / "app.bin").write_bytes(data)
    refused(
        run("sign", "app.bin"),
        1,
        "app.bin: no boot loader of ESP-IDF starts it: segment 0 is to be mapped to 0x3c000000, "
        "but lies at 0x20: they differ within a page of 65536 bytes",
        "build it again; --accept unbootable signs it, and boards refuse it",
    )
    good("sign", "app.bin", "--accept", "unbootable")


def test_a_merged_file_with_such_an_image_names_the_partition(project: Path) -> None:
    data = bytearray(esp_image())
    struct.pack_into("<I", data, 24, 0x3C000040)
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    (project / "merged.bin").write_bytes(merged(esp_image(app=False), FACTORY_TABLE, bytes(data)))
    found = run("sign", "merged.bin")
    assert found.status == 1
    assert found.errors[0].startswith("error: merged.bin (factory): no boot loader of ESP-IDF")


def test_bytes_after_an_image_are_said_and_strict_refuses_them(project: Path) -> None:
    size = len(esp_image())
    (project / "app.bin").write_bytes(esp_image() + b"\xff" * 7 + b"old")
    words = f"app.bin: 3 bytes after the application are not blank, the first at {size + 7:#x}"
    refused(run("sign", "app.bin", "--strict"), 1, words, "without --strict it is signed as it is")
    found = run("sign", "app.bin")
    assert found.status == 0
    assert f"fwsign: warning: {words}\n" in found.err
    told = json.loads(good("sign", "app.bin", "--json", "--force"))
    assert told["warnings"] == [words]
    told = json.loads(good("sign", "app.bin", "--json", "--dry-run", "--force"))
    assert (told["verdict"], told["warnings"]) == ("dry run", [words])
    assert f"fwsign: warning: {words}\n" in run("sign", "app.bin", "--dry-run", "--force").err
    assert f"esp32c3@0x10000: {size + 10} bytes" in found.err  # all of the file is signed
    (project / "app.bin").write_bytes(esp_image() + b"\xff" * 7)
    assert words not in run("sign", "app.bin", "--strict", "--force").err


def test_an_application_without_code_in_flash_is_warned_about(project: Path) -> None:
    words = "no segment is mapped as code: boot loaders of ESP-IDF abort when they start it"
    bare = image("esp32c3", (0x3C000020, descriptor()), (0x40380000, b"code" * 9))
    (project / "app.bin").write_bytes(bare)
    (project / "merged.bin").write_bytes(merged(esp_image(app=False), FACTORY_TABLE, bare))
    for name, where in (("app.bin", ""), ("merged.bin", " (factory)")):
        found = run("sign", name, "--strict")
        assert (found.status, found.err.count(words)) == (0, 1)
        assert f"fwsign: warning: {name}{where}: {words}\n" in found.err
        assert words not in run("sign", name, "--accept", "unbootable", "--force").err
        assert words in good("show", name)


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (
            struct.pack("<4sBBB9xHHII", b"\x7fELF", 1, 1, 1, 2, 94, 1, 0x400D0018) + bytes(99),
            "an ELF file",
            "esptool elf2image FILE makes one",
        ),
        (
            struct.pack("<4sBBB9xHHII", b"\x7fELF", 1, 1, 1, 2, 40, 1, 0x10000201) + bytes(99),
            "an ELF file",
            "objcopy -O binary FILE IMAGE makes one",
        ),
        (
            b":020000040800F2\n:00000001FF\n",
            "an Intel HEX file",
            "objcopy -I ihex -O binary FILE IMAGE makes one",
        ),
        (
            b":FF000000" + b"AA" * 255 + b"AB\n:00000001FF\n",
            "an Intel HEX file",
            "objcopy -I ihex -O binary FILE IMAGE makes one",
        ),
        (
            b"S00600004844521B\r\nS9030000FC\r\n",
            "a file of S-records",
            "objcopy -I srec -O binary FILE IMAGE makes one",
        ),
    ],
)
def test_what_a_linker_makes_is_named(project: Path, data: bytes, words: str, hint: str) -> None:
    (project / "app.out").write_bytes(data)
    refused(
        run("sign", "app.out", "--target", "esp32c3@0x300000"),
        1,
        f"app.out is {words}, not the bytes for flash",
        hint,
    )
    found = run("sign", "app.out")
    assert found.status == 0
    assert f"app.out: {words} is no image of flash; {hint}" in found.err


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<4sBBB9xHHII", b"\x7fELF", 2, 1, 1, 2, 62, 1, 0x400000) + bytes(99),
        struct.pack("<4sBBB9xHHII", b"\x7fELF", 1, 1, 1, 2, 40, 1, 0x10074) + bytes(99),
        b":020000040800F3\n",  # the sum is wrong
        b"S1 is not a record",
        b":::: a text",
    ],
)
def test_programs_for_linux_and_texts_are_signed_without_a_word(project: Path, data: bytes) -> None:
    (project / "app.out").write_bytes(data)
    assert "no image" not in run("sign", "app.out").err


@pytest.mark.parametrize(
    ("version", "project_name"),
    [(b"esp-idf: v4.4.4 3572900", b"arduino-lib-builder"), (b"6671d0b", b"arduino-lib-builder")],
)
def test_a_frameworks_version_is_not_the_products(
    project: Path, version: bytes, project_name: bytes
) -> None:
    data = bytearray(esp_image())
    struct.pack_into("32s32s", data, 32 + 16, version, project_name)
    folded = 0xEF
    length = struct.unpack_from("<I", data, 28)[0]
    for byte in data[32 : 32 + length]:
        folded ^= byte
    data[-33] = folded
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    (project / "app.bin").write_bytes(data)
    found = run("sign", "app.bin")
    words = f"{project_name.decode()} {version.decode()}"
    assert (
        "fwsign: warning: app.bin names no version of its own, but its framework's, "
        f"{words}: --version states one\n"
    ) in found.err
    assert version.decode() not in good("verify", "app.bin.suit", "--json")
    assert "warning: app.bin names" not in run("sign", "app.bin", "--version", "2", "--force").err


def test_a_name_that_accept_does_not_have_is_refused() -> None:
    refused(
        run("sign", "app.bin", "--accept", "everything"),
        2,
        '--accept "everything"',
        "choose from attachment, flash-size, layout, unbootable",
    )


@pytest.mark.parametrize(
    ("data", "words"), [(OTA_TABLE, "has them at 0xd000"), (FACTORY_TABLE, "has them nowhere")]
)
def test_ota_data_off_the_table_are_refused(project: Path, data: bytes, words: str) -> None:
    (project / "table.bin").write_bytes(data)
    (project / "ota.bin").write_bytes(b"\xff" * 0x2000)
    arguments = ("app.bin", "table.bin", "ota.bin", "--target", "ota.bin=esp32c3@0xb000")
    refused(
        run("sign", *arguments, "-o", "all.suit"),
        1,
        f"ota.bin is ESP OTA data for 0xb000, and table.bin {words}",
        "--accept layout signs it all the same",
    )
    good("sign", *arguments, "-o", "all.suit", "--accept", "layout")
