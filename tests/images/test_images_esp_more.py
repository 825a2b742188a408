"""ESP files with more than one image in a plain place: tails, signatures, merges of all kinds."""

import hashlib
import struct

import pytest

from fwsign.images import Image
from fwsign.images.esp_chips import CHIPS
from images_kit import (
    FACTORY,
    OTA,
    ROWS,
    app,
    boot,
    descriptor,
    image,
    laid_out,
    merged,
    patched,
    read,
    refusal,
    table,
)

# What follows an image


@pytest.mark.parametrize("make", [app, boot])
@pytest.mark.parametrize(
    ("tail", "count", "first"),
    [
        (b"\0", 1, 0),
        (b"\xff" * 9 + b"old", 3, 9),
        (bytes(5000), 5000, 0),
        (b"x" + b"\xff" * 99, 1, 0),
    ],
)
def test_bytes_that_are_not_blank_are_noted(
    make: object, tail: bytes, count: int, first: int
) -> None:
    data = make() if callable(make) else b""
    what = "application" if make is app else "boot loader"
    noun = f"{count} bytes after the {what} are" if count > 1 else f"1 byte after the {what} is"
    words = f"{noun} not blank, the first at {len(data) + first:#x}"
    assert read(data + tail).notes == (words,)
    assert read(data + b"\xff" * len(tail)).notes == ()


def test_an_image_after_a_boot_loader_needs_a_table() -> None:
    words = "esp image: partition table before the image at 0x10000: expected one on a 4 KiB"
    assert refusal(laid_out((0, boot()), (0x10000, app()))).startswith(words)
    words = "esp image: partition table: expected one on a 4 KiB boundary, found one elsewhere"
    assert refusal(laid_out((0, boot()), (0x8010, table(*FACTORY)))) == words
    assert refusal(laid_out((0, boot()), (0x1FFFF, table(*FACTORY)))) == words


def test_a_table_after_an_application_is_refused() -> None:
    words = "esp image: first image before a partition table: expected a boot loader, found an appl"
    assert refusal(laid_out((0, app()), (0x8000, table(*FACTORY)))).startswith(words)


def test_an_application_after_erased_sectors_is_refused() -> None:
    words = "esp image: place of the application at 0x10000: expected the first byte of the file"
    assert refusal(b"\xff" * 0x10000 + app()).startswith(words)


# Merged files


@pytest.mark.parametrize(
    ("at", "data", "note"),
    [
        (0x7000, b"old", "3 bytes after the boot loader are not blank, the first at 0x7000"),
        (0x8C00, b"\0", "1 byte after the partition table is not blank, the first at 0x8c00"),
        (0xE000, b"\0\0", "2 bytes after nvs are not blank, the first at 0xe000"),
        (
            0x1F000,
            b"x",
            "1 byte after the application in factory is not blank, the first at 0x1f000",
        ),
        (0x30000, b"x", "1 byte after factory is not blank, the first at 0x30000"),
        (0x9000, b"settings of the board", ""),
    ],
)
def test_bytes_in_no_place_are_noted(at: int, data: bytes, note: str) -> None:
    pieces = ((0, boot()), (0x8000, table(*FACTORY)), (0x10000, app()), (at, data))
    assert read(laid_out(*pieces)).notes == ((note,) if note else ())


def test_bytes_in_an_erased_slot_are_noted() -> None:
    pieces = ((0, boot()), (0x8000, table(*OTA)), (0x10000, app()), (0x30400, b"old"))
    words = "3 bytes in ota_1, which begins erased, are not blank, the first at 0x30400"
    assert read(laid_out(*pieces)).notes == (words,)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0x20000, "place of the application in factory: expected 0x10000, found 0x20000"),
        (0xE000, "partition for the image at 0xe000: expected one that begins there, found none"),
        (0x40000, "partition for the image at 0x40000: expected one that begins there, found none"),
    ],
)
@pytest.mark.parametrize("chip", ["esp32", "esp32c3", "esp32p4"])
def test_an_application_where_no_table_says_is_refused(chip: str, at: int, words: str) -> None:
    assert refusal(merged(chip, app_at=at)) == f"esp image: {words}"


@pytest.mark.parametrize("chip", [one.name for one in CHIPS if one.bootloader])
def test_a_file_from_the_start_of_flash_with_its_boot_loader_there(chip: str) -> None:
    place = next(one.bootloader for one in CHIPS if one.name == chip)
    words = f"place of the boot loader for {chip}, by the place of factory: expected {place:#x}"
    for rows in (FACTORY, FACTORY[1:]):
        assert refusal(merged(chip, rows, at=0)).startswith(f"esp image: {words}, found 0x0")


