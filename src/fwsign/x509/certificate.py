# SPDX-License-Identifier: Apache-2.0
"""One certificate: parse it, check the rules that need no path, and check its signature."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from fwsign.errors import Malformed, Untrusted, check_limit
from fwsign.format.algorithms import CERTIFICATE_ALGORITHMS, certificate_algorithms
from fwsign.format.cose import HASHES, PublicKey, kind_of
from fwsign.format.library import PARSE_ERRORS, utc
from fwsign.x509 import der
from fwsign.x509.form import check_form
from fwsign.x509.public_key import load_public_key

MAX_ATTRIBUTES: Final = 64
"""Attributes of one name; parsing and comparing more would cost more than a signature check."""
MAX_ALTERNATIVE_NAMES: Final = 256
"""Alternative names of one certificate; public CAs stop at 100."""
MAX_SERIAL_BITS: Final = 159
"""RFC 5280 section 4.1.2.2: at most 20 octets, and positive."""

MAX_REMEMBERED: Final = 16
"""Certificates that stay parsed, each of at most `fwsign.format.cose.MAX_CERTIFICATE_SIZE`."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Certificate(NamedTuple):
    """A parsed certificate; `spki` is the SHA-256 of its SubjectPublicKeyInfo, in hex."""

    parsed: x509.Certificate
    signed: der.Signed
    key: PublicKey
    spki: str
    subject: x509.Name  # kept, since `parsed` makes both names anew each time
    issuer: x509.Name
    extensions: tuple[x509.Extension[x509.ExtensionType], ...]
    not_before: datetime
    not_after: datetime

    @property
    def name(self) -> str:
        """The certificate's name for people: its common name, else its whole subject."""
        return display_name(self.subject)

    @property
    def subject_key(self) -> bytes | None:
        """The subject key identifier, if there is one."""
        found = self.extension(x509.SubjectKeyIdentifier)
        return found.value.digest if found else None

    @property
    def authority_key(self) -> bytes | None:
        """The key identifier in the authority key identifier, if there is one."""
        found = self.extension(x509.AuthorityKeyIdentifier)
        return found.value.key_identifier if found else None

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """Return the extension of this type, or None."""
        for found in self.extensions:
            if type(found.value) is kind:  # `isinstance` would ask an abstract class, which is slow
                return cast("x509.Extension[_Extension]", found)
        return None


def display_name(name: x509.Name) -> str:
    """Return the common name, else the whole name (RFC 4514)."""
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def key_digest(key: PublicKey) -> str:
    """Return the SHA-256 of a key's SubjectPublicKeyInfo, in hex; it identifies the key."""
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silence cryptography's warning about the serial number 0, which a pinned root may have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=MAX_REMEMBERED)
def parse_certificate(data: bytes) -> Certificate:
    """Parse one certificate of a path, in DER; the same bytes give the same value.

    The last few are remembered: a process that signs, or verifies, much sees the same CAs again.
    Whether a certificate is believed is asked each time.

    Raises:
        Malformed: `malformed.certificate`, `malformed.size`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    return _parse(data, least_serial=1)


def parse_anchor(data: bytes) -> Certificate:
    """Parse a pinned certificate, in DER; its serial number may be 0.

    No check uses that number: no CRL revokes an anchor. Some old roots in use still have 0.

    Raises:
        Malformed: `malformed.certificate`, `malformed.size`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    with no_warnings():
        return _parse(data, least_serial=0)


def _parse(data: bytes, *, least_serial: int) -> Certificate:
    try:
        signed = der.split(data)
        # Before cryptography reads it, which warns of some serial numbers.
        _check_serial(der.serial_number(signed.tbs), least_serial)
        certificate = x509.load_der_x509_certificate(data)
        version = certificate.version
        # cryptography parses on demand: read all now, so that nothing can fail later.
        subject, issuer = certificate.subject, certificate.issuer
        extensions = tuple(certificate.extensions)
        not_before, not_after = (
            utc(certificate, "not_valid_before"),
            utc(certificate, "not_valid_after"),
        )
        fields = der.certificate_fields(signed.tbs)
        check_form(fields)
        key = load_public_key(fields.key)
        spki = key_digest(key)
    except PARSE_ERRORS as error:
        raise Malformed("malformed.certificate", f"not a certificate: {error}") from None
    if version is not x509.Version.v3:
        raise Malformed("malformed.certificate", f"certificate of version {version.name}, not v3")
    _check_names(subject, issuer, extensions)
    return Certificate(
        certificate, signed, key, spki, subject, issuer, extensions, not_before, not_after
    )


def _check_names(
    subject: x509.Name, issuer: x509.Name, extensions: Iterable[x509.Extension[x509.ExtensionType]]
) -> None:
    for words, name in (("subject", subject), ("issuer", issuer)):
        count = sum(map(len, name.rdns))
        check_limit(count, MAX_ATTRIBUTES, f"a certificate whose {words} has {count} attributes")
    for found in extensions:
        if type(found.value) is x509.SubjectAlternativeName:  # `isinstance` is slow here, too
            count = len(list(found.value))
            words = f"a certificate with {count} alternative names"
            check_limit(count, MAX_ALTERNATIVE_NAMES, words)


def _check_serial(serial: int, least: int) -> None:
    if not least <= serial < 1 << MAX_SERIAL_BITS:
        raise Untrusted(
            "untrusted.serial",
            f"serial number {serial:x} is not a {'positive' if least else 'natural'} number of at "
            "most 20 bytes",
        )


def signature_valid(signed: der.Signed, key: PublicKey) -> bool:
    """Tell whether `key` made the signature of a certificate or CRL.

    Raises:
        Untrusted: `untrusted.algorithm` for an algorithm outside the closed list.
    """
    if signed.algorithm not in CERTIFICATE_ALGORITHMS:
        raise Untrusted(
            "untrusted.algorithm",
            f"signature algorithm {signed.algorithm.hex()} is not allowed",
            expected=certificate_algorithms(),
            found=signed.algorithm.hex(),
        )
    family, digest = CERTIFICATE_ALGORITHMS[signed.algorithm]
    kind = kind_of(key)
    if kind is None or signed.algorithm not in kind.certificates.values():
        return False
    try:
        if family == "ECDSA":
            key.verify(signed.signature, signed.tbs, ec.ECDSA(HASHES[digest]))
        elif family == "RSA":
            key.verify(signed.signature, signed.tbs, padding.PKCS1v15(), HASHES[digest])
        else:
            key.verify(signed.signature, signed.tbs)
    except InvalidSignature:
        return False
    return True
