# SPDX-License-Identifier: Apache-2.0
"""Signatures that other programs made: their forms, and what went wrong where one does not verify.

A form is read, never guessed from its size alone: each reading of the bytes is tried, and only one
that verifies is taken. Readings: the form of COSE; for ECDSA also DER; each of these in base64 or
in digits of hex, as key services and their command lines print it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
)

from fwsign.errors import Failed, FwsignError
from fwsign.format.algorithms import ALGORITHMS, DIGESTS
from fwsign.format.cose import HASHES, verify_signature
from fwsign.format.library import der_from_raw, raw_from_der
from fwsign.keys.held import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_FILE: Final = 16 * 1024
"""Bytes of a file with a signature; one of ML-DSA-87 has 4,627, and 9,254 digits."""
_SIZES: Final = {"Ed25519": 64, "ML-DSA-65": 3309, "ML-DSA-87": 4627}
"""Bytes of a signature: RFC 8032 s.5.1.6, FIPS 204 table 2."""
_SALTS: Final = (0, 20, 32, 48, 64)
"""Bytes of salt that programs choose, besides as many as fit."""
_SERVICE: Final = re.compile(r"[a-z]+:v[0-9]+:")
"""What OpenBao and Vault print before a signature in base64."""
_OTHERS: Final = (
    (
        b"SSHSIG",
        "a signature of ssh-keygen, which signs a structure of its own and not these bytes",
    ),
    (
        b"-----BEGIN SSH SIGNATURE-----",
        "a signature of ssh-keygen, which signs a structure of its own and not these bytes",
    ),
    (b"-----BEGIN PGP", "a signature of OpenPGP, which signs more than these bytes"),
    (b"-----BEGIN PKCS7", "a signature in CMS, which signs more than these bytes"),
    (b"-----BEGIN CMS", "a signature in CMS, which signs more than these bytes"),
    (b"untrusted comment:", "a signature of minisign or signify, with another form and digest"),
    (b"-----BEGIN ", "a file in PEM, in which no signature has a form"),
)
"""How files begin that hold a signature of something else, with words about it."""


def readings(data: bytes, algorithm: int, key: Any) -> list[bytes]:
    """Return the signatures, in COSE form, that a file's bytes may be.

    Args:
        data: the file.
        algorithm: a COSE identifier in `ALGORITHMS`.
        key: the public key that should verify it.

    Raises:
        Failed: `io.format`: no form of a signature of this algorithm.
    """
    found = [*dict.fromkeys(_readings(data, algorithm, key))]
    if not found:
        expected = _expected(algorithm, key)
        beginning = next((words for head, words in _OTHERS if data.startswith(head)), None)
        what = beginning or f"{len(data)} bytes"
        raise Failed(
            "io.format",
            f"not a signature of {ALGORITHMS[algorithm].name}: it is {what}, expected {expected}",
            expected=expected,
            found=what,
        )
    return found


def _readings(data: bytes, algorithm: int, key: Any) -> Iterator[bytes]:
    yield from _binary(data, algorithm, key)
    with contextlib.suppress(UnicodeDecodeError, ValueError):
        text = data.decode("ascii").strip()
        text = "".join(_SERVICE.sub("", text, count=1).split()).replace(":", "")
        for decoded in _decoded(text):
            yield from _binary(decoded, algorithm, key)


def _binary(data: bytes, algorithm: int, key: Any) -> Iterator[bytes]:
    """Yield the readings of a signature that is neither base64 nor hex."""
    width = ALGORITHMS[algorithm].width
    if len(data) == _size(algorithm, key):
        yield data
    if width and data[:1] == b"\x30":
        with contextlib.suppress(ValueError, OverflowError):
            raw = raw_from_der(data, width)
            if der_from_raw(raw) == data:
                yield raw


def _decoded(text: str) -> Iterator[bytes]:
    """Yield what a text is in hex, and in either alphabet of base64 with or without padding."""
    with contextlib.suppress(ValueError):
        yield bytes.fromhex(text)
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    with contextlib.suppress(binascii.Error, ValueError):
        yield base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _size(algorithm: int, key: Any) -> int:
    """Return the size of a signature in COSE form."""
    own = ALGORITHMS[algorithm]
    if own.width:
        return 2 * own.width
    return (key.key_size + 7) // 8 if own.key == "RSA" else _SIZES[own.key]


def _expected(algorithm: int, key: Any) -> str:
    der = " (r and s), or DER" if ALGORITHMS[algorithm].width else ""
    return f"{_size(algorithm, key)} bytes{der}; base64 and hex are read too"


def verifies(algorithm: int, key: Any, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature in COSE form verifies."""
    try:
        verify_signature(algorithm, key, message, signature)
    except FwsignError:
        return False
    return True


