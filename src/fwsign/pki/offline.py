# SPDX-License-Identifier: Apache-2.0
"""A root on one machine and the issuing CAs on another: requests, certificates, and back.

`create_requests` makes the directory of the issuing CAs with their keys and requests, `add_request`
adds a CA for TLS to one without. `sign_request` certifies a request on the root's machine.
`fwsign.pki.acceptance` accepts the certificates.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.files import exclusive, io_error, write_atomic
from fwsign.names import host_name, organisation, vendor_domain
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.ca_keys import NO_KEYS
from fwsign.pki.certificates import common_name
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import clear_key, entry_key, settled, write_key
from fwsign.pki.entry_names import (
    ISSUING,
    ISSUING_TLS,
    REQUESTS,
    ROOT,
    line_of,
    next_name,
    request_path,
)
from fwsign.pki.files import build_beside, make_directories, write_certificate
from fwsign.pki.flat import enter, refuse_flat
from fwsign.pki.leaves import check_public_key, renewed_algorithm
from fwsign.pki.log import Origin
from fwsign.pki.places import Places
from fwsign.pki.profiles import SIGNING, TLS_ONLY, CaLimits
from fwsign.pki.renewal import Replacement, replace_certificate
from fwsign.pki.subjects import issuing_name, organisation_of
from fwsign.pki.validity import last_day, refuse_ended_ca

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from fwsign.keys import Passphrase
    from fwsign.keys.held import HeldKey
    from fwsign.pki.entry_keys import EntryKey, KeyChoice, NewKey
    from fwsign.pki.request import CertificateRequest


def create_requests(
    directory: str | os.PathLike[str],
    *,
    org: str,
    vendor: str,
    permit: Sequence[str] = (),
    new_key: NewKey,
    keys: Mapping[str, HeldKey] = NO_KEYS,
) -> tuple[Path, Path]:
    """Make the directory of issuing CAs whose root is elsewhere; return the requests' paths.

    The first is the CA of signers, the second that of TLS servers and clients.

    Args:
        directory: must not exist, or be empty.
        org: name of the organisation, the O of the CAs.
        vendor: the domain that the CA of signers requests.
        permit: more such domains.
        new_key: the keys to make for the CAs.
        keys: keys that exist, by `issuing` and `issuing-tls`; they stay where they are.

    Raises:
        Failed: `state.pki-exists`, `state.policy`, `key.*`, `io.*`. Nothing is left then.
    """
    organisation(org)
    names = dict.fromkeys((vendor_domain(vendor), *map(host_name, permit)))

    def build(scratch: Path) -> None:
        make_directories(scratch)
        (scratch / REQUESTS).mkdir()
        limits = {ISSUING: SIGNING._replace(permitted=tuple(names)), ISSUING_TLS: TLS_ONLY}
        for name, own in limits.items():
            _request(scratch, name, org, own, entry_key(keys.get(name, new_key), new_key.alg))

    build_beside(directory, build)
    place = Path(directory)
    return request_path(place, ISSUING), request_path(place, ISSUING_TLS)


def add_request(pki_dir: str | os.PathLike[str], *, new_key: KeyChoice) -> Path:
    """Ask the root, which is elsewhere, for a CA of TLS servers and clients.

    A request that the root has not answered yet is replaced, and its key set aside.

    Args:
        pki_dir: the PKI.
        new_key: the key to make, of the kind that the issuing CA has if its own is empty; or one
            that exists.

    Raises:
        Failed: `state.pki`, `key.*`, `io.*`.
    """
    pki = Pki(pki_dir)
    refuse_flat(pki)
    before = pki.certificate(pki.issuing("client"))
    alg = renewed_algorithm(before, pki.root)
    new_key = settled(new_key)
    org = organisation_of(before) or common_name(before)
    with exclusive(pki.directory):
        name = next_name(ISSUING_TLS, pki.names())
        path = request_path(pki.directory, name)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise io_error(error, path.parent, "write") from error
        clear_key(pki, name)
        _request(pki.directory, name, org, TLS_ONLY, entry_key(new_key, alg))
    return path


def _request(directory: Path, name: str, org: str, limits: CaLimits, key: EntryKey) -> None:
    """Write a key and a request, in a directory that holds the place for each."""
    check_public_key(key.key.public_key(), f'"{name}"')
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(issuing_name(org, name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    for extension, critical in profiles.limiting(limits):
        builder = builder.add_extension(extension, critical)
    request = builder.sign(key.key, profiles.signature_hash(key.key))
    if not request.is_signature_valid:
        raise profiles.wrong_signature("request")
    write_key(Places(directory), name, key)
    path = request_path(directory, name)
    write_atomic(path, request.public_bytes(Encoding.PEM), overwrite=True)


def sign_request(
    pki_dir: str | os.PathLike[str],
    request: CertificateRequest,
    *,
    permitted: Sequence[str] = (),
    tls: bool = False,
    lifetime: timedelta | None = None,
    root_passphrase: Passphrase,
    now: datetime,
) -> Path:
    """Certify the key of a request as an issuing CA; return the certificate's path.

    A key that was certified before keeps its name and its subject, so that the certificates it
    has issued stay valid.

    Args:
        pki_dir: the PKI with the root.
        request: from `fwsign.pki.request.parse_request`; only its key and O count.
        permitted: the domains that a CA of signers is limited to; at least one.
        tls: certify a CA of TLS servers and clients instead, which has no domains.
        lifetime: the span from `now`; None: 10 years, or until the root ends.
        root_passphrase: called if the root's key is encrypted.
        now: an aware time; notBefore is an hour earlier.

    Raises:
        Failed: `state.policy`: no domain, or an impossible one; `state.pki`: a key that was
            certified for the other use, or revoked; `state.clock`, `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    limits = TLS_ONLY if tls else _signing_limits(permitted)
    pki = Pki(pki_dir)
    refuse_flat(pki)
    refuse_ended_ca(pki, ROOT, now)
    end = None if lifetime is None else last_day("the CA", pki.root, lifetime, now)
    root = open_authority(pki, ROOT, root_passphrase)
    origin = Origin(request=request.digest)
    with exclusive(pki.directory):
        line = ISSUING_TLS if tls else ISSUING
        name, old = _certified(pki, request, line)
        if old is not None:
            subject = old.subject
            if not tls:  # before there was a CA for TLS, one was for all
                limits = limits._replace(usages=profiles.usages_of(old))
        else:
            org = request.organisation or organisation_of(pki.root) or common_name(pki.root)
            number = len(pki.issuers_in_line(line)) + 1
            subject = issuing_name(organisation(org), name, number)
        certificate = profiles.issuing_certificate(
            request.public_key, subject, limits, root, now, end=end
        )
        if old is not None:
            change = Replacement(name, old, certificate, now, origin, "certify")
            replace_certificate(pki, change)
        else:
            enter(pki, name, certificate, now, kind="certify", origin=origin)
            write_certificate(pki.certificate_path(name), certificate)
    return pki.certificate_path(name)


def _signing_limits(permitted: Sequence[str]) -> CaLimits:
    """Return the limits of a CA of signers."""
    domains = dict.fromkeys((*map(vendor_domain, permitted[:1]), *map(host_name, permitted)))
    if not domains:
        raise Failed("state.policy", "an issuing CA must be limited to a domain, none was given")
    return SIGNING._replace(permitted=tuple(domains))


def _certified(
    pki: Pki, request: CertificateRequest, line: str
) -> tuple[str, x509.Certificate | None]:
    """Return the name of the CA that has a request's key, and its certificate if it has one."""
    every = pki.issuers_in_line()
    known = [name for name in every if pki.certificate(name).public_key() == request.public_key]
    name = known[0] if known else next_name(line, pki.names())
    if line_of(name) != line:
        raise Failed(
            "state.pki",
            f'the key is that of the CA "{name}": one key is either for signers or for TLS',
            expected=f"a key of {line}, or a new one",
            found=name,
        )
    if not known:
        return name, None
    old = pki.certificate(name)
    if pki.revocation(name) is not None:
        raise Failed(
            "state.pki",
            f'the CA "{common_name(old)}" was revoked: its key is not certified again',
            expected="a new key",
            found="the key of a revoked CA",
        )
    return name, old
