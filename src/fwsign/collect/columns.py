# SPDX-License-Identifier: Apache-2.0
"""The columns of a receipt: what questions ask for, read from its line.

A line is signed, and a stranger's texts are in it all the same: every value has a type and a limit,
and what has another is left out.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

MAX_TEXT: Final = 256
"""Characters of a text in a column; the line has all of it."""
MAX_NUMBER: Final = 2**53 - 1
"""The largest number of canonical JSON."""
_DIGEST_SIZES: Final = (64, 96, 128)
_IN_PLACE: Final = {"installed": "installed", "committed": "installed", "on trial": "on trial"}
"""Results of gateways after which a release is in place, and its state."""
_WRITTEN: Final = ("verified", "device-reported")
"""Results of flashing after which a board has a release."""


class Columns(NamedTuple):
    """The columns of `receipts` that are read from a line, under the names of the table."""

    clock: int | None
    kind: str
    result: str
    code: str | None
    vendor: str | None
    product: str | None
    version: str | None
    sequence: int | None
    manifest: bytes | None
    board: str | None


class RunningNow(NamedTuple):
    """What runs on a device, or on a board, after a receipt.

    Args:
        board: the identity of the board; empty for the device itself.
        state: "installed" or "on trial".
        came_back: the manifest digest of a release that was there before; None: the receipt's.
        nothing: whether nothing is in place.
    """

    board: str
    state: str
    came_back: bytes | None = None
    nothing: bool = False


def columns_of(content: Mapping[str, Any]) -> Columns:
    """Return the columns of a receipt's content."""
    release, board = _part(content, "release"), _part(content, "board")
    manifest = release.get("manifest_digest") or content.get("manifest")
    return Columns(
        _seconds(content.get("clock")),
        _text(content.get("kind")) or "",
        _text(content.get("result")) or "",
        _text(content.get("code")),
        _text(release.get("vendor")),
        _text(release.get("product")),
        _text(release.get("version")),
        _number(release.get("sequence_number")),
        _digest(manifest),
        _text(board.get("identity")),
    )


def running_after(content: Mapping[str, Any]) -> RunningNow | None:
    """Return what runs after a receipt; None if it changes nothing."""
    kind, result = content.get("kind"), content.get("result")
    if kind == "install" and result in _IN_PLACE:
        return RunningNow("", _IN_PLACE[str(result)])
    if kind == "install" and result == "fell back":
        before = _digest(_part(content, "trial").get("before"))
        return RunningNow("", "installed", before, nothing=before is None)
    board = _part(content, "board")
    identity = _text(board.get("identity"))
    if kind == "flash" and result in _WRITTEN and identity and not board.get("simulated"):
        return RunningNow(identity, "installed")
    return None


def device_columns(content: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the vendor and product of the device that a receipt names."""
    device = _part(content, "device")
    return _text(device.get("vendor")), _text(device.get("product"))


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str | None:
    """Return a text as databases take it: PostgreSQL refuses NUL."""
    return value.replace("\0", "\ufffd")[:MAX_TEXT] if isinstance(value, str) else None


def _number(value: object) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= MAX_NUMBER else None  # type: ignore[operator,return-value]


def _digest(value: object) -> bytes | None:
    if not isinstance(value, str) or len(value) not in _DIGEST_SIZES:
        return None
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None


def _seconds(value: object) -> int | None:
    try:
        found = datetime.fromisoformat(str(value))
        return int(found.timestamp()) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
