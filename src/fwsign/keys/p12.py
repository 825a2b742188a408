# SPDX-License-Identifier: Apache-2.0
"""PKCS#12 files, with a MAC that is as slow to guess as the encryption.

cryptography always writes the MAC with 2048 iterations, even if the encryption has more. An
attacker would try guesses on the MAC. So this module makes the MAC.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat, pkcs12

from fwsign.errors import Failed
from fwsign.keys.asn1 import integer, octets, sequence, sequence_parts

ITERATIONS: Final = 600_000
"""Iterations of PBKDF2-HMAC-SHA256, as OWASP advises."""
MAC_ITERATIONS: Final = 1_200_000
"""Iterations of the PKCS#12 derivation, which hashes once, PBKDF2 twice; half a second."""
LEGACY_ITERATIONS: Final = 100_000
"""Iterations for programs that support only 3DES and SHA-1."""
KEY, IV, MAC = 1, 2, 3
"""The purpose of a derivation: RFC 7292 B.3."""

_VERSION: Final = 3
_SALT_SIZE: Final = 16
_BLOCK: Final = 64  # block size of SHA-1 and SHA-256
_NULL: Final = b"\x05\x00"
_OIDS: Final = {
    "sha1": bytes.fromhex("06052b0e03021a"),
    "sha256": bytes.fromhex("0609608648016503040201"),
}


def encode(
    key: Any,
    passphrase: bytes | None,
    certificates: Sequence[Any] = (),
    *,
    legacy: bool = False,
    name: str = "",
) -> bytes:
    """Return a PKCS#12 file with a key and certificates.

    Args:
        key: cryptography's private key.
        passphrase: in UTF-8; None leaves everything in clear, without a MAC.
        certificates: the key's own first, if there are any.
        legacy: 3DES and SHA-1, for Windows before 2019 and Java before 8u301.
        name: the friendly name of the key.

    Raises:
        Failed: `key.unsupported`: no form for such a key; a passphrase that is not text.

    Source: RFC 7292.
    """
    if passphrase is not None:
        _check_text(passphrase)
    builder = PrivateFormat.PKCS12.encryption_builder()
    if legacy:
        pbe, rounds, digest = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, LEGACY_ITERATIONS, "sha1"
    else:
        pbe, rounds, digest = pkcs12.PBES.PBESv2SHA256AndAES256CBC, ITERATIONS, "sha256"
    lock: Any = NoEncryption()
    if passphrase is not None:
        builder = builder.kdf_rounds(rounds).key_cert_algorithm(pbe)
        lock = builder.hmac_hash(hashes.SHA1() if legacy else hashes.SHA256()).build(passphrase)  # noqa: S303
    own, others = (certificates[0], certificates[1:]) if certificates else (None, ())
    try:
        data = pkcs12.serialize_key_and_certificates(
            name.encode() or None, key, own, list(others) or None, lock
        )
    except TypeError as error:
        raise _no_place(key) from error
    if passphrase is None:
        return data
    return _with_mac(data, passphrase, digest, LEGACY_ITERATIONS if legacy else MAC_ITERATIONS)


def _no_place(key: Any) -> Failed:
    from fwsign.format.cose import key_name  # only for the message

    found = key_name(key.public_key())
    return Failed(
        "key.unsupported",
        f"a key of {found} cannot be put into PKCS#12 here",
        expected="RSA, ECDSA or Ed25519",
        found=found,
        hint="--to pkcs8 takes every kind of key; give its certificates beside it, in PEM",
    )


def _check_text(passphrase: bytes) -> None:
    try:
        passphrase.decode()
    except UnicodeDecodeError:
        raise Failed(
            "key.unsupported",
            "the passphrase of a PKCS#12 file must be text in UTF-8, this one is not",
            expected="UTF-8",
            found="other bytes",
        ) from None


def _with_mac(data: bytes, passphrase: bytes, digest: str, iterations: int) -> bytes:
    """Replace the MacData: RFC 7292 s.4."""
    content = sequence_parts(data)[1]
    safe = content.parts()[1].parts()[0].content
    salt = os.urandom(_SALT_SIZE)
    key = derive(passphrase, salt, digest, iterations)
    algorithm = sequence(_OIDS[digest], _NULL)
    info = sequence(algorithm, octets(hmac.digest(key, safe, digest)))
    return sequence(
        integer(_VERSION), content.whole, sequence(info, octets(salt), integer(iterations))
    )


def derive(
    passphrase: bytes,
    salt: bytes,
    digest: str,
    iterations: int,
    *,
    use: int = MAC,
    size: int | None = None,
) -> bytes:
    """Derive a MAC key, or a cipher's key or IV: RFC 7292 B.2.

    Args:
        passphrase: in UTF-8.
        salt: the file's salt.
        digest: "sha1" or "sha256".
        iterations: the number of hashes.
        use: `MAC`, `KEY` or `IV`.
        size: octets of the result; by default the size of the hash.
    """
    text = passphrase.decode().encode("utf-16-be") + b"\0\0"  # B.1: a BMPString with its end
    block, found = _filled(salt) + _filled(text), b""
    make = getattr(hashlib, digest)
    while True:
        part = bytes([use]) * _BLOCK + block
        for _ in range(iterations):
            part = make(part).digest()
        found += part
        if size is None or len(found) >= size:
            return found[:size]
        step = int.from_bytes((part * _BLOCK)[:_BLOCK], "big") + 1  # B.2, 6.B and 6.C
        block = b"".join(
            ((int.from_bytes(block[at : at + _BLOCK], "big") + step) % (1 << 8 * _BLOCK)).to_bytes(
                _BLOCK, "big"
            )
            for at in range(0, len(block), _BLOCK)
        )


def _filled(text: bytes) -> bytes:
    """Repeat a text until it fills whole blocks."""
    size = -(-len(text) // _BLOCK) * _BLOCK
    return (text * (size // len(text) + 1))[:size]
