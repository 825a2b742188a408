# SPDX-License-Identifier: Apache-2.0
"""Read any PKI in a directory or file: certificates, CRLs, and the places of keys.

It is tolerant: an unreadable part becomes a `Problem`, and the rest is still read. Of a private key
only its public half is used, to find its certificate; a passphrase is only for PKCS#12.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cryptography import x509

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.keys import jwk, named
from fwsign.keys.formats import read_opened
from fwsign.keys.items import CONTAINER, FileItem
from fwsign.pki.key_uris import parse_uri_file
from fwsign.pki.view.lenient import certificate
from fwsign.pki.view.words import UNREADABLE, error_words, quietly
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fwsign.keys import Passphrase

FILE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one file: a bundle of a thousand certificates, or a CRL of fifty thousand entries."""
COUNT_LIMIT: Final = 10_000
"""Files of one directory: far more than any PKI in files has, and still quick to read."""

_CERTIFICATES: Final = (".crt", ".cer", ".cert")
_BUNDLES: Final = (".p12", ".pfx", ".p7b", ".p7c")
_SUFFIXES: Final = (*_CERTIFICATES, *_BUNDLES, ".pem", ".der", ".crl", ".key", ".uri")
_MARK: Final = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,64})-----")

Protection = Literal["encrypted", "not encrypted", "elsewhere"]


class Problem(NamedTuple):
    """An unreadable file or part of a file, and the reason."""

    file: str
    message: str


class KeyFile(NamedTuple):
    """The file of a private key, or of the URI where it lives.

    `key_sha256` is None if only a passphrase, or whoever has the key, would reveal it.
    """

    file: str
    protection: Protection
    key_sha256: str | None
    derivation: str | None = None
    """How a passphrase protects it, as in "scrypt N=16384 r=8 p=5"."""
    uri: str | None = None
    """Where it lives; None if it is in the file."""

    @property
    def place(self) -> str:
        """Where the key is: in a file, or elsewhere."""
        return self.uri or self.file

    @property
    def state(self) -> str:
        """Whether it is encrypted, and how."""
        if self.uri is not None:
            return f"as {self.file} says"
        if self.derivation is None:
            return self.protection
        name, *_ = self.derivation.replace("-", " ").split()
        return f"{self.protection} with {name}"


