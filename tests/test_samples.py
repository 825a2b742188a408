# SPDX-License-Identifier: Apache-2.0
"""The firmware samples: what their README says, what they are, and that they can be rebuilt."""

import gzip
import hashlib
import importlib.util
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NoReturn

import pytest

from fwsign.images import recognise, uf2

SAMPLES = Path(__file__).resolve().parent.parent / "firmware-samples"
EXPECTED = {
    # name: kind, chip, version, project, offset
    "blink-esp32c3.bin": ("esp", "esp32c3", "1.0.0", "blink-esp32c3", 0x10000),
    "blink-rp2040.uf2": ("uf2", "rp2040", None, None, 0),
    "blink-rp2040-uart.bin": ("unknown", None, None, None, None),
    "blink-rp2350.uf2": ("uf2", "rp2350", None, None, 0),
    "gateway-app.tar.gz": ("unknown", None, None, None, None),
}
ROW = re.compile(
    r"^\| \[(?P<name>[\w.-]+)\]\((?P=name)\) \| [^|]+ \| (?P<chip>\w+) \| (?P<offset>\w+) "
    r"\| (?P<sources>[^|]+) \| Apache-2\.0 \| (?P<size>\d+) \| `(?P<digest>[0-9a-f]{64})` \|$",
    re.MULTILINE,
)


def rows() -> dict[str, re.Match[str]]:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    return {row["name"]: row for row in ROW.finditer(readme)}


def payload(name: str) -> tuple[int, bytes]:
    """Give the lowest address and the bytes of a UF2 file of one run in one piece."""
    blocks = (SAMPLES / name).read_bytes()
    pages = []
    for at in range(0, len(blocks), 512):
        _, _, _, address, size, _, _, family = struct.unpack_from("<8I", blocks, at)
        if family != uf2.ABSOLUTE:
            pages.append((address, blocks[at + 32 : at + 32 + size]))
    return pages[0][0], b"".join(page for _, page in pages)


def test_readme_lists_every_sample() -> None:
    files = {path.name for path in SAMPLES.iterdir() if path.is_file()}
    assert files == {*EXPECTED, "README.md", "build"}
    assert set(rows()) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_readme_tells_size_digest_and_sources(name: str) -> None:
    row = rows()[name]
    data = (SAMPLES / name).read_bytes()
    assert int(row["size"]) == len(data)
    assert row["digest"] == hashlib.sha256(data).hexdigest()
    for source in row["sources"].split(", "):
        assert (SAMPLES / "src" / source.strip("`")).is_file()


def test_readme_tells_chip_and_offset() -> None:
    table = {name: (row["chip"], row["offset"]) for name, row in rows().items()}
    for name, (kind, chip, _, _, offset) in EXPECTED.items():
        if kind != "unknown":
            assert table[name] == (chip, f"{offset:#x}")
    assert table["blink-rp2040-uart.bin"] == ("rp2040", "0x4000")
    assert table["gateway-app.tar.gz"] == ("any", "none")


@pytest.mark.parametrize("name", EXPECTED)
def test_sample_is_recognised(name: str) -> None:
    with (SAMPLES / name).open("rb") as file:
        assert recognise(file)[:5] == EXPECTED[name]


def test_every_source_states_its_licence() -> None:
    sources = [*(SAMPLES / "src").iterdir(), SAMPLES / "build"]
    assert len(sources) >= 9
    for source in sources:
        head = source.read_text(encoding="utf-8").splitlines()[:2]
        assert any("SPDX-License-Identifier: Apache-2.0" in line for line in head), source.name


def test_esp32c3_sample_is_what_a_boot_loader_of_esp_idf_starts() -> None:
    data = (SAMPLES / "blink-esp32c3.bin").read_bytes()
    count, entry = data[1], struct.unpack_from("<I", data, 4)[0]
    at, mapped, loaded = 24, [], []
    for _ in range(count):
        address, size = struct.unpack_from("<II", data, at)
        at += 8
        if 0x3C000000 <= address < 0x3C800000 or 0x42000000 <= address < 0x42800000:
            assert address % 0x10000 == at  # in pages of flash, as the descriptor says
            mapped.append(range(address, address + size))
        else:
            loaded.append(range(address, address + size))
        at += size
    assert [one.start >> 24 for one in mapped] == [0x3C, 0x42]  # one of data, one of code
    assert {one.start >> 16 & 0x7F for one in mapped} == {0, 1}  # each in its row of one table
    assert all(one.start >= 0x4037C000 and one.stop <= 0x403C0000 for one in loaded)
    assert any(entry in one for one in loaded)
    assert data[32 + 180] == 16  # the size of a page, as a power of 2


def check_vectors(image: bytes, base: int, begin: int) -> None:
    """Check a Cortex-M vector table as a boot loader does; `base` is where `image` begins."""
    stack, reset = struct.unpack_from("<II", image, begin - base)
    assert 0x20000000 <= stack <= 0x20042000
    assert stack % 8 == 0
    assert reset & 1
    assert begin <= reset - 1 < base + len(image)


def test_uart_sample_suits_a_uart_boot_loader() -> None:
    image = (SAMPLES / "blink-rp2040-uart.bin").read_bytes()
    assert len(image) % 4 == 0
    check_vectors(image, 0x10004000, 0x10004000)


def test_rp2040_sample_begins_with_boot2() -> None:
    base, image = payload("blink-rp2040.uf2")
    assert base == 0x10000000
    assert struct.unpack_from("<I", image, 252)[0] == uf2.boot2_crc(image[:252])
    check_vectors(image, base, base + 0x100)


def test_rp2350_sample_has_an_image_definition() -> None:
    base, image = payload("blink-rp2350.uf2")
    check_vectors(image, base, base)
    definition = struct.pack("<5I", 0xFFFFDED3, 0x10210142, 0x1FF, 0, 0xAB123579)
    assert 0 <= image.find(definition) <= 4096 - len(definition)


def test_archive_has_no_times_and_owners() -> None:
    data = (SAMPLES / "gateway-app.tar.gz").read_bytes()
    assert data[4:8] == bytes(4)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        members = tar.getmembers()
        version = tar.extractfile("gateway-app/VERSION")
        assert version is not None
        assert version.read() == b"1.0.0\n"
    names = [member.name for member in members]
    assert names == sorted(names)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def lacking(reason: str) -> NoReturn:
    """Skip where an oracle is not there, or fail where all of them have to be."""
    if os.environ.get("FWSIGN_REQUIRE_EXTERNAL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.external
def test_samples_can_be_rebuilt(tmp_path: Path) -> None:
    for compiler in ("riscv64-unknown-elf-gcc", "arm-none-eabi-gcc"):
        if shutil.which(compiler) is None:
            lacking(f"{compiler} is not installed")
        asked = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, check=True)
        version = asked.stdout.decode().strip()
        if not version.startswith("12.2."):
            lacking(f"{compiler} is {version}, the samples were made with 12.2")
    if importlib.util.find_spec("esptool") is None:
        lacking("esptool is not installed")
    command = [sys.executable, str(SAMPLES / "build"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(EXPECTED)
    for name in EXPECTED:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name
