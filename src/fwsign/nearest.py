# SPDX-License-Identifier: Apache-2.0
"""Suggestions for unknown words."""

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a suggestion for a misspelt word; None if no known word is similar."""
    import difflib  # for mistakes alone

    near = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"did you mean {near[0]}?" if near else None
