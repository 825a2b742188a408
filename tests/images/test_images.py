# SPDX-License-Identifier: Apache-2.0
"""The image parsers: whole images, damaged ones, mutated ones, and other programs as oracles."""

import hashlib
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwsign.errors import Failed, FwsignError, Malformed
from fwsign.format.payload import CHUNK_SIZE as CHUNK
from fwsign.images import (
    Image,
    esp,
    mcuboot,
    mcuboot_trailer,
    recognise,
    uf2,
    uf2_block,
    uf2_content,
    uf2_count,
)
from fwsign.images.uf2 import write_uf2

SAMPLES = Path(__file__).resolve().parents[2] / "firmware-samples"
RP2040, RP2350, ESP32C3 = 0xE48BFF56, 0xE48BFF59, 0xD42BA06C


# Images made here, by the formats' descriptions and not by the code under test.


def esp_image(
    *segments: tuple[int, bytes], chip: int = 5, digest: bool = True, size: int = 0x20
) -> bytes:
    head = struct.pack("<BBBBI", 0xE9, len(segments), 2, size, 0x40380000)
    head += struct.pack("<4xHBHH4xB", chip, 0, 3, 0xFFFF, digest)
    body = head + b"".join(struct.pack("<II", at, len(data)) + data for at, data in segments)
    body += bytes(15 - len(body) % 16)
    checksum = 0xEF
    for byte in b"".join(data for _, data in segments):
        checksum ^= byte
    body += bytes([checksum])
    return body + (hashlib.sha256(body).digest() if digest else b"")


def app_descriptor(version: bytes = b"1.2.3", project: bytes = b"lamp") -> bytes:
    texts = struct.pack("32s32s16s16s32s", version, project, b"12:00:00", b"Nov 22 2026", b"v5.5")
    return (struct.pack("<II8x", 0xABCD5432, 7) + texts + bytes(range(32))).ljust(256, b"\0")


def boot_descriptor() -> bytes:
    return struct.pack("<B3xI32s24s16x", 0x50, 1, b"v5.5", b"Nov 22 2026 12:00:00")


def app_image(chip: int = 5) -> bytes:
    return esp_image((0x3C000020, app_descriptor()), (0x40380000, b"code" * 50), chip=chip)


def boot_image(chip: int = 5) -> bytes:
    return esp_image((0x3FCD0000, boot_descriptor()), (0x403C0000, b"boot" * 50), chip=chip)


def partition_table(*rows: tuple[int, int, int, bytes]) -> bytes:
    packed = [
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, 0, at, size, label, 0)
        for kind, at, size, label in rows
    ]
    table = b"".join(packed)
    table += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(table, usedforsecurity=False).digest()
    return table.ljust(0xC00, b"\xff")


def merged_image(chip: int = 5, boot_at: int = 0, app: bytes | None = None) -> bytes:
    table = partition_table((1, 0x9000, 0x6000, b"nvs"), (0, 0x10000, 0x100000, b"factory"))
    whole = (b"\xff" * boot_at + boot_image(chip)).ljust(0x8000, b"\xff") + table
    return whole.ljust(0x10000, b"\xff") + (app_image(chip) if app is None else app)


def signed(image: bytes, version: int = 2, sha: int = 0, digest: bytes | None = None) -> bytes:
    padded = image + b"\xff" * (-len(image) % 4096)
    digest = hashlib.sha256(padded).digest() if digest is None else digest
    block = (struct.pack("<BBBx", 0xE7, version, sha) + digest).ljust(1196, b"\x11")
    block += struct.pack("<I16x", zlib.crc32(block))
    return padded + block.ljust(4096, b"\xff")


def block(  # a UF2 block
    number: int = 0,
    total: int = 1,
    *,
    address: int = 0x2000,
    family: int = 0x12345678,
    payload: bytes = bytes(256),
    flags: int = 0x2000,
    extra: bytes = b"",
) -> bytes:
    magics = (0x0A324655, 0x9E5D5157)
    head = struct.pack("<8I", *magics, flags, address, len(payload), number, total, family)
    return head + (payload + extra).ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)


def md5_block(payload: bytes, address: int = 0x10000) -> bytes:
    digest = hashlib.md5(payload, usedforsecurity=False).digest()
    extra = struct.pack("<II", address, len(payload)) + digest
    return block(address=address, family=ESP32C3, payload=payload, flags=0x6000, extra=extra)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def tlv_area(magic: int, *tlvs: bytes) -> bytes:
    return struct.pack("<HH", magic, 4 + len(b"".join(tlvs))) + b"".join(tlvs)


def mcuboot_image(
    payload: bytes = b"code" * 100,
    protected: bytes = b"",
    *more: bytes,
    flags: int = 0,
    algorithm: tuple[int, str] = (0x10, "sha256"),
) -> bytes:
    head = struct.pack("<IIHHI", 0x96F3B83D, 0, 512, len(protected), len(payload))
    head += struct.pack("<IBBHI4x", flags, 1, 2, 3, 4)
    hashed = head.ljust(512, b"\0") + payload + protected
    digest = hashlib.new(algorithm[1], hashed).digest()
    return hashed + tlv_area(0x6907, tlv(algorithm[0], digest), *more)


TRAILER = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")


def slot(before: bytes, magic: bytes = TRAILER) -> bytes:
    """Return an image in a slot whose trailer has these bytes before its magic."""
    return mcuboot_image() + b"\xff" * 99 + before + magic


def read(data: bytes) -> Image:
    file = io.BytesIO(data)
    try:
        return recognise(file)
    finally:
        assert file.tell() == 0


