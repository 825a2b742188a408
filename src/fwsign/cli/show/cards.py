# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign show` about certificates, CRLs, requests and keys."""

import functools
import hashlib
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

from cryptography.x509 import ObjectIdentifier

from fwsign.errors import Failed, FwsignError, Malformed
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import key_kinds, key_name
from fwsign.keys import named
from fwsign.keys.asn1 import Element
from fwsign.keys.encryption import Encryption
from fwsign.keys.items import TRUSTED, FileItem
from fwsign.pki.profiles import NO_END
from fwsign.pki.view import lenient
from fwsign.pki.view.entry import old_fingerprints
from fwsign.pki.view.extension_text import extension_name, value_text
from fwsign.pki.view.extensions import Extensions
from fwsign.pki.view.words import UNREADABLE, attempt, error_words, oid_name, unread
from fwsign.x509.certificate import key_digest

_Card: TypeAlias = Callable[..., dict[str, Any]]


def _reading(what: str) -> Callable[[_Card], _Card]:
    """Turn errors of cryptography, also long after loading, into a refusal."""

    def decorate(card: _Card) -> _Card:
        @functools.wraps(card)
        def guarded(*given: Any, **more: Any) -> dict[str, Any]:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about certificates that break rules
                    return card(*given, **more)
            except UNREADABLE as error:
                words = f"not a {what}: {error_words(error)}"
                raise Malformed("malformed.certificate", words) from None

        return guarded

    return decorate


@_reading("certificate")
def certificate_card(data: bytes, every: bool = False) -> dict[str, Any]:
    """Describe a certificate, in DER; a part that cannot be read says so in its place.

    Args:
        data: the certificate.
        every: whether to add its fingerprints by old hashes.
    """
    found = lenient.certificate(data)
    return {
        "kind": "certificate",
        "subject": found.subject,
        "issuer": found.issuer,
        "serial": found.serial,
        "sha256": hashlib.sha256(data).hexdigest(),
        **(old_fingerprints(data) if every else {}),
        "valid from": found.begin,
        "valid until": found.end,
        **_key(found.key),
        "signature": found.signature,
        "extensions": _extensions(found.extensions),
        "notes": [*_notes(found), *_no_end(found.end)],
    }


def _no_end(end: str | None) -> list[str]:
    """Say that a time stands for no end (RFC 5280 section 4.1.2.5)."""
    return ["it has no end date, and ends with its CA"] if end == NO_END.isoformat() else []


@_reading("certificate signing request")
def request_card(data: bytes) -> dict[str, Any]:
    """Describe a certificate signing request, in DER."""
    found = lenient.request(data)
    return {
        "kind": "certificate signing request",
        "subject": found.subject,
        **_key(found.key),
        "signed by its key": attempt(
            lambda: found.parsed is not None and found.parsed.is_signature_valid
        ),
        "extensions": _extensions(found.extensions),
        "notes": _notes(found),
    }


@_reading("CRL")
def crl_card(data: bytes, most: int | None = None) -> dict[str, Any]:
    """Describe a CRL, in DER, with at most `most` of its entries."""
    found = lenient.crl(data)
    shown = found.entries[:most]
    return {
        "kind": "CRL",
        "issuer": found.issuer,
        "this update": found.begin,
        "next update": found.end,
        "signature": found.signature,
        "extensions": _extensions(found.extensions),
        "revoked": [_revoked(entry) for entry in shown],
        "revoked, not shown": len(found.entries) - len(shown) or None,
        "notes": _notes(found),
    }


def _revoked(entry: Element) -> dict[str, Any]:
    try:
        serial, since, extensions = lenient.crl_entry(entry)
    except ValueError as error:
        return {"serial": unread(error)}
    return {"serial": serial, "since": since, **_extensions(extensions)}


def token_card(data: bytes) -> dict[str, Any]:
    """Describe a time-stamp token."""
    from fwsign.x509.token import parse_token  # few files have one

    try:
        token = parse_token(data)
    except FwsignError as error:
        return {"size": len(data), "not readable": str(error)}
    return {
        "size": len(data),
        "time": token.gen_time.isoformat(),
        "certificates": [certificate_card(one) for one in token.certificates],
    }


