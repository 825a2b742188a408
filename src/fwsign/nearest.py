# SPDX-License-Identifier: Apache-2.0
"""What somebody may have meant who wrote something that nobody knows."""

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a question for a misspelt word; None where nothing known is like it."""
    import difflib  # for mistakes alone

    near = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"did you mean {near[0]}?" if near else None
