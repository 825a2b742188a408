# SPDX-License-Identifier: Apache-2.0
"""The fields of a certificate or CRL, as plain values for people; nothing is judged here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.format.cose import key_name
from fwsign.format.library import utc
from fwsign.pki.view.extension_text import names_of, subtrees, used_for
from fwsign.pki.view.lenient import of_certificate
from fwsign.pki.view.words import UNREADABLE, oid_name, shown_serial
from fwsign.x509.certificate import key_digest
from fwsign.x509.roles import CONFIG_SIGNING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from fwsign.pki.view.extensions import Extensions

_KINDS: Final = (
    (ExtendedKeyUsageOID.CODE_SIGNING, "signer"),
    (CONFIG_SIGNING, "channel"),
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
    der: bytes
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
    """signer, channel, encryption, tsa, server, client or other, by its usages."""
    subject_key: bytes | None
    authority_key: bytes | None
    fault: str | None
    """The extensions that cannot be read, and why; their fields are then empty."""


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
    extensions = of_certificate(certificate)
    said: dict[type, Any] = {type(one.value): one.value for one in extensions.each}
    basic = said.get(x509.BasicConstraints)
    usage = said.get(x509.KeyUsage)
    purposes = tuple(said.get(x509.ExtendedKeyUsage, ()))
    constraints = said.get(x509.NameConstraints)
    subject_key = said.get(x509.SubjectKeyIdentifier)
    authority_key = said.get(x509.AuthorityKeyIdentifier)
    subject = certificate.subject.rfc4514_string()
    key, digest = _key(certificate)
    der = certificate.public_bytes(Encoding.DER)
    return Facts(
        subject=subject,
        common_name=_common_name(certificate) or subject,
        issuer=certificate.issuer.rfc4514_string(),
        serial=shown_serial(certificate.serial_number),
        der=der,
        sha256=hashlib.sha256(der).hexdigest(),
        begin=utc(certificate, "not_valid_before"),
        end=utc(certificate, "not_valid_after"),
        ca=bool(basic and basic.ca),
        path_length=basic.path_length if basic else None,
        key_usage=used_for(usage) if usage else (),
        extended_key_usage=tuple(map(oid_name, purposes)),
        names=names_of(extensions),
        permitted=subtrees((constraints and constraints.permitted_subtrees) or ()),
        excluded=subtrees((constraints and constraints.excluded_subtrees) or ()),
        key=key,
        key_sha256=digest,
        signature=oid_name(certificate.signature_algorithm_oid),
        use="encryption" if is_group(usage, purposes) else use_of(purposes),
        subject_key=subject_key.digest if subject_key else None,
        authority_key=authority_key.key_identifier if authority_key else None,
        fault=_fault(extensions),
    )


def old_fingerprints(der: bytes) -> dict[str, str]:
    """Return the fingerprints by SHA-1 and MD5, which other programs still show.

    Both hashes are broken: two certificates can be made that have the same one.
    """
    return {
        "sha1": hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        "md5": hashlib.md5(der, usedforsecurity=False).hexdigest(),
    }


def is_group(usage: x509.KeyUsage | None, purposes: Collection[x509.ObjectIdentifier]) -> bool:
    """Tell whether a key is a group's: it agrees on keys and signs nothing, and has no purpose."""
    return (
        not purposes and usage is not None and usage.key_agreement and not usage.digital_signature
    )


def use_of(purposes: Collection[x509.ObjectIdentifier]) -> str:
    """Return the kind of a leaf by its extended key usages: signer, channel, tsa and so on."""
    return next((kind for oid, kind in _KINDS if oid in purposes), "other")


def purposes_of(certificate: x509.Certificate) -> tuple[x509.ObjectIdentifier, ...]:
    """Return the extended key usages; empty if there are none, or none that can be read."""
    values = [one.value for one in of_certificate(certificate).each]
    return next((tuple(one) for one in values if isinstance(one, x509.ExtendedKeyUsage)), ())


def _common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _fault(extensions: Extensions) -> str | None:
    faults = "; ".join(extensions.faults)
    return f"its extensions cannot all be read: {faults}" if faults else None


def _key(certificate: x509.Certificate) -> tuple[str, str]:
    try:
        key: Any = certificate.public_key()
        return key_name(key), key_digest(key)
    except UNREADABLE:
        return f"unknown ({certificate.public_key_algorithm_oid.dotted_string})", ""
