# SPDX-License-Identifier: Apache-2.0
"""Certificate requests (PKCS #10, RFC 2986) and the parts of them that count."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed
from fwsign.pki.leaves import alternative_names, check_public_key
from fwsign.pki.profiles import limits_of, organisation_of

if TYPE_CHECKING:
    from fwsign.keys import PublicKey
    from fwsign.pki.leaves import Address

REQUEST_LIMIT = 64 * 1024
"""Octets of a request's file; one with ML-DSA-87 takes 10 kB in PEM."""


class Request(NamedTuple):
    """A request: it proves its key, and asks for names that the CA need not grant."""

    public_key: PublicKey
    organisation: str | None
    domains: tuple[str, ...]
    addresses: tuple[Address, ...]
    permitted: tuple[str, ...]
    usages: tuple[x509.ObjectIdentifier, ...]
    digest: str
    """SHA-256 of the request in DER, in hex."""


def parse_request(data: bytes, what: str, *, compat: bool | None = None) -> Request:
    """Read a request, in PEM or DER, and check its signature and its key.

    Args:
        data: the file's content.
        what: its name, for refusals.
        compat: as for `fwsign.pki.leaves.check_public_key`.

    Raises:
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
        organisation = organisation_of(request)
    except UnsupportedAlgorithm as error:
        raise Failed(
            "key.unsupported", f"{what} is of a kind that is not supported: {error}"
        ) from None
    except (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion) as error:
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
    digest = sha256(request.public_bytes(Encoding.DER)).hexdigest()
    return Request(checked, organisation, domains, addresses, *limits, digest)
