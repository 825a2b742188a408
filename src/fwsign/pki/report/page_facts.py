# SPDX-License-Identifier: Apache-2.0
"""The details of certificates and CRLs in `fwsign.pki.report.page`, as HTML."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from fwsign.keys import pem
from fwsign.pki.report.words import path_note, unlinked
from fwsign.pki.view.entry import old_fingerprints, visible
from fwsign.pki.view.extension_text import extension_name, value_text
from fwsign.pki.view.extensions import Extensions
from fwsign.pki.view.lenient import certificate, crl_entry
from fwsign.pki.view.lenient import crl as read_crl
from fwsign.pki.view.words import unread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from fwsign.keys.asn1 import Element
    from fwsign.pki.report.inventory import CrlEntry, Entry, Inventory

_TOLD: Final = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
)
"""The extensions that a certificate's fields tell."""
_IDENTIFIERS: Final[Mapping[type, str]] = {
    x509.SubjectKeyIdentifier: "Subject key identifier",
    x509.AuthorityKeyIdentifier: "Authority key identifier",
}
_REVOKED: Final = 200
"""Revocations to show of each CRL."""
_RAW: Final = 64 * 1024
"""Octets of a CRL that is shown in PEM."""


def text(value: object) -> str:
    """Escape text for HTML, in elements and in attributes with quotes."""
    return html.escape(visible(value))


def laid_out(items: Iterable[tuple[str, list[str]]]) -> str:
    """Lay out facts; the values are HTML already."""
    found = "".join(
        f"<dt>{name}</dt>" + "".join(f"<dd>{value}</dd>" for value in values)
        for name, values in items
        if values
    )
    return f'<dl class="facts">{found}</dl>'


def of_certificate(
    inventory: Inventory, entry: Entry, at: datetime
) -> Iterator[tuple[str, list[str]]]:
    """Yield the facts of a certificate: titles, and values in HTML."""
    said, key = entry.facts, entry.key_file
    if entry.revocation:
        date, reason, crl = entry.revocation.date, entry.revocation.reason, entry.revocation.crl
        yield "Revoked", [f"<b>{date:%Y-%m-%d %H:%M} UTC</b>, {text(reason)}, by {text(crl)}"]
    if note := path_note(entry, at):
        yield "Path", [f'<span class="fault">{text(note)}</span>']
    yield "Problem", [f'<span class="fault">{text(one)}</span>' for one in entry.problems]
    yield "Subject", [text(said.subject)]
    yield "Issuer", [_issuers(inventory, entry)]
    yield "Valid", [f"{said.begin:%Y-%m-%d %H:%M} to {said.end:%Y-%m-%d %H:%M} UTC"]
    length = "" if said.path_length is None else f", path length {said.path_length}"
    extensions = certificate(said.der).extensions
    critical = {type(one.value) for one in extensions.each if one.critical}
    told: tuple[tuple[str, type, Sequence[str]], ...] = (
        ("Basic constraints", x509.BasicConstraints, [f"CA:{str(said.ca).upper()}{length}"]),
        ("Key usage", x509.KeyUsage, _joined(said.key_usage)),
        ("Extended key usage", x509.ExtendedKeyUsage, _joined(said.extended_key_usage)),
        ("Alternative names", x509.SubjectAlternativeName, said.names),
        ("Permits names", x509.NameConstraints, said.permitted),
        ("Excludes names", x509.NameConstraints, said.excluded),
    )
    for title, kind, values in told:
        words = " (critical)" if kind in critical else ""
        yield title + words, [text(one or '""') for one in values]
    yield from others(extensions)
    yield "Key", [text(said.key)]
    yield "Private key", [text(f"{key.place}, {key.state}") if key else "not here"]
    yield "Signature", [text(said.signature)]
    yield "Serial", [mono(said.serial)]
    old = old_fingerprints(said.der)
    yield "SHA-256", [mono(said.sha256)]
    yield "SHA-1", [mono(old["sha1"])]
    yield "MD5", [mono(old["md5"])]
    yield "Key SHA-256", [mono(said.key_sha256)] * bool(said.key_sha256)
    yield "File", [mono(one) for one in entry.files]
    yield "Raw", [raw("CERTIFICATE", said.der)]


def mono(value: object) -> str:
    """Return text in letters of one width."""
    return f'<span class="mono">{text(value)}</span>'


def _joined(values: Sequence[str]) -> list[str]:
    return [", ".join(values)] if values else []


def others(extensions: Extensions) -> Iterator[tuple[str, list[str]]]:
    """Yield the extensions that have no words of their own, the key identifiers first."""
    others = [one for one in extensions.each if not isinstance(one.value, _TOLD)]
    for one in sorted(others, key=lambda one: not isinstance(one.value, tuple(_IDENTIFIERS))):
        title = _IDENTIFIERS.get(type(one.value), extension_name(one.oid))
        value = [*_flat(value_text(one))]
        yield text(title) + " (critical)" * one.critical, [*map(mono, value)]


def _flat(value: Any) -> Iterator[str]:
    """Yield the lines of an extension's value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (f"{name}: {line}" for line in _flat(inner))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)
    elif value is not None:
        yield str(value)


def raw(label: str, der: bytes) -> str:
    """Return the PEM of a thing, folded."""
    block = html.escape(pem.encode(label, der).decode())
    return f'<details class="raw"><summary>PEM</summary><pre class="mono">{block}</pre></details>'


def _issuers(inventory: Inventory, entry: Entry) -> str:
    links = [
        "itself" if number == entry.number else link(inventory.entries[number])
        for number in entry.issuers
    ]
    return f"{text(entry.facts.issuer)} ({', '.join(links) or unlinked(entry)})"


def link(entry: Entry) -> str:
    """Return a link to a certificate."""
    return f'<a href="#c{entry.number}">{text(entry.name)}</a>'


def of_crl(inventory: Inventory, crl: CrlEntry) -> Iterator[tuple[str, list[str]]]:
    """Yield the facts of a CRL: titles, and values in HTML."""
    outline = read_crl(crl.der)
    links = ", ".join(link(inventory.entries[one]) for one in crl.issuers) or "not here"
    yield "Problem", [f'<span class="fault">{text(one)}</span>' for one in crl.problems]
    yield "Issuer", [f"{text(crl.issuer)} ({links})"]
    yield "Number", ["none" if crl.number is None else str(crl.number)]
    yield "This update", [f"{crl.begin:%Y-%m-%d %H:%M} UTC"]
    yield "Next update", [f"{crl.end:%Y-%m-%d %H:%M} UTC" if crl.end else "none"]
    revoked = [*map(_revoked, outline.entries[:_REVOKED])]
    more = len(outline.entries) - len(revoked)
    yield "Revoked", [*(revoked or ["none"]), *([f"and {more} more"] if more else [])]
    others_ = [one for one in outline.extensions.each if not isinstance(one.value, x509.CRLNumber)]
    yield from others(Extensions(tuple(others_)))
    yield "Signature", [text(outline.signature)]
    yield "SHA-256", [mono(hashlib.sha256(crl.der).hexdigest())]
    yield "File", [mono(one) for one in crl.files]
    yield "Raw", [raw("X509 CRL", crl.der)] if len(crl.der) <= _RAW else []


def _revoked(entry: Element) -> str:
    try:
        serial, since, extensions = crl_entry(entry)
    except ValueError as error:
        return text(unread(error))
    reasons = ", ".join(line for one in extensions.each for line in _flat(value_text(one)))
    words = f"{serial}, {since[:10]}, {reasons}" if reasons else f"{serial}, {since[:10]}"
    return mono(words)
