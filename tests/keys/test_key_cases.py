"""Private keys as other programs write them: read, or refused with what is wrong."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from fwsign.errors import Failed
from fwsign.keys import pbes2, pem, pkcs8
from fwsign.keys.asn1 import integer, octets, sequence, sequence_parts, tlv
from fwsign.keys.file import algorithm_of, load_private_key, open_signer
from fwsign.keys.formats import read_any, read_private_key
from fwsign.keys.unlock import spellings
from support import cases, needs_cases, new_key, refused

SECRET = b"secret"
CURVES = {"p256": 32, "p384": 48, "p521": 66}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256: FIPS 186-5."""
OTHER = "has a private key, and beside it a public key that is not its own"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pbes2, "SCRYPT_N", 16)


def info(key: Any) -> bytes:
    """Return PKCS#8 of version 1."""
    encoded: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return encoded


def bits(key: Any) -> bytes:
    """Return the public key as it is inside a SubjectPublicKeyInfo, with the unused bits."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sequence_parts(spki)[1].content


def sec1(key: Any, value: bytes, public: bytes | None = None, *, curve: bool = False) -> bytes:
    """Return an ECPrivateKey with any octets as its private value."""
    named = sequence_parts(info(key))[1].parts()[1].whole
    parts = [integer(1), octets(value)]
    parts += [tlv(0xA0, named)] if curve else []
    parts += [] if public is None else [tlv(0xA1, tlv(3, public))]
    return sequence(*parts)


def v1(key: Any, inner: bytes, *more: bytes, version: int = 0) -> bytes:
    """Return PKCS#8 with something else inside."""
    return sequence(integer(version), sequence_parts(info(key))[1].whole, octets(inner), *more)


def v2(key: Any, *more: bytes) -> bytes:
    return v1(key, sequence_parts(info(key))[2].content, *more, version=1)


def value_of(key: Any) -> int:
    found: int = key.private_numbers().private_value
    return found


def every_way(plain: bytes, *labels: str) -> dict[str, bytes]:
    """Return a key in DER and PEM, in clear and encrypted, under any label."""
    locked = pbes2.encrypt(plain, SECRET)
    labels = labels or ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
    clear = {f"PEM {label}": pem.encode(label, plain) for label in labels}
    return {
        "DER": plain,
        **clear,
        "encrypted DER": locked,
        "encrypted PEM": pem.encode("ENCRYPTED PRIVATE KEY", locked),
        "encrypted PEM under the plain label": pem.encode("PRIVATE KEY", locked),
    }


def same(data: bytes, key: Any) -> None:
    """Assert that all that read keys read this one."""
    found = read_private_key(data, lambda: SECRET, "x")
    assert found.public_key() == key.public_key()
    (one,) = read_any(data, lambda: SECRET)
    assert (one.kind, one.public_key) == ("private key", key.public_key())


# --- elliptic curves ------------------------------------------------------------------------


def widths(size: int) -> dict[str, Callable[[int], bytes]]:
    return {
        "a leading zero": lambda value: b"\0" + value.to_bytes(size, "big"),
        "many leading zeros": lambda value: value.to_bytes(2 * size, "big"),
        "as a number": lambda value: value.to_bytes(value.bit_length() // 8 + 1, "big"),
        "shortest": lambda value: value.to_bytes(-(-value.bit_length() // 8), "big"),
    }


@pytest.mark.parametrize("width", widths(0))
@pytest.mark.parametrize("alg", CURVES)
def test_private_values_of_any_width(alg: str, width: str) -> None:
    curve = new_key(alg).curve
    small = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"x").digest()[:20], "big"), curve)
    for key in (new_key(alg), small):
        value = widths(CURVES[alg])[width](value_of(key))
        for public in (None, bits(key)):
            for data in every_way(v1(key, sec1(key, value, public))).values():
                same(data, key)
            same(sec1(key, value, public, curve=True), key)
            same(pem.encode("EC PRIVATE KEY", sec1(key, value, public, curve=True)), key)


