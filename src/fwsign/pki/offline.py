# SPDX-License-Identifier: Apache-2.0
"""A root on one machine and the issuing CA on another: request, certificate, and back.

`create_request` makes the directory of the issuing CA with its key and a request. `sign_request`
certifies the request on the root's machine. `fwsign.pki.acceptance` accepts the certificate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.atomic import write_atomic
from fwsign.errors import Failed
from fwsign.keys.file import new_private_key, write_private_key
from fwsign.names import host_name, organisation, vendor_domain
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.directory import (
    ISSUING,
    REQUEST,
    ROOT,
    Pki,
    common_name,
    is_issuing,
    next_name,
)
from fwsign.pki.files import build_beside, make_directories, write_certificate
from fwsign.pki.flat import enter, refuse_flat
from fwsign.pki.issue import last_day
from fwsign.pki.lock import exclusive
from fwsign.pki.log import Origin
from fwsign.pki.renewal import Replacement, replace_certificate
from fwsign.pki.term import refuse_ended_ca

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fwsign.keys import Passphrase
    from fwsign.pki.issue import NewKey
    from fwsign.pki.request import Request


def create_request(
    directory: str | os.PathLike[str],
    *,
    org: str,
    vendor: str,
    permit: Sequence[str] = (),
    new_key: NewKey,
) -> Path:
    """Make the directory of an issuing CA whose root is elsewhere; return the request's path.

    Args:
        directory: must not exist, or be empty.
        org: name of the organisation, the O of the CA.
        vendor: the domain that the CA requests.
        permit: more such domains.
        new_key: the key to make for the CA.

    Raises:
        Failed: `state.pki-exists`, `state.policy`, `key.*`, `io.*`. Nothing is left then.
    """
    organisation(org)
    names = dict.fromkeys((vendor_domain(vendor), *map(host_name, permit)))
    domains = [x509.DNSName(name) for name in names]

    def build(scratch: Path) -> None:
        make_directories(scratch)
        (scratch / REQUEST).parent.mkdir()
        key = new_private_key(new_key.alg)
        builder = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(profiles.authority_name(org, "Issuing CA"))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.NameConstraints(domains, None), critical=True)
        )
        request = builder.sign(key, profiles.signature_hash(key))
        write_private_key(scratch / "private/issuing.key", key, new_key.secret())
        write_atomic(scratch / REQUEST, request.public_bytes(Encoding.PEM))

    build_beside(directory, build)
    return Path(directory) / REQUEST


def sign_request(
    pki_dir: str | os.PathLike[str],
    request: Request,
    *,
    permitted: Sequence[str],
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
        permitted: the domains that the CA is limited to; at least one.
        lifetime: the span from `now`; None: 10 years, or until the root ends.
        root_passphrase: called if the root's key is encrypted.
        now: an aware time; notBefore is an hour earlier.

    Raises:
        Failed: `state.policy`: no domain, or an impossible one; `state.pki`, `state.clock`,
            `key.*`, `io.*`.
    """
    now = profiles.utc(now)
    domains = tuple(dict.fromkeys((*map(vendor_domain, permitted[:1]), *map(host_name, permitted))))
    if not domains:
        raise Failed("state.policy", "an issuing CA must be limited to a domain, none was given")
    pki = Pki(pki_dir)
    refuse_flat(pki)
    refuse_ended_ca(pki, ROOT, now)
    end = None if lifetime is None else last_day("the CA", pki.root, lifetime, now)
    root = open_authority(pki, ROOT, root_passphrase)
    origin = Origin(request=request.digest)
    with exclusive(pki.directory):
        taken = tuple(name for name in pki.authorities() if is_issuing(name))
        known = [name for name in taken if pki.certificate(name).public_key() == request.public_key]
        name = known[0] if known else next_name(ISSUING, taken)
        old = pki.certificate(name) if known else None
        if old is not None and pki.revocation(name) is not None:
            raise Failed(
                "state.pki",
                f'the CA "{common_name(old)}" was revoked: its key is not certified again',
                expected="a new key",
                found="the key of a revoked CA",
            )
        org = request.organisation or profiles.organisation_of(pki.root) or common_name(pki.root)
        number = len(taken) + 1
        subject = (
            old.subject if old else profiles.authority_name(organisation(org), "Issuing CA", number)
        )
        certificate = profiles.issuing_certificate(
            request.public_key, subject, domains, root, now, end=end
        )
        if old is not None:
            change = Replacement(name, old, certificate, now, origin, "certify")
            replace_certificate(pki, change)
        else:
            enter(pki, name, certificate, now, kind="certify", origin=origin)
            write_certificate(pki.certificate_path(name), certificate)
    return pki.certificate_path(name)
