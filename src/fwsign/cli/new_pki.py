# SPDX-License-Identifier: Apache-2.0
"""Make a PKI: what `fwsign init` and `fwsign pki init` have in common."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fwsign.cli import inputs, ui
from fwsign.cli.held_keys import HeldOptions, algorithm_of_new, new_key_source, opened
from fwsign.cli.passphrases import Passphrases
from fwsign.pki.entry_names import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fwsign.keys.held import HeldKey
    from fwsign.pki.extras import Extras


class KeysOfPki(NamedTuple):
    """The keys of a new PKI: those that exist, and what is known of the others.

    Args:
        held: the keys that exist, by the names of their entries.
        alg: the kind of new keys.
        root_passphrase: protects the root's new key.
        passphrase: protects the other new keys.
        made: the names of the entries whose keys are made.
    """

    held: "Mapping[str, HeldKey]"
    alg: str
    root_passphrase: bytes | None
    passphrase: bytes | None
    made: tuple[str, ...]

    @property
    def in_clear(self) -> bool:
        """Tell whether a new key is not encrypted."""
        return any(self._secret(name) is None for name in self.made)

    def _secret(self, name: str) -> bytes | None:
        return self.root_passphrase if name == ROOT else self.passphrase


def keys_of_pki(
    names: tuple[str, ...],
    options: HeldOptions,
    alg: str | None,
    source: str | None,
    root_source: str | None,
    *,
    none: bool,
) -> KeysOfPki:
    """Open the keys that exist, and ask for the passphrases of those that are made.

    Args:
        names: the entries of the new PKI.
        options: the keys that exist.
        alg: the value of `--alg`.
        source: the value of `--pass`.
        root_source: the value of `--root-pass`.
        none: whether `--no-passphrase` is given.
    """
    uris = options.uris(names)
    made = tuple(name for name in names if name not in uris)
    new_source = new_key_source(source, none=none, held=bool(uris))
    for given, option in ((new_source, "--pass"), (root_source, "--root-pass")):
        inputs.check_new_passphrase(given, none=none and option == "--pass", option=option)
    asked_for = Passphrases()
    held = opened(uris, asked_for, source, root_source)
    alg = algorithm_of_new(alg, held, names)
    others = [name for name in made if name != ROOT]
    passphrase = root_passphrase = None
    if others or (made and not root_source):
        what = "the new keys" if others else "the root's key"
        passphrase = root_passphrase = asked_for.new(new_source, none=none, what=what)()
    if ROOT in made and root_source:
        what = "the root's key"
        root_passphrase = asked_for.new(root_source, none=False, what=what, option="--root-pass")()
    return KeysOfPki(held, alg, root_passphrase, passphrase, made)


def create_pki(
    directory: Path,
    org: str,
    domains: "Sequence[str]",
    keys: KeysOfPki,
    *,
    root_only: bool = False,
    flat: bool = False,
    more: "Extras | None" = None,
) -> None:
    """Make a PKI; the first of the domains is the vendor."""
    from fwsign.pki.authority import create
    from fwsign.pki.extras import NO_EXTRAS

    create(
        directory,
        org=org,
        vendor=domains[0],
        permit=domains[1:],
        root_only=root_only,
        flat=flat,
        more=more or NO_EXTRAS,
        alg=keys.alg,
        root_passphrase=keys.root_passphrase,
        passphrase=keys.passphrase,
        keys=keys.held,
        now=inputs.now(),
    )


def say_what_now(directory: Path, org: str, keys: KeysOfPki, *, issues: bool = False) -> None:
    """Print advice about the parts of a new PKI, in which the root may issue signers itself."""
    from fwsign.pki.directory import Pki

    pki = Pki(directory)
    ui.note(f'root "{org} Root CA": give {directory / "ca.crt"} to every device')
    what = "issuing needs it, signing does not" if issues else "signing does not need it"
    ui.note(f"keep {pki.key_uri(ROOT)} offline; {what}")
    for name in keys.held:
        if name != ROOT:
            ui.note(f'the key of "{name}" stays at {pki.key_uri(name)}')
    if keys.in_clear:
        ui.note(f"warning: keys in {directory / 'private'} have no passphrase")
