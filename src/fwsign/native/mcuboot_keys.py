# SPDX-License-Identifier: Apache-2.0
"""Keys and signatures of MCUboot images.

    key          signature's TLV    signs                        digest
    P-256        0x22, DER          the hash                     SHA-256
    P-384        0x22, DER          the hash                     SHA-384
    RSA-2048     0x20               the hash, PSS, 32 of salt    SHA-256
    RSA-3072     0x23               the hash, PSS, 32 of salt    SHA-256
    Ed25519      0x24               the hash as a message        SHA-256 or SHA-512
    Ed25519      0x24, after 0x25   the image, "pure"            SHA-512

A key's hash is over its SubjectPublicKeyInfo, or RSAPublicKey (RFC 8017 appendix A.1.1) for RSA,
with the digest of the image. Source: imgtool 2.5, and MCUboot's `image_validate.c`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Failed
from fwsign.format import cose
from fwsign.format.library import der_from_raw
from fwsign.keys.held import Scheme, digest_of

if TYPE_CHECKING:
    from fwsign.keys.held import HeldKey


class McubootAlgorithm(NamedTuple):
    """How one kind of key signs images.

    Args:
        name: of the algorithm.
        tlv: the type of the signature's TLV.
        digests: that the image may have; the first one where nothing is asked for.
        width: of a signature in bytes; the most for DER.
    """

    name: str
    tlv: int
    digests: tuple[str, ...]
    width: int


_ALGORITHMS: Final = {
    "P-256": McubootAlgorithm("ECDSA P-256", 0x22, ("SHA-256",), 72),
    "P-384": McubootAlgorithm("ECDSA P-384", 0x22, ("SHA-384",), 104),
    "RSA-2048": McubootAlgorithm("RSA-2048", 0x20, ("SHA-256",), 256),
    "RSA-3072": McubootAlgorithm("RSA-3072", 0x23, ("SHA-256",), 384),
    "Ed25519": McubootAlgorithm("Ed25519", 0x24, ("SHA-256", "SHA-512"), 64),
}
"""By the name of the key."""


def algorithm_of_key(public: Any) -> McubootAlgorithm:
    """Return how a key signs images.

    Raises:
        Failed: `key.unsupported`.
    """
    name = cose.key_name(public)
    found = algorithm_of_name(name)
    if found is None:
        raise Failed(
            "key.unsupported",
            f"mcuboot checks no signatures of {name}, only of {', '.join(_ALGORITHMS)}",
            expected=", ".join(_ALGORITHMS),
            found=name,
        )
    return found


def algorithm_of_name(name: str) -> McubootAlgorithm | None:
    """Return how a key of a name such as "P-256" signs images; None if MCUboot knows no such."""
    return _ALGORITHMS.get(name)


def by_tlv(tlv: int, digest: str, *, pure: bool) -> tuple[McubootAlgorithm, ...]:
    """Return the algorithms of a signature's TLV in an image with such a digest."""
    return tuple(
        one
        for one in _ALGORITHMS.values()
        if one.tlv == tlv and digest in (("SHA-512",) if pure else one.digests)
    )


def key_bytes(public: Any) -> bytes:
    """Return a public key as MCUboot has it."""
    form = PublicFormat.PKCS1 if isinstance(public, rsa.RSAPublicKey) else None
    encoded: bytes = public.public_bytes(Encoding.DER, form or PublicFormat.SubjectPublicKeyInfo)
    return encoded


def key_hash(public: Any, digest: str) -> bytes:
    """Return the hash by which an image names a key."""
    return digest_of(key_bytes(public), digest)


def make_signature(key: HeldKey, image: bytes, digest: str, *, pure: bool) -> bytes:
    """Sign the hashed part of an image, in the form of the TLV.

    Raises:
        Failed: `key.*`.
    """
    hashed = digest_of(image, digest)
    made = _raw(key, image if pure else hashed, digest)
    if not is_valid(key.public_key, made, hashed, digest, image if pure else b""):
        raise Failed(
            "key.failed",
            f"the signature that {key.place} made does not verify",
            expected="a signature that verifies",
            found="another one",
        )
    return made


def _raw(key: HeldKey, data: bytes, digest: str) -> bytes:
    public: Any = key.public_key
    if isinstance(public, ec.EllipticCurvePublicKey):
        return der_from_raw(key.sign_raw(Scheme.ECDSA, data, digest))
    if isinstance(public, rsa.RSAPublicKey):
        return key.sign_raw(Scheme.PSS, data, digest)
    return key.sign_raw(Scheme.PURE, data)


def is_valid(public: Any, signature: bytes, hashed: bytes, digest: str, image: bytes) -> bool:
    """Tell whether a signature verifies.

    Args:
        public: a key of one of MCUboot's algorithms.
        signature: the TLV's value, which has the form for this key.
        hashed: the digest of the image.
        digest: the digest's name.
        image: the hashed part where the signature is "pure"; else empty.
    """
    own: Any = cose.HASHES[digest]
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(_unpadded(signature), hashed, ec.ECDSA(Prehashed(own)))
        elif isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, hashed, cose.pss(own), Prehashed(own))
        else:
            public.verify(signature, image or hashed)
    except InvalidSignature:
        return False
    return True


def is_der(signature: bytes) -> bool:
    """Tell whether a signature is strict DER, filled up with at most two zeros.

    MCUboot before 1.5 wanted all signatures as long as the longest (imgtool's `--pad-sig`).
    """
    bare = _unpadded(signature)
    filler = signature[len(bare) :]
    try:
        strict = encode_dss_signature(*decode_dss_signature(bare)) == bare
    except ValueError:
        return False
    return strict and len(filler) <= 2 and not filler.strip(b"\0")


def _unpadded(signature: bytes) -> bytes:
    # No signature of 256 or 384 bits needs a length of more than one byte.
    return signature[: 2 + signature[1]] if len(signature) > 1 else signature