def explain(
    algorithm: int,
    key: Any,
    message: bytes,
    signatures: list[bytes],
    others: Mapping[str, bytes],
) -> str | None:
    """Return what a signature that does not verify was made over or how; None if nothing fits.

    Args:
        algorithm: a COSE identifier in `ALGORITHMS`.
        key: the public key that should verify it.
        message: what should have been signed.
        signatures: the readings of the file.
        others: what may have been signed instead, by its name for people.
    """
    name = ALGORITHMS[algorithm].digest or "SHA-256"
    hashed = digest_of(message, name)
    wrong = {
        f"the {name} of these bytes, hashed once more: sign the digest without hashing": hashed,
        f"the digits of their {name}, as text": hashed.hex().encode(),
        **others,
    }
    for signature in signatures:
        for words, instead in wrong.items():
            if verifies(algorithm, key, instead, signature):
                return f"it is over {words}"
        for words, try_it in _mistakes(algorithm, key, message):
            with contextlib.suppress(InvalidSignature, ValueError):
                try_it(signature)
                return words
    return None


def _mistakes(
    algorithm: int, key: Any, message: bytes
) -> Iterator[tuple[str, Callable[[bytes], object]]]:
    """Yield the ways in which programs sign the right bytes wrongly; each raises if it was not."""
    own = ALGORITHMS[algorithm]
    if not own.digest:
        return
    if not own.width:
        for name in HASHES:
            yield from _of_rsa(key, message, name, own.digest)
        return
    size = digest_size(own.digest)
    unhashed = Prehashed(HASHES[own.digest])
    words = f"it is over the first {size} of these bytes, unhashed: openssl pkeyutl needs -rawin"
    yield words, partial(_try_ecdsa, key, message[:size], unhashed)
    for name in HASHES.keys() - {own.digest}:
        words = f"it was made with {name}, expected {own.digest}"
        yield words, partial(_try_ecdsa, key, message, HASHES[name])


def _of_rsa(
    key: Any, message: bytes, name: str, expected: str
) -> Iterator[tuple[str, Callable[[bytes], object]]]:
    """Yield the wrong ways of RSA with one digest."""
    function, size = HASHES[name], digest_size(name)
    words = "it has the padding of PKCS #1 v1.5, expected PSS"
    yield words, partial(_try_rsa, key, message, padding.PKCS1v15(), function)
    longest = (key.key_size + 6) // 8 - size - 2  # RFC 8017 s.9.1.1
    for salt in dict.fromkeys((*_SALTS, longest)):
        if (name, salt) == (expected, size):
            continue
        words = (
            f"it was made by PSS with {name} and a salt of {salt} bytes, expected {expected} and "
            f"{digest_size(expected)} bytes"
        )
        pss = padding.PSS(padding.MGF1(function), salt)
        yield words, partial(_try_rsa, key, message, pss, function)


def digest_size(name: str) -> int:
    """Return the size in bytes of a digest of `DIGESTS`."""
    return next(one.size for one in DIGESTS.values() if one.name == name)


def _try_ecdsa(key: Any, message: bytes, how: Any, signature: bytes) -> None:
    key.verify(der_from_raw(signature), message, ec.ECDSA(how))


def _try_rsa(key: Any, message: bytes, how: Any, function: Any, signature: bytes) -> None:
    key.verify(signature, message, how, function)
