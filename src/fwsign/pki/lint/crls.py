# SPDX-License-Identifier: Apache-2.0
"""Lint rules about CRLs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from fwsign.format.algorithms import CERTIFICATE_ALGORITHMS
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys.asn1 import elements
from fwsign.pki.crls import has_leaked
from fwsign.pki.lint.der import crl_has_version
from fwsign.pki.lint.files import Folder, Seen, SeenCrl
from fwsign.pki.lint.paths import Tree
from fwsign.pki.lint.rules import Finding, found
from fwsign.pki.view.words import shown_serial
from fwsign.x509.crl import limited_to, newest

SOON: Final = timedelta(days=30)


class Lists(NamedTuple):
    """The newest CRLs of each CA, by the CA's DER, and the CRLs without a CA here."""

    newest: Mapping[bytes, tuple[Seen, Sequence[SeenCrl]]]
    forged: Sequence[SeenCrl]
    orphans: Sequence[SeenCrl]

    def revoked(self, tree: Tree) -> frozenset[bytes]:
        """The DER of all revoked certificates."""
        return frozenset(
            one.der
            for ca, crls in self.newest.values()
            for serials in ({entry.serial_number for crl in crls for entry in crl.parsed},)
            for one in tree.below(ca)
            if one.fields.serial in serials
        )

    def leaked(self, tree: Tree) -> Mapping[str, Seen]:
        """The revoked certificates whose keys leaked, by the SHA-256 of the key."""
        found: dict[str, Seen] = {}
        for ca, crls in self.newest.values():
            serials = {
                entry.serial_number for crl in crls for entry in crl.parsed if _leaked(entry)
            }
            for one in tree.below(ca) if serials else ():
                if one.fields.serial in serials and one.spki:
                    found[one.spki] = one
        return found

    def judged(self) -> Iterable[tuple[SeenCrl, Sequence[Seen]]]:
        """The newest CRLs, each once, with the certificates of its CA: several after a renewal."""
        makers: dict[bytes, tuple[SeenCrl, list[Seen]]] = {}
        for ca, crls in self.newest.values():
            for crl in crls:
                makers.setdefault(crl.der, (crl, []))[1].append(ca)
        return makers.values()


def link(folder: Folder) -> Lists:
    """Find the CA of each CRL."""
    own: dict[bytes, tuple[Seen, dict[bytes, SeenCrl]]] = {}
    forged: list[SeenCrl] = []
    orphans: list[SeenCrl] = []
    for crl in folder.crls:
        named = [one for one in folder.certificates if one.parsed.subject == crl.parsed.issuer]
        makers = [one for one in named if _signed(crl, one)]
        for ca in makers:
            own.setdefault(ca.der, (ca, {}))[1].setdefault(crl.der, crl)
        if not makers:
            (forged if named else orphans).append(crl)
    latest = {der: (ca, newest(crls.values())) for der, (ca, crls) in own.items()}
    return Lists(latest, forged, orphans)


def check_keys(
    tree: Tree, lists: Lists, dead: frozenset[bytes], revoked: frozenset[bytes]
) -> Iterator[Finding]:
    """Find certificates that are good although their key leaked: another one of it was revoked."""
    leaked = lists.leaked(tree)
    for one in tree.certificates if leaked else ():
        source = leaked.get(one.spki or "")
        if source is not None and one.der not in dead | revoked:
            serial = shown_serial(source.fields.serial)
            words = (
                f"its key leaked: certificate {serial} was revoked for that, and this one was not"
            )
            yield found("lint.leaked-key", one.name, one.file, words)