def refusal(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        read(data)
    assert caught.value.code == "malformed.image"
    assert caught.value.expected is not None
    assert caught.value.found is not None
    return caught.value.message


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# Whole images


def test_esp_application_is_read() -> None:
    image = read(app_image())
    assert image[:5] == ("esp", "esp32c3", "1.2.3", "lamp", 0x10000)
    details = dict(image.details)
    assert details["entry"] == "0x40380000"
    assert details["segment 0"] == "256 bytes at 0x3c000020"
    assert details["segment 1"] == "200 bytes at 0x40380000"
    assert details["flash"] == "dio, 4MB, 40m"
    assert details["minimum chip revision"] == "0.3"
    assert details["built"] == "Nov 22 2026 12:00:00"
    assert details["idf version"] == "v5.5"
    assert details["secure version"] == "7"
    assert details["elf sha-256"] == bytes(range(32)).hex()
    assert details["sha-256"] == app_image()[-32:].hex()


@pytest.mark.parametrize("chip", esp.CHIPS, ids=lambda chip: chip.name)
def test_boot_loader_goes_to_its_chips_offset(chip: esp.Chip) -> None:
    image = read(boot_image(chip.id))
    assert (image.chip, image.offset) == (chip.name, chip.bootloader)
    assert dict(image.details)["boot loader"] == "version 1"


def test_empty_texts_are_none() -> None:
    image = read(esp_image((0x3C000020, app_descriptor(b"", b""))))
    assert (image.version, image.project, image.offset) == (None, None, 0x10000)


def test_text_that_is_not_utf8_is_escaped() -> None:
    assert read(esp_image((0x3C000020, app_descriptor(b"1\xff")))).version == "1\\xff"


@pytest.mark.parametrize("chip", esp.CHIPS, ids=lambda chip: chip.name)
def test_esp_image_without_descriptor_is_what_the_rom_starts(chip: esp.Chip) -> None:
    for code in (b"code" * 100, b"", b"\x50" * 100):  # 0x50 alone is no descriptor
        image = read(esp_image((0x40380000, code), chip=chip.id))
        assert (image.role, image.offset) == ("boot loader", chip.bootloader)
        assert dict(image.details)["descriptor"] == "none"


def test_unusual_flash_settings_are_shown() -> None:
    assert dict(read(esp_image((0, b""), size=0xF0)).details)["flash"] == "dio, size 15, 40m"
    image = patched(esp_image((0, b""), digest=False), 2, b"\x09")
    assert dict(read(image).details)["flash"] == "mode 9, 4MB, 40m"


@pytest.mark.parametrize("length", [4, 60, CHUNK - 4, CHUNK, CHUNK + 4, 5 * CHUNK + 12])
def test_checksum_over_any_length(length: int) -> None:
    data = (bytes(range(1, 256)) * (length // 255 + 1))[:length]
    assert read(esp_image((0, data), digest=False)).kind == "esp"


def test_payload_is_read_in_small_pieces() -> None:
    class Spy(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert size >= 0
            self.largest = max(self.largest, size)
            return super().read(size)

    for data in (
        esp_image((0, bytes(10 * CHUNK))),
        write_uf2(bytes(10 * CHUNK), 0x10000, ESP32C3),
        mcuboot_image(bytes(10 * CHUNK)) + b"\xff" * 10 * CHUNK,
    ):
        spy = Spy(data)
        assert recognise(spy).kind != "unknown"
        assert spy.largest <= CHUNK


def test_padding_of_0xff_is_accepted() -> None:
    assert read(app_image() + b"\xff" * 100_000).offset == 0x10000


@pytest.mark.parametrize("image", [app_image(), app_image() + b"\xff" * 5000, boot_image()])
def test_secure_boot_signature_is_read(image: bytes) -> None:
    if len(image) > 4096:  # the sector is the next one, not a later one
        assert "secure boot signature 0" not in dict(read(signed(image)).details)
        assert "after the application are not blank" in read(signed(image)).notes[-1]
    else:
        assert dict(read(signed(image)).details)["secure boot signature 0"] == "rsa"
        assert read(signed(image) + b"\xff" * 77).chip == "esp32c3"


def test_secure_boot_signature_of_a_whole_sector() -> None:
    image = esp_image((0, bytes(4096 - 24 - 8 - 16 - 32)))
    assert len(image) == 4096
    assert dict(read(signed(image, version=3)).details)["secure boot signature 0"] == "ecdsa"


def test_three_secure_boot_signatures() -> None:
    image = signed(app_image())
    image = image[:4096] + (image[4096:][:1216] * 3).ljust(4096, b"\xff")
    assert dict(read(image).details)["secure boot signature 2"] == "rsa"


def test_secure_boot_signature_with_sha384() -> None:
    details = dict(read(signed(app_image(), 3, 1, b"?" * 48)).details)
    assert details["secure boot signature 0"] == "ecdsa, digest not checked"


@pytest.mark.parametrize(
    ("chip", "boot_at", "offset"), [(5, 0, 0x0), (0, 0x1000, 0x0), (18, 0x2000, 0x0)]
)
def test_merged_image_from_the_start_of_flash(chip: int, boot_at: int, offset: int) -> None:
    image = read(merged_image(chip, boot_at))
    assert image[:5] == ("esp", image.chip, "1.2.3", "lamp", offset)
    details = dict(image.details)
    assert details["merged"] == "partition table at 0x8000"
    assert details["partition nvs"] == "24576 bytes at 0x9000"
    assert details["partition factory"] == "1048576 bytes at 0x10000, holds lamp 1.2.3"


def test_merged_image_from_the_boot_loader_on() -> None:
    image = read(merged_image(0, 0x1000)[0x1000:])
    assert (image.chip, image.offset) == ("esp32", 0x1000)
    assert dict(image.details)["merged"] == "partition table at 0x8000"


def test_merged_image_with_signed_boot_loader() -> None:
    whole = merged_image()
    boot = signed(boot_image())
    assert read(boot + whole[len(boot) :]).offset == 0


@pytest.mark.parametrize("app", [b"", b"\xff" * 100, esp_image((0, b"code"))])
def test_merged_image_with_other_applications(app: bytes) -> None:
    assert read(merged_image(app=app)).offset == 0


def test_partition_table_without_digest() -> None:
    whole = merged_image()
    assert read(patched(whole, 0x8040, b"\xff" * 32)).offset == 0


def test_boot_loader_behind_erased_sectors() -> None:
    assert read(b"\xff" * 0x1000 + boot_image(0)).offset == 0
    for chip, place in ((18, "0x2000"), (5, "0x0")):
        assert f"expected {place}, found 0x1000" in refusal(b"\xff" * 0x1000 + boot_image(chip))
    assert read(patched(b"\xff" * 0x1000 + boot_image(0), 0x500, b"x")).kind == "unknown"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xe9",
        b"\xff" * 10_000,
        write_uf2(b"x", 0, 1)[:7],
    ],
)
def test_what_claims_nothing_is_unknown(data: bytes) -> None:
    assert read(data) == Image("unknown")


def test_uf2_of_an_rp2040_is_read() -> None:
    page = bytes(252) + struct.pack("<I", uf2.boot2_crc(bytes(252)))
    image = read(write_uf2(page + b"code", 0x10000000, RP2040))
    assert image[:5] == ("uf2", "rp2040", None, None, 0)
    assert image.details == (
        ("blocks", "2"),
        ("family", "rp2040 (0xe48bff56)"),
        ("range", "512 bytes at 0x10000000"),
    )


def test_crc_of_boot2_is_crc32_mpeg2() -> None:
    assert uf2.boot2_crc(b"123456789") == 0x0376E6E7  # the check value of the CRC catalogue


@pytest.mark.parametrize("family", [0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B])
def test_uf2_of_an_rp2350_is_read(family: int) -> None:
    assert read(write_uf2(b"code", 0x10004000, family))[:5] == ("uf2", "rp2350", None, None, 0x4000)


def e10_block(address: int = 0x10FFFF00, **other: int) -> bytes:
    return block(
        total=2, address=address, family=0xE48BFF57, payload=b"\xef" * other.get("size", 256)
    )


def test_rp2350_e10_block_is_left_out() -> None:
    image = read(e10_block() + write_uf2(b"code", 0x10000000, RP2350))
    assert (image.chip, image.offset) == ("rp2350", 0)
    assert dict(image.details)["block 0"] == "workaround for erratum RP2350-E10"


def test_uf2_for_ram_has_no_offset() -> None:
    assert read(write_uf2(b"code", 0x20000000, RP2040))[1:5] == ("rp2040", None, None, None)


def test_uf2_of_two_chips_names_both_places() -> None:
    both = write_uf2(b"a", 0x10004000, RP2040) + write_uf2(b"b", 0x10000000, RP2350)
    image = read(both)
    assert image[1:5] == (None, None, None, None)
    assert image.places == (("rp2040", 0x4000), ("rp2350", 0))


def test_uf2_with_data_is_still_for_its_chip() -> None:
    both = write_uf2(b"a", 0x10004000, RP2350) + write_uf2(b"b", 0x10000000, 0xE48BFF58)
    assert read(both)[1:5] == ("rp2350", None, None, 0)
    assert read(write_uf2(b"b", 0x10000000, 0xE48BFF58)).chip == "rp2350"


def test_uf2_of_unknown_or_no_family() -> None:
    assert read(block())[:5] == ("uf2", None, None, None, None)
    assert dict(read(block()).details)["family"] == "unknown (0x12345678)"
    assert dict(read(block(flags=0)).details)["family"] == "none"
    image = read(block() + write_uf2(b"a", 0x10004000, RP2040))
    assert (image.chip, image.offset) == ("rp2040", 0x4000)
    assert image.notes == ("for other boards: unknown (0x12345678)",)


def test_uf2_of_several_files_for_an_esp() -> None:
    files = write_uf2(bytes(1000), 0x10000, ESP32C3) + write_uf2(bytes(1000), 0x8000, ESP32C3)
    assert read(files)[1:5] == ("esp32c3", None, None, None)
    assert "for the drive of a UF2 boot loader on an esp32c3" in read(files).notes[0]
    assert read(md5_block(b"code" * 100)).chip == "esp32c3"
    # Another chip's digest may cover other flash than the block.
    assert read(block(flags=0x6000)).kind == "uf2"


def test_uf2_blocks_that_are_not_for_the_main_flash() -> None:
    note = block(number=0, total=2, family=RP2040, address=0, payload=b"note", flags=0x2001)
    code = block(number=1, total=2, family=RP2040, address=0x10004000)
    image = read(note + code)
    assert image.offset == 0x4000
    assert dict(image.details)["not for the main flash"] == "1 blocks"


def test_mcuboot_image_is_read() -> None:
    dependency = tlv(0x40, bytes(12))
    protected = tlv_area(0x6908, tlv(0x50, struct.pack("<I", 9)), dependency, dependency)
    image = read(mcuboot_image(b"x" * 100, protected, tlv(1, b"k" * 32), tlv(0x22, b"s"), flags=16))
    assert image[:5] == ("mcuboot", None, "1.2.3+4", None, None)
    details = dict(image.details)
    assert details["image"] == "100 bytes"
    assert details["flags"] == "not bootable"
    assert details["security counter"] == "9"
    assert details["key hash"] == (b"k" * 32).hex()
    assert details["signature"] == "ecdsa"
    assert details["tlv 0x0040"] == "12 bytes"


@pytest.mark.parametrize("algorithm", [(0x10, "sha256"), (0x11, "sha384"), (0x12, "sha512")])
def test_mcuboot_hashes(algorithm: tuple[int, str]) -> None:
    assert algorithm[1] in dict(read(mcuboot_image(algorithm=algorithm)).details)
    flipped = patched(mcuboot_image(algorithm=algorithm), 600, b"!")
    assert refusal(flipped).startswith(f"mcuboot image: {algorithm[1]}: expected ")


def test_encrypted_mcuboot_image_is_not_hashed() -> None:
    image = patched(mcuboot_image(flags=4 | 1 << 20), 600, b"!")
    assert dict(read(image).details)["sha256"].endswith(" (not checked: encrypted)")
    assert dict(read(image).details)["flags"] == "encrypted, aes-128, unknown 0x100000"


@pytest.mark.parametrize("erased", [b"\xff", b"\0"])
@pytest.mark.parametrize(
    ("magic", "before", "state"),
    [
        (TRAILER, 0, "magic only"),
        (TRAILER, 8, "confirmed"),
        (b"\x10\x00" + mcuboot_trailer.MAGIC_ALIGNED, 16, "confirmed"),
        (b"\x20\x00" + mcuboot_trailer.MAGIC_ALIGNED, 48, "confirmed"),
        (b"\x20\x00" + mcuboot_trailer.MAGIC_ALIGNED, 0, "magic only"),
    ],
)
def test_mcuboot_slot_trailer(erased: bytes, magic: bytes, before: int, state: str) -> None:
    mark = (b"\x01" + erased * (before - 1)) if before else b""
    image = read(mcuboot_image() + erased * 1000 + mark + magic)
    assert dict(image.details)["trailer"] == state


SLOT = {
    "image ok": (b"\1" + b"\xff" * 7, {"trailer": "confirmed"}, False),
    "copy done": (
        b"\1" + b"\xff" * 15,
        {"trailer": "not confirmed", "copy done": "yes"},
        True,
    ),
    "swap info": (b"\x12" + b"\xff" * 23, {"swap": "test, image 1"}, True),
    "swap size": (b"\0\x20\0\0" + b"\xff" * 28, {"swap size": "8192 bytes"}, True),
    "swap status": (
        b"\1\xff\xff\2\xff\xff\3\xff" + b"\xff" * 32,
        {"swap status": "3 entries", "trailer": "magic only"},
        True,
    ),
}


@pytest.mark.parametrize("erased", [b"\xff", b"\0"])
@pytest.mark.parametrize("field", SLOT)
def test_mcuboot_slot_with_the_status_of_a_swap(field: str, erased: bytes) -> None:
    before, words, swapped = SLOT[field]
    before = bytes(0 if byte == 0xFF else byte for byte in before) if erased == b"\0" else before
    image = read(mcuboot_image() + erased * 500 + before + TRAILER)
    assert dict(image.details).items() >= words.items()
    note = "it is a slot with the status of a swap: a boot loader may go on with that swap"
    assert image.notes == ((note,) if swapped else ())


@pytest.mark.parametrize("pair", [(1, 0x22), (2, 0x23), (1, 0x24)])
def test_mcuboot_image_with_several_signatures_lists_all(pair: tuple[int, int]) -> None:
    key, signature = pair
    tlvs = [tlv(kind, bytes([n]) * 8) for n in range(3) for kind in (key, signature)]
    names = [name for name, _ in read(mcuboot_image(b"x", b"", *tlvs)).details]
    assert names.count("signature") == 3
    assert names.count("key hash" if key == 1 else "public key") == 3


@pytest.mark.parametrize("kind", [0xA0, 0xFE, 0x12A0])
def test_mcuboot_tlv_of_a_vendor_is_read_and_said_to_be_unprotected(kind: int) -> None:
    image = read(mcuboot_image(b"x", b"", tlv(kind, b"abc")))
    assert dict(image.details)[f"tlv {kind:#06x}"] == "3 bytes"
    assert image.notes == (f"the signature does not cover the vendor's TLVs: {kind:#06x}",)
    protected = tlv_area(0x6908, tlv(kind, b"abc"))
    assert read(mcuboot_image(b"x", protected)).notes == ()


def test_mcuboot_image_without_tlvs_is_plain() -> None:
    plain = mcuboot_image()[: 512 + 400]
    image = read(plain)
    assert (image.kind, image.version) == ("mcuboot", "1.2.3+4")
    assert image.notes == (
        "it has no TLVs, neither hash nor signature: MCUboot starts no such image",
    )
    with pytest.raises(Malformed, match="tlvs: expected one hash, found no tlvs"):
        mcuboot.image_hash(plain)
    with_protected = mcuboot_image(b"code" * 100, tlv_area(0x6908, tlv(0x50, b"1234")))
    assert "magic of protected tlvs" in refusal(with_protected[: 512 + 400])


@pytest.mark.parametrize("form", [">HH", ">BxH"])
def test_big_endian_mcuboot_image_is_named(form: str) -> None:
    head = struct.pack(">IIHHIIBBHI4x", 0x96F3B83D, 0, 512, 0, 400, 0, 1, 2, 3, 4)
    hashed = head.ljust(512, b"\0") + b"code" * 100
    tlvs = struct.pack(form, 0x10, 32) + hashlib.sha256(hashed).digest()
    whole = hashed + struct.pack(">HH", 0x6907, 4 + len(tlvs)) + tlvs
    image = read(whole)
    assert image[:3] == ("mcuboot", None, "1.2.3+4")
    assert ("byte order", "big-endian") in image.details
    assert image.notes == ("it is for a big-endian target",)
    assert "sha256: expected " in refusal(patched(whole, 600, b"!"))


def test_mcuboot_padding() -> None:
    assert dict(read(mcuboot_image() + b"\xff").details)["padding"] == "1 bytes"
    assert dict(read(mcuboot_image() + b"\0" * 9999).details)["padding"] == "9999 bytes"


# Damaged images: each refusal, by its message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (app_image()[:30], "header of segment 0: expected 8 bytes, found 6 bytes"),
        (app_image()[:200], "segment 0: expected 256 bytes, found 168 bytes"),
        (
            esp_image((0, b"code" * 3))[:45],
            "padding before the checksum: expected 3 bytes, found 1",
        ),
        (esp_image((0, b"code" * 3))[:47], "checksum: expected 1 bytes, found 0 bytes"),
        (app_image()[:-1], "appended sha-256: expected 32 bytes, found 31 bytes"),
        (esp_image((0, b"abc")), "length of segment 0: expected a multiple of 4, found 3"),
        (patched(app_image(), 0x40, b"!"), "checksum: expected 0x"),
        (patched(app_image(), 4, b"!"), "appended sha-256: expected "),
        (patched(app_image(), 12, b"\x09"), "appended sha-256: expected "),
        (
            app_image().ljust(0x8000, b"\xff") + partition_table(),
            "first image before a partition table: expected a boot loader, found an application",
        ),
        (
            boot_image().ljust(0x8004, b"\xff") + partition_table(),
            "partition table: expected one on a 4 KiB boundary, found one elsewhere",
        ),
        (signed(app_image())[:-1], "signature sector: expected 4096 bytes, found 4095 bytes"),
        (signed(app_image(), version=1), "magic e7 and version 2 or 3, found e701"),
        (signed(app_image(), digest=bytes(32)), "digest of secure boot signature 0: expected "),
        (
            patched(signed(app_image()), 4096 + 100, b"!"),
            "crc of secure boot signature 0: expected",
        ),
        (patched(signed(app_image()), 8191, b"!"), "bytes after the secure boot signatures"),
        (patched(merged_image(), 0x8004, b"!"), "partition 0: expected an offset in whole sectors"),
        (patched(merged_image(), 0x8008, bytes(4)), "offset 0x9000, size 0x0"),
        (patched(merged_image(), 0x800C, b"!"), "md5 of partition table: expected "),
        (
            patched(merged_image(), 0x8020, b"!"),
            "partition 1: expected aa50, ebeb or 0xff, found 21",
        ),
        (patched(merged_image(), 0x8070, b"!"), "bytes after the partition table: expected 0xff"),
        (
            boot_image().ljust(0x8000, b"\xff")
            + partition_table((0, 0x20000, 0x1000, b"b"), (0, 0x10000, 0x10001, b"a")),
            "offset of partition b: expected 0x20001 or more, found 0x20000",
        ),
        (merged_image()[:0x8010], "partition 0: expected 32 bytes, found 16 bytes"),
        (
            merged_image()[:0x10100],
            "image in factory: expected at least 296 bytes, found 256 bytes, cut",
        ),
        (merged_image(app=app_image(9)), "chip of factory: expected esp32c3, found esp32s3"),
        (merged_image(app=b"code" * 99), "header: expected a header of a known chip, found 636f"),
        (merged_image(app=b"code"), "header: expected 24 bytes, found 4 bytes"),
        (patched(merged_image(), 0x10040, b"!"), "checksum: expected 0x"),
    ],
)
def test_damaged_esp_image_is_refused(data: bytes, message: str) -> None:
    assert refusal(data).startswith("esp image: ")
    assert message in refusal(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (block()[:-1], "size: expected a multiple of 512 bytes, found 511 bytes"),
        (
            patched(block(), 508, b"!"),
            "magic of block 0: expected 0a324655 9e5d5157 0ab16f30, found",
        ),
        (block(0, 2) + patched(block(1, 2), 0, b"!"), "magic of block 1: expected 0a324655"),
        (block(flags=0x2200), "flags of block 0: expected 1, 1000, 2000, 4000, 8000, found 200"),
        (block(payload=b""), "payload of block 0: expected 1 to 476 bytes, found 0 bytes"),
        (
            patched(block(), 16, b"\xdd\x01"),
            "payload of block 0: expected 1 to 476 bytes, found 477",
        ),
        (block(payload=bytes(453), flags=0x6000), "expected 1 to 452 bytes, found 453 bytes"),
        (block(address=0xFFFFFFF0), "within 32 bits, found 0xfffffff0"),
        (block(1, 2), "number of blocks: expected 2, found 1"),
        (block(0, 0), "numbering of block 0: expected one more of 0 of family unknown"),
        (block(0, 3), "number of blocks: expected 3, found 1"),
        (block(0, 2) + block(2, 2), "numbering of block 1: expected one more of 2 of family"),
        (block(0, 2) + block(0, 2), "of family unknown (0x12345678), found 0 of 2 again"),
        (block(0, 2) + block(1, 1), "numbering of block 1: expected one more of 2 of family"),
        (block(0, 2) + block(0, 2, family=RP2040, address=0x10004000), "expected 2, found 2"),
        (block() + block(), "expected nothing else before 0x00002100, found 0x00002000"),
        (
            block() + block(address=0x20FC),
            "expected nothing else before 0x00002100, found 0x000020fc",
        ),
        (block(flags=0x2001), "blocks for the main flash: expected at least one, found none"),
        (e10_block(), "blocks for the main flash: expected at least one, found none"),
        (e10_block(0x20000000), "number of blocks: expected 2, found 1"),
        (
            e10_block(size=257),
            "number of blocks: expected 2, found 1",
        ),
        (
            block(family=RP2040, address=0x10004000, payload=bytes(257)),
            "block 0: expected a page of 256 bytes, found 257 bytes at 0x10004000",
        ),
        (block(family=RP2040, address=0x10000080), "found 256 bytes at 0x10000080"),
        (block(family=RP2040), "address of block 0: expected in flash or ram of rp2040, found 0x0"),
        (block(family=RP2040, address=0x10000000), "crc of boot2: expected 0x"),
        (
            write_uf2(b"a", 0x10004000, RP2040) + write_uf2(b"a", 0x20000000, RP2040),
            "blocks of family rp2040 (0xe48bff56): expected flash or ram, found flash and ram",
        ),
        (patched(md5_block(b"code"), 32, b"!"), "md5 of block 0: expected "),
        (
            patched(md5_block(b"code"), 12, b"\x04"),
            "md5 of block 0: expected over 4 bytes at 0x00010004, found 4 bytes at 0x00010000",
        ),
    ],
)
def test_damaged_uf2_is_refused(data: bytes, message: str) -> None:
    assert refusal(data).startswith("uf2 image: ")
    assert message in refusal(data)


