# SPDX-License-Identifier: Apache-2.0
"""Revoke certificates of a PKI directory, and renew its CRLs."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, Final

from cryptography import x509

from fwsign.certificate import key_digest
from fwsign.errors import Failed
from fwsign.pki import crls, profiles
from fwsign.pki.authority import open_authority, refuse_early
from fwsign.pki.directory import INDEX, ISSUING, TLS, Pki, is_root
from fwsign.pki.index import revoke_line
from fwsign.pki.leaves import leaf_of
from fwsign.pki.lock import exclusive
from fwsign.pki.log import log_revocation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime
    from pathlib import Path

    from fwsign.keys import Passphrase, PublicKey
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
_LEAKED: Final = frozenset(
    {
        x509.ReasonFlags.key_compromise,
        x509.ReasonFlags.ca_compromise,
        x509.ReasonFlags.aa_compromise,
    }
)


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

    An entry was perhaps renewed with its key: its older certificates are revoked with it, as far
    as that CA has issued them. Otherwise whoever has the key would use one of those.

    Args:
        pki_dir: the PKI.
        name: an entry's name; or a certificate's serial number in hexadecimal, which also finds
            renewed certificates, for that one alone. The root revokes `issuing`.
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
    with exclusive(pki.directory):
        _refuse_revoked(pki, name, ca, certificate)
        gone, entries = [certificate], []
        if name in pki.names():
            for one, by in unrevoked(pki, certificate):
                if (by, one.subject) == (ca, certificate.subject) and not _is_over(one, now):
                    gone.append(one)
        for one in gone:
            entry = crls.revoked_entry(one.serial_number, reason, now, since)
            if pki.flat:  # before the CRL, so that easy-rsa never makes a CRL without it
                entry = revoke_line(pki.directory / INDEX, one, entry)
            entries.append(entry)
        signed = {ca: _next_crl(pki, ca, issuer, now, entries)}
        for entry in entries:
            log_revocation(pki.directory, name, entry, reason, now)
        crls.write_crls(pki, signed)
    return pki.crl_path(ca)


def _is_over(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether a certificate needs no revocation: TLS ends with it, a signature may not."""
    leaf = leaf_of(certificate)
    return leaf is not None and leaf.kind in TLS and certificate.not_valid_after_utc < now


def unrevoked(pki: Pki, certificate: x509.Certificate) -> tuple[tuple[x509.Certificate, str], ...]:
    """Return the other certificates of a certificate's key that no CRL has, and their issuers."""
    found = {}
    key = certificate.public_key()
    for one in (one for one in pki.held() if one.public_key() == key):
        with contextlib.suppress(Failed):  # another PKI's, or its CRL is elsewhere
            if one != certificate and pki.revocation_of(one) is None:
                found[one.serial_number] = (one, pki.issuer_of(one))
    return tuple(found.values())


def leaked_keys(pki: Pki) -> frozenset[str]:
    """Return the keys whose certificates were revoked because they leaked, by `key_digest`."""
    entries = list(pki.noted())
    for ca in pki.authorities():
        with contextlib.suppress(Failed):  # it may be elsewhere
            entries += pki.crl(ca)
    serials = {entry.serial_number for entry in entries if _reason(entry) in _LEAKED}
    if not serials:
        return frozenset()
    return frozenset(
        key_digest(one.public_key()) for one in pki.held() if one.serial_number in serials
    )


def refuse_leaked(key: PublicKey, what: str, leaked: Collection[str]) -> None:
    """Refuse to certify a key that leaked, also under another name.

    Args:
        key: the key.
        what: its holder, for the refusal.
        leaked: from `leaked_keys`.

    Raises:
        Failed: `state.pki`.
    """
    if key_digest(key) in leaked:
        raise Failed(
            "state.pki",
            f"the key of {what} leaked: a certificate of it was revoked for that reason",
            expected="a new key",
            found="a key that leaked",
            hint="make another key: fwsign key new",
        )


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return None


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
