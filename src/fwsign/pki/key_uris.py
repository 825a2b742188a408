# SPDX-License-Identifier: Apache-2.0
"""Files that say where a key lives: `private/NAME.uri`, with one URI in one line.

It is for people, too: they may write it by hand. It never has a secret in it, since a PKI's
directory is copied and shown.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.keys import is_file, key_file, open_key, shown
from fwsign.keys.written import WrittenUri
from fwsign.pki.certificates import MissingFile, read_certificate
from fwsign.pki.places import Places

if TYPE_CHECKING:
    from fwsign.keys import Passphrase, PublicKey
    from fwsign.keys.held import HeldKey, Scheme

URI_LIMIT: Final = 4096
"""Octets of the file; a PKCS #11 URI with all attributes takes fewer than 1,000."""

_NAME: Final = re.compile(r".*\.uri(\.[0-9A-F]+)?", re.DOTALL)
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[ -~]+")


class KeyPlaces(Places):
    """The places of the keys of a PKI, one of which may be where no certificate is yet."""

    def key_path(self, name: str) -> Path:
        """Return the path of an entry's key file, or of the file with the URI of its key.

        Neither need exist: the key may be on another machine.
        """
        usual = (self.uri_file(name), self.key_file(name))
        found = [path for path in (*self._renewed_paths(name), *usual) if os.path.lexists(path)]
        return found[0] if found else usual[1]

    def has_key(self, name: str) -> bool:
        """Tell whether an entry's key is here, or it is known where it lives."""
        return os.path.lexists(self.key_path(name))

    def key_uri(self, name: str) -> str:
        """Return the URI of an entry's key: a path, unless the key lives elsewhere.

        Raises:
            Failed: `state.pki`: the file with the URI has none; `key.unsupported`; `io.*`.
        """
        path = self.key_path(name)
        return read_uri(path) if is_uri_file(path) else str(path)

    def _renewed_paths(self, name: str) -> tuple[Path, ...]:
        """Return where the key of the certificate in use is, if a killed run left it there."""
        try:
            serial = read_certificate(self.certificate_path(name)).serial_number
        except (Failed, MissingFile):  # no entry, or not yet
            return ()
        return self.renewed_uri_path(name, serial), self.renewed_key_path(name, serial)


def is_uri_file(path: Path) -> bool:
    """Tell whether a file in `private` has the URI of a key, and not the key."""
    return _NAME.fullmatch(path.name) is not None


def read_uri(path: Path) -> str:
    """Read the URI of a key.

    Raises:
        Failed: `state.pki`: there is no URI in it, or more than that, or a secret;
            `key.unsupported`: there is no such backend; `io.*`.
    """
    return parse_uri_file(read_bytes(path, URI_LIMIT), path)


def parse_uri_file(data: bytes, path: object) -> str:
    """Read the content of a file with the URI of a key; args and errors as for `read_uri`."""
    text = data.decode(errors="replace").strip()
    if _URI.fullmatch(text) is None:
        raise _no_uri(path, "one URI in one line, as in pkcs11:token=acme;object=ca", "none")
    if shown(text) != text:
        # Such as pin-value of RFC 7512 s.2.4: who reads the directory would have it.
        raise _no_uri(path, "a URI without a secret", "a URI with a PIN, password or token")
    is_file(text)  # refuses an unknown scheme
    return WrittenUri(text, str(path))


def write_uri(path: Path, uri: str, *, overwrite: bool = False) -> None:
    """Write the URI of a key; raise `io.*`."""
    write_atomic(path, f"{uri}\n".encode(), overwrite=overwrite, mode=0o600)


class HeldAt:
    """A held key, with the URI that opened it: that may say where the PIN is, unlike `place`.

    Args:
        uri: the URI; the backend has taken it, and so has refused secrets in it.
        held: the opened key.
    """

    def __init__(self, uri: str, held: HeldKey) -> None:
        self.uri: Final = uri
        self._held = held

    @property
    def place(self) -> str:
        """Where the key is."""
        return self._held.place

    @property
    def public_key(self) -> PublicKey:
        """The public half of the key."""
        return self._held.public_key

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign; see `fwsign.keys.held.HeldKey.sign_raw`."""
        return self._held.sign_raw(scheme, data, digest)

    def sign_message(self, scheme: Scheme, message: bytes, digest: str = "") -> bytes:
        """Sign a whole message, which an ssh-agent hashes itself."""
        from fwsign.keys.held import sign_message  # where something is signed

        return sign_message(self._held, scheme, message, digest)

    def close(self) -> None:
        """Log out; see `fwsign.keys.held.HeldKey.close`."""
        self._held.close()


def open_at(uri: str, passphrase: Passphrase) -> HeldAt:
    """Open a key that a PKI shall find again; raise like `fwsign.keys.open_key`."""
    return HeldAt(uri, open_key(uri, passphrase))


def uri_of(held: HeldKey) -> str:
    """Return the URI under which a key is found again, from any directory."""
    uri = held.uri if isinstance(held, HeldAt) else held.place
    return Path(key_file(uri)).absolute().as_uri() if is_file(uri) else uri


def _no_uri(path: object, expected: str, found: str) -> Failed:
    return Failed(
        "state.pki",
        f"{path} does not say where a key lives: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )
