# SPDX-License-Identifier: Apache-2.0
"""Sign a message, and verify the signature before anybody uses it."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Failed, Tampered
from fwsign.format.cose import verify_signature
from fwsign.keys import Signer
from fwsign.x509.certificate import Certificate, key_digest


def check_key(signer: Signer, leaf: Certificate) -> None:
    """Refuse a signer whose certificate is for another key.

    Raises:
        Failed: `key.mismatch`.
    """
    if key_digest(signer.public_key) != leaf.spki:
        raise Failed(
            "key.mismatch",
            f'the key is not that of certificate "{leaf.name}"',
            expected=leaf.spki,
            found=key_digest(signer.public_key),
        )


def sign_message(signer: Signer, message: bytes) -> bytes:
    """Sign a message, and verify the signature.

    Raises:
        Failed: `key.failed`, and the signer's own errors.
    """
    signature = signer.sign(message)
    try:
        _check_signature(signer, message, signature)
    except Tampered as error:
        raise Failed("key.failed", f"the key's own signature is wrong: {error}") from None
    return signature


def _check_signature(signer: Signer, message: bytes, signature: bytes) -> None:
    """Verify with another implementation than the one that signed, if there is one.

    PyNaCl has no wheels for some platforms, and pyproject.toml leaves it out there.
    """
    key = signer.public_key
    nacl = _nacl() if isinstance(key, Ed25519PublicKey) else None
    if nacl is None:
        verify_signature(signer.algorithm, key, message, signature)
        return
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        nacl.signing.VerifyKey(raw).verify(message, signature)
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise Tampered("tampered.signature", f"libsodium refuses it: {error}") from None


def _nacl() -> Any:
    """Return PyNaCl, or None where it is not installed; it takes 20 ms, which only Ed25519 pays."""
    try:
        import nacl.exceptions
        import nacl.signing
    except ImportError:
        return None
    return nacl
