# SPDX-License-Identifier: Apache-2.0
"""Versions as numbers that compare as the versions do (SUIT's set-version)."""

import re
from typing import Any, Final

MAX_VERSION_PARTS: Final = 10
"""Eight numbers, a pre-release and its count."""
_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9}){0,7})(?:-(alpha|beta|rc)(?:\.(\d{1,9}))?)?", re.ASCII)
_PRE_RELEASE: Final = {"rc": -1, "beta": -2, "alpha": -3}


def version_numbers(version: str) -> tuple[int, ...] | None:
    """Turn "2.4.1-rc.3" into (2, 4, 1, -1, 3); return None for any other form."""
    if not (match := _VERSION.fullmatch(version)):
        return None
    numbers, pre, count = match.groups()
    tail = (_PRE_RELEASE[pre], *([int(count)] if count else [])) if pre else ()
    return (*map(int, numbers.split(".")), *tail)


def is_version(value: Any) -> bool:
    """Tell whether a value could have come from `version_numbers`."""
    return (
        isinstance(value, tuple)
        and 1 <= len(value) <= MAX_VERSION_PARTS
        and all(isinstance(part, int) and not isinstance(part, bool) for part in value)
        and all(min(_PRE_RELEASE.values()) <= part < 10**9 for part in value)
    )
