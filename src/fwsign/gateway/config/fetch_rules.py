# SPDX-License-Identifier: Apache-2.0
"""The limits of fetching, and their table in device.toml."""

import re
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.toml import TomlTable

MAX_RATE: Final = 1 << 40
"""The largest limit of bytes a second."""

TOKEN_KINDS: Final = {"bearer": "Bearer", "target": "TargetToken", "gateway": "GatewayToken"}
"""The words before a token: those of OAuth 2.0, and those of hawkBit's device API."""
_HOST: Final = re.compile(r"[a-z0-9.-]+|[0-9a-f:]+")
_PROXY: Final = re.compile(r"http://(?:([a-z0-9.-]+)|\[([0-9a-f:]+)\]):([0-9]{1,5})/?")
_LAST_PORT: Final = 65535
_LEAST_BUFFER: Final = 16 * 1024
_MOST_BUFFER: Final = 1024 * 1024
_TOGETHER: Final = (
    ("client_cert", "client_key"),
    ("client_key", "client_cert"),
    ("client_cert", "allow_hosts"),
    ("token_file", "allow_hosts"),
    ("proxy_login_file", "proxy"),
)
"""Keys, and the key that each needs: credentials are for named hosts alone."""


class FetchRules(NamedTuple):
    """The limits of fetching.

    Args:
        allow_hosts: the only hosts to fetch from; empty for any.
        ca: a PEM file with the roots for servers' certificates; None for the system's.
        stall_seconds: the longest silence of a server.
        total_seconds: the longest time for one file.
        pause_seconds: the wait before a broken transfer is resumed.
        client_cert: a PEM file with the gateway's certificate; None for none.
        client_key: a PEM file with its private key.
        token_file: the file of a token for servers; None for none.
        proxy: host and port of the proxy; None for none.
        login_file: the file of the user and password for the proxy; None for none.
        bytes_per_second: the limit of the line's use; None for none.
        token_kind: the word before the token, see `TOKEN_KINDS`.
        since: a time that has passed for certain, by which servers' certificates are judged if the
            clock is behind it; None if none is known.
    """

    allow_hosts: tuple[str, ...] = ()
    ca: Path | None = None
    stall_seconds: float = 30
    total_seconds: float = 4 * 3600
    pause_seconds: float = 2
    client_cert: Path | None = None
    client_key: Path | None = None
    token_file: Path | None = None
    proxy: tuple[str, int] | None = None
    login_file: Path | None = None
    bytes_per_second: int | None = None
    since: datetime | None = None
    token_kind: str = "bearer"  # noqa: S105 - no secret

    @property
    def authorization(self) -> str:
        """The word before the token in a request."""
        return TOKEN_KINDS[self.token_kind]

    @property
    def buffer(self) -> int | None:
        """The bytes that the system may take in ahead, so that a limit holds on the line too."""
        if self.bytes_per_second is None:
            return None
        return min(max(self.bytes_per_second, _LEAST_BUFFER), _MOST_BUFFER)


def read_rules(table: TomlTable) -> FetchRules:
    """Read the table `fetch` of a device.toml.

    Raises:
        Failed: `io.config`.
    """
    usual = FetchRules()
    hosts = table.texts("allow_hosts")
    if not all(map(_HOST.fullmatch, hosts)):
        raise table.wrong("allow_hosts", "a list of host names in lower case, or addresses", hosts)
    rules = FetchRules(
        hosts,
        table.maybe_place("ca"),
        table.number("stall_seconds", int(usual.stall_seconds), 3600),
        table.number("total_seconds", int(usual.total_seconds), 7 * 24 * 3600),
        client_cert=table.maybe_place("client_cert"),
        client_key=table.maybe_place("client_key"),
        token_file=table.maybe_place("token_file"),
        proxy=_proxy(table),
        login_file=table.maybe_place("proxy_login_file"),
        bytes_per_second=table.maybe_number("bytes_per_second", MAX_RATE),
        token_kind=table.take("token_kind", str, usual.token_kind),
    )
    if rules.token_kind not in TOKEN_KINDS:
        raise table.wrong("token_kind", " or ".join(TOKEN_KINDS), rules.token_kind)
    _check_together(table, rules)
    table.end()
    return rules


def _proxy(table: TomlTable) -> tuple[str, int] | None:
    text = table.maybe("proxy")
    if text is None:
        return None
    match = _PROXY.fullmatch(text)
    if match is None or not 1 <= int(match[3]) <= _LAST_PORT:
        expected = "http://HOST:PORT, without user and password: proxy_login_file names their file"
        raise table.wrong("proxy", expected, text)
    return match[1] or match[2], int(match[3])


def _check_together(table: TomlTable, rules: FetchRules) -> None:
    """Refuse keys that need another one."""
    given = {
        "client_cert": rules.client_cert,
        "client_key": rules.client_key,
        "token_file": rules.token_file,
        "proxy_login_file": rules.login_file,
        "allow_hosts": rules.allow_hosts,
        "proxy": rules.proxy,
    }
    for key, other in _TOGETHER:
        if given[key] and not given[other]:
            raise table.wrong(key, f'usable without "{other}"', given[key])
