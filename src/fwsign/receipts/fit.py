# SPDX-License-Identifier: Apache-2.0
"""Cut a receipt to a size that always fits a line, and say in it what was cut.

A receipt has texts that strangers chose: names in certificates, messages that quote them, the
content of a refused envelope. A line that such a text makes too long would be no line at all, and
the refusal would leave no trace.
"""

from collections.abc import Mapping
from typing import Any, Final

from fwsign.receipts.canonical import canonical

MAX_TEXT: Final = 1024
"""Bytes of one text: names in certificates have some 100, and messages quote two or three."""
MAX_CONTENT: Final = 24 * 1024
"""Bytes of a receipt without its signature; one of ML-DSA-87 takes 35 thousand with its chain."""
_SHORT: Final = 64
"""Bytes of one text, if a receipt has so many that they are too long together."""


def fit(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Return a receipt whose texts and lists are cut where they are too long.

    A text that was cut ends with a mark that has its size. The field `cut` has the number of items
    that are missing from each list. What UTF-8 cannot express is escaped.

    Args:
        receipt: texts, whole numbers, booleans, None, sequences, dicts.

    Raises:
        ValueError: for any other type in it.
    """
    found = _fit(receipt, MAX_TEXT)
    return found if _size(found) <= MAX_CONTENT else _fit(receipt, _SHORT)


def cut(text: str, most: int = MAX_TEXT) -> str:
    """Cut a text to so many bytes, with a mark at its end that has its size."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= most:
        return data.decode()
    mark = f"[cut, {len(data)} bytes]"
    return data[: most - len(mark)].decode(errors="ignore") + mark


def _fit(receipt: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Cut texts, then lists until the receipt fits or none is left."""
    found: dict[str, Any] = _with_texts(dict(receipt), most)
    missing: dict[str, int] = {}
    while _size(_marked(found, missing)) > MAX_CONTENT and (path := _longest_list(found, ())):
        _halve(found, path, missing)
    return _marked(found, missing)


def _size(value: Any) -> int:
    return len(canonical(value).encode())


def _marked(found: dict[str, Any], missing: Mapping[str, int]) -> dict[str, Any]:
    return {**found, "cut": dict(missing)} if missing else found


def _with_texts(value: Any, most: int) -> Any:
    match value:
        case str():
            return cut(value, most)
        case list() | tuple():
            return [_with_texts(one, most) for one in value]
        case dict():
            return {_name(name): _with_texts(one, most) for name, one in value.items()}
    return value


def _name(name: Any) -> Any:
    return cut(name, _SHORT) if isinstance(name, str) else name


def _longest_list(value: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the names that lead to the list that takes most room; lists in lists go with it."""
    best: tuple[int, tuple[str, ...]] = (0, ())
    for name, one in value.items():
        inner = (*path, name)
        if isinstance(one, list) and one:
            best = max(best, (_size(one), inner))
        elif isinstance(one, dict) and (deeper := _longest_list(one, inner)):
            best = max(best, (_size(_at(one, deeper[len(inner) :])), deeper))
    return best[1] or None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def _halve(found: dict[str, Any], path: tuple[str, ...], missing: dict[str, int]) -> None:
    items = _at(found, path)
    kept = len(items) // 2
    name = ".".join(path)
    missing[name] = missing.get(name, 0) + len(items) - kept
    del items[kept:]
