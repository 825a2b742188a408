# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people type them (12h, 90d, 4w, 2y), and how exact a clock has to be."""

import re
from datetime import timedelta
from typing import Final

_SPAN: Final = re.compile(r"([0-9]{1,5})([hdwy])")
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(1), "w": timedelta(7), "y": timedelta(365)}

CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""How far a clock may be behind what another machine has dated; more, and it is wrong."""


def parse_span(text: str) -> timedelta | None:
    """Return the span that a text names; None where it is no such text."""
    match = _SPAN.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None
