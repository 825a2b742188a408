"""Public keys: one verdict on every version of cryptography."""

from typing import Any

import cryptography
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from fwsign.errors import Untrusted
from fwsign.format import library
from fwsign.format.cose import key_kind, verify_signature
from fwsign.format.library import AbsentKey
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import key_digest, parse_certificate
from fwsign.x509.public_key import load_public_key
from support import make_ca, make_leaf, new_key, refused, tlv

RSA, PSS = bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06092a864886f70d01010a")
EC, P256 = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06082a8648ce3d030107")
ED25519, NULL = bytes.fromhex("06032b6570"), b"\x05\x00"
MODULUS = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n


def spki(algorithm: tuple[bytes, ...], key: bytes, unused: bytes = b"\0") -> bytes:
    return tlv(0x30, tlv(0x30, *algorithm), tlv(3, unused, key))


def integer(number: int) -> bytes:
    return tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def rsa_key(*numbers: int) -> bytes:
    return tlv(0x30, *map(integer, numbers))


def encoded(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize("alg", ["p256", "p384", "p521", "ed25519", "rsa2048", "ml-dsa-65"])
def test_keys_are_read(alg: str) -> None:
    key = new_key(alg).public_key()
    assert encoded(load_public_key(encoded(key))) == encoded(key)


@pytest.mark.parametrize(
    "exponent",
    [
        *(1, 0, 2, 4, 65536, -3),
        pytest.param(MODULUS, id="the modulus"),
        pytest.param(MODULUS + 2, id="above the modulus"),
    ],
)
def test_rsa_exponents_that_make_no_signature_safe_are_refused(exponent: int) -> None:
    """Old versions take an exponent of 1, with which the signature is the message itself."""
    with pytest.raises(ValueError, match="whose exponent is not odd, or not from 3"):
        load_public_key(spki((RSA, NULL), rsa_key(MODULUS, exponent)))
    for good in (3, 65537):
        load_public_key(spki((RSA, NULL), rsa_key(MODULUS, good)))


@pytest.mark.parametrize(
    "key",
    [
        rsa_key(-MODULUS, 3),
        rsa_key(0, 3),
        rsa_key(MODULUS, 3) + b"\0",
        rsa_key(MODULUS, 3, 1),
        tlv(0x30, integer(MODULUS), b"\x02\x02\x00\x03"),
        rsa_key(MODULUS),
        b"",
    ],
    ids=["negative", "zero", "more bytes", "three numbers", "a long number", "one", "none"],
)
def test_rsa_keys_in_other_forms_are_refused(key: bytes) -> None:
    for algorithm in ((RSA, NULL), (RSA,), (PSS,)):
        with pytest.raises(ValueError, match=r".") as caught:
            load_public_key(spki(algorithm, key))
        assert not isinstance(caught.value, Untrusted)


def test_rsa_parameters() -> None:
    for good in ((RSA, NULL), (RSA,), (PSS,)):
        found = load_public_key(spki(good, rsa_key(MODULUS, 65537)))
        assert key_digest(found) == key_digest(load_public_key(encoded(found)))
    with pytest.raises(ValueError, match="an RSA key with parameters"):
        load_public_key(spki((RSA, integer(1)), rsa_key(MODULUS, 65537)))
    with pytest.raises(ValueError, match=r"^(?!.*not allowed)"):
        load_public_key(spki((PSS, NULL), rsa_key(MODULUS, 65537)))


def test_unused_bits_are_refused() -> None:
    point = encoded(new_key("p256").public_key())[-65:]
    for key in (spki((EC, P256), point, b"\1"), spki((RSA, NULL), rsa_key(MODULUS, 3), b"\1")):
        with pytest.raises(ValueError, match="a public key with unused bits"):
            load_public_key(key)


def test_a_point_in_each_form_is_the_same_key() -> None:
    key = new_key("p256").public_key()
    x, y = (one.to_bytes(32, "big") for one in (key.public_numbers().x, key.public_numbers().y))
    odd = y[-1] & 1
    for point in (b"\4" + x + y, bytes([2 + odd]) + x, bytes([6 + odd]) + x + y):
        assert key_digest(load_public_key(spki((EC, P256), point))) == key_digest(key)


@pytest.mark.parametrize(
    ("algorithm", "known"),
    [
        ((EC,), True),
        ((EC, NULL), True),
        ((EC, tlv(0x30, integer(1))), True),
        ((EC, P256), True),
        ((ED25519, NULL), True),
        ((EC, bytes.fromhex("06082a8648ce3d03017f")), False),
        ((bytes.fromhex("06032b6509"),), False),
        ((bytes.fromhex("06072a8648ce380401"),), False),
    ],
)
def test_keys_that_cannot_be_read(algorithm: tuple[bytes, ...], known: bool) -> None:
    """One of a kind that could be allowed is malformed, and of any other kind not allowed."""
    key = spki(algorithm, b"\4" + bytes(64))
    if known:
        with pytest.raises(ValueError, match=r"."):
            load_public_key(key)
        return
    with refused("untrusted.algorithm", "a kind of key that is not allowed: "):
        load_public_key(key)
    with refused("untrusted.algorithm", "a kind of key that is not allowed: "):
        Anchor.from_public_key(key)


@pytest.mark.parametrize(
    "algorithm", [(EC, bytes.fromhex("060a2a83f8dae2b3a7b0fd07")), (bytes.fromhex("0602ff80"),)]
)
def test_identifiers_that_old_versions_do_not_read_are_refused(
    algorithm: tuple[bytes, ...],
) -> None:
    with pytest.raises(ValueError, match="an object identifier that is too long"):
        load_public_key(spki(algorithm, bytes(65)))


# --- ML-DSA where cryptography does not have it ---------------------------------------------


@pytest.fixture(params=["no such kind", "an old version"])
def old(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make cryptography one without ML-DSA: built with an old OpenSSL, or old itself."""
    real = load_der_public_key

    def load(data: bytes) -> Any:
        if bytes.fromhex("0609608648016503040312") not in data:
            return real(data)
        if request.param == "an old version":
            raise ValueError("Could not deserialize key data")
        raise UnsupportedAlgorithm("ML-DSA-65 is not supported by this backend")

    monkeypatch.setattr(library, "load_der_public_key", load)
    if request.param == "an old version":
        monkeypatch.setattr("cryptography.__version__", "38.0.4")


@pytest.mark.usefixtures("old")
def test_ml_dsa_can_be_pinned_and_what_it_signed_is_refused() -> None:
    key = new_key("ml-dsa-65")
    spki_ = encoded(key.public_key())
    anchor = Anchor.from_public_key(spki_)
    assert anchor.name == "ML-DSA-65 key"
    assert key_kind(anchor.key) == "ML-DSA-65"
    assert isinstance(anchor.key, AbsentKey)
    assert encoded(anchor.key) == spki_
    with pytest.raises(ValueError, match="a ML-DSA-65 key cannot be encoded here"):
        anchor.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found = f"found {cryptography.__version__}"
    words = "ML-DSA-65 needs cryptography 48 or newer with OpenSSL 3.5 or newer", found
    with refused("untrusted.algorithm", *words) as caught:
        verify_signature(-49, anchor.key, b"message", key.sign(b"message"))
    assert caught.value.expected == "cryptography 48 or newer"


@pytest.mark.usefixtures("old")
def test_a_certificate_with_an_ml_dsa_key_is_parsed() -> None:
    ca = make_ca()
    found = parse_certificate(make_leaf(ca, alg="ml-dsa-65").der)
    assert isinstance(found.key, AbsentKey)
    assert isinstance(parse_certificate(make_leaf(ca).der).key, ec.EllipticCurvePublicKey)