def test_the_applications_must_be_whole_and_for_one_chip() -> None:
    data = merged()
    size = len(app())
    assert refusal(data[:-1]).startswith(
        f"esp image: image in factory: expected at least {size} bytes, found {size - 1} bytes, cut"
    )
    small = (ROWS[0], (0, 0, 0x10000, 0x1000, "factory"))
    large = laid_out((0, boot()), (0x8000, table(*small)), (0x10000, app(code=8000)))
    assert "image in factory: expected at most 4096 bytes, found 8" in refusal(large)
    both = laid_out((0, boot()), (0x8000, table(*OTA)), (0x10000, app()), (0x30000, app("esp32s3")))
    assert refusal(both) == "esp image: chip of ota_1: expected esp32c3, found esp32s3"


def test_the_version_is_that_of_all_applications() -> None:
    other = image("esp32c3", (0x3C000020, descriptor(b"2.2")), (0x42010128, bytes(400)))
    both = laid_out((0, boot()), (0x8000, table(*OTA)), (0x10000, app()), (0x30000, other))
    found = read(both)
    assert (found.version, found.project) == (None, "lamp")
    assert [one.label for one in found.parts if one.role == "application"] == ["ota_0", "ota_1"]


def test_no_application_is_noted() -> None:
    found = read(laid_out((0, boot()), (0x8000, table(*FACTORY))))
    assert found.notes == ("no application is in the file: by itself it starts nothing",)
    found = read(laid_out((0, boot()), (0xC000, table(FACTORY[1]))))
    assert found.notes[1] == (
        "the partition table is at 0xc000: boot loaders look for it at 0x8000 by default"
    )


@pytest.mark.parametrize("rows", [FACTORY, OTA])
@pytest.mark.parametrize(("start", "table_at"), [(0x8000, 0), (0x0, 0x8000), (0x7000, 0x1000)])
def test_a_file_without_a_boot_loader(rows: tuple[object, ...], start: int, table_at: int) -> None:
    pieces = ((0x8000, table(*rows)), (0x10000, app("esp32s3")))  # type: ignore[arg-type]
    found = read(laid_out(*pieces, start=start))
    assert (found.role, found.chip, found.offset, found.version) == (
        *("merged", "esp32s3", start),
        "2.1",
    )
    assert found.parts[0][:2] == ("partition table", table_at)
    assert found.notes == ("no boot loader is in the file",)


def test_a_file_without_a_boot_loader_whose_application_is_elsewhere() -> None:
    data = laid_out((0x8000, table(*FACTORY)), (0x18000, app()), start=0x8000)
    words = "place of the first image: expected 0x10000, found 0x18000"
    assert refusal(data) == f"esp image: {words}"
    assert read(laid_out((0, table(*FACTORY)), (0x3000, b"other data"))) == Image("unknown")


def test_a_damaged_table_is_refused_wherever_it_is() -> None:
    for at, new in ((0x8004, b"\x10"), (0x8000, b"\xab"), (0x8009, b"\xff"), (0x8044, b"\xf0")):
        for chip in ("esp32", "esp32c3", "esp32p4"):
            assert "damaged" not in refusal(patched(merged(chip), at, new))


# Signatures


def v1(data: bytes) -> bytes:
    return data + bytes(4) + hashlib.sha512(data).digest()[:63].rjust(64, b"\1")


def block(data: bytes, *, good: bool = True) -> bytes:
    digest = hashlib.sha256(data).digest()
    made = (struct.pack("<BBBx", 0xE7, 2, 0) + digest).ljust(1196, b"\x11")
    import zlib

    return made + struct.pack("<I16x", zlib.crc32(made) ^ (not good))


def v2(data: bytes, *blocks: str, filler: bytes = b"\xff") -> bytes:
    padded = data + b"\xff" * (-len(data) % 4096)
    made = {"good": block(padded), "bad": block(padded, good=False), "empty": filler * 1216}
    made["other"] = block(b"other")
    return padded + b"".join(made[one] for one in blocks).ljust(4096, filler)


def test_a_signature_of_v1_is_for_the_esp32_alone() -> None:
    found = read(v1(app("esp32")))
    assert found.parts[0].secure_boot == ("v1",)
    assert found.parts[0].end == len(app("esp32")) + 68
    assert dict(found.details)["secure boot signature"] == "v1 ecdsa"
    found = read(v1(app("esp32c3")))
    assert (found.parts[0].secure_boot, len(found.notes)) == ((), 1)


@pytest.mark.parametrize("tail", [bytes(68), b"\1" + bytes(3) + b"s" * 64, bytes(4) + b"\xff" * 64])
def test_what_is_no_signature_of_v1_is_noted(tail: bytes) -> None:
    found = read(app("esp32") + tail)
    assert (found.parts[0].secure_boot, len(found.notes)) == ((), 1)


