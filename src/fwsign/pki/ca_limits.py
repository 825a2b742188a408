# SPDX-License-Identifier: Apache-2.0
"""What a CA may certify: kinds and names, by its own limits and those of the CAs above it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import Failed
from fwsign.names import host_name, vendor_domain
from fwsign.pki import profiles
from fwsign.pki.certificates import common_name, issuer_among
from fwsign.pki.devices import check_device
from fwsign.pki.entry_names import FOR_VENDORS, ISSUING_TLS, TLS, is_root
from fwsign.pki.extras import extras_of
from fwsign.pki.leaves import KINDS, Leaf
from fwsign.pki.view.words import oid_name
from fwsign.x509.roles import CONFIG_SIGNING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from fwsign.pki.directory import Pki

_LIKE_HOST: Final = re.compile(r"[a-z0-9_*.-]+")


def permitted_leaf(pki: Pki, ca: str, wanted: Leaf) -> Leaf:
    """Return the content of a new certificate, after checking it against its issuer's limits."""
    kind, name, domains, addresses, subject = wanted[:5]
    wanted = wanted._replace(more=wanted.more.at(ca))
    issuer = pki.certificate(ca)
    _refuse_use(pki, ca, kind)
    _check_extras(wanted)
    if kind == "idevid":
        check_device(wanted)
    if kind in FOR_VENDORS:
        vendors = [name for name in profiles.permitted_vendors(issuer) if "." in name]
        named = tuple(dict.fromkeys(map(vendor_domain, domains))) or tuple(vendors[:1])
        refuse_outside(pki, ca, "vendor", named)
        if named:
            return wanted._replace(domains=named, addresses=())
        raise Failed(
            "state.pki",
            f'the CA "{common_name(issuer)}" is not limited to a vendor, '
            f"so the {kind} must name one",
            expected="a vendor",
            found="none",
        )
    # A name with a dot looks like a host: openssl applies name constraints to it, too.
    alone = kind == "server" and not domains and not addresses
    if subject is not None:  # of a certificate made elsewhere: any text, in any case
        name = name.lower()
        dotted = "." in name and _LIKE_HOST.fullmatch(name) is not None
    else:
        dotted = "." in name
    own = (name,) if dotted or (alone and _may_be_host(issuer, name)) else ()
    hosts = tuple(dict.fromkeys(map(host_name, (*own, *domains))))
    refuse_outside(pki, ca, "host", hosts)
    if kind == "server" and not hosts and not addresses:
        raise _nameless(pki, ca, wanted)
    return wanted._replace(domains=hosts, addresses=tuple(dict.fromkeys(addresses)))


def _check_extras(leaf: Leaf) -> None:
    critical = [one.oid for one in leaf.more.custom if one.critical]
    if critical and leaf.kind not in TLS:
        raise Failed(
            "state.policy",
            f"devices refuse a {leaf.kind} with a critical extension that they do not know, "
            f"such as {critical[0]}",
            expected="an extension that is not critical",
            found=critical[0],
        )


def _nameless(pki: Pki, ca: str, wanted: Leaf) -> Failed:
    if wanted.subject is None:
        way = "give it --host NAME or --ip ADDR"
    else:  # a renewed certificate has the names of the old one
        way = "issue another one: fwsign pki issue server NAME --host HOST"
    limited = not is_root(ca) and bool(profiles.permitted_vendors(pki.certificate(ca)))
    could = limited and _is_host(wanted.name)
    wider = f'; to let clients call it "{wanted.name}": {_wider(ca, wanted.name)}' if could else ""
    return Failed(
        "state.policy",
        f'server "{wanted.name}" has no host name and no address: clients look for one',
        expected="a host name or an address",
        found="none",
        hint=f"{way}{wider}",
    )


