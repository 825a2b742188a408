"""ESP images after public reports about other tools: each is read, or refused, as it should be."""

import hashlib
import io
import struct

import pytest

from fwsign.errors import Malformed
from fwsign.images import Image, recognise
from support import cases, needs_cases

pytestmark = [pytest.mark.external, needs_cases()]
FOLDER = cases() / "images"

READ = {
    # name: role, chip, offset, version
    "e01b-minrev-boot.bin": ("boot loader", "esp32p4", 0x2000, None),
    "e03b-boot-c5.bin": ("boot loader", "esp32c5", 0x2000, None),
    "e03c-boot-s3.bin": ("boot loader", "esp32s3", 0x0, None),
    "e04-hdr2m.bin": ("merged", "esp32s3", 0x0, "1.2.3"),
    "e04b-hdr16m.bin": ("merged", "esp32s3", 0x0, "1.2.3"),
    "e05-t16m.bin": ("merged", "esp32s3", 0x0, "1.2.3"),
    "e06c-p4-at-2000.bin": ("merged", "esp32p4", 0x0, "1.2.3"),
    "e08-8266-like-esp32.bin": (None, "esp8266", 0x0, None),
    "e08b-8266-like-h2.bin": (None, "esp8266", 0x0, None),
    "e10-sbv1.bin": ("application", "esp32", 0x10000, "1.2.3"),
    "e11-sbv2.bin": ("application", "esp32c3", 0x10000, "1.2.3"),
    "e11b-sbv2-slot0-empty.bin": ("application", "esp32c3", 0x10000, "1.2.3"),
    "e11c-sbv2-slot0-bad-slot1-good.bin": ("application", "esp32c3", 0x10000, "1.2.3"),
    "e11d-sbv2-tail00.bin": ("application", "esp32c3", 0x10000, "1.2.3"),
    "e12-app.bin": ("application", "esp32c3", 0x10000, "1.2.3"),
    "e12-boot.bin": ("boot loader", "esp32c3", 0x0, None),
    "e12-data.bin": (None, None, None, None),
    "e12-otadata.bin": ("ota data", None, None, None),
    "e12-table-ota.bin": ("partition table", None, 0x8000, None),
    "e12-table-std.bin": ("partition table", None, 0x8000, None),
    "e13-securepad.bin": ("application", "esp32s3", 0x10000, "1.2.3"),
    "e13b-securepad-signed.bin": ("application", "esp32s3", 0x10000, "1.2.3"),
    "e14-table.bin": ("partition table", None, 0x8000, None),
    "e16e-text.bin": (None, None, None, None),
    "e17-readback.bin": ("merged", "esp32c3", 0x0, "1.2.3"),
    "e17b-one-zero.bin": ("merged", "esp32c3", 0x0, "1.2.3"),
    "e17c-zero-padded.bin": ("merged", "esp32c3", 0x0, "1.2.3"),
    "e18-16segs.bin": ("application", "esp32", 0x10000, "1.2.3"),
    "e18c-zeroseg.bin": ("application", "esp32", 0x10000, "1.2.3"),
    "e19-nohash.bin": ("application", "esp32", 0x10000, "1.2.3"),
    "e19b-flag0-hash-there.bin": ("application", "esp32", 0x10000, "1.2.3"),
    "e21-legacy-minrev.bin": ("application", "esp32", 0x10000, "1.2.3"),
    "e22d-merged-no-app.bin": ("merged", "esp32c3", 0x0, None),
    "e22f-table-no-md5.bin": ("merged", "esp32c3", 0x0, "1.2.3"),
    "e22j-esp32-from-1000.bin": ("merged", "esp32", 0x1000, "1.2.3"),
    "e23-app.bin": ("application", "esp32s3", 0x10000, "1.2.3"),
    "e23-table32.bin": ("partition table", None, 0x8000, None),
}
REFUSED = {
    "e06-c3-boot1000.bin": "place of the boot loader for esp32c3: expected 0x0, found 0x1000",
    "e06b-s3-boot1000.bin": "place of the boot loader for esp32s3: expected 0x0, found 0x1000",
    "e06d-p4-boot0.bin": "place of the boot loader for esp32p4, by the place of factory: "
    "expected 0x2000, found 0x0",
    "e16-magic.bin": "damaged header, magic: expected 0xe9, found 0xe8",
    "e16b-hashflag.bin": "damaged header, digest flag: expected 0 or 1, found 65",
    "e16c-chipid.bin": "damaged header, chip id: expected the number of a known chip, found 7",
    "e16d-segments.bin": "damaged header, number of segments: expected 1 to 16, found 81",
    "e18b-17segs.bin": "damaged header, number of segments: expected 1 to 16, found 17",
    "e20-patched-no-rehash.bin": "appended sha-256: expected ",
    "e22-merged-mixed.bin": "chip of factory: expected esp32c3, found esp32s3",
    "e22b-merged-app-cut.bin": "image in factory: expected at least 2336 bytes, found 2296 bytes",
    "e22c-merged-app-too-big.bin": "image in factory: expected at most 4096 bytes, found 6336",
    "e22e-merged-app-elsewhere.bin": "place of the application in factory: expected 0x10000, "
    "found 0x20000",
    "e22g-table-bit.bin": "partition 0: expected an offset in whole sectors and a size, found "
    "offset 0x9010",
    "e22i-esp32-boot-at-0.bin": "place of the boot loader for esp32, by the place of factory: "
    "expected 0x1000, found 0x0",
}
UF2 = {"e07-tinyuf2-s3.uf2"}


