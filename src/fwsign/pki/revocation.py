# SPDX-License-Identifier: Apache-2.0
"""Revoke certificates of a PKI directory, and renew its CRLs."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.pki import crls, profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.directory import INDEX, ISSUING, Pki, is_root
from fwsign.pki.index import revoke_line
from fwsign.pki.lock import exclusive
from fwsign.pki.term import refuse_early

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from fwsign.keys import Passphrase
    from fwsign.pki.profiles import Authority

REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
"""Reasons for revocation (RFC 5280 s.5.3.1). A revocation here is final, so certificateHold and
removeFromCRL are missing."""


def revoke(
    pki_dir: str | os.PathLike[str],
    name: str,
    *,
    reason: str,
    ca_passphrase: Passphrase,
    now: datetime,
    invalid_since: datetime | None = None,
) -> Path:
    """Put a certificate on the CRL of its issuer for good; return the path of that CRL.

    Args:
        pki_dir: the PKI.
        name: an entry's name, or a certificate's serial number in hexadecimal, which also finds
            renewed certificates. The root revokes `issuing`.
        reason: one of `REASONS`.
        ca_passphrase: called if the key of the issuer is encrypted.
        now: an aware time, the revocation date.
        invalid_since: an aware time, at `now` or before, from which on the key may have been
            misused (RFC 5280 s.5.3.2).

    Raises:
        Failed: `state.pki-exists`: revoked already; `state.pki`: no such certificate;
            `state.policy`: no such reason; `state.clock`, `key.*`, `io.*`.
    """
    if reason not in REASONS:
        expected = ", ".join(REASONS)
        raise Failed(
            "state.policy",
            f'"{reason}" is not a reason to revoke, there are: {expected}',
            expected=expected,
            found=reason,
        )
    now = profiles.utc(now)
    since = _not_later(invalid_since, now)
    pki = Pki(pki_dir)
    certificate = _find(pki, name)
    ca = pki.issuer_of(certificate)
    _refuse_revoked(pki, name, ca, certificate)
    issuer = open_authority(pki, ca, ca_passphrase)
    entry = crls.revoked_entry(certificate.serial_number, reason, now, since)
    with exclusive(pki.directory):
        _refuse_revoked(pki, name, ca, certificate)
        if pki.flat:  # before the CRL, so that easy-rsa never makes a CRL without it
            entry = revoke_line(pki.directory / INDEX, certificate, entry)
        crls.write_crls(pki, {ca: _next_crl(pki, ca, issuer, now, (entry,))})
    return pki.crl_path(ca)


def issuer_name(pki_dir: str | os.PathLike[str], name: str) -> str:
    """Return the name of the CA whose key revokes a certificate; raise like `revoke`."""
    pki = Pki(pki_dir)
    return pki.issuer_of(_find(pki, name))


def renew_crls(
    pki_dir: str | os.PathLike[str],
    passphrase: Callable[[str], bytes | None],
    *,
    now: datetime,
    names: Sequence[str] | None = None,
) -> tuple[Path, ...]:
    """Issue the CRLs of the CAs anew, with all their entries; return their paths.

    All keys are opened and all CRLs are signed before the first is written. The CRLs of all CAs,
    also unchanged ones, go into `crl/bundle.pem`, too.

    Args:
        pki_dir: the PKI.
        passphrase: called with the name of a CA if its key is encrypted.
        now: an aware time, thisUpdate.
        names: the CAs' names, without those whose key is elsewhere; None: all.

    Raises:
        Failed: `state.pki`, `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    authorities = pki.authorities()
    names = authorities if names is None else names
    if unknown := [name for name in names if name not in authorities]:
        raise Failed(
            "state.pki",
            f'"{unknown[0]}" is not a CA of {pki.directory}, there are: {", ".join(authorities)}',
            expected=" or ".join(authorities),
            found=unknown[0],
        )
    issuers = {
        name: open_authority(pki, name, functools.partial(passphrase, name)) for name in names
    }
    with exclusive(pki.directory):
        signed = {name: _next_crl(pki, name, issuer, now) for name, issuer in issuers.items()}
        crls.write_crls(pki, signed)
    return tuple(map(pki.crl_path, signed))


def _find(pki: Pki, name: str) -> x509.Certificate:
    certificate = None if name in pki.names() else pki.by_serial(name)
    if is_root(name) or (certificate and certificate.issuer == certificate.subject):
        raise Failed(
            "state.pki",
            "the root cannot be revoked: devices trust it until they are given another",
            expected="a certificate that a CA here has issued",
            found=name,
        )
    return certificate or pki.certificate(name)


def _not_later(since: datetime | None, now: datetime) -> datetime | None:
    if since is None:
        return None
    since = profiles.utc(since)
    if since > now:
        raise Failed(
            "state.clock",
            f"the key would be invalid since {since.isoformat()}, it is {now.isoformat()}",
            expected=f"{now.isoformat()} or earlier",
            found=since.isoformat(),
        )
    return since


def _refuse_revoked(pki: Pki, name: str, ca: str, certificate: x509.Certificate) -> None:
    # Revocations that only index.txt has are not on the CRL yet: add them now.
    entry = pki.crl(ca).get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is not None:
        raise Failed(
            "state.pki-exists",
            f'certificate "{name}" was revoked {entry.revocation_date_utc:%Y-%m-%d} already',
            expected="a certificate that is not revoked",
            found=f"revoked {entry.revocation_date_utc:%Y-%m-%d}",
        )


def _next_crl(
    pki: Pki,
    name: str,
    issuer: Authority,
    now: datetime,
    more: Sequence[x509.RevokedCertificate] = (),
) -> bytes:
    """Return a CA's next CRL with more entries, in PEM; the caller holds the lock."""
    refuse_early(issuer.certificate, now)
    if not pki.flat:
        return crls.next_crl(pki.crl(name), name, issuer, more, now)
    before = pki.crl(name) if os.path.lexists(pki.crl_path(name)) else None
    known = {entry.serial_number for entry in (*(before or ()), *more)}
    noted = [entry for entry in pki.noted() if entry.serial_number not in known]
    # This root's key is not offline, so its CRL ends as soon as an issuing CA's.
    return crls.next_crl(before, ISSUING, issuer, (*more, *noted), now)
