# SPDX-License-Identifier: Apache-2.0
"""The subjects of certificates: what CAs, leaves and devices are called in them."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from fwsign.pki.entry_names import ISSUING, ISSUING_TLS, line_of

ROLES: Final = {ISSUING: "Issuing CA", ISSUING_TLS: "TLS CA"}
"""The roles of issuing CAs, which end their names."""
_COMMON_NAME_LIMIT: Final = 64  # octets, RFC 5280 appendix A.1


def authority_name(org: str, role: str, number: int = 1) -> x509.Name:
    """Return the subject of a CA, such as O=Acme, CN=Acme Root CA 2; a long CN loses its middle."""
    end = f" {role}" if number == 1 else f" {role} {number}"
    room = _COMMON_NAME_LIMIT - len(end.encode())
    return subject_name(org, org.encode()[:room].decode(errors="ignore") + end)


def issuing_name(org: str, name: str, number: int = 1) -> x509.Name:
    """Return the subject of an issuing CA, by its name in the directory and its number."""
    return authority_name(org, ROLES[line_of(name)], number)


def organisation_of(
    certificate: x509.Certificate | x509.CertificateSigningRequest,
) -> str | None:
    """Return the O of a subject."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else None


def subject_name(org: str | None, common: str, serial_number: str | None = None) -> x509.Name:
    """Return a name with a CN, and with an O and a device's serial number if there are such."""
    parts = (
        (NameOID.ORGANIZATION_NAME, org),
        (NameOID.COMMON_NAME, common),
        (NameOID.SERIAL_NUMBER, serial_number),
    )
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts if text is not None])
