# SPDX-License-Identifier: Apache-2.0
"""Reading whatever PKI lies in a directory or file: certificates, CRLs, and where keys are.

It is tolerant: what cannot be read becomes a `Problem` and the rest is still there. Of a private
key only its public half is looked at, to tell whose it is; no passphrase is asked for.
"""

from __future__ import annotations

import os
import re
import stat
from base64 import b64decode, encodebytes
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_ssh_private_key,
)

from fwsign.atomic import io_error, read_bytes
from fwsign.certificate import key_digest
from fwsign.errors import Failed
from fwsign.pki.entry import UNREADABLE, quietly

FILE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one file: a bundle of a thousand certificates, or a CRL of fifty thousand entries."""
COUNT_LIMIT: Final = 10_000
"""Files of one directory: far more than a PKI in files has, and soon read."""

_CERTIFICATES: Final = (".crt", ".cer", ".cert")
_SUFFIXES: Final = (*_CERTIFICATES, ".pem", ".der", ".crl", ".key")
_MARK: Final = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,64})-----")
_KEY_LABELS: Final = (
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "EC PRIVATE KEY",
    "RSA PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
)
_SSH_PLAIN: Final = b"openssh-key-v1\0\0\0\0\4none"

Protection = Literal["encrypted", "not encrypted"]


class Problem(NamedTuple):
    """A file, or a part of one, that cannot be read, and why."""

    file: str
    message: str


class KeyFile(NamedTuple):
    """Where a private key is; `key_sha256` is None where only a passphrase would tell."""

    file: str
    protection: Protection
    key_sha256: str | None


@dataclass(slots=True)
class Material:
    """All that was found, each with the path of its file below `source`."""

    source: str
    certificates: list[tuple[str, x509.Certificate]] = field(default_factory=list)
    crls: list[tuple[str, x509.CertificateRevocationList]] = field(default_factory=list)
    keys: list[KeyFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def collect(source: str | os.PathLike[str]) -> Material:
    """Read a directory and all below it, or one file.

    Names that begin with a dot are left out, and so are files whose suffix is none of
    certificates, CRLs and keys; links to directories are not followed.

    Raises:
        Failed: `io.*`: the directory or file itself cannot be read; `state.pki`: it has more
            than `COUNT_LIMIT` files.
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
                _read(root / file, file, found)
        elif stat.S_ISREG(mode):
            _sort(read_bytes(root, FILE_LIMIT), root.name, found)
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


def _read(path: Path, file: str, found: Material) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            found.problems.append(Problem(file, "is not a regular file"))
            return
        data = read_bytes(path, FILE_LIMIT)
    except (OSError, Failed) as error:
        failure = error if isinstance(error, Failed) else io_error(error, path)
        found.problems.append(Problem(file, _words(failure)))
        return
    _sort(data, file, found)


def _words(error: Failed) -> str:
    return f"cannot be read: {error.found}" if error.code != "io.format" else "is too large"


def _sort(data: bytes, file: str, found: Material) -> None:
    """Take in the content of one file."""
    if not data:
        found.problems.append(Problem(file, "is empty"))
    elif b"-----BEGIN " in data:
        _sort_pem(data, file, found)
    elif data[:1] != b"\x30" or not (
        _certificate(data, file, found) or _crl(data, file, found) or _key(data, file, "DER", found)
    ):
        found.problems.append(Problem(file, "has no certificate, CRL or key that can be read"))


def _sort_pem(data: bytes, file: str, found: Material) -> None:
    labels = []
    for label, content in _blocks(data, file, found):
        labels.append(label)
        taken = True
        if label in {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}:
            taken = _certificate(content, file, found)
        elif label == "X509 CRL":
            taken = _crl(content, file, found)
        elif label in _KEY_LABELS:
            taken = _key(content, file, label, found)
        if not taken:
            found.problems.append(Problem(file, f"has a {label} that cannot be read"))
    if file.lower().endswith(_CERTIFICATES) and labels and "CERTIFICATE" not in labels:
        found.problems.append(Problem(file, f"has no certificate but {', '.join(labels)}"))


def _blocks(data: bytes, file: str, found: Material) -> list[tuple[str, bytes]]:
    """Return the labels and contents of PEM; text around them is skipped (RFC 7468 s.2)."""
    blocks: list[tuple[str, bytes]] = []
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
            body = data[begin.end() : mark.start()]
            begin = None
            if b"ENCRYPTED" in body[:80]:  # RFC 1421 headers of traditional encrypted keys
                blocks.append((label, b""))
                continue
            try:
                blocks.append((label, b64decode(b"".join(body.split()), validate=True)))
            except ValueError:
                problem = f"is damaged: {label} that is not base64"
                found.problems.append(Problem(file, problem))
    if begin is not None:
        found.problems.append(Problem(file, _endless(begin)))
    return blocks


def _endless(begin: re.Match[bytes]) -> str:
    return f"is damaged: BEGIN {begin[2].decode()} without its END"


def _certificate(data: bytes, file: str, found: Material) -> bool:
    try:
        found.certificates.append((file, x509.load_der_x509_certificate(data)))
    except UNREADABLE:
        return False
    return True


def _crl(data: bytes, file: str, found: Material) -> bool:
    try:
        found.crls.append((file, x509.load_der_x509_crl(data)))
    except UNREADABLE:
        return False
    return True


def _key(data: bytes, file: str, label: str, found: Material) -> bool:
    """Note where a private key is; `data` is empty where PEM headers say it is encrypted."""
    plain: Protection = "not encrypted"
    try:
        if label == "OPENSSH PRIVATE KEY":
            if not data.startswith(_SSH_PLAIN):
                raise TypeError  # as below, for a key that needs a passphrase
            pem = b"-----BEGIN %b-----\n%b-----END %b-----\n"
            name = label.encode()
            key: Any = load_ssh_private_key(pem % (name, encodebytes(data), name), None)
        elif not data or label == "ENCRYPTED PRIVATE KEY":
            raise TypeError
        else:
            key = load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
        found.keys.append(KeyFile(file, plain, key_digest(key.public_key())))
    except TypeError:
        found.keys.append(KeyFile(file, "encrypted", None))
    except UNREADABLE:
        return False
    return True


class KeyFinder:
    """Finds the private key of a certificate: by its public half, else by its file's name.

    By name: NAME.key beside NAME.crt or above it, there or in a directory `private`.
    """

    def __init__(self, keys: list[KeyFile]) -> None:
        self._by_digest = {key.key_sha256: key for key in reversed(keys) if key.key_sha256}
        self._by_stem: dict[str, list[KeyFile]] = {}
        for key in keys:
            self._by_stem.setdefault(PurePosixPath(key.file).stem, []).append(key)

    def of(self, key_sha256: str, files: tuple[str, ...]) -> KeyFile | None:
        """Return the key; of several that only a passphrase would tell apart, the nearest."""
        if key_sha256 in self._by_digest:
            return self._by_digest[key_sha256]
        named = [key for file in files for key in self._named(file) if key.key_sha256 is None]
        return max(named, key=lambda key: len(_place(key)), default=None)

    def wrong(self, key_sha256: str, files: tuple[str, ...]) -> list[str]:
        """Return the files whose name fits and whose key is another."""
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
