# SPDX-License-Identifier: Apache-2.0
"""Find certificates, CRLs and keys in files, valid or not."""

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys import Passphrase, jwk, named
from fwsign.keys.formats import read_opened
from fwsign.keys.items import CONTAINER, FileItem
from fwsign.pki.crls import number_of
from fwsign.pki.key_uris import is_uri_file, parse_uri_file
from fwsign.pki.lint.der import RawFields, raw_fields
from fwsign.pki.paths.end import TLS
from fwsign.pki.view.entry import is_group, use_of
from fwsign.pki.view.extensions import Extensions
from fwsign.pki.view.lenient import of_certificate
from fwsign.pki.view.words import error_words, shown_serial
from fwsign.x509.certificate import display_name, key_digest

FILE_LIMIT: Final = 4 * 1024 * 1024
"""Octets of one file; larger files are neither certificates nor CRLs."""
FILES_LIMIT: Final = 20_000
"""Files in a folder; a PKI of easy-rsa has three for each certificate."""
SUFFIXES: Final = frozenset(
    {".crt", ".cer", ".cert", ".pem", ".der", ".crl", ".key", ".p12", ".pfx", ".p7b", ".p7c"}
)
"""Suffixes of the files to read below a folder; a single given file may have any name."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9# ]{1,64})-----.*?-----END \1-----", re.DOTALL)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Seen(NamedTuple):
    """A certificate; `spki` is None if its key cannot be read."""

    file: Path
    der: bytes
    parsed: x509.Certificate
    fields: RawFields
    spki: str | None
    extensions: Extensions

    @property
    def name(self) -> str:
        """The certificate's name for people."""
        return display_name(self.parsed.subject) or f"serial {shown_serial(self.fields.serial)}"

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """Return the extension of a kind; None if it is absent or cannot be read."""
        for one in self.extensions.each:
            if type(one.value) is kind:
                return x509.Extension(one.oid, one.critical, one.value)
        return None

    @property
    def is_ca(self) -> bool:
        """Whether it claims to be a CA."""
        basic = self.extension(x509.BasicConstraints)
        return basic is not None and basic.value.ca

    @property
    def usages(self) -> tuple[x509.ObjectIdentifier, ...]:
        """The extended key usages."""
        extended = self.extension(x509.ExtendedKeyUsage)
        return tuple(extended.value) if extended else ()

    @property
    def is_group(self) -> bool:
        """Whether its key is a group's, to which payloads are encrypted."""
        usage = self.extension(x509.KeyUsage)
        return is_group(usage.value if usage else None, self.usages)

    @property
    def is_tls(self) -> bool:
        """Whether it is a TLS server's or client's."""
        return use_of(self.usages) in TLS

    @property
    def key_identifiers(self) -> tuple[bytes | None, bytes | None]:
        """The subject key identifier and the issuer's, each None if absent."""
        own = self.extension(x509.SubjectKeyIdentifier)
        above = self.extension(x509.AuthorityKeyIdentifier)
        return (own.value.digest if own else None), (above.value.key_identifier if above else None)

    @property
    def is_root(self) -> bool:
        """Whether it names itself as its issuer."""
        own, above = self.key_identifiers
        return self.parsed.subject == self.parsed.issuer and above in (None, own)


class SeenCrl(NamedTuple):
    """A CRL."""

    file: Path
    der: bytes
    parsed: x509.CertificateRevocationList

    @property
    def name(self) -> str:
        """The CRL's name for people."""
        return f"CRL of {display_name(self.parsed.issuer)}"

    @property
    def number(self) -> int | None:
        """Its number, if it has one."""
        return number_of(self.parsed)

    @property
    def this_update(self) -> datetime:
        """The time when it was made."""
        return self.parsed.last_update_utc


class SeenKey(NamedTuple):
    """A private key; `spki` is None if only a passphrase would reveal it."""

    file: Path
    encrypted: bool
    spki: str | None
    weakness: str | None
    """The reason why guessing its passphrase is cheap; None if it is not."""
    exposed: bool


class Damaged(NamedTuple):
    """Something that cannot be read."""

    file: Path
    what: str


class Folder(NamedTuple):
    """All things found; each certificate and CRL once, without copies."""

    certificates: tuple[Seen, ...]
    crls: tuple[SeenCrl, ...]
    keys: tuple[SeenKey, ...]
    damaged: tuple[Damaged, ...]
    locked: tuple[Path, ...]


