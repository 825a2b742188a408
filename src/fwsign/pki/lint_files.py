# SPDX-License-Identifier: Apache-2.0
"""Certificates, CRLs and keys as they are found in files, good or not."""

import hashlib
import os
import re
import stat
import warnings
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from fwsign.atomic import io_error, read_bytes
from fwsign.certificate import PARSE_ERRORS, display_name
from fwsign.errors import Failed
from fwsign.pki import lint_der

FILE_LIMIT: Final = 4 * 1024 * 1024
"""Octets of one file; larger ones are neither certificates nor CRLs."""
FILES_LIMIT: Final = 20_000
"""Files in a folder; a PKI of easy-rsa has three for each certificate."""
SUFFIXES: Final = frozenset({".crt", ".cer", ".pem", ".der", ".crl", ".key"})
"""Files that are looked into; a file that is named itself may be called anything."""

_BLOCK = re.compile(rb"-----BEGIN ([^\n-]{1,64})-----(.*?)-----END \1-----", re.DOTALL)
_CRL_LABEL, _CERTIFICATE_LABELS = "X509 CRL", ("CERTIFICATE", "X509 CERTIFICATE")
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Seen(NamedTuple):
    """A certificate; `spki` is None where its key cannot be read."""

    file: Path
    der: bytes
    parsed: x509.Certificate
    outline: lint_der.Outline
    spki: str | None

    @property
    def name(self) -> str:
        """The certificate for people."""
        return display_name(self.parsed.subject) or f"serial {self.outline.serial:x}"

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """Return the extension of a kind, or None."""
        try:
            return self.parsed.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
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
    def key_identifiers(self) -> tuple[bytes | None, bytes | None]:
        """The subject key identifier and the issuer's, each None where absent."""
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
        """The CRL for people."""
        return f"CRL of {display_name(self.parsed.issuer)}"


class SeenKey(NamedTuple):
    """A private key; `spki` is None where it is encrypted, `rounds` where another KDF is used."""

    file: Path
    encrypted: bool
    spki: str | None
    rounds: int | None
    exposed: bool


class Damaged(NamedTuple):
    """Something that cannot be read."""

    file: Path
    what: str


class Folder(NamedTuple):
    """All that was found; certificates and CRLs once each, wherever copies are."""

    certificates: tuple[Seen, ...]
    crls: tuple[SeenCrl, ...]
    keys: tuple[SeenKey, ...]
    damaged: tuple[Damaged, ...]


def read(place: Path) -> Folder:
    """Read one file, or all files with a fitting name below a folder.

    Raises:
        Failed: `io.*`: the file or folder itself cannot be read, or has too many files.
    """
    things: dict[bytes, Seen | SeenCrl] = {}
    keys: list[SeenKey] = []
    damaged: list[Damaged] = []
    single = not place.is_dir()
    for file in [place] if single else _files(place):
        try:
            data = read_bytes(file, FILE_LIMIT)
        except Failed as error:
            if single:
                raise
            damaged.append(Damaged(file, error.message))
            continue
        for label, content, traditional in _blocks(data):
            try:
                thing = _parse(file, label, content, traditional=traditional)
            except (UnsupportedAlgorithm, IndexError, *PARSE_ERRORS) as error:
                damaged.append(Damaged(file, f"{label or 'DER'} that cannot be read: {error}"))
                continue
            if isinstance(thing, SeenKey):
                keys.append(thing)
            elif thing is not None:
                things.setdefault(thing.der, thing)
        if fault := _fault(data):
            damaged.append(Damaged(file, fault))
    return Folder(
        tuple(one for one in things.values() if isinstance(one, Seen)),
        tuple(one for one in things.values() if isinstance(one, SeenCrl)),
        tuple(keys),
        tuple(damaged),
    )


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
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
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
    # A certificate is best known by its name: copies by serial number come last.
    found.sort(key=lambda path: any("serial" in part for part in path.parent.parts))
    return [path for path in found if path.is_file()]


def _fault(data: bytes) -> str | None:
    if not data:
        return "an empty file"
    if data[:1] == b"\x30" or _BLOCK.search(data):
        return None
    return "PEM without its end" if b"-----BEGIN " in data else "neither PEM nor DER"


def _blocks(data: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Return label, content, and whether it is encrypted the way of RFC 1421."""
    if data[:1] == b"\x30":
        yield "", data, False
        return
    for match in _BLOCK.finditer(data):
        body, traditional = match[2], b"Proc-Type: 4,ENCRYPTED" in match[2]
        if b":" in body:
            body = body.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        try:
            content = b64decode(b"".join(body.split()), validate=True)
        except ValueError:
            content = b""
        yield match[1].decode(), content, traditional


def _parse(
    file: Path, label: str, content: bytes, *, traditional: bool
) -> "Seen | SeenCrl | SeenKey | None":
    if label in _CERTIFICATE_LABELS:
        return _certificate(file, content)
    if label == _CRL_LABEL:
        return _crl(file, content)
    if label.endswith("PRIVATE KEY"):
        return _key(file, content, label, traditional=traditional)
    if label:  # requests, parameters, public keys
        return None
    for parse in (_certificate, _crl, _key, _other):
        try:
            return parse(file, content)
        except (UnsupportedAlgorithm, IndexError, *PARSE_ERRORS):
            continue
    raise ValueError("not a certificate, CRL or key")


def _certificate(file: Path, content: bytes) -> Seen:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd names and serials, which lint says better
        parsed = x509.load_der_x509_certificate(content)
        _ = parsed.extensions, parsed.subject, parsed.issuer
        _ = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    try:
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, *PARSE_ERRORS):
        spki = None
    else:
        spki = hashlib.sha256(key).hexdigest()
    return Seen(file, content, parsed, lint_der.outline(content), spki)


def _crl(file: Path, content: bytes) -> SeenCrl:
    parsed = x509.load_der_x509_crl(content)
    _ = parsed.issuer, parsed.extensions, parsed.last_update_utc
    _ = [entry.extensions for entry in parsed]
    return SeenCrl(file, content, parsed)


def _other(file: Path, content: bytes) -> None:
    """Accept what is none of lint's business; raises for what is not that either."""
    del file
    try:
        x509.load_der_x509_csr(content)
    except PARSE_ERRORS:
        load_der_public_key(content)


def _key(file: Path, content: bytes, label: str = "", *, traditional: bool = False) -> SeenKey:
    exposed = os.name != "nt" and bool(stat.S_IMODE(file.stat().st_mode) & 0o077)
    if traditional:  # one round of MD5
        return SeenKey(file, encrypted=True, spki=None, rounds=1, exposed=exposed)
    if label == "ENCRYPTED PRIVATE KEY":
        rounds = lint_der.pbkdf2_rounds(content)
        return SeenKey(file, encrypted=True, spki=None, rounds=rounds, exposed=exposed)
    if label == "OPENSSH PRIVATE KEY":
        plain = b"\0\0\0\x04none\0\0\0\x04none" in content[:64]
        return SeenKey(file, encrypted=not plain, spki=None, rounds=None, exposed=exposed)
    try:
        public = load_der_private_key(content, None).public_key()
    except TypeError:  # encrypted
        rounds = lint_der.pbkdf2_rounds(content)
        return SeenKey(file, encrypted=True, spki=None, rounds=rounds, exposed=exposed)
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(spki).hexdigest()
    return SeenKey(file, encrypted=False, spki=digest, rounds=None, exposed=exposed)
