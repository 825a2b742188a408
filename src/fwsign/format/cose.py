# SPDX-License-Identifier: Apache-2.0
"""COSE_Sign1 blocks with a closed list of headers, and their signatures.

RFC 9052 (COSE), RFC 9360 (x5chain, x5t). The algorithms stand in `fwsign.format.algorithms`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from fwsign.errors import Malformed, Tampered, check_limit
from fwsign.format import cbor
from fwsign.format.algorithms import (
    ALGORITHMS,
    BLOCK_KEYS,
    DIGESTS,
    KEYS,
    SHA256,
    Algorithm,
    KeyKind,
)
from fwsign.format.library import AbsentKey, der_from_raw, types

PublicKey: TypeAlias = Any
"""A public key object of `cryptography`; `key_kind` names its kind."""
Hash: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

ALG, KID, X5CHAIN, X5T, TOKEN, CRLS = 1, 4, 33, 34, 270, -1719104356
"""Header labels. TOKEN is 3161-ctt (RFC 9921); CRLS is ours, an array of DER CRLs."""

MAX_CHAIN: Final = 6
"""Certificates in one x5chain: a leaf, an issuing CA, and room for cross-certificates."""
MAX_CRLS: Final = 8
"""CRLs in one block: one for each issuer, and room for those of a rotation."""
MAX_CERTIFICATE_SIZE: Final = 16 * 1024
"""Bytes. An ML-DSA-87 certificate has 7.5 kB."""
MAX_CRL_SIZE: Final = 1024 * 1024
"""Bytes, some 25,000 revoked certificates."""
MAX_TOKEN_SIZE: Final = 64 * 1024
"""Bytes. A token with three RSA certificates has 6 kB, one with ML-DSA-87 about 25 kB."""
MAX_PROOFS_SIZE: Final = 256 * 1024
"""Bytes of all certificates and tokens of one envelope. 8 signers with two ML-DSA-87 certificates
each fit, and more; parsing them takes a tenth of a second."""
MAX_SIGNATURE_SIZE: Final = 8 * 1024
"""Bytes. An ML-DSA-87 signature has 4,627."""


class Block(NamedTuple):
    """One decoded COSE_Sign1; its certificates, CRLs and token are still opaque.

    `x5t` is set for a block with certificates, absent for a pinned bare key.
    """

    protected: bytes
    algorithm: int
    signature: bytes
    x5t: bytes | None = None
    kid: bytes | None = None
    chain: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    token: bytes | None = None


MIN_RSA_BITS: Final = 3072
"""Bits of RSA keys that sign blocks; CAs may have 2048 (`x509.roles`)."""
MAX_RSA_BITS: Final = 8192
"""Larger keys cost time and add nothing."""
MAX_RSA_EXPONENT_BITS: Final = 64
"""Bits of a public exponent, nearly always 65537; one as long as the key costs a hundred times."""

_CURVES: Final = {one.imported("").name: one for one in KEYS if one.family == "ECDSA"}
_TYPES: Final = types()
HASHES: Final[Mapping[str, Hash]] = MappingProxyType(
    {one.name: getattr(hashes, one.function.upper())() for one in DIGESTS.values()}
)
"""Digests, as cryptography has them, by name."""


def kind_of(key: PublicKey) -> KeyKind | None:
    """Return the kind of a key; None if certificates in a path may not have such keys."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, AbsentKey):
        return key.kind
    return next((kind for own, kind in _TYPES if isinstance(key, own)), None)


def key_kind(key: PublicKey) -> str:
    """Name the kind of a key, as in "P-256", "RSA" or "Ed25519"."""
    if (kind := kind_of(key)) is not None:
        return kind.name
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    return type(key).__name__.strip("_").removesuffix("PublicKey")  # up to 40, with an underscore


def key_name(key: PublicKey) -> str:
    """Name a key by kind and, for RSA, size, as in "P-256" or "RSA-3072"."""
    kind = key_kind(key)
    if kind != "RSA":
        return kind
    exponent = key.public_numbers().e.bit_length()
    odd = f" with an exponent of {exponent} bits" if exponent > MAX_RSA_EXPONENT_BITS else ""
    return f"RSA-{key.key_size}{odd}"


def allowed_rsa_size(key: PublicKey, least: int = MIN_RSA_BITS) -> bool:
    """Tell whether a key is not RSA, or has a size in bits from `least` to the limits."""
    if key_kind(key) != "RSA":
        return True
    exponent: int = key.public_numbers().e
    size: int = key.key_size
    return least <= size <= MAX_RSA_BITS and exponent.bit_length() <= MAX_RSA_EXPONENT_BITS


