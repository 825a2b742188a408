# SPDX-License-Identifier: Apache-2.0
"""index.txt, the record of `openssl ca` and easy-rsa of a CA's certificates and revocations.

Source: openssl-ca(1). A line has six fields with tabs between: status (V, R or E), expiry,
revocation with its reason, serial number, file and subject.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)

INDEX_LIMIT: Final = 16 * 1024 * 1024
"""Octets of index.txt: more than a hundred thousand certificates."""

_FIELDS = 6
_SERIAL = re.compile(r"(?:0x)?([0-9a-f]{1,40})", re.IGNORECASE)
_TIME = re.compile(r"(\d{2}|\d{4})(\d{10})Z")
_FLAGS: Final = {flag.value.lower(): flag for flag in x509.ReasonFlags}
# openssl's words for reasons with a time, from which on the key was known to others.
_TIMED: Final = {
    "keytime": x509.ReasonFlags.key_compromise,
    "cakeytime": x509.ReasonFlags.ca_compromise,
    "holdinstruction": x509.ReasonFlags.certificate_hold,
}
# openssl's words for reasons; it knows no others, and fails on an index with another one.
_WORDS: Final = {
    x509.ReasonFlags.key_compromise: ("keyCompromise", "keyTime"),
    x509.ReasonFlags.ca_compromise: ("CACompromise", "CAkeyTime"),
    x509.ReasonFlags.affiliation_changed: ("affiliationChanged", None),
    x509.ReasonFlags.superseded: ("superseded", None),
    x509.ReasonFlags.cessation_of_operation: ("cessationOfOperation", None),
    x509.ReasonFlags.certificate_hold: ("certificateHold", None),
}
# OpenSSL's names of the parts of a subject; others are written as dotted numbers.
_PARTS: Final = {
    x509.NameOID.COUNTRY_NAME: "C",
    x509.NameOID.STATE_OR_PROVINCE_NAME: "ST",
    x509.NameOID.LOCALITY_NAME: "L",
    x509.NameOID.ORGANIZATION_NAME: "O",
    x509.NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    x509.NameOID.COMMON_NAME: "CN",
    x509.NameOID.EMAIL_ADDRESS: "emailAddress",
}


def serial_of(text: str) -> int | None:
    """Return the serial number in a text, as `Pki.by_serial` takes it; None for other texts."""
    match = _SERIAL.fullmatch(text.replace(":", ""))
    return int(match[1], 16) if match else None


def serial_text(serial: int) -> str:
    """Return a serial number as in openssl's file names: hexadecimal in whole octets."""
    text = f"{serial:X}"
    return text.zfill(len(text) + len(text) % 2)


def parse_index(path: Path) -> Iterator[x509.RevokedCertificate]:
    """Return the revocations in index.txt, as entries of a CRL.

    Raises:
        Failed: `state.pki`: a line is not in openssl's form; `io.*`.
    """
    for fields in _parse(path, _read(path)):
        if fields[0] == "R":
            yield _revoked(int(fields[3], 16), fields[2])


def add_line(path: Path, certificate: x509.Certificate) -> None:
    """Record a certificate as issued, unless it is recorded; raise like `parse_index`."""
    lines = list(_parse(path, _read(path)))
    if certificate.serial_number not in {int(fields[3], 16) for fields in lines}:
        _write(path, [*map("\t".join, lines), line(certificate)])


def revoke_line(
    path: Path, certificate: x509.Certificate, entry: x509.RevokedCertificate
) -> x509.RevokedCertificate:
    """Record a certificate as revoked; return the entry that counts, the older of two.

    Raises:
        Failed: as `parse_index`.
    """
    lines = list(_parse(path, _read(path)))
    own = [fields for fields in lines if int(fields[3], 16) == certificate.serial_number]
    for fields in own:
        if fields[0] == "R":
            return _revoked(certificate.serial_number, fields[2])
        fields[0], fields[2] = "R", _said(entry)
    more = [] if own else [line(certificate, entry)]
    _write(path, [*map("\t".join, lines), *more])
    return entry


