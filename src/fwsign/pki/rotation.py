# SPDX-License-Identifier: Apache-2.0
"""New CAs in a PKI that is in use: a standby root, another issuing CA, another root.

No existing file changes. Each new CA gets its key, its CRL and its certificate in this order, and
the issuing CA's certificate is the last file: it puts the new path into use. After a killed run,
simply run the command again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from fwsign.errors import Failed
from fwsign.keys.file import new_private_key, write_private_key
from fwsign.pki import crls, profiles
from fwsign.pki.authority import open_authority, refuse_early
from fwsign.pki.directory import ISSUING, Pki, common_name, is_issuing, next_name
from fwsign.pki.files import set_aside, write_certificate
from fwsign.pki.flat import enter, refuse_flat
from fwsign.pki.leaves import default_algorithm, renewed_algorithm
from fwsign.pki.lock import exclusive
from fwsign.pki.profiles import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography import x509

    from fwsign.keys import PrivateKey
    from fwsign.pki.issue import NewKey


class Rotation(NamedTuple):
    """The names of the CAs in use now; `crossed` is None if no old root certified the new one."""

    root: str
    crossed: str | None
    issuing: str


class _New(NamedTuple):
    """A CA to write: name, certificate, key, passphrase, first CRL."""

    name: str
    authority: Authority
    passphrase: bytes | None
    crl: bytes


def spare_roots(pki: Pki) -> tuple[str, ...]:
    """Return the standbys: roots that have not issued yet, and are not the first."""
    used = {pki.issuer_of(pki.certificate(name)) for name in pki.authorities() if is_issuing(name)}
    return tuple(name for name in pki.roots()[1:] if name not in used)


def current_root(pki: Pki) -> str:
    """Return the root above the CA that issues now.

    Raises:
        Failed: `state.pki`: no issuing CA has its key here; `io.*`.
    """
    refuse_flat(pki)
    _refuse_elsewhere(pki)
    return pki.issuer_of(pki.certificate(pki.issuing()))


def standby(pki_dir: str | os.PathLike[str], *, new_key: NewKey, now: datetime) -> str:
    """Make a second root that devices pin beside the first; return its name.

    It issues nothing until `rotate`. Its key belongs offline, in another place than the first
    root's key.

    Raises:
        Failed: `state.pki-exists`: there is one already; `state.pki`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    refuse_flat(pki)
    _refuse_second(pki)
    new_key = new_key.settled()
    with exclusive(pki.directory):
        _refuse_second(pki)
        new = _new_root(pki, "standby", new_key, now)
        _write_authority(pki, new, now)
        crls.write_bundle(pki)
    return new.name


def _refuse_second(pki: Pki) -> None:
    if spare := spare_roots(pki):
        path = pki.certificate_path(spare[0])
        raise Failed(
            "state.pki-exists",
            f"there is a standby root already: {path}",
            expected="none",
            found=path,
        )


