# SPDX-License-Identifier: Apache-2.0
"""Read certificates, requests and CRLs for people: one odd part does not hide the rest.

cryptography reads the parts. Where it refuses one, the others are still read, each alone. Nothing
here decides about trust: the verifier refuses what is odd, see `fwsign.x509.certificate`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fwsign.keys import asn1, ber
from fwsign.pki.view.extensions import Extensions, extensions
from fwsign.pki.view.words import (
    UNREADABLE,
    attempt,
    error_words,
    oid_name,
    quietly,
    shown_serial,
    unread,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fwsign.keys.asn1 import Element

_UTC_TIME, _GENERALIZED_TIME, _TAG_3 = 0x17, 0x18, 0xA3
_UTF16, _UTF32 = 0x1E, 0x1C  # BMPString, UniversalString
_EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"


class Outline(NamedTuple):
    """The parts of a certificate, request or CRL; times and names are texts."""

    parsed: Any
    """What cryptography made of it; None if it refuses the whole."""
    fault: str | None
    extensions: Extensions
    subject: str = ""
    issuer: str = ""
    serial: str = ""
    begin: str = ""
    end: str | None = None
    signature: str = ""
    key: Any = None
    """The public key; a text if it cannot be read."""
    entries: tuple[Element, ...] = ()


# --- certificates, requests, CRLs ----------------------------------------------------------


def certificate(data: bytes) -> Outline:
    """Read a certificate; raise ValueError if it has not the shape of one."""
    fields, algorithm = _signed(data)
    if fields and fields[0].tag == asn1.TAG_0:
        del fields[0]
    if len(fields) < 6:
        raise ValueError("it has not the parts of a certificate")
    serial, _, issuer, validity, subject, key, *more = fields
    times = validity.parts()
    if len(times) != 2:
        raise ValueError("it has not the parts of a certificate")
    wrapped = next((one.parts() for one in more if one.tag == _TAG_3), [])
    parsed, fault = _load(x509.load_der_x509_certificate, data)
    return Outline(
        parsed,
        fault,
        extensions(parsed, wrapped[0].parts() if wrapped else [], "certificate"),
        subject=_name(parsed, "subject", subject),
        issuer=_name(parsed, "issuer", issuer),
        serial=shown_serial(int.from_bytes(serial.content, "big", signed=True)),
        begin=_time(times[0]),
        end=_time(times[1]),
        signature=algorithm,
        key=_key(key),
    )


def request(data: bytes) -> Outline:
    """Read a certificate signing request; raise ValueError if it has not the shape of one."""
    fields, algorithm = _signed(data)
    if len(fields) < 3:
        raise ValueError("it has not the parts of a request")
    _, subject, key, *more = fields
    parsed, fault = _load(x509.load_der_x509_csr, data)
    return Outline(
        parsed,
        fault,
        extensions(parsed, list(_requested(more)), "certificate"),
        subject=_name(parsed, "subject", subject),
        signature=algorithm,
        key=_key(key),
    )


def crl(data: bytes) -> Outline:
    """Read a CRL but for its entries; raise ValueError if it has not the shape of one."""
    fields, algorithm = _signed(data)
    if fields and fields[0].tag == asn1.INTEGER:
        del fields[0]
    if len(fields) < 3:
        raise ValueError("it has not the parts of a CRL")
    _, issuer, begin, *more = fields
    end = next((_time(one) for one in more[:1] if one.tag in (_UTC_TIME, _GENERALIZED_TIME)), None)
    listed = next((one.parts() for one in more if one.tag == asn1.SEQUENCE), [])
    wrapped = next((one.parts() for one in more if one.tag == asn1.TAG_0), [])
    parsed, fault = _load(x509.load_der_x509_crl, data)
    return Outline(
        parsed,
        fault,
        extensions(parsed, wrapped[0].parts() if wrapped else [], "CRL"),
        issuer=_name(parsed, "issuer", issuer),
        begin=_time(begin),
        end=end,
        signature=algorithm,
        entries=tuple(listed),
    )


def crl_entry(entry: Element) -> tuple[str, str, Extensions]:
    """Return serial number, date and extensions of an entry; raise ValueError if there are none."""
    serial, date, *more = entry.parts()
    raw = more[0].parts() if more else []
    number = int.from_bytes(serial.content, "big", signed=True)
    return shown_serial(number), _time(date), extensions(None, raw, "entry")


def _signed(data: bytes) -> tuple[list[Element], str]:
    """Return the fields of the signed part, and the algorithm's name."""
    try:
        parts = asn1.sequence_parts(data)
    except ValueError:  # BER, or nothing of the kind
        parts = asn1.sequence_parts(ber.definite(data))
    if [part.tag for part in parts] != [asn1.SEQUENCE, asn1.SEQUENCE, asn1.BIT_STRING]:
        raise ValueError("it has not the three parts of something signed")
    algorithm = parts[1].parts()
    name = attempt(lambda: oid_name(x509.ObjectIdentifier(algorithm[0].oid()))) if algorithm else ""
    return parts[0].parts(), name


