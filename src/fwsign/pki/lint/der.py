# SPDX-License-Identifier: Apache-2.0
"""Read parts of certificates and CRLs that cryptography hides: time tags, the raw serial number.

It is more lenient than `fwsign.x509.der`: lint describes the faults that the verifier refuses.
"""

from typing import Final, NamedTuple

INTEGER: Final = 0x02
GENERALIZED_TIME: Final = 0x18
_VERSION = 0xA0
_VALIDITY = 3  # after serialNumber: signature, issuer, validity


class Element(NamedTuple):
    """One DER element: its tag and its content."""

    tag: int
    content: bytes


class Outline(NamedTuple):
    """Serial number and the two times of a certificate; the times as tag and content."""

    serial: int
    serial_size: int
    times: tuple[Element, ...]


def elements(content: bytes) -> list[Element]:
    """Split the content of a constructed element.

    Raises:
        ValueError: it is not a sequence of elements.
    """
    found, at = [], 0
    while at < len(content):
        if at + 2 > len(content):
            raise ValueError("an element without a length")
        tag, size, start = content[at], content[at + 1], at + 2
        if size >= 0x80:
            width = size & 0x7F
            if not 1 <= width <= 4:
                raise ValueError("an impossible length")
            size, start = int.from_bytes(content[start : start + width], "big"), start + width
        if start + size > len(content):
            raise ValueError("an element that goes beyond the end")
        found.append(Element(tag, content[start : start + size]))
        at = start + size
    return found


def outline(certificate: bytes) -> Outline:
    """Return the outline of a certificate; raise ValueError like `elements`."""
    fields = _signed_fields(certificate)
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    serial = fields[0].content
    times = tuple(elements(fields[_VALIDITY].content)) if len(fields) > _VALIDITY else ()
    return Outline(int.from_bytes(serial, "big", signed=True), len(serial.lstrip(b"\0")), times)


def crl_has_version(crl: bytes) -> bool:
    """Tell whether a CRL has a version field; a CRL without one is of version 1."""
    return _signed_fields(crl)[0].tag == INTEGER


def _signed_fields(data: bytes) -> list[Element]:
    fields = elements(elements(elements(data)[0].content)[0].content)
    if not fields:
        raise ValueError("nothing is signed")
    return fields
