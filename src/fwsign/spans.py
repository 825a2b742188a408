# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people type them (30min, 12h, 2y), revocation modes, and clock errors."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fwsign.verify.policy import Revocation

REVOCATION: Final = "require, off, or allow-stale:TIME as in allow-stale:30d"
"""The input of `parse_revocation`, for people."""

_SPAN: Final = re.compile(r"([0-9]{1,5})(min|[hdwy])")  # "m" alone could be a month
_UNITS: Final = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(1),
    "w": timedelta(7),
    "y": timedelta(365),
}

CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""How far a clock may be behind another machine's dates before it counts as wrong."""


def parse_span(text: str) -> timedelta | None:
    """Return the span that a text names; None if it names none."""
    match = _SPAN.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def plain_span(span: timedelta) -> str:
    """Return a span in words: days, or hours and minutes below two days."""
    minutes = max(int(span.total_seconds()) // 60, 0)
    for size, word in ((1440, "day"), (60, "hour")):
        if minutes >= 2 * size:
            return f"{minutes // size} {word}s"
    return f"{minutes} minute{'' if minutes == 1 else 's'}"


def parse_revocation(text: str) -> "tuple[Revocation, timedelta] | None":
    """Return the revocation mode of a text, and the span for which stale CRLs are accepted.

    Return None if the text names no mode.
    """
    if text == "require":
        return "require", timedelta(0)
    if text == "off":
        return "off", timedelta(0)
    how, _, span = text.partition(":")
    stale = parse_span(span) if how == "allow-stale" else None
    return None if stale is None else ("require", stale)