def check(
    folder: Folder, tree: Tree, lists: Lists, now: datetime, dead: frozenset[bytes]
) -> Iterator[Finding]:
    """Find faults of each CA's newest CRLs, and CAs without a CRL.

    No device asks for a CRL of a CA that is dead, by the DER in `dead`, so it may go stale.
    """
    for crl in lists.forged:
        yield found("lint.crl-signature", crl.name, crl.file, "not signed by the CA of its name")
    for crl in lists.orphans:
        yield found("lint.crl-orphan", crl.name, crl.file, "its CA is not here")
    for crl in _latest(lists.orphans):
        for code, message in (*_form(crl), *_dates(crl, now)):
            yield found(code, crl.name, crl.file, message)
    for crl, makers in lists.judged():
        needed = any(ca.der not in dead for ca in makers)
        dates = _dates(crl, now) if needed else ()
        rules = (_form(crl), dates, _unknown(makers, crl, tree))
        for code, message in (said for rule in rules for said in rule):
            yield found(code, crl.name, crl.file, message)
    if len(folder.certificates) + len(folder.crls) == 1:
        return  # one file alone: nothing can be missing
    for ca in folder.certificates:
        if ca.der not in (*lists.newest, *dead) and ca.is_ca and tree.below(ca):
            yield found("lint.crl-missing", ca.name, ca.file, "it has issued, and has no CRL here")


def _latest(crls: Sequence[SeenCrl]) -> Iterator[SeenCrl]:
    """Yield the newest CRLs of each issuer, by its name and key identifier."""
    found: dict[tuple[x509.Name, bytes | None], dict[bytes, SeenCrl]] = {}
    for crl in crls:
        key = next(
            (
                extension.value.key_identifier
                for extension in crl.parsed.extensions
                if isinstance(extension.value, x509.AuthorityKeyIdentifier)
            ),
            None,
        )
        found.setdefault((crl.parsed.issuer, key), {}).setdefault(crl.der, crl)
    for same in found.values():
        yield from newest(same.values())


def _signed(crl: SeenCrl, ca: Seen) -> bool:
    try:
        return crl.parsed.is_signature_valid(ca.parsed.public_key())  # type: ignore[arg-type]
    except (UnsupportedAlgorithm, *PARSE_ERRORS):
        return False


def _form(crl: SeenCrl) -> Iterator[tuple[str, str]]:
    if not crl_has_version(crl.der):
        yield "lint.crl-version", "version 1, expected v2"
    fields = elements(elements(crl.der)[0].content)
    if bytes([fields[1].tag, len(fields[1].content)]) + fields[1].content not in (
        CERTIFICATE_ALGORITHMS
    ):
        oid = crl.parsed.signature_algorithm_oid.dotted_string
        yield "lint.signature-weak", f"signed with {oid}"
    if crl.number is None:
        yield "lint.crl-number", "no number"
    for extension in crl.parsed.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            if (limits := limited_to(extension.value)) is not None:
                yield "lint.crl-partial", f"for {limits} alone"
        elif extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            yield "lint.crl-partial", "a delta CRL"
        elif extension.critical:
            yield "lint.crl-extension", f"critical extension {extension.oid.dotted_string}"
    if any(extension.critical for entry in crl.parsed for extension in entry.extensions):
        yield "lint.crl-extension", "an entry with a critical extension"


def _dates(crl: SeenCrl, now: datetime) -> Iterator[tuple[str, str]]:
    last = crl.parsed.next_update_utc
    if last is None:
        yield "lint.crl-next-update", "no time of the next update"
    elif now > last:
        yield "lint.crl-stale", f"to be replaced by {last:%Y-%m-%d}, it is {now:%Y-%m-%d}"
    elif last - now < SOON:
        yield "lint.crl-expires-soon", f"to be replaced by {last:%Y-%m-%d}"


def _unknown(makers: Sequence[Seen], crl: SeenCrl, tree: Tree) -> Iterator[tuple[str, str]]:
    here = {one.fields.serial for ca in makers for one in tree.below(ca)}
    unknown = [entry.serial_number for entry in crl.parsed if entry.serial_number not in here]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        yield (
            "lint.crl-unknown",
            f"serial number {shown_serial(unknown[0])}{more}: no such certificate here",
        )


def _leaked(entry: x509.RevokedCertificate) -> bool:
    try:
        return has_leaked(entry)
    except PARSE_ERRORS:  # another rule names an entry that cannot be read
        return False
