# SPDX-License-Identifier: Apache-2.0
"""The limits of fetching, and their table in device.toml."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.toml import TomlTable

_HOST: Final = re.compile(r"[a-z0-9.-]+|[0-9a-f:]+")


class FetchRules(NamedTuple):
    """The limits of fetching.

    Args:
        allow_hosts: the only hosts to fetch from; empty for any.
        ca: a PEM file with the roots for servers' certificates; None for the system's.
        stall_seconds: the longest silence of a server.
        total_seconds: the longest time for one file.
        pause_seconds: the wait before a broken transfer is resumed.
    """

    allow_hosts: tuple[str, ...] = ()
    ca: Path | None = None
    stall_seconds: float = 30
    total_seconds: float = 4 * 3600
    pause_seconds: float = 2


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
        table.place("ca") if "ca" in table.keys() else None,  # noqa: SIM118 - not a mapping
        table.number("stall_seconds", int(usual.stall_seconds), 3600),
        table.number("total_seconds", int(usual.total_seconds), 7 * 24 * 3600),
    )
    table.end()
    return rules
