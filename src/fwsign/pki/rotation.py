# SPDX-License-Identifier: Apache-2.0
"""New CAs in a PKI that is in use: a standby root, another issuing CA, another root.

No existing file changes. Each new CA gets its key, its CRL and its certificate in this order, and
the certificate of the CA for signers is the last file: it puts the new path into use. After a
killed run, simply run the command again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from fwsign.errors import Failed
from fwsign.files import exclusive
from fwsign.keys.file import new_private_key
from fwsign.pki import crls, profiles
from fwsign.pki.authority import add_authority, new_issuing, open_authority
from fwsign.pki.certificates import common_name, issuer_among
from fwsign.pki.directory import Pki
from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, next_name
from fwsign.pki.extras import extras_of
from fwsign.pki.files import write_certificate
from fwsign.pki.flat import enter, refuse_flat
from fwsign.pki.leaves import default_algorithm, renewed_algorithm
from fwsign.pki.profiles import SIGNING, TLS_ONLY, Authority, CaLimits, limits_of
from fwsign.pki.subjects import issuing_name, organisation_of
from fwsign.pki.validity import fresh_spares, has_ended, refuse_early, refuse_ended_ca

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cryptography import x509

    from fwsign.pki.issuance import NewKey
    from fwsign.pki.profiles import Extensions


class Rotation(NamedTuple):
    """The names of the CAs in use now.

    `crossed` is None if no old root certified the new one, `tls` if one issuing CA is for all.
    """

    root: str
    crossed: str | None
    issuing: str
    tls: str | None


class _New(NamedTuple):
    """A CA to write: name, certificate, key, passphrase, and how it protects the key."""

    name: str
    authority: Authority
    passphrase: bytes | None
    kdf: str

    def write(self, pki: Pki, now: datetime) -> None:
        add_authority(pki, self.name, self.authority, self.passphrase, now, kdf=self.kdf)


def current_root(pki: Pki) -> str:
    """Return the root above the CA that issues now.

    Raises:
        Failed: `state.pki`: no issuing CA has its key here; `io.*`.
    """
    refuse_flat(pki)
    _refuse_elsewhere(pki)
    return pki.issuer_of(pki.certificate(pki.in_use()[0]))


def standby(pki_dir: str | os.PathLike[str], *, new_key: NewKey, now: datetime) -> str:
    """Make a second root that devices pin beside the first; return its name.

    It issues nothing until `rotate`. Its key belongs offline, in another place than the first
    root's key.

    Args:
        pki_dir: the PKI.
        new_key: of the standby.
        now: an aware time.

    Raises:
        Failed: `state.pki-exists`: there is one already; `state.pki`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    refuse_flat(pki)
    refuse_early(pki.root, now)
    _refuse_second(pki, now)
    new_key = new_key.settled()
    with exclusive(pki.directory):
        _refuse_second(pki, now)
        new = _new_root(pki, "standby", new_key, now)
        new.write(pki, now)
        crls.write_bundle(pki)
    return new.name


def _refuse_second(pki: Pki, now: datetime) -> None:
    if spare := fresh_spares(pki, now):
        path = pki.certificate_path(spare[0])
        raise Failed(
            "state.pki-exists",
            f"there is a standby root already: {path}",
            expected="none",
            found=path,
        )


def replace_issuing(
    pki_dir: str | os.PathLike[str],
    line: str = ISSUING,
    *,
    new_key: NewKey,
    passphrase: Callable[[str], bytes | None],
    now: datetime,
) -> str:
    """Make another issuing CA under the same root, with the same limits; return its name.

    The old CA's certificates stay valid, and its CRL is still renewed.

    Args:
        pki_dir: the PKI.
        line: `issuing`, or `issuing-tls`, which need not exist yet: servers and clients then come
            from it instead of `issuing`.
        new_key: of the issuing CA; of `renewed_algorithm` if its kind is empty.
        passphrase: called with the name of the root if its key is encrypted.
        now: an aware time.

    Raises:
        Failed: `state.pki`, `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    root = current_root(pki)
    refuse_ended_ca(pki, root, now)
    alg = new_key.alg or renewed_algorithm(_before(pki, line), pki.certificate(root))
    issuer = open_authority(pki, root, lambda: passphrase(root))
    new_key = new_key._replace(alg=alg).settled()
    with exclusive(pki.directory):
        new = _new_issuing(pki, line, new_key, issuer, now)
        new.write(pki, now)
        crls.write_bundle(pki)
    return new.name


def _before(pki: Pki, line: str) -> x509.Certificate:
    """Return the certificate of the CA that issues now in place of a line's next CA."""
    return pki.certificate(pki.issuing("client" if line == ISSUING_TLS else "signer"))


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
    If the old root's key is lost, only devices that pin the standby do. From now on, new issuing
    CAs under that root issue.

    Args:
        pki_dir: the PKI.
        root_key: the new root's key, if there is no standby.
        new_key: of the issuing CAs.
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
    spare = next(iter(fresh_spares(pki, now)), None)
    if spare is None:
        _refuse_unknown(pki, old, now)
    above = None
    if not has_ended(pki.certificate(old), now) and os.path.lexists(pki.key_path(old)):
        above = open_authority(pki, old, lambda: passphrase(old))
    opened = _opened(pki, spare, passphrase, now)
    root_key, new_key = root_key.settled(), new_key.settled()
    with exclusive(pki.directory):
        # Everything is made before the first file is written.
        made = _new_root(pki, "ca", root_key, now) if opened is None else None
        root = made.name if made else str(spare)
        authority = made.authority if made else opened
        assert authority is not None  # noqa: S101 - one of the two is there
        renewed = None if made else crls.next_crl([pki.crl(root)], root, authority, (), now)
        crossed = _crossed(pki, root, old)
        cross = profiles.crossed_certificate(authority.certificate, above, now) if above else None
        tls = _rotated_tls(pki, new_key, (root, authority), now)
        issuing = _new_issuing(pki, ISSUING, new_key, authority, now)
        if made:
            made.write(pki, now)
        elif renewed:
            crls.write_crl(pki, root, renewed)
        if crossed is None and cross is not None:
            crossed = _write_crossed(pki, f"{root}-by-{old}", cross, now)
        if isinstance(tls, _New):
            tls.write(pki, now)
            tls = tls.name
        issuing.write(pki, now)
        crls.write_bundle(pki)
    return Rotation(root, crossed, issuing.name, tls)


