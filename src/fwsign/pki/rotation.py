# SPDX-License-Identifier: Apache-2.0
"""New CAs in a PKI that is in use: a standby root, another issuing CA, another root.

No existing file changes. Each new CA gets its key, its CRL and its certificate in this order, and
the certificate of the CA for signers is the last file: it puts the new path into use. After a
killed run, simply run the command again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fwsign.errors import Failed
from fwsign.files import exclusive
from fwsign.pki import crls, profiles
from fwsign.pki.authority import add_authority, new_issuing, open_authority
from fwsign.pki.ca_keys import NO_KEYS, refuse_reused
from fwsign.pki.ca_limits import next_extensions, next_limits
from fwsign.pki.certificates import common_name
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import entry_key, refuse_new_file, settled
from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, next_name
from fwsign.pki.files import write_certificate
from fwsign.pki.flat import enter, refuse_flat
from fwsign.pki.leaves import default_algorithm, renewed_algorithm
from fwsign.pki.profiles import Authority
from fwsign.pki.subjects import issuing_name, organisation_of
from fwsign.pki.validity import fresh_spares, has_ended, refuse_early, refuse_ended_ca

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cryptography import x509

    from fwsign.keys.held import HeldKey
    from fwsign.pki.entry_keys import EntryKey, KeyChoice, NewKey


class Rotation(NamedTuple):
    """The names of the CAs in use now.

    `crossed` is None if no old root certified the new one, `tls` if one issuing CA is for all.
    """

    root: str
    crossed: str | None
    issuing: str
    tls: str | None


class _New(NamedTuple):
    """A CA to write: its name, its certificate, and its key."""

    name: str
    authority: Authority
    key: EntryKey

    def write(self, pki: Pki, now: datetime) -> str:
        """Write it; return its name."""
        add_authority(pki, self.name, self.authority, self.key, now)
        return self.name


def current_root(pki: Pki) -> str:
    """Return the root above the CA that issues now.

    Raises:
        Failed: `state.pki`: no issuing CA has its key here; `io.*`.
    """
    refuse_flat(pki)
    _refuse_elsewhere(pki)
    return pki.issuer_of(pki.certificate(pki.in_use()[0]))


def standby(pki_dir: str | os.PathLike[str], *, new_key: KeyChoice, now: datetime) -> str:
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
    new_key = settled(new_key)
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
    new_key: KeyChoice,
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
    alg = renewed_algorithm(_before(pki, line), pki.certificate(root))
    refuse_new_file(pki, _issues_now(pki, line), new_key)
    issuer = open_authority(pki, root, lambda: passphrase(root))
    new_key = settled(new_key)
    with exclusive(pki.directory):
        new = _new_issuing(pki, line, new_key, issuer, now, alg=alg)
        new.write(pki, now)
        crls.write_bundle(pki)
    return new.name


def _before(pki: Pki, line: str) -> x509.Certificate:
    """Return the certificate of the CA that issues now in place of a line's next CA."""
    return pki.certificate(_issues_now(pki, line))


def _issues_now(pki: Pki, line: str) -> str:
    return pki.issuing("client" if line == ISSUING_TLS else "signer")


def rotate(
    pki_dir: str | os.PathLike[str],
    *,
    root_key: KeyChoice,
    new_key: NewKey,
    keys: Mapping[str, HeldKey] = NO_KEYS,
    passphrase: Callable[[str], bytes | None],
    now: datetime,
) -> Rotation:
    """Switch to another root: the standby if there is one, else a new one.

    The old root certifies it, so that devices which pin only the old root accept new releases;
    without its key, only devices that pin the standby do. New issuing CAs under it issue then.

    Args:
        pki_dir: the PKI.
        root_key: the new root's key, if there is no standby.
        new_key: of the issuing CAs.
        keys: keys of issuing CAs that exist, by `issuing` and `issuing-tls`.
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
    choices = _choices(pki, {} if spare else {old: root_key}, keys, new_key)
    above = _opened_old(pki, old, passphrase, now)
    opened = _opened(pki, spare, passphrase, now)
    choices = {name: settled(choice) for name, choice in choices.items()}
    with exclusive(pki.directory):
        # Everything is made before the first file is written.
        made = _new_root(pki, "ca", choices[old], now) if opened is None else None
        root = made.name if made else str(spare)
        authority = made.authority if made else opened
        assert authority is not None  # noqa: S101 - one of the two is there
        renewed = None if made else crls.next_crl([pki.crl(root)], root, authority, (), now)
        crossed = _crossed(pki, root, old)
        cross = profiles.crossed_certificate(authority.certificate, above, now) if above else None
        tls = _rotated_tls(pki, choices, (root, authority), now)
        own = choices[_issues_now(pki, ISSUING)]
        issuing = _new_issuing(pki, ISSUING, own, authority, now)
        if made:
            made.write(pki, now)
        elif renewed:
            crls.write_crl(pki, root, renewed)
        if crossed is None and cross is not None:
            crossed = _write_crossed(pki, f"{root}-by-{old}", cross, now)
        if isinstance(tls, _New):
            tls = tls.write(pki, now)
        issuing.write(pki, now)
        crls.write_bundle(pki)
    return Rotation(root, crossed, issuing.name, tls)


def _choices(
    pki: Pki, roots: dict[str, KeyChoice], keys: Mapping[str, HeldKey], new_key: NewKey
) -> dict[str, KeyChoice]:
    """Return the choice of each new CA's key, by the name of the CA before it."""
    found = roots | {_issues_now(pki, one): keys.get(one, new_key) for one in _lines(pki)}
    for name, choice in found.items():
        refuse_new_file(pki, name, choice)
    return found


