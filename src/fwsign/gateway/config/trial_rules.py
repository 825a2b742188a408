# SPDX-License-Identifier: Apache-2.0
"""The table `[trial]` of device.toml: how a release shows that it works, and until when."""

from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

from fwsign.toml import TomlTable

Confirm: TypeAlias = Literal["health", "application"]
"""Who decides that a release stays: the health command alone, or the application as well."""
Revoked: TypeAlias = Literal["stay", "return"]
"""What to do with a release before whose signer was revoked meanwhile."""

MAX_SECONDS: Final = 7 * 24 * 3600
MAX_BOOTS: Final = 100


class TrialRules(NamedTuple):
    """The rules for a release on trial.

    Args:
        health: the command that judges the release, with its arguments; its first word is a path.
        health_seconds: the longest time for it.
        user: the user that it runs as; None for the one that fwsign runs as.
        deadline: seconds of uptime that a trial may take.
        boots: starts of the machine that a trial may take.
        confirm: who decides that the release stays.
        revoked: what to do with a release before whose signer was revoked meanwhile.
    """

    health: tuple[str, ...]
    health_seconds: int = 60
    user: str | None = None
    deadline: int = 600
    boots: int = 2
    confirm: Confirm = "health"
    revoked: Revoked = "stay"


def parse_trial(table: TomlTable) -> TrialRules | None:
    """Read the table `[trial]`; None if it is not there.

    Raises:
        Failed: `io.config`.
    """
    if not table.keys():
        return None
    usual = TrialRules(())
    rules = TrialRules(
        parse_command(table, "health"),
        table.number("health_seconds", usual.health_seconds, MAX_SECONDS),
        table.maybe("user"),
        table.number("deadline", usual.deadline, MAX_SECONDS),
        table.number("boots", usual.boots, MAX_BOOTS),
        cast("Confirm", _choice(table, "confirm", get_args(Confirm))),
        cast("Revoked", _choice(table, "revoked", get_args(Revoked))),
    )
    table.end()
    return rules


def parse_command(table: TomlTable, key: str) -> tuple[str, ...]:
    """Read a command: a list of words, the first of which is an absolute path.

    Raises:
        Failed: `io.config`.
    """
    words = table.texts(key)
    if not words or not words[0].startswith("/"):
        raise table.wrong(key, "a command by its absolute path, with its arguments", words)
    return words


def _choice(table: TomlTable, key: str, choices: tuple[str, ...]) -> str:
    """Read one of some words; the first is the default."""
    found = table.take(key, str, choices[0])
    if found not in choices:
        raise table.wrong(key, " or ".join(choices), found)
    return found
