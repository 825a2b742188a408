# SPDX-License-Identifier: Apache-2.0
"""Find each certificate once, and its issuers: the first half of making an inventory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.pki.report.material import Material, Problem
from fwsign.pki.view.entry import Facts, facts
from fwsign.pki.view.words import UNREADABLE, error_words

if TYPE_CHECKING:
    from collections.abc import Sequence

ISSUER_LIMIT: Final = 16
"""Certificates tried for one issuer name and key; more are a flood, not cross-signing."""

_T = TypeVar("_T", x509.Certificate, x509.CertificateRevocationList)


class HeldCertificate(NamedTuple):
    """One certificate, its fields, and the files that hold it."""

    certificate: x509.Certificate
    facts: Facts
    files: tuple[str, ...]


def distinct(material: Material, problems: list[Problem]) -> list[HeldCertificate]:
    """Return each certificate once, with all its files, the best names first."""
    found = []
    for certificate, places in once(material.certificates, held_by(material)):
        try:
            found.append(HeldCertificate(certificate, facts(certificate), places))
        except UNREADABLE as error:
            message = f"has a certificate that cannot be read: {error_words(error)}"
            problems.append(Problem(places[0], message))
    return sorted(found, key=lambda one: ("by_serial/" in one.files[0], one.files[0]))


def held_by(material: Material) -> Counter[str]:
    """Count the things in each file."""
    return Counter(file for file, _ in (*material.certificates, *material.crls))


def once(things: Sequence[tuple[str, _T]], held: Counter[str]) -> list[tuple[_T, tuple[str, ...]]]:
    """Merge copies from several files; bundles and easy-rsa's copies by serial come last."""
    places: dict[bytes, tuple[_T, dict[str, None]]] = {}
    for file, thing in things:
        data = thing.public_bytes(Encoding.DER)
        places.setdefault(data, (thing, {}))[1][file] = None
    return [
        (
            thing,
            tuple(sorted(files, key=lambda one: ("by_serial/" in one, held[one] > 1, one))),
        )
        for thing, files in places.values()
    ]


def link(found: list[HeldCertificate]) -> list[tuple[int, ...]]:
    """Return each certificate's issuers, by name, key identifiers and signature."""
    named = by_name(found)
    links = []
    for one in found:
        fitting = [
            number
            for number in named.get(one.certificate.issuer.public_bytes(), ())
            if _identifiers_fit(one.facts, found[number].facts)
        ]
        links.append(
            tuple(
                number
                for number in fitting[:ISSUER_LIMIT]
                if _is_signed_by(one.certificate, found[number].certificate)
            )
        )
    return links


def by_name(found: list[HeldCertificate]) -> dict[bytes, list[int]]:
    """Return the indexes in `found` for each subject, in DER."""
    numbers: dict[bytes, list[int]] = {}
    for number, one in enumerate(found):
        numbers.setdefault(one.certificate.subject.public_bytes(), []).append(number)
    return numbers


def _identifiers_fit(issued: Facts, issuer: Facts) -> bool:
    known = issued.authority_key is not None and issuer.subject_key is not None
    return not known or issued.authority_key == issuer.subject_key


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def crl_is_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate's key signed a CRL."""
    try:
        key: Any = issuer.public_key()
        return crl.is_signature_valid(key)
    except UNREADABLE:
        return False