def replace_issuing(
    pki_dir: str | os.PathLike[str],
    *,
    new_key: NewKey,
    passphrase: Callable[[str], bytes | None],
    now: datetime,
) -> str:
    """Make another issuing CA under the same root, with the same limits; return its name.

    The old CA's certificates stay valid, and its CRL is still renewed.

    Args:
        pki_dir: the PKI.
        new_key: of the issuing CA; of `renewed_algorithm` if its kind is empty.
        passphrase: called with the name of the root if its key is encrypted.
        now: an aware time.

    Raises:
        Failed: `state.pki`, `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    root = current_root(pki)
    refuse_early(pki.certificate(root), now)
    alg = new_key.alg or renewed_algorithm(pki.certificate(pki.issuing()), pki.certificate(root))
    issuer = open_authority(pki, root, lambda: passphrase(root))
    new_key = new_key._replace(alg=alg).settled()
    with exclusive(pki.directory):
        new = _new_issuing(pki, new_key, issuer, now)
        _write_authority(pki, new, now)
        crls.write_bundle(pki)
    return new.name


def rotate(
    pki_dir: str | os.PathLike[str],
    *,
    root_key: NewKey,
    new_key: NewKey,
    passphrase: Callable[[str], bytes | None],
    now: datetime,
) -> Rotation:
    """Switch to another root: the standby if there is one, else a new one.

    The old root certifies it, so that devices which pin only the old root accept new releases.
    If the old root's key is lost, only devices that pin the standby do. From now on, a new issuing
    CA under that root issues.

    Args:
        pki_dir: the PKI.
        root_key: the new root's key, if there is no standby.
        new_key: of the issuing CA.
        passphrase: called with the name of a root if its key is encrypted.
        now: an aware time.

    Raises:
        Failed: `state.pki`: no key of the old root, and no standby; `state.clock`, `key.*`,
            `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    old = current_root(pki)
    refuse_early(pki.certificate(old), now)
    above = None
    if os.path.lexists(pki.key_path(old)):
        above = open_authority(pki, old, lambda: passphrase(old))
    spare = next(iter(spare_roots(pki)), None)
    if above is None and spare is None:
        raise Failed(
            "state.pki",
            f'the key of the root "{common_name(pki.certificate(old))}" is not here and there is '
            "no standby: devices would not know a new root",
            expected=f"{pki.key_path(old)}, or standby.crt",
            found="neither",
            hint=f"bring {pki.key_path(old)} here from where the root is, and take it away "
            "afterwards; or fwsign pki standby, and rotate when devices know it",
        )
    opened = open_authority(pki, spare, lambda: passphrase(spare)) if spare else None
    root_key, new_key = root_key.settled(), new_key.settled()
    with exclusive(pki.directory):
        if spare is None or opened is None:
            new = _new_root(pki, "ca", root_key, now)
            _write_authority(pki, new, now)
            root, authority = new.name, new.authority
        else:
            root, authority = spare, opened
            renewed = crls.next_crl(pki.crl(spare), spare, authority, (), now)
            crls.write_crl(pki, spare, renewed)
        crossed = _cross(pki, root, old, above, now)
        issuing = _new_issuing(pki, new_key, authority, now)
        _write_authority(pki, issuing, now)
        crls.write_bundle(pki)
    return Rotation(root, crossed, issuing.name)


def _refuse_elsewhere(pki: Pki) -> None:
    """Refuse in a root-only PKI: the next issuing CA makes a request on its own machine."""
    names = [name for name in pki.authorities() if is_issuing(name)] or [ISSUING]
    paths = list(map(pki.key_path, names))
    if not any(map(os.path.lexists, paths)):
        raise Failed(
            "state.pki",
            f"no issuing CA has its key here: {paths[-1]} is missing",
            expected=paths[-1],
            found="none",
            hint="rotate where the issuing CA is; for another one below this root: fwsign pki csr "
            "there, fwsign pki sign-ca here, fwsign pki accept there",
        )


def _cross(pki: Pki, root: str, old: str, above: Authority | None, now: datetime) -> str | None:
    """Certify the new root by the old one; return the name of that certificate."""
    name = f"{root}-by-{old}"
    if name in pki.names():  # a killed run left it
        return name
    if above is None:
        return None
    certificate = profiles.crossed_certificate(pki.certificate(root), above, now)
    enter(pki, name, certificate, now, kind="certify")
    write_certificate(pki.certificate_path(name), certificate)
    return name


def _new_root(pki: Pki, first: str, new_key: NewKey, now: datetime) -> _New:
    taken = pki.roots()
    name = next_name(first, taken)
    org = profiles.organisation_of(pki.root) or common_name(pki.root)
    key = new_private_key(new_key.alg or default_algorithm(pki.certificate(pki.roots()[-1])))
    certificate = profiles.root_certificate(key, org, now, number=len(taken) + 1)
    return _new(name, certificate, key, new_key, now)


def _new_issuing(pki: Pki, new_key: NewKey, issuer: Authority, now: datetime) -> _New:
    before = pki.certificate(pki.issuing())
    taken = [name for name in pki.authorities() if is_issuing(name)]
    name = next_name("issuing", tuple(taken))
    org = profiles.organisation_of(issuer.certificate) or common_name(issuer.certificate)
    key = new_private_key(new_key.alg or default_algorithm(issuer.certificate))
    certificate = profiles.issuing_certificate(
        key.public_key(),
        profiles.authority_name(org, "Issuing CA", len(taken) + 1),
        profiles.permitted_vendors(before),
        issuer,
        now,
    )
    return _new(name, certificate, key, new_key, now)


def _new(
    name: str, certificate: x509.Certificate, key: PrivateKey, new_key: NewKey, now: datetime
) -> _New:
    authority = Authority(certificate, key)
    return _New(name, authority, new_key.secret(), crls.first_crl(name, authority, now))


def _write_authority(pki: Pki, new: _New, now: datetime) -> None:
    """Write a new CA, the certificate last; the caller holds the lock."""
    path = pki.key_path(new.name)
    set_aside(path)
    write_private_key(path, new.authority.key, new.passphrase)
    crls.write_crl(pki, new.name, new.crl)
    enter(pki, new.name, new.authority.certificate, now)
    write_certificate(pki.certificate_path(new.name), new.authority.certificate)
