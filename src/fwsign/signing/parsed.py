# SPDX-License-Identifier: Apache-2.0
"""Certificates and CRLs of signers, parsed once where one process signs many releases.

Only signing remembers them: the check of each envelope afterwards parses all of it, as a device
does.
"""

from functools import lru_cache

from fwsign.x509.certificate import Certificate, parse_certificate
from fwsign.x509.crl import Crl, parse_crl


@lru_cache(maxsize=16)
def certificate(data: bytes) -> Certificate:
    """Parse a certificate, in DER; raise like `fwsign.x509.certificate.parse_certificate`."""
    return parse_certificate(data)


@lru_cache(maxsize=16)  # of at most a megabyte each
def crl(data: bytes) -> Crl:
    """Parse a CRL, in DER; raise like `fwsign.x509.crl.parse_crl`."""
    return parse_crl(data)
