# SPDX-License-Identifier: Apache-2.0
"""What a PKI directory has for judging a path: its roots, CAs and CRLs."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fwsign.cli import inputs

if TYPE_CHECKING:
    from fwsign.x509.anchor import Anchor


class PkiTrust(NamedTuple):
    """The roots, all CAs in DER, and the CRLs in DER."""

    roots: "list[Anchor]"
    authorities: list[bytes]
    crls: list[bytes]


def of_pki(directory: Path) -> PkiTrust:
    """Return the roots, all CAs, and the CRLs of a PKI."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from fwsign.pki.certificates import is_ca
    from fwsign.pki.directory import Pki
    from fwsign.x509.anchor import Anchor

    pki = Pki(directory)
    roots = [pki.certificate(name).public_bytes(Encoding.DER) for name in pki.roots()]
    certificates = [pki.certificate(name) for name in pki.names()]
    authorities = [one.public_bytes(Encoding.DER) for one in certificates if is_ca(one)]
    there = [path for name in pki.authorities() if (path := pki.crl_path(name)).exists()]
    crls = inputs.load_pem(there, "X509 CRL", "CRL")
    return PkiTrust([Anchor.from_certificate(root) for root in roots], authorities, crls)
