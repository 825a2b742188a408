# SPDX-License-Identifier: Apache-2.0
"""The answer of a command: its exit status, and its JSON object."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fwsign.cli.ui import Console
from fwsign.errors import Failed, FwsignError, Stale, Unsuitable

REFUSED, USAGE, STALE, UNSUITABLE, FAILED, INTERNAL, INTERRUPTED = 1, 2, 3, 4, 5, 70, 130
"""Exit statuses; 0 is verified or done."""

_KEYS: Final = (
    *("verdict", "code", "step", "message", "expected", "found", "hint"),
    *("unchecked", "release"),
)


def worst(statuses: Iterable[int]) -> int:
    """Return the exit status that counts, of several."""
    return min(statuses, key=(INTERNAL, REFUSED, FAILED, UNSUITABLE, STALE, 0).index)


def exit_status(error: FwsignError) -> int:
    """Return the exit status of a refusal."""
    match error:
        case Stale():
            return STALE
        case Unsuitable():
            return UNSUITABLE
        case Failed():
            return FAILED
    return REFUSED


def refused(code: str, message: str, *, hint: str | None = None, **more: object) -> dict[str, Any]:
    """Return the JSON object for a failed command."""
    return _answer(verdict="refused", code=code, message=message, hint=hint, **more)


def accepted(
    verdict: str, unchecked: Iterable[str], release: Mapping[str, Any] | None, **more: object
) -> dict[str, Any]:
    """Return the JSON object for a release that was accepted."""
    return _answer(verdict=verdict, unchecked=list(unchecked), release=release, **more)


def _answer(**facts: object) -> dict[str, Any]:
    """Return a JSON object with all its fixed keys."""
    return {**dict.fromkeys(_KEYS), "unchecked": [], **facts}


def refusal(error: FwsignError) -> dict[str, Any]:
    """Return a refusal as the JSON object that --json prints."""
    facts = {"step": error.step, "expected": error.expected, "found": error.found}
    return refused(error.code, error.message, hint=hint_for(error), **facts)


def hint_for(error: FwsignError) -> str | None:
    """Return the hint for a refusal, if there is one for the running command."""
    from fwsign.cli import hints  # only for errors

    return hints.hint_for(error.code, error.hint, Console.command, Console.options)