def key_kinds() -> str:
    """Name the keys that sign blocks, for people."""
    rsa_keys = f"RSA of {MIN_RSA_BITS} bits or more"
    *kinds, last = (rsa_keys if kind == "RSA" else kind for kind in BLOCK_KEYS)
    return f"{', '.join(kinds)} or {last}"


def algorithm_for(key: PublicKey) -> int | None:
    """Return the COSE algorithm that this key signs with, or None."""
    kind = key_kind(key)
    fitting = (one.number for one in ALGORITHMS.values() if one.key == kind and one.written)
    return next(fitting, None) if allowed_rsa_size(key) else None


def protected_header(algorithm: int, x5t: bytes | None = None) -> bytes:
    """Encode the protected header of a block.

    Args:
        algorithm: COSE algorithm identifier.
        x5t: SHA-256 of the leaf certificate, 32 bytes; None for a bare key.
    """
    header: dict[int, Any] = {ALG: algorithm}
    if x5t is not None:
        header[X5T] = (SHA256, x5t)
    return cbor.encode(header)


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """Return the bytes that are signed (RFC 9052 section 4.4, context "Signature1")."""
    return cbor.encode(("Signature1", protected, b"", payload))


def encode_block(block: Block) -> bytes:
    """Encode a block as a tagged COSE_Sign1 with detached payload; inverse of `decode_block`."""
    return cbor.encode(
        cbor.Tag(18, (block.protected, unprotected_map(block), None, block.signature))
    )


def unprotected_map(block: Block) -> dict[int, Any]:
    """Return the unprotected header of a block."""
    unprotected: dict[int, Any] = {}
    if block.chain:
        # RFC 9360 section 2: a chain of one is a bare byte string.
        unprotected[X5CHAIN] = block.chain if len(block.chain) > 1 else block.chain[0]
    if block.crls:
        unprotected[CRLS] = block.crls
    if block.token is not None:
        unprotected[TOKEN] = block.token
    return unprotected


def decode_block(data: bytes) -> Block:
    """Decode a block and check its headers against the closed list.

    Raises:
        Malformed: `malformed.cbor`, `malformed.envelope`, `malformed.header`, `malformed.size`.
    """
    match cbor.decode(data):
        case cbor.Tag(18, (bytes(protected), dict(unprotected), None, bytes(signature))):
            pass
        case cbor.Tag(18, (_, _, bytes(), _)):
            raise Malformed("malformed.envelope", "COSE_Sign1 with an attached payload")
        case _:
            raise Malformed("malformed.envelope", "authentication block is not a COSE_Sign1")
    header = protected_map(protected)
    return Block(protected, signature=signature, **headers(header, unprotected, signature))


def protected_map(protected: bytes) -> dict[Any, Any]:
    """Decode a protected header.

    Raises:
        Malformed: `malformed.cbor`, `malformed.header`.
    """
    header = cbor.decode(protected)
    if not isinstance(header, dict):
        raise _bad_header("protected header is not a map")
    return header


def headers(
    header: dict[Any, Any], unprotected: dict[Any, Any], signature: bytes
) -> dict[str, Any]:
    """Check both header buckets of a COSE_Sign1 against the closed list.

    Args:
        header: the protected header, without labels that are not a block's.
        unprotected: the other one.
        signature: the signature, whose size is limited.

    Returns:
        The fields of a `Block`, without its protected bytes and its signature.

    Raises:
        Malformed: `malformed.header`, `malformed.size`.
    """
    check_limit(len(signature), MAX_SIGNATURE_SIZE, f"signature of {len(signature)} bytes")
    if both := sorted(header.keys() & unprotected.keys(), key=str):
        raise _bad_header(f"label {both[0]} stands in both header buckets")
    algorithm, x5t, kid = _protected(header)
    chain, crls, token = _unprotected(unprotected)
    if (x5t is None) != (not chain):
        there, missing = ("x5chain", "x5t") if chain else ("x5t", "x5chain")
        raise _bad_header(f"{there} without {missing}")
    if crls and not chain:
        raise _bad_header("CRLs in a block without certificates")
    return {
        "algorithm": algorithm,
        "x5t": x5t,
        "kid": kid,
        "chain": chain,
        "crls": crls,
        "token": token,
    }