def test_what_is_odd_is_said() -> None:
    key = new_key()
    wide = v1(key, sec1(key, b"\0" + value_of(key).to_bytes(32, "big"), bits(key)))
    (one,) = read_any(wide)
    assert one.detail == "private value of 33 octets instead of 32"
    inner = sequence_parts(wide)[2].content
    (one,) = read_any(v1(key, inner, tlv(0x81, bits(key)), version=1))
    assert one.detail == "version 2, private value of 33 octets instead of 32"


@pytest.mark.parametrize("value", [b"", bytes(32), bytes(40), b"\1" + bytes(32), b"\xff" * 33])
def test_private_values_that_are_none_of_their_curve(value: bytes) -> None:
    key = new_key()
    size = len(value.lstrip(b"\0"))
    words = f"x has a private value of {size} octets, its curve takes 1 to 32"
    for data in every_way(v1(key, sec1(key, value))).values():
        with refused("key.format", words):
            read_private_key(data, lambda: SECRET, "x")


@pytest.mark.parametrize("value", [ORDER, ORDER + 1, (1 << 256) - 1])
def test_private_values_that_are_not_below_the_order(value: int) -> None:
    key = new_key()
    with refused("key.format", "is not a private key that can be read"):
        read_private_key(v1(key, sec1(key, value.to_bytes(33, "big"))), lambda: None, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda _, value: sequence(integer(2), octets(value)),
        lambda _, __: sequence(integer(1)),
        lambda _, __: b"",
        lambda _, value: sec1(new_key("p384"), value, curve=True),
        lambda key, value: sequence(integer(1), octets(value), tlv(0xA1, octets(bits(key)))),
        lambda _, value: sequence(integer(1), octets(value), tlv(0xA1, tlv(3, b"\1" + b"x"))),
        lambda _, value: sequence(integer(1), octets(value), tlv(0xA1, b"")),
    ],
)
def test_damage_inside_an_elliptic_key(change: Callable[[Any, bytes], bytes]) -> None:
    key = new_key()
    inner = change(key, b"\0" + value_of(key).to_bytes(32, "big"))
    with refused("key.format", "is not a private key that can be read"):
        read_private_key(v1(key, inner), lambda: None, "x")


def test_an_elliptic_key_without_its_curve() -> None:
    key = new_key()
    for width in (32, 33):
        bare = sec1(key, value_of(key).to_bytes(width, "big"), bits(key))
        with refused("key.format", "x is a SEC1 key that does not name its curve"):
            read_private_key(bare, lambda: None, "x")


# --- PKCS#8 of version 2 --------------------------------------------------------------------

ALGORITHMS = ("p256", "p384", "p521", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87")


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_version_2_with_the_public_key(alg: str) -> None:
    key = new_key(alg)
    implicit, ring = tlv(0x81, bits(key)), tlv(0xA1, tlv(3, bits(key)))
    for public in (implicit, ring):
        for data in every_way(v2(key, public)).values():
            same(data, key)
    same(v2(key, tlv(0xA0, b""), implicit), key)  # attributes, which say nothing of the key
    same(v2(key), key)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_version_2_with_the_public_key_of_another(alg: str) -> None:
    key = new_key(alg)
    other = rsa.generate_private_key(65537, 3072) if alg == "rsa3072" else new_key(alg)
    for public in (tlv(0x81, bits(other)), tlv(0xA1, tlv(3, bits(other))), tlv(0x81, b"\0junk")):
        for data in every_way(v2(key, public)).values():
            with refused("key.format", f"x {OTHER}"):
                read_private_key(data, lambda: SECRET, "x")


def test_sec1_with_the_public_key_of_another() -> None:
    key, other = new_key(), new_key()
    for width in (32, 33):
        inner = sec1(key, value_of(key).to_bytes(width, "big"), bits(other))
        for data in every_way(v1(key, inner)).values():
            with refused("key.format", f"x {OTHER}"):
                read_private_key(data, lambda: SECRET, "x")
    mine = sec1(key, value_of(key).to_bytes(32, "big"), bits(key))
    with refused("key.format", f"x {OTHER}"):  # two public keys, of which one is its own
        read_private_key(v1(key, mine, tlv(0x81, bits(other)), version=1), lambda: None, "x")


def test_a_compressed_public_key() -> None:
    key = new_key()
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    same(v2(key, tlv(0x81, b"\0" + point)), key)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: v1(key, sequence_parts(info(key))[2].content, version=2),
        lambda key: v2(key, tlv(0x81, b"\1" + bits(key)[1:])),
        lambda key: v2(key, tlv(0xA1, octets(bits(key)))),
        lambda key: v2(key, tlv(0xA1, tlv(3, bits(key)) * 2)),
        lambda key: v2(key, tlv(0x81, b"")),
        lambda key: sequence(integer(1), sequence(), octets(b""), tlv(0x81, bits(key))),
        lambda _: sequence(integer(1), sequence(octets(b"")), octets(b"")),
    ],
)
def test_damage_around_a_key_of_version_2(change: Callable[[Any], bytes]) -> None:
    key = new_key("ed25519")
    data = change(key)
    assert pkcs8.load(data, "x") is None
    with refused("key.format", "is not a private key that can be read"):
        read_private_key(data, lambda: None, "x")


