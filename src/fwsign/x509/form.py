# SPDX-License-Identifier: Apache-2.0
"""The form of names, extensions and CRL entries, where versions of cryptography differ.

They parse everything, and this refuses what only some of them refuse: the verdict must not depend
on the version that a device has. Here is no rule about trust.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fwsign.x509 import der

MAX_OID_SIZE: Final = 62
"""Bytes of an object identifier."""
_OID: Final = re.compile(
    rb"(?:[\x81-\xff][\x80-\xff]{0,2})?[\x00-\x7f](?:(?:[\x81-\xff][\x80-\xff]{0,2})?[\x00-\x7f])*"
)
"""Arcs in their shortest form, each below 2^28, which a UUID's is not."""
_PRINTABLE: Final = re.compile(rb"[A-Za-z0-9 '()+,./:=?-]*")
_TIME: Final = re.compile(rb"[0-9]{14}Z")

_CONSTRUCTED, _REGISTERED_ID, _PRINTABLE_STRING = 0x20, 0x88, 0x13
_PLACE, _RELATIVE_NAME, _REASONS, _CRL_ISSUER = 0xA0, 0xA1, 0x81, 0xA2  # of a distribution point
_AUTHORITY_SERIAL, _HEAD_SIZE = 0x82, 2

MAX_LOOKS: Final = 10_000
"""Bytes like those of odd elements in the entries of one CRL; chance makes two in a megabyte, and
to look at them takes 30 ms."""
_HEAD: Final = rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...)"
_NEGATIVE: Final = re.compile(_HEAD + rb"\x02(?:[\x01-\x7f]|\x81.)[\x80-\xff]", re.DOTALL)
"""The beginning of an entry with a negative serial number."""
_OTHER: Final = re.compile(_HEAD + rb"\x06[\x05-\x7f]", re.DOTALL)
"""The beginning of an extension whose object identifier is longer than those of RFC 5280."""


def check_form(fields: der.Fields) -> None:
    """Check the parts of a certificate or CRL that cryptography has parsed.

    Raises:
        ValueError: the form is one that some versions of cryptography refuse.
    """
    for name in fields.names:
        _walk(name)
    for oid, value in fields.extensions:
        check_oid(oid)
        if oid in _OWN:
            _OWN[oid](value)
        if oid in PARSED:
            _walk(value)
    _check_entries(fields.entries)


def check_oid(content: bytes) -> None:
    """Check the content of an OBJECT IDENTIFIER.

    Raises:
        ValueError: as `check_form`.
    """
    if len(content) > MAX_OID_SIZE or not _OID.fullmatch(content):
        raise ValueError(
            f"an object identifier that is too long, or has an arc of 2^28 or more: {content.hex()}"
        )


def _check_entries(entries: bytes) -> None:
    """Check the content of a CRL's list of entries that cryptography has parsed.

    It looks for the beginnings of odd elements, since reading every entry of a megabyte would cost
    a tenth of a second.

    Raises:
        ValueError: as `check_form`.
    """
    for pattern, check in ((_NEGATIVE, _check_serial), (_OTHER, _check_entry_extension)):
        looks, found = 0, pattern.search(entries)
        while found:
            looks += 1
            if looks > MAX_LOOKS:
                raise ValueError(f"more than {MAX_LOOKS} entries that look odd")
            check(entries, found.start())
            found = pattern.search(entries, found.start() + 1)


def _walk(data: bytes) -> None:
    """Check elements one after another, and go into those that hold others."""
    at, end = 0, len(data)
    while at + 1 < end:
        tag, length, start = data[at], data[at + 1], at + 2
        if length >= 0x80:
            width = length & 0x7F
            length, start = int.from_bytes(data[start : start + width], "big"), start + width
        at = start if tag & _CONSTRUCTED else start + length
        if tag in (der.OID, _REGISTERED_ID):
            check_oid(data[start:at])
        elif tag == _PRINTABLE_STRING:
            if not _PRINTABLE.fullmatch(data, start, at):
                raise ValueError("a PrintableString with other characters than it may have")
        elif tag == der.SET:
            _check_attributes(data[start : start + length])
    if at != end:  # in what cryptography takes as it is
        raise ValueError("an element that goes beyond the end")


def _check_attributes(content: bytes) -> None:
    """Check the attributes of one part of a name (X.501 section 9.3).

    Raises:
        ValueError: there is none, or two of one type.
    """
    reader, types = der.DerReader(content), list[bytes]()
    while reader.more:
        types.append(reader.inside(der.SEQUENCE).content(der.OID))
    if len(set(types)) != len(types) or not types:
        raise ValueError("a part of a name without attributes, or with two of one type")


def _check_usages(value: bytes) -> None:
    if not der.single(value, der.SEQUENCE):
        raise ValueError("an empty extended key usage")


