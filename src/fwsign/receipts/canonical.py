# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON (RFC 8785) of the types that receipts use."""

import json
from typing import Final

_MAX_NUMBER: Final = 2**53 - 1  # RFC 8785 section 3.2.2.3: beyond it, readers disagree


def canonical(value: object) -> str:
    """Return a value's canonical JSON (RFC 8785), if receipts may hold its type.

    Raises:
        ValueError: for any other type in it, or a text that UTF-8 cannot express.
    """
    _check_types(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    text.encode()
    return text


def _check_types(value: object) -> None:
    match value:
        case None | bool() | str():
            pass
        case int() if abs(value) <= _MAX_NUMBER:
            pass
        case list() | tuple():
            for item in value:
                _check_types(item)
        case dict():
            for key, item in value.items():
                # Python sorts by code points and the RFC by UTF-16; ASCII sorts alike in both.
                if not isinstance(key, str) or not key.isascii():
                    raise ValueError(f"the name {key!r} is not in ASCII")
                _check_types(item)
        case _:
            raise ValueError(f"{type(value).__name__} {value!r:.80} cannot be written")