def read(name: str) -> Image:
    return recognise(io.BytesIO((FOLDER / name).read_bytes()))


def test_every_case_is_tried() -> None:
    assert {*READ, *REFUSED, *UF2} == {path.name for path in FOLDER.glob("e*")}


@pytest.mark.parametrize("name", READ)
def test_what_is_right_is_read(name: str) -> None:
    image = read(name)
    assert (image.role, image.chip, image.offset, image.version) == READ[name]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(name)
    assert caught.value.code == "malformed.image"
    assert caught.value.message.startswith(f"esp image: {REFUSED[name]}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("e17-readback.bin", ["1021 bytes after the boot loader are not blank, "]),
        ("e17b-one-zero.bin", ["1 byte after the boot loader is not blank, "]),
        ("e17c-zero-padded.bin", ["30608 bytes after the boot loader are not blank, "]),
        ("e19b-flag0-hash-there.bin", ["32 bytes after the application are not blank, "]),
        ("e22d-merged-no-app.bin", ["no application is in the file: by itself it starts nothing"]),
        ("e11d-sbv2-tail00.bin", []),
        ("e13b-securepad-signed.bin", []),
        ("e22f-table-no-md5.bin", []),
    ],
)
def test_what_is_doubtful_is_noted(name: str, expected: list[str]) -> None:
    found = read(name).notes
    assert [one[: len(words)] for one, words in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("name", "intact", "words"),
    [
        ("e10-sbv1.bin", ("v1",), ["v1 ecdsa"]),
        ("e11-sbv2.bin", ("v2 ecdsa",), ["ecdsa"]),
        ("e11b-sbv2-slot0-empty.bin", ("v2 ecdsa",), ["empty", "ecdsa"]),
        ("e11c-sbv2-slot0-bad-slot1-good.bin", ("v2 ecdsa",), ["bad crc", "ecdsa"]),
        ("e11d-sbv2-tail00.bin", ("v2 ecdsa",), ["ecdsa"]),
        ("e13-securepad.bin", (), []),
        ("e13b-securepad-signed.bin", ("v2 ecdsa",), ["ecdsa"]),
    ],
)
def test_each_signature_is_told(name: str, intact: tuple[str, ...], words: list[str]) -> None:
    image = read(name)
    assert image.parts[0].secure_boot == intact
    found = [value for key, value in image.details if key.startswith("secure boot signature")]
    assert [value.split(":")[0] for value in found] == words


@pytest.mark.parametrize(
    ("name", "lowest", "highest", "size"),
    [
        ("e01b-minrev-boot.bin", 301, 399, 4),
        ("e21-legacy-minrev.bin", 300, None, 4),
        ("e04-hdr2m.bin", 0, None, 2),
        ("e04b-hdr16m.bin", 0, None, 16),
    ],
)
def test_what_an_image_needs_is_told(
    name: str, lowest: int, highest: int | None, size: int
) -> None:
    needs = read(name).parts[0].needs
    assert needs is not None
    assert (needs.min_revision, needs.max_revision) == (lowest, highest)
    assert needs.flash_size == size << 20


@pytest.mark.parametrize("name", [name for name, found in READ.items() if found[0] == "merged"])
def test_merged_files_tell_their_parts(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    parts = read(name).parts
    roles = [part.role for part in parts]
    assert roles[:2] == ["boot loader", "partition table"]
    assert roles[2:] == ([] if name.startswith("e22d") else ["application"])
    for part in parts:
        magic = b"\xaa\x50" if part.role == "partition table" else b"\xe9"
        assert data[part.start :].startswith(magic)
        assert (part.label is None) == (part.role != "application")


HEADERS = sorted(name for name, found in READ.items() if found[0] in ("application", "boot loader"))


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    ("at", "new"), [(0, b"\xe8"), (1, b"\0"), (1, b"\x51"), (12, b"\x07"), (23, b"\x41")]
)
def test_a_damaged_byte_of_any_header_is_never_unknown(name: str, at: int, new: bytes) -> None:
    data = (FOLDER / name).read_bytes()
    with pytest.raises(Malformed, match="esp image: ") as caught:
        recognise(io.BytesIO(data[:at] + new + data[at + 1 :]))
    assert caught.value.code == "malformed.image"


def test_a_chip_that_is_not_known_is_noted_if_the_digest_is_right() -> None:
    data = bytearray((FOLDER / "e12-app.bin").read_bytes())
    struct.pack_into("<H", data, 12, 99)
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    image = recognise(io.BytesIO(bytes(data)))
    assert (image.kind, image.chip, image.offset) == ("esp", None, None)
    assert image.notes == ("chip number 99 is not known",)