def test_uf2_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    scattered = b"".join(block(address=0x1000 * n) for n in range(5))
    monkeypatch.setattr(uf2_count, "MAX_PIECES", 5)
    assert read(scattered).kind == "uf2"
    monkeypatch.setattr(uf2_count, "MAX_PIECES", 4)
    assert "contiguous ranges: expected at most 4, found more" in refusal(scattered)
    several = b"".join(block(family=n, address=0x1000 * n) for n in range(3))
    monkeypatch.setattr(uf2_content, "MAX_FAMILIES", 3)
    assert read(several).kind == "uf2"
    monkeypatch.setattr(uf2_content, "MAX_FAMILIES", 2)
    assert "families: expected at most 2, found more" in refusal(several)
    monkeypatch.setattr(uf2, "MAX_BLOCKS", 4)
    assert "number of blocks: expected at most 4, found 5" in refusal(scattered)


HASH_AT = 512 + 400 + 4 + 4  # in an image without protected TLVs


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (mcuboot_image()[:31], "header: expected 32 bytes, found 31 bytes"),
        (
            patched(mcuboot_image(), 8, b"\x1f\0"),
            "header: expected at least 32 bytes, found 31 bytes",
        ),
        (mcuboot_image()[:900], "header and image: expected 912 bytes, found 900 bytes"),
        (mcuboot_image()[:914], "magic of tlvs: expected 4 bytes, found 2 bytes"),
        (mcuboot_image()[:918], "head of tlv 0 of tlvs: expected 4 bytes, found 2 bytes"),
        (mcuboot_image()[:-1], "tlv 0x10 of tlvs: expected 32 bytes, found 31 bytes"),
        (patched(mcuboot_image(), 912, b"\x08"), "magic of tlvs: expected 0x6907, found 0x6908"),
        (
            patched(mcuboot_image(), 10, b"\x08"),
            "magic of protected tlvs: expected 0x6908, found 0x69",
        ),
        (
            mcuboot_image(b"", struct.pack("<HH", 0x6908, 9) + tlv(0x50, b"")),
            "size of protected tlvs: expected 8 bytes, found 9 bytes",
        ),
        (patched(mcuboot_image(), 914, b"\x27"), "end of tlvs: expected 0x3b7, found 0x3b8"),
        (patched(mcuboot_image(), 914, b"\x25"), "end of tlvs: expected 0x3b5, found 0x3b8"),
        (
            patched(mcuboot_image(), 914, b"\x2c"),
            "head of tlv 1 of tlvs: expected 4 bytes, found 0",
        ),
        (mcuboot_image(b"", b"", *[tlv(1, b"")] * 64), "number of tlvs: expected at most 64"),
        (patched(mcuboot_image(), 600, b"!"), "sha256: expected "),
        (patched(mcuboot_image(), HASH_AT, b"!!"), "sha256: expected "),
        (patched(mcuboot_image(), HASH_AT - 4, b"\1"), "tlvs: expected one hash, found 0 hashes"),
        (mcuboot_image(b"", b"", tlv(0x11, bytes(48))), "tlvs: expected one hash, found 2 hashes"),
        (
            mcuboot_image(b"", b"", tlv(0x10, bytes(32))),
            "tlvs: expected each type once, found type 0x10 again",
        ),
        (
            mcuboot_image(b"", b"", tlv(0x32, b"1"), tlv(0x32, b"2")),
            "tlvs: expected each type once, found type 0x32 again",
        ),
        (
            mcuboot_image(b"", tlv_area(0x6908, tlv(1, b"1"), tlv(1, b"2"))),
            "protected tlvs: expected each type once, found type 0x1 again",
        ),
        (
            mcuboot_image(b"", tlv_area(0x6908, tlv(0x50, b"1"), tlv(0x50, b"2"))),
            "protected tlvs: expected each type once, found type 0x50 again",
        ),
        (
            mcuboot_image(b"", tlv_area(0x6908, tlv(0x10, bytes(32)))),
            "protected tlvs: expected no hash, found type 0x10",
        ),
        (
            mcuboot_image(b"", b"", tlv(0x50, b"1234")),
            "tlvs: expected a hash, key, signature or wrapped key, found type 0x50, which nothing",
        ),
        (mcuboot_image(b"", b"", tlv(0x74, b"")), "found type 0x74, which nothing protects"),
        (mcuboot_image(b"", b"", tlv(0xFF, b"")), "found type 0xff, which nothing protects"),
        (mcuboot_image() + b"x", "bytes after the tlvs: expected erased flash, found 78"),
        (mcuboot_image() + TRAILER, "bytes after the tlvs: expected erased flash, found 77"),
        (
            mcuboot_image() + b"\xff" * 9 + b"x" + b"\xff" * 99_000,
            f"expected erased flash, found others at {len(mcuboot_image()) + 9:#x}",
        ),
        (
            mcuboot_image() + b"\xff" * 9 + b"x" + b"\xff" * 20,
            f"trailer: expected erased flash or the magic, found {'ff' * 16}",
        ),
        (slot(b"\2" + b"\xff" * 7), "image ok: expected 1 or erased flash, found 2"),
        (slot(b"\1" + b"\xff" * 6), "image ok: expected a value of 1 bytes, found ff01ff"),
        (slot(b"\7" + b"\xff" * 15), "copy done: expected 1 or erased flash, found 7"),
        (slot(b"\6" + b"\xff" * 23), "swap info: expected a type of 1 to 5, found 6"),
        (slot(b"\1\1\1\1\1" + b"\xff" * 27), "swap size: expected a value of 4 bytes, found 01"),
        (slot(b"\1\4" + b"\xff" * 32), "swap status: expected 1, 2, 3 or erased flash, found 04"),
        (
            mcuboot_image() + b"\xff\1\xff\xff\7\0" + mcuboot_trailer.MAGIC_ALIGNED,
            "erased flash or the magic",
        ),
        (
            slot(b"\1" + b"\xff" * 15, b"\x20\0" + mcuboot_trailer.MAGIC_ALIGNED),
            "trailer: expected erased flash before the magic, found 01ff",
        ),
        (slot(b"\1" + b"\xff" * 7, TRAILER[:-1] + b"x"), "erased flash or the magic"),
        (b"\xff".join((mcuboot_image(), b"\1\xff\xff" + TRAILER)), "image ok: expected a value of"),
    ],
)
def test_damaged_mcuboot_image_is_refused(data: bytes, message: str) -> None:
    assert refusal(data).startswith("mcuboot image: ")
    assert message in refusal(data)


