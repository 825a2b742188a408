# SPDX-License-Identifier: Apache-2.0
"""An inventory of a PKI in files: its certificates with issuers, revocations and keys.

`read` takes a directory of ours, of easy-rsa, or any other with certificates, or one file. It
reads once and never fails for a damaged file. Nothing here decides about trust: a link to an
issuer only says that the name fits and the signature verifies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.pki.crls import number_of
from fwsign.pki.paths.end import TLS, PathLink, path_ends
from fwsign.pki.profiles import short_third
from fwsign.pki.report.linking import (
    ISSUER_LIMIT,
    HeldCertificate,
    by_name,
    crl_is_signed_by,
    distinct,
    held_by,
    link,
    once,
)
from fwsign.pki.report.material import KeyFile, KeyFinder, Material, Problem, collect
from fwsign.pki.view.words import UNREADABLE, error_words, quietly

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from datetime import datetime

    from fwsign.keys import Passphrase
    from fwsign.pki.view.entry import Facts

_URGENT: Final = timedelta(days=30)
_SOON: Final = timedelta(days=90)
_SOON_SHARE: Final = 0.2


class Standing(Enum):
    """The state of a certificate or CRL at a time; its own comes before that of its path."""

    OK = "valid"
    SOON = "ending soon"
    URGENT = "ending very soon"
    EXPIRED = "expired"
    FUTURE = "not valid yet"
    CA_EXPIRED = "below an expired CA"
    CA_REVOKED = "below a revoked CA"
    REVOKED = "revoked"

    @property
    def dead(self) -> bool:
        """Whether it is past its time, or revoked, by itself or by a CA above it."""
        return self in _DEAD


_DEAD: Final = (Standing.EXPIRED, Standing.CA_EXPIRED, Standing.CA_REVOKED, Standing.REVOKED)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate's revocation on a CRL of its issuer."""

    date: datetime
    reason: str
    crl: str


@dataclass(frozen=True, slots=True)
class EndingCa:
    """The certificate above another that ends the last of its paths."""

    number: int
    name: str
    end: datetime
    revocation: Revocation | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate, in one file or several."""

    number: int
    """Its place in `Inventory.entries`."""
    name: str
    files: tuple[str, ...]
    facts: Facts
    kind: str
    """root CA, CA, signer, tsa, server, client or other."""
    issuers: tuple[int, ...]
    """The entries that issued it; itself if self-signed, several if cross-signed."""
    key_file: KeyFile | None
    """Its private key; None if it is not here."""
    revocation: Revocation | None
    above: EndingCa | None
    """The certificate above that ends it before its own time; None if there is none."""
    problems: tuple[str, ...]

    @property
    def end(self) -> datetime:
        """The time when it ends: its own, or that of its path."""
        return min(self.facts.end, self.above.end) if self.above else self.facts.end

    def standing(self, at: datetime) -> Standing:
        """Return its state at a time."""
        if self.revocation:
            return Standing.REVOKED
        if self.facts.end < at or self.above is None:
            return _standing(self.facts.begin, self.facts.end, at)
        if self.above.revocation:
            return Standing.CA_REVOKED
        own = _standing(self.facts.begin, self.end, at)
        return Standing.CA_EXPIRED if own is Standing.EXPIRED else own


@dataclass(frozen=True, slots=True)
class CrlEntry:
    """One CRL; `issuers` are the entries whose key signed it, if they are here."""

    name: str
    files: tuple[str, ...]
    issuer: str
    issuers: tuple[int, ...]
    number: int | None
    begin: datetime
    end: datetime | None
    revoked: int
    der: bytes
    problems: tuple[str, ...]

    def standing(self, at: datetime) -> Standing:
        """Return its state at a time; CRLs are short-lived, so only the remaining share counts."""
        if self.end is None:
            return Standing.OK
        return _standing(self.begin, self.end, at, short_lived=True)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All things found in one place."""

    source: str
    entries: tuple[Entry, ...]
    crls: tuple[CrlEntry, ...]
    problems: tuple[Problem, ...]


def read(source: str | os.PathLike[str], passphrase: Passphrase | None = None) -> Inventory:
    """Read a directory or file, once.

    Args:
        source: the directory or file.
        passphrase: called for PKCS#12 that is encrypted; None leaves it locked.

    Raises:
        Failed: `io.*`: it cannot be read at all; `state.pki`: it has too many files; `key.*`:
            one file of PKCS#12 cannot be opened.
    """
    return build(collect(source, passphrase))


def build(material: Material) -> Inventory:
    """Link the things that belong together, in the order of the files' names."""
    with quietly():
        problems = list(material.problems)
        found = distinct(material, problems)
        issuers = link(found)
        crls, revoked = _crls(material, found, issuers, problems)
        entries = _entries(material, found, issuers, revoked)
    return Inventory(material.source, entries, crls, tuple(problems))


