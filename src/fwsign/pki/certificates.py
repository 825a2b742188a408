# SPDX-License-Identifier: Apache-2.0
"""Certificates and CRLs as files, and what they say of their CA."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from fwsign.errors import Failed
from fwsign.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_T = TypeVar("_T")

CERTIFICATE_LIMIT: Final = 64 * 1024
"""Octets of a certificate's file; ML-DSA-87 takes 10 kB in PEM, and easy-rsa adds text."""
CRL_LIMIT: Final = 2 * 1024 * 1024
"""Octets of a CRL's file: in PEM, more than an envelope can carry."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""Errors of cryptography for a certificate or CRL that it cannot decode."""


class MissingFile(Exception):
    """A file is not there; whoever reads a directory says what that means."""


def is_ca(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate says that it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def issuer_among(
    certificate: x509.Certificate, authorities: Iterable[tuple[str, x509.Certificate]]
) -> str | None:
    """Return the name of the first CA that issued a certificate; None if none of them did."""
    for name, authority in authorities:
        # Another name, another kind of key, or another key.
        with contextlib.suppress(*_UNREADABLE, InvalidSignature):
            certificate.verify_directly_issued_by(authority)
            return name
    return None


def common_name(certificate: x509.Certificate) -> str:
    """Return the CN of a certificate's subject, or the whole subject if it has no CN."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def crl_is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Tell whether the key of a CA has signed a CRL."""
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except _UNREADABLE:  # a kind of key that signs no CRL
        return False


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM.

    Raises:
        MissingFile: there is none.
        Failed: `state.pki`: it is no certificate; `io.*`.
    """

    def load(pem: bytes) -> x509.Certificate:
        certificate = x509.load_pem_x509_certificate(pem)
        # These are decoded on first use; a mistake in them must show here.
        _ = certificate.subject, certificate.issuer, certificate.extensions
        return certificate

    return _read(load, path, CERTIFICATE_LIMIT, "certificate")


def read_crl(path: Path) -> x509.CertificateRevocationList:
    """Read a CRL in PEM; raise like `read_certificate`."""

    def load(pem: bytes) -> x509.CertificateRevocationList:
        crl = x509.load_pem_x509_crl(pem)
        _ = crl.issuer, crl.extensions
        return crl

    return _read(load, path, CRL_LIMIT, "CRL")


def _read(load: Callable[[bytes], _T], path: Path, limit: int, kind: str) -> _T:
    try:
        return load(read_bytes(path, limit))
    except _UNREADABLE as error:
        raise Failed(
            "state.pki",
            f"{path} is not a {kind} in PEM",
            expected=f"PEM {kind}",
            found="something else",
        ) from error
    except Failed as error:
        if error.code in {"io.missing", "io.directory"}:
            raise MissingFile from error
        raise
