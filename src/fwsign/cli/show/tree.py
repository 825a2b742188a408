# SPDX-License-Identifier: Apache-2.0
"""Lay out what `fwsign show` found, for people."""

from collections.abc import Iterator
from typing import Any


def lines(value: Any, indent: str = "") -> Iterator[str]:
    """Lay out a card as an indented tree."""
    for key, item in value.items():
        if item is None or item in ([], {}):
            continue
        if isinstance(item, dict):
            yield f"{indent}{key}"
            yield from lines(item, indent + "  ")
        elif key == "map":
            from fwsign.cli.show.images import picture

            yield f"{indent}{key}"
            yield from (f"{indent}  {line}" for line in picture(item))
        elif key == "notes":
            yield from (f"{indent}note: {line}" for line in item)
        elif key == "parts":  # the map and the words say it
            continue
        elif isinstance(item, list):
            for one in item:
                if isinstance(one, str):
                    yield f"{indent}{key}: {one}"
                    continue
                yield f"{indent}{key}"
                yield from lines(one, indent + "  ")
        elif key == "diagnostic":  # made here, of lines
            yield f"{indent}{key}"
            yield from (f"{indent}  {line}" for line in str(item).splitlines())
        else:
            yield f"{indent}{key}: {item}"
