# SPDX-License-Identifier: Apache-2.0
"""Make a PKI directory, and open the CAs of one.

One process writes at a time. Files that belong together are written in an order in which a killed
process leaves a readable directory, which the next run repairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from fwsign.errors import Failed
from fwsign.files import read_bytes
from fwsign.format.library import ML_DSA, require
from fwsign.keys.file import KEY_FILE_LIMIT, new_private_key, write_private_key
from fwsign.keys.formats import read_private_key
from fwsign.names import host_name, organisation, vendor_domain
from fwsign.pki import crls, leaves, profiles
from fwsign.pki.certificates import common_name
from fwsign.pki.directory import Pki
from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, ROOT, is_root
from fwsign.pki.extras import NO_EXTRAS
from fwsign.pki.files import build_beside, make_directories, set_aside, write_certificate
from fwsign.pki.flat import enter, make_flat
from fwsign.pki.log import log_certificate
from fwsign.pki.profiles import SIGNING, TLS_ONLY, Authority, CaLimits
from fwsign.pki.subjects import issuing_name

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from fwsign.keys import Passphrase
    from fwsign.pki.extras import Extras

_Names: TypeAlias = tuple[str, tuple[str, ...]]
_Keys: TypeAlias = tuple[str, bytes | None, bytes | None]

FIRST_SIGNER: Final = "release"
"""The signer that `create` makes."""


def create(
    directory: str | os.PathLike[str],
    *,
    org: str,
    vendor: str,
    alg: str,
    root_passphrase: bytes | None,
    passphrase: bytes | None,
    now: datetime,
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
        alg: of all keys, one of `fwsign.keys.ALGORITHMS`.
        root_passphrase: for the root's key, which belongs offline; None for no encryption.
        passphrase: for the keys of the issuing CAs and the signer; None for no encryption.
        now: an aware time, the notBefore of all certificates less an hour.
        permit: more domains, or single labels, that the CA of signers may issue for.
        root_only: make only the root and its CRL; issuing CAs are elsewhere, see `offline`.
        flat: make the layout of easy-rsa: one CA, limited to the domains, which issues leaves.
        more: extensions to add to all certificates below the root; {ca} in an address stands for
            the name of each one's issuer.

    Raises:
        Failed: `state.pki-exists`, `state.policy`, `state.clock`, `key.unsupported`,
            `key.passphrase-missing`, `io.*`.
    """
    require(ML_DSA, "a PKI")
    organisation(org)
    names = (org, tuple(dict.fromkeys((vendor_domain(vendor), *map(host_name, permit)))))
    keys = (alg, root_passphrase, passphrase)
    now = profiles.utc(now)

    def build(scratch: Path) -> None:
        if flat:
            _build_flat(scratch, names, keys, now, more=more)
        else:
            _build(scratch, names, keys, now, root_only=root_only, more=more)

    build_beside(directory, build)
    return Pki(directory)


def open_authority(pki: Pki, name: str, passphrase: Passphrase) -> Authority:
    """Return a CA with its private key, ready to sign.

    Raises:
        Failed: `key.mismatch`: the key is of another certificate; `state.pki`, `key.*`, `io.*`.
    """
    try:
        return join(pki.certificate(name), pki.key_path(name), passphrase)
    except Failed as error:
        if error.code != "io.missing":
            raise
        whose = "the root" if is_root(name) else f'the CA "{name}"'
        hint = f"put the key of {whose} there for this command, or run it where that key is"
        raise error.with_hint(hint) from error


def join(certificate: x509.Certificate, path: Path, passphrase: Passphrase) -> Authority:
    """Return a CA made of a certificate and the key in a file.

    Any kind of key is accepted that made the certificate: a CA with RSA-2048 still issues,
    although a signer may not have such a key.

    Raises:
        Failed: `key.mismatch`: the key is of another certificate; `key.*`, `io.*`.
    """
    key = read_private_key(read_bytes(path, KEY_FILE_LIMIT), passphrase, path)
    if key.public_key() != certificate.public_key():
        raise Failed(
            "key.mismatch",
            f'{path} is not the key of the CA "{common_name(certificate)}"',
            expected=f'the key of "{common_name(certificate)}"',
            found="another key",
        )
    return Authority(certificate, key)


