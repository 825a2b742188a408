# SPDX-License-Identifier: Apache-2.0
"""One signature block of an ESP's secure boot v2: bytes to a verified key, and back.

    0x000  E7, version (2 RSA, 3 ECDSA), hash (0 SHA-256, 1 SHA-384), 0, digest of the image
           RSA: n (384 bytes), e (u32), R**2 mod n (384), -1/n mod 2**32 (u32), signature (384)
           ECDSA: curve (1 P-192, 2 P-256, 3 P-384), X, Y, r, s; P-192 has fields as wide as P-256
    0x4AC  CRC-32 of all before it (u32), 16 zeros

All numbers are little-endian. A block is read and written again from the values read; the bytes
must be the same, so that nothing in it is free. Source: ESP-IDF programming guide, "Secure Boot
v2", signature block format.
"""

import binascii
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from fwsign.format import cose
from fwsign.format.library import der_from_raw
from fwsign.images.esp_signature import CRC_AT, MAGIC, key_digest
from fwsign.keys.held import HeldKey, Scheme
from fwsign.native import NativeSignature, refused

KIND: Final = "esp-secure-boot-v2"
_HEAD: Final = struct.Struct("<BBBx")
_RSA: Final = struct.Struct("<384sI384sI384s")
_RSA_BYTES: Final = 384
_DIGEST_SIZES: Final = {"SHA-256": 32, "SHA-384": 48}


class BlockKey(NamedTuple):
    """A kind of key that blocks may have.

    Args:
        version: the block's version.
        sha: the number of the hash.
        digest: the hash's name.
        curve: the curve's number; 0 for RSA.
        width: bytes of a coordinate, and of r and s; 0 for RSA.
        field: bytes of each of the two fields that hold a pair of them.
    """

    version: int
    sha: int
    digest: str
    curve: int = 0
    width: int = 0
    field: int = 0


KEYS: Final[Mapping[str, BlockKey]] = MappingProxyType(
    {
        "RSA-3072": BlockKey(2, 0, "SHA-256"),
        "ECDSA P-192": BlockKey(3, 0, "SHA-256", 1, 24, 64),
        "ECDSA P-256": BlockKey(3, 0, "SHA-256", 2, 32, 64),
        "ECDSA P-384": BlockKey(3, 1, "SHA-384", 3, 48, 96),
    }
)
"""The kinds of keys by name. P-192 is read, and never signed with: no chip needs it."""
_CURVES: Final[Mapping[str, ec.EllipticCurve]] = MappingProxyType(
    {"ECDSA P-192": ec.SECP192R1(), "ECDSA P-256": ec.SECP256R1(), "ECDSA P-384": ec.SECP384R1()}
)


def algorithm_of(public: Any) -> str:
    """Return the name of a key's algorithm, a key of `KEYS` if blocks may have it."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        names = {curve.name: name for name, curve in _CURVES.items()}
        return names.get(public.curve.name, f"ECDSA {cose.key_name(public)}")
    return cose.key_name(public)


def make(key: HeldKey, digests: Mapping[str, bytes]) -> bytes:
    """Let a key sign, and return its block.

    Args:
        key: a key of one of `KEYS`.
        digests: the image's digests, by the names of their hashes.

    Raises:
        Failed: `key.*`.
    """
    algorithm = algorithm_of(key.public_key)
    digest = KEYS[algorithm].digest
    scheme = Scheme.ECDSA if KEYS[algorithm].curve else Scheme.PSS
    raw = key.sign_raw(scheme, digests[digest], digest)
    return _encode(algorithm, key.public_key, digests[digest], raw)


def digest_of_key(public: Any) -> bytes:
    """Return what eFuses keep of a key of one of `KEYS`."""
    algorithm = algorithm_of(public)
    size = _DIGEST_SIZES[KEYS[algorithm].digest]
    width = KEYS[algorithm].width
    return key_digest(_encode(algorithm, public, bytes(size), bytes(2 * width or _RSA_BYTES)))


def read(block: bytes, name: str, digests: Mapping[str, bytes]) -> NativeSignature:
    """Return the verified signature in a block.

    One of a curve that this program does not know is not verified, and has no public key: the
    block is whole and about this image, and only a chip to come could say more.

    Args:
        block: all of it.
        name: its name in refusals.
        digests: the image's digests, by the names of their hashes.

    Raises:
        Tampered: `tampered.native`.
    """
    algorithm = _algorithm(block, name)
    own = KEYS.get(algorithm, KEYS["ECDSA P-256"])
    crc = int.from_bytes(block[CRC_AT : CRC_AT + 4], "little")
    if crc != (computed := binascii.crc32(block[:CRC_AT])):
        raise refused(KIND, f"crc of {name}", f"{computed:#010x}", f"{crc:#010x}")
    digest, stored = digests[own.digest], block[4 : 4 + _DIGEST_SIZES[own.digest]]
    if stored != digest:
        raise refused(KIND, f"image digest in {name}", digest.hex(), stored.hex())
    if algorithm not in KEYS:
        return NativeSignature(algorithm, key_digest(block))
    public, raw = (_ecdsa if own.curve else _rsa)(block, name, algorithm)
    if _encode(algorithm, public, digest, raw) != block:
        raise refused(
            KIND, f"content of {name}", "what follows from its key, and zeros", "other bytes"
        )
    if not _verifies(public, raw, digest, own):
        raise refused(KIND, name, "a signature that verifies with its key", "another")
    return NativeSignature(algorithm, key_digest(block), public)


def _algorithm(block: bytes, name: str) -> str:
    """Return the name of the kind of key that a block's head claims."""
    magic, version, sha = _HEAD.unpack_from(block)
    curve = block[52 if sha else 36] if version == 3 else 0
    for algorithm, own in KEYS.items():
        if (magic, version, sha, curve) == (MAGIC, own.version, own.sha, own.curve):
            return algorithm
    if (magic, version, sha) == (MAGIC, 3, 0) and curve > max(one.curve for one in KEYS.values()):
        return f"ECDSA, curve {curve}"
    expected = "e7, then 02 and 00 (RSA) or 03 and a curve with its hash (ECDSA)"
    raise refused(KIND, f"head of {name}", expected, block[:4].hex())


