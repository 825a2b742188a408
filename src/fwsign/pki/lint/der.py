# SPDX-License-Identifier: Apache-2.0
"""Read parts of certificates and CRLs that cryptography hides: time tags, the raw serial number.

It is more lenient than `fwsign.x509.der`: lint describes the faults that the verifier refuses.
"""

from typing import Final, NamedTuple

from fwsign.keys.asn1 import INTEGER, TAG_0, Element, elements

GENERALIZED_TIME: Final = 0x18
_VALIDITY = 3  # after serialNumber: signature, issuer, validity


class RawFields(NamedTuple):
    """Serial number and the two times of a certificate; the times as tag and content."""

    serial: int
    serial_size: int
    times: tuple[Element, ...]


def raw_fields(certificate: bytes) -> RawFields:
    """Return these fields of a certificate; raise ValueError like `elements`."""
    fields = _signed_fields(certificate)
    if fields and fields[0].tag == TAG_0:
        del fields[0]
    serial = fields[0].content
    times = tuple(elements(fields[_VALIDITY].content)) if len(fields) > _VALIDITY else ()
    return RawFields(int.from_bytes(serial, "big", signed=True), len(serial.lstrip(b"\0")), times)


def crl_has_version(crl: bytes) -> bool:
    """Tell whether a CRL has a version field; a CRL without one is of version 1."""
    return _signed_fields(crl)[0].tag == INTEGER


def _signed_fields(data: bytes) -> list[Element]:
    fields = elements(elements(elements(data)[0].content)[0].content)
    if not fields:
        raise ValueError("nothing is signed")
    return fields
