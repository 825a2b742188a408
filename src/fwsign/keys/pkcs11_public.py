# SPDX-License-Identifier: Apache-2.0
"""The public half of a key in a token, from whatever object has it."""

from __future__ import annotations

from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType

from fwsign.keys.asn1 import BIT_STRING, OCTETS, elements

_CURVES: Final[dict[bytes, Any]] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1,
    bytes.fromhex("06052b81040022"): ec.SECP384R1,
    bytes.fromhex("06052b81040023"): ec.SECP521R1,
    bytes.fromhex("06052b8104000a"): ec.SECP256K1,
}
"""Curves by CKA_EC_PARAMS, an object identifier in DER."""


def public_key(session: Any, key: Any) -> Any | None:
    """Return the public half of a private key, None if the token has it nowhere.

    It is in a public key of the same CKA_ID, else in a certificate of the same, else in the private
    key itself. Keys without a CKA_ID belong to objects of the same label.

    Args:
        session: python-pkcs11's session.
        key: python-pkcs11's private key.

    Raises:
        ValueError: the token gives numbers that are no key.
        PKCS11Error: the token fails.
    """
    identifier = attribute(key, Attribute.ID)
    same = {Attribute.ID: identifier} if identifier else {Attribute.LABEL: key.label}
    for one in _objects(session, ObjectClass.PUBLIC_KEY, same):
        if (found := _from_numbers(one)) is not None:
            return found
    for one in _objects(session, ObjectClass.CERTIFICATE, same):
        data = attribute(one, Attribute.VALUE)
        if data:
            return x509.load_der_x509_certificate(data).public_key()
    return _from_numbers(key)


def attribute(thing: Any, name: Attribute) -> Any:
    """Return an attribute of an object, None if it has none or does not give it."""
    try:
        return thing[name]
    except (PKCS11Error, ValueError, IndexError):  # a kind that python-pkcs11 does not know
        return None


def _objects(session: Any, kind: ObjectClass, same: dict[Attribute, Any]) -> list[Any]:
    return list(session.get_objects({Attribute.CLASS: kind, **same}))


def _from_numbers(thing: Any) -> Any | None:
    """Return the public key that the attributes of a public or private key make up."""
    kind = attribute(thing, Attribute.KEY_TYPE)
    if kind == KeyType.RSA:
        n, e = (attribute(thing, name) for name in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
        if not n or not e:
            return None
        return rsa.RSAPublicNumbers(int.from_bytes(e, "big"), int.from_bytes(n, "big")).public_key()
    point = attribute(thing, Attribute.EC_POINT)
    if not point:
        return None
    if kind == KeyType.EC_EDWARDS:
        raw = _raw(point, (32,))
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    curve = _CURVES.get(attribute(thing, Attribute.EC_PARAMS) or b"")
    if kind != KeyType.EC or curve is None:
        return None
    width = (curve.key_size + 7) // 8
    raw = _raw(point, (1 + width, 1 + 2 * width))
    return ec.EllipticCurvePublicKey.from_encoded_point(curve(), raw)


def _raw(point: bytes, sizes: tuple[int, ...]) -> bytes:
    """Return a point without the DER around it, which some tokens write and others do not.

    The length tells the two apart: an uncompressed point begins like an OCTET STRING.
    """
    if len(point) in sizes:
        return point
    (one,) = elements(point)
    content = one.content[1:] if one.tag == BIT_STRING else one.content
    if one.tag not in (OCTETS, BIT_STRING) or len(content) not in sizes:
        raise ValueError("not a point of the curve")
    return content
