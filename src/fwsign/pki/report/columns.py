# SPDX-License-Identifier: Apache-2.0
"""Fit text into the columns of a terminal."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def columns(text: str) -> int:
    """Return the number of terminal columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def wrap(phrases: Iterable[str], width: int, joint: str) -> list[str]:
    """Join phrases into lines; cut a phrase that is too long at spaces, or anywhere."""
    found: list[str] = []
    for phrase in phrases:
        for number, part in enumerate(_parts(phrase, width)):
            together = f"{found[-1]}{joint}{part}" if found and number == 0 else None
            if together is not None and columns(together) <= width:
                found[-1] = together
            else:
                found.append(part)
    return found


def _parts(phrase: str, width: int) -> Iterator[str]:
    line = ""
    for word in phrase.split(" "):
        if line and columns(line) + 1 + columns(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            yield line
        line = word
        while columns(line) > width:
            cut = width
            while columns(line[:cut]) > width:
                cut -= 1
            yield line[:cut]
            line = line[cut:]
    yield line
