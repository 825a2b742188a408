"""Sealing for the RP2350: what its boot ROM accepts, and what is refused by name."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.kit import SAMPLES
from fwsign import native
from fwsign.errors import Failed, Malformed, Tampered, Unsuitable
from fwsign.images import recognise, uf2
from fwsign.images.rp_chips import RP2350_ARM, RP2350_RISCV
from fwsign.keys import open_key
from fwsign.keys.held import HeldKey
from fwsign.native import rp2350
from fwsign.native.rp2350 import Rp2350Options, key_point, otp_json, read, remarks, sign
from picobin_kit import ARM, BASE, RISCV, N, block, check, image_type, unsealed, words
from softhsm_kit import PIN, SoftHsm

E10 = uf2.write_uf2(b"\xef" * 256, 0x10FFFF00, 0xE48BFF57).replace(
    struct.pack("<II", 0, 1), struct.pack("<II", 0, 2), 1
)
"""The block for erratum RP2350-E10, which announces a second one."""


@cache
def private(number: int) -> ec.EllipticCurvePrivateKey:
    del number
    return ec.generate_private_key(ec.SECP256K1())


def held(place: Path, key: Any = None) -> HeldKey:
    path = place / "key.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes((key or private(0)).private_bytes(*form))
    return open_key(str(path), lambda: None)


def bootkey(number: int = 0) -> bytes:
    numbers = private(number).public_key().public_numbers()
    return hashlib.sha256(numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")).digest()


IMAGES: dict[str, bytes] = {
    "arm": unsealed(),
    "arm, one block": unsealed(end=False),
    "arm, with a vector table": unsealed(ARM, words(0x203, BASE)),
    "arm, with an entry point": unsealed(ARM, words(0x344, BASE + 0x301, 0x20001000)),
    "arm, with a version": unsealed(ARM, words(0x248, 3 << 16 | 7)),
    "arm, on trial": unsealed(ARM | 0x8000),
    "arm, in odd bytes": unsealed(end=False, size=3001),
    "risc-v": unsealed(RISCV),
    "large": unsealed(size=200_000),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("rollback", [None, 0, 5])
def test_a_boot_rom_accepts_the_seal(name: str, rollback: int | None, tmp_path: Path) -> None:
    made = sign(IMAGES[name], [held(tmp_path)], security_version=rollback)
    judged = check(made)
    assert judged.bootkey == bootkey()
    assert judged.rollback == rollback
    assert judged.rows == (() if rollback is None else (0x4E, 0x51))
    assert judged.entry == {
        "risc-v": None,
        "arm, with an entry point": (BASE + 0x301, 0x20001000),
    }.get(name, (BASE + 0x201, 0x20082000))
    old = (3, 7) if name == "arm, with a version" else None
    assert judged.version == (old or (None if rollback is None else (0, 0)))
    # Erratum E13: with a rollback version no other block says that it is an image.
    assert judged.types == (2 if rollback is None else 1)
    found = read(made)
    assert found is not None
    assert (found.kind, found.security_version) == ("rp2350", rollback)
    assert found.key_digests == (bootkey(),)
    assert found.signatures[0].public_key == private(0).public_key()
    assert found.signatures[0].algorithm == "ECDSA secp256k1"
    assert remarks(made) == []
    assert sign(IMAGES[name], [held(tmp_path)], security_version=rollback) == made  # RFC 6979
    assert sign(made, [held(tmp_path)], security_version=rollback) == made


def test_the_sample_is_sealed_as_a_uf2_file(tmp_path: Path) -> None:
    sample = (SAMPLES / "blink-rp2350.uf2").read_bytes()
    made = sign(sample, [held(tmp_path)], security_version=1)
    assert recognise(io.BytesIO(made)).chip == "rp2350"
    ((address, content),) = uf2.contents(made, "rp2350")
    assert (address, check(content).rollback) == (BASE, 1)
    assert read(sample) is None
    assert read(made) is not None


@pytest.mark.parametrize(
    ("family", "flags"), [(RP2350_ARM, ARM), (RP2350_RISCV, RISCV)], ids=["arm", "risc-v"]
)
def test_the_block_for_erratum_e10_stays(family: int, flags: int, tmp_path: Path) -> None:
    given = E10 + uf2.write_uf2(unsealed(flags), BASE, family)
    made = sign(given, [held(tmp_path)])
    assert made.startswith(E10)
    assert made[512:544] == uf2.write_uf2(bytes(256 * (len(made) // 512 - 1)), BASE, family)[:32]
    ((_, content),) = uf2.contents(made, "rp2350")
    assert content.rstrip(b"\0") == sign(unsealed(flags), [held(tmp_path)]).rstrip(b"\0") or (
        check(content).bootkey == bootkey()
    )


def test_a_gap_in_a_uf2_file_is_sealed_as_zeros(tmp_path: Path) -> None:
    body = bytearray(unsealed(size=2048, end=False))
    body[1024:1280] = bytes(256)
    pages = uf2.write_uf2(bytes(body), BASE, RP2350_ARM)
    blocks = [pages[at : at + 512] for at in range(0, len(pages), 512)]
    del blocks[4]
    count = struct.pack("<I", len(blocks))
    given = b"".join(
        one[:20] + struct.pack("<I", number) + count + one[28:] for number, one in enumerate(blocks)
    )
    ((_, content),) = uf2.contents(sign(given, [held(tmp_path)]), "rp2350")
    assert check(content).bootkey == bootkey()
    assert content.startswith(bytes(body[:0x138]))


def test_version_and_rows_are_written(tmp_path: Path) -> None:
    options = Rp2350Options(version="2.9", rows="0x60,0x63,102")
    made = sign(unsealed(), [held(tmp_path)], security_version=72, options=options)
    judged = check(made)
    assert (judged.version, judged.rollback, judged.rows) == ((2, 9), 72, (0x60, 0x63, 102))
    made = sign(unsealed(), [held(tmp_path)], options=Rp2350Options(version="2.9"))
    assert (check(made).version, check(made).rollback) == ((2, 9), None)
    # What the image has stays.
    item = words(0x348 | 1 << 24, 1 << 16 | 2, 9 | 0x60 << 16)
    judged = check(sign(unsealed(ARM, item), [held(tmp_path)]))
    assert (judged.version, judged.rollback, judged.rows) == ((1, 2), 9, (0x60,))
    judged = check(sign(unsealed(ARM, item), [held(tmp_path)], security_version=10))
    assert (judged.version, judged.rollback, judged.rows) == ((1, 2), 10, (0x60,))


REFUSED: dict[str, tuple[bytes, str]] = {
    "no block": (
        bytes(5000),
        "image: expected one for rp2350, with a block in its first 4 KiB, found none",
    ),
    "a late block": (
        bytes(4096) + block(image_type(ARM)),
        "image: expected one for rp2350, with a block in its first 4 KiB, found none",
    ),
    "for rp2040": (
        (SAMPLES / "blink-rp2040.uf2").read_bytes(),
        (
            "image: expected one for rp2350, with a block in its first 4 KiB, "
            "found a uf2 file with none, or several"
        ),
    ),
    "two images": (
        uf2.write_uf2(unsealed(), BASE, RP2350_ARM)
        + uf2.write_uf2(unsealed(RISCV), BASE, RP2350_RISCV),
        (
            "image: expected one for rp2350, with a block in its first 4 KiB, "
            "found a uf2 file with none, or several"
        ),
    ),
    "data": (
        unsealed(0x1002),
        "image: expected an executable for rp2350, found a block of another type",
    ),
    "marked for rp2040": (
        unsealed(0x0021),
        "image: expected an executable for rp2350, found a block of another type",
    ),
    "non-secure": (
        unsealed(0x1011),
        "image: expected a secure one, which the boot ROM starts, found a non-secure one",
    ),
    "for ram": (
        unsealed(ARM, words(0x01000406, 0, 0x20000000, 512)),
        "image: expected one that runs in flash, found one with a load map of its own",
    ),
    "vectors in ram": (
        unsealed(ARM, words(0x203, 0x20000000)),
        "image: expected one that runs in flash, found a vector table at 0x20000000, in ram",
    ),
    "vectors elsewhere": (
        unsealed(ARM, words(0x203, 0x10100000)),
        "vector table: expected a place in the image, found 0x10100000",
    ),
    "salt": (
        unsealed(ARM, words(0x20C, 0)),
        "image: expected an executable alone, found an item of type 0x0c",
    ),
    "a partition table": (
        unsealed(ARM, words(0x20A, 0)),
        "image: expected an executable alone, found an item of type 0x0a",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sealed_is_refused(name: str, tmp_path: Path) -> None:
    given, message = REFUSED[name]
    with pytest.raises(Failed) as refusal:
        sign(given, [held(tmp_path)])
    assert (refusal.value.code, refusal.value.message) == ("io.format", f"rp2350: {message}")


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        (-1, {}, "rollback version: expected 0 to 48, which 2 rows of otp can count, found -1"),
        (49, {}, "rollback version: expected 0 to 48, which 2 rows of otp can count, found 49"),
        (
            25,
            {"rows": "0x60"},
            "rollback version: expected 0 to 24, which 1 rows of otp can count, found 25",
        ),
        (None, {"rows": "0x60"}, "rows: expected a rollback version with them, found none"),
        (
            1,
            {"rows": "0x60,0x60"},
            (
                "rows: expected at most 8 numbers such as 0x4e,0x51, each below 0x1000 and once, "
                'found "0x60,0x60"'
            ),
        ),
        (1, {"rows": "x"}, 'rows: expected at most 8 numbers such as 0x4e,0x51, found "x"'),
        (
            1,
            {"version": "1"},
            'version: expected MAJOR.MINOR of at most 65535.65535, found "1"',
        ),
        (
            1,
            {"version": "1.65536"},
            'version: expected MAJOR.MINOR of at most 65535.65535, found "1.65536"',
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    version: int | None, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(Failed) as refusal:
        sign(
            unsealed(),
            [held(tmp_path)],
            security_version=version,
            options=Rp2350Options(**options),
        )
    assert (refusal.value.code, refusal.value.message) == ("io.format", f"rp2350: {message}")


def test_keys_that_the_boot_rom_does_not_know_are_refused(tmp_path: Path) -> None:
    p256 = held(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    for keys, message in (
        ([], "rp2350: an image has one signature"),
        ([held(tmp_path)] * 2, "rp2350: an image has one signature"),
        ([p256], "rp2350: the boot ROM knows keys of secp256k1 alone, found P-256"),
    ):
        with pytest.raises(Failed) as refusal:
            sign(unsealed(), keys)
        assert (refusal.value.code, refusal.value.message) == ("key.unsupported", message)


class OddKey:
    """A held key that signs something else, or in another form."""

    def __init__(self, inner: HeldKey, change: Callable[[bytes], bytes]) -> None:
        self._inner, self._change = inner, change
        self.place, self.public_key = inner.place, inner.public_key

    def sign_raw(self, scheme: Any, data: bytes, digest: str = "") -> bytes:
        return self._change(self._inner.sign_raw(scheme, data, digest))

    def close(self) -> None:
        """Do nothing."""


def test_a_key_that_signs_something_else_is_found_out(tmp_path: Path) -> None:
    inner = held(tmp_path)
    with pytest.raises(Failed) as refusal:
        sign(unsealed(), [OddKey(inner, lambda raw: raw[:-1])])
    assert refusal.value.code == "key.failed"
    assert refusal.value.message == f"the signature that {inner.place} made does not verify"
    with pytest.raises(Failed) as refusal:
        sign(unsealed(), [OddKey(inner, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))])
    assert refusal.value.code == "key.failed"
    assert refusal.value.message == f"the signature that {inner.place} made does not verify"


def test_a_sealed_image_keeps_its_seal(tmp_path: Path) -> None:
    made = sign(unsealed(), [held(tmp_path)], security_version=3)
    with pytest.raises(Failed) as refusal:
        sign(made, [held(tmp_path, private(1))])
    assert refusal.value.code == "io.format"
    assert refusal.value.message == (
        f"rp2350: image: expected one that is not sealed, found a seal by key {bootkey().hex()}"
    )
    with pytest.raises(Unsuitable) as other:
        sign(made, [held(tmp_path)], security_version=4)
    assert other.value.code == "unsuitable.security-version"
    assert other.value.message == (
        "rp2350: the image is sealed with rollback version 3, and 4 was asked for"
    )


LENGTH = len(unsealed())
"""Where the sealing block begins; then IMAGE_TYPE, VERSION, VECTOR_TABLE, ENTRY_POINT, LOAD_MAP."""


def put(at: int, word: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        place = at if at >= 0 else len(data) + at
        return data[:place] + words(word) + data[place + 4 :]

    return change


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


ITEMS = {"type": 4, "version": 8, "vectors": 24, "entry": 32, "map": 44, "hash": 60, "key": 68}
"""Places of items in the sealing block with a rollback version and two rows."""

MUTATIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "code": (flipped(0x300), "rp2350: digest: expected "),
    "vectors": (flipped(4), "rp2350: digest: expected "),
    "rollback version": (flipped(LENGTH + 16), "rp2350: digest: expected "),
    "row of otp": (flipped(LENGTH + 18), "rp2350: digest: expected "),
    "entry point": (flipped(LENGTH + 36), "rp2350: digest: expected "),
    "security": (put(LENGTH + 4, 0x18110142), "rp2350: digest: expected "),
    "digest": (flipped(-20 % (LENGTH + 252)), "rp2350: digest: expected "),
    "signature": (flipped(LENGTH + 72 + 64 + 5), "rp2350: signature: expected one that verifies "),
    "key": (
        lambda data: (
            data[: LENGTH + 72] + key_point(private(1).public_key()) + data[LENGTH + 72 + 64 :]
        ),
        f"rp2350: signature: expected one that verifies with key {bootkey(1).hex()}",
    ),
    "no point": (
        lambda data: data[: LENGTH + 72] + bytes(64) + data[LENGTH + 72 + 64 :],
        "rp2350 image: public key: expected a point of secp256k1, found 0000000000000000",
    ),
    "kind of signature": (
        put(LENGTH + 68, 0x02002109),
        "rp2350 image: head of the signature: expected 0x01002109, found 0x02002109",
    ),
    "unused bits of the hash value": (
        put(LENGTH + 200, 0x8000094B),
        "rp2350 image: head of the hash value: expected 0x0000094b, found 0x8000094b",
    ),
    "no definition of the hash": (
        put(LENGTH + 60, 0x00000240),
        "rp2350 image: definition of the hash: expected type 1, found none",
    ),
    "no load map": (
        put(LENGTH + 44, 0x00000440),
        "rp2350 image: load map: expected one, found none",
    ),
    "two load maps": (
        put(LENGTH + 24, 0x00000206),
        "rp2350 image: items of type 0x06 in a block: expected one, found 2",
    ),
    "rows of otp that are not there": (
        put(LENGTH + 8, 0x05000448),
        "rp2350 image: version: expected 5 rows of otp, found 4 numbers",
    ),
    "kind of hash": (
        put(LENGTH + 60, 0x02000247),
        "rp2350 image: definition of the hash: expected type 1, found type 2",
    ),
    "less is signed": (
        put(LENGTH + 64, 12),
        "rp2350 image: signed part of the block: expected 17 words, found 12 words",
    ),
    "less is mapped": (
        put(LENGTH + 56, LENGTH - 4),
        (
            f"rp2350 image: signed part of the image: expected all of it, found {LENGTH - 4} of "
            f"{LENGTH} bytes, and 0 after it"
        ),
    ),
    "more is mapped": (
        put(LENGTH + 56, LENGTH + 4),
        "rp2350 image: entry 0 of the load map: expected the image, in order, found 0x10000000 ",
    ),
    "mapped to ram": (
        put(LENGTH + 52, 0x20000000),
        "rp2350 image: load map: expected an image that runs in flash, found 0x20000000",
    ),
    "no entry in the map": (
        put(LENGTH + 44, 0x00000406),
        "rp2350 image: load map: expected 1 words, one entry or more, found 4",
    ),
    "for another chip": (
        put(LENGTH + 4, 0x08210142),
        "rp2350 image: type of the sealed image: expected an executable for rp2350, found 0x0821",
    ),
    "broken loop": (
        put(-8, 0x100),
        "rp2350 image: block loop, after ",
    ),
    "loop past the first": (
        put(-8, 0),
        "rp2350 image: block loop: expected one that ends at the first, found ",
    ),
    "broken end": (put(-4, 0), "rp2350 image: block loop, after "),
    "wrong count of words": (put(-12, 0x000001FF), "rp2350 image: block loop, after "),
    "bytes after it": (
        lambda data: data + b"EVIL",
        (
            f"rp2350 image: signed part of the image: expected all of it, found {LENGTH} of "
            f"{LENGTH} bytes, and 4 after it"
        ),
    ),
    "one odd byte after it": (
        lambda data: data + b"E",
        (
            f"rp2350 image: signed part of the image: expected all of it, found {LENGTH} of "
            f"{LENGTH} bytes, and 1 after it"
        ),
    ),
    "an item after the hash": (
        put(LENGTH + 68 + 132, 0x0000090C),
        "rp2350 image: items after the hash: expected signature and hash value, found type 0x0c",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_is_refused_by_name(name: str, tmp_path: Path) -> None:
    mutate, message = MUTATIONS[name]
    made = sign(unsealed(), [held(tmp_path)], security_version=3)
    with pytest.raises((Malformed, Tampered)) as refusal:
        read(mutate(made))
    code = "malformed.image" if message.startswith("rp2350 image") else "tampered.native"
    assert (refusal.value.code, refusal.value.message[: len(message)]) == (code, message)


def test_any_flipped_byte_is_refused(tmp_path: Path) -> None:
    made = sign(unsealed(size=600), [held(tmp_path)], security_version=3)
    for at in range(len(made)):
        try:
            found = read(flipped(at)(made))
        except (Malformed, Tampered):
            continue
        # Without its first block, or without the item of the signature, it is not signed at all.
        assert found is None
        assert at in {*range(0x138, 0x14C), 600 + 20 + 68}


def test_the_map_may_be_absolute_and_clear_memory(tmp_path: Path) -> None:
    """As other tools may write it: two entries, from address to address, and one to clear."""
    plain = unsealed(end=False)
    made = sign(plain, [held(tmp_path)])
    at = len(plain)
    items = made[at + 4 : made.index(words(0x01000406), at)]
    rest_of_it = (BASE + 512, BASE + 512, BASE + at)
    entries = ((BASE, BASE, BASE + 512), (0, 0x20000000, 0x20000040), rest_of_it)
    load_map = words(0x83000A06, *(word for entry in entries for word in entry))
    count = (len(items) + len(load_map)) // 4 + 3
    head = words(0xFFFFDED3) + items + load_map + words(0x01000247, count)
    body = made[:at]
    digest = hashlib.sha256(body[:512] + words(0x40) + body[512:] + head).digest()
    r, s = decode_dss_signature(private(0).sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    raw = key_point(private(0).public_key()) + r.to_bytes(32, "big") + s.to_bytes(32, "big")
    rest = words(0x01002109) + raw
    size = (len(head) + len(rest)) // 4 - 1
    end = words(0xFF | size << 8, 0x138 - at, 0xAB123579)
    found = read(body + head + rest + end)
    assert found is not None
    assert found.key_digests == (bootkey(),)


def test_the_mark_of_a_trial_is_not_signed_and_nothing_else(tmp_path: Path) -> None:
    # The boot ROM itself takes it out when the image is bought (data sheet 5.1.17).
    made = sign(unsealed(), [held(tmp_path)])
    assert read(made[: LENGTH + 7] + bytes([made[LENGTH + 7] | 0x80]) + made[LENGTH + 8 :])


def test_erased_flash_may_follow(tmp_path: Path) -> None:
    made = sign(unsealed(), [held(tmp_path)])
    for filler in (b"\0", b"\xff"):
        assert read(made + filler * 100) is not None


def test_a_second_signature_and_one_that_is_not_last_are_refused(tmp_path: Path) -> None:
    made = sign(unsealed(), [held(tmp_path)])
    seal = made[LENGTH:]
    # Another sealing block after it, and the loop through both.
    end = len(made)
    both = put(end - 8, end - LENGTH)(made) + put(-8, 0x138 - end)(seal)
    with pytest.raises(Malformed) as refusal:
        read(both)
    assert refusal.value.message == "rp2350 image: signatures in the loop: expected one, found 2"
    late = put(end - 8, end - LENGTH)(made) + block(image_type(ARM), following=0x138 - end)
    with pytest.raises(Malformed) as refusal:
        read(late)
    assert refusal.value.message == (
        "rp2350 image: block with the signature: expected the last of the loop, found one before"
    )


def test_a_block_that_erratum_e13_lets_in_is_remarked(tmp_path: Path) -> None:
    made = sign(unsealed(ARM, words(0x348 | 1 << 24, 0, 9 | 0x60 << 16)), [held(tmp_path)])
    assert remarks(made) == []
    # As picotool leaves it: the first block still says that it is an image.
    left = resealed(made, 0x138 + 4, 0x42)
    assert remarks(left) == [
        "erratum RP2350-E13: a block at 0x138 has a type, too, and no rollback version"
    ]


def resealed(made: bytes, at: int, byte: int) -> bytes:
    """Change a byte, and let digest and signature follow."""
    start = len(unsealed(ARM, bytes(12)))
    data = bytearray(made)
    data[at] = byte
    end = start + 4 * struct.unpack_from("<I", data, data.index(words(0x01000247), start) + 4)[0]
    digest = hashlib.sha256(data[:end]).digest()
    how = ec.ECDSA(Prehashed(hashes.SHA256()))
    r, s = decode_dss_signature(private(0).sign(digest, how))
    data[end + 68 : end + 132] = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    data[end + 136 : end + 168] = digest
    return bytes(data)


def test_what_is_no_image_has_no_seal() -> None:
    for data in (b"", b"\xe9" * 100, bytes(5000), words(0xFFFFDED3) * 2000, unsealed()):
        assert read(data) is None
    assert read((SAMPLES / "blink-rp2040.uf2").read_bytes()) is None
    assert remarks(b"") == []


def test_a_long_loop_is_refused() -> None:
    size = len(block(image_type(ARM)))
    data = b"".join(block(image_type(ARM), following=size) for _ in range(20))
    with pytest.raises(Malformed) as refusal:
        read(data)
    assert refusal.value.message == (
        "rp2350 image: block loop: expected at most 16 blocks, found more"
    )


def test_images_are_the_same_apart_from_random_signatures(tmp_path: Path) -> None:
    def at_random(raw: bytes) -> bytes:
        """Return the other signature of the same digest: s and n - s both verify."""
        s = N - int.from_bytes(raw[32:], "big")
        return raw[:32] + s.to_bytes(32, "big")

    key, other = held(tmp_path), OddKey(held(tmp_path), at_random)
    for given in (unsealed(), E10 + uf2.write_uf2(unsealed(), BASE, RP2350_ARM)):
        one, two = sign(given, [key]), sign(given, [other])
        assert one != two
        assert native.same("rp2350", one, two)
        assert not native.same("rp2350", one, sign(given, [key], security_version=1))
        assert not native.same("rp2350", one, given)
    assert native.suits("rp2350", given)
    assert not native.suits("rp2350", bytes(5000))


def test_a_partition_table_is_not_ignored_and_the_type_may_come_later(tmp_path: Path) -> None:
    """The first block has partitions, the last one is the image; its type is its second item."""
    first = 0x138
    table = block(words(0x20A, 0))
    own = block(words(0x203, BASE), image_type(ARM))
    head = words(0x20082000, BASE + 0x201).ljust(first, b"\0")
    at = first + len(table) + 100
    data = head + block(words(0x20A, 0), following=at - first) + bytes(100)
    data += block(words(0x203, BASE), image_type(ARM), following=first - at)
    assert len(data) == at + len(own)
    made = sign(data, [held(tmp_path)], security_version=2)
    assert made[first + 4] == 0x0A
    assert made[at + 4] == 0x7E
    assert check(made).rollback == 2
    found = read(made)
    assert found is not None
    assert found.security_version == 2


@pytest.mark.parametrize("kind", [0x03, 0x48])
def test_an_item_that_is_too_short_is_refused(kind: int, tmp_path: Path) -> None:
    with pytest.raises(Malformed) as refusal:
        sign(unsealed(ARM, words(kind | 1 << 8 | 1 << 24)), [held(tmp_path)])
    assert (refusal.value.code, refusal.value.message) == (
        "malformed.image",
        f"rp2350 image: item of type {kind:#04x}: expected at least 2 words, found 1",
    )


@pytest.mark.parametrize("flags", [ARM, RISCV])
def test_an_image_in_ram_is_refused(flags: int, tmp_path: Path) -> None:
    given = uf2.write_uf2(unsealed(flags), 0x20000000, RP2350_ARM)
    with pytest.raises(Failed) as refusal:
        sign(given, [held(tmp_path)])
    assert refusal.value.message == (
        "rp2350: image: expected one that runs in flash, found one at 0x20000000, in ram"
    )


def test_a_block_that_is_not_for_flash_is_not_lost(tmp_path: Path) -> None:
    given = bytearray(uf2.write_uf2(unsealed(), BASE, RP2350_ARM))
    given[-512 + 8] |= 1
    with pytest.raises(Failed) as refusal:
        sign(bytes(given), [held(tmp_path)])
    assert refusal.value.code == "io.format"


def test_otp_json_is_picotools() -> None:
    publics = [private(0).public_key(), private(1).public_key()]
    assert json.loads(otp_json(publics[:1])) == {
        "bootkey0": list(bootkey()),
        "crit1": {"secure_boot_enable": 1},
        "boot_flags1": {"key_valid": 1},
    }
    two = json.loads(otp_json(publics))
    assert (two["bootkey1"], two["boot_flags1"]) == (list(bootkey(1)), {"key_valid": 3})
    with pytest.raises(Failed) as refusal:
        otp_json(publics * 3)
    assert refusal.value.message == "rp2350: otp has room for 4 keys"


def test_the_options_have_their_names() -> None:
    assert rp2350.OPTIONS is Rp2350Options


@pytest.mark.external
def test_a_token_seals(softhsm: SoftHsm) -> None:
    uri = softhsm.make("secp256k1", "pico-boot")
    key = open_key(uri, PIN.encode)
    try:
        made = sign(unsealed(), [key], security_version=4)
    finally:
        key.close()
    assert check(made).rollback == 4
    found = read(made)
    assert found is not None
    assert found.signatures[0].public_key == softhsm.public_key("pico-boot")
