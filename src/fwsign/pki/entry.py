# SPDX-License-Identifier: Apache-2.0
"""The fields of a certificate or CRL, as plain values for people; nothing is judged here."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.certificate import key_digest
from fwsign.cose import key_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime

UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Errors of cryptography for undecodable input, on loading and long after."""

_USAGES: Final = (
    ("digital_signature", "digital signature"),
    ("content_commitment", "content commitment"),
    ("key_encipherment", "key encipherment"),
    ("data_encipherment", "data encipherment"),
    ("key_agreement", "key agreement"),
    ("key_cert_sign", "certificate sign"),
    ("crl_sign", "CRL sign"),
)
_KINDS: Final = (
    (ExtendedKeyUsageOID.CODE_SIGNING, "signer"),
    (ExtendedKeyUsageOID.TIME_STAMPING, "tsa"),
    (ExtendedKeyUsageOID.SERVER_AUTH, "server"),
    (ExtendedKeyUsageOID.CLIENT_AUTH, "client"),
)
"""The purposes of certificates; the first that fits gives the name."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The fields of a certificate; its texts are not escaped."""

    subject: str
    common_name: str
    issuer: str
    serial: str
    sha256: str
    begin: datetime
    end: datetime
    ca: bool
    path_length: int | None
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    names: tuple[str, ...]
    permitted: tuple[str, ...]
    excluded: tuple[str, ...]
    key: str
    key_sha256: str
    signature: str
    use: str
    """signer, tsa, server, client or other, by extended key usage."""
    subject_key: bytes | None
    authority_key: bytes | None
    fault: str | None
    """The reason why the extensions cannot be read, if so; their fields are then empty."""


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the warnings of cryptography about certificates that break rules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def visible(text: object) -> str:
    """Escape characters that could deceive a reader: control, bidi and others without a shape."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def facts(certificate: x509.Certificate) -> Facts:
    """Return the fields of a certificate.

    Raises:
        ValueError, TypeError, UnsupportedAlgorithm and others in `UNREADABLE`.
    """
    said, fault = _extensions(certificate)
    basic = said.get(x509.BasicConstraints)
    usage = said.get(x509.KeyUsage)
    purposes = tuple(said.get(x509.ExtendedKeyUsage, ()))
    constraints = said.get(x509.NameConstraints)
    subject_key = said.get(x509.SubjectKeyIdentifier)
    authority_key = said.get(x509.AuthorityKeyIdentifier)
    subject = certificate.subject.rfc4514_string()
    key, digest = _key(certificate)
    return Facts(
        subject=subject,
        common_name=_common_name(certificate) or subject,
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        begin=certificate.not_valid_before_utc,
        end=certificate.not_valid_after_utc,
        ca=bool(basic and basic.ca),
        path_length=basic.path_length if basic else None,
        key_usage=tuple(word for name, word in _USAGES if usage and getattr(usage, name)),
        extended_key_usage=tuple(map(oid_name, purposes)),
        names=_names(said.get(x509.SubjectAlternativeName, ())),
        permitted=_names((constraints and constraints.permitted_subtrees) or ()),
        excluded=_names((constraints and constraints.excluded_subtrees) or ()),
        key=key,
        key_sha256=digest,
        signature=oid_name(certificate.signature_algorithm_oid),
        use=use_of(purposes),
        subject_key=subject_key.digest if subject_key else None,
        authority_key=authority_key.key_identifier if authority_key else None,
        fault=fault,
    )


def use_of(purposes: Collection[x509.ObjectIdentifier]) -> str:
    """Return the kind of a leaf by its extended key usages: signer, tsa, server, client, other."""
    return next((kind for oid, kind in _KINDS if oid in purposes), "other")


def purposes_of(certificate: x509.Certificate) -> tuple[x509.ObjectIdentifier, ...]:
    """Return the extended key usages; empty if there are none, or none that can be read."""
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()


def oid_name(oid: x509.ObjectIdentifier) -> str:
    """Return the name of an object identifier, or its number if it has none."""
    name: str = oid._name  # noqa: SLF001 - the library has no public way to the name
    return oid.dotted_string if name == "Unknown OID" else name


def _extensions(certificate: x509.Certificate) -> tuple[dict[type, Any], str | None]:
    try:
        return {type(found.value): found.value for found in certificate.extensions}, None
    except UNREADABLE as error:
        return {}, f"its extensions cannot be read: {error}"


def _common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _names(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    return tuple(map(_general_name, names))


def _general_name(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return str(name.value)
        case x509.DirectoryName():
            return f"directory {name.value.rfc4514_string()}"
        case x509.IPAddress():
            return f"IP {name.value}"
        case x509.RFC822Name():
            return f"email {name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI {name.value}"
    value = name.value
    return f"{type(name).__name__} {getattr(value, 'dotted_string', value)}"


def _key(certificate: x509.Certificate) -> tuple[str, str]:
    try:
        key: Any = certificate.public_key()
        return key_name(key), key_digest(key)
    except UNREADABLE:
        return f"unknown ({certificate.public_key_algorithm_oid.dotted_string})", ""
