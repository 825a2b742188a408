"""Secure boot v2 of the ESP32 family: espsecure checks what is signed here, and we check its."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fwsign import native
from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Unsuitable
from fwsign.images.esp_chips import BY_NAME
from fwsign.images.esp_signature import BLOCK
from fwsign.keys.held import HeldKey
from fwsign.native.esp_block import digest_of_key
from images_kit import FACTORY, boot, laid_out, merged, table
from native_kit import (
    app,
    espsecure_digest,
    espsecure_sign,
    espsecure_verifies,
    held,
    private,
)

KIND = "esp-secure-boot-v2"
SECTOR = 4096
SHAPES: dict[str, Callable[[str], bytes]] = {
    "application": app,
    "boot loader": boot,
    "of whole sectors": lambda chip: app(chip, code=SECTOR - 56 - 256 - 8 - 16),
    "without a digest": lambda chip: app(chip, digest=False),
    "large": lambda chip: app(chip, code=300_000),
}
SAID = {"rsa3072": "RSA-3072", "p256": "ECDSA P-256", "p384": "ECDSA P-384"}
KEYS = [
    ("esp32", "rsa3072"),
    ("esp32s2", "rsa3072"),
    ("esp32c3", "rsa3072"),
    ("esp32s3", "rsa3072"),
    ("esp32c2", "p256"),
    ("esp32c6", "rsa3072"),
    ("esp32c6", "p256"),
    ("esp32h2", "p256"),
    ("esp32c61", "p256"),
    ("esp32p4", "p384"),
    ("esp32c5", "p384"),
    ("esp32h4", "p384"),
]


def signed(folder: Path, data: bytes, *names: str, version: int | None = None) -> bytes:
    keys = [held(folder, name) for name in names]
    return native.sign(KIND, data, keys, security_version=version)


def found(data: bytes) -> native.Native:
    read = native.read(data)
    assert read is not None
    return read


@pytest.mark.parametrize(("chip", "name"), KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_espsecure_verifies_what_is_signed(
    shape: str, chip: str, name: str, tmp_path: Path
) -> None:
    data = SHAPES[shape](chip)
    made = signed(tmp_path, data, name)
    assert made[: len(data)] == data
    assert len(made) % SECTOR == 0
    assert espsecure_verifies(made, name)
    assert not espsecure_verifies(made, f"{name} other")
    read = found(made)
    assert read.kind == KIND
    assert read.security_version == (None if shape == "boot loader" else 7)
    assert read.key_digests == (espsecure_digest(name, tmp_path),)
    assert read.signatures[0].public_key == private(name).public_key()


@pytest.mark.parametrize(("chip", "name"), KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_espsecure_signs_is_read(shape: str, chip: str, name: str, tmp_path: Path) -> None:
    theirs = espsecure_sign(SHAPES[shape](chip), name, folder=tmp_path)
    assert found(theirs).key_digests == (espsecure_digest(name, tmp_path),)
    if name == "p256":  # RFC 6979 or not, the rest is the same
        ours = signed(tmp_path, SHAPES[shape](chip), name)
        assert ours[:-SECTOR] == theirs[:-SECTOR]
        assert ours[-SECTOR:][:101] == theirs[-SECTOR:][:101]


@pytest.mark.parametrize("kind", ["rsa3072", "p256", "p384"])
def test_three_keys_sign_one_image(kind: str, tmp_path: Path) -> None:
    names = [f"{kind}{other}" for other in ("", " other", " third")]
    made = signed(tmp_path, app("esp32c5"), *names)
    assert all(espsecure_verifies(made, name) for name in names)
    assert not espsecure_verifies(made, f"{kind} fourth")
    digests = tuple(espsecure_digest(name, tmp_path) for name in names)
    assert found(made).key_digests == digests


@pytest.mark.parametrize(
    ("first", "second"), [("rsa3072", "p256"), ("p256", "p384"), ("p384", "rsa3072")]
)
def test_keys_of_two_kinds_are_refused(first: str, second: str, tmp_path: Path) -> None:
    """A boot loader of ESP-IDF is built for one kind, and espsecure fails at a block of another."""
    words = f"an image has signatures of one kind, and these would be {SAID[first]} and "
    for data, names in (
        (app("esp32c5"), (first, second)),
        (signed(tmp_path, app("esp32c5"), first), (second,)),
        (espsecure_sign(app("esp32c5"), first, folder=tmp_path), (second,)),
    ):
        error = refuses(
            partial(signed, tmp_path, data, *names),
            Failed,
            "key.unsupported",
            words + SAID[second],
        )
        assert (error.expected, error.found) == (SAID[first], SAID[second])


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_block_is_added_and_the_first_keeps_its_place(first: str, tmp_path: Path) -> None:
    one = signed(tmp_path, app(), "p256")
    if first == "theirs":
        one = espsecure_sign(app(), "p256", folder=tmp_path)
    both = signed(tmp_path, one, "p256 other")
    assert both[: -SECTOR + BLOCK.size] == one[: -SECTOR + BLOCK.size]
    three = espsecure_sign(both, "p256 third", folder=tmp_path, append=True)
    names = ("p256", "p256 other", "p256 third")
    assert all(espsecure_verifies(three, name) for name in names)
    assert len(found(three).signatures) == 3


def test_a_key_that_has_signed_signs_no_second_time(tmp_path: Path) -> None:
    once = signed(tmp_path, app(), "rsa3072")  # whose salt differs each time
    assert signed(tmp_path, once, "rsa3072") == once
    both = signed(tmp_path, once, "rsa3072 other")
    assert signed(tmp_path, both, "rsa3072", "rsa3072 other") == both


def test_without_a_key_nothing_changes(tmp_path: Path) -> None:
    once = signed(tmp_path, app(), "p256")
    assert signed(tmp_path, once) == once
    assert signed(tmp_path, app()) == app()


def test_blank_bytes_after_the_image_do_not_move_the_signature(tmp_path: Path) -> None:
    assert signed(tmp_path, app() + b"\xff" * 9000, "p256") == signed(tmp_path, app(), "p256")


def test_an_empty_first_place_is_filled(tmp_path: Path) -> None:
    once = signed(tmp_path, app(), "p256")
    block = once[-SECTOR:][: BLOCK.size]
    later = once[:-SECTOR] + (b"\xff" * BLOCK.size + block).ljust(SECTOR, b"\xff")
    both = signed(tmp_path, later, "p256 other")
    assert both[-SECTOR + BLOCK.size :][: BLOCK.size] == block
    names = ("p256 other", "p256")
    assert found(both).key_digests == tuple(espsecure_digest(one, tmp_path) for one in names)


# --- what is refused when signing -----------------------------------------------------------


def refuses(call: Callable[[], object], kind: type[FwsignError], code: str, words: str) -> Any:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code
    assert words in caught.value.message
    assert caught.value.expected
    assert caught.value.found
    return caught.value


@pytest.mark.parametrize(
    ("chip", "name", "words"),
    [
        ("esp32", "p256", "the ROM of esp32 verifies RSA-3072, and "),
        ("esp32c3", "p256", "is ECDSA P-256"),
        ("esp32c2", "rsa3072", "the ROM of esp32c2 verifies ECDSA P-256, and "),
        ("esp32c61", "rsa3072", "is RSA-3072"),
        ("esp32c6", "p384", "is ECDSA P-384"),
        ("esp32c6", "rsa2048", "is RSA-2048"),
        ("esp32c6", "rsa4096", "is RSA-4096"),
        ("esp32c6", "p521", "is ECDSA P-521"),
        ("esp32c6", "p192", "is ECDSA P-192"),
        ("esp32c6", "ed25519", "the ROM of esp32c6 verifies RSA-3072 or ECDSA P-256, and "),
    ],
)
def test_a_key_that_the_rom_cannot_verify_is_refused(
    chip: str, name: str, words: str, tmp_path: Path
) -> None:
    refuses(
        lambda: signed(tmp_path, app(chip), name), Failed, "key.unsupported", f"{KIND}: the ROM of"
    )
    refuses(lambda: signed(tmp_path, app(chip), name), Failed, "key.unsupported", words)


def test_ml_dsa_is_refused(tmp_path: Path) -> None:
    from fwsign.keys.file import new_private_key, write_private_key
    from fwsign.keys.file_key import FileKey

    write_private_key(tmp_path / "q.key", new_private_key("ml-dsa-65"), None)
    key = FileKey(tmp_path / "q.key", lambda: None)
    refuses(
        lambda: native.sign(KIND, app(), [key]), Failed, "key.unsupported", "q.key is ML-DSA-65"
    )


def test_each_chip_says_what_its_rom_verifies() -> None:
    kinds = {"RSA-3072", "ECDSA P-256", "ECDSA P-384"}
    for chip in BY_NAME.values():
        assert chip.secure_boot
        assert set(chip.secure_boot) <= kinds
        assert chip.signatures == (1 if chip.name in {"esp32", "esp32c2"} else 3)


@pytest.mark.parametrize(
    ("chip", "names", "words"),
    [
        ("esp32", ("rsa3072", "rsa3072 other"), "esp32 looks at 1 signature, and there would be 2"),
        ("esp32c2", ("p256", "p256 other"), "esp32c2 looks at 1 signature, and there would be 2"),
        (
            "esp32c6",
            ("p256", "p256 other", "p256 third", "p256 fourth"),
            "esp32c6 looks at 3 signatures, and there would be 4",
        ),
    ],
)
def test_there_are_no_more_blocks_than_the_chip_looks_at(
    chip: str, names: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    refuses(lambda: signed(tmp_path, app(chip), *names), Failed, "key.unsupported", words)
    first = signed(tmp_path, app(chip), *names[:-1])
    refuses(lambda: signed(tmp_path, first, names[-1]), Failed, "key.unsupported", words)


def test_one_key_twice_is_refused(tmp_path: Path) -> None:
    words = "the same key is given twice"
    refuses(lambda: signed(tmp_path, app(), "p256", "p256"), Failed, "key.unsupported", words)


@pytest.mark.parametrize(("stated", "compiled"), [(6, 7), (8, 7), (0, 7), (1, 0)])
def test_a_stated_security_version_is_that_of_the_application(
    stated: int, compiled: int, tmp_path: Path
) -> None:
    error = refuses(
        lambda: signed(tmp_path, app(secure_version=compiled), "p256", version=stated),
        Unsuitable,
        "unsuitable.security-version",
        f"expected security version {stated}, found {compiled} in the application",
    )
    assert f"CONFIG_BOOTLOADER_APP_SECURE_VERSION={stated}" in error.hint
    made = signed(tmp_path, app(secure_version=stated), "p256", version=stated)
    assert found(made).security_version == stated


def test_a_boot_loader_states_no_security_version(tmp_path: Path) -> None:
    made = signed(tmp_path, boot("esp32c6"), "p256", version=7)
    assert found(made).security_version is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (merged("esp32c6"), "found a merged file"),
        (table(*FACTORY), "found a partition table file"),
        (b"not an image" * 400, "found unknown bytes"),
        (app() + b"\xff" * 5000 + b"tail", "expected none that are not ff, found 4 bytes"),
        (app() + b"x", "expected none that are not ff, found 1 bytes"),
    ],
)
def test_what_is_not_one_whole_image_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    refuses(lambda: signed(tmp_path, data, "p256"), Malformed, "malformed.image", words)


def test_a_backend_that_signs_wrongly_is_found_out(tmp_path: Path) -> None:
    class Wrong:
        def __init__(self, key: HeldKey) -> None:
            self.place, self.public_key = "token:1", key.public_key

        def sign_raw(self, *_: object) -> bytes:
            return bytes(63) + b"\1"

        def close(self) -> None:
            return None

    wrong: Any = Wrong(held(tmp_path, "p256"))
    words = "the signature that token:1 made does not verify with its public key"
    refuses(lambda: native.sign(KIND, app(), [wrong]), Failed, "key.failed", words)


# --- every mutation is refused by name ------------------------------------------------------


def mutated(data: bytes, at: int, bit: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def repaired(data: bytes, block: int = 0) -> bytes:
    """Return an image whose block has the CRC that fits it, as a forger would make it."""
    at = len(data) - SECTOR + block * BLOCK.size
    crc = struct.pack("<I", zlib.crc32(data[at : at + 1196]))
    return data[: at + 1196] + crc + data[at + 1200 :]


@pytest.mark.parametrize(("chip", "name"), [("esp32c6", "rsa3072"), ("esp32c6", "p256")])
def test_every_changed_byte_is_refused(chip: str, name: str, tmp_path: Path) -> None:
    data = app(chip, code=200)
    made = signed(tmp_path, data, name)
    assert native.read(made) is not None
    inside = [*range(0, len(data), 7), *range(len(data), len(made) - SECTOR, 91)]
    block = range(len(made) - SECTOR, len(made) - SECTOR + BLOCK.size)
    after = range(block.stop, len(made), 97)
    codes: set[str] = set()
    for at in (*inside, *block, *after):
        try:
            assert native.read(mutated(made, at)) is None
            assert at < 24  # its header is no image's any more
        except (Malformed, Tampered) as error:
            codes.add(error.code)
    assert codes == {"malformed.image", "tampered.native"}


@pytest.mark.parametrize(
    ("name", "at", "words"),
    [
        ("rsa3072", 0, "head of signature 0: expected e7, then 02 and 00 (RSA) or 03"),
        ("p256", 1, "key of signature 0"),  # as if it were RSA
        ("rsa3072", 2, "head of signature 0"),
        ("rsa3072", 3, "content of signature 0: expected what follows from its key, and zeros"),
        ("rsa3072", 4, "image digest in signature 0"),
        ("rsa3072", 36, "key of signature 0: expected RSA-3072, found no such key"),  # even
        ("rsa3072", 40, "content of signature 0"),  # another key, and other numbers of it
        ("rsa3072", 420, "key of signature 0"),
        ("rsa3072", 424, "content of signature 0"),
        ("rsa3072", 808, "content of signature 0"),
        ("rsa3072", 900, "signature 0: expected a signature that verifies with its key"),
        ("rsa3072", 1200, "content of signature 0"),
        ("p256", 35, "image digest in signature 0"),
        ("p256", 36, "head of signature 0"),
        ("p256", 40, "key of signature 0: expected ECDSA P-256, found no such key"),
        ("p256", 101, "signature 0: expected a signature that verifies with its key"),
        ("p256", 140, "signature 0: expected a signature that verifies with its key"),
        ("p256", 170, "content of signature 0"),
    ],
)
def test_a_forged_block_is_refused_by_name(name: str, at: int, words: str, tmp_path: Path) -> None:
    first = signed(tmp_path, app(), "p256 other")  # a good one is beside it
    made = signed(tmp_path, app(), name)
    block = repaired(mutated(made, len(made) - SECTOR + at))[-SECTOR:][: BLOCK.size]
    good = first[-SECTOR:][: BLOCK.size]
    forged = made[:-SECTOR] + (block + good).ljust(SECTOR, b"\xff")
    refuses(lambda: native.read(forged), Tampered, "tampered.native", words)
    refuses(lambda: signed(tmp_path, forged, "p256 third"), Tampered, "tampered.native", words)


def test_the_crc_is_checked(tmp_path: Path) -> None:
    made = signed(tmp_path, app(), "p256", "p256 other")
    changed = mutated(made, len(made) - SECTOR + 1197)
    words = "esp-secure-boot-v2: crc of signature 0: expected 0x"
    refuses(lambda: native.read(changed), Tampered, "tampered.native", words)


def test_a_block_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    made = signed(tmp_path, app(), "p256")
    block = made[-SECTOR:][: BLOCK.size]
    twice = made[:-SECTOR] + (block * 2).ljust(SECTOR, b"\xff")
    words = "key of signature 1: expected another key, found that of one before it"
    refuses(lambda: native.read(twice), Tampered, "tampered.native", words)


def test_the_embedded_key_decides(tmp_path: Path) -> None:
    """espsecure verifies with the key that it is given, and never looks at the one in the block."""
    made = signed(tmp_path, app(), "rsa3072")
    other = signed(tmp_path, app(), "rsa3072 other")
    at = len(made) - SECTOR
    swapped = repaired(made[: at + 36] + other[at + 36 : at + 812] + made[at + 812 :])
    assert espsecure_verifies(swapped, "rsa3072")  # and no board would start it
    words = "signature 0: expected a signature that verifies with its key, found another"
    refuses(lambda: native.read(swapped), Tampered, "tampered.native", words)


def test_a_signature_of_another_image_is_refused(tmp_path: Path) -> None:
    one, other = (signed(tmp_path, app(secure_version=n), "p256", "p256 other") for n in (1, 2))
    moved = one[:-SECTOR] + other[-SECTOR:]
    refuses(lambda: native.read(moved), Malformed, "malformed.image", "digest of secure boot")


# --- what counts ----------------------------------------------------------------------------


def test_signatures_that_the_rom_cannot_verify_do_not_count(tmp_path: Path) -> None:
    theirs = espsecure_sign(app("esp32c3"), "p256", folder=tmp_path)
    assert native.read(theirs) is None
    both = espsecure_sign(app("esp32"), "rsa3072", "rsa3072 other", folder=tmp_path)
    assert len(found(both).signatures) == 1  # the ESP32 looks at the first alone


def test_p192_is_read_only(tmp_path: Path) -> None:
    theirs = espsecure_sign(app("esp32c2"), "p192", folder=tmp_path)
    assert native.read(theirs) is None
    assert digest_of_key(private("p192").public_key()) == espsecure_digest("p192", tmp_path)


def test_a_block_of_an_unknown_curve_is_none_that_counts(tmp_path: Path) -> None:
    """The block is whole and of this image, and only a chip to come could verify it."""
    made = signed(tmp_path, app(), "p256")
    unknown = repaired(mutated(made, len(made) - SECTOR + 36, 0x20 ^ 2))
    assert native.read(unknown) is None
    with pytest.raises(Failed, match="signatures of one kind, and these would be ECDSA, curve 32"):
        signed(tmp_path, unknown, "p256 other")
    good = signed(tmp_path, app(), "p256 other")[-SECTOR:][: BLOCK.size]
    both = made[:-SECTOR] + (unknown[-SECTOR:][: BLOCK.size] + good).ljust(SECTOR, b"\xff")
    assert [one.algorithm for one in found(both).signatures] == ["ECDSA P-256"]
    broken = mutated(unknown, len(made) - SECTOR + 300)
    words = "crc of secure boot signature 0"
    refuses(lambda: native.read(broken), Malformed, "malformed.image", words)


def test_unsigned_files_have_none() -> None:
    for data in (app(), boot(), merged(), table(*FACTORY), b"", b"bytes" * 999):
        assert native.read(data) is None


def test_a_merged_file_has_what_all_its_images_have(tmp_path: Path) -> None:
    loader = signed(tmp_path, boot("esp32c6"), "p256", "p256 third")
    program = signed(tmp_path, app("esp32c6"), "p256 other", "p256")
    whole = laid_out((0, loader), (0x8000, table(*FACTORY)), (0x10000, program))
    read = found(whole)
    assert read.key_digests == (espsecure_digest("p256", tmp_path),)
    assert read.security_version == 7
    half = laid_out((0, loader), (0x8000, table(*FACTORY)), (0x10000, app("esp32c6")))
    assert found(half).signatures == ()


def test_what_a_signed_image_leaves_open_is_said(tmp_path: Path) -> None:
    def said(data: bytes, name: str) -> list[str]:
        return native.remarks(KIND, signed(tmp_path, data, name))

    full = SECTOR - 32 - 256 - 8 - 48
    assert said(app("esp32c6", code=full), "p256") == []
    assert said(app("esp32c6", code=full - 600), "p256") == []
    (line,) = said(app("esp32", code=full), "rsa3072")
    assert line == (
        "it runs on esp32 from revision 0.0 on, and the ROM verifies this signature from "
        "revision 3.0 on"
    )
    assert said(app("esp32", code=full, revisions=(3, 0, 0)), "rsa3072") == []
    (line,) = said(app("esp32p4", code=full, revisions=(0, 1, 0)), "p384")
    assert line.endswith("from revision 3.0 on")
    assert said(app("esp32p4", code=full, revisions=(0, 1, 0)), "p256") == []


def test_a_last_page_that_is_not_full_is_said(tmp_path: Path) -> None:
    data = bytearray(app("esp32c6"))
    data[0x20 + 180] = 16  # pages of 64 KiB, as most chips have them
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    fold = 0xEF
    for byte in data[0x20 : 0x20 + 256]:
        fold ^= byte
    data[-33] = fold
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    (line,) = native.remarks(KIND, signed(tmp_path, bytes(data), "p256"))
    assert line.startswith("it does not fill its last page of 65536 bytes: the chip maps bytes")
    assert line.endswith("build it with --secure-pad-v2")


# --- what `fwsign sign` asks ----------------------------------------------------------------


def test_which_files_it_signs() -> None:
    for data in (app(), boot("esp32c6"), merged("esp32c6")):  # the last only to refuse it
        assert native.suits(KIND, data)
    for data in (table(*FACTORY), b"bytes" * 99, b""):
        assert not native.suits(KIND, data)


def test_which_files_have_a_security_version() -> None:
    assert native.has_version(KIND, app())
    assert native.has_version(KIND, merged("esp32c6"))
    assert not native.has_version(KIND, boot("esp32c6"))


def test_one_image_is_the_same_with_and_without_signatures(tmp_path: Path) -> None:
    once = signed(tmp_path, app(), "p256")
    for one in (app(), once, signed(tmp_path, once, "p256 other"), app() + b"\xff" * 99):
        assert native.same(KIND, one, once)
    for other in (app(secure_version=8), boot("esp32c6"), b"bytes"):
        assert not native.same(KIND, other, once)


def test_a_kind_that_cannot_tell_has_answers_all_the_same() -> None:
    assert native.remarks("mcuboot", b"") == []
