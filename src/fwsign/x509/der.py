# SPDX-License-Identifier: Apache-2.0
"""DER, strictly; and the outer shape of certificates and CRLs (RFC 5280 sections 4.1 and 5.1).

The signature does not cover the bytes outside the signed part. So that no byte of them can change,
certificates and CRLs must be SEQUENCE(tbs, AlgorithmIdentifier, BIT STRING with 0 unused bits), in
DER. The AlgorithmIdentifier must be in a closed list and equal the one in the signed part.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

SEQUENCE, BIT_STRING, INTEGER, VERSION = 0x30, 0x03, 0x02, 0xA0
BOOLEAN, OCTETS, OID, SET = 0x01, 0x04, 0x06, 0x31
ISSUER_ID, SUBJECT_ID, EXTENSIONS = 0x81, 0x82, 0xA3
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18


class Signed(NamedTuple):
    """The three parts of a signed structure; each is the whole DER element."""

    tbs: bytes
    algorithm: bytes
    signature: bytes


class Fields(NamedTuple):
    """Parts of the signed part of a certificate or CRL.

    Args:
        names: the issuer, and the subject of a certificate, each in DER.
        extensions: the content of the OID, and of the OCTET STRING, of each.
        key: a certificate's SubjectPublicKeyInfo, in DER.
        entries: the content of a CRL's list of revoked certificates.
    """

    names: tuple[bytes, ...]
    extensions: tuple[tuple[bytes, bytes], ...]
    key: bytes = b""
    entries: bytes = b""


class DerReader:
    """Read elements one after another; each has its length in the shortest form.

    Args:
        data: the elements, such as the content of a SEQUENCE.
        at: where to begin.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data, self._at, self._end = data, at, len(data)

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < self._end

    def whole(self, tag: int) -> bytes:
        """Return the next element with its head; raise ValueError if it has another tag."""
        begin = self._at
        self._enter(tag)
        return self._data[begin : self._at]

    def content(self, tag: int) -> bytes:
        """Return the content of the next element; raise ValueError like `whole`."""
        return self._data[self._enter(tag) : self._at]

    def inside(self, tag: int) -> "DerReader":
        """Return a reader of the next element's content; raise ValueError like `whole`."""
        inner = DerReader(self._data)
        inner._at, inner._end = self._enter(tag), self._at
        return inner

    def optional(self, tag: int) -> bytes | None:
        """Return the content of the next element if it has this tag, else None."""
        return self.content(tag) if self.peek(tag) else None

    def peek(self, tag: int) -> bool:
        """Tell whether the next element has this tag."""
        return self._data[self._at : min(self._at + 1, self._end)] == bytes([tag])

    def rest(self) -> bytes:
        """Return all that is left, whatever it is."""
        begin, self._at = self._at, self._end
        return self._data[begin : self._end]

    def integer(self) -> int:
        """Return the next element's number; raise ValueError if it is not an INTEGER in DER."""
        return number(self.content(INTEGER))

    def end(self) -> None:
        """Raise ValueError if anything is left."""
        if self.more:
            raise ValueError(f"{self._end - self._at} bytes too many")

    def _enter(self, tag: int) -> int:
        """Read the next element's head and go to its end; return where its content begins."""
        data, at = self._data, self._at
        if at + 2 > self._end or data[at] != tag:
            raise ValueError(f"no element of type 0x{tag:02x} at byte {at}")
        length, start = data[at + 1], at + 2
        if length >= 0x80:
            width = length & 0x7F
            if not 1 <= width <= 3:  # 16 MiB is beyond every limit
                raise ValueError(f"a length of {width} bytes at byte {at}")
            length, start = int.from_bytes(data[start : start + width], "big"), start + width
            if length < 0x80 or length >> 8 * (width - 1) == 0:
                raise ValueError(f"a length that is not in its shortest form at byte {at}")
        if start + length > self._end:
            raise ValueError(f"an element that goes beyond the end at byte {at}")
        self._at = start + length
        return start


def number(content: bytes) -> int:
    """Return the number that the content of an INTEGER encodes.

    Raises:
        ValueError: it is not in its shortest form.
    """
    value = int.from_bytes(content, "big", signed=True)
    if len(content) != (value + (value < 0)).bit_length() // 8 + 1:
        raise ValueError("a number that is not in its shortest form")
    return value


def generalized_time(content: bytes) -> datetime:
    """Return the time that the content of a GeneralizedTime encodes, in whole seconds.

    Raises:
        ValueError: it is not in the form of DER (X.690 section 11.7), or no time.
    """
    if not re.fullmatch(rb"[0-9]{14}(\.[0-9]{0,8}[1-9])?Z", content):
        raise ValueError("not a GeneralizedTime in DER")
    month, day, hour, minute, second = (int(content[at : at + 2]) for at in range(4, 14, 2))
    return datetime(int(content[:4]), month, day, hour, minute, second, tzinfo=UTC)


def split(data: bytes, *, crl: bool = False) -> Signed:
    """Take a certificate or CRL apart.

    Args:
        data: the DER, with nothing before or after it.
        crl: whether it is a CRL, whose version is a bare INTEGER, or a certificate.

    Raises:
        ValueError: the shape is not exactly the one above.
    """
    outer = DerReader(data)
    parts = outer.inside(SEQUENCE)
    if outer.more:
        raise ValueError("bytes after the end")
    tbs, algorithm, bits = parts.whole(SEQUENCE), parts.whole(SEQUENCE), parts.content(BIT_STRING)
    if parts.more:
        raise ValueError("more than three parts")
    if bits[:1] != b"\0":
        raise ValueError("a signature with unused bits")
    inside = DerReader(data).inside(SEQUENCE).inside(SEQUENCE)
    if not crl:  # a CRL begins with its version, which RFC 5280 section 5.1.2.1 demands
        inside.optional(VERSION)
    inside.content(INTEGER)  # a certificate's serial number, a CRL's version
    if inside.whole(SEQUENCE) != algorithm:
        raise ValueError("signature algorithms inside and outside differ")
    return Signed(tbs, algorithm, bits[1:])


def single(data: bytes, tag: int) -> bytes:
    """Return the content of an element that is alone; raise ValueError for anything else."""
    reader = DerReader(data)
    content = reader.content(tag)
    reader.end()
    return content


def _fields(tbs: bytes) -> DerReader:
    """Read a certificate's signed part up to the serial number."""
    inside = DerReader(tbs).inside(SEQUENCE)
    inside.optional(VERSION)
    return inside


def serial_number(tbs: bytes) -> int:
    """Return the serial number in a certificate's signed part; it may be negative or long.

    Raises:
        ValueError: there is none.
    """
    inside = _fields(tbs)
    return int.from_bytes(inside.content(INTEGER), "big", signed=True)


def issuer_and_serial(tbs: bytes) -> bytes:
    """Return issuer and serial number from a certificate's signed part, in the form of CMS.

    That is the content of an IssuerAndSerialNumber (RFC 5652 section 10.2.4).

    Raises:
        ValueError: there are none.
    """
    inside = _fields(tbs)
    serial = inside.whole(INTEGER)
    inside.whole(SEQUENCE)  # the algorithm
    return inside.whole(SEQUENCE) + serial


def certificate_fields(tbs: bytes) -> Fields:
    """Return the fields of a certificate's signed part whose form `form` checks.

    Raises:
        ValueError: the shape is not that of RFC 5280 section 4.1.
    """
    inside = _fields(tbs)
    inside.content(INTEGER)
    inside.content(SEQUENCE)  # the algorithm
    issuer = inside.whole(SEQUENCE)
    inside.content(SEQUENCE)  # validity
    subject, key = inside.whole(SEQUENCE), inside.whole(SEQUENCE)
    inside.optional(ISSUER_ID)
    inside.optional(SUBJECT_ID)
    return Fields((issuer, subject), _extensions(inside, EXTENSIONS), key)


def crl_fields(tbs: bytes) -> Fields:
    """Return the fields of a CRL's signed part whose form `form` checks.

    Raises:
        ValueError: the shape is not that of RFC 5280 section 5.1.
    """
    inside = DerReader(tbs).inside(SEQUENCE)
    inside.content(INTEGER)
    inside.content(SEQUENCE)  # the algorithm
    issuer = inside.whole(SEQUENCE)
    for _ in range(2):  # thisUpdate, nextUpdate
        if inside.optional(UTC_TIME) is None:
            inside.optional(GENERALIZED_TIME)
    entries = inside.optional(SEQUENCE) or b""
    return Fields((issuer,), _extensions(inside, VERSION), entries=entries)


def _extensions(inside: DerReader, tag: int) -> tuple[tuple[bytes, bytes], ...]:
    """Read extensions under a tag, if there are any: the OID of each, and its value."""
    found = []
    every = inside.inside(tag).inside(SEQUENCE) if inside.peek(tag) else inside
    while every.more:
        one = every.inside(SEQUENCE)
        oid = one.content(OID)
        one.optional(BOOLEAN)  # critical
        found.append((oid, one.content(OCTETS)))
    return tuple(found)
