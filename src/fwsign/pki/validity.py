# SPDX-License-Identifier: Apache-2.0
"""How long certificates are valid. Before its own time and after it, a CA certifies nothing.

A CRL is another matter: one of a CA that has ended still counts for signatures that a time stamp
shows to be older.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwsign.errors import Failed
from fwsign.pki import profiles
from fwsign.pki.certificates import common_name
from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, ROOT, is_root, line_of, request_path
from fwsign.pki.leaves import ENDLESS, KINDS, Leaf

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from cryptography import x509

    from fwsign.pki.directory import Pki


def refuse_early(issuer: x509.Certificate, now: datetime) -> None:
    """Refuse to sign before the CA's own notBefore: the clock is then wrong.

    Raises:
        Failed: `state.clock`.
    """
    begin = issuer.not_valid_before_utc
    if now < begin:
        raise Failed(
            "state.clock",
            f'it is {now:%Y-%m-%d}, but the CA "{common_name(issuer)}" begins {begin:%Y-%m-%d}',
            expected=f"{begin:%Y-%m-%d} or later",
            found=f"{now:%Y-%m-%d}",
        )


def refuse_ended(issuer: x509.Certificate, now: datetime, hint: str | None = None) -> None:
    """Refuse to certify outside the CA's term.

    Raises:
        Failed: `state.clock` before it; `state.pki` after it.
    """
    refuse_early(issuer, now)
    end = issuer.not_valid_after_utc
    if has_ended(issuer, now):
        fault = f"expired {end:%Y-%m-%d}, it is {now:%Y-%m-%d}"
        raise Failed(
            "state.pki",
            f'the CA "{common_name(issuer)}" {fault}',
            expected="a CA that may issue",
            found=fault,
            hint=hint,
        )


def has_ended(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether the last moment of a certificate has come."""
    return now >= certificate.not_valid_after_utc


def refuse_ended_ca(pki: Pki, name: str, now: datetime) -> None:
    """Refuse a CA of a PKI outside its term, with the way out; raise like `refuse_ended`."""
    refuse_ended(pki.certificate(name), now, _way_out(pki, name, now))


def period_of(
    leaf: Leaf, issuer: x509.Certificate, lifetime: timedelta | None, now: datetime
) -> tuple[datetime, datetime]:
    """Return notBefore and notAfter of a new certificate; raise like `last_day`."""
    usual = KINDS[leaf.kind].lifetime
    if lifetime is not None:
        end = last_day(f'{leaf.kind} "{leaf.name}"', issuer, lifetime, now)
    elif usual == ENDLESS:
        end = profiles.NO_END
    else:
        end = min(now + usual, issuer.not_valid_after_utc)
    return profiles.begin(issuer, now), end


def last_day(what: str, issuer: x509.Certificate, lifetime: timedelta, now: datetime) -> datetime:
    """Return the notAfter for a requested lifetime.

    Raises:
        Failed: `state.clock`: it would be over; `state.pki`: the issuer ends earlier.
    """
    if lifetime.total_seconds() < 1:
        raise Failed(
            "state.clock",
            f"{what} would be valid for {lifetime.total_seconds():g} s",
            expected="a second or more",
            found=f"{lifetime.total_seconds():g} s",
        )
    last = issuer.not_valid_after_utc
    if lifetime <= last - now:
        return (now + lifetime).replace(microsecond=0)
    try:
        end = f"{now + lifetime:%Y-%m-%d}"
    except OverflowError:
        end = "after 9999"
    raise Failed(
        "state.pki",
        f"{what} would be valid until {end}, "
        f'but its issuer "{common_name(issuer)}" only until {last:%Y-%m-%d}',
        expected=f"{last:%Y-%m-%d} or earlier",
        found=end,
        hint="give an earlier end with --for, or leave it out",
    )


def spare_roots(pki: Pki) -> tuple[str, ...]:
    """Return the standbys: roots that no signer is below yet, and are not the first."""
    line = pki.issuers_in_line(ISSUING) or pki.issuers_in_line()
    used = {pki.issuer_of(pki.certificate(name)) for name in line}
    return tuple(name for name in pki.roots()[1:] if name not in used)


def fresh_spares(pki: Pki, now: datetime) -> tuple[str, ...]:
    """Return the standbys that have not ended themselves."""
    return tuple(name for name in spare_roots(pki) if not has_ended(pki.certificate(name), now))


def _way_out(pki: Pki, name: str, now: datetime) -> str:
    """Return the command that helps when a CA has ended."""
    if pki.flat:
        return "fwsign pki init makes another PKI; devices must be given its root"
    root = name if is_root(name) else pki.issuer_of(pki.certificate(name))
    if has_ended(pki.certificate(root), now):
        if fresh_spares(pki, now):
            return "fwsign pki rotate goes over to the standby root"
        issues = any(map(pki.has_key, pki.in_use()))
        where = "" if issues else " where the issuing CA is, with that root's key"
        way = "fwsign pki standby makes another root: give it to devices, then fwsign pki rotate"
        return f"{way}{where}"
    request = request_path(pki.directory, name)
    if root == ROOT and not pki.has_key(root) and request.exists():
        tls = " --tls" if line_of(name) == ISSUING_TLS else ""
        return (
            f"where the root is: fwsign pki sign-ca {request.name}{tls}; then here: "
            f"fwsign pki accept {pki.directory} FILE"
        )
    return f"fwsign pki renew {name}, with the root's key"
