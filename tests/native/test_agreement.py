"""A release and the native signature in its image agree, or are refused by name."""

import pytest

from flash.kit import held as held_release
from fwsign import native
from fwsign.errors import FwsignError, Malformed, Tampered, Unsuitable, Untrusted
from fwsign.format.native import StatedNative
from fwsign.native import agreement
from native_kit import app, held
from support import refused

KIND = "esp-secure-boot-v2"
NAME = "esp32c6@0x10000"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("keys")
    keys = [held(folder, name) for name in ("p256", "p256 other")]
    return native.sign(KIND, app(secure_version=7), keys)


@pytest.fixture(scope="module")
def stated(signed: bytes) -> StatedNative:
    found = native.read(signed)
    assert found is not None
    return agreement.state(found)


def flipped(digest: bytes, bit: int) -> bytes:
    changed = bytearray(digest)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_what_is_stated_is_what_is_there(signed: bytes, stated: StatedNative) -> None:
    assert agreement.check(NAME, stated, signed).key_digests == stated.key_digests
    other_order = stated._replace(key_digests=stated.key_digests[::-1])
    assert agreement.check(NAME, other_order, signed).kind == KIND


@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("bit", range(0, 256, 5))
def test_every_bit_of_a_key_digest_counts(
    key: int, bit: int, signed: bytes, stated: StatedNative
) -> None:
    digests = list(stated.key_digests)
    digests[key] = flipped(digests[key], bit)
    with pytest.raises(Untrusted) as caught:
        agreement.check(NAME, stated._replace(key_digests=tuple(digests)), signed)
    assert caught.value.code == "untrusted.native-key"
    assert caught.value.message.startswith(f"{NAME} is signed natively by other keys: expected ")
    assert str(caught.value.expected).split(", ") == sorted(one.hex() for one in digests)
    assert str(caught.value.found).split(", ") == sorted(one.hex() for one in stated.key_digests)


@pytest.mark.parametrize("keys", [slice(0, 1), slice(1, 2)])
def test_fewer_and_more_keys_than_stated_are_refused(
    keys: slice, signed: bytes, stated: StatedNative
) -> None:
    fewer = stated._replace(key_digests=stated.key_digests[keys])
    more = stated._replace(key_digests=(*stated.key_digests, bytes(32)))
    for one in (fewer, more):
        with refused("untrusted.native-key", "is signed natively by other keys"):
            agreement.check(NAME, one, signed)


@pytest.mark.parametrize("version", [None, 0, *(7 ^ 1 << bit for bit in range(32))])
def test_every_bit_of_the_security_version_counts(
    version: int | None, signed: bytes, stated: StatedNative
) -> None:
    words = "none" if version is None else str(version)
    message = f"{NAME}: expected security version {words}, found 7 in the image"
    with pytest.raises(Unsuitable) as caught:
        agreement.check(NAME, stated._replace(security_version=version), signed)
    assert (caught.value.code, caught.value.message) == ("unsuitable.security-version", message)
    assert (caught.value.expected, caught.value.found) == (words, "7")


@pytest.mark.parametrize("kind", ["mcuboot", "rp2350"])
def test_another_kind_is_refused(kind: str, signed: bytes, stated: StatedNative) -> None:
    message = f"{NAME}: expected a native signature {kind} in the image, found none"
    with pytest.raises(Tampered) as caught:
        agreement.check(NAME, stated._replace(kind=kind), signed)
    assert (caught.value.code, caught.value.message) == ("tampered.native", message)


def test_an_image_without_its_signature_is_refused(stated: StatedNative) -> None:
    with refused("tampered.native", f"{NAME}: expected a native signature {KIND}", "found none"):
        agreement.check(NAME, stated, app(secure_version=7))


@pytest.mark.parametrize("at", [0x24, 0x40, 4096 + 4, 4096 + 1000, 4096 + 1216 + 50])
def test_an_image_that_was_changed_is_refused(at: int, signed: bytes, stated: StatedNative) -> None:
    changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    with pytest.raises((Malformed, Tampered)):
        agreement.check(NAME, stated, changed)


def test_an_image_beyond_the_limit_is_not_read(stated: StatedNative) -> None:
    with refused("malformed.size", f"{NAME}: an image of 67108865 bytes"):
        agreement.check(NAME, stated, bytes(agreement.MAX_IMAGE + 1))


def test_keys_that_are_expected_elsewhere(signed: bytes, stated: StatedNative) -> None:
    found = agreement.check(NAME, stated, signed)
    agreement.check_keys(NAME, found, (bytes(32), *stated.key_digests))
    for expected in (stated.key_digests[:1], (bytes(32),), ()):
        with refused("untrusted.native-key", "by a key that is not expected: expected "):
            agreement.check_keys(NAME, found, expected)
    with refused("untrusted.native-key", "found none"):
        agreement.check_keys(NAME, found._replace(signatures=()), stated.key_digests)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"security_version": 8}, "unsuitable.security-version"),
        ({"key_digests": (bytes(32),)}, "untrusted.native-key"),
        ({"kind": "mcuboot"}, "tampered.native"),
    ],
)
def test_a_release_is_not_held_for_boards_unless_it_agrees(
    changes: dict[str, object], code: str | None, signed: bytes, stated: StatedNative
) -> None:
    """Flashing and gateways take their images from a `HeldRelease` alone."""
    wrong = stated._replace(**changes)  # type: ignore[arg-type]
    found = None
    try:
        assert held_release({NAME: signed}, native=(wrong,)).payloads[0].data == signed
    except FwsignError as error:
        found = error.code
    assert found == code