def _standing(
    begin: datetime, end: datetime, at: datetime, *, short_lived: bool = False
) -> Standing:
    left = end - at
    if left < timedelta(0):
        return Standing.EXPIRED
    if at < begin:
        return Standing.FUTURE
    short_lived |= short_third(begin, end) is not None
    if left < _URGENT and not short_lived:
        return Standing.URGENT
    if left < (end - begin) * _SOON_SHARE or (left < _SOON and not short_lived):
        return Standing.SOON
    return Standing.OK


def _crls(
    material: Material,
    found: list[HeldCertificate],
    issuers: list[tuple[int, ...]],
    problems: list[Problem],
) -> tuple[tuple[CrlEntry, ...], dict[int, Revocation]]:
    """Return the CRLs and their revocations; a CRL revokes only its own issuer's certificates."""
    names = by_name(found)
    issued: dict[int, dict[int, list[int]]] = {}
    for number, above in enumerate(issuers):
        for issuer in above:
            serials = issued.setdefault(issuer, {})
            serials.setdefault(found[number].certificate.serial_number, []).append(number)
    crls: list[CrlEntry] = []
    revoked: dict[int, Revocation] = {}
    for crl, files in once(material.crls, held_by(material)):
        try:
            named = names.get(crl.issuer.public_bytes(), [])
            own = [n for n in named[:ISSUER_LIMIT] if crl_is_signed_by(crl, found[n].certificate)]
            wanted: dict[int, list[int]] = {}
            for issuer in own:
                for serial, numbers in issued.get(issuer, {}).items():
                    wanted.setdefault(serial, []).extend(numbers)
            for listed in crl:
                for number in wanted.get(listed.serial_number, ()):
                    _note(revoked, number, listed, files[0])
            crls.append(_crl(files, crl, tuple(own), named=bool(named)))
        except UNREADABLE as error:
            problems.append(
                Problem(files[0], f"has a CRL that cannot be read: {error_words(error)}")
            )
    return tuple(sorted(crls, key=lambda one: one.files)), revoked


def _note(
    revoked: dict[int, Revocation], number: int, listed: x509.RevokedCertificate, file: str
) -> None:
    """Keep the earliest of several revocations."""
    date = listed.revocation_date_utc
    if number in revoked and revoked[number].date <= date:
        return
    try:
        reason = listed.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        reason = "unspecified"
    except UNREADABLE:
        reason = "not readable"
    revoked[number] = Revocation(date, reason, file)


def _crl(
    files: tuple[str, ...],
    crl: x509.CertificateRevocationList,
    own: tuple[int, ...],
    *,
    named: bool,
) -> CrlEntry:
    problems = []
    try:
        number = number_of(crl)
    except UNREADABLE as error:
        number = None
        problems.append(f"its extensions cannot be read: {error_words(error)}")
    if named and not own:
        problems.append("its signature does not verify with the issuer that is here")
    if crl.next_update_utc is None:
        problems.append("it does not say when the next one comes: devices refuse it")
    return CrlEntry(
        name=PurePosixPath(files[0]).stem,
        files=files,
        issuer=crl.issuer.rfc4514_string(),
        issuers=own,
        number=number,
        begin=crl.last_update_utc,
        end=crl.next_update_utc,
        revoked=len(crl),
        der=crl.public_bytes(Encoding.DER),
        problems=tuple(problems),
    )


def _entries(
    material: Material,
    found: list[HeldCertificate],
    issuers: list[tuple[int, ...]],
    revoked: dict[int, Revocation],
) -> tuple[Entry, ...]:
    held = held_by(material)
    subjects = {one.certificate.subject.public_bytes() for one in found}
    keys = KeyFinder(material.keys)
    entries = []
    ends = path_ends(
        {
            number: PathLink(
                issuers[number], one.facts.end, number in revoked, one.facts.use in TLS
            )
            for number, one in enumerate(found)
        }
    )
    names = [_name(one, held) for one in found]
    for number, one in enumerate(found):
        said = one.facts
        cause = ends[number].cause
        problems = [said.fault] if said.fault else []
        if not issuers[number] and one.certificate.issuer.public_bytes() in subjects:
            problems.append("its signature does not verify with the issuer that is here")
        if held[one.files[0]] == 1:  # a bundle's key may belong to another of its certificates
            wrong = keys.wrong(said.key_sha256, one.files)
            problems += [f"{file} is not its key" for file in wrong]
        entries.append(
            Entry(
                number=number,
                name=names[number],
                files=one.files,
                facts=said,
                kind=_kind(said, is_root=number in issuers[number]),
                issuers=issuers[number],
                key_file=keys.of(said.key_sha256, one.files),
                revocation=revoked.get(number),
                above=None
                if cause is None
                else EndingCa(cause, names[cause], found[cause].facts.end, revoked.get(cause)),
                problems=tuple(problems),
            )
        )
    return tuple(entries)


def _name(one: HeldCertificate, held: Mapping[str, int]) -> str:
    stem = PurePosixPath(one.files[0]).stem
    return (stem if held[one.files[0]] == 1 else one.facts.common_name) or one.facts.serial


def _kind(said: Facts, *, is_root: bool) -> str:
    if said.ca:
        return "root CA" if is_root else "CA"
    return said.use
