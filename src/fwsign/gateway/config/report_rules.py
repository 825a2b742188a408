# SPDX-License-Identifier: Apache-2.0
"""The table `[report]` of device.toml: where receipts go."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from fwsign.format.component import is_url
from fwsign.toml import TomlTable

SCHEMES: Final = ("https", "mqtts")


class ReportRules(NamedTuple):
    """Where receipts go.

    Args:
        to: the address of a collector, https or mqtts; None if they stay here.
        seconds: the longest time for it after a run; what is not sent by then is sent later.
    """

    to: str | None = None
    seconds: int = 20


def parse_report(table: TomlTable) -> ReportRules:
    """Read the table `[report]`; the usual rules if it is not there.

    Raises:
        Failed: `io.config`.
    """
    usual = ReportRules()
    to = table.maybe("to")
    if to is not None and not is_collector(to):
        raise table.wrong("to", "an https or mqtts address without user and password", to)
    rules = ReportRules(to, table.number("seconds", usual.seconds, 3600))
    table.end()
    return rules


def is_collector(text: str) -> bool:
    """Tell whether a text is an address that receipts can be sent to."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return False
    return is_url(text) and parts.scheme in SCHEMES and bool(host) and "@" not in parts.netloc
