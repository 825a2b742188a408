# SPDX-License-Identifier: Apache-2.0
"""Read extensions for people: if one is odd, the others are still read, each alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from cryptography import x509

from fwsign.keys import asn1
from fwsign.keys.asn1 import sequence, tlv
from fwsign.pki.view.words import UNREADABLE, error_words, oid_name, quietly

if TYPE_CHECKING:
    from fwsign.keys.asn1 import Element

Place = Literal["certificate", "CRL", "entry"]
"""The place of an extension; one number can mean another thing elsewhere."""

_BOOLEAN, _UTC_TIME, _TAG_3 = 0x01, 0x17, 0xA3
_EMPTY: Final = sequence()
_ED25519: Final = sequence(bytes.fromhex("06032b6570"))
_THEN: Final = tlv(_UTC_TIME, b"200101000000Z")
_SIGNATURE: Final = tlv(asn1.BIT_STRING, b"\0")
_UNNAMED: Final = x509.ObjectIdentifier("0.0")


class Extension(NamedTuple):
    """One extension; `value` is None and `fault` the reason if it cannot be read."""

    oid: x509.ObjectIdentifier
    critical: bool
    value: Any
    content: bytes
    fault: str | None


class Extensions(NamedTuple):
    """All extensions of a thing; `fault` tells why a strict reader refuses them as a whole."""

    each: tuple[Extension, ...] = ()
    fault: str | None = None

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, one text for each extension, or one for the whole."""
        found = tuple(f"{oid_name(one.oid)}: {one.fault}" for one in self.each if one.fault)
        return found or ((self.fault,) if self.fault else ())


def extensions(parsed: Any, raw: list[Element], place: Place) -> Extensions:
    """Read all extensions: at once, or each alone if one is odd.

    Args:
        parsed: what cryptography made of the whole; None if it refuses it.
        raw: the extensions as they are encoded.
        place: where they are.
    """
    fault = None
    if parsed is not None:
        try:
            with quietly():
                each = tuple(parsed.extensions)
            return Extensions(
                tuple(Extension(one.oid, one.critical, one.value, b"", None) for one in each)
            )
        except UNREADABLE as error:
            fault = error_words(error)
    return Extensions(tuple(_alone(one, place) for one in raw), fault)


def _alone(element: Element, place: Place) -> Extension:
    """Read one extension by putting it into a certificate or CRL that has no other."""
    try:
        kind, *middle, octets = element.parts()
        oid = x509.ObjectIdentifier(kind.oid())
    except UNREADABLE as error:
        return Extension(_UNNAMED, False, None, element.whole, error_words(error))
    critical = any(one.tag == _BOOLEAN and one.content != b"\0" for one in middle)
    # Written anew, without its flag: the value is read although the flag may be odd.
    again = sequence(kind.whole, tlv(asn1.OCTETS, octets.content))
    try:
        with quietly():
            found = next(iter(_carrier(again, place).extensions))
    except UNREADABLE as error:
        return Extension(oid, critical, None, octets.content, error_words(error))
    return Extension(oid, critical, found.value, octets.content, None)


def _carrier(extension: bytes, place: Place) -> Any:
    version = asn1.integer(2 if place == "certificate" else 1)
    one = sequence(extension)
    if place == "certificate":
        key = sequence(_ED25519, tlv(asn1.BIT_STRING, bytes(33)))
        validity = sequence(_THEN, _THEN)
        fields = (_ED25519, _EMPTY, validity, _EMPTY, key, tlv(_TAG_3, one))
        tbs = sequence(tlv(asn1.TAG_0, version), asn1.integer(1), *fields)
        return x509.load_der_x509_certificate(sequence(tbs, _ED25519, _SIGNATURE))
    head = (version, _ED25519, _EMPTY, _THEN, _THEN)
    if place == "CRL":
        tbs = sequence(*head, tlv(asn1.TAG_0, one))
        return x509.load_der_x509_crl(sequence(tbs, _ED25519, _SIGNATURE))
    tbs = sequence(*head, sequence(sequence(asn1.integer(1), _THEN, one)))
    return x509.load_der_x509_crl(sequence(tbs, _ED25519, _SIGNATURE))[0]