def line(certificate: x509.Certificate, revoked: x509.RevokedCertificate | None = None) -> str:
    """Return the line for a certificate.

    An expired certificate stays V. openssl ca -updatedb would make it E, at which the reports
    of easy-rsa 3.1 stop.

    Args:
        certificate: what was issued.
        revoked: its entry on the CRL, if it has one.
    """
    return "\t".join(
        (
            "V" if revoked is None else "R",
            _stamp(certificate.not_valid_after_utc),
            _said(revoked) if revoked is not None else "",
            serial_text(certificate.serial_number),
            "unknown",
            subject_text(certificate.subject),
        )
    )


def lost_line(entry: x509.RevokedCertificate, end: datetime) -> str:
    """Return the line for the revocation of a lost certificate; `end` is its CA's end."""
    serial = serial_text(entry.serial_number)
    return "\t".join(("R", _stamp(end), _said(entry), serial, "unknown", "/CN=unknown"))


def subject_text(subject: x509.Name) -> str:
    """Return a subject in OpenSSL's one-line form, such as /O=Acme/CN=release."""
    return "".join(
        f"/{_PARTS.get(part.oid, part.oid.dotted_string)}={_escaped(part.value)}"
        for part in subject
    )


def _escaped(value: str | bytes) -> str:
    data = value.encode() if isinstance(value, str) else value
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02X}" for octet in data)


def _said(entry: x509.RevokedCertificate) -> str:
    """Return date and reason of a revocation in openssl's form.

    If openssl has no word for a reason, the result is stricter: it has no reason, so that no
    earlier signature stays valid. If openssl has no place for the invalidity date, that date
    becomes the date of the revocation.
    """
    when = entry.revocation_date_utc
    reason = _extension(entry, x509.CRLReason)
    invalid = _extension(entry, x509.InvalidityDate)
    since = invalid.invalidity_date.replace(tzinfo=UTC) if invalid is not None else None
    word, timed = _WORDS.get(reason.reason, (None, None)) if reason is not None else (None, None)
    if since is not None and timed is not None:
        return f"{_stamp(when)},{timed},{since:%Y%m%d%H%M%SZ}"
    stamp = _stamp(when if since is None else min(since, when))
    return stamp if word is None else f"{stamp},{word}"


def _extension(entry: x509.RevokedCertificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return entry.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _stamp(time: datetime) -> str:
    """Return a time in the form of ASN.1: UTCTime until 2049 (RFC 5280 s.4.1.2.5)."""
    return f"{time:%y%m%d%H%M%SZ}" if 1950 <= time.year < 2050 else f"{time:%Y%m%d%H%M%SZ}"


def _read(path: Path) -> str:
    # Keep all octets: the lines of other programs must stay unchanged when written again.
    return read_bytes(path, INDEX_LIMIT).decode(errors="surrogateescape")


def _write(path: Path, lines: list[str]) -> None:
    text = "".join(f"{one}\n" for one in lines)
    write_atomic(path, text.encode(errors="surrogateescape"), overwrite=True)


def _parse(path: Path, text: str) -> Iterator[list[str]]:
    for number, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        fields = one.split("\t")
        try:
            if len(fields) != _FIELDS or fields[0] not in ("V", "E", "R"):
                raise ValueError("not six fields after V, E or R")
            if fields[0] == "R":
                _revoked(int(fields[3], 16), fields[2])
            int(fields[3], 16)
        except (ValueError, OverflowError) as error:
            raise Failed(
                "state.pki",
                f"{path} line {number} cannot be read: {error}",
                expected="status, expiry, revocation, serial, file and subject, with tabs",
                found=one[:120],
            ) from None
        yield fields


def _revoked(serial: int, said: str) -> x509.RevokedCertificate:
    since, _, rest = said.partition(",")
    word, _, more = rest.partition(",")
    word = word.lower()
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(since))
    flag = _TIMED.get(word) or _FLAGS.get(word, x509.ReasonFlags.unspecified)
    if flag not in (x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl):
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    if word in ("keytime", "cakeytime"):
        date = x509.InvalidityDate(_time(more).replace(tzinfo=None))
        builder = builder.add_extension(date, critical=False)
    return builder.build()


def _time(text: str) -> datetime:
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f'"{text}" is not a time')
    year = match[1]
    if len(year) == 2:  # RFC 5280 section 4.1.2.5.1
        year = f"{'20' if int(year) < 50 else '19'}{year}"
    return datetime.strptime(f"{year}{match[2]}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