@pytest.mark.parametrize(("data", "base"), [(b"", 0), (b"x", 1), (b"x", -256), (b"x" * 257, 2**32)])
def test_write_uf2_refuses_what_uf2_cannot_hold(data: bytes, base: int) -> None:
    with pytest.raises(Malformed, match="contents: expected bytes at a multiple of 256 within 32"):
        write_uf2(data, base, RP2040)


def test_file_that_cannot_be_read() -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(Failed, match="cannot read the image: input/output error") as caught:
        recognise(Broken())
    assert caught.value.code == "io.read"


def test_file_that_shrinks_while_it_is_read() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b"" if self.tell() > CHUNK else super().read(size)

    with pytest.raises(Malformed, match="segment 0: expected "):
        recognise(Shrinking(esp_image((0, bytes(2 * CHUNK)))))


# Properties

SEEDS: list[bytes] = [
    app_image(),
    boot_image(0),
    signed(app_image()),
    merged_image(0, 0x1000),
    write_uf2(bytes(1000), 0x10004000, RP2040),
    e10_block() + write_uf2(bytes(300), 0x10000000, RP2350),
    md5_block(b"code" * 9),
    mcuboot_image(b"x" * 99, tlv_area(0x6908, tlv(0x50, bytes(4))), tlv(1, bytes(32))),
    mcuboot_image(b"x") + b"\xff" * 100 + TRAILER,
]