def card(found: FileItem, *, every: bool = False) -> dict[str, Any]:
    """Describe a thing in a file, without its secret.

    Args:
        found: the thing.
        every: as for `certificate_card`.

    Raises:
        Malformed: `malformed.certificate`: a certificate, request, CRL or key that is damaged.
    """
    readers: dict[str, _Card] = {
        "certificate": functools.partial(certificate_card, every=every),
        "certificate signing request": request_card,
        "CRL": crl_card,
    }
    if found.kind in readers:
        told = readers[found.kind](found.content)
        if found.format == TRUSTED:
            return told | {"in": found.format, "trust": found.detail}
        inside = found.format if found.format in ("PKCS#12", "PKCS#7") else None
        return told | ({"in": inside, "friendly name": found.detail} if inside else {})
    if found.kind in ("private key", "public key", "PKCS#12 container"):
        return key_card(found)
    if found.kind == "unknown":
        return {"kind": "unknown", "PEM label": found.format, "size": len(found.content)}
    told = {"kind": found.kind, "format": found.format, "encoding": found.encoding}
    if named.foreign(found.content) is not None:
        return told | {"what to do": found.detail}
    return told | {"detail": found.detail}


@_reading("key")
def key_card(found: FileItem) -> dict[str, Any]:
    """Describe a key, encrypted or not."""
    told: dict[str, Any] = {"kind": found.kind, "format": found.format, "encoding": found.encoding}
    if found.kind == "public key" and found.public_key is None:
        if not (algorithm := named.key_algorithm(found.content)):
            raise Malformed("malformed.certificate", "not a public key")
        kinds = ", ".join(oid_name(ObjectIdentifier(one)) for one in algorithm)
        return told | {"key": f"cannot be read: a form that is not supported ({kinds})"}
    if found.kind != "public key":
        told |= {"encrypted": found.encryption is not None}
        told |= {"encryption": encryption_card(found.encryption)} if found.encryption else {}
    told |= _key(found.public_key) if found.public_key is not None else {}
    return told | ({"detail": found.detail} if found.detail else {})


def held_card(place: str, public_key: Any) -> dict[str, Any]:
    """Describe a key that is held elsewhere.

    Args:
        place: where, without secrets.
        public_key: its public half.
    """
    told = {"kind": "private key", "place": place, **_key(public_key)}
    return told | {"can be used for": uses(public_key)}


def encryption_card(found: Encryption) -> dict[str, Any]:
    """Describe the encryption of a key, and the remedy if it is not good."""
    told: dict[str, Any] = {
        "scheme": found.scheme,
        "derivation": found.kdf,
        "cipher": found.cipher,
        "mac": found.mac,
        "strength": found.verdict,
        "too slow to open": found.excessive,
    }
    if found.verdict != "good":
        why = "; ".join(found.reasons)
        fix = "fwsign key passwd FILE encrypts it anew with scrypt"
        if found.scheme in ("PKCS#12", "OpenSSH"):
            fix = "fwsign key convert IN OUT writes it anew"
        told |= {"warning": why or "how it is encrypted is not known", "what to do": fix}
    return told


def uses(public_key: Any) -> str:
    """Return the uses of a key in fwsign."""
    from fwsign.keys.file import algorithm_of  # `fwsign key` alone asks

    try:
        return f"fwsign sign, as {ALGORITHMS[algorithm_of(public_key)].name}"
    except Failed:
        return f"not for fwsign, which takes {key_kinds()}"


def _key(key: Any) -> dict[str, str]:
    if isinstance(key, str):
        return {"key": key}
    return {"key": key_name(key), "key sha256": key_digest(key)}


def _extensions(found: Extensions) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for one in found.each:
        name = extension_name(one.oid) + (" (critical)" if one.critical else "")
        while name in told:  # RFC 5280 section 4.2 forbids it
            name += " (again)"
        told[name] = value_text(one)
    return told


def _notes(found: lenient.Outline) -> list[str]:
    """Say why a strict reader, such as the verifier, refuses what is shown."""
    why = found.fault or "; ".join(found.extensions.faults)
    return [f"a strict reader refuses it: {why}"] if why else []
