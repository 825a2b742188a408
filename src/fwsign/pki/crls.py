# SPDX-License-Identifier: Apache-2.0
"""Make CRLs (RFC 5280 s.5): one for each CA, and a bundle of all of them."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys.pem import blocks
from fwsign.pki.certificates import CRL_LIMIT, crl_is_signed
from fwsign.pki.entry_names import is_root
from fwsign.pki.index import serial_text
from fwsign.pki.log import log_crl
from fwsign.pki.places import BUNDLE
from fwsign.pki.profiles import authority_key, refuse_wrong_signature, signature_hash
from fwsign.spans import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from fwsign.pki.directory import Pki
    from fwsign.pki.places import Places
    from fwsign.pki.profiles import Authority

ROOT_LIFETIME: Final = timedelta(days=400)  # a new one each year, with a month for the work
ISSUING_LIFETIME: Final = timedelta(days=90)

CRL_NUMBER: Final = "crlnumber"
_LEAKED: Final = frozenset(
    {
        x509.ReasonFlags.key_compromise,
        x509.ReasonFlags.ca_compromise,
        x509.ReasonFlags.aa_compromise,
    }
)

_BUNDLE_LIMIT: Final = 64 * CRL_LIMIT
_NUMBER_LIMIT: Final = 64

# ITU-T X.509: entries stay on the CRL when their certificate has expired.
EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")


def first_crl(name: str, issuer: Authority, now: datetime) -> bytes:
    """Make the empty CRL of a new CA, in PEM."""
    return make_crl(name, issuer, int(now.timestamp()), (), now)


def next_crl(
    before: Sequence[x509.CertificateRevocationList],
    name: str,
    issuer: Authority,
    more: Iterable[x509.RevokedCertificate],
    now: datetime,
    *,
    least: int = 0,
) -> bytes:
    """Make a CA's next CRL with all present entries, and more, in PEM.

    Args:
        before: the CA's earlier CRLs, as far as known; several differ where one was lost and
            another copy came back.
        name: the CA's name in the directory.
        issuer: the CA.
        more: new entries; one that an earlier CRL has keeps its form.
        now: from `profiles.utc`.
        least: the lowest number that it may have.

    Raises:
        Failed: `state.clock`: the clock is behind an earlier CRL.
    """
    before = sorted(before, key=lambda crl: (number_of(crl) or 0, crl.last_update_utc))
    entries: dict[int, x509.RevokedCertificate] = {}
    for crl in reversed(before):
        for entry in crl:
            entries.setdefault(entry.serial_number, entry)
    entries |= {one.serial_number: one for one in more if one.serial_number not in entries}
    last = max((crl.last_update_utc for crl in before), default=now)
    if last > now + CLOCK_TOLERANCE:
        made = f"{last:%Y-%m-%d %H:%M}"
        raise Failed(
            "state.clock",
            f'the clock is wrong: it says {now:%Y-%m-%d %H:%M}, but the CRL of "{name}" was made '
            f"{made}",
            expected=f"{made} or later",
            found=f"{now:%Y-%m-%d %H:%M}",
        )
    # The number is the time, so that a PKI restored from an old copy soon passes the last one.
    number = max(least, int(now.timestamp()), *map(next_number, before))
    return make_crl(name, issuer, number, entries.values(), now)


def make_crl(
    name: str,
    issuer: Authority,
    number: int,
    entries: Iterable[x509.RevokedCertificate],
    now: datetime,
) -> bytes:
    """Make a CRL for all certificates of a CA, expired ones included, in PEM.

    Args:
        name: the CA's name in the directory; a root's CRL lasts longer.
        issuer: the CA.
        number: cRLNumber, higher than that of every CRL before.
        entries: the entries of all revoked certificates.
        now: thisUpdate, from `profiles.utc`.

    Source: RFC 5280 s.5; expiredCertsOnCRL: ITU-T X.509.
    """
    lifetime = ROOT_LIFETIME if is_root(name) else ISSUING_LIFETIME
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(authority_key(issuer), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_expired_since(issuer.certificate.not_valid_before_utc), critical=False)
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    made = builder.sign(issuer.key, signature_hash(issuer.key))
    refuse_wrong_signature(made.public_bytes(Encoding.DER), issuer.key, crl=True)
    return made.public_bytes(Encoding.PEM)


def revoked_entry(
    serial: int, reason: str, now: datetime, invalid_since: datetime | None = None
) -> x509.RevokedCertificate:
    """Make a certificate's entry for a CRL.

    Args:
        serial: the certificate's serial number.
        reason: a name from RFC 5280 s.5.3.1, which says to leave out "unspecified".
        now: the date of the revocation, from `profiles.utc`.
        invalid_since: the time from which on the key was or may have been misused (s.5.3.2).
    """
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
    flag = x509.ReasonFlags(reason)
    if flag is not x509.ReasonFlags.unspecified:
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    if invalid_since is not None:
        since = x509.InvalidityDate(invalid_since.replace(tzinfo=None))  # both are in UTC
        builder = builder.add_extension(since, critical=False)
    return builder.build()


def has_leaked(entry: x509.RevokedCertificate) -> bool:
    """Tell whether a certificate was revoked because somebody else has its key.

    Raises:
        ValueError, TypeError and others in `fwsign.x509.certificate.PARSE_ERRORS`.
    """
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason in _LEAKED
    except x509.ExtensionNotFound:
        return False


def number_of(crl: x509.CertificateRevocationList) -> int | None:
    """Return the cRLNumber, or None: easy-rsa and older openssl configurations write none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


