"""`fwsign show` of images for an ESP: what they need in words, and the map of flash."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good
from flash.kit import OTA_TABLE, esp_image, partition_table
from fwsign.images.esp import CHIPS


def show(path: Path) -> Any:
    return json.loads(good("show", path, "--json"))["content"][0]


def merged(chip: str = "esp32c3", table: bytes = OTA_TABLE) -> bytes:
    boot_at = next(one.bootloader for one in CHIPS if one.name == chip)
    whole = b"\xff" * boot_at + esp_image(chip, app=False)
    return (whole.ljust(0x8000, b"\xff") + table).ljust(0x10000, b"\xff") + esp_image(chip)


@pytest.mark.parametrize(
    ("data", "kind", "role"),
    [
        (esp_image(), "esp image", "application"),
        (esp_image(app=False), "esp image", "boot loader"),
        (merged(), "esp image", "merged"),
        (OTA_TABLE, "ESP partition table", None),
        (b"\xff" * 0x2000, "ESP OTA data", None),
        (b"\xe8" + esp_image()[1:], "esp image, damaged", None),
    ],
)
def test_each_kind_is_named(tmp_path: Path, data: bytes, kind: str, role: str | None) -> None:
    (tmp_path / "x.bin").write_bytes(data)
    found = show(tmp_path / "x.bin")
    assert (found["kind"], found["role"]) == (kind, role)
    assert good("show", tmp_path / "x.bin").startswith(f"kind: {kind}\n")


@pytest.mark.parametrize("chip", ["esp32", "esp32c2", "esp32h2", "esp32p4"])
def test_what_an_image_needs_is_said_in_words(tmp_path: Path, chip: str) -> None:
    speed = {"esp32c2": "30", "esp32h2": "24"}.get(chip, "40")
    (tmp_path / "app.bin").write_bytes(esp_image(chip, megabytes=4))
    (tmp_path / "boot.bin").write_bytes(esp_image(chip, app=False, megabytes=4))
    words = f"needs: {chip} of revision 0.0 to 99.99; 4MB of flash (dio at {speed} MHz); "
    assert f"{words}a boot loader, and a partition for it in" in good("show", tmp_path / "app.bin")
    place = next(one.bootloader for one in CHIPS if one.name == chip)
    assert f"{words}its place at {place:#x}\n" in good("show", tmp_path / "boot.bin")
    needs = show(tmp_path / "app.bin")["parts"][0]["needs"]
    assert needs == {
        "lowest revision": 0,
        "highest revision": 9999,
        "flash size": 4 << 20,
        "flash mode": "dio",
        "flash frequency": f"{speed}m",
    }


MAP = """\
map
  0x00000000                                    4 KiB  unused
  0x00001000  ##########  boot loader        19.7 KiB
  0x00005ec0                                  8.3 KiB  unused
  0x00008000  ##########  partition table       4 KiB
  0x00009000  ----------  nvs                  16 KiB  data
  0x0000d000  ##########  otadata               8 KiB  data
  0x0000f000                                    4 KiB  unused
  0x00010000  #---------  ota_0               256 KiB  application: 19.9 KiB
  0x00050000  ..........  ota_1               256 KiB  application
"""


def test_a_merged_file_is_drawn_as_a_map(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(merged("esp32"))
    text = good("show", tmp_path / "x.bin")
    assert text.endswith(MAP)
    assert max(map(len, MAP.splitlines())) <= 80
    rows = show(tmp_path / "x.bin")["map"]
    assert [(one["name"], one["start"]) for one in rows if one["name"]] == [
        ("boot loader", 0x1000),
        ("partition table", 0x8000),
        ("nvs", 0x9000),
        ("otadata", 0xD000),
        ("ota_0", 0x10000),
        ("ota_1", 0x50000),
    ]
    assert [one["used"] for one in rows if one["kind"] == "application"] == [
        len(esp_image("esp32")),
        None,
    ]
    assert rows[-1]["in the file"] is False


def test_a_table_alone_is_drawn_too(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(OTA_TABLE)
    lines = good("show", tmp_path / "x.bin").splitlines()
    assert "  0x00010000  ..........  ota_0               256 KiB  application" in lines
    assert not any(line.startswith("partition ") for line in lines)


def test_the_longest_words_fit_on_a_terminal(tmp_path: Path) -> None:
    table = partition_table(
        ("a-long-name-of-16", 0, 0, 0x10000, 0x3FF000), ("user", 0x41, 1, 0x410000, 0x1000)
    )
    (tmp_path / "x.bin").write_bytes(merged(table=table))
    text = good("show", tmp_path / "x.bin")
    drawn = text[text.index("\nmap\n") :].splitlines()
    assert max(map(len, drawn)) <= 80
    assert any("user" in line and "type 65" in line for line in drawn)


def test_remarks_are_shown(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(esp_image(app=False) + b"\xffold")
    first = len(esp_image(app=False)) + 1
    words = f"3 bytes after the boot loader are not blank, the first at {first:#x}"
    assert f"note: {words}\n" in good("show", tmp_path / "x.bin")
    assert show(tmp_path / "x.bin")["notes"] == [words]
