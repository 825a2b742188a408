# SPDX-License-Identifier: Apache-2.0
"""Revoke certificates of a PKI directory, and renew its CRLs."""

from __future__ import annotations

import contextlib
import functools
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import exclusive
from fwsign.pki import crls, profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.directory import Pki
from fwsign.pki.entry_names import ISSUING, TLS, is_root
from fwsign.pki.index import revoke_line
from fwsign.pki.leaked import unrevoked
from fwsign.pki.leaves import leaf_of
from fwsign.pki.log import log_revocation
from fwsign.pki.places import BUNDLE, INDEX
from fwsign.pki.validity import refuse_early
from fwsign.x509.crl import newest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
        gone = [certificate, *_older(pki, name, ca, now)]
        noted = {entry.serial_number: entry for entry in pki.noted()}
        serials = [one.serial_number for one in gone]
        entries = [noted.get(one) or crls.revoked_entry(one, reason, now, since) for one in serials]
        signed = _next_crl(pki, ca, issuer, now, entries)
        for entry in entries:
            log_revocation(pki.directory, name, entry, reason, now)
        if pki.flat:  # before the CRL, so that easy-rsa never makes a CRL without it
            for one, entry in zip(gone, entries, strict=True):
                revoke_line(pki.directory / INDEX, one, entry)
        crls.write_crls(pki, {ca: signed})
    return pki.crl_path(ca)


def _older(pki: Pki, name: str, ca: str, now: datetime) -> list[x509.Certificate]:
    """Return an entry's older certificates, of the same key and CA, that need revocation too."""
    if name not in pki.names():
        return []
    certificate = pki.certificate(name)
    return [
        one
        for one, by in unrevoked(pki, certificate)
        if (by, one.subject) == (ca, certificate.subject) and not _is_over(one, now)
    ]


def _is_over(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether a certificate needs no revocation: TLS ends with it, a signature may not."""
    leaf = leaf_of(certificate)
    return leaf is not None and leaf.kind in TLS and certificate.not_valid_after_utc < now


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
    copies: Sequence[x509.CertificateRevocationList] = (),
    forget: Mapping[str, int] = MappingProxyType({}),
    failed: Callable[[str, Failed], None] | None = None,
) -> tuple[Path, ...]:
    """Issue the CRLs of the CAs anew, with all their entries; return their paths.

    All keys are opened and all CRLs are signed before the first is written. The CRLs of all CAs,
    also unchanged ones, go into `crl/bundle.pem`, too. A lost CRL comes back from there or from
    `copies`: that of a CA whose key is elsewhere as it was.

    Args:
        pki_dir: the PKI.
        passphrase: called with the name of a CA if its key is encrypted.
        now: an aware time, thisUpdate.
        names: the CAs' names, without those whose key is elsewhere; None: all.
        copies: earlier CRLs from elsewhere; what they revoke stays revoked, their numbers are
            passed, and those of other CAs are left out.
        forget: CAs whose CRL is lost for good, with the lowest number of a new one without the
            earlier entries.
        failed: called with a CA and the reason if its CRL cannot be made; the others do not wait
            for it. None: the first reason is raised, and nothing is written.

    Raises:
        Failed: `state.pki`, `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    names = _authorities(pki, (*(pki.authorities() if names is None else names), *forget))
    for name in forget:
        _refuse_unforgettable(pki, name, copies)
    issuers, signed = {}, {}
    for name in names:
        with _telling(name, failed):
            issuers[name] = open_authority(pki, name, functools.partial(passphrase, name))
    with exclusive(pki.directory):
        for name, issuer in issuers.items():
            with _telling(name, failed):
                signed[name] = _next_crl(
                    pki, name, issuer, now, copies=copies, forget=forget.get(name)
                )
        returned = _returned(pki, signed, copies)
        crls.write_crls(pki, {**returned, **signed})
    return tuple(map(pki.crl_path, (*returned, *signed)))


def _authorities(pki: Pki, names: Iterable[str]) -> tuple[str, ...]:
    """Return names of CAs, each once, after checking that they are some."""
    names, there = tuple(dict.fromkeys(names)), pki.authorities()
    if unknown := [name for name in names if name not in there]:
        raise Failed(
            "state.pki",
            f'"{unknown[0]}" is not a CA of {pki.directory}, there are: {", ".join(there)}',
            expected=" or ".join(there),
            found=unknown[0],
        )
    return names


@contextlib.contextmanager
def _telling(name: str, failed: Callable[[str, Failed], None] | None) -> Iterator[None]:
    """Tell why one CA failed, and go on with the next."""
    try:
        yield
    except Failed as error:
        if failed is None:
            raise
        failed(name, error)


def _returned(
    pki: Pki, signed: Collection[str], copies: Sequence[x509.CertificateRevocationList]
) -> dict[str, bytes]:
    """Return lost CRLs that were found again, and are not made anew."""
    found = {}
    for name in pki.authorities():
        if name in signed or os.path.lexists(pki.crl_path(name)):
            continue
        known = (crls.last_crl(pki, name), *crls.signed_by(pki.certificate(name), copies))
        if ranked := newest(crls.Ranked(crl) for crl in known if crl is not None):
            found[name] = ranked[0].crl.public_bytes(Encoding.PEM)
    return found


def _refuse_unforgettable(
    pki: Pki, name: str, copies: Sequence[x509.CertificateRevocationList]
) -> None:
    """Refuse to drop revocations that are known here."""
    known = crls.last_crl(pki, name)
    if pki.flat or known is not None or crls.signed_by(pki.certificate(name), copies):
        raise Failed(
            "state.pki",
            f'the revocations of the CA "{name}" are here: they are not forgotten',
            expected="a CA whose CRL is lost",
            found=pki.crl_path(name),
            hint="without --forget, fwsign pki crl makes a CRL that has them",
        )


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
    before = crls.last_crl(pki, ca)
    if before is None:
        raise _lost(pki, ca)
    entry = before.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is not None:
        raise Failed(
            "state.pki-exists",
            f'certificate "{name}" was revoked {entry.revocation_date_utc:%Y-%m-%d} already',
            expected="a certificate that is not revoked",
            found=f"revoked {entry.revocation_date_utc:%Y-%m-%d}",
        )


def _lost(pki: Pki, name: str) -> Failed:
    path = pki.crl_path(name)
    return Failed(
        "state.pki",
        f"{path} is missing, and there is no copy in {pki.directory / BUNDLE}",
        expected="a CRL",
        found="nothing",
        hint="fwsign pki crl --from FILE takes a copy, also from an envelope or a backup; if none "
        f"is left: fwsign pki crl --forget {name}",
    )


def _next_crl(
    pki: Pki,
    name: str,
    issuer: Authority,
    now: datetime,
    more: Sequence[x509.RevokedCertificate] = (),
    *,
    copies: Sequence[x509.CertificateRevocationList] = (),
    forget: int | None = None,
) -> bytes:
    """Return a CA's next CRL with more entries, in PEM; the caller holds the lock."""
    refuse_early(issuer.certificate, now)
    here = crls.last_crl(pki, name)
    known = (*([here] if here is not None else ()), *crls.signed_by(issuer.certificate, copies))
    if not pki.flat:
        if not known and forget is None:
            raise _lost(pki, name)
        return crls.next_crl(known, name, issuer, more, now, least=forget or 0)
    # This root's key is not offline, so its CRL ends as soon as an issuing CA's.
    least = crls.least_number(pki)
    return crls.next_crl(known, ISSUING, issuer, (*more, *pki.noted()), now, least=least)