@dataclass(slots=True)
class Material:
    """All things found, each with the path of its file below `source`."""

    source: str
    certificates: list[tuple[str, x509.Certificate]] = field(default_factory=list)
    crls: list[tuple[str, x509.CertificateRevocationList]] = field(default_factory=list)
    keys: list[KeyFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def collect(source: str | os.PathLike[str], passphrase: Passphrase | None = None) -> Material:
    """Read a directory and all directories below it, or one file.

    Names that begin with a dot are skipped, and so are files without a suffix of certificates,
    CRLs or keys. Links to directories are not followed.

    Args:
        source: the directory or file.
        passphrase: called for PKCS#12 that is encrypted; None leaves it locked.

    Raises:
        Failed: `io.*`: the directory or file itself cannot be read; `state.pki`: it has more
            than `COUNT_LIMIT` files; `key.*`: one file of PKCS#12 cannot be opened.
    """
    root = Path(source)
    found = Material(os.fspath(root))
    try:
        mode = root.stat().st_mode
    except OSError as error:
        raise io_error(error, root) from error
    with quietly():
        if stat.S_ISDIR(mode):
            for file in _files(root, found):
                _read(root / file, file, passphrase, found)
        elif stat.S_ISREG(mode):
            _sort(read_bytes(root, FILE_LIMIT), root.name, passphrase, found)
        else:
            raise Failed("io.format", f"{root} is not a regular file", found="a pipe or device")
    return found


def _files(root: Path, found: Material) -> list[str]:
    def failed(error: OSError) -> None:
        if error.filename == os.fspath(root):
            raise io_error(error, root) from error
        place = Path(str(error.filename)).relative_to(root).as_posix()
        found.problems.append(Problem(place, _words(io_error(error, place))))

    files: list[str] = []
    count = 0
    for directory, below, names in os.walk(root, onerror=failed):
        below[:] = sorted(name for name in below if not name.startswith("."))
        count += len(names)
        if count > COUNT_LIMIT:
            raise Failed(
                "state.pki",
                f"{root} has more than {COUNT_LIMIT} files: it is not a PKI alone",
                expected=f"at most {COUNT_LIMIT} files",
                found="more",
            )
        files += [
            Path(directory, name).relative_to(root).as_posix()
            for name in names
            if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(files)


def _read(path: Path, file: str, passphrase: Passphrase | None, found: Material) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            found.problems.append(Problem(file, "is not a regular file"))
            return
        _sort(read_bytes(path, FILE_LIMIT), file, passphrase, found)
    except (OSError, Failed) as error:
        failure = error if isinstance(error, Failed) else io_error(error, path)
        found.problems.append(Problem(file, _words(failure)))


def _words(error: Failed) -> str:
    if error.code.startswith("key."):
        return f"cannot be opened: {error.message}"
    return f"cannot be read: {error.found}" if error.code != "io.format" else "is too large"


def _sort(data: bytes, file: str, passphrase: Passphrase | None, found: Material) -> None:
    """Take in the content of one file."""
    if not data:
        found.problems.append(Problem(file, "is empty"))
    elif file.endswith(".uri"):
        _take_uri(data, file, found)
    elif (foreign := named.foreign(data)) is not None:
        found.problems.append(Problem(file, foreign.words))
    elif b"-----BEGIN " in data and jwk.parse(data.lstrip()) is None:
        _sort_pem(data, file, passphrase, found)
    elif data.lstrip()[:1] not in (b"\x30", b"{", b"[") or not _take(
        read_opened(data, passphrase, name=file), file, found
    ):
        found.problems.append(Problem(file, "has no certificate, CRL or key that can be read"))


def _take_uri(data: bytes, file: str, found: Material) -> None:
    try:
        uri = parse_uri_file(data, file)
    except Failed as error:
        found.problems.append(Problem(file, f"does not say where a key lives: {error.found}"))
    else:
        found.keys.append(KeyFile(file, "elsewhere", None, uri=uri))


def _sort_pem(data: bytes, file: str, passphrase: Passphrase | None, found: Material) -> None:
    labels = []
    before = len(found.certificates)
    for label, block in _blocks(data, file, found):
        labels.append(label)
        try:
            taken = _take(read_opened(block, passphrase, name=file), file, found)
        except Failed as error:
            if error.code != "io.format":
                raise
            found.problems.append(Problem(file, f"is damaged: {label} that is not base64"))
            continue
        if not taken:
            found.problems.append(Problem(file, f"has a {label} that cannot be read"))
    named = file.lower().endswith(_CERTIFICATES) and labels and "CERTIFICATE" not in labels
    if named and len(found.certificates) == before:
        found.problems.append(Problem(file, f"has no certificate but {', '.join(labels)}"))


def _blocks(data: bytes, file: str, found: Material) -> Iterator[tuple[str, bytes]]:
    """Yield the label and the text of each PEM block; skip the text around them."""
    begin: re.Match[bytes] | None = None
    for mark in _MARK.finditer(data):
        label = mark[2].decode()
        if mark[1] == b"BEGIN":
            if begin is not None:
                found.problems.append(Problem(file, _endless(begin)))
            begin = mark
        elif begin is None or begin[2] != mark[2]:
            found.problems.append(Problem(file, f"is damaged: END {label} without its BEGIN"))
            begin = None
        else:
            yield label, data[begin.start() : mark.end()]
            begin = None
    if begin is not None:
        found.problems.append(Problem(file, _endless(begin)))


def _endless(begin: re.Match[bytes]) -> str:
    return f"is damaged: BEGIN {begin[2].decode()} without its END"


def _take(things: tuple[FileItem, ...], file: str, found: Material) -> bool:
    """Take in the things in one block; return whether all of them could be read."""
    taken = [_take_one(one, file, found) for one in things]
    return bool(taken) and all(taken)


def _take_one(one: FileItem, file: str, found: Material) -> bool:
    try:
        if one.kind == "certificate":
            found.certificates.append((file, x509.load_der_x509_certificate(one.content)))
        elif one.kind == "CRL":
            found.crls.append((file, x509.load_der_x509_crl(one.content)))
        elif one.kind == "private key":
            if one.public_key is None and one.encryption is None:
                return False
            digest = None if one.public_key is None else key_digest(one.public_key)
            protection: Protection = "encrypted" if one.encryption else "not encrypted"
            kdf = one.encryption.kdf if one.encryption else None
            found.keys.append(KeyFile(file, protection, digest, kdf))
        elif one.kind == CONTAINER:
            found.problems.append(Problem(file, "is encrypted PKCS#12, without its passphrase"))
        else:  # requests and public keys do not belong to an inventory
            return one.format != "PKCS#7" and "CERTIFICATE" not in one.format
    except UNREADABLE as error:
        if one.kind != "certificate" or (subject := _subject(one.content)) is None:
            return False
        message = (
            f"has a certificate that cannot be read: {error_words(error)}; its subject is {subject}"
        )
        found.problems.append(Problem(file, message))
    return True


def _subject(data: bytes) -> str | None:
    try:
        return certificate(data).subject
    except UNREADABLE:
        return None


class KeyFinder:
    """Find the private key of a certificate: by its public half, else by its file's name.

    The name is NAME.key, beside NAME.crt or above it, there or in a directory `private`.
    """

    def __init__(self, keys: list[KeyFile]) -> None:
        self._by_digest = {key.key_sha256: key for key in reversed(keys) if key.key_sha256}
        self._by_stem: dict[str, list[KeyFile]] = {}
        for key in keys:
            self._by_stem.setdefault(PurePosixPath(key.file).stem, []).append(key)

    def of(self, key_sha256: str, files: tuple[str, ...]) -> KeyFile | None:
        """Return the key; the nearest of several that only a passphrase would tell apart.

        Where a file says that the key lives elsewhere, that counts before a file with the key.
        """
        named = [key for file in files for key in self._named(file) if key.key_sha256 is None]
        nearest = max(named, key=lambda key: (key.uri is not None, len(_place(key))), default=None)
        if nearest is not None and nearest.uri is not None:
            return nearest
        return self._by_digest.get(key_sha256, nearest)

    def wrong(self, key_sha256: str, files: tuple[str, ...]) -> list[str]:
        """Return the files with a fitting name but another key."""
        if key_sha256 in self._by_digest:
            return []
        return [key.file for key in self._named(files[0]) if key.key_sha256 is not None]

    def _named(self, file: str) -> list[KeyFile]:
        path = PurePosixPath(file)
        return [
            key
            for key in self._by_stem.get(path.stem, ())
            if path.parts[: len(_place(key))] == _place(key)
        ]


def _place(key: KeyFile) -> tuple[str, ...]:
    parts = PurePosixPath(key.file).parts[:-1]
    return parts[:-1] if parts and parts[-1].startswith("private") else parts
