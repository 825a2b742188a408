# SPDX-License-Identifier: Apache-2.0
"""Find the private keys of certificates in a directory, by content.

A key belongs to the certificate with its public half. Of an encrypted key the public half is often
unknown; a passphrase or its file's name decides then. No key is changed or written here.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.keys.file import KEY_FILE_LIMIT
from fwsign.keys.formats import read_any, read_opened
from fwsign.keys.items import CONTAINER
from fwsign.pki.files import PRIVATE
from fwsign.pki.lint.files import FILES_LIMIT
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from fwsign.keys import Passphrase

_MAYBE: Final = (b"\x30", b"{", b"[")
"""The first bytes of keys that are not in PEM."""
_JOINTS: Final = ("_", "-", ".")
"""Characters after a certificate's name in a key's, as in NAME_pkc8.key."""


class ForeignKey(NamedTuple):
    """A file with one private key; `spki` is None if only a passphrase would reveal it."""

    path: Path
    spki: str | None


class Keys(NamedTuple):
    """The keys in a directory, and the names of its certificates."""

    base: Path
    stems: tuple[str, ...]
    found: tuple[ForeignKey, ...]

    @classmethod
    def below(cls, base: Path, stems: tuple[str, ...], passphrase: Passphrase | None) -> Self:
        """Find the files with one private key in a directory and below it, whatever their names.

        Args:
            base: the directory.
            stems: the names of certificates, which tell whose a locked key is.
            passphrase: tried on locked keys with other names; None leaves them locked.

        Raises:
            Failed: `io.*`; `state.pki`: the directory has too many files.
        """
        found = []
        for path in _files(base):
            data = read_bytes(path, KEY_FILE_LIMIT)
            if b"PRIVATE KEY-----" not in data and not data.startswith(_MAYBE):
                continue
            key = _key(path, data, None)
            strange = key is not None and key.spki is None and not _named(path, stems)
            if strange and passphrase is not None:
                key = _key(path, data, passphrase) or key
            if key is not None:
                found.append(key)
        return cls(base, stems, tuple(found))

    def of(self, spki: str, usual: Path, *, even_another: bool = False) -> ForeignKey | None:
        """Return the key of a certificate; None if it is not here.

        Args:
            spki: the SHA-256 of the certificate's public key.
            usual: the usual place of its key.
            even_another: if there is none, return what is at the usual place, damaged or not.
        """
        own = [key for key in self.found if key.spki == spki]
        locked = [key for key in self.found if key.spki is None]
        ways = (
            (key for key in (*own, *locked) if key.path == usual),
            own,
            (key for key in locked if _named(key.path, self.stems) == usual.stem),
            [ForeignKey(usual, None)] if even_another and usual.is_file() else [],
        )
        return next(itertools.chain(*ways), None)

    def strange(
        self, known: Collection[str | None], wanted: Mapping[Path, Path | None]
    ) -> Iterator[tuple[Path, str]]:
        """Yield the files that look like keys and belong to no certificate, and why.

        Args:
            known: the SHA-256 of each certificate's public key.
            wanted: the usual place of each certificate's key, and the place where it is.
        """
        taken = {path for path in wanted.values() if path is not None}
        for key in self.found:
            if key.path in taken:
                continue
            if key.spki is None:
                why = "it is encrypted, and its name is that of no certificate without a key"
                yield key.path, why
            elif key.spki not in known:
                yield key.path, "no certificate here has this key"
        readable = {key.path for key in self.found}
        for usual in wanted:
            if usual not in taken | readable and usual.is_file():
                yield usual, "it is not one private key that can be read"


def _named(path: Path, stems: Collection[str]) -> str:
    """Return the name of the certificate that a key's file is called after, or nothing."""
    return max((one for one in stems if _fits(path, one)), key=len, default="")


def _fits(path: Path, stem: str) -> bool:
    return path.stem == stem or path.name.startswith(tuple(f"{stem}{joint}" for joint in _JOINTS))


def _key(path: Path, data: bytes, passphrase: Passphrase | None) -> ForeignKey | None:
    """Return the key in a file; None if there is none, or more than one, or none to open."""
    try:
        if passphrase is None:
            things = read_opened(data, None, name=path)
        else:
            things = read_any(data, passphrase, name=path)
    except Failed:  # damaged, or another passphrase
        return None
    keys = [one for one in things if one.kind in ("private key", CONTAINER)]
    if len(keys) != 1 or (keys[0].public_key is None and keys[0].encryption is None):
        return None
    public = keys[0].public_key
    return ForeignKey(path, None if public is None else key_digest(public))


def _files(base: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    count = 0
    # Keys may be on another medium: a link to it is followed, others are not.
    keys = base / PRIVATE
    linked = [keys] if keys.is_symlink() and keys.is_dir() else []
    walks = (os.walk(place, onerror=refuse) for place in (base, *linked))
    try:
        for directory, below, names in itertools.chain.from_iterable(walks):
            below[:] = sorted(name for name in below if not name.startswith("."))
            count += len(names)
            if count > FILES_LIMIT:
                raise Failed(
                    "state.pki",
                    f"{base} has more than {FILES_LIMIT} files: it is not a PKI alone",
                    expected=f"at most {FILES_LIMIT} files",
                    found="more",
                )
            for path in (Path(directory, name) for name in sorted(names)):
                if path.is_file() and path.stat().st_size <= KEY_FILE_LIMIT:
                    yield path
    except OSError as error:
        raise io_error(error, error.filename or base) from error