class Ranked(NamedTuple):
    """A CRL with the fields that `fwsign.x509.crl.newest` compares."""

    crl: x509.CertificateRevocationList

    @property
    def number(self) -> int | None:
        """Its number, if it has one."""
        return number_of(self.crl)

    @property
    def this_update(self) -> datetime:
        """The time when it was made."""
        return self.crl.last_update_utc


def next_number(crl: x509.CertificateRevocationList | None) -> int:
    """Return a number higher than that of every CRL up to this one."""
    return ((number_of(crl) if crl is not None else None) or 0) + 1


def write_crls(pki: Pki, signed: Mapping[str, bytes]) -> None:
    """Write CRLs of CAs, by name, and the bundle of all; the caller holds the lock.

    If a process is killed before it writes the bundle, the next writer of a CRL makes it.
    """
    for name, pem in signed.items():
        write_crl(pki, name, pem)
    write_bundle(pki)


def write_crl(pki: Places, name: str, pem: bytes, issuer: x509.Certificate | None = None) -> None:
    """Log and write a CA's CRL without the bundle; the caller holds the lock.

    Args:
        pki: the PKI.
        name: the CA's name.
        pem: its new CRL.
        issuer: its certificate, where it is not written yet.
    """
    crl = x509.load_pem_x509_crl(pem)
    log_crl(pki.directory, name, crl, number_of(crl), issuer)
    if pki.flat:
        _write_number(pki, next_number(crl))
    write_atomic(pki.crl_path(name), pem, overwrite=True)


def write_bundle(pki: Pki) -> None:
    """Write the CRLs of all CAs into one file; a root-only PKI may lack those of other CAs.

    The bundle's own copy of a lost CRL stays in it. A flat PKI has one CRL, and no bundle.
    """
    if pki.flat:
        return
    found = (last_crl(pki, name) for name in pki.authorities())
    bundle = b"".join(crl.public_bytes(Encoding.PEM) for crl in found if crl is not None)
    write_atomic(pki.directory / BUNDLE, bundle, overwrite=True)


def last_crl(pki: Pki, name: str) -> x509.CertificateRevocationList | None:
    """Return the last CRL of a CA: that of its file, or the bundle's copy if the file is lost.

    Raises:
        Failed: as `Pki.crl`, but not for a missing file.
    """
    if os.path.lexists(pki.crl_path(name)):
        return pki.crl(name)
    copies = signed_by(pki.certificate(name), _bundled(pki))
    return copies[0] if copies else None


def signed_by(
    issuer: x509.Certificate, crls: Iterable[x509.CertificateRevocationList]
) -> tuple[x509.CertificateRevocationList, ...]:
    """Return the CRLs that a CA has signed."""
    return tuple(crl for crl in crls if crl.issuer == issuer.subject and crl_is_signed(crl, issuer))


def _bundled(pki: Pki) -> list[x509.CertificateRevocationList]:
    """Return the CRLs in the bundle; none of a bundle that is missing or cannot be read."""
    found = []
    with contextlib.suppress(Failed):
        for block in blocks(read_bytes(pki.directory / BUNDLE, _BUNDLE_LIMIT), BUNDLE):
            with contextlib.suppress(*PARSE_ERRORS):
                found.append(x509.load_der_x509_crl(block.content))
    return found


def least_number(pki: Pki) -> int:
    """Return the lowest number that the next CRL may have, as noted for easy-rsa; else 0."""
    try:
        text = read_bytes(pki.directory / CRL_NUMBER, _NUMBER_LIMIT) if pki.flat else b"0"
        return int(text, 16)
    except (Failed, ValueError):
        return 0


def _write_number(pki: Places, number: int) -> None:
    """Write the number for easy-rsa's next CRL, before the CRL with the number below is in use."""
    path = pki.directory / CRL_NUMBER
    write_atomic(path, f"{serial_text(number)}\n".encode(), overwrite=True)


def _expired_since(begin: datetime) -> x509.UnrecognizedExtension:
    time = begin.strftime("%Y%m%d%H%M%SZ").encode()  # GeneralizedTime, RFC 5280 s.4.1.2.5.2
    return x509.UnrecognizedExtension(EXPIRED_CERTS_ON_CRL, bytes((0x18, len(time))) + time)
