# SPDX-License-Identifier: Apache-2.0
"""CBOR for people: diagnostic notation (RFC 8949 section 8), with decoded byte strings."""

import re
from collections.abc import Iterator
from typing import Any, Final

from fwsign.errors import Malformed
from fwsign.format import cbor

_TEXT: Final = re.compile(rb"[A-Za-z][A-Za-z0-9._+-]+")
_SHOWN: Final = 48  # bytes of a byte string that is not CBOR itself
_OPENED: Final = 1024 * 1024  # bytes of a byte string that is decoded


def lines(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of a decoded value."""
    match value:
        case cbor.Tag(number, content):
            yield from _wrapped(f"{number}(", lines(content, indent), ")")
        case dict() if value:
            yield "{"
            for place, (key, item) in enumerate(value.items(), 1 - len(value)):
                shown = " ".join(part.strip() for part in lines(key))
                yield from _wrapped(
                    f"{indent}  {shown}: ", lines(item, indent + "  "), "," if place else ""
                )
            yield indent + "}"
        case tuple() if value:
            yield "["
            for place, item in enumerate(value, 1 - len(value)):
                yield from _wrapped(indent + "  ", lines(item, indent + "  "), "," if place else "")
            yield indent + "]"
        case bytes():
            inner = _opened(value)
            if inner is None and _TEXT.fullmatch(value):
                yield f"'{value.decode()}'"
            elif inner is None:
                more = f" / {len(value)} bytes /" if len(value) > _SHOWN else ""
                yield f"h'{value[:_SHOWN].hex()}'{more}"
            else:
                yield from _wrapped("<< ", lines(inner, indent), " >>")
        case _:
            yield _scalar(value)


def _opened(data: bytes) -> Any:
    """Return a byte string's content, if it is an array, map or tag, and not huge."""
    if len(data) > _OPENED:
        return None
    try:
        inner = cbor.decode(data)
    except Malformed:
        return None
    return inner if isinstance(inner, (tuple, dict, cbor.Tag)) and inner else None


def _scalar(value: Any) -> str:
    match value:
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case tuple():
            return "[]"
    return str(value)  # a number, or the empty map


def _wrapped(head: str, body: Iterator[str], tail: str) -> Iterator[str]:
    collected = list(body)
    collected[0] = head + collected[0]
    collected[-1] += tail
    yield from collected
