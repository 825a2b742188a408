# SPDX-License-Identifier: Apache-2.0
"""A private key of a file behind the interface of the other backends; see `fwsign.keys.held`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from fwsign.files import read_bytes
from fwsign.format import cose, library
from fwsign.format.library import raw_from_der
from fwsign.keys.file import KEY_FILE_LIMIT
from fwsign.keys.formats import read_private_key
from fwsign.keys.held import Scheme, check_scheme

if TYPE_CHECKING:
    import os

    from fwsign.keys import Passphrase, PublicKey


class FileKey:
    """A key in a file; a `fwsign.keys.held.HeldKey`.

    Args:
        path: the key's file, in any form that `fwsign.keys.formats` reads.
        passphrase: called only if the key is encrypted.

    Raises:
        Failed: `key.passphrase`, `key.passphrase-missing`, `key.format`, `io.*`.
    """

    def __init__(self, path: str | os.PathLike[str], passphrase: Passphrase) -> None:
        self._path = Path(path)
        data = read_bytes(self._path, KEY_FILE_LIMIT)
        self.private: Any = read_private_key(data, passphrase, self._path)

    @property
    def place(self) -> str:
        """The path."""
        return str(self._path)

    @property
    def public_key(self) -> PublicKey:
        """The public half of the key."""
        public: PublicKey = self.private.public_key()
        return public

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign; see `fwsign.keys.held.HeldKey.sign_raw`. ECDSA is deterministic (RFC 6979)."""
        check_scheme(self.public_key, scheme)
        key = self.private
        if scheme is Scheme.ECDSA:
            width = (key.curve.key_size + 7) // 8
            hashed = Prehashed(cose.HASHES[digest])
            return raw_from_der(key.sign(data, library.ecdsa(hashed)), width)
        if scheme in {Scheme.PSS, Scheme.PKCS1}:
            own = cose.HASHES[digest]
            how = cose.pss(own) if scheme is Scheme.PSS else padding.PKCS1v15()
            signed: bytes = key.sign(data, how, Prehashed(own))
        else:
            signed = key.sign(data) if scheme is Scheme.PURE else key.sign_mu(data)
        return signed

    def close(self) -> None:
        """Do nothing: the key is in memory, as long as the process needs it."""