def _load(load: Callable[[bytes], Any], data: bytes) -> tuple[Any, str | None]:
    try:
        with quietly():
            return load(data), None
    except UNREADABLE as error:
        return None, error_words(error)


def _key(element: Element) -> Any:
    try:
        with quietly():
            return load_der_public_key(element.whole)
    except UNREADABLE as error:
        kind = attempt(lambda: oid_name(x509.ObjectIdentifier(element.parts()[0].parts()[0].oid())))
        return f"{unread(error)} ({kind})"


def _time(element: Element) -> str:
    text = element.content.decode("ascii", "backslashreplace")
    digits = text[:-1] if text.endswith("Z") else ""
    if element.tag == _UTC_TIME and len(digits) in (10, 12):
        digits = ("20" if digits < "5" else "19") + digits
    if not re.fullmatch(r"[0-9]{12}([0-9]{2})?", digits):
        return f"cannot be read: {text}"
    digits = digits.ljust(14, "0")
    date, time = digits[:8], digits[8:]
    shown = f"{date[:4]}-{date[4:6]}-{date[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}+00:00"
    return shown if _is_time(shown) else f"cannot be read: {text}"


def _is_time(text: str) -> bool:
    from datetime import datetime

    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# --- names ----------------------------------------------------------------------------------


def _name(parsed: Any, which: str, element: Element) -> str:
    try:
        with quietly():
            if parsed is not None:
                return str(getattr(parsed, which).rfc4514_string())
            return name_text(element)
    except UNREADABLE:
        return str(attempt(lambda: name_text(element)))


def name_text(element: Element) -> str:
    """Return a name whose attributes may have wrong types or letters, the last one first.

    Raises:
        ValueError: it has not the shape of a name.
    """
    return ",".join(
        "+".join(_attribute(one) for one in together.parts())
        for together in reversed(element.parts())
    )


def _attribute(element: Element) -> str:
    kind, value = element.parts()
    oid = x509.ObjectIdentifier(kind.oid())
    forms = {_UTF16: "utf-16-be", _UTF32: "utf-32-be"}
    try:
        text = value.content.decode(forms.get(value.tag, "utf-8"))
    except UnicodeDecodeError:
        text = value.content.decode("latin-1" if value.tag == 0x14 else "ascii", "backslashreplace")
    escaped = re.sub(r"([,+\\])", r"\\\1", text)
    return f"{_attribute_name(oid)}={escaped}"


def _attribute_name(oid: x509.ObjectIdentifier) -> str:
    try:  # the short name, as in CN
        return x509.NameAttribute(oid, "xx").rfc4514_attribute_name
    except UNREADABLE:  # its values are no texts
        return oid.dotted_string


def of_certificate(parsed: x509.Certificate) -> Extensions:
    """Read the extensions of a certificate that cryptography has loaded."""
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        with quietly():
            return extensions(parsed, [], "certificate") if tuple(parsed.extensions) else _NONE
    except UNREADABLE:
        return certificate(parsed.public_bytes(Encoding.DER)).extensions


_NONE: Final = Extensions()


def _requested(attributes: list[Element]) -> Iterator[Element]:
    """Yield the extensions in the attributes of a request."""
    for holder in attributes:
        for attribute in holder.parts():
            kind, values = attribute.parts()
            if kind.tag == asn1.OID and kind.oid() == _EXTENSION_REQUEST:
                for value in values.parts():
                    yield from value.parts()
