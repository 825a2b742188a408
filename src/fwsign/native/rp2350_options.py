# SPDX-License-Identifier: Apache-2.0
"""The options of sealing an RP2350 image, in picotool's words."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fwsign.errors import Failed

_VERSION: Final = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})")
_ROW: Final = re.compile(r"0x[0-9a-fA-F]{1,4}|[0-9]{1,5}")
VERSIONS_A_ROW: Final = 24
"""A row of OTP has a bit for each version, and is kept three times (data sheet 5.1.11)."""
MAX_ROWS: Final = 8


class Rp2350Options(NamedTuple):
    """How an image is sealed.

    Args:
        version: MAJOR.MINOR; "" for that of the image, or 0.0 beside a rollback version.
        rows: the rows of OTP that count rollback versions, first copies only; "" for those of the
            image, or picotool's.
    """

    version: str = ""
    rows: str = ""


DEFAULT_ROWS: Final = (0x4E, 0x51)
"""DEFAULT_BOOT_VERSION0 and 1."""


def unfit(what: str, expected: object, found: object) -> Failed:
    """Return the refusal of an image or an option that cannot be used."""
    message = f"rp2350: {what}: expected {expected}, found {found}"
    return Failed("io.format", message, expected=expected, found=found)


def version_of(options: Rp2350Options) -> tuple[int, int] | None:
    """Return the version that was asked for.

    Raises:
        Failed: `io.format`.
    """
    if not options.version:
        return None
    found = _VERSION.fullmatch(options.version)
    numbers = (int(found[1]), int(found[2])) if found else (-1, -1)
    if not all(0 <= one <= 0xFFFF for one in numbers):
        raise unfit("version", "MAJOR.MINOR of at most 65535.65535", f'"{options.version}"')
    return numbers


def rows_of(options: Rp2350Options) -> tuple[int, ...]:
    """Return the rows that were asked for, or none.

    Raises:
        Failed: `io.format`.
    """
    texts = options.rows.split(",") if options.rows else []
    expected = f"at most {MAX_ROWS} numbers such as 0x4e,0x51"
    if len(texts) > MAX_ROWS or not all(_ROW.fullmatch(one) for one in texts):
        raise unfit("rows", expected, f'"{options.rows}"')
    rows = tuple(int(one, 16 if one.startswith("0x") else 10) for one in texts)
    if len(set(rows)) < len(rows) or any(not 0 < one < 0x1000 for one in rows):
        raise unfit("rows", f"{expected}, each below 0x1000 and once", f'"{options.rows}"')
    return rows
