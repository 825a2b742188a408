# SPDX-License-Identifier: Apache-2.0
"""One public key: a SubjectPublicKeyInfo, read strictly (RFC 5280 section 4.1.2.7).

Versions of cryptography differ in what they read, so that the form is checked here first.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.errors import Untrusted
from fwsign.format.algorithms import KEYS, KeyKind
from fwsign.format.cose import PublicKey
from fwsign.format.library import load_key
from fwsign.x509 import der
from fwsign.x509.form import check_oid

_RSA: Final = bytes.fromhex("2a864886f70d010101")
_RSA_PSS: Final = bytes.fromhex("2a864886f70d01010a")
_EC: Final = bytes.fromhex("2a8648ce3d0201")
_CURVES: Final = frozenset(
    bytes.fromhex(one) for one in ("06082a8648ce3d030107", "06052b81040022", "06052b81040023")
)
"""P-256, P-384 and P-521, as parameters of an EC key."""
_NULL: Final = b"\x05\x00"
_UNCOMPRESSED: Final = b"\x04"
_OWN: Final[dict[bytes, KeyKind]] = {  # RFC 8410, RFC 9881: one identifier for keys and signatures
    identifier: kind
    for kind in KEYS
    for digest, identifier in kind.certificates.items()
    if not digest
}
_KINDS: Final = {_RSA, _RSA_PSS, *(identifier[4:] for identifier in _OWN)}
"""OIDs of kinds of keys other than those on curves."""


def load_public_key(spki: bytes) -> PublicKey:
    """Load a SubjectPublicKeyInfo, in DER.

    Raises:
        Untrusted: `untrusted.algorithm`, for a kind of key that is not known.
        ValueError: it cannot be read.
    """
    parts = der.DerReader(der.single(spki, der.SEQUENCE))
    algorithm, bits = parts.whole(der.SEQUENCE), parts.content(der.BIT_STRING)
    parts.end()
    inside = der.DerReader(der.single(algorithm, der.SEQUENCE))
    kind = inside.content(der.OID)
    check_oid(kind)
    parameters = inside.rest()
    if parameters[:1] == bytes([der.OID]):
        check_oid(der.single(parameters, der.OID))
    if bits[:1] != b"\0":
        raise ValueError("a public key with unused bits")
    if kind in (_RSA, _RSA_PSS):
        if kind == _RSA and parameters not in (b"", _NULL):
            raise ValueError("an RSA key with parameters")
        _check_rsa(bits[1:])
    try:
        key = load_key(spki, _OWN.get(algorithm))
    except ValueError as error:
        if _known(kind, parameters):
            raise
        raise Untrusted(
            "untrusted.algorithm", f"a kind of key that is not allowed: {error}"
        ) from None
    if isinstance(key, ec.EllipticCurvePublicKey) and bits[1:2] != _UNCOMPRESSED:
        # So that the digest of a key is the same for each form of its point, in each version.
        return key.public_numbers().public_key()
    return key


def _check_rsa(content: bytes) -> None:
    """Check an RSAPublicKey: old versions of cryptography read negative numbers, and any exponent.

    Raises:
        ValueError: it is not DER, or its numbers are those of no key.
    """
    numbers = der.DerReader(der.single(content, der.SEQUENCE))
    modulus, exponent = numbers.integer(), numbers.integer()
    numbers.end()
    if not 3 <= exponent < modulus or exponent % 2 == 0:  # with 1, anyone could sign
        raise ValueError("an RSA key whose exponent is not odd, or not from 3 to its modulus")


def _known(kind: bytes, parameters: bytes) -> bool:
    """Tell whether a key is of a kind that certificates may have, so that it is malformed."""
    if kind == _EC:  # without a curve's name, nothing says what it is
        return parameters in _CURVES or parameters[:1] != bytes([der.OID])
    return kind in _KINDS
