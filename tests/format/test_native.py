"""What a text states of native signatures: one form, and strict limits."""

from typing import Any

import pytest

from fwsign.format import cbor
from fwsign.format.native import (
    KINDS,
    MAX_KEYS,
    MAX_SECURITY_VERSION,
    StatedNative,
    decode_native,
    encode_native,
    native_fault,
)
from fwsign.format.text import Text, decode_text, encode_text
from support import PRODUCT, VENDOR, component, make_manifest, refused

DIGEST = bytes(range(32))
STATED = StatedNative("esp-secure-boot-v2", 7, (DIGEST,))
TWO = (component(), component(b"other", "other.bin"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [None, 0, 7, MAX_SECURITY_VERSION])
@pytest.mark.parametrize(
    "digests", [(DIGEST,), (DIGEST, bytes(48)), tuple(bytes([n]) * 64 for n in range(MAX_KEYS))]
)
def test_a_statement_comes_back(kind: str, version: int | None, digests: tuple[bytes, ...]) -> None:
    stated = StatedNative(kind, version, digests)
    assert native_fault(stated) is None
    assert decode_native(cbor.decode(cbor.encode(encode_native(stated)))) == stated


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (STATED._replace(kind="esp-secure-boot-v1"), "native signature 'esp-secure-boot-v1', exp"),
        (STATED._replace(kind=""), "native signature '', expected esp-secure-boot-v2, mcuboot, rp"),
        (STATED._replace(security_version=-1), "security version -1, expected 0 to 4294967295"),
        (
            STATED._replace(security_version=MAX_SECURITY_VERSION + 1),
            "security version 4294967296, expected 0 to 4294967295",
        ),
        (STATED._replace(key_digests=()), "0 native keys, expected 1 to 8"),
        (
            STATED._replace(key_digests=tuple(bytes([n]) * 32 for n in range(MAX_KEYS + 1))),
            "9 native keys, expected 1 to 8",
        ),
        (STATED._replace(key_digests=(b"short",)), "a native key's digest of 5 bytes, expected 32"),
        (STATED._replace(key_digests=(DIGEST, DIGEST)), "a native key that is named twice"),
    ],
)
def test_a_statement_outside_the_limits_is_refused(stated: StatedNative, words: str) -> None:
    assert str(native_fault(stated)).startswith(words)
    with refused("malformed.profile", words):
        decode_native(cbor.decode(cbor.encode(encode_native(stated))))


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, "mcuboot", b"mcuboot", {}, []),
        ["mcuboot", 7],
        ["mcuboot", 7, [DIGEST], 1],
        [7, 7, [DIGEST]],
        ["mcuboot", "7", [DIGEST]],
        ["mcuboot", 7, DIGEST],
        ["mcuboot", 7, ["text"]],
        ["mcuboot", 7, [DIGEST, 1]],
        ["mcuboot", 7, None],
    ],
)
def test_another_form_is_refused(value: Any) -> None:
    words = "a native signature that is not [kind, security version, key digests]"
    with refused("malformed.profile", words):
        decode_native(value)


@pytest.mark.parametrize("version", [True, False])
def test_a_truth_value_is_no_number(version: bool) -> None:
    with refused("malformed.profile", "a security version that is not a number"):
        decode_native(["mcuboot", version, [DIGEST]])


@pytest.mark.parametrize(
    "native", [(STATED, None), (None, STATED), (STATED, STATED._replace(kind="mcuboot")), ()]
)
def test_each_component_has_its_own(native: tuple[StatedNative | None, ...]) -> None:
    text = Text(VENDOR, PRODUCT, native=native)
    data = encode_text(text, TWO)
    assert decode_text(data, make_manifest(*TWO)) == text
    found = cbor.decode(data)["en"]
    for one, stated in zip(TWO, native, strict=False):
        assert (-259 in found[one.identifier]) is (stated is not None)


def test_a_release_without_statements_has_the_bytes_that_it_always_had() -> None:
    plain = encode_text(Text(VENDOR, PRODUCT), TWO)
    assert encode_text(Text(VENDOR, PRODUCT, native=(None, None)), TWO) == plain
    assert decode_text(plain, make_manifest(*TWO)).native == ()


def test_a_statement_for_no_component_is_refused() -> None:
    english: dict[Any, Any] = cbor.decode(encode_text(Text(VENDOR, PRODUCT), TWO))["en"]
    english[-259] = encode_native(STATED)
    with refused("malformed.profile", "the text matches no template"):
        decode_text(cbor.encode({"en": english}), make_manifest(*TWO))


def test_what_json_has() -> None:
    assert STATED.as_json() == {
        "kind": "esp-secure-boot-v2",
        "security_version": 7,
        "key_digests": [DIGEST.hex()],
    }
