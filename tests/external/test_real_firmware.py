"""Firmware that others publish: what it is, and how it is signed without any option."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, run
from fwsign.errors import Malformed
from fwsign.images import recognise
from support import firmware

pytestmark = pytest.mark.external

ARDUINO = "bridge.esp32.huge_app.bin"  # merged, from the start of flash
MICROPYTHON = "ESP32_GENERIC-20250415-v1.25.0.bin"  # merged, from the boot loader on
MICROPYTHON_8266 = "ESP8266_GENERIC-20250415-v1.25.0.bin"
APP, BOOT, TABLE = "mxdbg.bin", "bootloader.bin", "partition-table.bin"  # one build of ESP-IDF

FILES = {
    # name: role, chip, offset, version, project
    ARDUINO: ("merged", "esp32", 0x0, None, None),
    MICROPYTHON: ("merged", "esp32", 0x1000, None, None),
    MICROPYTHON_8266: (None, "esp8266", 0x0, None, None),
    APP: ("application", "esp32s3", 0x10000, "edeaadb-dirty", "mxdbg"),
    BOOT: ("boot loader", "esp32s3", 0x0, None, None),
    TABLE: ("partition table", None, 0x8000, None, None),
}
PARTS = {
    ARDUINO: [
        ("boot loader", 0x1000, None),
        ("partition table", 0x8000, None),
        ("ota data", 0xE000, "otadata"),
        ("application", 0x10000, "app0"),
    ],
    MICROPYTHON: [
        ("boot loader", 0x0, None),
        ("partition table", 0x7000, None),
        ("application", 0xF000, "factory"),
    ],
    APP: [("application", 0, None)],
    BOOT: [("boot loader", 0, None)],
    TABLE: [("partition table", 0, None)],
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_recognised(name: str) -> None:
    with firmware(name).open("rb") as opened:
        image = recognise(opened)
    assert (image.role, image.chip, image.offset, image.version, image.project) == FILES[name]
    assert image.notes == ()
    assert [(one.role, one.start, one.label) for one in image.parts] == PARTS.get(name, [])
    assert not any(one.unstartable for one in image.parts)


@pytest.mark.parametrize("name", [ARDUINO, MICROPYTHON, MICROPYTHON_8266, APP, BOOT])
@pytest.mark.parametrize("at", [0x1, 0x2, 0x7])
def test_a_flipped_bit_in_the_code_is_refused(name: str, at: int, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    data = bytearray(firmware(name).read_bytes())
    start = len(data) - len(bytes(data).lstrip(b"\xff"))
    data[start + 0x200 * at + at] ^= 1 << at
    path.write_bytes(data)
    with path.open("rb") as opened, pytest.raises(Malformed) as caught:
        recognise(opened)
    assert caught.value.code == "malformed.image"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a PKI, and the current directory."""
    names = ("--org", "Acme", "--vendor", "acme.example", "--product", "gateway-x1")
    good("init", tmp_path, *names, "--no-passphrase")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def signed(project: Path, *names: str) -> list[dict[str, Any]]:
    for name in names:
        shutil.copy(firmware(name), project / name)
    found = run("sign", *names, "--output", "all.suit")
    assert found.status == 0, found
    release = json.loads(good("verify", "all.suit", "--json"))["release"]
    return [{"version": release["version"], **one} for one in release["components"]]


@pytest.mark.parametrize(
    ("name", "place", "version"),
    [
        (ARDUINO, "esp32@0x0", None),
        (MICROPYTHON, "esp32@0x1000", None),
        (MICROPYTHON_8266, "esp8266@0x0", None),
        (APP, "esp32s3@0x10000", "edeaadb-dirty"),
        (BOOT, "esp32s3@0x0", None),
    ],
)
def test_it_is_signed_for_its_place(
    project: Path, name: str, place: str, version: str | None
) -> None:
    (one,) = signed(project, name)
    assert (one["name"], one["version"]) == (place, version)
    assert one["size"] == firmware(name).stat().st_size


def test_a_whole_build_is_signed_for_its_places(project: Path) -> None:
    found = signed(project, APP, BOOT, TABLE)
    assert [one["name"] for one in found] == ["esp32s3@0x10000", "esp32s3@0x0", "esp32s3@0x8000"]


def test_a_frameworks_version_is_said_and_not_signed(project: Path) -> None:
    shutil.copy(firmware(ARDUINO), project / ARDUINO)
    found = run("sign", ARDUINO)
    assert found.status == 0, found
    assert "names no version of its own, but its framework's, arduino-lib-builder " in found.err
