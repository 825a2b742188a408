# SPDX-License-Identifier: Apache-2.0
"""Revoking what a PKI directory has issued, and renewing its CRLs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.atomic import write_atomic
from fwsign.errors import Failed
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority, refuse_early
from fwsign.pki.directory import AUTHORITIES, ROOT, Pki
from fwsign.pki.lock import exclusive

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

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
"""Why a certificate can be revoked (RFC 5280 s.5.3.1). Nothing here can be taken back, so there
is no certificateHold and no removeFromCRL."""


def revoke(
    pki_dir: str | os.PathLike[str],
    name: str,
    *,
    reason: str,
    ca_passphrase: Passphrase,
    now: datetime,
) -> Path:
    """Put a certificate on the CRL of its issuer for good; return the path of that CRL.

    Args:
        pki_dir: the PKI.
        name: of a signer, or `issuing`, which the root revokes.
        reason: one of `REASONS`.
        ca_passphrase: asked for when the key of the issuer is encrypted.
        now: an aware time, the revocation date.

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
    if name == ROOT:
        raise Failed(
            "state.pki",
            "the root cannot be revoked: devices trust it until they are given another",
            expected="a signer or the issuing CA",
            found=name,
        )
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    certificate = pki.certificate(name)
    ca = pki.issuer_of(certificate)
    _refuse_revoked(pki, name)
    issuer = open_authority(pki, ca, ca_passphrase)
    entry = profiles.revoked_entry(certificate.serial_number, reason, now)
    with exclusive(pki.directory):
        _refuse_revoked(pki, name)
        pem = _next_crl(pki, ca, issuer, now, (entry,))
        write_atomic(pki.crl_path(ca), pem, overwrite=True)
    return pki.crl_path(ca)


def renew_crls(
    pki_dir: str | os.PathLike[str],
    passphrase: Callable[[str], bytes | None],
    *,
    now: datetime,
    names: Sequence[str] = AUTHORITIES,
) -> tuple[Path, ...]:
    """Issue the CRLs of the CAs anew, with all that was on them; return their paths.

    All keys are opened and all CRLs signed before the first is written.

    Args:
        pki_dir: the PKI.
        passphrase: asked with the name of a CA when the key of that is encrypted.
        now: an aware time, thisUpdate.
        names: of the CAs; without the root where its key is offline.

    Raises:
        Failed: `state.pki`, `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    if unknown := [name for name in names if name not in AUTHORITIES]:
        raise Failed(
            "state.pki",
            f'"{unknown[0]}" is not a CA of {pki.directory}, there are: {", ".join(AUTHORITIES)}',
            expected=" or ".join(AUTHORITIES),
            found=unknown[0],
        )
    issuers = {
        name: open_authority(pki, name, functools.partial(passphrase, name)) for name in names
    }
    with exclusive(pki.directory):
        signed = {name: _next_crl(pki, name, issuer, now) for name, issuer in issuers.items()}
        for name, pem in signed.items():
            write_atomic(pki.crl_path(name), pem, overwrite=True)
    return tuple(map(pki.crl_path, signed))


def _refuse_revoked(pki: Pki, name: str) -> None:
    entry = pki.revocation(name)
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
    """Return the CRL of a CA anew with more entries, in PEM; the caller holds the lock."""
    refuse_early(issuer.certificate, now)
    before = pki.crl(name)
    try:
        number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0  # as easy-rsa and older openssl configurations write them
    # The time, so that a PKI restored from an old copy soon passes what devices have seen.
    number = max(number + 1, int(now.timestamp()))
    entries = (*before, *more)
    crl = profiles.revocation_list(issuer, number, profiles.CRL_LIFETIMES[name], entries, now)
    return crl.public_bytes(Encoding.PEM)