def read(place: Path, passphrase: Passphrase | None = None) -> Folder:
    """Read one file, or all files with a fitting name below a folder.

    Args:
        place: the file or folder.
        passphrase: called for PKCS#12 that is encrypted; None leaves it locked.

    Raises:
        Failed: `io.*`: the file or folder itself cannot be read, or has too many files;
            `key.passphrase`, `key.passphrase-missing`: for a single PKCS#12 file.
    """
    pile = _Pile()
    single = not place.is_dir()
    for file in [place] if single else _files(place):
        try:
            data = read_bytes(file, FILE_LIMIT)
        except Failed as error:
            if single:
                raise
            pile.damaged.append(Damaged(file, error.message))
            continue
        if is_uri_file(file):
            try:
                parse_uri_file(data, file)
            except Failed as error:
                pile.damaged.append(Damaged(file, error.message))
            continue
        for label, block in _blocks(data):
            try:
                pile.take(file, read_opened(block, passphrase, name=file))
            except (UnsupportedAlgorithm, IndexError, Failed, *PARSE_ERRORS) as error:
                if single and isinstance(error, Failed) and error.code != "io.format":
                    raise
                told = f"{label or 'DER'} that cannot be read: {error_words(error)}"
                pile.damaged.append(Damaged(file, told))
        if fault := _fault(data):
            pile.damaged.append(Damaged(file, fault))
    return pile.folder()


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise error

    try:
        for base, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [
                Path(base, name)
                for name in sorted(names)
                if _is_meant(Path(name)) and not name.startswith(".")
            ]
            if len(found) > FILES_LIMIT:
                raise Failed(
                    "io.format",
                    f"{folder} has more than {FILES_LIMIT} files with certificates or keys",
                    expected=f"at most {FILES_LIMIT} files",
                    found="more",
                )
    except OSError as error:
        raise io_error(error, error.filename or folder) from error
    # A file named after the certificate is best: copies by serial number come last.
    found.sort(key=lambda path: any("serial" in part for part in path.parent.parts))
    return [path for path in found if path.is_file()]


def _is_meant(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or is_uri_file(path)


def _fault(data: bytes) -> str | None:
    if not data:
        return "an empty file"
    if (foreign := named.foreign(data)) is not None:
        return f"it {foreign.words}"
    if data[:1] == b"\x30" or _BLOCK.search(data) or jwk.parse(data.lstrip()) is not None:
        return None
    return "PEM without its end" if b"-----BEGIN " in data else "neither PEM nor DER"


def _blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Return PEM blocks with their labels, or DER with none; damage then spoils one block only."""
    if data[:1] == b"\x30":
        yield "", data
        return
    if jwk.parse(data.lstrip()) is not None:
        yield "JSON", data
        return
    for match in _BLOCK.finditer(data):
        yield match[1].decode(), match[0]


class _Pile:
    """The things found so far."""

    def __init__(self) -> None:
        self._things: dict[bytes, Seen | SeenCrl] = {}
        self._keys: list[SeenKey] = []
        self._locked: list[Path] = []
        self.damaged: list[Damaged] = []

    def take(self, file: Path, found: Iterable[FileItem]) -> None:
        """Take in the things in one block; raise for an unreadable one."""
        nothing = True
        for one in found:
            nothing = False
            if one.kind == "certificate":
                self._once(_certificate(file, one.content))
            elif one.kind == "CRL":
                self._once(_crl(file, one.content))
            elif one.kind == "private key":
                self._keys.append(_key(file, one))
            elif one.kind == CONTAINER:
                self._locked.append(file)
            elif one.format == "PKCS#7":
                raise ValueError(f"not a bundle of certificates{_but(one.detail)}")
        if nothing:
            raise ValueError("not a certificate, CRL or key")

    def _once(self, thing: Seen | SeenCrl) -> None:
        self._things.setdefault(thing.der, thing)

    def folder(self) -> Folder:
        """Return all things found."""
        things = self._things.values()
        return Folder(
            tuple(one for one in things if isinstance(one, Seen)),
            tuple(one for one in things if isinstance(one, SeenCrl)),
            tuple(self._keys),
            tuple(self.damaged),
            tuple(self._locked),
        )


def _but(detail: str | None) -> str:
    return f", but {detail}" if detail else ""


def _certificate(file: Path, content: bytes) -> Seen:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd names and serials, which lint says better
        parsed = x509.load_der_x509_certificate(content)
        _ = parsed.subject, parsed.issuer
        _ = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    try:
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, *PARSE_ERRORS):
        spki = None
    else:
        spki = hashlib.sha256(key).hexdigest()
    return Seen(file, content, parsed, raw_fields(content), spki, of_certificate(parsed))


def _crl(file: Path, content: bytes) -> SeenCrl:
    parsed = x509.load_der_x509_crl(content)
    _ = parsed.issuer, parsed.extensions, parsed.last_update_utc
    _ = [entry.extensions for entry in parsed]
    return SeenCrl(file, content, parsed)


def _key(file: Path, found: FileItem) -> SeenKey:
    encryption = found.encryption
    if found.public_key is None and encryption is None:
        raise ValueError(found.detail or "not a key")
    exposed = os.name != "nt" and bool(stat.S_IMODE(file.stat().st_mode) & 0o077)
    spki = None if found.public_key is None else key_digest(found.public_key)
    weak = encryption is not None and encryption.verdict == "weak"
    weakness = "; ".join(encryption.reasons) if encryption and weak else None
    return SeenKey(file, encryption is not None, spki, weakness, exposed)
