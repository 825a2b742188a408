# SPDX-License-Identifier: Apache-2.0
"""Issue certificates below the issuing CA: signers, time stampers, TLS servers and clients.

The certificate makes an entry and is written last. So a killed run leaves at most a key without a
certificate, which the next run sets aside.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

from fwsign.errors import Failed
from fwsign.files import exclusive
from fwsign.keys import DEFAULT_ALGORITHM
from fwsign.keys.published import refuse_published
from fwsign.names import peer_name, signer_name
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.ca_limits import permitted_leaf
from fwsign.pki.certificates import common_name
from fwsign.pki.devices import devices_in, refuse_known_device
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import EntryKey, NewKey, clear_key, entry_key, write_key
from fwsign.pki.entry_names import TLS, line_of
from fwsign.pki.extras import NO_EXTRAS
from fwsign.pki.files import write_certificate
from fwsign.pki.flat import enter
from fwsign.pki.leaked import leaked_keys, refuse_leaked
from fwsign.pki.leaves import (
    Leaf,
    check_public_key,
    default_algorithm,
    default_kdf,
    leaf_certificate,
)
from fwsign.pki.log import OWN
from fwsign.pki.one_use import refuse_other_use, refuse_token, uses_of
from fwsign.pki.validity import period_of, refuse_early, refuse_ended_ca

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from cryptography import x509

    from fwsign.keys import Passphrase, PublicKey
    from fwsign.keys.held import HeldKey
    from fwsign.pki.entry_keys import KeyChoice
    from fwsign.pki.extras import Extras
    from fwsign.pki.leaves import Address, DeviceIdentity
    from fwsign.pki.log import Origin
    from fwsign.pki.profiles import Authority


Existing: TypeAlias = "PublicKey | HeldKey"
"""A key that is not made here: its public half, or a key that somebody opened where it lives."""


def issue(
    pki_dir: str | os.PathLike[str],
    kind: str,
    name: str,
    *,
    key: NewKey | Existing | Callable[[], Existing],
    domains: Sequence[str] = (),
    addresses: Sequence[Address] = (),
    device: DeviceIdentity | None = None,
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
        name: the entry's name, and the CN; see `fwsign.names`.
        key: the key to make (`default_algorithm` if its kind is empty); or the public half of an
            existing one; or an opened one, whose place the PKI remembers; or a function for them.
        domains: the vendors of a signer (none: the first that the issuing CA is limited to), or
            the hosts of a server. A name with a dot is also a host, unless it is a signer's, and
            so is the name of a server without other hosts and addresses.
        addresses: the addresses of a server.
        device: the identity of an idevid, which no other of the PKI has.
        more: extensions to add.
        lifetime: the span from `now`; None: the kind's, or until the issuing CA ends.
        compat: certify RSA-2048 of a server or client; never that of another kind.
        origin: who wanted it, for the log.
        ca_passphrase: called if the issuing CA's key needs it.
        now: an aware time; notBefore is an hour earlier.

    Raises:
        Failed: `state.pki-exists`: the name is taken; `state.ca-limit`: outside the limits of the
            issuing CA; `state.pki`: the issuing CA may not issue that; `state.policy`,
            `state.clock`, `key.*`, `io.*`. Nothing has been written then.
    """
    (peer_name if kind in TLS else signer_name)(name)
    now, pki = profiles.utc(now), Pki(pki_dir)
    ca = pki.issuing(kind)
    _refuse_taken(pki, name)
    refuse_unable(pki, ca, now)
    leaf = Leaf(kind, name, tuple(domains), tuple(addresses), device=device, more=more)
    leaf = permitted_leaf(pki, ca, leaf)
    _refuse_known(pki, leaf)
    period = period_of(leaf, pki.certificate(ca), lifetime, now)
    key = key() if callable(key) else key
    if not isinstance(key, NewKey):
        _refuse_uncertifiable(pki, leaf, key, compat=compat)
    issuer = open_authority(pki, ca, ca_passphrase)
    new, issued = _certified(leaf, key, period, issuer)
    with exclusive(pki.directory):
        _refuse_taken(pki, name)
        _refuse_known(pki, leaf)
        write_entry(pki, name, issued, now, new=new, origin=origin)
    return pki.certificate_path(name)


def _refuse_uncertifiable(pki: Pki, leaf: Leaf, key: Existing, *, compat: bool) -> None:
    public = certifiable(key, f'"{leaf.name}"', compat=compat if leaf.kind in TLS else None)
    refuse_leaked(public, f'"{leaf.name}"', leaked_keys(pki))
    refuse_shared(pki, leaf.kind, leaf.name, key)


def refuse_shared(pki: Pki, kind: str, name: str, key: Existing) -> None:
    """Refuse a key that does something else, and a group's key that is in no file.

    Args:
        pki: the PKI.
        kind: the kind of certificate that it would get.
        name: the entry.
        key: the key.

    Raises:
        Failed: `key.mismatch`, `key.unsupported`.
    """
    held = key if is_held(key) else None
    public = held.public_key if held is not None else cast("PublicKey", key)
    refuse_other_use(public, f'"{name}"', uses_of(pki, kind))
    if kind == "encryption" and held is not None:
        refuse_token(held, name)


def certifiable(key: Existing, what: str, *, compat: bool | None) -> PublicKey:
    """Return the public half of a key that is not made here, if it may be certified.

    Args and errors as for `fwsign.pki.leaves.check_public_key`.
    """
    return check_public_key(key.public_key if is_held(key) else key, what, compat=compat)


def is_held(key: Existing) -> TypeGuard[HeldKey]:
    """Tell whether it is known where a key lives."""
    return hasattr(key, "sign_raw")


def _certified(
    leaf: Leaf, key: NewKey | Existing, period: tuple[datetime, datetime], issuer: Authority
) -> tuple[EntryKey | None, x509.Certificate]:
    """Make a leaf's key, unless there is one, and its certificate."""
    if isinstance(key, NewKey) or is_held(key):
        agrees = leaf.kind == "encryption"  # ML-DSA below ML-DSA would sign, and agree on nothing
        alg = DEFAULT_ALGORITHM if agrees else default_algorithm(issuer.certificate)
        new = leaf_key(leaf.kind, key, alg)
        return new, leaf_certificate(leaf, new.key.public_key(), period, issuer)
    return None, leaf_certificate(leaf, cast("PublicKey", key), period, issuer)


def leaf_key(kind: str, choice: KeyChoice, alg: str) -> EntryKey:
    """Make the key of a leaf, or take one that exists; `alg` is for a choice that has none."""
    return entry_key(choice, alg, kdf=default_kdf(kind), tls=kind in TLS)


def write_entry(
    pki: Pki,
    name: str,
    issued: x509.Certificate,
    now: datetime,
    *,
    new: EntryKey | None = None,
    origin: Origin = OWN,
) -> None:
    """Write a new entry, with its key or where that lives; the caller holds the lock."""
    clear_key(pki, name)
    if new is not None:
        write_key(pki, name, new)
    enter(pki, name, issued, now, origin=origin)
    write_certificate(pki.certificate_path(name), issued)


def is_taken(pki: Pki, name: str) -> bool:
    """Tell whether there is an entry of a name, in upper or lower case; raise like `Pki.names`."""
    return name.lower() in map(str.lower, pki.names())


def _refuse_known(pki: Pki, leaf: Leaf) -> None:
    if leaf.device:
        refuse_known_device(leaf, devices_in(pki))


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
