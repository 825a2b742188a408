# SPDX-License-Identifier: Apache-2.0
"""The anchors that a verifier pins: root certificates and bare public keys."""

from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from fwsign.errors import Malformed
from fwsign.format.cose import PublicKey, key_name
from fwsign.x509.certificate import (
    PARSE_ERRORS,
    Certificate,
    key_digest,
    no_warnings,
    parse_anchor,
)


class Anchor(NamedTuple):
    """A root certificate or a bare public key that a verifier pins.

    A bare key verifies blocks without certificates, and certificates that it signed. Make one with
    `from_pem`, `from_certificate` or `from_public_key`.

    Args:
        key: the public key.
        spki: the SHA-256 of its SubjectPublicKeyInfo, in hex.
        certificate: None for a bare key.
        vendors: the domain names, with those below them, for which it is trusted; none: for all.
    """

    key: PublicKey
    spki: str
    certificate: Certificate | None = None
    vendors: tuple[str, ...] = ()

    @classmethod
    def from_certificate(cls, data: bytes, vendors: Iterable[str] = ()) -> "Anchor":
        """Pin a certificate, in DER.

        Args:
            data: the certificate.
            vendors: as for the class.

        Raises:
            Malformed: `malformed.certificate`.
            Untrusted: `untrusted.algorithm`, `untrusted.serial`.
        """
        certificate = parse_anchor(data)
        return cls(certificate.key, certificate.spki, certificate, tuple(vendors))

    @classmethod
    def from_public_key(cls, spki: bytes, vendors: Iterable[str] = ()) -> "Anchor":
        """Pin a bare public key, a SubjectPublicKeyInfo in DER.

        Args:
            spki: the SubjectPublicKeyInfo.
            vendors: as for the class.

        Raises:
            Malformed: `malformed.certificate`.
        """
        try:
            key = load_der_public_key(spki)
            digest = key_digest(key)
        except (UnsupportedAlgorithm, *PARSE_ERRORS) as error:
            raise Malformed("malformed.certificate", f"not a public key: {error}") from None
        return cls(key, digest, None, tuple(vendors))

    @classmethod
    def from_pem(cls, data: bytes, vendors: Iterable[str] = ()) -> "Anchor":
        """Pin the one certificate or public key of a PEM file's content.

        Args:
            data: the file's content.
            vendors: as for the class.

        Raises:
            Malformed: `malformed.certificate`, also for more than one.
            Untrusted: `untrusted.algorithm`, `untrusted.serial`.
        """
        try:
            if b"-----BEGIN PUBLIC KEY-----" in data:
                key = load_pem_public_key(data)
                spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                return cls.from_public_key(spki, vendors)
            with no_warnings():
                found = x509.load_pem_x509_certificates(data)
        except (UnsupportedAlgorithm, *PARSE_ERRORS) as error:
            raise Malformed("malformed.certificate", f"not a PEM file to pin: {error}") from None
        if len(found) != 1:
            raise Malformed(
                "malformed.certificate",
                f"{len(found)} certificates to pin, expected one",
                expected=1,
                found=len(found),
            )
        return cls.from_certificate(found[0].public_bytes(Encoding.DER), vendors)

    @property
    def name(self) -> str:
        """The name of the anchor, for people."""
        return self.certificate.name if self.certificate else f"{key_name(self.key)} key"
