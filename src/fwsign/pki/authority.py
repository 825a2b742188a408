# SPDX-License-Identifier: Apache-2.0
"""Make a PKI directory, and open the CAs of one.

One process writes at a time. Files that belong together are written in an order in which a killed
process leaves a readable directory, which the next run repairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fwsign.errors import Failed
from fwsign.format.library import ML_DSA, require
from fwsign.names import host_name, organisation, vendor_domain
from fwsign.pki import crls, leaves, profiles
from fwsign.pki.ca_keys import NO_KEYS, refuse_unmade
from fwsign.pki.certificates import common_name, is_ca
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import (
    EntryKey,
    NewKey,
    clear_key,
    entry_key,
    open_private,
    write_key,
)
from fwsign.pki.entry_names import FIRST_NAMES, FIRST_SIGNER, ISSUING, ISSUING_TLS, ROOT, is_root
from fwsign.pki.extras import NO_EXTRAS
from fwsign.pki.files import build_beside, make_directories, write_certificate
from fwsign.pki.flat import enter, make_flat
from fwsign.pki.log import log_certificate
from fwsign.pki.profiles import SIGNING, TLS_ONLY, Authority, CaLimits
from fwsign.pki.subjects import issuing_name

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from fwsign.keys import Passphrase, PublicKey
    from fwsign.keys.held import HeldKey
    from fwsign.pki.extras import Extras

_Names: TypeAlias = tuple[str, tuple[str, ...]]


class _Keys(NamedTuple):
    """The keys of a new PKI."""

    alg: str
    root_passphrase: bytes | None
    passphrase: bytes | None
    held: Mapping[str, HeldKey]

    def of(self, name: str) -> EntryKey:
        """Make the key of an entry, or take the one that exists."""
        secret = self.root_passphrase if name == ROOT else self.passphrase
        return entry_key(self.held.get(name) or NewKey(self.alg, secret), self.alg)


def create(
    directory: str | os.PathLike[str],
    *,
    org: str,
    vendor: str,
    alg: str,
    root_passphrase: bytes | None,
    passphrase: bytes | None,
    now: datetime,
    keys: Mapping[str, HeldKey] = NO_KEYS,
    permit: Sequence[str] = (),
    root_only: bool = False,
    flat: bool = False,
    more: Extras = NO_EXTRAS,
) -> Pki:
    """Make a PKI: root, an issuing CA for signers, one for TLS, the signer `release`, first CRLs.

    It is built beside `directory` and then renamed, so that an interrupted run leaves nothing
    under that name.

    Args:
        directory: must not exist, or be empty.
        org: name of the organisation, part of every subject.
        vendor: the domain that signers are limited to.
        alg: of all new keys, one of `fwsign.keys.ALGORITHMS`.
        root_passphrase: for the root's key, which belongs offline; None for no encryption.
        passphrase: for the keys of the issuing CAs and the signer; None for no encryption.
        now: an aware time, the notBefore of all certificates less an hour.
        keys: keys that exist, by the names of `FIRST_NAMES`; they stay where they are, and the
            other keys are made. Each of them signs or is certified.
        permit: more domains, or single labels, that the CA of signers may issue for.
        root_only: make only the root and its CRL; issuing CAs are elsewhere, see `offline`.
        flat: make the layout of easy-rsa: one CA, limited to the domains, which issues leaves.
        more: extensions to add to all certificates below the root; {ca} in an address stands for
            the name of each one's issuer.

    Raises:
        Failed: `state.pki-exists`, `state.policy`, `state.clock`, `key.*`, `io.*`.
    """
    require(ML_DSA, "a PKI")
    organisation(org)
    names = (org, tuple(dict.fromkeys((vendor_domain(vendor), *map(host_name, permit)))))
    made = (ROOT, *(() if root_only else (FIRST_SIGNER,) if flat else FIRST_NAMES[1:]))
    refuse_unmade(keys, made)
    own = _Keys(alg, root_passphrase, passphrase, keys)
    now = profiles.utc(now)

    def build(scratch: Path) -> None:
        if flat:
            _build_flat(scratch, names, own, now, more=more)
        else:
            _build(scratch, names, own, now, root_only=root_only, more=more)

    build_beside(directory, build)
    return Pki(directory)


def open_authority(pki: Pki, name: str, passphrase: Passphrase) -> Authority:
    """Return a CA with its private key, or a stand-in for one that lives elsewhere.

    Raises:
        Failed: `key.mismatch`: the key is of another certificate; `state.pki`, `key.*`, `io.*`.
    """
    try:
        return join(pki.certificate(name), pki.key_uri(name), passphrase)
    except Failed as error:
        if error.code != "io.missing":
            raise
        whose = "the root" if is_root(name) else f'the CA "{name}"'
        hint = f"put the key of {whose} there for this command, or run it where that key is"
        raise error.with_hint(hint) from error


def join(certificate: x509.Certificate, uri: str, passphrase: Passphrase) -> Authority:
    """Return a CA made of a certificate and the key at a URI, such as a path.

    Any kind of key is accepted that made the certificate: a CA with RSA-2048 still issues,
    although a signer may not have such a key.

    Raises:
        Failed: `key.mismatch`: the key is of another certificate; `key.*`, `io.*`.
    """
    key = open_private(uri, passphrase)
    refuse_foreign_key(certificate, key.public_key(), uri)
    return Authority(certificate, key)


def refuse_foreign_key(certificate: x509.Certificate, public: PublicKey, uri: str) -> None:
    """Refuse a key that is not that of a certificate.

    Raises:
        Failed: `key.mismatch`.
    """
    if public != certificate.public_key():
        whose = f'the CA "{common_name(certificate)}"'
        whose = whose if is_ca(certificate) else f'"{common_name(certificate)}"'
        raise Failed(
            "key.mismatch",
            f"{uri} is not the key of {whose}",
            expected=f'the key of "{common_name(certificate)}"',
            found="another key",
        )


def new_issuing(
    key: EntryKey,
    subject: x509.Name,
    limits: CaLimits,
    root: Authority,
    now: datetime,
    *,
    more: profiles.Extensions = (),
) -> Authority:
    """Make an issuing CA below a root, with its key and more extensions; nothing is written."""
    public = key.key.public_key()
    made = profiles.issuing_certificate(public, subject, limits, root, now, more=more)
    return Authority(made, key.key)


def add_authority(
    pki: Pki,
    name: str,
    authority: Authority,
    key: EntryKey,
    now: datetime,
) -> None:
    """Write a new CA: its key or where that lives, its first CRL, and its certificate last.

    The caller holds the lock, and writes the bundle of CRLs afterwards.
    """
    crl = crls.first_crl(name, authority, now)
    clear_key(pki, name)
    write_key(pki, name, key)
    crls.write_crl(pki, name, crl, authority.certificate)
    enter(pki, name, authority.certificate, now)
    write_certificate(pki.certificate_path(name), authority.certificate)


def _build(
    directory: Path,
    names: _Names,
    keys: _Keys,
    now: datetime,
    *,
    root_only: bool,
    more: Extras,
) -> None:
    org, permitted = names
    make_directories(directory)
    root_key = keys.of(ROOT)
    root = Authority(profiles.root_certificate(root_key.key, org, now), root_key.key)
    # Write this first: its directory sync covers those inside, and it makes this a Pki.
    write_certificate(directory / "ca.crt", root.certificate)
    pki = Pki(directory)
    log_certificate(directory, ROOT, root.certificate, now)
    write_key(pki, ROOT, root_key)
    signed = {ROOT: crls.first_crl(ROOT, root, now)}
    if not root_only:
        limits = {ISSUING: SIGNING._replace(permitted=permitted), ISSUING_TLS: TLS_ONLY}
        added = more.at(ROOT).extensions()
        own = {name: keys.of(name) for name in limits}
        issuers = {
            name: new_issuing(own[name], issuing_name(org, name), limit, root, now, more=added)
            for name, limit in limits.items()
        }
        for name, issuer in issuers.items():
            add_authority(pki, name, issuer, own[name], now)
        leaf = leaves.Leaf("signer", FIRST_SIGNER, permitted[:1], more=more.at(ISSUING))
        signer = _first_signer(pki, issuers[ISSUING], leaf, keys.of(FIRST_SIGNER), now)
        enter(pki, FIRST_SIGNER, signer, now)
        write_certificate(pki.certificate_path(FIRST_SIGNER), signer)
    crls.write_crls(pki, signed)


def _build_flat(
    directory: Path, names: _Names, keys: _Keys, now: datetime, *, more: Extras
) -> None:
    org, permitted = names
    make_flat(directory)
    key = keys.of(ROOT)
    root = Authority(profiles.root_certificate(key.key, org, now, permitted=permitted), key.key)
    write_certificate(directory / "ca.crt", root.certificate)
    pki = Pki(directory)
    write_key(pki, ROOT, key)
    leaf = leaves.Leaf("signer", FIRST_SIGNER, permitted[:1], more=more.at(ROOT))
    signer = _first_signer(pki, root, leaf, keys.of(FIRST_SIGNER), now)
    log_certificate(directory, ROOT, root.certificate, now)
    enter(pki, FIRST_SIGNER, signer, now)
    write_certificate(pki.certificate_path(FIRST_SIGNER), signer)
    crls.write_crls(pki, {ROOT: crls.first_crl(ISSUING, root, now)})


def _first_signer(
    pki: Pki,
    issuer: Authority,
    leaf: leaves.Leaf,
    key: EntryKey,
    now: datetime,
) -> x509.Certificate:
    """Write the key of the first signer; return its certificate."""
    public = leaves.check_public_key(key.key.public_key(), f'"{FIRST_SIGNER}"')
    write_key(pki, FIRST_SIGNER, key)
    period = (profiles.begin(issuer.certificate, now), now + leaves.SIGNER.lifetime)
    return leaves.leaf_certificate(leaf, public, period, issuer)
