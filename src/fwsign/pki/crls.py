# SPDX-License-Identifier: Apache-2.0
"""The CRLs that fwsign makes (RFC 5280 s.5): one for each CA, and all of them in one file."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.atomic import write_atomic
from fwsign.errors import Failed
from fwsign.pki.directory import BUNDLE, is_root
from fwsign.pki.index import serial_text
from fwsign.pki.profiles import authority_key, signature_hash
from fwsign.spans import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fwsign.pki.directory import Pki
    from fwsign.pki.profiles import Authority

ROOT_LIFETIME: Final = timedelta(days=400)  # its key is offline: once a year, a month to do it
ISSUING_LIFETIME: Final = timedelta(days=90)

CRL_NUMBER: Final = "crlnumber"

# ITU-T X.509: entries stay on the CRL when their certificate has expired.
EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")


def first_crl(name: str, issuer: Authority, now: datetime) -> bytes:
    """Make the CRL of a new CA, with nothing on it, in PEM."""
    return make_crl(name, issuer, int(now.timestamp()), (), now)


def next_crl(
    before: x509.CertificateRevocationList | None,
    name: str,
    issuer: Authority,
    more: Iterable[x509.RevokedCertificate],
    now: datetime,
) -> bytes:
    """Make the CRL of a CA anew with all that was on it, and more, in PEM.

    Raises:
        Failed: `state.clock`: the clock is behind the CRL before.
    """
    if before is not None and before.last_update_utc > now + CLOCK_TOLERANCE:
        made = f"{before.last_update_utc:%Y-%m-%d %H:%M}"
        raise Failed(
            "state.clock",
            f'the clock is wrong: it says {now:%Y-%m-%d %H:%M}, but the CRL of "{name}" was made '
            f"{made}",
            expected=f"{made} or later",
            found=f"{now:%Y-%m-%d %H:%M}",
        )
    # The time, so that a PKI restored from an old copy soon passes what devices have seen.
    number = max(next_number(before), int(now.timestamp()))
    return make_crl(name, issuer, number, (*(before or ()), *more), now)


def make_crl(
    name: str,
    issuer: Authority,
    number: int,
    entries: Iterable[x509.RevokedCertificate],
    now: datetime,
) -> bytes:
    """Make a CRL of everything that a CA has issued, expired certificates included, in PEM.

    Args:
        name: of the CA in the directory; a root's CRL lasts longer.
        issuer: the CA.
        number: cRLNumber, higher than that of every CRL before.
        entries: all certificates that are revoked.
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
    return builder.sign(issuer.key, signature_hash(issuer.key)).public_bytes(Encoding.PEM)


def revoked_entry(
    serial: int, reason: str, now: datetime, invalid_since: datetime | None = None
) -> x509.RevokedCertificate:
    """Make the entry of a CRL for one certificate.

    Args:
        serial: the certificate's serial number.
        reason: a name of RFC 5280 s.5.3.1; "unspecified" is written as no reason, as it says.
        now: the date of the revocation, from `profiles.utc`.
        invalid_since: when the key is known to have been misused, or may have been (s.5.3.2).
    """
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
    flag = x509.ReasonFlags(reason)
    if flag is not x509.ReasonFlags.unspecified:
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    if invalid_since is not None:
        since = x509.InvalidityDate(invalid_since.replace(tzinfo=None))  # in UTC, as it is here
        builder = builder.add_extension(since, critical=False)
    return builder.build()


def number_of(crl: x509.CertificateRevocationList) -> int | None:
    """Return the cRLNumber, or None: easy-rsa and older openssl configurations write none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


class Ranked(NamedTuple):
    """A CRL with what `fwsign.crl.newest` goes by."""

    crl: x509.CertificateRevocationList

    @property
    def number(self) -> int | None:
        """Its number, if it has one."""
        return number_of(self.crl)

    @property
    def this_update(self) -> datetime:
        """When it was made."""
        return self.crl.last_update_utc


def next_number(crl: x509.CertificateRevocationList | None) -> int:
    """Return a number that no CRL until this one has had."""
    return ((number_of(crl) if crl is not None else None) or 0) + 1


def write_crls(pki: Pki, signed: Mapping[str, bytes]) -> None:
    """Write CRLs of CAs, by name, and the bundle of all; the caller holds the lock.

    Where a process is killed before the bundle, the next that writes a CRL makes it again.
    """
    for name, pem in signed.items():
        if pki.flat:
            _write_number(pki, next_number(x509.load_pem_x509_crl(pem)))
        write_atomic(pki.crl_path(name), pem, overwrite=True)
    write_bundle(pki)


def write_bundle(pki: Pki) -> None:
    """Write the CRLs of all CAs into one file; beside a root's key, others may be elsewhere.

    A flat PKI has one CRL, and no bundle.
    """
    if pki.flat:
        return
    here = [name for name in pki.authorities() if os.path.lexists(pki.crl_path(name))]
    bundle = b"".join(pki.crl(name).public_bytes(Encoding.PEM) for name in here)
    write_atomic(pki.directory / BUNDLE, bundle, overwrite=True)


def _write_number(pki: Pki, number: int) -> None:
    """Say which number easy-rsa's next CRL shall have, before the one below it is in use."""
    path = pki.directory / CRL_NUMBER
    write_atomic(path, f"{serial_text(number)}\n".encode(), overwrite=True)


def _expired_since(begin: datetime) -> x509.UnrecognizedExtension:
    time = begin.strftime("%Y%m%d%H%M%SZ").encode()  # GeneralizedTime, RFC 5280 s.4.1.2.5.2
    return x509.UnrecognizedExtension(EXPIRED_CERTS_ON_CRL, bytes((0x18, len(time))) + time)
