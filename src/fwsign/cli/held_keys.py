# SPDX-License-Identifier: Apache-2.0
"""Keys of a PKI that exist already, in a token, a service or a file: options, and opening them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.options import algorithm
from fwsign.cli.passphrases import Passphrases
from fwsign.keys import ALGORITHMS, DEFAULT_ALGORITHM
from fwsign.nearest import did_you_mean

if TYPE_CHECKING:
    from fwsign.keys import Passphrase
    from fwsign.keys.held import HeldKey
    from fwsign.pki.entry_keys import KeyChoice

_WHERE = "a path, or pkcs11:, openbao:, vault:, awskms: and others"

KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="URI",
        help=f"Take this key, which exists already, instead of a new one: {_WHERE}. --pass opens "
        "it, and it stays where it is.",
    ),
]


KEYS: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="NAME=URI",
        help="Take this key for the entry NAME, such as issuing, issuing-tls or release, instead "
        "of a new one; repeat for several. --pass opens it, and it stays where it is.",
    ),
]
ALG_OF_PKI: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--alg",
        metavar="ALG",
        callback=algorithm,
        help=f"Kind of new keys: {', '.join(ALGORITHMS)}. Default: {DEFAULT_ALGORITHM}, or that "
        "of the root's key if it is of ML-DSA.",
    ),
]


class HeldOptions(NamedTuple):
    """Options: keys that exist already, one for each CA."""

    root_key: Annotated[
        str | None,
        typer.Option(
            "--root-key",
            metavar="URI",
            help=f"Take this key for the root instead of a new one: {_WHERE}. It stays where it "
            "is; --root-pass opens it, else --pass.",
        ),
    ] = None
    key: KEYS = None

    def uris(self, names: Sequence[str], root: str = "ca") -> dict[str, str]:
        """Return the URIs by the names of entries.

        Args:
            names: the entries that are made.
            root: the root's name.
        """
        found: dict[str, str] = {root: self.root_key} if self.root_key else {}
        for text in self.key or ():
            name, equals, uri = text.partition("=")
            if not equals or not uri or ":" in name or "/" in name:
                choice = " or ".join(f"--key {one}=URI" for one in names if one != root)
                ui.usage(f'--key "{text}" does not say whose key it is', choice or "--root-key URI")
            if name not in names:
                choice = f"choose from {', '.join(names)}"
                ui.usage(
                    f'--key names "{name}", which is not made', did_you_mean(name, names) or choice
                )
            if name in found:
                ui.usage(f'two keys are given for "{name}"')
            found[name] = uri
        return found


def opened(
    uris: Mapping[str, str],
    asked_for: Passphrases,
    source: str | None,
    root_source: str | None = None,
    *,
    root: str = "ca",
) -> "dict[str, HeldKey]":
    """Open keys, each token's PIN asked for once.

    Args:
        uris: from `HeldOptions.uris`.
        asked_for: the passphrases of the command.
        source: the value of `--pass`.
        root_source: the value of `--root-pass`; None: that of `--pass`.
        root: the root's name.
    """
    found = {}
    for name, uri in uris.items():
        own = bool(root_source) and name == root
        given, option = (root_source, "--root-pass") if own else (source, "--pass")
        ask = asked_for.existing(given, f"the key {uri}", option, uri=partial(str, uri))
        found[name] = open_one(uri, ask)
    return found


def algorithm_of_new(
    alg: str | None, keys: "Mapping[str, HeldKey]", names: Sequence[str], root: str = "ca"
) -> str:
    """Return the kind of new keys; refuse one that keys which exist all contradict.

    Args:
        alg: the value of `--alg`.
        keys: the keys that exist, by their names.
        names: the names of all keys.
        root: the root's name.
    """
    from fwsign.pki.entry_keys import kind_below, refuse_another

    if alg is None:
        return kind_below(keys[root].public_key) if root in keys else DEFAULT_ALGORITHM
    if len(keys) == len(names):
        for held in keys.values():
            refuse_another(alg, held)
    return alg


def new_key_source(source: str | None, *, none: bool, held: bool) -> str | None:
    """Return the value of --pass for new keys: beside --no-passphrase it opens others alone.

    Args:
        source: the value of `--pass`.
        none: whether `--no-passphrase` is given.
        held: whether keys are given that `--pass` opens.
    """
    return None if none and held else source


def open_one(uri: str, passphrase: "Passphrase") -> "HeldKey":
    """Open a key, and keep the URI under which a PKI finds it again."""
    from fwsign.pki.key_uris import open_at  # where no key is held elsewhere

    return open_at(uri, passphrase)


def key_choice(
    uri: str | None,
    alg: str | None,
    asked_for: Passphrases,
    source: str | None,
    *,
    none: bool,
    what: str,
    kdf: str | None = None,
) -> "KeyChoice":
    """Return the key of `--key`, opened, or what is known of a new one.

    Args:
        uri: the value of `--key`.
        alg: the value of `--alg`.
        asked_for: the passphrases of the command.
        source: the value of `--pass`, for either of the two.
        none: whether `--no-passphrase` is given.
        what: the new key, for people.
        kdf: the value of `--kdf`.
    """
    from fwsign.pki.entry_keys import NewKey, refuse_another

    if uri is None:
        return NewKey(alg or "", asked_for.new(source, none=none, what=what), kdf or "")
    for option, given in (("--no-passphrase", none), ("--kdf", kdf)):
        if given:
            ui.usage(f"--key and {option} exclude each other", f"{option} is for a new key")
    held = open_one(uri, asked_for.existing(source, f"the key {uri}", uri=lambda: uri))
    if alg:
        refuse_another(alg, held)
    return held
