# SPDX-License-Identifier: Apache-2.0
"""Load public keys, and encode them and certificates; what cannot be read is None."""

import base64
import warnings
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

LOAD_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    UnsupportedAlgorithm,
    InternalError,  # for numbers that OpenSSL refuses
)
"""Errors of cryptography for a key that it cannot load."""


def public_key(data: bytes) -> Any:
    """Load a public key, SubjectPublicKeyInfo or PKCS#1 in DER; return None if it is none."""
    return quietly(serialization.load_der_public_key, data)


def ssh_public_key(blob: bytes) -> Any:
    """Load an OpenSSH public key, in base64; return None if it is none, or a token's."""
    try:
        raw = base64.b64decode(blob, validate=True)
        kind = raw[4 : 4 + int.from_bytes(raw[:4], "big")]
    except ValueError:
        return None
    line = kind + b" " + base64.b64encode(raw)
    return quietly(serialization.load_ssh_public_key, line)


def quietly(load: Callable[[bytes], Any], data: bytes) -> Any:
    """Load something without warnings about old or odd values; return None if that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(data)
    except Exception as error:
        if isinstance(error, (*LOAD_ERRORS, *_certificate_errors())):
            return None
        raise


def public_key_of(thing: Any) -> Any:
    """Return the public key in a certificate or request; None if it cannot be read."""
    return None if thing is None else quietly(lambda _: thing.public_key(), b"")


def der(thing: Any) -> bytes:
    """Return a certificate or CRL in DER."""
    encoded: bytes = thing.public_bytes(serialization.Encoding.DER)
    return encoded


def spki(key: Any) -> bytes:
    """Return a public key as SubjectPublicKeyInfo in DER."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, form)
    return encoded


def _certificate_errors() -> tuple[type[Exception], ...]:
    from cryptography import x509  # only after an error

    return x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType
