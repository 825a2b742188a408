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
BOOLEAN, OCTETS, OID = 0x01, 0x04, 0x06
ISSUER_ID, SUBJECT_ID, EXTENSIONS = 0x81, 0x82, 0xA3
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18


class Signed(NamedTuple):
    """The three parts of a signed structure; each is the whole DER element."""

    tbs: bytes
    algorithm: bytes
    signature: bytes


class DerReader:
    """Read elements one after another; each has its length in the shortest form.

    Args:
        data: the elements, such as the content of a SEQUENCE.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def whole(self, tag: int) -> bytes:
        """Return the next element with its head; raise ValueError if it has another tag."""
        begin = self._at
        self._at = _element(self._data, begin, tag)[1]
        return self._data[begin : self._at]

    def content(self, tag: int) -> bytes:
        """Return the content of the next element; raise ValueError like `whole`."""
        start, self._at = _element(self._data, self._at, tag)
        return self._data[start : self._at]

    def optional(self, tag: int) -> bytes | None:
        """Return the content of the next element if it has this tag, else None."""
        return self.content(tag) if self.peek(tag) else None

    def peek(self, tag: int) -> bool:
        """Tell whether the next element has this tag."""
        return self._data[self._at : self._at + 1] == bytes([tag])

    def integer(self) -> int:
        """Return the next element's number; raise ValueError if it is not an INTEGER in DER."""
        return number(self.content(INTEGER))

    def end(self) -> None:
        """Raise ValueError if anything is left."""
        if self.more:
            raise ValueError(f"{len(self._data) - self._at} bytes too many")


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
    outer, end = _element(data, 0, SEQUENCE)
    if end != len(data):
        raise ValueError("bytes after the end")
    tbs, at = _element(data, outer, SEQUENCE)
    tbs_end = at
    algorithm_at, signature_at = at, _element(data, at, SEQUENCE)[1]
    bits, at = _element(data, signature_at, BIT_STRING)
    if at != len(data):
        raise ValueError("more than three parts")
    if data[bits : bits + 1] != b"\0":
        raise ValueError("a signature with unused bits")
    algorithm = data[algorithm_at:signature_at]
    inner = _inner_algorithm(data[:tbs_end], tbs, crl=crl)
    if inner != algorithm:
        raise ValueError("signature algorithms inside and outside differ")
    return Signed(data[outer:tbs_end], algorithm, data[bits + 1 :])


def serial_number(tbs: bytes) -> int:
    """Return the serial number in a certificate's signed part; it may be negative or long.

    Raises:
        ValueError: there is none.
    """
    inside = DerReader(DerReader(tbs).content(SEQUENCE))
    inside.optional(VERSION)
    return int.from_bytes(inside.content(INTEGER), "big", signed=True)


def issuer_and_serial(tbs: bytes) -> bytes:
    """Return issuer and serial number from a certificate's signed part, in the form of CMS.

    That is the content of an IssuerAndSerialNumber (RFC 5652 section 10.2.4).

    Raises:
        ValueError: there are none.
    """
    inside = DerReader(DerReader(tbs).content(SEQUENCE))
    inside.optional(VERSION)
    serial = inside.whole(INTEGER)
    inside.whole(SEQUENCE)  # the algorithm
    return inside.whole(SEQUENCE) + serial


def extension(tbs: bytes, oid: bytes) -> bytes | None:
    """Return the value of a certificate's extension, or None if it has none.

    Args:
        tbs: the signed part of a version 3 certificate that was parsed before.
        oid: the content of the extension's OBJECT IDENTIFIER.

    Raises:
        ValueError: the shape is not that of RFC 5280 section 4.1.
    """
    inside = DerReader(DerReader(tbs).content(SEQUENCE))
    inside.content(VERSION)
    inside.content(INTEGER)
    for _ in range(5):  # algorithm, issuer, validity, subject, key
        inside.content(SEQUENCE)
    inside.optional(ISSUER_ID)
    inside.optional(SUBJECT_ID)
    every = DerReader(DerReader(inside.content(EXTENSIONS)).content(SEQUENCE))
    while every.more:
        one = DerReader(every.content(SEQUENCE))
        found = one.content(OID)
        one.optional(BOOLEAN)  # critical
        if found == oid:
            return one.content(OCTETS)
    return None


def entries_size(tbs: bytes) -> int:
    """Return the size in bytes of the list of revoked certificates in a CRL's signed part.

    Raises:
        ValueError: the shape is not that of RFC 5280 section 5.1.
    """
    inside = DerReader(DerReader(tbs).content(SEQUENCE))
    inside.content(INTEGER)
    for _ in range(2):  # algorithm, issuer
        inside.content(SEQUENCE)
    for _ in range(2):  # thisUpdate, nextUpdate
        if inside.optional(UTC_TIME) is None:
            inside.optional(GENERALIZED_TIME)
    return len(inside.optional(SEQUENCE) or b"")


def _inner_algorithm(data: bytes, at: int, *, crl: bool) -> bytes:
    """Return the AlgorithmIdentifier in the signed part; its content begins at `at`."""
    if crl:  # version INTEGER OPTIONAL, but RFC 5280 section 5.1.2.1 demands v2
        at = _element(data, at, INTEGER)[1]
    else:  # version [0] EXPLICIT DEFAULT v1, serialNumber
        if data[at : at + 1] == bytes([VERSION]):
            at = _element(data, at, VERSION)[1]
        at = _element(data, at, INTEGER)[1]
    return data[at : _element(data, at, SEQUENCE)[1]]


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Read a head at `at`; return the offsets of the content's beginning and end."""
    if at + 2 > len(data) or data[at] != tag:
        raise ValueError(f"no element of type 0x{tag:02x} at byte {at}")
    length, start = data[at + 1], at + 2
    if length >= 0x80:
        width = length & 0x7F
        if not 1 <= width <= 3:  # 16 MiB is beyond every limit
            raise ValueError(f"a length of {width} bytes at byte {at}")
        length, start = int.from_bytes(data[start : start + width], "big"), start + width
        if length < 0x80 or length >> 8 * (width - 1) == 0:
            raise ValueError(f"a length that is not in its shortest form at byte {at}")
    if start + length > len(data):
        raise ValueError(f"an element that goes beyond the end at byte {at}")
    return start, start + length
