# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign show` about certificates, CRLs, requests and keys."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fwsign.certificate import key_digest
from fwsign.cose import ALGORITHMS, key_kinds, key_name
from fwsign.errors import Failed, FwsignError, Malformed
from fwsign.keys.encryption import Encryption
from fwsign.keys.formats import Found
from fwsign.pki.entry import UNREADABLE

_EXPIRED_CERTS = "2.5.29.60"  # X.509 s.9.5.2.8
_Card: TypeAlias = Callable[..., dict[str, Any]]
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def _reading(what: str) -> Callable[[_Card], _Card]:
    """Turn errors of cryptography, also long after loading, into a refusal."""

    def decorate(card: _Card) -> _Card:
        @functools.wraps(card)
        def guarded(*given: Any) -> dict[str, Any]:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about certificates that break rules
                    return card(*given)
            except UNREADABLE as error:
                raise Malformed("malformed.certificate", f"not a {what}: {error}") from None

        return guarded

    return decorate


@_reading("certificate")
def certificate_card(data: bytes) -> dict[str, Any]:
    """Describe a certificate, in DER."""
    certificate = x509.load_der_x509_certificate(data)
    card: dict[str, Any] = {
        "kind": "certificate",
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "valid from": certificate.not_valid_before_utc.isoformat(),
        "valid until": certificate.not_valid_after_utc.isoformat(),
        **_key(certificate.public_key()),
        "signature": _oid(certificate.signature_algorithm_oid),
    }
    return card | {"extensions": _extensions(certificate.extensions)}


@_reading("certificate signing request")
def request_card(data: bytes) -> dict[str, Any]:
    """Describe a certificate signing request, in DER."""
    request = x509.load_der_x509_csr(data)
    return {
        "kind": "certificate signing request",
        "subject": request.subject.rfc4514_string(),
        **_key(request.public_key()),
        "signed by its key": request.is_signature_valid,
        "extensions": _extensions(request.extensions),
    }


@_reading("CRL")
def crl_card(data: bytes, most: int | None = None) -> dict[str, Any]:
    """Describe a CRL, in DER, with at most `most` of its entries."""
    crl = x509.load_der_x509_crl(data)
    shown = list(crl) if most is None else crl[:most]
    return {
        "kind": "CRL",
        "issuer": crl.issuer.rfc4514_string(),
        "this update": crl.last_update_utc.isoformat(),
        "next update": crl.next_update_utc.isoformat() if crl.next_update_utc else None,
        "signature": _oid(crl.signature_algorithm_oid),
        "extensions": _extensions(crl.extensions),
        "revoked": [
            {
                "serial": f"{entry.serial_number:x}",
                "since": entry.revocation_date_utc.isoformat(),
                **_extensions(entry.extensions),
            }
            for entry in shown
        ],
        "revoked, not shown": len(crl) - len(shown) or None,
    }


def token_card(data: bytes) -> dict[str, Any]:
    """Describe a time-stamp token."""
    from fwsign.timestamp import parse_token  # few files have one

    try:
        token = parse_token(data)
    except FwsignError as error:
        return {"size": len(data), "not readable": str(error)}
    return {
        "size": len(data),
        "time": token.gen_time.isoformat(),
        "certificates": [certificate_card(one) for one in token.certificates],
    }


def card(found: Found) -> dict[str, Any]:
    """Describe a thing in a file, without its secret.

    Raises:
        Malformed: `malformed.certificate`: a certificate, request, CRL or key that is damaged.
    """
    readers = {
        "certificate": certificate_card,
        "certificate signing request": request_card,
        "CRL": crl_card,
    }
    if found.kind in readers:
        told = readers[found.kind](found.content)
        inside = found.format if found.format in ("PKCS#12", "PKCS#7") else None
        return told | ({"in": inside, "friendly name": found.detail} if inside else {})
    if found.kind in ("private key", "public key", "PKCS#12 container"):
        return key_card(found)
    return {"kind": found.kind, "PEM label": found.format, "size": len(found.content)}


@_reading("key")
def key_card(found: Found) -> dict[str, Any]:
    """Describe a key, encrypted or not."""
    told: dict[str, Any] = {"kind": found.kind, "format": found.format, "encoding": found.encoding}
    if found.kind == "public key" and found.public_key is None:
        raise Malformed("malformed.certificate", "not a public key")
    if found.kind != "public key":
        told |= {"encrypted": found.encryption is not None}
        told |= {"encryption": encryption_card(found.encryption)} if found.encryption else {}
    told |= _key(found.public_key) if found.public_key is not None else {}
    return told | ({"detail": found.detail} if found.detail else {})


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
    return {"key": key_name(key), "key sha256": key_digest(key)}


def _oid(oid: x509.ObjectIdentifier) -> str:
    name: str = oid._name  # noqa: SLF001 - the library has no public way to the name
    if oid.dotted_string == _EXPIRED_CERTS:
        return "expiredCertsOnCRL"
    return oid.dotted_string if name == "Unknown OID" else name


def _extensions(extensions: x509.Extensions) -> dict[str, Any]:
    return {
        _oid(found.oid) + (" (critical)" if found.critical else ""): _value(found.value)
        for found in extensions
    }


def _value(value: Any) -> Any:
    match value:
        case x509.BasicConstraints():
            length = "" if value.path_length is None else f", path length {value.path_length}"
            return f"CA {value.ca}{length}"
        case x509.KeyUsage():
            return ", ".join(name.replace("_", " ") for name in _USAGES if getattr(value, name))
        case x509.ExtendedKeyUsage():
            return ", ".join(map(_oid, value))
        case x509.SubjectAlternativeName():
            return ", ".join(str(name.value) for name in value)
        case x509.SubjectKeyIdentifier():
            return value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            return value.key_identifier.hex() if value.key_identifier else "by name"
        case x509.NameConstraints():
            subtrees = (value.permitted_subtrees, value.excluded_subtrees)
            return {
                word: ", ".join(str(name.value) for name in names)
                for word, names in zip(("permitted", "excluded"), subtrees, strict=True)
                if names
            }
        case x509.CRLNumber():
            return value.crl_number
        case x509.CRLReason():
            return value.reason.value
        case x509.InvalidityDate():
            return value.invalidity_date_utc.isoformat()
        case x509.UnrecognizedExtension():
            return _other(value.oid, value.value)
    return str(value)


def _other(oid: x509.ObjectIdentifier, value: bytes) -> str:
    if oid.dotted_string == _EXPIRED_CERTS:  # a GeneralizedTime
        return value[2:].decode("ascii", "backslashreplace")
    return value.hex()
