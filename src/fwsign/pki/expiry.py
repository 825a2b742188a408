# SPDX-License-Identifier: Apache-2.0
"""Find the certificates and CRLs of a PKI that end soon."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.pki import profiles
from fwsign.pki.certificates import issuer_among
from fwsign.pki.directory import Pki
from fwsign.pki.paths.end import REVOKED, TLS, PathEnd, PathLink, path_ends
from fwsign.pki.validity import spare_roots
from fwsign.pki.view.entry import purposes_of, use_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

_CROSSED: Final = "-by-"
"""In the name of a root as certified by another, such as `standby-by-ca`: it ends with that."""
CRL_SHARE: Final = 3
"""A CRL ends soon in the last third of its time: CRLs are renewed often by design."""


class Ending(NamedTuple):
    """A certificate or CRL that ends soon, or has ended."""

    end: datetime
    """Its own end, or that of its path if it is sooner."""
    kind: str
    name: str
    path: Path
    below: str | None = None
    """The CA that ends it before its own time."""
    revoked: bool = False
    """Whether that CA was revoked, at `end`."""


class Dead(NamedTuple):
    """A CA that was revoked or has expired, at a time, and with it all that is below."""

    name: str
    time: datetime
    revoked: bool


def ending(
    pki_dir: str | os.PathLike[str], within: timedelta, *, now: datetime
) -> tuple[Ending, ...]:
    """Return the certificates and CRLs that end soon, in the order of their ends.

    What is below a revoked CA has ended, however long it says it lasts. Nothing needs to be done
    about a revoked certificate, an expired one below a revoked CA, a replaced CA that nothing in
    use needs, the CRL of a dead CA, that of a standby root, which is not in use yet, or that of a
    replaced CA whose key is not here, such as a lost root.

    A certificate without an end date ends with its CA, which counts instead: to renew that is all
    that needs to be done. A short-lived certificate counts in the last third of its time, and after
    its end as long as such ones live: later it was given up.

    Args:
        pki_dir: the PKI.
        within: the span from `now`. A CRL counts only in the last third of its time.
        now: an aware time.

    Raises:
        Failed: `state.pki`, `state.clock`, `io.*`.
    """
    now = profiles.utc(now)
    if within < timedelta(0):
        raise Failed("state.clock", f"{within.days} days from now is in the past")
    pki = Pki(pki_dir)
    links = _links(pki, _all(pki))
    needed = _needed(pki, links, now)
    replaced = {*pki.authorities()} - needed - {*spare_roots(pki)}
    ends = path_ends(links)
    found = (
        _certificate(pki, name, end, within, now)
        for name, end in ends.items()
        if _CROSSED not in name and name not in replaced
    )
    return tuple(sorted([*filter(None, found), *_crls(pki, ends, needed, now, within)]))


def dead_above(pki: Pki, certificate: x509.Certificate, now: datetime) -> Dead | None:
    """Return the dead CA above a certificate, also a renewed one; raise like `Pki.path`."""
    end = path_ends(_links(pki, {"": certificate}))[""]
    if end.cause is None or end.time >= now:
        return None
    return Dead(end.cause, _time_of(pki, end), end.time == REVOKED)


def stale_crls(
    pki_dir: str | os.PathLike[str], *, now: datetime
) -> tuple[tuple[str, datetime], ...]:
    """Return the CAs whose CRL here is past its next update, and that time.

    A dead CA and a standby root need none.

    Raises:
        Failed: as `ending`.
    """
    now, pki = profiles.utc(now), Pki(pki_dir)
    links = _links(pki, _all(pki))
    found = _crls(pki, path_ends(links), _needed(pki, links, now), now, None)
    return tuple((one.name, one.end) for one in found)


def _crls(
    pki: Pki,
    ends: Mapping[str, PathEnd[str]],
    needed: frozenset[str],
    now: datetime,
    within: timedelta | None,
) -> list[Ending]:
    """Return the CRLs that end soon; with None, only those that have ended."""
    spare, found = spare_roots(pki), []
    for name in pki.authorities():
        path = pki.crl_path(name)
        elsewhere = not os.path.lexists(path)  # as is that CA's key
        if elsewhere or name in spare or ends[name].time < now:
            continue
        if name not in needed and not pki.has_key(name):
            continue
        crl = pki.crl(name)
        end = crl.next_update_utc or crl.last_update_utc
        third = (end - crl.last_update_utc) / CRL_SHARE
        if end < now or (within is not None and end - now <= min(within, third)):
            found.append(Ending(end, "CRL", name, path))
    return found


def _certificate(
    pki: Pki, name: str, end: PathEnd[str], within: timedelta, now: datetime
) -> Ending | None:
    certificate, path = pki.certificate(name), pki.certificate_path(name)
    own = certificate.not_valid_after_utc
    if own == profiles.NO_END and end.time != REVOKED:
        return None
    third = profiles.short_third(certificate.not_valid_before_utc, own)
    if third is not None and end.time != REVOKED:
        if now - own > profiles.SHORT_LIVED:
            return None
        within = min(within, third)
    if end.cause is None:
        ended = end.time == REVOKED
        return None if ended or own - now > within else Ending(own, "certificate", name, path)
    revoked = end.time == REVOKED
    time = min(own, _time_of(pki, end))
    if (revoked and own < now) or time - now > within:
        return None
    return Ending(time, "certificate", name, path, end.cause, revoked)


def _needed(pki: Pki, links: Mapping[str, PathLink[str]], now: datetime) -> frozenset[str]:
    """Return the CAs above the leaves in use and above the CA that issues now, itself included."""
    authorities = pki.authorities()
    if not pki.in_use():
        return frozenset(authorities)
    found: set[str] = set()
    ahead = [
        *pki.in_use(),
        *(
            name
            for name, link in links.items()
            if name not in authorities
            and _CROSSED not in name
            and link.end > now
            and not link.revoked
        ),
    ]
    while ahead:
        name = ahead.pop()
        above = {*links[name].issuers}
        for one, link in links.items():  # the older roots that lead to this one
            if one.startswith(f"{name}{_CROSSED}") and link.end > now and not link.revoked:
                above |= {*link.issuers}
        found |= {name} & {*authorities}
        ahead += above - found
        found |= above
    return frozenset(found)


def _all(pki: Pki) -> dict[str, x509.Certificate]:
    return {name: pki.certificate(name) for name in (*pki.roots(), *pki.names())}


def _links(pki: Pki, more: Mapping[str, x509.Certificate]) -> dict[str, PathLink[str]]:
    """Return all CAs and more certificates, each with the CA above it."""
    authorities = {name: pki.certificate(name) for name in pki.authorities()}
    revoked = {name: _revoked_by(pki, name) for name in authorities}
    links = {}
    for name, one in {**authorities, **more}.items():
        issuer = issuer_among(one, authorities.items())
        above = () if issuer is None else (issuer,)  # it may be elsewhere
        is_revoked = any(one.serial_number in revoked[ca] for ca in above)
        tls = use_of(purposes_of(one)) in TLS
        links[name] = PathLink(above, one.not_valid_after_utc, is_revoked, tls)
    return links


def _revoked_by(pki: Pki, ca: str) -> frozenset[int]:
    """Return the serial numbers that a CA has revoked, as far as known here."""
    here = pki.crl(ca) if os.path.lexists(pki.crl_path(ca)) else ()
    return frozenset(entry.serial_number for entry in (*here, *pki.noted()))


def _time_of(pki: Pki, end: PathEnd[str]) -> datetime:
    entry = pki.revocation(end.cause) if end.cause and end.time == REVOKED else None
    return entry.revocation_date_utc if entry else end.time
