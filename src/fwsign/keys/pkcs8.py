# SPDX-License-Identifier: Apache-2.0
"""Parse private keys by hand: PKCS#8 and SEC1 in the variants of other programs.

cryptography reads only the forms of RFC 5958 and RFC 5915. Other programs write private values of
elliptic curves with a leading zero or without leading zeros (GnuTLS), PKCS#8 of version 2 with the
public key, that key in one of two ways (ring), and ML-DSA keys in three forms. A public key beside
a private one must be its own, since users of the key trust it.
"""

from typing import Any, Final, NamedTuple

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from fwsign.errors import Failed
from fwsign.keys import asn1, mldsa_forms
from fwsign.keys.asn1 import Element, elements, sequence, sequence_parts

_EC: Final = "1.2.840.10045.2.1"
_EC_ELEMENT: Final = bytes.fromhex("06072a8648ce3d0201")
_PUBLIC: Final = (0x81, asn1.TAG_1)  # [1] IMPLICIT BIT STRING; ring has a BIT STRING inside it
_SIZES: Final = {
    "1.2.840.10045.3.1.1": 24,  # P-192
    "1.3.132.0.33": 28,  # P-224
    "1.2.840.10045.3.1.7": 32,  # P-256
    "1.3.132.0.10": 32,  # secp256k1
    "1.3.132.0.34": 48,  # P-384
    "1.3.132.0.35": 66,  # P-521
    "1.3.36.3.3.2.8.1.1.7": 32,  # brainpoolP256r1
    "1.3.36.3.3.2.8.1.1.11": 48,  # brainpoolP384r1
    "1.3.36.3.3.2.8.1.1.13": 64,  # brainpoolP512r1
}
"""Octets of a private value: the size of the curve's order (RFC 5915 section 3)."""
_ERRORS: Final = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)


class _Key(NamedTuple):
    """A private key in parts."""

    algorithm: bytes
    secret: bytes
    publics: tuple[bytes, ...]
    """The public keys beside it, each a SubjectPublicKeyInfo: none, one, or the same one twice."""
    details: tuple[str, ...]


def load(data: bytes, name: object) -> tuple[Any, str | None] | None:
    """Return a private key, and its oddities; None if it is not a readable private key.

    Args:
        data: DER PKCS#8 or SEC1, in clear.
        name: what to call the file in an error.

    Raises:
        Failed: `key.format`: the public key is another's, or the private value does not fit the
            curve; as `fwsign.keys.mldsa_forms.load`.

    Source: RFC 5958 section 2, RFC 5915 section 3.
    """
    try:
        parts = sequence_parts(data)
        if parts[1].tag == asn1.OCTETS:
            key = _sec1(parts, None, name)
        else:
            key = _private_key_info(parts, name)
    except (ValueError, IndexError):
        return None
    plain = sequence(asn1.integer(0), key.algorithm, asn1.octets(key.secret))
    private, form = _load(plain, name)
    if private is None:
        return None
    for public in key.publics:
        _check_public(private, key.algorithm, public, name)
    return private, ", ".join((*form, *key.details)) or None


def _load(plain: bytes, name: object) -> tuple[Any, tuple[str, ...]]:
    """Load PKCS#8 of version 1; return the key, or None, and its form."""
    try:
        return load_der_private_key(plain, None), ()
    except _ERRORS:
        found = mldsa_forms.load(plain, name)
    return (None, ()) if found is None else (found[0], (found[1],))


def _private_key_info(parts: list[Element], name: object) -> _Key:
    version, algorithm, secret, *more = parts
    if version.number() > 1 or secret.tag != asn1.OCTETS:
        raise ValueError("not PKCS#8")
    publics = tuple(_bits(one) for one in more if one.tag in _PUBLIC)
    details = ("version 2",) if version.number() else ()
    oid, *parameters = algorithm.parts()
    if oid.oid() == _EC and parameters[0].tag == asn1.OID:
        inner = _sec1(sequence_parts(secret.content), parameters[0], name)
        details = (*details, *inner.details)
        return inner._replace(publics=(*publics, *inner.publics), details=details)
    return _Key(algorithm.whole, secret.content, publics, details)


def _sec1(parts: list[Element], curve: Element | None, name: object) -> _Key:
    """Read an ECPrivateKey, and bring its private value to the curve's length."""
    version, secret, *more = parts
    if version.number() != 1 or secret.tag != asn1.OCTETS:
        raise ValueError("not SEC1")
    named = next((one.parts()[0] for one in more if one.tag == asn1.TAG_0), curve)
    publics = tuple(_bits(one) for one in more if one.tag == asn1.TAG_1)
    if named is None:  # `certtool --key-info` writes this form; openssl cannot read it either
        raise Failed(
            "key.format",
            f"{name} is a SEC1 key that does not name its curve",
            expected="a curve",
            found="none",
        )
    if curve is not None and named.whole != curve.whole:
        raise ValueError("two curves")
    size = _SIZES.get(named.oid() if named.tag == asn1.OID else "", len(secret.content))
    value = secret.content.lstrip(b"\0")
    if not 0 < len(value) <= size:
        raise Failed(
            "key.format",
            f"{name} has a private value of {len(value)} octets, its curve takes 1 to {size}",
            expected=f"1 to {size} octets",
            found=len(value),
        )
    found = len(secret.content)
    details = (f"private value of {found} octets instead of {size}",) if found != size else ()
    fixed = sequence(asn1.integer(1), asn1.octets(value.rjust(size, b"\0")))
    return _Key(sequence(_EC_ELEMENT, named.whole), fixed, publics, details)


def _bits(element: Element) -> bytes:
    """Return the octets of a public key in [1], in either of its two forms."""
    content = element.content
    if element.tag == asn1.TAG_1:
        (inside,) = elements(content)
        if inside.tag != asn1.BIT_STRING:
            raise ValueError("no BIT STRING")
        content = inside.content
    if content[:1] != b"\0":
        raise ValueError("unused bits")
    return content[1:]


def _check_public(private: Any, algorithm: bytes, bits: bytes, name: object) -> None:
    try:
        public = load_der_public_key(sequence(algorithm, asn1.tlv(asn1.BIT_STRING, b"\0" + bits)))
    except _ERRORS:
        public = None
    if public != private.public_key():
        raise Failed(
            "key.format",
            f"{name} has a private key, and beside it a public key that is not its own",
            expected="the public key of the private one, or none",
            found="another public key",
        )
