"""What flashing small inputs after public reports ends as, on simulated boards of their chip.

The inputs are read from a folder beside the project; see `support.cases`. Each row says how the
commands `fwsign sign` and `fwsign flash` end, and what a reset would start.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.kit import good, run
from fwsign.flash.simulate import Simulated
from support import cases, needs_cases, require_package

IMAGES = cases() / "images"
pytestmark = needs_cases()
_INIT = ("--org", "Acme", "--vendor", "acme.example", "--product", "gateway-x1", "--no-passphrase")


class Row(NamedTuple):
    """A release and a board.

    Args:
        board: the simulated board, without its flash.
        files: the release: names of inputs, with their targets; "" for the usual one.
        more: further arguments of `flash`.
    """

    board: str
    files: Mapping[str, str]
    more: tuple[str, ...] = ()


BOOT, APP = {"e12-boot.bin": ""}, {"e12-app.bin": ""}
STANDARD = {**BOOT, **APP, "e12-table-std.bin": "esp32c3@0x8000"}
C3, S3, P4 = "esp32c3?content=stock", "esp32s3?content=stock", "esp32p4?content=stock"
BLANK = "esp32c3?content=blank"

FLASHED = {
    "P4 boot loader, 3.1": Row(f"{P4}&revision=3.1", {"e01b-minrev-boot.bin": ""}),
    "16 MB header on 16 MB": Row("esp32s3?size=16MB", {"e04b-hdr16m.bin": ""}),
    "16 MB table on 16 MB": Row("esp32s3?size=16MB", {"e05-t16m.bin": ""}),
    "merged P4 from 0": Row("esp32p4?size=4MB", {"e06c-p4-at-2000.bin": ""}),
    "all three": Row(BLANK, STANDARD),
    "table, application and OTA data": Row(
        C3,
        {
            **APP,
            "e12-table-ota.bin": "esp32c3@0x8000",
            "e12-otadata.bin": "esp32c3@0xD000",
        },
    ),
    "table at 0x10000": Row(
        f"{C3}&table=0x10000",
        {"e14-table.bin": "esp32c3@0x10000", "e12-app.bin": "esp32c3@0x20000"},
    ),
    "secure boot v1": Row("esp32?content=stock&lock=secure-boot-v1", {"e10-sbv1.bin": ""}),
    "secure boot v2": Row(f"{C3}&lock=secure-boot", {"e11-sbv2.bin": ""}),
    "padded": Row(S3, {"e13-securepad.bin": ""}),
    "padded and signed": Row(f"{S3}&lock=secure-boot", {"e13b-securepad-signed.bin": ""}),
    "16 segments": Row("esp32?content=stock", {"e18-16segs.bin": ""}),
    "older field, later chip": Row(
        "esp32?content=stock&revision=3.0", {"e21-legacy-minrev.bin": ""}
    ),
    "no MD5": Row(BLANK, {"e22f-table-no-md5.bin": ""}),
    "ESP32 from 0x1000": Row("esp32?content=blank", {"e22j-esp32-from-1000.bin": ""}),
    "32 MB": Row(
        "esp32s3?content=stock&size=32MB",
        {"e23-table32.bin": "esp32s3@0x8000", "e23-app.bin": "esp32s3@0x1800000"},
    ),
}
REFUSED = {
    "P4 boot loader, 1.0": Row(f"{P4}&revision=1.0", {"e01b-minrev-boot.bin": ""}),
    "C5 boot loader at 0": Row("esp32c5?content=stock", {"e03b-boot-c5.bin": "esp32c5@0x0"}),
    "S3 boot loader at 0x1000": Row(S3, {"e03c-boot-s3.bin": "esp32s3@0x1000"}),
    "2 MB header": Row("esp32s3?size=4MB", {"e04-hdr2m.bin": ""}),
    "16 MB header": Row("esp32s3?size=4MB", {"e04b-hdr16m.bin": ""}),
    "16 MB table": Row("esp32s3?size=4MB", {"e05-t16m.bin": ""}),
    "C3 boot loader at 0x1000": Row(BLANK, {"e06-c3-boot1000.bin": ""}),
    "S3 boot loader at 0x1000 inside": Row("esp32s3", {"e06b-s3-boot1000.bin": ""}),
    "P4 boot loader at 0": Row("esp32p4", {"e06d-p4-boot0.bin": ""}),
    **{
        f"{what} at {place}": Row(C3, {f"e12-{what}.bin": f"esp32c3@{place}"})
        for what in ("data", "otadata")
        for place in ("0x0", "0x8000", "0x10000")
    },
    "application at the table": Row(C3, {"e12-app.bin": "esp32c3@0x8000"}),
    "boot loader at the application": Row(C3, {"e12-boot.bin": "esp32c3@0x10000"}),
    "application alone, blank": Row(BLANK, APP),
    "table moves away from the application": Row(C3, {"e14-table.bin": "esp32c3@0x10000"}),
    **{
        name: Row(C3, {f"{name}.bin": "esp32c3@0x10000"})
        for name in ("e16-magic", "e16b-hashflag", "e16c-chipid", "e16d-segments", "e16e-text")
    },
    "unsigned with secure boot v1": Row(
        "esp32?content=stock&lock=secure-boot-v1", {"e19-nohash.bin": ""}
    ),
    "unsigned with secure boot v2": Row(f"{C3}&lock=secure-boot", APP),
    "17 segments": Row("esp32?content=stock", {"e18b-17segs.bin": "esp32@0x10000"}),
    "stale hash": Row(S3, {"e20-patched-no-rehash.bin": "esp32s3@0x0"}),
    "older field, earlier chip": Row(
        "esp32?content=stock&revision=1.0", {"e21-legacy-minrev.bin": ""}
    ),
    **{
        name: Row(BLANK, {f"{name}.bin": ""})
        for name in (
            "e22-merged-mixed",
            "e22b-merged-app-cut",
            "e22c-merged-app-too-big",
            "e22d-merged-no-app",
            "e22e-merged-app-elsewhere",
            "e22g-table-bit",
        )
    },
    "ESP32 boot loader at 0": Row("esp32", {"e22i-esp32-boot-at-0.bin": ""}),
    "24 MiB on 4 MB": Row(S3, {"e23-table32.bin": "esp32s3@0x8000"}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with keys."""
    directory = tmp_path_factory.mktemp("made")
    good("init", directory, *_INIT)
    return directory


