"""COSE_Sign1 blocks: the closed list of headers, the sizes, and the table of algorithms."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import Malformed
from fwsign.format import cbor
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.cbor import Tag
from fwsign.format.cose import (
    ALG,
    CRLS,
    HASHES,
    KID,
    MAX_CERTIFICATE_SIZE,
    MAX_CHAIN,
    MAX_CRL_SIZE,
    MAX_CRLS,
    MAX_RSA_BITS,
    MAX_SIGNATURE_SIZE,
    TOKEN,
    X5CHAIN,
    X5T,
    Block,
    algorithm_for,
    allowed_rsa_size,
    decode_block,
    encode_block,
    key_kind,
    key_name,
    protected_header,
    sig_structure,
    verify_signature,
)
from fwsign.keys.file import FileSigner
from support import new_key, refused

X5T_VALUE = (SHA256, bytes(32))
PROTECTED: dict[Any, Any] = {ALG: -9, X5T: X5T_VALUE}
CHAIN: dict[Any, Any] = {X5CHAIN: b"leaf"}


def block(
    protected: Any = PROTECTED, unprotected: Any = CHAIN, signature: bytes = b"signature"
) -> bytes:
    """Encode a block whose headers may be wrong."""
    inner = protected if isinstance(protected, bytes) else cbor.encode(protected)
    return cbor.encode(Tag(18, (inner, unprotected, None, signature)))


# --- form -----------------------------------------------------------------------------------


def test_a_block_with_everything() -> None:
    whole = Block(
        protected_header(-9, bytes(32)),
        -9,
        b"signature",
        x5t=bytes(32),
        chain=(b"leaf", b"issuing"),
        crls=(b"crl",),
        token=b"token",
    )
    assert decode_block(encode_block(whole)) == whole


def test_a_chain_of_one_is_a_bare_byte_string() -> None:
    one = Block(protected_header(-9, bytes(32)), -9, b"", x5t=bytes(32), chain=(b"leaf",))
    assert cbor.decode(encode_block(one)).value[1] == {X5CHAIN: b"leaf"}
    assert decode_block(encode_block(one)) == one


@pytest.mark.parametrize("header", [{ALG: -9}, {ALG: -9, KID: b"key"}])
def test_a_block_of_a_bare_key(header: dict[int, Any]) -> None:
    found = decode_block(block(header, {}))
    assert (found.algorithm, found.kid, found.x5t) == (-9, header.get(KID), None)
    assert encode_block(found) == block(header, {})


def test_an_unknown_algorithm_is_left_for_the_trust_decision() -> None:
    assert decode_block(block({ALG: -65000}, {})).algorithm == -65000


@pytest.mark.parametrize(
    "value",
    [
        Tag(18, ()),
        Tag(18, (b"", {}, None)),
        Tag(18, (b"", {}, None, b"", b"")),
        Tag(18, ({}, {}, None, b"")),
        Tag(18, (b"", (), None, b"")),
        Tag(18, (b"", {}, None, None)),
        Tag(18, (b"", {}, "", b"")),
        Tag(107, (b"", {}, None, b"")),
        (b"", {}, None, b""),
        b"",
    ],
)
def test_what_is_no_cose_sign1_is_refused(value: Any) -> None:
    with refused("malformed.envelope", "authentication block is not a COSE_Sign1"):
        decode_block(cbor.encode(value))


def test_an_attached_payload_is_refused() -> None:
    with refused("malformed.envelope", "COSE_Sign1 with an attached payload"):
        decode_block(cbor.encode(Tag(18, (cbor.encode(PROTECTED), CHAIN, b"", b""))))


@pytest.mark.parametrize("data", [b"", block() + b"\0", block(b"")])
def test_what_is_no_cbor_is_refused(data: bytes) -> None:
    with refused("malformed.cbor"):
        decode_block(data)


@pytest.mark.parametrize(
    ("protected", "words"),
    [
        ((), "protected header is not a map"),
        ({}, "protected labels are none of alg, x5t; alg; alg, kid: none"),
        ({X5T: X5T_VALUE}, "protected labels are none of alg, x5t; alg; alg, kid: 34"),
        ({**PROTECTED, KID: b""}, "protected labels are none of alg, x5t; alg; alg, kid: 1, 4, 34"),
        ({**PROTECTED, 2: (1,)}, "protected labels are none of"),
        ({**PROTECTED, 3: "text/plain"}, "protected labels are none of"),
        ({**PROTECTED, "alg": 1}, "protected labels are none of"),
        ({**PROTECTED, X5CHAIN: b"leaf"}, "label 33 stands in both header buckets"),
        ({**PROTECTED, X5T: (SHA256, bytes(31))}, "x5t is not [-16, 32 bytes]"),
        ({**PROTECTED, X5T: (-43, bytes(48))}, "x5t is not [-16, 32 bytes]"),
        ({**PROTECTED, X5T: bytes(32)}, "x5t is not [-16, 32 bytes]"),
        ({**PROTECTED, X5T: None}, "x5t is not [-16, 32 bytes]"),
        ({**PROTECTED, ALG: "ES256"}, "algorithm is not an integer"),
        ({**PROTECTED, ALG: True}, "algorithm is not an integer"),
        ({**PROTECTED, ALG: None}, "algorithm is not an integer"),
    ],
)
def test_protected_headers_outside_the_closed_list_are_refused(protected: Any, words: str) -> None:
    with refused("malformed.header", f"COSE header: {words}"):
        decode_block(block(protected))


def test_a_key_identifier_that_is_no_byte_string_is_refused() -> None:
    with refused("malformed.header", "key identifier is not a byte string"):
        decode_block(block({ALG: -9, KID: None}, {}))


@pytest.mark.parametrize(
    ("unprotected", "words"),
    [
        ({**CHAIN, ALG: -9}, "label 1 stands in both header buckets"),
        ({**CHAIN, X5T: X5T_VALUE}, "label 34 stands in both header buckets"),
        ({**CHAIN, KID: b""}, "unprotected label 4 is not allowed"),
        ({**CHAIN, 32: b""}, "unprotected label 32 is not allowed"),
        ({**CHAIN, 269: b""}, "unprotected label 269 is not allowed"),
        ({**CHAIN, "x": b""}, "unprotected label x is not allowed"),
        ({**CHAIN, (b"",): b""}, "unprotected label (b'',) is not allowed"),
        ({X5CHAIN: None}, "x5chain is null"),
        ({X5CHAIN: ()}, "x5chain is neither a byte string nor an array of two or more"),
        ({X5CHAIN: (b"leaf",)}, "x5chain is neither a byte string nor an array of two or more"),
        ({X5CHAIN: "leaf"}, "x5chain is neither a byte string nor an array of two or more"),
        ({X5CHAIN: Tag(18, b"")}, "x5chain is neither a byte string nor an array of two or more"),
        ({X5CHAIN: (b"leaf", "CA")}, "x5chain is not an array of byte strings"),
        ({}, "x5t without x5chain"),
        ({**CHAIN, CRLS: ()}, "an empty list of CRLs"),
        ({**CHAIN, CRLS: None}, "an empty list of CRLs"),
        ({**CHAIN, CRLS: b"crl"}, "CRL list is not an array of byte strings"),
        ({**CHAIN, CRLS: ("crl",)}, "CRL list is not an array of byte strings"),
        ({**CHAIN, TOKEN: None}, "time-stamp token is not a byte string"),
    ],
)
def test_unprotected_headers_outside_the_closed_list_are_refused(
    unprotected: Any, words: str
) -> None:
    with refused("malformed.header", f"COSE header: {words}"):
        decode_block(block(PROTECTED, unprotected))


def test_a_chain_that_the_signature_does_not_bind_is_refused() -> None:
    with refused("malformed.header", "x5chain without x5t"):
        decode_block(block({ALG: -9}, CHAIN))


def test_crls_in_a_block_of_a_bare_key_are_refused() -> None:
    with refused("malformed.header", "CRLs in a block without certificates"):
        decode_block(block({ALG: -9}, {CRLS: (b"crl",)}))


@pytest.mark.parametrize(
    ("unprotected", "size", "words"),
    [
        ({X5CHAIN: bytes(MAX_CERTIFICATE_SIZE + 1)}, 0, "certificate of 16385 bytes, at most"),
        ({X5CHAIN: (b"",) * (MAX_CHAIN + 1)}, 0, "x5chain of 7, at most 6 are allowed"),
        ({**CHAIN, CRLS: (b"",) * (MAX_CRLS + 1)}, 0, "CRL list of 9, at most 8 are allowed"),
        ({**CHAIN, CRLS: (bytes(MAX_CRL_SIZE + 1),)}, 0, "CRL of 1048577 bytes, at most 1048576"),
        (CHAIN, MAX_SIGNATURE_SIZE + 1, "signature of 8193 bytes, at most 8192 are allowed"),
    ],
)
def test_sizes_and_counts_have_limits(unprotected: Any, size: int, words: str) -> None:
    with refused("malformed.size", words) as caught:
        decode_block(block(PROTECTED, unprotected, bytes(size)))
    assert int(str(caught.value.found)) == int(str(caught.value.expected)) + 1


def test_what_is_as_large_as_allowed_is_accepted() -> None:
    chain = (bytes(MAX_CERTIFICATE_SIZE),) * MAX_CHAIN
    most = {X5CHAIN: chain, CRLS: (b"",) * MAX_CRLS}
    assert decode_block(block(PROTECTED, most, bytes(MAX_SIGNATURE_SIZE))).chain == chain


@given(st.data())
def test_what_decodes_encodes_to_the_same_bytes(draw: st.DataObject) -> None:
    data = bytearray(block(PROTECTED, {X5CHAIN: (b"leaf", b"CA"), CRLS: (b"crl",)}))
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at // 8] ^= 1 << at % 8
    try:
        found = decode_block(bytes(data))
    except Malformed:
        return
    assert encode_block(found) == bytes(data)


def test_sig_structure() -> None:
    assert cbor.decode(sig_structure(b"p", b"d")) == ("Signature1", b"p", b"", b"d")


def test_protected_headers() -> None:
    assert cbor.decode(protected_header(-19)) == {ALG: -19}
    assert cbor.decode(protected_header(-9, bytes(32))) == PROTECTED


# --- algorithms -----------------------------------------------------------------------------

KEYS = {
    -9: "p256",
    -7: "p256",
    -51: "p384",
    -19: "ed25519",
    -49: "ml-dsa-65",
    -50: "ml-dsa-87",
    -37: "rsa3072",
}
MESSAGE = b"message"


def signed(key: Any, algorithm: int) -> bytes:
    """Sign without the code under test."""
    chosen = ALGORITHMS[algorithm]
    if chosen.width:
        numbers = decode_dss_signature(key.sign(MESSAGE, ec.ECDSA(HASHES[chosen.digest])))
        return b"".join(number.to_bytes(chosen.width, "big") for number in numbers)
    if chosen.digest:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return bytes(key.sign(MESSAGE, pss, hashes.SHA256()))
    return bytes(key.sign(MESSAGE))


def test_every_algorithm_is_tried_here() -> None:
    assert KEYS.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_verifies_and_a_changed_one_does_not(algorithm: int) -> None:
    key = new_key(KEYS[algorithm])
    signature = signed(key, algorithm)
    verify_signature(algorithm, key.public_key(), MESSAGE, signature)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for message, wrong in (
        (b"massage", signature),
        (MESSAGE, flipped),
        (MESSAGE, signature[:-1]),
        (MESSAGE, signature + b"\0"),
        (MESSAGE, bytes(len(signature))),
        (MESSAGE, b""),
    ):
        words = f"{ALGORITHMS[algorithm].name} signature does not verify"
        with refused("tampered.signature", words):
            verify_signature(algorithm, key.public_key(), message, wrong)


def test_an_ecdsa_signature_in_der_is_refused() -> None:
    key = new_key()
    der = key.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
    with refused("tampered.signature"):
        verify_signature(-9, key.public_key(), MESSAGE, der)


@pytest.mark.parametrize("algorithm", [-9, -51, -7])
def test_an_ecdsa_signature_has_one_length(algorithm: int) -> None:
    key, width = new_key(KEYS[algorithm]), ALGORITHMS[algorithm].width
    signature = signed(key, algorithm)
    with refused("tampered.signature"):  # the same r and s, with a zero before s
        longer = signature[:width] + b"\0" + signature[width:]
        verify_signature(algorithm, key.public_key(), MESSAGE, longer)


@pytest.mark.parametrize("salt", [0, 20, padding.PSS.MAX_LENGTH])
def test_ps256_with_another_salt_is_refused(salt: Any) -> None:
    key = new_key("rsa3072")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    with refused("tampered.signature"):
        signature = key.sign(MESSAGE, pss, hashes.SHA256())
        verify_signature(-37, key.public_key(), MESSAGE, signature)


@pytest.mark.parametrize(
    ("algorithm", "alg", "words"),
    [
        (-9, "p384", "algorithm ESP256 needs a P-256 key, this one is P-384"),
        (-7, "p384", "algorithm ES256 needs a P-256 key, this one is P-384"),
        (-7, "secp256k1", "algorithm ES256 needs a P-256 key, this one is secp256k1"),
        (-51, "p256", "algorithm ESP384 needs a P-384 key, this one is P-256"),
        (-19, "p256", "algorithm Ed25519 needs a Ed25519 key, this one is P-256"),
        (-19, "ed448", "algorithm Ed25519 needs a Ed25519 key, this one is Ed448"),
        (-49, "ml-dsa-87", "algorithm ML-DSA-65 needs a ML-DSA-65 key, this one is ML-DSA-87"),
        (-50, "ml-dsa-65", "algorithm ML-DSA-87 needs a ML-DSA-87 key, this one is ML-DSA-65"),
        (-49, "ml-dsa-44", "algorithm ML-DSA-65 needs a ML-DSA-65 key, this one is MLDSA44"),
        (-37, "p256", "algorithm PS256 needs a RSA of 3072 bits or more key, this one is P-256"),
        (-37, "rsa2048", "RSA of 3072 bits or more key, this one is RSA-2048"),
    ],
)
def test_algorithm_and_key_must_fit(algorithm: int, alg: str, words: str) -> None:
    with refused("malformed.algorithm", words) as caught:
        verify_signature(algorithm, new_key(alg).public_key(), MESSAGE, b"")
    assert words.endswith(f"this one is {caught.value.found}")


@pytest.mark.parametrize(
    ("alg", "kind", "name", "algorithm"),
    [
        ("p256", "P-256", "P-256", -9),
        ("p384", "P-384", "P-384", -51),
        ("p521", "P-521", "P-521", None),
        ("secp256k1", "secp256k1", "secp256k1", None),
        ("ed25519", "Ed25519", "Ed25519", -19),
        ("rsa3072", "RSA", "RSA-3072", -37),
        ("rsa2048", "RSA", "RSA-2048", None),
        ("ml-dsa-65", "ML-DSA-65", "ML-DSA-65", -49),
        ("ml-dsa-87", "ML-DSA-87", "ML-DSA-87", -50),
        ("ml-dsa-44", "MLDSA44", "MLDSA44", None),
    ],
)
def test_kinds_of_keys_and_what_we_sign_with(
    alg: str, kind: str, name: str, algorithm: int | None
) -> None:
    key = new_key(alg).public_key()
    assert (key_kind(key), key_name(key), algorithm_for(key)) == (kind, name, algorithm)


def test_rsa_keys_have_a_size_from_one_limit_to_the_other() -> None:
    key = new_key("rsa3072").public_key()
    assert allowed_rsa_size(key)
    assert not allowed_rsa_size(key, 3073)
    assert allowed_rsa_size(new_key().public_key())
    assert MAX_RSA_BITS == 8192


def test_every_algorithm_signs_with_our_own_signer_too() -> None:
    for alg in set(KEYS.values()):
        signer = FileSigner(new_key(alg))
        verify_signature(signer.algorithm, signer.public_key, MESSAGE, signer.sign(MESSAGE))
