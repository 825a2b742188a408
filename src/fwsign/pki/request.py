# SPDX-License-Identifier: Apache-2.0
"""Certificate requests (PKCS #10, RFC 2986) and the parts of them that count."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fwsign.errors import Failed
from fwsign.format.library import PARSE_ERRORS
from fwsign.pki.leaves import alternative_names, check_public_key, device_of
from fwsign.pki.profiles import limits_of
from fwsign.pki.subjects import organisation_of

if TYPE_CHECKING:
    from fwsign.keys import PublicKey
    from fwsign.pki.leaves import Address, DeviceIdentity

REQUEST_LIMIT = 64 * 1024
"""Octets of a request's file; one with ML-DSA-87 takes 10 kB in PEM."""


class CertificateRequest(NamedTuple):
    """A request: it proves its key, and asks for names that the CA need not grant."""

    public_key: PublicKey
    organisation: str | None
    domains: tuple[str, ...]
    addresses: tuple[Address, ...]
    permitted: tuple[str, ...]
    usages: tuple[x509.ObjectIdentifier, ...]
    digest: str
    """SHA-256 of the request in DER, in hex."""
    common_name: str | None = None
    device: DeviceIdentity | None = None
    subject: x509.Name = x509.Name([])
    alternative_names: tuple[x509.GeneralName, ...] = ()


def parse_request(data: bytes, what: str, *, compat: bool | None = None) -> CertificateRequest:
    """Read a request, in PEM or DER, and check its signature and its key.

    Args:
        data: the file's content.
        what: its name, for refusals.
        compat: as for `fwsign.pki.leaves.check_public_key`.

    Raises:
        Untrusted: `untrusted.example-key`: a key whose private half is published.
        Failed: `io.format`: not a request, or damaged; `key.mismatch`: its signature is not by its
            key; `key.unsupported`: a key of a kind or size that fwsign does not certify.
    """
    try:
        pem = b"-----BEGIN " in data
        request = x509.load_pem_x509_csr(data) if pem else x509.load_der_x509_csr(data)
        signed = request.is_signature_valid
        key = request.public_key()
        domains, addresses = alternative_names(request.extensions)
        limits = limits_of(request)
        organisation, common_name = organisation_of(request), _common_name(request)
        device = device_of(request)
    except UnsupportedAlgorithm as error:
        raise Failed(
            "key.unsupported", f"{what} is of a kind that is not supported: {error}"
        ) from None
    except PARSE_ERRORS as error:
        raise Failed(
            "io.format",
            f"{what} is not a certificate request in PEM or DER",
            expected="a certificate request (PKCS #10)",
            found=str(error)[:200],
        ) from None
    checked = check_public_key(key, what, compat=compat)
    if not signed:
        raise Failed(
            "key.mismatch",
            f"the signature of {what} is not by the key in it: it was changed, or the key copied",
            expected="a signature by the key that is to be certified",
            found="another",
        )
    return CertificateRequest(
        checked,
        organisation,
        domains,
        addresses,
        *limits,
        digest=sha256(request.public_bytes(Encoding.DER)).hexdigest(),
        common_name=common_name,
        device=device,
        subject=request.subject,
        alternative_names=names_in(request),
    )


def names_in(
    thing: x509.Certificate | x509.CertificateSigningRequest,
) -> tuple[x509.GeneralName, ...]:
    """Return the subject alternative names of all types."""
    try:
        found = thing.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(found)


def _common_name(request: x509.CertificateSigningRequest) -> str | None:
    """Return the CN; None if there is none.

    Raises:
        ValueError: there are several, so that programs could read different ones.
    """
    found = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) > 1:
        raise ValueError(f"{len(found)} common names")
    return str(found[0].value) if found else None