@pytest.fixture(autouse=True)
def _project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("serial")
    require_package("esptool")
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def ended(row: Row) -> tuple[int, str, str | None]:
    """Sign and flash; return the exit status, what was said, and what a reset starts."""
    for name in row.files:
        shutil.copy(IMAGES / name, name)
    targets = [f"--target={name}={place}" for name, place in row.files.items() if place]
    found = run("sign", *row.files, *targets, "--output", "all.suit")
    with Simulated(_port(row)):
        pass  # it leaves its content in the file
    before = Path("board.flash").read_bytes()
    if found.status == 0:
        found = run("flash", "all.suit", "--port", _port(row), *row.more)
    with Simulated(_port(row)) as board:
        started = board.started
    if found.status not in (0, 5):
        assert Path("board.flash").read_bytes() == before, "refused, and yet the board changed"
    return found.status, found.out + found.err, started


def _port(row: Row) -> str:
    return f"sim:{row.board}{'&' if '?' in row.board else '?'}flash=board.flash"


@pytest.mark.parametrize("name", FLASHED)
def test_is_flashed_and_starts(name: str) -> None:
    status, words, started = ended(FLASHED[name])
    assert status == 0, words
    assert "verified" in words
    # Its table has no OTA data, so that the factory application goes on.
    assert ("boot not controlled: nothing selects" in words) is (name == "32 MB")
    assert (started or "").startswith("application at ")


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_before_anything_is_erased(name: str) -> None:
    status, words, _ = ended(REFUSED[name])
    assert status in (1, 2, 4), words
    assert "error" in words or "refused" in words
