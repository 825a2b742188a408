# SPDX-License-Identifier: Apache-2.0
"""The anchors that a verifier pins: root certificates and bare public keys."""

import base64
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from fwsign.errors import Malformed
from fwsign.format.cose import PublicKey, key_name
from fwsign.x509.certificate import Certificate, key_digest, parse_anchor
from fwsign.x509.public_key import load_public_key

_LABEL: Final = rb"-----BEGIN ((?:X509 )?CERTIFICATE|PUBLIC KEY)-----"
_BEGIN: Final = re.compile(_LABEL)
_PEM: Final = re.compile(_LABEL + rb"([A-Za-z0-9+/=\s]*)-----END \1-----")


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
            Untrusted: `untrusted.algorithm`, for a kind of key that is not known here.
        """
        try:
            key = load_public_key(spki)
            digest = key_digest(key)
        except ValueError as error:
            raise Malformed("malformed.certificate", f"not a public key: {error}") from None
        return cls(key, digest, None, tuple(vendors))

    @classmethod
    def from_pem(cls, data: bytes, vendors: Iterable[str] = ()) -> "Anchor":
        """Pin the one certificate or public key of a PEM file's content.

        Args:
            data: the file's content; blocks of other kinds in it are ignored.
            vendors: as for the class.

        Raises:
            Malformed: `malformed.certificate`, also for more than one.
            Untrusted: `untrusted.algorithm`, `untrusted.serial`.
        """
        try:
            found = _pem_blocks(data)
        except ValueError as error:
            raise Malformed("malformed.certificate", f"not a PEM file to pin: {error}") from None
        if len(found) != 1:
            keys = any(label == b"PUBLIC KEY" for label, _ in found)
            words = "certificates and public keys" if keys else "certificates"
            raise Malformed(
                "malformed.certificate",
                f"{len(found)} {words} to pin, expected one",
                expected=1,
                found=len(found),
            )
        (label, content), *_ = found
        if label == b"PUBLIC KEY":
            return cls.from_public_key(content, vendors)
        return cls.from_certificate(content, vendors)

    def __eq__(self, other: object) -> bool:
        """Compare what they are: keys of old versions of cryptography cannot be compared."""
        return isinstance(other, Anchor) and self._known == other._known

    def __ne__(self, other: object) -> bool:
        """Compare as `==` does, and not as tuples."""
        return not self == other

    def __hash__(self) -> int:
        """Return the same for equal anchors."""
        return hash(self._known)

    @property
    def _known(self) -> tuple[object, ...]:
        return self.spki, self.vendors, self.certificate and self.certificate.signed

    @property
    def name(self) -> str:
        """The name of the anchor, for people."""
        return self.certificate.name if self.certificate else f"{key_name(self.key)} key"


def _pem_blocks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the certificates and public keys in a PEM file: labels and DER.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    found = [(block[1], b"".join(block[2].split())) for block in _PEM.finditer(data)]
    begun = len(_BEGIN.findall(data))
    if not begun:
        raise ValueError("no certificate and no public key")
    if begun != len(found):
        raise ValueError("a block without its end, or that is not base64")
    return [(label, base64.b64decode(text, validate=True)) for label, text in found]
