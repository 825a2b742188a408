# SPDX-License-Identifier: Apache-2.0
"""Where OpenBao or Vault is, and what logs in there.

What the URI does not say is in the environment, under the names that the programs `bao` and `vault`
read. A token is in a file or in the environment, never in a URI.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.keys import asks, uri
from fwsign.keys.secret_file import read_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fwsign.keys import Passphrase
    from fwsign.keys.uri import KeyUri

OPTIONS: Final = (
    "address",
    "auth",
    "ca",
    "jwt-env",
    "jwt-file",
    "namespace",
    "role",
    "role-id",
    "secret-id-file",
    "token-file",
)
"""Options of a URI that are about the login."""
TOKEN_LIMIT: Final = 16 * 1024
"""Bytes of a file with a token; a JWT with many claims is long."""
DEFAULT_PORT: Final = 8200
"""The port of `//HOST/`, as both programs listen on it."""
_ENVIRONMENT: Final = {"openbao": ("BAO_", "VAULT_"), "vault": ("VAULT_",)}
"""How the names of variables begin, in the order of preference."""
_HELPER: Final = ".vault-token"
"""Where `bao login` and `vault login` leave a token, in the home directory."""
_WAYS: Final = {
    "token-file": None,
    "jwt-file": "role",
    "jwt-env": "role",
    "role-id": "secret-id-file",
}
"""Options that each say how to log in, and the option that each needs beside it."""


class TransitLogin:
    """A request for a token. Not a tuple: its `repr` must not show the secret.

    Args:
        mount: where the method of logging in is mounted.
        public: the request without the secret.
        field: the name of the secret in the request.
        secret: a JWT, or the secret of an AppRole.
        source: where the secret was found.
    """

    def __init__(
        self, mount: str, public: Mapping[str, str], field: str, secret: str, source: str
    ) -> None:
        self.mount, self.public = mount, public
        self.field, self.secret, self.source = field, secret, source


def address(found: KeyUri) -> str:
    """Return the server's address: the host of the URI, its option, or the environment's.

    Raises:
        Failed: `key.unsupported`: none, or two.
    """
    given = found.options.get("address")
    if found.host and given:
        raise uri.refusal(found.scheme, "a host and address= exclude each other")
    if found.host:
        port = "" if re.search(r":\d*$", found.host) else f":{DEFAULT_PORT}"
        return f"https://{found.host}{port}"
    text = setting(found, "address", "ADDR")
    if not text:
        variables = names(found, "ADDR")
        raise uri.refusal(found.scheme, f"there is no address=, and {variables} is not set")
    return text.rstrip("/")


def known_addresses(found: KeyUri) -> list[str]:
    """Return the servers that the environment names, whatever the URI says."""
    return [text for one in _variables(found, "ADDR") if (text := os.environ.get(one))]


def setting(found: KeyUri, option: str, name: str) -> str:
    """Return what an option of the URI says, else the environment; "" for neither."""
    given = found.options.get(option)
    return given or next(filter(None, (os.environ.get(one) for one in _variables(found, name))), "")


def program(scheme: str) -> str:
    """Return the name of the program that logs people in."""
    return "bao" if scheme == "openbao" else "vault"


def find_token(found: KeyUri, passphrase: Passphrase, where: str) -> tuple[str, str]:
    """Return the token, and where it was found.

    Args:
        found: the key's URI.
        passphrase: called if the token is nowhere else, but not if it would ask a person.
        where: what the token is for, in words.

    Raises:
        Failed: `key.passphrase-missing`, `key.passphrase`, `io.*`.
    """
    if file := found.options.get("token-file"):
        return _in_file(file), file
    for name in _variables(found, "TOKEN"):
        if text := os.environ.get(name):
            return word(text.encode(errors="surrogateescape"), name), name
    helper = _helper()
    if helper is not None:
        return _in_file(str(helper)), str(helper)
    if not asks(passphrase) and (given := passphrase()):
        return word(given, "--pass"), "--pass"
    login = f"{program(found.scheme)} login"
    raise Failed(
        "key.passphrase-missing",
        f"no token {where}: none in {names(found, 'TOKEN')} or ~/{_HELPER}, and none was given",
        expected="a token",
        found="none",
        hint=f"{login} gets one; token-file=FILE in the URI names a file with it",
    )


def login(found: KeyUri) -> TransitLogin | None:
    """Return how to get a token, by a JWT or an AppRole; None if there is one already.

    Raises:
        Failed: `key.unsupported`: the options do not go together; `key.passphrase-missing`,
            `key.passphrase`, `io.*`: no secret.
    """
    given = found.options
    ways = [way for way in _WAYS if way in given]
    if len(ways) > 1:
        raise uri.refusal(found.scheme, f"{ways[0]}= and {ways[1]}= exclude each other")
    way = ways[0] if ways else ""
    beside = _WAYS.get(way)
    if beside is not None and beside not in given:
        raise uri.refusal(found.scheme, f"{way}= needs {beside}=")
    for one in ("secret-id-file", "role", "auth"):
        users = [user for user, needed in _WAYS.items() if needed and one in (needed, "auth")]
        if one in given and way not in users:
            raise uri.refusal(found.scheme, f"{one}= needs {'= or '.join(users)}=")
    if way == "role-id":
        file = given["secret-id-file"]
        public = {"role_id": given["role-id"]}
        return TransitLogin(given.get("auth", "approle"), public, "secret_id", _in_file(file), file)
    if way == "jwt-file":
        secret = _in_file(given[way])
    elif way == "jwt-env":
        text = os.environ.get(given[way], "")
        secret = word(text.encode(errors="surrogateescape"), given[way])
    else:
        return None
    return TransitLogin(
        given.get("auth", "jwt"), {"role": given["role"]}, "jwt", secret, given[way]
    )


def word(data: bytes, source: str) -> str:
    """Return a token or another secret; it is one word, or `http.client` would repeat it.

    Raises:
        Failed: `key.passphrase-missing`, `key.passphrase`.
    """
    text = data.decode("latin-1").strip()
    if not text:
        raise Failed(
            "key.passphrase-missing",
            f"{source} is empty, expected a token",
            expected="a token",
            found="nothing",
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Failed(
            "key.passphrase",
            f"{source} is no token: it has spaces or characters that no token has",
            expected="one word",
            found="other characters",
            hint="nothing else may be there",
        )
    return text


def _in_file(path: str) -> str:
    return word(read_secret(Path(path), "a token", TOKEN_LIMIT), path)


def _helper() -> Path | None:
    """Return the file that a login has left in the home directory; None if there is none."""
    try:
        path = Path.home() / _HELPER
        return path if path.is_file() else None
    except (OSError, RuntimeError):  # no home, or one that this user may not read
        return None


def _variables(found: KeyUri, name: str) -> tuple[str, ...]:
    return tuple(begin + name for begin in _ENVIRONMENT[found.scheme])


def names(found: KeyUri, name: str) -> str:
    """Return the names of the variables that are read, for people."""
    return " or ".join(_variables(found, name))
