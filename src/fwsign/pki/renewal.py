# SPDX-License-Identifier: Apache-2.0
"""Renew certificates, with the old key or a new one.

The new certificate replaces the old one in one step. A new key stays beside the old one, under the
serial number of its certificate, until it replaces the old one. If the new key is elsewhere, the
old one gets such a name. So `Pki.key_path` finds the right key whenever a run is killed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, cast

from fwsign.errors import Failed
from fwsign.files import exclusive, io_error
from fwsign.keys.published import refuse_published
from fwsign.names import host_name
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.ca_limits import permitted_leaf, refuse_outside, with_channels
from fwsign.pki.certificates import common_name
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import (
    NewKey,
    bind_key,
    put_aside_bound,
    refuse_new_file,
    unbind_key,
    write_key,
)
from fwsign.pki.entry_names import TLS, is_issuing, is_root
from fwsign.pki.extras import NO_EXTRAS, Extras, carried
from fwsign.pki.files import write_certificate
from fwsign.pki.flat import enter
from fwsign.pki.index import serial_text
from fwsign.pki.issuance import certifiable, is_held, leaf_key, refuse_shared, refuse_unable
from fwsign.pki.leaked import leaked_keys, refuse_leaked
from fwsign.pki.leaves import (
    KINDS,
    check_public_key,
    leaf_certificate,
    leaf_of,
    renewed_algorithm,
)
from fwsign.pki.log import OWN
from fwsign.pki.validity import last_day, period_of, refuse_ended_ca

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from cryptography import x509

    from fwsign.keys import Passphrase, PublicKey
    from fwsign.pki.entry_keys import EntryKey
    from fwsign.pki.issuance import Existing
    from fwsign.pki.log import Origin


class Replacement(NamedTuple):
    """An entry's next certificate.

    Args:
        name: the entry.
        old: its certificate.
        new: the next one.
        now: when it is replaced.
        origin: who wanted it.
        kind: for the log; see `fwsign.pki.log.log_certificate`.
    """

    name: str
    old: x509.Certificate
    new: x509.Certificate
    now: datetime
    origin: Origin = OWN
    kind: str = "renew"


def renew(
    pki_dir: str | os.PathLike[str],
    name: str,
    *,
    new_key: NewKey | Existing | Callable[[], Existing] | None = None,
    lifetime: timedelta | None = None,
    permit: Sequence[str] = (),
    more: Extras = NO_EXTRAS,
    compat: bool = False,
    origin: Origin = OWN,
    ca_passphrase: Passphrase,
    now: datetime,
) -> Path:
    """Issue a certificate anew, with the same names; return its path.

    The old certificate stays in `certs_by_serial`, where it can be revoked by its serial number;
    an old key is set aside in `private`.

    Args:
        pki_dir: the PKI.
        name: a leaf's name, or an issuing CA's. The CA keeps its key, so that all its certificates
            stay valid; `fwsign.pki.rotation.replace_issuing` makes a CA with a new key.
        new_key: the key to make, of `renewed_algorithm` if its kind is empty; or one that exists,
            as for `issue`; None keeps the key.
        lifetime: as for `issue`.
        permit: for an issuing CA, more domains or hosts that it may issue for.
        more: extensions to add. Those of the old certificate stay, and addresses are replaced
            by new ones of their kind.
        compat: as for `issue`, for a key that exists; an issuing CA's, too.
        origin: as for `issue`.
        ca_passphrase: called if the key of the issuer is encrypted.
        now: an aware time; notBefore is an hour earlier.

    Raises:
        Failed: as `issue`; `state.pki`: a certificate that cannot be renewed, or a revoked one
            that would keep its key.
    """
    now, pki = profiles.utc(now), Pki(pki_dir)
    old = pki.certificate(name)
    if new_key is None:
        _refuse_revoked(pki, name)
    issues = is_issuing(name) and name in pki.authorities()
    if issues and new_key is None:
        terms = (permit, lifetime, more)
        new = _issuing_anew(pki, name, ca_passphrase, now, terms, compat=compat)
        return _replace(pki, Replacement(name, old, new, now, origin))
    leaf = None if issues or is_root(name) else leaf_of(old)
    if leaf is None:
        raise _not_renewed(name)
    ca = _able_issuer(pki, leaf.kind, now)
    leaf = permitted_leaf(pki, ca, leaf._replace(more=carried(pki, old, ca, more)))
    period = period_of(leaf, pki.certificate(ca), lifetime, now)
    given = new_key() if callable(new_key) else new_key
    public = _public_key(pki, name, given, kind=leaf.kind, compat=compat)
    issuer, made = open_authority(pki, ca, ca_passphrase), None
    if isinstance(given, NewKey) or (given is not None and is_held(given)):
        made = leaf_key(leaf.kind, given, renewed_algorithm(old, issuer.certificate))
    own = made.key.public_key() if made else cast("PublicKey", public)
    new = leaf_certificate(leaf, own, period, issuer)
    return _replace(pki, Replacement(name, old, new, now, origin), made)


def _able_issuer(pki: Pki, kind: str, now: datetime) -> str:
    ca = pki.issuing(kind)
    refuse_unable(pki, ca, now)
    return ca


def _public_key(
    pki: Pki,
    name: str,
    key: NewKey | Existing | None,
    *,
    kind: str,
    compat: bool,
) -> PublicKey | None:
    """Return the key that is certified anew, the old one or another; None if it is to be made."""
    old, forgiving = pki.certificate(name), compat if kind in TLS else None
    if isinstance(key, NewKey):
        refuse_new_file(pki, name, key)
        return None
    if key is None:
        return _may_stay(old, name, compat=forgiving)
    public = certifiable(key, f'"{name}"', compat=forgiving)
    if public == old.public_key():
        _refuse_revoked(pki, name)
    else:
        refuse_shared(pki, kind, name, key)
    refuse_leaked(public, f'"{name}"', leaked_keys(pki))
    return public


def _refuse_revoked(pki: Pki, name: str) -> None:
    if (entry := pki.revocation(name)) is None:
        return
    when = f"revoked {entry.revocation_date_utc:%Y-%m-%d}"
    raise Failed(
        "state.pki",
        f'certificate "{name}" was {when}: only a new key can be certified',
        expected="a new key",
        found=when,
        hint="--new-key makes one",
    )


def _may_stay(old: x509.Certificate, name: str, *, compat: bool | None) -> PublicKey:
    """Return the key of a certificate that is renewed with it, if it is still good enough."""
    other = "--new-key makes another one, of the kind that --alg names"
    return check_public_key(old.public_key(), f'"{name}"', compat=compat, other=other)


def issuer_name(pki: Pki, name: str) -> str:
    """Return the name of the CA whose key renews a certificate; raise like `Pki.issuer_of`."""
    certificate = pki.certificate(name)
    if name in pki.issuers_in_line():
        return pki.issuer_of(certificate)
    leaf = leaf_of(certificate)
    return pki.issuing(leaf.kind if leaf else "signer")


def _widened(pki: Pki, name: str, permit: Sequence[str]) -> profiles.CaLimits:
    """Return the limits of an issuing CA, with more domains, and with channels beside signers."""
    limits = profiles.limits_of(pki.certificate(name))
    more = tuple(map(host_name, permit))
    if more and not limits.permitted:
        raise Failed(
            "state.pki",
            f'the CA "{name}" is not limited to domains: it may issue for any already',
            expected="a CA with limits",
            found="none",
        )
    refuse_outside(pki, pki.issuer_of(pki.certificate(name)), "domain", more)
    permitted = tuple(dict.fromkeys((*limits.permitted, *more)))
    return profiles.CaLimits(permitted, with_channels(limits.usages))


def _issuing_anew(
    pki: Pki,
    name: str,
    passphrase: Passphrase,
    now: datetime,
    terms: tuple[Sequence[str], timedelta | None, Extras],
    *,
    compat: bool,
) -> x509.Certificate:
    """Make an issuing CA's next certificate, with more domains, a lifetime and extensions."""
    permit, lifetime, more = terms
    old = pki.certificate(name)
    _may_stay(old, name, compat=compat)
    limits = _widened(pki, name, permit)
    root = pki.issuer_of(old)
    certificate = pki.certificate(root)
    refuse_ended_ca(pki, root, now)
    refuse_published(certificate.public_key(), f'the root "{common_name(certificate)}"')
    end = None
    if lifetime is not None:
        end = last_day(f'the CA "{common_name(old)}"', certificate, lifetime, now)
    added = carried(pki, old, root, more).extensions()
    issuer = open_authority(pki, root, passphrase)
    return profiles.issuing_certificate(
        old.public_key(),  # type: ignore[arg-type]
        old.subject,
        limits,
        issuer,
        now,
        end=end,
        more=added,
    )


