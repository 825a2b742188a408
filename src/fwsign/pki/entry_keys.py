# SPDX-License-Identifier: Apache-2.0
"""The keys of entries: made here and written to a file, or held elsewhere and named by a URI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.format.algorithms import NEW_KEYS
from fwsign.format.cose import key_name, kind_of
from fwsign.keys import DEFAULT_ALGORITHM, is_file, key_file, open_key
from fwsign.keys.file import KEY_FILE_LIMIT, new_private_key, write_private_key
from fwsign.keys.formats import read_private_key
from fwsign.keys.stand_in import private_key
from fwsign.pki.files import set_aside
from fwsign.pki.key_uris import is_uri_file, read_uri, uri_of, write_uri

if TYPE_CHECKING:
    from fwsign.keys import Passphrase, PrivateKey, PublicKey
    from fwsign.keys.held import HeldKey
    from fwsign.pki.key_uris import KeyPlaces
    from fwsign.pki.places import Places


class NewKey(NamedTuple):
    """A key to be made, and how its file is protected.

    Args:
        alg: its kind, one of `fwsign.keys.ALGORITHMS`; empty leaves the choice to the function.
        passphrase: a passphrase; None for a key in clear; or a function that asks for it.
        kdf: the derivation that protects it, one of `fwsign.keys.KDFS`; empty as above.
    """

    alg: str
    passphrase: bytes | Passphrase | None
    kdf: str = ""

    def secret(self) -> bytes | None:
        """Return the passphrase; if it is a function, call it now."""
        return self.passphrase() if callable(self.passphrase) else self.passphrase

    def settled(self) -> NewKey:
        """Return the same with a known passphrase; call this before a lock is taken."""
        return self._replace(passphrase=self.secret())


KeyChoice: TypeAlias = "NewKey | HeldKey"
"""A key to be made, or one that exists: whoever has it opened it with `fwsign.keys.open_key`."""


class EntryKey(NamedTuple):
    """The key of a new entry, able to sign, and what is written of it.

    Args:
        key: the key, or a stand-in for it.
        uri: where it lives; empty for a new key, which gets a file.
        passphrase: protects the file; None for a key in clear.
        kdf: the derivation that protects it.
    """

    key: PrivateKey
    uri: str = ""
    passphrase: bytes | None = None
    kdf: str = "scrypt"


def settled(choice: KeyChoice) -> KeyChoice:
    """Return a choice with a known passphrase; call this before a lock is taken."""
    return choice.settled() if isinstance(choice, NewKey) else choice


def entry_key(choice: KeyChoice, alg: str, *, kdf: str = "scrypt", tls: bool = False) -> EntryKey:
    """Make a key, or take one that exists.

    Args:
        choice: the key.
        alg: the kind of a new key that leaves it open.
        kdf: the derivation of a new key that leaves it open.
        tls: the key is for TLS, which allows more kinds.

    Raises:
        Failed: `key.unsupported`, `key.*`.
    """
    if isinstance(choice, NewKey):
        made = new_private_key(choice.alg or alg, tls=tls)
        return EntryKey(made, "", choice.secret(), choice.kdf or kdf)
    return EntryKey(private_key(choice), uri_of(choice))


def write_key(pki: Places, name: str, key: EntryKey, serial: int | None = None) -> None:
    """Write a key to its file, or the URI where it lives.

    Args:
        pki: the PKI.
        name: the entry.
        key: its key.
        serial: of the certificate that this key is for, if the entry has another one until then.
    """
    if key.uri:
        uri = pki.uri_file(name) if serial is None else pki.renewed_uri_path(name, serial)
        write_uri(uri, key.uri)
        return
    path = pki.key_file(name) if serial is None else pki.renewed_key_path(name, serial)
    write_private_key(path, key.key, key.passphrase, key.kdf)


def clear_key(pki: Places, name: str) -> None:
    """Make room for the key of a new entry: set aside what a killed run, or an older key, left."""
    set_aside(pki.key_file(name))
    set_aside(pki.uri_file(name))


def bind_key(pki: Places, name: str, serial: int) -> None:
    """Rename a key so that it is found for one certificate alone, whenever a run is killed."""
    for usual, bound in (
        (pki.key_file(name), pki.renewed_key_path(name, serial)),
        (pki.uri_file(name), pki.renewed_uri_path(name, serial)),
    ):
        if usual.exists():
            _rename(usual, bound)


def put_aside_bound(pki: Places, name: str, serial: int) -> None:
    """Set the key of an old certificate aside, under the usual names of unused keys."""
    set_aside(pki.key_file(name), pki.renewed_key_path(name, serial))
    set_aside(pki.uri_file(name), pki.renewed_uri_path(name, serial))


def unbind_key(pki: Places, name: str, found: Path) -> None:
    """Replace the old key by the key of the renewed certificate, and set the old key aside.

    Args:
        pki: the PKI.
        name: the entry.
        found: `Pki.key_path` of the entry; after a run that was killed before this, too.
    """
    usual = (pki.uri_file(name), pki.key_file(name))
    if found in usual:
        return
    clear_key(pki, name)
    _rename(found, usual[0] if found.name.startswith(usual[0].name) else usual[1])


def open_private(uri: str, passphrase: Passphrase) -> PrivateKey:
    """Open the key of a CA for the builders of certificates; it may be of any kind.

    Args:
        uri: from `Pki.key_uri`.
        passphrase: called if it is needed.

    Raises:
        Failed: `key.*`, `io.*`.
    """
    if is_file(uri):
        path = Path(key_file(uri))
        data = read_bytes(path, KEY_FILE_LIMIT)
        return cast("PrivateKey", read_private_key(data, passphrase, path))
    return private_key(open_key(uri, passphrase))


def refuse_new_file(pki: KeyPlaces, name: str, choice: KeyChoice) -> None:
    """Refuse to make a new key in a file in place of one that a token or service keeps.

    Raises:
        Failed: `key.unsupported`.
    """
    path = pki.key_path(name)
    if not isinstance(choice, NewKey) or not is_uri_file(path) or is_file(uri := read_uri(path)):
        return
    raise Failed(
        "key.unsupported",
        f'the key of "{name}" lives elsewhere, at {uri}: no new one is made in a file instead',
        expected="a new key where the old one lives, or one in a file that is named",
        found="a key to be made in the PKI",
        hint="make the new key there, and name it with --key",
    )


def kind_below(public: PublicKey) -> str:
    """Return the kind of new keys below a CA's key: ML-DSA below ML-DSA, as it would be wasted."""
    kind = kind_of(public)
    return kind.new[0].alg if kind is not None and kind.family == "ML-DSA" else DEFAULT_ALGORITHM


def refuse_another(alg: str, held: HeldKey) -> None:
    """Refuse a key that exists, but is not of the kind that was asked for.

    Raises:
        Failed: `key.mismatch`.
    """
    kind, new = NEW_KEYS[alg]
    expected = f"{kind.name}-{new.bits}" if new.bits else kind.name
    found = key_name(held.public_key)
    if found != expected:
        raise Failed(
            "key.mismatch",
            f"the key {held.place} is {found}, not {expected}",
            expected=expected,
            found=found,
            hint="leave --alg out: a key that exists has its kind",
        )


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        raise io_error(error, target, "write") from error
