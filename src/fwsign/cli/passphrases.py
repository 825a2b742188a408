# SPDX-License-Identifier: Apache-2.0
"""One passphrase for a whole command: typed once, and tried on every key that needs one."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from fwsign.cli import inputs, ui
from fwsign.errors import Failed
from fwsign.keys import is_file, key_file
from fwsign.nearest import did_you_mean

if TYPE_CHECKING:
    from fwsign.pki.directory import Pki

_NAMED: Final = re.compile(r"(?!(?:env|file|fd):)([^=]*)=(.*)", re.DOTALL)
_Place: TypeAlias = Callable[[], str] | None


class Passphrases:
    """The passphrases of a command's keys, each asked for when its key is needed.

    Those that were typed are tried on the next encrypted key before anybody is asked again, and the
    first protects new keys. What comes from an option is for the keys of that option alone, and
    either for services or for the others.
    """

    def __init__(self) -> None:
        self._typed: list[bytes] = []
        self._pins: dict[str, bytes | None] = {}
        self._sources: dict[str, Callable[[], bytes | None]] = {}
        self._for_service: dict[str, bool] = {}

    def existing(
        self, source: str | None, what: str, option: str = "--pass", *, uri: _Place = None
    ) -> Callable[[], bytes | None]:
        """Return a function that reads the passphrase of a key that exists.

        Args:
            source: as for `fwsign.cli.inputs.passphrase_source`.
            what: the key.
            option: the option that gives the source.
            uri: returns the key's URI, or path; None for the first key of a command.
        """
        ask = inputs.passphrase_source(source, what, option)
        if source is not None:  # a descriptor can be read only once
            ask = self._sources.setdefault(source, ask)

        def get() -> bytes | None:
            place = uri() if uri is not None else None
            service = place is not None and _is_service(place)
            if source is not None:
                # One option may be for several keys, but a PIN of one goes to no server.
                first = self._for_service.setdefault(source, service)
                return ask() if first == service else None
            if service:  # nobody types a token
                return None
            if place is not None and not is_file(place):
                # A PIN is asked for once for each token, and is never tried on another one: a
                # token locks after a few wrong ones.
                token = _token(place)
                if token not in self._pins:
                    self._pins[token] = ask()
                return self._pins[token]
            for typed in self._typed:
                if place is not None and _opens(Path(key_file(place)), typed):
                    return typed
            found = ask()
            if found is not None:
                self._typed.append(found)
            return found

        return inputs.asking(get, asks=source is None)

    def new(
        self, source: str | None, *, none: bool, what: str, option: str = "--pass"
    ) -> Callable[[], bytes | None]:
        """Return a function that reads the passphrase of new keys.

        Args: as for `fwsign.cli.inputs.new_passphrase`, which refuses impossible options at once.
        """
        inputs.check_new_passphrase(source, none=none, option=option)
        known: list[bytes | None] = []

        def get() -> bytes | None:
            if not known:
                if source in self._sources:  # a descriptor can be read only once
                    known.append(self._sources[source]())
                elif source is None and not none and self._typed:
                    ui.note(f"{what}: protected by the passphrase just typed; {option} gives one")
                    known.append(self._typed[0])
                else:
                    asked = inputs.new_passphrase(source, none=none, what=what, option=option)
                    known.append(asked)
            return known[0]

        return get


class CaPassphrases:
    """The passphrases of the CAs of a PKI: NAME=SRC for one of them, SRC for the others.

    Args:
        asked_for: the passphrases of the command.
        given: the values of `--ca-pass`.
        pki: the PKI.
        options: more options, each for CAs by name, with its value. NAME=SRC counts before them,
            and they count before SRC.
    """

    def __init__(
        self,
        asked_for: Passphrases,
        given: Sequence[str] | None,
        pki: "Pki",
        options: Sequence[tuple[str, str | None, Sequence[str]]] = (),
    ) -> None:
        self._asked_for, self._pki = asked_for, pki
        self._sources: dict[str, tuple[str, str]] = {}
        self._common: str | None = None
        for text in given or ():
            self._add(text)
        for option, source, names in options:
            for name in names if source else ():
                self._sources.setdefault(name, (str(source), option))
        for source in (self._common, *(source for source, _ in self._sources.values())):
            inputs.passphrase_source(source, "the CA's key")  # refuses other forms at once

    def _add(self, text: str) -> None:
        match = _NAMED.fullmatch(text)
        if match is None:
            if self._common is not None:
                ui.usage("--ca-pass SRC is given twice", "--ca-pass NAME=SRC is for one CA")
            self._common = text
            return
        name, there = match[1], self._pki.authorities()
        if name not in there:
            ui.usage(
                f'--ca-pass names "{name}", which is no CA of {self._pki.directory}',
                did_you_mean(name, there) or f"choose from {', '.join(there)}",
            )
        if name in self._sources:
            ui.usage(f'--ca-pass is given twice for the CA "{name}"')
        self._sources[name] = (match[2], "--ca-pass")

    def given(self, name: str) -> bool:
        """Tell whether an option gives the passphrase of a CA."""
        return self._common is not None or name in self._sources

    def get(self, name: str) -> bytes | None:
        """Return the passphrase of a CA's key."""
        source, option = self._sources.get(name, (self._common, "--ca-pass"))
        what = f'the key of CA "{name}"'
        return self._asked_for.existing(source, what, option, uri=lambda: self._pki.key_uri(name))()


def _is_service(uri: str) -> bool:
    """Tell whether a secret for a key goes to a server, as neither a PIN nor a passphrase does."""
    return not is_file(uri) and not uri.lower().startswith("pkcs11:")


def _token(uri: str) -> str:
    """Return what keys in the same token have in common: all but the names of the key."""
    path, _, _ = uri.partition("?")
    named = re.compile("(pkcs11:)?(object|id|type)=", re.IGNORECASE)
    return ";".join(one for one in path.split(";") if not named.match(one))


def _opens(path: Path, passphrase: bytes) -> bool:
    from fwsign.files import read_bytes
    from fwsign.keys.file import KEY_FILE_LIMIT
    from fwsign.keys.formats import read_private_key

    try:
        read_private_key(read_bytes(path, KEY_FILE_LIMIT), lambda: passphrase, path)
    except Failed:
        return False
    return True