def _replace(pki: Pki, change: Replacement, made: EntryKey | None = None) -> Path:
    with exclusive(pki.directory):
        replace_entry(pki, change, made)
    return pki.certificate_path(change.name)


def replace_entry(pki: Pki, change: Replacement, made: EntryKey | None = None) -> None:
    """Replace an entry, with its key or where a new one lives; the caller holds the lock."""
    name, old, new = change.name, change.old, change.new
    if pki.certificate(name) != old:
        raise Failed(
            "state.pki-exists",
            f'another process has renewed "{name}" just now',
            expected=f"serial number {serial_text(old.serial_number)}",
            found="another certificate",
        )
    unbind_key(pki, name, pki.key_path(name))
    if made is not None:
        write_key(pki, name, made, new.serial_number)
    elif new.public_key() != old.public_key():  # the new key is elsewhere
        bind_key(pki, name, old.serial_number)
    replace_certificate(pki, change)
    unbind_key(pki, name, pki.key_path(name))
    put_aside_bound(pki, name, old.serial_number)


def replace_certificate(pki: Pki, change: Replacement) -> None:
    """Replace a certificate and keep the old one; the caller holds the lock."""
    name, old, new, now, origin, kind = change
    place = pki.old_path(old.serial_number)
    try:
        place.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise io_error(error, place.parent, "write") from error
    if not os.path.lexists(place):  # easy-rsa keeps a copy of every certificate there
        write_certificate(place, old)
    enter(pki, name, new, now, kind=kind, origin=origin)
    write_certificate(pki.certificate_path(name), new, overwrite=True)


def _not_renewed(name: str) -> Failed:
    hint = None
    if is_root(name):
        hint = "make another root: fwsign pki standby; go over to it: fwsign pki rotate"
        message = "a root is not renewed: devices would have to learn of it, as of a new one"
    elif is_issuing(name):
        message = f'the CA "{name}" has another key only as another CA'
    else:
        message = f'certificate "{name}" is of no kind that can be renewed'
    return Failed("state.pki", message, expected=f"a {', '.join(KINDS)}", found=name, hint=hint)
