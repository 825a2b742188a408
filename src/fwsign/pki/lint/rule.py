# SPDX-License-Identifier: Apache-2.0
"""A rule of `fwsign pki lint`, and its three severities."""

from typing import Final, Literal, NamedTuple, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""error: devices will refuse; warning: it will cause trouble; note: good to know."""


class Rule(NamedTuple):
    """The fault that a code stands for, its cost, and its remedy."""

    severity: Severity
    meaning: str
    cost: str
    mend: str


def error(meaning: str, cost: str, mend: str) -> Rule:
    """Return a rule whose breach makes devices refuse."""
    return Rule("error", meaning, cost, mend)


def warning(meaning: str, cost: str, mend: str) -> Rule:
    """Return a rule whose breach will cause trouble."""
    return Rule("warning", meaning, cost, mend)


def note(meaning: str, cost: str, mend: str) -> Rule:
    """Return a rule whose breach is good to know."""
    return Rule("note", meaning, cost, mend)
