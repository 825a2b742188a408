# SPDX-License-Identifier: Apache-2.0
"""Private keys of groups of devices, which open what is encrypted to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.errors import Failed
from fwsign.format.cose import key_name
from fwsign.format.key_wrap import CURVES, curve_of
from fwsign.keys import is_file, key_file, shown
from fwsign.keys.file_key import FileKey

if TYPE_CHECKING:
    from fwsign.keys import Passphrase


@final
class FileAgreement:
    """A group's key in a file; a `fwsign.format.key_wrap.AgreementKey`.

    Args:
        key: the private key.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key: Final = key

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._key.public_key()

    def agree(self, other: ec.EllipticCurvePublicKey) -> bytes:
        """Return the x coordinate of the shared point."""
        return self._key.exchange(ec.ECDH(), other)


def open_agreement(uri: str, passphrase: Passphrase) -> FileAgreement:
    """Open a group's key.

    Args:
        uri: a path, or `file:` and a path.
        passphrase: called only if the key is encrypted.

    Raises:
        Failed: `key.unsupported`: not in a file, or no key that payloads are encrypted to;
            `key.passphrase`, `key.passphrase-missing`, `key.format`, `io.*`.
    """
    if not is_file(uri):
        raise Failed(
            "key.unsupported",
            f"{shown(uri)} is not in a file: tokens and services only sign here",
            expected="a key in a file",
            found=shown(uri),
        )
    key = FileKey(key_file(uri), passphrase).private
    if curve_of(key.public_key()) is None or not isinstance(key, ec.EllipticCurvePrivateKey):
        found = key_name(key.public_key())
        raise Failed(
            "key.unsupported",
            f"{shown(uri)} is a key of the kind {found}, payloads are encrypted to {CURVES}",
            expected=CURVES,
            found=found,
        )
    return FileAgreement(key)