def _opened(
    pki: Pki, spare: str | None, passphrase: Callable[[str], bytes | None], now: datetime
) -> Authority | None:
    """Return the standby with its opened key, if there is one."""
    if spare is None:
        return None
    refuse_early(pki.certificate(spare), now)
    return open_authority(pki, spare, lambda: passphrase(spare))


def _write_crossed(pki: Pki, name: str, certificate: x509.Certificate, now: datetime) -> str:
    enter(pki, name, certificate, now, kind="certify")
    write_certificate(pki.certificate_path(name), certificate)
    return name


def _refuse_unknown(pki: Pki, old: str, now: datetime) -> None:
    """Refuse a new root that no device would know: no standby, and no old root to certify it."""
    refuse_ended_ca(pki, old, now)
    if not os.path.lexists(pki.key_path(old)):
        raise Failed(
            "state.pki",
            f'the key of the root "{common_name(pki.certificate(old))}" is not here and there is '
            "no standby: devices would not know a new root",
            expected=f"{pki.key_path(old)}, or standby.crt",
            found="neither",
            hint=f"bring {pki.key_path(old)} here from where the root is, and take it away "
            "afterwards; or fwsign pki standby, and rotate when devices know it",
        )


def _rotated_tls(
    pki: Pki, new_key: NewKey, root: tuple[str, Authority], now: datetime
) -> _New | str | None:
    """Make the TLS CA below a new root, if there is one below the old, or name one that is there.

    Nothing is written.
    """
    if not pki.issuers_in_line(ISSUING_TLS):
        return None
    name = pki.issuing("client")
    if pki.issuer_of(pki.certificate(name)) == root[0]:  # a killed run left it
        return name
    return _new_issuing(pki, ISSUING_TLS, new_key, root[1], now)


def _refuse_elsewhere(pki: Pki) -> None:
    """Refuse in a root-only PKI: the next issuing CA makes a request on its own machine."""
    names = pki.issuers_in_line() or [ISSUING]
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


def _crossed(pki: Pki, root: str, old: str) -> str | None:
    """Return the name of the new root as certified by the old one, where a killed run left it."""
    name = f"{root}-by-{old}"
    return name if name in pki.names() else None


def _new_root(pki: Pki, first: str, new_key: NewKey, now: datetime) -> _New:
    taken = pki.roots()
    name = next_name(first, taken)
    org = organisation_of(pki.root) or common_name(pki.root)
    key = new_private_key(new_key.alg or default_algorithm(pki.certificate(pki.roots()[-1])))
    certificate = profiles.root_certificate(key, org, now, number=len(taken) + 1)
    return _New(name, Authority(certificate, key), new_key.secret(), new_key.kdf or "scrypt")


def _new_issuing(pki: Pki, line: str, new_key: NewKey, issuer: Authority, now: datetime) -> _New:
    taken = pki.issuers_in_line(line)
    name = next_name(line, pki.names())
    org = organisation_of(issuer.certificate) or common_name(issuer.certificate)
    alg = new_key.alg or default_algorithm(issuer.certificate)
    subject = issuing_name(org, name, len(taken) + 1)
    more = _next_extensions(pki, taken, issuer)
    authority = new_issuing(alg, subject, _next_limits(pki, line), issuer, now, more=more)
    return _New(name, authority, new_key.secret(), new_key.kdf or "scrypt")


def _next_extensions(pki: Pki, taken: Sequence[str], issuer: Authority) -> Extensions:
    """Return the added extensions of a line's last CA, if they name the same issuer's CRL."""
    if not taken:
        return ()
    before = pki.certificate(taken[-1])
    same = issuer_among(before, [("", issuer.certificate)]) is not None
    return extras_of(before).extensions() if same else ()


def _next_limits(pki: Pki, line: str) -> CaLimits:
    """Return the limits of a line's next CA: those of the last, or `TLS_ONLY` for the first."""
    if not pki.issuers_in_line(line):
        return TLS_ONLY
    before = limits_of(_before(pki, line))
    # One that issued everything leaves TLS to the CA that is for it.
    if pki.issuers_in_line(ISSUING_TLS) and not before.usages:
        return before._replace(usages=SIGNING.usages)
    return before
