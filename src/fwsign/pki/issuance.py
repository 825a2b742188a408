# SPDX-License-Identifier: Apache-2.0
"""Issue certificates below the issuing CA: signers, time stampers, TLS servers and clients.

The certificate makes an entry and is written last. So a killed run leaves at most a key without a
certificate, which the next run sets aside.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import Failed
from fwsign.files import exclusive
from fwsign.keys.file import write_private_key
from fwsign.keys.published import refuse_published
from fwsign.names import host_name, peer_name, signer_name, vendor_domain
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.devices import check_device, devices_in, refuse_known_device
from fwsign.pki.directory import ISSUING_TLS, TLS, Pki, common_name, is_root, line_of
from fwsign.pki.extras import NONE as NO_EXTRAS
from fwsign.pki.files import set_aside, write_certificate
from fwsign.pki.layout import enter
from fwsign.pki.leaves import (
    ENDLESS,
    KINDS,
    Leaf,
    check_public_key,
    default_algorithm,
    default_kdf,
    leaf_certificate,
    new_leaf_key,
)
from fwsign.pki.log import OWN
from fwsign.pki.revocation import leaked_keys, refuse_leaked
from fwsign.pki.term import refuse_early, refuse_ended_ca
from fwsign.pki.view.lenient import oid_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from cryptography import x509

    from fwsign.keys import Passphrase, PrivateKey, PublicKey
    from fwsign.pki.extras import Extras
    from fwsign.pki.leaves import Address, Device
    from fwsign.pki.log import Origin

_LIKE_HOST: Final = re.compile(r"[a-z0-9_*.-]+")


class NewKey(NamedTuple):
    """A key to be made, and how its file is protected.

    Args:
        alg: its kind, one of `fwsign.keys.ALGORITHMS`; empty leaves the choice to the function.
        passphrase: a passphrase; None for a key in clear; or a function that asks for it.
        kdf: the derivation that protects it, one of `fwsign.keys.KDFS`; empty as above.
    """

    alg: str
    passphrase: bytes | Passphrase | None
    kdf: str = ""

    def secret(self) -> bytes | None:
        """Return the passphrase; it is asked for when all else has been judged."""
        return self.passphrase() if callable(self.passphrase) else self.passphrase

    def settled(self) -> NewKey:
        """Return the same with a known passphrase, before a lock is taken."""
        return self._replace(passphrase=self.secret())


def issue(
    pki_dir: str | os.PathLike[str],
    kind: str,
    name: str,
    *,
    key: NewKey | PublicKey | Callable[[], PublicKey],
    domains: Sequence[str] = (),
    addresses: Sequence[Address] = (),
    device: Device | None = None,
    more: Extras = NO_EXTRAS,
    lifetime: timedelta | None = None,
    compat: bool = False,
    origin: Origin = OWN,
    ca_passphrase: Passphrase,
    now: datetime,
) -> Path:
    """Issue a certificate, with a new key or for one that exists; return its path.

    Args:
        pki_dir: the PKI.
        kind: one of `fwsign.pki.leaves.KINDS`.
        name: the entry's name, and the CN; see `fwsign.names.signer_name` and `peer_name`.
        key: the key to make (`default_algorithm` if its kind is empty), or the public half of an
            existing one, from a request or elsewhere, or a function that opens it.
        domains: the vendors of a signer (none: the first that the issuing CA is limited to), or
            the hosts of a server. A name with a dot is also a host, unless it is a signer's, and
            so is the name of a server without other hosts and addresses.
        addresses: the addresses of a server.
        device: the identity of an idevid, which no other of the PKI has.
        more: extensions to add.
        lifetime: the span from `now`; None: the kind's, or until the issuing CA ends.
        compat: certify RSA of 2048 bits of a server or client; never that of another kind.
        origin: who wanted it, for the log.
        ca_passphrase: called if the key of the issuing CA is encrypted.
        now: an aware time; notBefore is an hour earlier.

    Raises:
        Failed: `state.pki-exists`: the name is taken; `state.ca-limit`: outside the limits of the
            issuing CA; `state.pki`: the issuing CA may not issue that; `state.policy`,
            `state.clock`, `key.*`, `io.*`. Nothing has been written then.
    """
    (peer_name if kind in TLS else signer_name)(name)
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    ca = pki.issuing(kind)
    certificate = pki.certificate(ca)
    _refuse_taken(pki, name)
    refuse_unable(pki, ca, now)
    wanted = Leaf(kind, name, tuple(domains), tuple(addresses), device=device, more=more)
    leaf = permitted_leaf(pki, ca, wanted)
    if leaf.device:
        refuse_known_device(leaf, devices_in(pki))
    period = period_of(leaf, certificate, lifetime, now)
    if not isinstance(key, NewKey):
        key = key() if callable(key) else key
        check_public_key(key, f'"{name}"', compat=compat if kind in TLS else None)
        refuse_leaked(key, f'"{name}"', leaked_keys(pki))
    issuer = open_authority(pki, ca, ca_passphrase)
    new = None
    if isinstance(key, NewKey):
        new = make_key(kind, key, default_algorithm(certificate))
    public: PublicKey = new.key.public_key() if new else key  # type: ignore[assignment]
    issued = leaf_certificate(leaf, public, period, issuer)
    with exclusive(pki.directory):
        _refuse_taken(pki, name)
        if leaf.device:
            refuse_known_device(leaf, devices_in(pki))
        write_entry(pki, name, issued, now, new=new, origin=origin)
    return pki.certificate_path(name)


class Made(NamedTuple):
    """A new key, and how the file protects it."""

    key: PrivateKey
    passphrase: bytes | None
    kdf: str


def make_key(kind: str, wanted: NewKey, alg: str) -> Made:
    """Make the key of a leaf; `alg` is its kind if `wanted` leaves it open."""
    key = new_leaf_key(kind, wanted.alg or alg)
    return Made(key, wanted.secret(), wanted.kdf or default_kdf(kind))


def write_entry(
    pki: Pki,
    name: str,
    issued: x509.Certificate,
    now: datetime,
    *,
    new: Made | None = None,
    origin: Origin = OWN,
) -> None:
    """Write a new entry, with its key if that was made here; the caller holds the lock."""
    set_aside(pki.key_path(name))
    if new is not None:
        write_private_key(pki.key_path(name), *new)
    enter(pki, name, issued, now, origin=origin)
    write_certificate(pki.certificate_path(name), issued)


def is_taken(pki: Pki, name: str) -> bool:
    """Tell whether there is an entry of a name, in upper or lower case; raise like `Pki.names`."""
    return name.lower() in map(str.lower, pki.names())


def _refuse_taken(pki: Pki, name: str) -> None:
    def is_revoked(there: str) -> bool:
        with contextlib.suppress(Failed):  # its issuer's CRL may be elsewhere
            return pki.revocation(there) is not None
        return False

    refuse_taken(pki, name, {one.lower(): one for one in pki.names()}, is_revoked)


def refuse_taken(
    pki: Pki, name: str, names: Mapping[str, str], is_revoked: Callable[[str], bool]
) -> None:
    """Refuse the name of an entry that exists.

    Args:
        pki: the PKI.
        name: the new name.
        names: those of all entries, by their lower case.
        is_revoked: tells whether an entry is revoked.

    Raises:
        Failed: `state.pki-exists`.
    """
    # Some file systems do not tell "TESTING" from "testing".
    there = names.get(name.lower())
    if there is None:
        return
    more = " --new-key" if is_revoked(there) else ""
    raise Failed(
        "state.pki-exists",
        f'there is a certificate "{there}" in {pki.directory} already',
        expected="a new name",
        found=name,
        hint=f"choose another name; to issue this one anew: fwsign pki renew {there}{more}",
    )


def refuse_unable(pki: Pki, ca: str, now: datetime) -> None:
    """Refuse an issuer that every verifier would refuse, as revoked, expired or published."""
    issuer = pki.certificate(ca)
    refuse_early(issuer, now)
    refuse_published(issuer.public_key(), f'the CA "{common_name(issuer)}"')
    entry = pki.revocation(ca)
    if entry is not None:
        fault = f"was revoked {entry.revocation_date_utc:%Y-%m-%d}"
        raise Failed(
            "state.pki",
            f'the CA "{common_name(issuer)}" {fault}',
            expected="a CA that may issue",
            found=fault,
            hint=None
            if pki.flat
            else f"fwsign pki renew {line_of(ca)} --new-key makes another one",
        )
    refuse_ended_ca(pki, ca, now)


def permitted_leaf(pki: Pki, ca: str, wanted: Leaf) -> Leaf:
    """Return the content of a new certificate, after checking it against its issuer's limits."""
    kind, name, domains, addresses, subject = wanted[:5]
    wanted = wanted._replace(more=wanted.more.at(ca))
    issuer = pki.certificate(ca)
    _refuse_use(pki, ca, kind)
    _check_extras(wanted)
    if kind == "idevid":
        check_device(wanted)
    if kind == "signer":
        vendors = [name for name in profiles.permitted_vendors(issuer) if "." in name]
        named = tuple(dict.fromkeys(map(vendor_domain, domains))) or tuple(vendors[:1])
        refuse_outside(pki, ca, "vendor", named)
        if named:
            return wanted._replace(domains=named, addresses=())
        raise Failed(
            "state.pki",
            f'the CA "{common_name(issuer)}" is not limited to a vendor, '
            "so the signer must name one",
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
    for name in (ca, *pki.issuers(ca)):
        issuer = pki.certificate(name)
        usages = profiles.usages_of(issuer)
        if not usages or {wanted, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages):
            continue
        there = ", ".join(map(oid_name, usages))
        makes = kind in TLS and not is_root(name)
        raise Failed(
            "state.pki",
            f'the CA "{common_name(issuer)}" may not issue a {kind}: it is for {there}',
            expected=oid_name(wanted),
            found=there,
            hint=f"fwsign pki renew {ISSUING_TLS} makes a CA for servers and clients"
            if makes
            else None,
        )


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
