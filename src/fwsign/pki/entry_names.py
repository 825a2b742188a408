# SPDX-License-Identifier: Apache-2.0
"""The names of entries in a PKI: which are roots, which are issuing CAs, and what comes next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ROOT: Final = "ca"
ISSUING: Final = "issuing"
ISSUING_TLS: Final = "issuing-tls"
FIRST_SIGNER: Final = "release"
"""The signer of a new PKI."""
FIRST_NAMES: Final = (ROOT, ISSUING, ISSUING_TLS, FIRST_SIGNER)
"""The entries of a new PKI."""
TLS: Final = ("server", "client", "idevid")
"""The kinds whose keys make handshakes, and nothing that has to last."""
FOR_VENDORS: Final = ("signer", "channel", "encryption")
"""The kinds whose names are the vendors that they may sign for."""
REQUESTS: Final = "reqs"
"""The directory of the requests of issuing CAs; easy-rsa uses the same place."""

_ROOT_NAME = re.compile(r"(ca|standby)(?:-([1-9][0-9]{0,3}))?")
_ISSUING_NAME = re.compile(r"(issuing(?:-tls)?)(?:-([1-9][0-9]{0,3}))?")


def is_root(name: str) -> bool:
    """Tell whether a name is a root's: `ca`, `standby`, `ca-2` and so on."""
    return _ROOT_NAME.fullmatch(name) is not None


def is_issuing(name: str) -> bool:
    """Tell whether a name is an issuing CA's: `issuing`, `issuing-tls`, `issuing-2` and so on."""
    return _ISSUING_NAME.fullmatch(name) is not None


def line_of(name: str) -> str:
    """Return the first of the CAs that an issuing CA succeeds: `issuing` or `issuing-tls`."""
    match = _ISSUING_NAME.fullmatch(name)
    return match[1] if match else name


def request_path(directory: Path, name: str) -> Path:
    """Return the path of an issuing CA's request, in its directory whose root is elsewhere."""
    return directory / REQUESTS / f"{name}.csr"


def next_name(first: str, taken: tuple[str, ...]) -> str:
    """Return the first free name of `first`, `first-2` and so on."""
    name, number = first, 1
    while name in taken:
        number += 1
        name = f"{first}-{number}"
    return name


def roots_in(names: Iterable[str]) -> list[str]:
    """Return those that are roots': by their word, then by their number."""
    return _in_order(_ROOT_NAME, names)


def issuing_in(names: Iterable[str]) -> list[str]:
    """Return those that are issuing CAs', in the same order."""
    return _in_order(_ISSUING_NAME, names)


def _in_order(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    found = filter(None, map(pattern.fullmatch, names))
    return [match[0] for match in sorted(found, key=lambda match: (match[1], int(match[2] or 1)))]
