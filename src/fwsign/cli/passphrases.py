# SPDX-License-Identifier: Apache-2.0
"""One passphrase for a whole command: typed once, and tried on every key that needs one."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from fwsign.cli import inputs, ui
from fwsign.errors import Failed

_Place: TypeAlias = Callable[[], Path] | None


class Passphrases:
    """The passphrases of a command's keys, each asked for when its key is needed.

    Those that were typed are tried on the next encrypted key before anybody is asked again, and the
    first protects new keys. What comes from an option is for the keys of that option alone.
    """

    def __init__(self) -> None:
        self._typed: list[bytes] = []

    def existing(
        self, source: str | None, what: str, option: str = "--pass", *, path: _Place = None
    ) -> Callable[[], bytes | None]:
        """Return a function that reads the passphrase of a key that exists.

        Args:
            source: as for `fwsign.cli.inputs.passphrase_source`.
            what: the key.
            option: the option that gives the source.
            path: returns the key's file; None for the first key of a command.
        """
        ask = inputs.passphrase_source(source, what, option)

        def get() -> bytes | None:
            if source is not None:
                return ask()
            for typed in self._typed:
                if path is not None and _opens(path(), typed):
                    return typed
            found = ask()
            if found is not None:
                self._typed.append(found)
            return found

        return get

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
                if source is None and not none and self._typed:
                    ui.note(f"{what}: protected by the passphrase just typed; {option} gives one")
                    known.append(self._typed[0])
                else:
                    asked = inputs.new_passphrase(source, none=none, what=what, option=option)
                    known.append(asked)
            return known[0]

        return get


def _opens(path: Path, passphrase: bytes) -> bool:
    from fwsign.atomic import read_bytes
    from fwsign.keys.file import KEY_FILE_LIMIT
    from fwsign.keys.formats import read_private_key

    try:
        read_private_key(read_bytes(path, KEY_FILE_LIMIT), lambda: passphrase, path)
    except Failed:
        return False
    return True
