# SPDX-License-Identifier: Apache-2.0
"""The things that files hold: their kinds and formats, and the labels that PEM has for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fwsign.keys.encryption import Encryption

PRIVATE: Final = "private key"
CONTAINER: Final = "PKCS#12 container"
"""The kind of a locked PKCS#12 file."""
TRUSTED: Final = "OpenSSL's trusted certificate"
"""The format of a certificate with OpenSSL's notes after it, what it is trusted for."""
READ: Final = frozenset(
    {
        "private key",
        "public key",
        "certificate",
        "certificate signing request",
        "CRL",
        CONTAINER,
        "EC parameters",
    }
)
"""The kinds that are read; things of other kinds are only named."""
LABELS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "PRIVATE KEY": (PRIVATE, "PKCS#8"),
        "ENCRYPTED PRIVATE KEY": (PRIVATE, "PKCS#8"),
        "EC PRIVATE KEY": (PRIVATE, "SEC1"),
        "RSA PRIVATE KEY": (PRIVATE, "PKCS#1"),
        "DSA PRIVATE KEY": (PRIVATE, "OpenSSL traditional"),
        "OPENSSH PRIVATE KEY": (PRIVATE, "OpenSSH"),
        "PUBLIC KEY": ("public key", "SubjectPublicKeyInfo"),
        "RSA PUBLIC KEY": ("public key", "PKCS#1"),
        "CERTIFICATE": ("certificate", "X.509"),
        "X509 CERTIFICATE": ("certificate", "X.509"),
        "TRUSTED CERTIFICATE": ("certificate", TRUSTED),
        "CERTIFICATE REQUEST": ("certificate signing request", "PKCS#10"),
        "NEW CERTIFICATE REQUEST": ("certificate signing request", "PKCS#10"),
        "X509 CRL": ("CRL", "X.509"),
        "PKCS7": ("PKCS#7 bundle", "PKCS#7"),
        "CMS": ("PKCS#7 bundle", "PKCS#7"),
        "PKCS12": (CONTAINER, "PKCS#12"),
        "EC PARAMETERS": ("EC parameters", "SEC1"),
        "DH PARAMETERS": ("DH parameters", "PKCS#3"),
        "DSA PUBLIC KEY": ("public key of DSA", "OpenSSL traditional"),
        "DSA PARAMETERS": ("DSA parameters", "OpenSSL traditional"),
        "ATTRIBUTE CERTIFICATE": ("attribute certificate", "RFC 5755"),
    }
)
"""Kind and format by PEM label; other labels are "unknown"."""


class FileItem(NamedTuple):
    """One thing in a file."""

    kind: str
    """"private key", "public key", "certificate", "certificate signing request", "CRL", "PKCS#12
    container" (locked), "EC parameters" and others that are only named, or "unknown"."""
    format: str
    """The format, as in "PKCS#8", "SEC1", "PKCS#12"; the PEM label if it is unknown."""
    encoding: str
    """"PEM", "DER", "text" or "JSON"; "BER" for what was no DER, in PEM or not."""
    content: bytes
    """The DER of a public thing: certificate, request, CRL, SubjectPublicKeyInfo."""
    key: Any = None
    """cryptography's private key; None if it is locked or this is another kind."""
    public_key: Any = None
    """cryptography's public key of a key, if it is readable without the passphrase."""
    encryption: Encryption | None = None
    """The encryption of a private key; None for one in clear."""
    detail: str | None = None
    """Further remarks."""
