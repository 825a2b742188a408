# SPDX-License-Identifier: Apache-2.0
"""URIs of keys that a file says: a stranger may have written it, with the rest of a repository.

Such a URI says which key, but not who gets a token, or which library runs here and sees a PIN.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SYSTEM: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt")
_SYSTEM_WINDOWS: Final = ("SystemRoot", "ProgramFiles")
"""Environment variables with folders that only administrators change."""


class WrittenUri(str):
    """A key's URI that stands in a file; `fwsign.keys.open_key` believes less of it.

    Args:
        uri: the URI.
        file: where it stands.
    """

    __slots__ = ("file",)
    file: Path | str

    def __new__(cls, uri: str, file: Path | str = "a file") -> WrittenUri:
        """Return the text, with its file."""
        made = super().__new__(cls, uri)
        made.file = file
        return made


def check(uri: str) -> None:
    """Refuse a URI of a file that chooses where secrets go; others pass.

    Raises:
        Failed: `key.unsupported`: the server of a token, or a library outside of the system's
            folders, that nothing else than the file names.
    """
    if isinstance(uri, WrittenUri):
        rule = _RULES.get(uri.partition(":")[0].lower())
        if rule is not None:
            rule(uri, uri.file)


def _server(uri: str, file: Path | str) -> None:
    from fwsign.keys import transit, transit_login  # where a key is in a service
    from fwsign.keys.exchange import check_address

    found = transit.parse(uri)
    if not found.host and "address" not in found.options:
        return
    asked = check_address(transit_login.address(found))
    for address in transit_login.known_addresses(found):
        try:
            if check_address(address) == asked:
                return
        except Failed:  # it is not an address, and so not this one
            continue
    names = transit_login.names(found, "ADDR")
    place = f"{'https' if asked.tls else 'http'}://{asked.host}:{asked.port}"
    raise Failed(
        "key.unsupported",
        f"{file} sends the token of its key to {place}, which {names} does not name",
        expected=f"the server of {names}",
        found=place,
        hint=f"if you know this server, set {names.split()[0]} to it, "
        "or give the URI as an argument",
    )


def _library(uri: str, file: Path | str) -> None:
    from fwsign.keys.pkcs11_uri import VARIABLE, parse_uri  # where a key is in a token

    path = parse_uri(uri).query.get("module-path")
    if path is None:
        return
    real = os.path.realpath(path)
    given = os.environ.get(VARIABLE)
    if given and os.path.realpath(given) == real:
        return
    folders = list(_SYSTEM)
    if sys.platform == "win32":
        folders = [os.environ[one] for one in _SYSTEM_WINDOWS if one in os.environ]
    below = [os.path.realpath(one) + os.sep for one in folders]
    if real.startswith(tuple(below)):
        return
    raise Failed(
        "key.unsupported",
        f"{file} runs the library {path}, which is in no folder of the system, and {VARIABLE} "
        "does not name it",
        expected=f"a library below {' or '.join(folders)}, or that of {VARIABLE}",
        found=path,
        hint=f"if you know this library, set {VARIABLE} to it, or give the URI as an argument",
    )


_RULES: Final[dict[str, Callable[[str, Path | str], None]]] = {
    "openbao": _server,
    "pkcs11": _library,
    "vault": _server,
}