def _opened_old(
    pki: Pki, old: str, passphrase: Callable[[str], bytes | None], now: datetime
) -> Authority | None:
    """Return the old root with its opened key; None if it has ended, or its key is not here."""
    if has_ended(pki.certificate(old), now) or not pki.has_key(old):
        return None
    return open_authority(pki, old, lambda: passphrase(old))


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
    if not pki.has_key(old):
        raise Failed(
            "state.pki",
            f'the key of the root "{common_name(pki.certificate(old))}" is not here and there is '
            "no standby: devices would not know a new root",
            expected=f"{pki.key_path(old)}, or standby.crt",
            found="neither",
            hint=f"bring {pki.key_path(old)} here from where the root is, and take it away "
            "afterwards; or fwsign pki standby, and rotate when devices know it",
        )


def _lines(pki: Pki) -> tuple[str, ...]:
    return (ISSUING, *((ISSUING_TLS,) if pki.issuers_in_line(ISSUING_TLS) else ()))


def _rotated_tls(
    pki: Pki, choices: Mapping[str, KeyChoice], root: tuple[str, Authority], now: datetime
) -> _New | str | None:
    """Make the TLS CA below a new root, if there is one below the old, or name one that is there.

    Nothing is written.
    """
    if ISSUING_TLS not in _lines(pki):
        return None
    name = pki.issuing("client")
    if pki.issuer_of(pki.certificate(name)) == root[0]:  # a killed run left it
        return name
    return _new_issuing(pki, ISSUING_TLS, choices[name], root[1], now)


def _refuse_elsewhere(pki: Pki) -> None:
    """Refuse in a root-only PKI: the next issuing CA makes a request on its own machine."""
    names = pki.issuers_in_line() or [ISSUING]
    path = pki.key_path(names[-1])
    if not any(map(pki.has_key, names)):
        raise Failed(
            "state.pki",
            f"no issuing CA has its key here: {path} is missing",
            expected=path,
            found="none",
            hint="rotate where the issuing CA is; for another one below this root: fwsign pki csr "
            "there, fwsign pki sign-ca here, fwsign pki accept there",
        )


def _crossed(pki: Pki, root: str, old: str) -> str | None:
    """Return the name of the new root as certified by the old one, where a killed run left it."""
    name = f"{root}-by-{old}"
    return name if name in pki.names() else None


def _new_root(pki: Pki, first: str, choice: KeyChoice, now: datetime) -> _New:
    taken = pki.roots()
    name = next_name(first, taken)
    org = organisation_of(pki.root) or common_name(pki.root)
    key = entry_key(choice, default_algorithm(pki.certificate(pki.roots()[-1])))
    refuse_reused(pki, name, key)
    certificate = profiles.root_certificate(key.key, org, now, number=len(taken) + 1)
    return _New(name, Authority(certificate, key.key), key)


def _new_issuing(
    pki: Pki, line: str, choice: KeyChoice, issuer: Authority, now: datetime, *, alg: str = ""
) -> _New:
    key = entry_key(choice, alg or default_algorithm(issuer.certificate))
    taken = pki.issuers_in_line(line)
    name = next_name(line, pki.names())
    org = organisation_of(issuer.certificate) or common_name(issuer.certificate)
    refuse_reused(pki, name, key)
    subject = issuing_name(org, name, len(taken) + 1)
    more = next_extensions(pki, taken, issuer)
    authority = new_issuing(
        key, subject, next_limits(pki, line, _before(pki, line)), issuer, now, more=more
    )
    return _New(name, authority, key)