def _protected(header: dict[Any, Any]) -> tuple[int, bytes | None, bytes | None]:
    if header.keys() not in ({ALG, X5T}, {ALG}, {ALG, KID}):
        raise _bad_header(
            "protected labels are none of alg, x5t; alg; alg, kid: "
            + (", ".join(map(str, header)) or "none")
        )
    x5t: bytes | None = None
    match header.get(X5T):
        case (-16, bytes(digest)) if len(digest) == 32:
            x5t = digest
        case _ if X5T in header:
            raise _bad_header("x5t is not [-16, 32 bytes]")
    algorithm, kid = header[ALG], header.get(KID)
    if not isinstance(algorithm, int) or isinstance(algorithm, bool):
        raise _bad_header("algorithm is not an integer")
    if KID in header and not isinstance(kid, bytes):
        raise _bad_header("key identifier is not a byte string")
    return algorithm, x5t, kid


def _unprotected(
    header: dict[Any, Any],
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], bytes | None]:
    if unknown := header.keys() - {X5CHAIN, CRLS, TOKEN}:
        raise _bad_header(f"unprotected label {min(unknown, key=str)} is not allowed")
    chain: tuple[bytes, ...] = ()
    match header.get(X5CHAIN):
        case None if X5CHAIN in header:
            raise _bad_header("x5chain is null")
        case None:
            pass
        case bytes(certificate):
            chain = (certificate,)
        case tuple(several) if len(several) > 1:
            chain = _byte_strings("x5chain", several, MAX_CHAIN)
        case _:
            raise _bad_header("x5chain is neither a byte string nor an array of two or more")
    crls = header.get(CRLS, ())
    if CRLS in header and not crls:
        raise _bad_header("an empty list of CRLs")
    crls = _byte_strings("CRL list", crls, MAX_CRLS)
    token = header.get(TOKEN)
    if TOKEN in header and not isinstance(token, bytes):
        raise _bad_header("time-stamp token is not a byte string")
    check_limit(len(token or b""), MAX_TOKEN_SIZE, f"time-stamp token of {len(token or b'')} bytes")
    for certificate in chain:
        size = len(certificate)
        check_limit(size, MAX_CERTIFICATE_SIZE, f"certificate of {size} bytes")
    for crl in crls:
        check_limit(len(crl), MAX_CRL_SIZE, f"CRL of {len(crl)} bytes")
    return chain, crls, token


def _byte_strings(what: str, items: Any, limit: int) -> tuple[bytes, ...]:
    if not isinstance(items, tuple) or not all(isinstance(item, bytes) for item in items):
        raise _bad_header(f"{what} is not an array of byte strings")
    check_limit(len(items), limit, f"{what} of {len(items)}")
    return items


def _bad_header(message: str) -> Malformed:
    return Malformed("malformed.header", f"COSE header: {message}")


def verify_signature(algorithm: int, key: PublicKey, message: bytes, signature: bytes) -> None:
    """Verify a COSE signature.

    Args:
        algorithm: a COSE algorithm identifier in `ALGORITHMS`.
        key: the public key, of the kind that the algorithm needs.
        message: the Sig_structure.
        signature: in COSE form; for ECDSA, r and s side by side (RFC 9053 section 2.1).

    Raises:
        Malformed: `malformed.algorithm` if key and algorithm do not fit.
        Tampered: `tampered.signature`.
    """
    chosen = ALGORITHMS[algorithm]
    if key_kind(key) != chosen.key or not allowed_rsa_size(key):
        expected = f"RSA of {MIN_RSA_BITS} bits or more" if chosen.key == "RSA" else chosen.key
        raise Malformed(
            "malformed.algorithm",
            f"algorithm {chosen.name} needs a {expected} key, this one is {key_name(key)}",
            expected=expected,
            found=key_name(key),
        )
    try:
        _verify(chosen, key, message, signature)
    except InvalidSignature:
        raise Tampered("tampered.signature", f"{chosen.name} signature does not verify") from None


def _verify(chosen: Algorithm, key: PublicKey, message: bytes, signature: bytes) -> None:
    if chosen.width:
        if len(signature) != 2 * chosen.width:
            raise InvalidSignature
        key.verify(der_from_raw(signature), message, ec.ECDSA(HASHES[chosen.digest]))
    elif chosen.digest:
        key.verify(signature, message, pss(HASHES[chosen.digest]), HASHES[chosen.digest])
    else:
        key.verify(signature, message)


def pss(algorithm: hashes.HashAlgorithm) -> padding.PSS:
    """Return RSASSA-PSS padding: MGF1 and salt length follow the hash (RFC 8230 section 2)."""
    return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