def test_nothing_but_refusals_leaves_the_reader() -> None:
    key = new_key()
    good = v1(key, sec1(key, b"\0" + bytes(31) + b"\5"), tlv(0x81, bits(key)), version=1)
    for at in range(len(good)):
        for bit in (1, 0x80):
            changed = bytearray(good)
            changed[at] ^= bit
            for data in (bytes(changed), good[:at]):
                try:
                    pkcs8.load(data, "x")
                except Failed as error:
                    assert error.code.startswith("key.")  # noqa: PT017 - or it is read


# --- labels and texts -----------------------------------------------------------------------


def test_the_content_tells_the_form_and_not_the_label() -> None:
    key = new_key("rsa3072")
    traditional = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    for label in ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"):
        for form, data in (("PKCS#8", info(key)), ("PKCS#1", traditional)):
            (one,) = read_any(pem.encode(label, data))
            assert (one.format, one.encoding, one.public_key) == (form, "PEM", key.public_key())


def test_a_label_over_nothing_known_is_still_named() -> None:
    with refused("key.format", 'it is PEM "PRIVATE KEY", damaged or of a kind'):
        read_private_key(pem.encode("PRIVATE KEY", sequence(b"")), lambda: None, "x")
    with refused("key.format", 'it is PEM "PRIVATE KEY", damaged or of a kind'):
        read_private_key(pem.encode("PRIVATE KEY", v2(new_key())[:-9]), lambda: None, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", " \t\n"),
        lambda text: text.replace("\n", "\n  "),
        lambda text: text.replace("\n", ""),
        lambda text: text.strip(),
        lambda text: "Bag Attributes: none\n" + text,
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("locked", [False, True])
def test_texts_as_editors_and_copying_leave_them(
    change: Callable[[str], str], encoding: str, tmp_path: Path, *, locked: bool
) -> None:
    key = new_key()
    plain = info(key)
    text = pem.encode("ENCRYPTED PRIVATE KEY", pbes2.encrypt(plain, SECRET)).decode()
    text = change(text if locked else pem.encode("PRIVATE KEY", plain).decode())
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "key").write_bytes((mark + text).encode(encoding))
    signer = open_signer(tmp_path / "key", lambda: SECRET)
    assert signer.public_key == key.public_key()


def test_written_out_line_ends_are_named() -> None:
    text = pem.encode("PRIVATE KEY", info(new_key())).replace(b"\n", rb"\n")
    with refused("io.format", r"PRIVATE KEY whose line ends are written as \n"):
        read_private_key(text, lambda: None, "x")


def test_of_two_keys_nobody_can_tell_which_is_meant(tmp_path: Path) -> None:
    first, second = (pem.encode("PRIVATE KEY", info(new_key(alg))) for alg in ("p256", "ed25519"))
    locked = pem.encode("ENCRYPTED PRIVATE KEY", pbes2.encrypt(info(new_key()), SECRET))
    for both in (first + second, second + locked, first + first):
        (tmp_path / "key").write_bytes(both)
        with refused("key.format", "has 2 private keys, expected one"):
            load_private_key(tmp_path / "key", lambda: SECRET)
    assert len(read_any(first + second)) == 2