def _refuse_use(pki: Pki, ca: str, kind: str) -> None:
    """Refuse a kind that the extended key usage of a CA, or of one above it, leaves out."""
    wanted = KINDS[kind].usage
    if wanted is None:  # a limit on usages withholds nothing from what has none
        return
    for name in (ca, *pki.issuers(ca)):
        issuer = pki.certificate(name)
        usages = profiles.usages_of(issuer)
        if not usages or {wanted, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages):
            continue
        there = ", ".join(map(oid_name, usages))
        raise Failed(
            "state.pki",
            f'the CA "{common_name(issuer)}" may not issue a {kind}: it is for {there}',
            expected=oid_name(wanted),
            found=there,
            hint=None if is_root(name) else _other_use(name, kind, usages),
        )


def _other_use(name: str, kind: str, usages: Sequence[x509.ObjectIdentifier]) -> str | None:
    """Return the way to a CA that may issue a kind, if there is one."""
    if kind in TLS:
        return f"fwsign pki renew {ISSUING_TLS} makes a CA for servers and clients"
    if kind == "channel" and with_channels(usages) != tuple(usages):
        return f"fwsign pki renew {name} lets it issue for channels, too, with the root's key"
    return None


def _may_be_host(issuer: x509.Certificate, name: str) -> bool:
    """Tell whether a single label can be a host below an issuer; it is no public name."""
    return _is_host(name) and _is_within(name, profiles.permitted_vendors(issuer))


def _is_host(name: str) -> bool:
    try:
        return host_name(name) == name
    except Failed:
        return False


def _is_within(name: str, permitted: Sequence[str]) -> bool:
    # RFC 5280 s.4.2.1.10: the domain itself, or a name with more labels in front.
    return not permitted or any(f".{name}".endswith(f".{domain}") for domain in permitted)


def _wider(ca: str, name: str) -> str:
    return f"fwsign pki renew {ca} --permit {name}"


def refuse_outside(pki: Pki, ca: str, what: str, names: Sequence[str]) -> None:
    """Refuse names outside the domains that a CA, or one above it, is limited to.

    Raises:
        Failed: `state.ca-limit`.
    """
    for one in (ca, *pki.issuers(ca)):
        _refuse_names(pki, one, what, names)


def _refuse_names(pki: Pki, ca: str, what: str, names: Sequence[str]) -> None:
    issuer = pki.certificate(ca)
    permitted = profiles.permitted_vendors(issuer)
    closed = is_root(ca) or what == "vendor"
    for name in names:
        if not _is_within(name, permitted):
            raise Failed(
                "state.ca-limit",
                f'{what} "{name}" is outside what the CA "{common_name(issuer)}" is limited to: '
                f"{', '.join(permitted)}",
                expected=", ".join(permitted),
                found=name,
                hint=None if closed else f"widen it, with the root's key: {_wider(ca, name)}",
            )


def next_extensions(
    pki: Pki, taken: Sequence[str], issuer: profiles.Authority
) -> profiles.Extensions:
    """Return the added extensions of a line's last CA, if they name the same issuer's CRL."""
    if not taken:
        return ()
    before = pki.certificate(taken[-1])
    same = issuer_among(before, [("", issuer.certificate)]) is not None
    return extras_of(before).extensions() if same else ()


def next_limits(pki: Pki, line: str, before: x509.Certificate) -> profiles.CaLimits:
    """Return the limits of a line's next CA: those of the CA before; `TLS_ONLY` of the first."""
    if not pki.issuers_in_line(line):
        return profiles.TLS_ONLY
    limits = profiles.limits_of(before)
    # One that issued everything leaves TLS to the CA that is for it.
    if pki.issuers_in_line(ISSUING_TLS) and not limits.usages:
        return limits._replace(usages=profiles.SIGNING.usages)
    return limits._replace(usages=with_channels(limits.usages))


def with_channels(
    usages: Sequence[x509.ObjectIdentifier],
) -> tuple[x509.ObjectIdentifier, ...]:
    """Return the usages of a CA's successor: one for signers may issue for channels, too.

    CAs that were made before there were channels lack that. Who may issue signers gains nothing.
    """
    missing = ExtendedKeyUsageOID.CODE_SIGNING in usages and CONFIG_SIGNING not in usages
    return (*usages, *([CONFIG_SIGNING] if missing else ()))