def test_a_signed_table_is_read() -> None:
    found = read(v1(table(*FACTORY)))
    assert (found.role, found.notes, found.parts[0].secure_boot) == ("partition table", (), ("v1",))
    found = read(table(*FACTORY) + b"\xff\xffx")
    assert found.notes == ("1 byte after the partition table is not blank, the first at 0xc02",)


def test_a_boot_loader_after_its_digest_for_v1() -> None:
    digest = hashlib.shake_128(b"digest").digest(192)
    found = read(laid_out((0, digest), (0x1000, boot("esp32"))))
    assert (found.role, found.offset, found.parts[0].secure_boot) == ("merged", 0, ("v1",))
    whole = laid_out((0, digest), (0, merged("esp32")[:0]), (0x1000, merged("esp32")[0x1000:]))
    found = read(whole)
    assert (found.role, found.offset, found.notes) == ("merged", 0, ())
    assert dict(found.details)["secure boot digest"] == "v1"
    assert read(patched(whole, 300, b"x")).kind == "unknown"


@pytest.mark.parametrize("filler", [b"\xff", b"\0"])
@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (("good",), ["rsa"]),
        (("empty", "good"), ["empty", "rsa"]),
        (("bad", "good"), ["bad crc", "rsa"]),
        (("good", "bad"), ["rsa", "bad crc"]),
        (("other", "empty", "good"), ["bad digest", "empty", "rsa"]),
        (("good", "good", "good"), ["rsa", "rsa", "rsa"]),
    ],
)
@pytest.mark.parametrize("make", [app, boot])
def test_each_block_of_v2_is_judged(
    make: object, blocks: tuple[str, ...], words: list[str], filler: bytes
) -> None:
    data = make() if callable(make) else b""
    found = read(v2(data, *blocks, filler=filler))
    told = [value for key, value in found.details if key.startswith("secure boot signature")]
    assert [one.split(":")[0] for one in told] == words
    assert found.parts[0].secure_boot == ("v2 rsa",) * words.count("rsa")
    assert found.notes == ()


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (("bad",), "crc of secure boot signature 0: expected "),
        (("empty", "bad"), "crc of secure boot signature 1: expected "),
        (("other", "bad"), "digest of secure boot signature 0: expected "),
    ],
)
def test_blocks_without_a_good_one_are_refused(blocks: tuple[str, ...], words: str) -> None:
    assert refusal(v2(app(), *blocks)).startswith(f"esp image: {words}")


def test_old_bytes_that_begin_like_a_block_are_a_tail() -> None:
    data = app().ljust(0x1000, b"\xff") + b"\xe7" + hashlib.shake_128(b"old").digest(5000)
    assert read(data).parts[0].secure_boot == ()
    assert read(data).notes[0].endswith("the first at 0x1000")


# Applications


def test_an_application_without_a_descriptor_is_mapped_from_flash() -> None:
    for chip in ("esp32", "esp32s3", "esp32c6"):
        one = next(found for found in CHIPS if found.name == chip)
        data, code = one.data[0] + 0x20, one.code[0] + 0x10000 + 0x20 + 64 + 8
        old = image(chip, (data, b"text" * 16), (code, b"code" * 9), (0x40080000, bytes(8)))
        found = read(old)
        assert (found.role, found.offset, found.version) == ("application", 0x10000, None)
        moved = image(chip, (data + 4, b"text" * 16), (code + 4, b"code" * 9))
        assert read(moved).role == "boot loader"


@pytest.mark.parametrize(("page", "fits"), [(0, False), (16, False), (15, True), (14, True)])
def test_a_segment_must_lie_in_flash_as_in_memory(page: int, fits: bool) -> None:
    data = image("esp32c6", (0x42000020, descriptor(page=page)), (0x42018128, bytes(16)))
    found = read(data).parts[0].unstartable
    assert (found is None) == fits
    if found is not None:
        assert found == (
            "segment 1 is to be mapped to 0x42018128, but lies at 0x128: they differ within a page "
            "of 65536 bytes"
        )


@pytest.mark.parametrize("chip", [one.name for one in CHIPS])
def test_an_application_without_code_in_flash_is_doubted(chip: str) -> None:
    first = next(one.data[0] for one in CHIPS if one.name == chip) + 0x20
    found = read(
        image(chip, (first, descriptor()), (0x40080000 if chip == "esp32" else 0, b"x" * 8))
    )
    assert found.parts[0].doubt == (
        "no segment is mapped as code: boot loaders of ESP-IDF abort when they start it"
    )
    assert found.parts[0].unstartable is None


