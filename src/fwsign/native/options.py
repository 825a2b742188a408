# SPDX-License-Identifier: Apache-2.0
"""Options of one kind of native signature, from names and texts to their values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fwsign.errors import Failed
from fwsign.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE: Final = ("", "true", "yes", "1")
_FALSE: Final = ("false", "no", "0")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}")
_PAIR: Final = re.compile(r"\s*([^=,\s]+)=([^=,\s]*)\s*")


def parse(kind: str, form: Any, words: Mapping[str, str]) -> Any:
    """Return the options of a kind; those that are not named have their defaults.

    Args:
        kind: of native signature.
        form: a NamedTuple with fields of bool, int, str, or tuples of pairs; None for no options.
        words: by name, with "-" for "_": a number as in 512 or 0x200; "" or "true" for a switch;
            NAME=VALUE, separated by commas, for pairs.

    Returns:
        The options; only their names and forms are checked.

    Raises:
        Failed: `io.format`: no such option, or a value of another form.
    """
    defaults: dict[str, Any] = getattr(form, "_field_defaults", {})
    values: dict[str, Any] = {}
    for name, text in words.items():
        field = name.replace("-", "_")
        if field not in defaults:
            known = [one.replace("_", "-") for one in defaults]
            expected = ", ".join(known) or "no option"
            raise Failed(
                "io.format",
                f'{kind}: no option "{name}", expected {expected}',
                expected=expected,
                found=name,
                hint=did_you_mean(name, known),
            )
        values[field] = _value(kind, name, defaults[field], text)
    return form(**values)


def _value(kind: str, name: str, default: object, text: str) -> Any:
    what = f'option "{name}"'
    if isinstance(default, bool):
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise _wrong(kind, what, "true or false", text)
    if isinstance(default, int):
        if _NUMBER.fullmatch(text):
            return int(text, 0) if text.lower().startswith("0x") else int(text)
        raise _wrong(kind, what, "a number such as 512 or 0x200", text)
    if isinstance(default, str):
        return text
    return tuple(_pair(kind, what, one) for one in text.split(","))


def _pair(kind: str, what: str, text: str) -> tuple[int, str]:
    """Return a number and its text, as in 0x00a1=1234 or 2=1.0.0."""
    found = _PAIR.fullmatch(text)
    if found and _NUMBER.fullmatch(found[1]):
        return int(found[1], 16 if found[1].lower().startswith("0x") else 10), found[2]
    raise _wrong(kind, what, "NUMBER=VALUE, separated by commas", text)


def _wrong(kind: str, what: str, expected: str, found: str) -> Failed:
    message = f'{kind}: {what}: expected {expected}, found "{found}"'
    return Failed("io.format", message, expected=expected, found=found)