KINDS = {"esp", "uf2", "mcuboot", "unknown", "noted"}


def outcome(data: bytes) -> str:
    try:
        image = read(data)
        return "noted" if any("not blank" in note for note in image.notes) else image.kind
    except FwsignError as error:
        return error.code


# In a UF2 block, the flag of the digest and the family: nothing covers them.
@pytest.mark.parametrize(
    ("data", "free"),
    [
        (app_image(), []),
        (merged_image()[:0x8C00], []),
        (mcuboot_image(b"x" * 99), []),
        (md5_block(b"code" * 113), [9, 28, 29, 30, 31]),
    ],
)
def test_any_byte_flipped_is_noticed(data: bytes, free: list[int]) -> None:
    assert outcome(data) in KINDS
    end = min(len(data), 1024)  # of the merged image, the boot loader and the table
    for at in {*range(end), *range(len(data) - end, len(data))}.difference(free):
        flipped = outcome(patched(data, at, bytes([data[at] ^ 0x40])))
        assert flipped in {"malformed.image", "unknown", "noted"}, f"byte {at:#x}"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_nothing_but_our_errors_leaves(data: st.DataObject) -> None:
    mutated = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(mutated), 2000)))
        new = data.draw(st.binary(max_size=8))
        mutated[at : at + data.draw(st.sampled_from([len(new), 0, 1, 16]))] = new
    if data.draw(st.booleans()):
        del mutated[data.draw(st.integers(0, len(mutated))) :]
    assert outcome(bytes(mutated)) in {"malformed.image", *KINDS}