def _encode(algorithm: str, public: Any, digest: bytes, raw: bytes) -> bytes:
    """Return the block of a signature, whose raw form is that of `HeldKey.sign_raw`."""
    own = KEYS[algorithm]
    numbers = public.public_numbers()
    body = _HEAD.pack(MAGIC, own.version, own.sha) + digest
    if own.curve:
        point = _little(numbers.x, own.width) + _little(numbers.y, own.width)
        pair = raw[: own.width][::-1] + raw[own.width :][::-1]
        body += bytes([own.curve]) + point.ljust(own.field, b"\0") + pair.ljust(own.field, b"\0")
    else:
        square = pow(2, 2 * 8 * _RSA_BYTES, numbers.n)
        inverse = -pow(numbers.n, -1, 1 << 32) % (1 << 32)
        modulus = _little(numbers.n, _RSA_BYTES)
        body += _RSA.pack(modulus, numbers.e, _little(square, _RSA_BYTES), inverse, raw[::-1])
    body = body.ljust(CRC_AT, b"\0")
    return body + _little(binascii.crc32(body), 4) + bytes(16)


def _rsa(block: bytes, name: str, algorithm: str) -> tuple[Any, bytes]:
    """Return the key and the raw signature of an RSA block."""
    modulus, exponent, _, _, signature = _RSA.unpack_from(block, 36)
    n = int.from_bytes(modulus, "little")
    try:
        if n.bit_length() != 8 * _RSA_BYTES or not n % 2:
            raise ValueError
        return rsa.RSAPublicNumbers(exponent, n).public_key(), signature[::-1]
    except ValueError:
        raise refused(KIND, f"key of {name}", algorithm, "no such key") from None


def _ecdsa(block: bytes, name: str, algorithm: str) -> tuple[Any, bytes]:
    """Return the key and the raw signature of an ECDSA block."""
    own = KEYS[algorithm]
    at = 4 + _DIGEST_SIZES[own.digest] + 1
    x, y, r, s = (
        block[at + field + part :][: own.width][::-1]
        for field in (0, own.field)
        for part in (0, own.width)
    )
    numbers = (int.from_bytes(x, "big"), int.from_bytes(y, "big"))
    try:
        return ec.EllipticCurvePublicNumbers(*numbers, _CURVES[algorithm]).public_key(), r + s
    except ValueError:
        raise refused(KIND, f"key of {name}", algorithm, "no such key") from None


def _verifies(public: Any, raw: bytes, digest: bytes, own: BlockKey) -> bool:
    hashed = Prehashed(cose.HASHES[own.digest])
    try:
        if own.curve:
            public.verify(der_from_raw(raw), digest, ec.ECDSA(hashed))
        else:
            public.verify(raw, digest, cose.pss(cose.HASHES[own.digest]), hashed)
    except InvalidSignature:
        return False
    return True


def _little(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")
