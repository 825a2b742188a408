# SPDX-License-Identifier: Apache-2.0
"""The certificate that a client showed in its TLS handshake: whose it is, and whether it counts.

OpenSSL has checked that the client has its key, and that a CA of this PKI issued it. Here the
verify path judges it again, with the CRLs, and it must be one that is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed, FwsignError
from fwsign.est.http import Refused
from fwsign.format.library import PARSE_ERRORS
from fwsign.names import peer_name
from fwsign.pki.certificates import common_name
from fwsign.pki.leaves import Leaf, leaf_of
from fwsign.pki.paths.purpose import judge
from fwsign.x509.anchor import Anchor

if TYPE_CHECKING:
    from datetime import datetime

    from fwsign.pki.directory import Pki


class Peer(NamedTuple):
    """A client with a certificate that counts."""

    name: str
    certificate: x509.Certificate
    leaf: Leaf


def judge_peer(pki: Pki, der: bytes, now: datetime) -> Peer:
    """Return the client of a certificate.

    An old certificate of a renewed entry counts until it ends: the answer with the new one may
    have been lost.

    Raises:
        Refused: 403: it is not one that this PKI keeps, or it is revoked, expired or below a CA
            that is.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        name = peer_name(common_name(certificate))
        leaf = leaf_of(certificate)
        if leaf is None or not _is_kept(pki, name, certificate):
            raise _unkept()
        # Of a revoked entry, an older certificate does not count either.
        if (entry := pki.revocation_of(certificate) or pki.revocation(name)) is not None:
            when = f"{entry.revocation_date_utc:%Y-%m-%d}"
            raise Refused(403, f'the certificate of "{name}" was revoked {when}')
        _judge_path(pki, certificate, now)
    except Failed as error:  # its words are about files
        raise _unkept() from error
    except FwsignError as error:
        raise Refused(403, f"the client's certificate does not count: {error.message}") from error
    except PARSE_ERRORS as error:
        raise Refused(403, "the client's certificate cannot be read") from error
    return Peer(name, certificate, leaf)


def _unkept() -> Refused:
    return Refused(403, "the client's certificate is not one that is kept here")


def _is_kept(pki: Pki, name: str, certificate: x509.Certificate) -> bool:
    there = pki.certificate(name)  # raises where there is no such entry
    if there == certificate:
        return True
    return there.subject == certificate.subject and _old(pki, certificate) == certificate


def _old(pki: Pki, certificate: x509.Certificate) -> x509.Certificate | None:
    try:
        return pki.by_serial(f"{certificate.serial_number:X}")
    except Failed:
        return None


def _judge_path(pki: Pki, certificate: x509.Certificate, now: datetime) -> None:
    """Judge the path with the CRLs of all CAs above; raise as `fwsign.pki.paths.purpose.judge`."""
    issuer = pki.issuer_of(certificate)
    issuers = (issuer, *pki.issuers(issuer))
    root = pki.certificate(issuers[-1])
    chain = (certificate.public_bytes(Encoding.DER), *pki.path(issuer))
    crls = [pki.crl(ca).public_bytes(Encoding.DER) for ca in issuers]
    anchor = Anchor.from_certificate(root.public_bytes(Encoding.DER))
    judge(chain, [anchor], purpose="client", at=now, crls=crls)
