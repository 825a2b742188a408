# SPDX-License-Identifier: Apache-2.0
"""Tell what a file is that is only named, not read: key stores of others, CMS, attributes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from fwsign.keys import asn1
from fwsign.keys.asn1 import Element, sequence_parts

_TIMES: Final = (0x17, 0x18)
_JAVA: Final = (
    "keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12"
)
_PUTTY: Final = "puttygen FILE -O private-openssh-new -o NEW"
_MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1.2.840.113549.1.7.1": "data",
        "1.2.840.113549.1.7.3": "enveloped data: encrypted for somebody",
        "1.2.840.113549.1.7.4": "signed and enveloped data",
        "1.2.840.113549.1.7.5": "digested data",
        "1.2.840.113549.1.7.6": "encrypted data",
        "1.2.840.113549.1.9.16.1.2": "authenticated data",
        "1.2.840.113549.1.9.16.1.9": "compressed data",
        "1.2.840.113549.1.9.16.1.23": "authenticated and enveloped data",
    }
)


class Foreign(NamedTuple):
    """A file of another program, and the command that makes one that fwsign reads."""

    kind: str
    format: str
    encoding: str
    remedy: str

    @property
    def words(self) -> str:
        """What it is, for a sentence that begins with the file's name."""
        return f"is a {self.kind} ({self.format}), which fwsign reads once it is converted: " + (
            self.remedy
        )


_FILES: Final = (
    (b"\xfe\xed\xfe\xed", Foreign("Java keystore", "JKS", "binary", _JAVA)),
    (
        b"\xce\xce\xce\xce",
        Foreign("Java keystore", "JCEKS", "binary", f"{_JAVA} -srcstoretype JCEKS"),
    ),
    (b"PuTTY-User-Key-File-", Foreign("private key of PuTTY", "PPK", "text", _PUTTY)),
)


def foreign(data: bytes) -> Foreign | None:
    """Name a file by its first bytes; None if fwsign may be able to read it."""
    return next((one for head, one in _FILES if data.startswith(head)), None)


def signed_kind(data: bytes) -> str | None:
    """Tell certificate, request and CRL apart by the types of their parts; None: none of them."""
    try:
        tags = [part.tag for part in sequence_parts(data)[0].parts()]
    except (ValueError, IndexError):
        return None
    if tags[:1] == [asn1.TAG_0]:  # version 2 or 3
        del tags[0]
    body = tags[1:] if tags[:1] == [asn1.INTEGER] else tags
    if body is not tags and body[:5] == [asn1.SEQUENCE] * 5:
        return "certificate"
    if body[:2] == [asn1.SEQUENCE] * 2 and body[2:3] and body[2] in _TIMES:
        return "CRL"
    if body is not tags and body in ([asn1.SEQUENCE] * 2, [asn1.SEQUENCE] * 2 + [asn1.TAG_0]):
        return "certificate signing request"
    return None


def key_algorithm(data: bytes) -> tuple[str, ...]:
    """Return the object identifiers of a SubjectPublicKeyInfo: algorithm, curve; () if none."""
    try:
        algorithm, bits = sequence_parts(data)
        kind, *more = algorithm.parts()
        curve = [one.oid() for one in more if one.tag == asn1.OID]
        return (kind.oid(), *curve) if bits.tag == asn1.BIT_STRING else ()
    except ValueError:
        return ()


def message(kind: Element) -> str | None:
    """Name the content of CMS that is no bundle; None if it is not known."""
    try:
        return _MESSAGES.get(kind.oid())
    except ValueError:
        return None


def trust(notes: Element) -> str:
    """Return the words for what OpenSSL notes after a certificate: uses, and a name."""
    found = []
    try:
        for part in notes.parts():
            if part.tag == asn1.SEQUENCE:
                found.append(f"trusted for {', '.join(one.oid() for one in part.parts())}")
            elif part.tag == asn1.TAG_0:
                found.append(f"rejected for {', '.join(one.oid() for one in part.parts())}")
            elif part.tag == 0x0C:
                found.append(f'named "{part.content.decode("utf-8", "backslashreplace")}"')
    except ValueError:
        return "notes that cannot be read"
    return ", ".join(found) or "no notes"