def test_rsa_keys_with_a_small_exponent_do_not_sign() -> None:
    small = rsa.generate_private_key(3, 3072)
    words = "cannot sign with an RSA key of public exponent 3, expected 65537 or more"
    for key in (small, small.public_key()):
        with refused("key.unsupported", words):
            algorithm_of(key)
    assert algorithm_of(new_key("rsa3072")) == -37


# --- passphrases ----------------------------------------------------------------------------

NFC, NFD, LATIN_1 = "p\u00e4sse".encode(), "pa\u0308sse".encode(), b"p\xe4sse"


def test_a_passphrase_opens_however_its_letters_are_written() -> None:
    key = new_key()
    wide = v1(key, sec1(key, b"\0" + value_of(key).to_bytes(32, "big")))
    for written in (NFC, NFD):
        lock = BestAvailableEncryption(written)
        for data in (
            pbes2.encrypt(info(key), written),
            pbes2.encrypt(wide, written),
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, lock),
            serialize_key_and_certificates(None, key, None, None, lock),
        ):
            for typed in (NFC, NFD, LATIN_1):
                found = read_private_key(data, partial(bytes, typed), "x")
                assert found.public_key() == key.public_key()
            with refused("key.passphrase", "wrong passphrase for x"):
                read_private_key(data, lambda: b"passe", "x")


def test_spellings() -> None:
    assert spellings(b"secret") == (b"secret",)
    assert spellings(NFC) == (NFC, NFD)
    assert spellings(NFD) == (NFD, NFC)
    assert spellings(LATIN_1) == (LATIN_1, NFC, NFD)


# --- cases that others met ------------------------------------------------------------------

FOLDER = cases() / "keys"
READ = (
    "k01-pkcs8-labelled-rsa",
    "k01b-pkcs1-labelled-private",
    "k02-encrypted-labelled-private",
    "k02b-encrypted",
    "k03-pkcs8-v2-ed25519",
    "k03c-ring-v2",
    "k04-dek",
    "k05-crlf",
    "k05b-bom",
    "k05c-cr",
    "k05d-utf16",
    "k05e-trailing-space",
    "k05f-no-final-newline",
    "k05g-indented",
    "k05h-oneline",
    "k06-ecparams",
    "k08-text-before",
)
REFUSED = {
    "k03b-pkcs8-v2-wrong-public": ("key.format", OTHER),
    "k05i-escaped-n": ("io.format", r"whose line ends are written as \n"),
    "k07-two-keys": ("key.format", "has 2 private keys, expected one"),
    "k09-empty": ("key.format", "it is empty"),
    "k09b-truncated": ("io.format", "BEGIN PRIVATE KEY without its END"),
    "k10-p224": ("key.unsupported", "expected P-256, P-384, Ed25519"),
    "k10b-p521": ("key.unsupported", "cannot sign with a key of P-521, expected P-256"),
    "k10c-k1": ("key.unsupported", "expected P-256, P-384, Ed25519"),
    "k10d-rsa1024": ("key.unsupported", "cannot sign with a key of RSA-1024, expected"),
    "k10e-rsa-e3": ("key.unsupported", "public exponent 3, expected 65537 or more"),
}


@needs_cases()
@pytest.mark.parametrize("case", READ)
def test_cases_that_are_read(case: str) -> None:
    signer = open_signer(FOLDER / f"{case}.pem", lambda: SECRET)
    assert signer.sign(b"message")


@needs_cases()
@pytest.mark.parametrize("case", REFUSED)
def test_cases_that_are_refused(case: str) -> None:
    with refused(*REFUSED[case]):
        open_signer(FOLDER / f"{case}.pem", lambda: SECRET)


@needs_cases()
def test_no_case_is_left_out() -> None:
    assert {one.stem for one in FOLDER.glob("k*.pem")} == {*READ, *REFUSED}
