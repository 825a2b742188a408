# SPDX-License-Identifier: Apache-2.0
"""What differs between the versions of cryptography, from the oldest that works to the newest.

A gateway has the version that its distribution ships, and each must give the same verdict. Other
modules ask here for times and for keys. Where some versions read what others refuse, our own
reading comes first: `fwsign.x509.public_key`, `fwsign.x509.der`.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, NoReturn

import cryptography
from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from fwsign.errors import Failed, Untrusted
from fwsign.format.algorithms import KEYS, KeyKind

OLDEST: Final = 38
"""The oldest major version that verifies and installs; Debian 12 has it."""
ML_DSA: Final = 48
"""The oldest major version whose wheels have ML-DSA; another build needs OpenSSL 3.5, too."""

# cryptography raises these for input that it cannot parse. It warns of odd names and serial
# numbers, and a caller may have turned warnings into errors.
PARSE_ERRORS: Final = (
    Warning,
    ValueError,
    TypeError,
    OverflowError,
    KeyError,  # before 47, for a text of an unknown kind in a name
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_LOAD_ERRORS: Final = (UnsupportedAlgorithm, InternalError, *PARSE_ERRORS)


class AbsentKey(NamedTuple):
    """A public key of a kind that this version of cryptography does not have.

    It can be pinned and named, so that a device with several anchors still works with the others.
    Whatever it signed is refused.

    Args:
        kind: its kind.
        spki: its SubjectPublicKeyInfo, in DER.
    """

    kind: KeyKind
    spki: bytes

    def public_bytes(self, encoding: Encoding, _format: object) -> bytes:
        """Return the SubjectPublicKeyInfo, in DER alone."""
        if encoding is not Encoding.DER:
            raise ValueError(f"a {self.kind.name} key cannot be encoded here")
        return self.spki

    def verify(self, *_: object) -> NoReturn:
        """Refuse a signature.

        Raises:
            Untrusted: `untrusted.algorithm`.
        """
        needed, found = f"cryptography {ML_DSA} or newer", cryptography.__version__
        raise Untrusted(
            "untrusted.algorithm",
            f"{self.kind.name} needs {needed} with OpenSSL 3.5 or newer, found {found}",
            expected=needed,
            found=found,
        )


def load_key(spki: bytes, kind: KeyKind | None) -> Any:
    """Load a SubjectPublicKeyInfo, in DER, whose outer form was checked.

    Args:
        spki: the SubjectPublicKeyInfo.
        kind: its kind, if certificates in a path may have such keys.

    Raises:
        ValueError: it cannot be read; also for keys that cryptography does not know.
    """
    try:
        return load_der_public_key(spki)
    except _LOAD_ERRORS as error:
        unknown = isinstance(error, UnsupportedAlgorithm) or major() < ML_DSA
        if unknown and kind is not None and kind.family == "ML-DSA":
            return AbsentKey(kind, spki)
        raise ValueError(str(error)) from None


def ecdsa(hashed: hashes.HashAlgorithm | Prehashed) -> ec.ECDSA:
    """Return ECDSA for signing: with the nonces of RFC 6979 if this version has them.

    Before version 43, or with OpenSSL before 3.2, OpenSSL's own chance makes the nonces.
    """
    try:
        return ec.ECDSA(hashed, deterministic_signing=True)
    except (TypeError, UnsupportedAlgorithm):
        return ec.ECDSA(hashed)


def require(version: int, words: str) -> None:
    """Refuse to begin what needs a newer version of cryptography.

    Args:
        version: the oldest major version that has all of it.
        words: what needs it.

    Raises:
        Failed: `state.library`.
    """
    if major() < version:
        needed, found = f"cryptography {version} or newer", cryptography.__version__
        raise Failed(
            "state.library",
            f"{words} needs {needed}, found {found}",
            expected=needed,
            found=found,
            hint="pip install --upgrade cryptography, in a virtual environment",
        )


def major() -> int:
    """Return the major version of cryptography that is installed."""
    return int(cryptography.__version__.partition(".")[0])


def types() -> tuple[tuple[type, KeyKind], ...]:
    """Return the types of public keys other than those on curves, with their kinds."""
    found = ((one.imported("PublicKey"), one) for one in KEYS if one.family != "ECDSA")
    return tuple((own, kind) for own, kind in found if own is not None)


def utc(holder: Any, field: str) -> Any:
    """Return a time of one of cryptography's objects, with its zone; None if it has none.

    Before version 42 (for invalidity dates, 43), the times are in UTC and do not say so.
    """
    found = getattr(holder, f"{field}_utc", holder)
    if found is not holder:
        return found
    naive: datetime | None = getattr(holder, field)
    return None if naive is None else naive.replace(tzinfo=UTC)


def der_from_raw(signature: bytes) -> bytes:
    """Return an ECDSA signature in DER (RFC 3279 s.2.2.3); given r and s, each of half its size."""
    half = len(signature) // 2
    r, s = (int.from_bytes(one, "big") for one in (signature[:half], signature[half:]))
    return encode_dss_signature(r, s)


def raw_from_der(signature: bytes, width: int) -> bytes:
    """Return r and s of an ECDSA signature in DER, each of `width` bytes.

    Raises:
        ValueError: it is not DER.
        OverflowError: r or s is too wide.
    """
    r, s = decode_dss_signature(signature)
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")