@given(
    st.sampled_from([b"\xe9\x01", uf2_block.MAGICS, b"\x3d\xb8\xf3\x96"]), st.binary(max_size=1024)
)
@settings(max_examples=200, deadline=None)
def test_noise_behind_a_magic_is_no_crash(magic: bytes, noise: bytes) -> None:
    assert outcome(magic + noise) in {"malformed.image", *KINDS}


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_what_write_uf2_writes_is_read(data: bytes, page: int) -> None:
    written = write_uf2(data, 0x10000100 + 256 * page, RP2350)
    assert len(written) == 512 * -(-len(data) // 256)
    assert read(written).offset == 0x100 + 256 * page
    blocks = [written[at + 32 : at + 288] for at in range(0, len(written), 512)]
    assert b"".join(blocks).rstrip(b"\0") == data.rstrip(b"\0")


# Other programs as oracles


def need(module: str) -> None:
    """Skip where an oracle is not there, or fail where all of them have to be."""
    if importlib.util.find_spec(module) is None:
        reason = f"{module} is not installed"
        if os.environ.get("FWSIGN_REQUIRE_EXTERNAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def run(*arguments: str | Path) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ASK_ESPTOOL = """
import json, sys
from esptool.bin_image import LoadFirmwareImage
image = LoadFirmwareImage(sys.argv[1], sys.argv[2])
print(json.dumps({
    "entry": f"{image.entrypoint:#010x}",
    "checksum": [f"{image.checksum:#04x}", f"{image.calculate_checksum():#04x}"],
    "digest": [image.stored_digest.hex(), image.calc_digest.hex()],
    "chip": image.chip_id,
    "segments": [f"{len(s.data)} bytes at {s.addr:#010x}" for s in image.segments],
}))
"""


@pytest.mark.external
@pytest.mark.parametrize("name", ["esp32", "esp32s3", "esp32c3", "esp32p4", "sample"])
def test_esptool_reads_the_same(name: str, tmp_path: Path) -> None:
    need("esptool")
    path = SAMPLES / "blink-esp32c3.bin"
    if name != "sample":
        path = tmp_path / "app.bin"
        path.write_bytes(app_image(next(chip.id for chip in esp.CHIPS if chip.name == name)))
    image = read(path.read_bytes())
    details = dict(image.details)
    theirs = json.loads(run("-c", ASK_ESPTOOL, image.chip or "", path))
    assert theirs["entry"] == details["entry"]
    assert theirs["checksum"] == [details["checksum"]] * 2
    assert theirs["digest"] == [details["sha-256"]] * 2
    assert theirs["chip"] == next(chip.id for chip in esp.CHIPS if chip.name == image.chip)
    assert theirs["segments"] == [v for k, v in details.items() if k.startswith("segment ")]


@pytest.mark.external
def test_chips_are_those_of_esptool() -> None:
    need("esptool")
    script = (
        "import json; from esptool.targets import CHIP_DEFS; print(json.dumps({n: "
        "[c.IMAGE_CHIP_ID, c.BOOTLOADER_FLASH_OFFSET, c.UF2_FAMILY_ID] "
        "for n, c in CHIP_DEFS.items() if n not in ('esp8266', 'esp32e22')}))"
    )
    ours = {chip.name: [chip.id, chip.bootloader, chip.family] for chip in esp.CHIPS}
    assert {name: ours.get(name) for name in json.loads(run("-c", script))} == json.loads(
        run("-c", script)
    )


@pytest.mark.external
@pytest.mark.parametrize(("name", "chip"), [("esp32", 0), ("esp32c3", 5), ("esp32p4", 18)])
def test_what_esptool_merges_is_read(name: str, chip: int, tmp_path: Path) -> None:
    need("esptool")
    offset = next(c.bootloader for c in esp.CHIPS if c.name == name)
    table = partition_table((0, 0x10000, 0x100000, b"factory"))
    parts: list[str | Path] = []
    for at, data in ((offset, boot_image(chip)), (0x8000, table), (0x10000, app_image(chip))):
        (tmp_path / f"{at}.bin").write_bytes(data)
        parts += [hex(at), tmp_path / f"{at}.bin"]
    for form in ("raw", "uf2"):
        merged = tmp_path / form
        command = ("merge-bin", "--format", form, "--output", merged, *parts)
        run("-m", "esptool", "--chip", name, *command)
        image = read(merged.read_bytes())
        # esptool's raw output begins at 0; a UF2 says where it begins.
        expected = ("esp", name, 0) if form == "raw" else ("uf2", name, None)
        assert (image.kind, image.chip, image.offset) == expected


@pytest.mark.external
@pytest.mark.parametrize(
    ("scheme", "words"),
    [("rsa3072", "rsa"), ("ecdsa256", "ecdsa"), ("ecdsa384", "ecdsa, digest not checked")],
)
def test_what_espsecure_signs_is_read(scheme: str, words: str, tmp_path: Path) -> None:
    need("espsecure")
    key, plain, out = tmp_path / "key.pem", tmp_path / "app.bin", tmp_path / "signed.bin"
    plain.write_bytes(app_image())
    tool = ("-m", "espsecure")
    run(*tool, "generate-signing-key", "--version", "2", "--scheme", scheme, key)
    run(*tool, "sign-data", "--version", "2", "--keyfile", key, "--output", out, plain)
    image = read(out.read_bytes())
    assert image.version == "1.2.3"
    assert dict(image.details)["secure boot signature 0"] == words


@pytest.mark.external
def test_what_espsecure_signs_for_v1_is_read(tmp_path: Path) -> None:
    need("espsecure")
    key, plain, out = tmp_path / "key.pem", tmp_path / "app.bin", tmp_path / "signed.bin"
    plain.write_bytes(app_image(0))
    tool = ("-m", "espsecure")
    run(*tool, "generate-signing-key", "--version", "1", key)
    run(*tool, "sign-data", "--version", "1", "--keyfile", key, "--output", out, plain)
    image = read(out.read_bytes())
    assert (image.parts[0].secure_boot, image.notes) == (("v1",), ())
    assert image.parts[0].end == out.stat().st_size


IMGTOOL_CASES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "padded": ("--pad",),
    "confirmed": ("--pad", "--confirm"),
    "wide": ("--pad", "--confirm", "--max-align", "32"),
    "erased-to-0": ("--pad", "--erased-val", "0"),
    "protected": ("--security-counter", "7", "--dependencies", "(0, 1.0.0+0)"),
    "custom": ("--custom-tlv", "0x00a1", "0x1234"),
    "ed25519": ("--key", "ed25519"),
    "ecdsa-p256": ("--key", "ecdsa-p256"),
    "rsa-3072": ("--key", "rsa-3072"),
    "ecdsa-p384": ("--key", "ecdsa-p384"),
    "ed25519-pure": ("--key", "ed25519", "--pure"),
    "sha512": ("--key", "ed25519", "--sha", "512"),
    "full key": ("--key", "ecdsa-p256", "--public-key-format", "full"),
    "compressed": ("--compression", "lzma2"),
    "test": ("--test",),
    "confirmed, many sectors": ("--confirm", "--max-sectors", "500", "--max-align", "16"),
    "ids": ("--vid", "acme.example", "--cid", "x1"),
    "rom-fixed": ("--rom-fixed", "0x10000"),
}


@pytest.mark.external
@pytest.mark.parametrize("case", IMGTOOL_CASES)
def test_what_imgtool_makes_is_read(case: str, tmp_path: Path) -> None:
    need("imgtool")
    tool = ("-c", "import sys; from imgtool.main import imgtool; sys.exit(imgtool())")
    payload, out, key = tmp_path / "app.bin", tmp_path / "out.bin", tmp_path / "key.pem"
    payload.write_bytes(b"code" * 500)
    options: list[str | Path] = list(IMGTOOL_CASES[case])
    if "--key" in options:
        run(*tool, "keygen", "--type", options[1], "--key", key)
        options[1] = key
    sizes = ("--header-size", "512", "--pad-header", "--slot-size", "65536", "--align", "8")
    run(*tool, "sign", "--version", "1.2.3+4", *sizes, *options, payload, out)
    image = read(out.read_bytes())
    assert image[:3] == ("mcuboot", None, "1.2.3+4")
    details = dict(image.details)
    said = run(*tool, "verify", *(("--key", key) if "--key" in options else ()), out)
    assert "1.2.3+4" in said
    algorithm = next(name for name in ("sha512", "sha384", "sha256") if name in details)
    assert details[algorithm] in said or "--pure" in options  # then it tells the signature
    assert details.get("trailer") == (
        "confirmed"
        if "--confirm" in options
        else "magic only"
        if {"--pad", "--test"} & set(options)
        else None
    )
    assert ("signature" in details) == ("--key" in options)


CLAIMS: list[tuple[Callable[[bytes], bool], bytes]] = [
    (esp.claims, app_image()),
    (uf2.claims, block()),
    (mcuboot.claims, mcuboot_image()),
]


@pytest.mark.parametrize("number", range(3))
def test_no_two_formats_claim_the_same_file(number: int) -> None:
    assert [claims(CLAIMS[number][1][:32]) for claims, _ in CLAIMS] == [
        other == number for other in range(3)
    ]
