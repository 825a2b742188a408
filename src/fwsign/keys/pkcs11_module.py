# SPDX-License-Identifier: Apache-2.0
"""Find the library of a token, and the token in it."""

from __future__ import annotations

import os
import re
import sys
from glob import glob
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from pkcs11.constants import TokenFlag
from pkcs11.exceptions import PKCS11Error

from fwsign.errors import Failed
from fwsign.files import io_error, refuse_reachable, refuse_writable
from fwsign.keys.pkcs11_errors import explained
from fwsign.keys.pkcs11_uri import VARIABLE

if TYPE_CHECKING:
    from fwsign.keys.pkcs11_uri import TokenUri

PROXY: Final = "p11-kit-proxy"
"""The library that is taken where none is named: it loads those of the system's settings."""
_PLACES: Final = (
    "/usr/lib/*-linux-gnu*",
    "/usr/lib/*-linux-gnu*/pkcs11",
    "/usr/lib/*-linux-gnu*/softhsm",
    "/usr/lib64",
    "/usr/lib64/pkcs11",
    "/usr/lib",
    "/usr/lib/pkcs11",
    "/usr/lib/softhsm",
    "/usr/local/lib",
    "/usr/local/lib/softhsm",
    "/opt/homebrew/lib",
    "/opt/homebrew/lib/softhsm",
)
_ENDINGS: Final = (".so", ".dylib", ".dll")
_HINT: Final = f"name it in the URI, as ?module-path=/usr/lib/LIBRARY.so, or in {VARIABLE}"

_loaded_by: Final[dict[str, int]] = {}
"""The process that has loaded each library."""


def module_path(uri: TokenUri) -> str:
    """Return the path of the library that a URI, or the environment, names.

    Raises:
        Failed: `key.unreachable` if there is none; `io.permission` if others may change it.
    """
    path = uri.query.get("module-path")
    if path is None:
        name = uri.query.get("module-name")
        given = os.environ.get(VARIABLE) if name is None else None
        path = given or _by_name(name or PROXY, named=name is not None)
    if not Path(path).is_absolute():
        raise _no_module(f'the path of the PKCS#11 library "{path}" is not absolute', path)
    if not Path(path).is_file():
        raise _no_module(f"there is no PKCS#11 library at {path}", path)
    if sys.platform != "win32":
        try:  # it runs in this process, and sees the PIN
            refuse_writable(Path(path), Path(path))
            refuse_reachable(Path(path))
        except OSError as error:
            raise io_error(error, path) from error
    return os.path.realpath(path)  # a library with two names is initialised once


def _by_name(name: str, *, named: bool) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,80}", name):
        raise _no_module(f'module-name "{name}" is not the name of a library', name)
    for place, start, ending in product(_PLACES, ("", "lib"), _ENDINGS):
        if found := sorted(glob(f"{place}/{start}{name}{ending}")):  # noqa: PTH207 - absolute
            return found[0]
    what = f'there is no PKCS#11 library "{name}"' if named else "no PKCS#11 library is named"
    raise _no_module(what, name if named else "none")


def _no_module(what: str, found: str) -> Failed:
    return Failed("key.unreachable", what, expected="a PKCS#11 library", found=found, hint=_HINT)


def load(path: str) -> Any:
    """Load a library; in a process that was forked since, it is refused.

    Raises:
        Failed: `key.unreachable`.
    """
    refuse_fork(_loaded_by.setdefault(path, os.getpid()))
    try:
        return pkcs11.lib(path)
    except PKCS11Error as error:
        raise explained(error, f"the library {path}", "be loaded", "key.unreachable") from error


def refuse_fork(pid: int) -> None:
    """Refuse the state of a library that another process has loaded.

    The child of a fork has the memory of its parent's library, but not the connection to its token.

    Raises:
        Failed: `key.unreachable`.
    """
    if pid != os.getpid():
        raise Failed(
            "key.unreachable",
            "the PKCS#11 library was loaded before this process was forked",
            expected=f"process {pid}",
            found=f"process {os.getpid()}",
            hint="open keys after the fork, or start processes by spawning them",
        )


def find_token(library: Any, uri: TokenUri) -> Any:
    """Return the one token that a URI describes.

    Raises:
        Failed: `key.missing` if there is none, or several; then no PIN is tried on any.
    """
    tokens = list(_tokens(library))
    fitting = [one for one in tokens if _fits(library, one, uri)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f'"{one.label}" ({_serial(one)})' for one in tokens) or "none"
    asked = _asked(uri)
    if fitting:
        raise Failed(
            "key.missing",
            f"{len(fitting)} tokens fit {asked}, the library has {there}",
            expected="one token",
            found=there,
            hint="say which with token=LABEL or serial=NUMBER in the URI",
        )
    raise Failed(
        "key.missing",
        f"no token fits {asked}, the library has {there}",
        expected=asked,
        found=there,
        hint="is it plugged in, and its label written as the library does?",
    )


def _tokens(library: Any) -> Any:
    """Yield the initialised tokens of a library; a reader with a strange card has none."""
    try:
        slots = library.get_slots(token_present=True)
    except PKCS11Error as error:
        raise explained(error, "the library", "list its tokens", "key.unreachable") from error
    for slot in slots:
        try:
            token = slot.get_token()
        except PKCS11Error:
            continue
        if TokenFlag.TOKEN_INITIALIZED & token.flags:
            yield token


def _serial(token: Any) -> str:
    return str(token.serial.decode("latin-1").strip())


def _fits(library: Any, token: Any, uri: TokenUri) -> bool:
    version = ".".join(map(str, library.library_version))
    facts = {
        "token": token.label,
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "serial": _serial(token),
        "slot-id": str(token.slot.slot_id),
        "slot-description": token.slot.slot_description,
        "slot-manufacturer": token.slot.manufacturer_id,
        "library-manufacturer": library.manufacturer_id,
        "library-description": library.library_description,
        "library-version": version,
    }
    return all(uri.text(name) in {None, fact} for name, fact in facts.items())


def _asked(uri: TokenUri) -> str:
    words = [f'{name} "{uri.text(name)}"' for name in uri.path if name not in _OF_KEYS]
    return ", ".join(words) or "the URI, which names none"


_OF_KEYS: Final = ("object", "id", "type")