def _check_authority(value: bytes) -> None:
    """Check the serial number in an authority key identifier (RFC 5280 section 4.2.1.1)."""
    reader = der.DerReader(der.single(value, der.SEQUENCE))
    for tag in (0x80, 0xA1):  # the key identifier, the issuer
        reader.optional(tag)
    serial = reader.optional(_AUTHORITY_SERIAL)
    if serial is not None and der.number(serial) < 0:
        raise ValueError("an authority key identifier with a negative serial number")


def _check_points(value: bytes) -> None:
    """Check CRL distribution points (RFC 5280 section 4.2.1.13)."""
    points = der.DerReader(der.single(value, der.SEQUENCE))
    while points.more:
        point = points.inside(der.SEQUENCE)
        place = point.optional(_PLACE) or b""
        _check_place(place)
        point.optional(_REASONS)
        if len(place) <= _HEAD_SIZE and not point.optional(_CRL_ISSUER):
            raise ValueError("a distribution point without a name and an issuer")


def _check_issuing_point(value: bytes) -> None:
    """Check an issuingDistributionPoint (RFC 5280 section 5.2.5)."""
    _check_place(der.DerReader(der.single(value, der.SEQUENCE)).optional(_PLACE) or b"")


def _check_place(content: bytes) -> None:
    """Check a DistributionPointName, which may be a part of a name."""
    if content[:1] == bytes([_RELATIVE_NAME]):
        _check_attributes(der.single(content, _RELATIVE_NAME))


def _check_period(value: bytes) -> None:
    """Check a privateKeyUsagePeriod (RFC 3280 section 4.2.1.4)."""
    reader = der.DerReader(der.single(value, der.SEQUENCE))
    times = [reader.optional(tag) for tag in (0x80, 0x81)]
    reader.end()
    given = [time for time in times if time is not None]
    if not given or not all(map(_TIME.fullmatch, given)):
        raise ValueError("a privateKeyUsagePeriod without times")
    first, *last = map(der.generalized_time, given)
    if last and first > last[0]:
        raise ValueError("a privateKeyUsagePeriod that ends before it begins")


def _check_template(value: bytes) -> None:
    """Check a certificate template of Microsoft: an identifier and at most two versions."""
    reader = der.DerReader(der.single(value, der.SEQUENCE))
    check_oid(reader.content(der.OID))
    for _ in range(2):
        if reader.peek(der.INTEGER) and not 0 <= reader.integer() < 1 << 32:
            raise ValueError("a certificate template whose version is not of 32 bits")
    reader.end()


def _refuse_admissions(_: bytes) -> None:
    raise ValueError("an admissions extension, which not all versions of cryptography can read")


PARSED: Final = frozenset(
    bytes.fromhex(oid)
    for oid in (
        *("551d11", "551d12", "551d1c", "551d1e", "551d1f", "551d20", "551d23", "551d25", "551d2e"),
        *("2b06010505070101", "2b0601050507010b"),  # authority and subject information access
    )
)
"""Extensions that cryptography takes apart; others are bytes to it."""
_OWN: Final[Mapping[bytes, Callable[[bytes], None]]] = MappingProxyType(
    {
        bytes.fromhex("551d25"): _check_usages,
        bytes.fromhex("551d23"): _check_authority,
        bytes.fromhex("551d1f"): _check_points,
        bytes.fromhex("551d2e"): _check_points,
        bytes.fromhex("551d1c"): _check_issuing_point,
        bytes.fromhex("551d10"): _check_period,
        bytes.fromhex("2b0601040182371507"): _check_template,
        bytes.fromhex("2b24080303"): _refuse_admissions,
    }
)


def _check_serial(entries: bytes, at: int) -> None:
    """Refuse a negative serial number, if an entry begins here."""
    reader = der.DerReader(entries, at)
    try:
        entry = reader.inside(der.SEQUENCE)
        entry.content(der.INTEGER)
    except ValueError:  # other bytes, which only look like an entry
        return
    if (entry.peek(der.UTC_TIME) or entry.peek(der.GENERALIZED_TIME)) and _ends(reader):
        raise ValueError("an entry with a negative serial number")


def _check_entry_extension(entries: bytes, at: int) -> None:
    """Check the object identifier of an extension, if one begins here."""
    reader = der.DerReader(entries, at)
    try:
        extension = reader.inside(der.SEQUENCE)
        oid = extension.content(der.OID)
        extension.optional(der.BOOLEAN)
        extension.content(der.OCTETS)
        extension.end()
    except ValueError:  # other bytes, which only look like an extension
        return
    if _ends(reader):
        check_oid(oid)


def _ends(reader: der.DerReader) -> bool:
    """Tell whether an entry or extension may end here: at the end, or before the next SEQUENCE."""
    return not reader.more or reader.peek(der.SEQUENCE)
