# SPDX-License-Identifier: Apache-2.0
"""Writing a PKI directory: make one, issue signers; revoking is in `revocation`.

Each file is written whole or not at all, a new directory appears whole or not at all, and one
process writes at a time. Where two files belong together, the order is such that a killed
process leaves a directory that can be read, and that the next run puts right.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.atomic import io_error, sync_directory, write_atomic
from fwsign.errors import Failed
from fwsign.keys.file import load_private_key, new_private_key, write_private_key
from fwsign.names import organisation, signer_name, vendor_domain
from fwsign.pki import profiles
from fwsign.pki.directory import ISSUING, ROOT, Pki, common_name
from fwsign.pki.lock import exclusive
from fwsign.pki.profiles import Authority

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from cryptography import x509

    from fwsign.keys import Passphrase

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
) -> Pki:
    """Make a PKI: root, issuing CA, the signer `release`, and the first CRLs.

    It is built beside `directory` and then renamed, so that an interrupted run leaves nothing
    under that name.

    Args:
        directory: must not exist, or be empty.
        org: name of the organisation, part of every subject.
        vendor: the domain that the issuing CA is limited to.
        alg: of all three keys, one of `fwsign.keys.ALGORITHMS`.
        root_passphrase: for the root's key, which belongs offline; None: not encrypted.
        passphrase: for the keys of the issuing CA and the signer; None: not encrypted.
        now: an aware time, the notBefore of all certificates less an hour.

    Raises:
        Failed: `state.pki-exists`, `state.policy`, `state.clock`, `key.unsupported`,
            `key.passphrase-missing`, `io.*`.
    """
    organisation(org)
    vendor_domain(vendor)
    now = profiles.utc(now)
    try:
        target = Path(os.path.realpath(directory))  # resolve() raises RuntimeError for a loop
        _refuse_used(target)
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:64]}.", dir=target.parent) as name:
            scratch = Path(name) / "pki"
            _build(scratch, (org, vendor), alg, (root_passphrase, passphrase), now)
            _put_in_place(scratch, target)
    except OSError as error:
        raise io_error(error, directory, "write") from error
    return Pki(directory)


def issue_signer(
    pki_dir: str | os.PathLike[str],
    name: str,
    *,
    vendors: Sequence[str] = (),
    lifetime: timedelta | None = None,
    alg: str,
    passphrase: bytes | None,
    ca_passphrase: Passphrase,
    now: datetime,
) -> Path:
    """Make a signer: a key and a certificate of the issuing CA; return the certificate's path.

    Args:
        pki_dir: the PKI.
        name: of the signer, see `fwsign.names.signer_name`.
        vendors: the domains that it may sign for; none: those that the issuing CA is limited to.
        lifetime: from `now`; None: two years, or until the issuing CA ends.
        alg: one of `fwsign.keys.ALGORITHMS`.
        passphrase: for the new key; None: not encrypted.
        ca_passphrase: asked for when the key of the issuing CA is encrypted.
        now: an aware time; notBefore is an hour earlier.

    Raises:
        Failed: `state.pki-exists`: the name is taken; `state.pki`: the issuing CA may not issue
            that; `state.policy`, `state.clock`, `key.*`, `io.*`. Nothing has been written then.
    """
    signer_name(name)
    now = profiles.utc(now)
    pki = Pki(pki_dir)
    certificate = pki.certificate(ISSUING)
    _refuse_taken(pki, name)
    _refuse_unable(pki, certificate, now)
    domains = _domains(certificate, vendors)
    end = _end(name, certificate, lifetime, now)
    issuer = open_authority(pki, ISSUING, ca_passphrase)
    key = new_private_key(alg)
    period = (max(now - profiles.BACKDATED, certificate.not_valid_before_utc), end)
    signer = profiles.signer_certificate(key.public_key(), name, domains, period, issuer)
    with exclusive(pki.directory):
        _refuse_taken(pki, name)
        _set_aside(pki.key_path(name))
        write_private_key(pki.key_path(name), key, passphrase)
        _write_certificate(pki.certificate_path(name), signer)
    return pki.certificate_path(name)


def open_authority(pki: Pki, name: str, passphrase: Passphrase) -> Authority:
    """Return a CA with its private key, ready to sign.

    Raises:
        Failed: `key.mismatch`: the key is of another certificate; `state.pki`, `key.*`, `io.*`.
    """
    certificate = pki.certificate(name)
    path = pki.key_path(name)
    key = load_private_key(path, passphrase)
    if key.public_key() != certificate.public_key():
        raise Failed(
            "key.mismatch",
            f'{path} is not the key of the CA "{common_name(certificate)}"',
            expected=f"the key of {pki.certificate_path(name)}",
            found="another key",
        )
    return Authority(certificate, key)


def refuse_early(issuer: x509.Certificate, now: datetime) -> None:
    """Refuse to issue anything before the CA itself begins: then the clock is wrong.

    Raises:
        Failed: `state.clock`.
    """
    begin = issuer.not_valid_before_utc
    if now < begin:
        raise Failed(
            "state.clock",
            f'it is {now:%Y-%m-%d}, but the CA "{common_name(issuer)}" begins {begin:%Y-%m-%d}',
            expected=f"{begin:%Y-%m-%d} or later",
            found=f"{now:%Y-%m-%d}",
        )


def _build(
    directory: Path,
    names: tuple[str, str],
    alg: str,
    passphrases: tuple[bytes | None, bytes | None],
    now: datetime,
) -> None:
    org, vendor = names
    for part, mode in (("", 0o777), ("private", 0o700), ("issued", 0o777), ("crl", 0o777)):
        (directory / part).mkdir(mode)
    root_key, issuing_key, signer_key = (new_private_key(alg) for _ in range(3))
    root = Authority(profiles.root_certificate(root_key, org, now), root_key)
    # First, so that syncing the directory for it covers the three inside; and so that it is a Pki.
    _write_certificate(directory / "ca.crt", root.certificate)
    pki = Pki(directory)
    issuing = Authority(
        profiles.issuing_certificate(issuing_key.public_key(), org, vendor, root, now),
        issuing_key,
    )
    period = (now - profiles.BACKDATED, now + profiles.SIGNER_LIFETIME)
    signer = profiles.signer_certificate(
        signer_key.public_key(), FIRST_SIGNER, (vendor,), period, issuing
    )
    write_private_key(pki.key_path(ROOT), root_key, passphrases[0])
    write_private_key(pki.key_path(ISSUING), issuing_key, passphrases[1])
    write_private_key(pki.key_path(FIRST_SIGNER), signer_key, passphrases[1])
    _write_certificate(pki.certificate_path(ISSUING), issuing.certificate)
    _write_certificate(pki.certificate_path(FIRST_SIGNER), signer)
    for name, ca in ((ROOT, root), (ISSUING, issuing)):
        crl = profiles.revocation_list(
            ca, int(now.timestamp()), profiles.CRL_LIFETIMES[name], (), now
        )
        write_atomic(pki.crl_path(name), crl.public_bytes(Encoding.PEM))


def _refuse_used(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Failed(
            "state.pki-exists",
            f"{target} exists already and is not an empty directory",
            expected="no such directory, or an empty one",
            found="files in it",
        )


def _put_in_place(scratch: Path, target: Path) -> None:
    if target.exists():  # Windows renames onto nothing, not even onto an empty directory
        scratch.chmod(stat.S_IMODE(target.stat().st_mode))
        target.rmdir()
    scratch.rename(target)
    sync_directory(target.parent)


def _refuse_taken(pki: Pki, name: str) -> None:
    if name in pki.names():
        raise Failed(
            "state.pki-exists",
            f'there is a certificate "{name}" in {pki.directory} already',
            expected="a new name",
            found=name,
        )


def _refuse_unable(pki: Pki, issuer: x509.Certificate, now: datetime) -> None:
    """Refuse what every verifier would: an issuer that is revoked, expired or of the future."""
    refuse_early(issuer, now)
    end = issuer.not_valid_after_utc
    entry = pki.revocation(ISSUING)
    if entry is not None:
        fault = f"was revoked {entry.revocation_date_utc:%Y-%m-%d}"
    elif now >= end:
        fault = f"expired {end:%Y-%m-%d}, it is {now:%Y-%m-%d}"
    else:
        return
    raise Failed(
        "state.pki",
        f'the CA "{common_name(issuer)}" {fault}',
        expected="a CA that may issue",
        found=fault,
    )


def _domains(issuer: x509.Certificate, vendors: Sequence[str]) -> tuple[str, ...]:
    """Return the vendors of a new signer, each within what its issuer is limited to."""
    permitted = profiles.permitted_vendors(issuer)
    wanted = tuple(dict.fromkeys(map(vendor_domain, vendors))) or permitted
    for vendor in wanted:
        # RFC 5280 s.4.2.1.10: the name itself, or with more labels in front.
        if permitted and not any(f".{vendor}".endswith(f".{name}") for name in permitted):
            raise Failed(
                "state.pki",
                f'vendor "{vendor}" is outside what the CA "{common_name(issuer)}" is limited to: '
                f"{', '.join(permitted)}",
                expected=", ".join(permitted),
                found=vendor,
            )
    if wanted:
        return wanted
    raise Failed(
        "state.pki",
        f'the CA "{common_name(issuer)}" is not limited to a vendor, so the signer must name one',
        expected="a vendor",
        found="none",
    )


def _end(
    name: str, issuer: x509.Certificate, lifetime: timedelta | None, now: datetime
) -> datetime:
    last = issuer.not_valid_after_utc
    if lifetime is None:
        return min(now + profiles.SIGNER_LIFETIME, last)
    if lifetime.total_seconds() < 1:
        raise Failed(
            "state.clock",
            f'signer "{name}" would be valid for {lifetime.total_seconds():g} s',
            expected="a second or more",
            found=f"{lifetime.total_seconds():g} s",
        )
    if lifetime <= last - now:
        return (now + lifetime).replace(microsecond=0)
    try:
        end = f"{now + lifetime:%Y-%m-%d}"
    except OverflowError:
        end = "after 9999"
    raise Failed(
        "state.pki",
        f'signer "{name}" would be valid until {end}, '
        f'but its issuer "{common_name(issuer)}" only until {last:%Y-%m-%d}',
        expected=f"{last:%Y-%m-%d} or earlier",
        found=end,
    )


def _set_aside(key_path: Path) -> None:
    """Give way to a new key where a killed run left one without a certificate.

    It is renamed and not removed: nobody here can know that the key is of no more use.
    """
    try:
        if key_path.exists():
            number = 1
            while (aside := key_path.with_name(f"{key_path.name}.unused-{number}")).exists():
                number += 1
            key_path.rename(aside)
    except OSError as error:
        raise io_error(error, key_path, "write") from error


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    write_atomic(path, certificate.public_bytes(Encoding.PEM))
