# SPDX-License-Identifier: Apache-2.0
"""The tables `[follow]` and `[after_install]` of device.toml."""

from typing import Final, NamedTuple

from fwsign.format.channel import MAX_COHORTS, is_name
from fwsign.format.component import is_url
from fwsign.format.notice import CLASSES
from fwsign.gateway.config.window import Window, is_zone, parse_window
from fwsign.toml import TomlTable

HAWKBIT: Final = "hawkbit+"
"""Before the https address of a device in a server that speaks hawkBit's device API."""
MIN_INTERVAL: Final = 60
"""Seconds between two polls: a server has many gateways."""
MAX_INTERVAL: Final = 7 * 24 * 3600
MAX_CRLS: Final = 8
"""Addresses of CRLs, as many as CRLs in one block of an envelope."""
MAX_KEEP: Final = 16
"""Versions to keep at rest."""
KEEP: Final = 2
"""Versions that are kept by default: the installed one, and the one before."""


class FollowRules(NamedTuple):
    """The rules of `fwsign follow`.

    Args:
        address: the fixed https address of an envelope or a channel, the absolute path of a
            directory or a channel, or `HAWKBIT` with the https address of this device; None if it
            is typed.
        interval: seconds between two polls.
        longest: seconds between two polls at most, however often they failed.
        install: the classes of releases that are installed without asking.
        window: the hours for it; None for all.
        crls: https addresses of CRLs.
        trust: the https address of trust updates; None if there is none.
        cohorts: the cohorts that this device belongs to, for rollouts.
    """

    address: str | None = None
    interval: int = 3600
    longest: int = 24 * 3600
    install: tuple[str, ...] = CLASSES
    window: Window | None = None
    crls: tuple[str, ...] = ()
    trust: str | None = None
    cohorts: tuple[str, ...] = ()


class AfterInstall(NamedTuple):
    """The command that restarts what uses the installed files.

    Args:
        command: the command with its arguments; the first word is an absolute path.
        seconds: the longest time for it.
        user: the user that it runs as; None for the one that fwsign runs as.
    """

    command: tuple[str, ...]
    seconds: int = 60
    user: str | None = None


def parse_follow(table: TomlTable) -> FollowRules:
    """Read the table `[follow]`; the usual rules if it is not there.

    Raises:
        Failed: `io.config`.
    """
    usual = FollowRules()
    address = table.maybe("address")
    if address is not None and not is_place(address):
        raise table.wrong("address", "an https address, or an absolute path", address)
    interval = table.number("interval", usual.interval, MAX_INTERVAL)
    if interval < MIN_INTERVAL:
        raise table.wrong("interval", f"a number of {MIN_INTERVAL} to {MAX_INTERVAL}", interval)
    longest = table.number("longest", max(usual.longest, interval), MAX_INTERVAL)
    if longest < interval:
        raise table.wrong("longest", f"a number of {interval} (interval) or more", longest)
    rules = FollowRules(
        address,
        interval,
        longest,
        _classes(table, usual.install),
        _window(table),
        _addresses(table, "crls"),
        _trust(table),
        _cohorts(table),
    )
    table.end()
    return rules


def parse_after_install(table: TomlTable) -> AfterInstall | None:
    """Read the table `[after_install]`; None if it is not there.

    Raises:
        Failed: `io.config`.
    """
    if not table.keys():
        return None
    command = table.texts("command")
    if not command or not command[0].startswith("/"):
        what = "a command by its absolute path, with its arguments"
        raise table.wrong("command", what, command)
    usual = AfterInstall(command)
    found = AfterInstall(
        command, table.number("seconds", usual.seconds, MAX_INTERVAL), table.maybe("user")
    )
    table.end()
    return found


def is_place(text: str) -> bool:
    """Tell whether a text is an https address, one of hawkBit's API, or an absolute path."""
    return text.startswith("/") or _is_https(text.removeprefix(HAWKBIT))


def _is_https(text: str) -> bool:
    return is_url(text) and text.startswith("https://")


def _classes(table: TomlTable, usual: tuple[str, ...]) -> tuple[str, ...]:
    if "install" not in table.keys():  # noqa: SIM118 - not a mapping
        return usual
    found = table.texts("install")
    if not set(found) <= set(CLASSES) or len(set(found)) < len(found):
        raise table.wrong("install", f"a list of some of {', '.join(CLASSES)}", found)
    return found


def _window(table: TomlTable) -> Window | None:
    text, zone = table.maybe("window"), table.take("zone", str, "UTC")
    if not is_zone(zone):
        what = "UTC, local, or a zone that this system knows, as Europe/Berlin"
        raise table.wrong("zone", what, zone)
    if text is None:
        return None
    window = parse_window(text, zone)
    if window is None:
        raise table.wrong("window", "hours of a day as 02:00-05:00", text)
    return window


def _addresses(table: TomlTable, key: str) -> tuple[str, ...]:
    found = table.texts(key)
    if len(found) > MAX_CRLS or not all(map(_is_https, found)):
        raise table.wrong(key, f"a list of at most {MAX_CRLS} https addresses", found)
    return found


def _trust(table: TomlTable) -> str | None:
    found = table.maybe("trust")
    if found is not None and not _is_https(found):
        raise table.wrong("trust", "an https address", found)
    return found


def _cohorts(table: TomlTable) -> tuple[str, ...]:
    found = table.texts("cohorts")
    if len(found) > MAX_COHORTS or not all(map(is_name, found)) or len(set(found)) < len(found):
        what = f"a list of at most {MAX_COHORTS} names of a-z, 0-9 and -, each once"
        raise table.wrong("cohorts", what, found)
    return found