@pytest.mark.parametrize(
    ("version", "project", "framework"),
    [
        (b"esp-idf: v4.4.4 3572900", b"arduino-lib-builder", True),
        (b"6671d0b", b"esp32-arduino-lib-builder", True),
        (b"v5.5", b"hello_world", True),
        (b"esp-idf: v3.2", b"lamp", True),
        (b"1", b"lamp", False),
        (b"", b"", False),
    ],
)
def test_a_version_of_the_framework_is_none_of_the_product(
    version: bytes, project: bytes, framework: bool
) -> None:
    found = read(
        image("esp32c3", (0x3C000020, descriptor(version, project)), (0x42010128, b"x" * 4))
    )
    words = f"{project.decode()} {version.decode()}"
    assert dict(found.details).get("framework") == (words if framework else None)
    assert found.version == (None if framework else version.decode() or None)


# ESP8266


def esp8266(*segments: tuple[int, bytes], magic: int = 0xE9, entry: int = 0x40100004) -> bytes:
    head = struct.pack("<BBBBI", magic, len(segments), 2, 0x40, entry)
    body = head + b"".join(struct.pack("<II", at, len(data)) + data for at, data in segments)
    folded = 0xEF
    for byte in b"".join(data for _, data in segments):
        folded ^= byte
    return body + bytes(15 - len(body) % 16) + bytes([folded])


def second_form(flash: bytes, *segments: tuple[int, bytes]) -> bytes:
    head = struct.pack("<BBBBIII", 0xEA, 4, 2, 0x40, 0x40100004, 0, len(flash)) + flash
    rest = esp8266(*segments)
    made = head + rest[: 8 + sum(8 + len(data) for _, data in segments)]
    return made + bytes(15 - len(made) % 16) + rest[-1:]


@pytest.mark.parametrize("number", [0, 2, 5, 9, 12, 13, 16, 18, 20, 23, 7, 99])
def test_an_esp8266_is_none_of_its_successors(number: int) -> None:
    data = esp8266((0x40100000, bytes(0x40 + number)), (0x3FFE8000, b"data"))
    assert read(data)[:5] == ("esp", "esp8266", None, None, 0)
    data = esp8266((0x40100000, bytes(0x10000 + number)))
    found = read(data + b"code in flash")
    assert (found.chip, found.role, found.notes) == ("esp8266", None, ())
    assert dict(found.details)["after the image"] == "13 bytes, not judged"


def test_the_second_form_of_an_esp8266() -> None:
    data = second_form(b"in flash" * 40, (0x40100000, b"code" * 9), (0x3FFE8000, b"data"))
    found = read(data)
    assert (found.chip, found.offset) == ("esp8266", 0x1000)
    assert dict(found.details)["segment 0"] == "320 bytes at 0x00000000"
    assert refusal(patched(data, 16 + 320, b"\xe8")).startswith(
        "esp8266 image: header: expected e9 and 1 to 16 segments, found 0xe8 and 2"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (esp8266((0x40100000, bytes(99)))[:60], "segment 0: expected 99 bytes, found 44 bytes"),
        (patched(esp8266((0x40100000, bytes(9))), 20, b"x"), "checksum: expected 0x97, found 0xef"),
        (
            esp8266((0x40100000, bytes(4)), (0x50000000, bytes(4))),
            "address of segment 1: expected one of the chip, found 0x50000000",
        ),
        (
            patched(esp8266((0x40100000, bytes(4))), 0, b"\xe8"),
            "damaged header, magic: expected 0xe9, found 0xe8",
        ),
        (
            patched(esp8266((0x40100000, bytes(4))), 1, b"\0"),
            "header: expected e9 and 1 to 16 segments, found 0xe9 and 0",
        ),
        (
            patched(esp8266((0x40100000, bytes(4))), 1, b"\x11"),
            "header: expected e9 and 1 to 16 segments, found 0xe9 and 17",
        ),
    ],
)
def test_a_damaged_image_for_an_esp8266_is_refused(data: bytes, words: str) -> None:
    assert refusal(data) == f"esp8266 image: {words}"


def test_a_table_over_its_own_partitions_is_refused() -> None:
    rows = ((1, 2, 0x8000, 0x4000, "nvs"), FACTORY[1])
    words = "offset of partition nvs: expected 0x9000 or more, after the table, found 0x8000"
    for chip in ("esp32", "esp32c3"):
        assert refusal(merged(chip, rows)) == f"esp image: {words}"
        assert "nvs" in refusal(merged(chip, rows, start=0x1000 if chip == "esp32" else 0))


def test_many_places_are_looked_at_in_little_time() -> None:
    rows = tuple((0, 0x10 + n, 0x10000 + 0x10000 * n, 0x10000, f"ota_{n}") for n in range(16))
    sector = app()[:64].ljust(0x1000, b"\xe9")
    data = laid_out((0, boot()), (0x8000, table(*rows)), (0x110000, sector * 2048))
    assert read(data).notes
    claims = (b"\xe9\x10" + bytes(22) + b"\xff" * 8).ljust(0x1000, b"\xff") * 4096
    assert read(boot().ljust(0x10000, b"\xff") + claims).notes
