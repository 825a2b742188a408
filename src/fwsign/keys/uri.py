# SPDX-License-Identifier: Apache-2.0
"""URIs of keys in services and agents: SCHEME:[//HOST/]PATH[?OPTION=VALUE&...], without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_PLAIN = "/:@,+ "
"""What need not be escaped in a value; a space is readable in a message."""


class KeyUri(NamedTuple):
    """A key's URI, taken apart.

    Args:
        scheme: in lower case.
        host: what follows `//`, as written; "" if there is none, None if there is no `//`.
        path: the rest before `?`, without escapes and without the `/` after a host.
        options: the values after `?` by name, without escapes.
    """

    scheme: str
    host: str | None
    path: str
    options: Mapping[str, str]

    def number(self, option: str) -> int | None:
        """Return an option's value as a natural number; None if it is not given.

        Raises:
            Failed: `key.unsupported`: it is no number from 1 on.
        """
        text = self.options.get(option)
        if text is None:
            return None
        if not text.isascii() or not text.isdecimal() or len(text) > 9 or not int(text):
            raise refusal(self.scheme, f'{option}= is "{text}", expected a number from 1 on')
        return int(text)


def parse(uri: str, options: Collection[str]) -> KeyUri:
    """Take a URI apart. Values of options that are not known are never repeated.

    Args:
        uri: with a scheme.
        options: the names of the options that the backend has.

    Raises:
        Failed: `key.unsupported`.
    """
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if not uri.isprintable() or "#" in uri:
        raise refusal(scheme, 'a character cannot be printed, or is "#"')
    rest, _, query = rest.partition("?")
    found: dict[str, str] = {}
    for one in filter(None, query.split("&")):
        name, _, value = one.partition("=")
        if name not in options:
            known = ", ".join(f"{option}=" for option in sorted(options))
            raise refusal(
                scheme, f"{_shown(name)}= is not known, there are {known}; no secret belongs in one"
            )
        if name in found or not value:
            raise refusal(scheme, f"{name}= is {'there twice' if name in found else 'empty'}")
        found[name] = unquote(value)
    host = None
    if rest.startswith("//"):
        host, _, rest = rest[2:].partition("/")
        if "@" in host:
            raise refusal(
                scheme, "a user or password is before the host; no secret belongs in a URI"
            )
    return KeyUri(scheme, host, unquote(rest), found)


def make(scheme: str, path: str, options: Mapping[str, object]) -> str:
    """Return a URI; options that are None are left out."""
    pairs = (f"{one}={quote(str(it), _PLAIN)}" for one, it in options.items() if it is not None)
    query = "&".join(pairs)
    return f"{scheme}:{quote(path, _PLAIN)}" + (f"?{query}" if query else "")


def refusal(scheme: str, found: str) -> Failed:
    """Return the refusal of a URI that is not written as its backend wants it."""
    return Failed(
        "key.unsupported",
        f"in the {scheme}: URI of the key, {found}",
        expected=f"a URI as docs/keys.md has it for {scheme}:",
        found=found,
    )


def _shown(name: str) -> str:
    """Return the name of an option, cut where it could be a secret without one."""
    return name if len(name) <= 20 else f"{name[:3]}..."