def new_issuing(
    alg: str,
    subject: x509.Name,
    limits: CaLimits,
    root: Authority,
    now: datetime,
    *,
    more: profiles.Extensions = (),
) -> Authority:
    """Make an issuing CA below a root, with a new key and more extensions; nothing is written."""
    key = new_private_key(alg)
    public = key.public_key()
    made = profiles.issuing_certificate(public, subject, limits, root, now, more=more)
    return Authority(made, key)


def add_authority(
    pki: Pki,
    name: str,
    authority: Authority,
    passphrase: bytes | None,
    now: datetime,
    *,
    kdf: str = "scrypt",
) -> None:
    """Write a new CA: its key, its first CRL, and its certificate last.

    The caller holds the lock, and writes the bundle of CRLs afterwards.
    """
    crl = crls.first_crl(name, authority, now)
    path = pki.key_path(name)
    set_aside(path)
    write_private_key(path, authority.key, passphrase, kdf)
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
    alg, root_passphrase, passphrase = keys
    make_directories(directory)
    root_key = new_private_key(alg)
    root = Authority(profiles.root_certificate(root_key, org, now), root_key)
    # Write this first: its directory sync covers those inside, and it makes this a Pki.
    write_certificate(directory / "ca.crt", root.certificate)
    pki = Pki(directory)
    log_certificate(directory, ROOT, root.certificate, now)
    write_private_key(pki.key_path(ROOT), root_key, root_passphrase)
    signed = {ROOT: crls.first_crl(ROOT, root, now)}
    if not root_only:
        limits = {ISSUING: SIGNING._replace(permitted=permitted), ISSUING_TLS: TLS_ONLY}
        added = more.at(ROOT).extensions()
        issuers = {
            name: new_issuing(alg, issuing_name(org, name), limit, root, now, more=added)
            for name, limit in limits.items()
        }
        for name, issuer in issuers.items():
            add_authority(pki, name, issuer, passphrase, now)
        leaf = leaves.Leaf("signer", FIRST_SIGNER, permitted[:1], more=more.at(ISSUING))
        signer = _first_signer(pki, issuers[ISSUING], leaf, (alg, passphrase), now)
        enter(pki, FIRST_SIGNER, signer, now)
        write_certificate(pki.certificate_path(FIRST_SIGNER), signer)
    crls.write_crls(pki, signed)


def _build_flat(
    directory: Path, names: _Names, keys: _Keys, now: datetime, *, more: Extras
) -> None:
    org, permitted = names
    alg, root_passphrase, passphrase = keys
    make_flat(directory)
    key = new_private_key(alg)
    root = Authority(profiles.root_certificate(key, org, now, permitted=permitted), key)
    write_certificate(directory / "ca.crt", root.certificate)
    pki = Pki(directory)
    write_private_key(pki.key_path(ROOT), key, root_passphrase)
    leaf = leaves.Leaf("signer", FIRST_SIGNER, permitted[:1], more=more.at(ROOT))
    signer = _first_signer(pki, root, leaf, (alg, passphrase), now)
    log_certificate(directory, ROOT, root.certificate, now)
    enter(pki, FIRST_SIGNER, signer, now)
    write_certificate(pki.certificate_path(FIRST_SIGNER), signer)
    crls.write_crls(pki, {ROOT: crls.first_crl(ISSUING, root, now)})


def _first_signer(
    pki: Pki,
    issuer: Authority,
    leaf: leaves.Leaf,
    new_key: tuple[str, bytes | None],
    now: datetime,
) -> x509.Certificate:
    """Write the key of the first signer; return its certificate."""
    key = new_private_key(new_key[0])
    write_private_key(pki.key_path(FIRST_SIGNER), key, new_key[1])
    period = (profiles.begin(issuer.certificate, now), now + leaves.SIGNER.lifetime)
    return leaves.leaf_certificate(leaf, key.public_key(), period, issuer)
