# SPDX-License-Identifier: Apache-2.0
"""What each device runs and how its last action ended, kept up to date with each counted line.

A question about the fleet then reads one row for each device, not its receipts. What a device says
becomes a column only after its length and range were bounded: one device must not make a row that
the database cannot keep.
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fwsign.collect.store import FleetRun

MAX_COLUMN: Final = 128
"""Characters of a text in a column: an id, a version, a code."""
MAX_NOTICE: Final = 1024
"""Characters of a release's class and advisories; longer ones are left out."""
OLDEST: Final = 90 * 24 * 3600
"""Seconds that a device's clock may be behind the arrival of its line, as it is believed."""
STATION: Final = "station"
"""The state of what flashes boards and runs no release itself."""

_IN_PLACE: Final = {
    "installed": "installed",
    "committed": "installed",
    "on trial": "on trial",
    "stays": "stays",
    "verified": "installed",
    "device-reported": "installed",
}
"""A result that puts the release of its line in place -> the state then."""
_NO_ACTION: Final = ("not written", None)
"""The results of lines that only count others."""
_RELEASE: Final = ("vendor", "product", "version", "sequence", "manifest", "notice")
_EARLIER: Final = """
    SELECT line FROM receipts
    WHERE device = ? AND manifest = ? AND sequence IS NOT NULL ORDER BY receipt DESC LIMIT 1"""


class CountedLine(NamedTuple):
    """A line that counts.

    Args:
        device, receipt: the numbers of its rows.
        received: when it arrived.
        content: its content.
        signed: whether the device's key signed it.
        newest: whether it is the newest line of its device; one that closes a gap is not.
    """

    device: int
    receipt: int
    received: int
    content: Mapping[str, Any]
    signed: bool
    newest: bool = True


def note(run: FleetRun, line: CountedLine) -> None:
    """Bring the rows of a device up to date, inside the transaction that stores its line."""
    content, flash = line.content, line.content.get("kind") == "flash"
    board = board_of(content)
    result = column(content.get("result"))
    at = believed_time(content, line.received)
    placed = _placed(run, line, result, at)
    if placed.get("manifest") is not None and result in _IN_PLACE and (board or not flash):
        run.rows(
            "INSERT INTO taken VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(placed["manifest"], line.device, board, at),
        )
    if not line.newest:
        return
    if flash:
        _upsert(run, line, "", {"state": STATION}, {})
        if not board:
            return  # nobody knows which board it was, or it was simulated
    ended: dict[str, object] = {}
    if result not in _NO_ACTION:
        code = column(content.get("code"))
        ended = {"result": result, "code": code, "ended": at, "last": line.receipt}
    _upsert(run, line, board, {"state": "unknown"}, {**ended, **placed})


def board_of(content: Mapping[str, Any]) -> str:
    """Return the identity of the board that a line is about; empty if there is no real one."""
    board = _part(content, "board") if content.get("kind") == "flash" else {}
    return "" if board.get("simulated") else column(board.get("identity")) or ""


def _placed(run: FleetRun, line: CountedLine, result: str | None, at: int) -> dict[str, object]:
    """Return the columns about the release that is in place after a line; none if it says none.

    `at` is the believed time of the line.
    """
    content = line.content
    told = {"since": clock(content), "receipt": line.receipt, "signed": int(line.signed)}
    told["placed"] = at
    if result in _IN_PLACE:
        found = release_columns(content)
        if result == "stays" and found["manifest"] is None:  # the line has its digest alone
            found = _earlier(run, line, digest(content.get("manifest")))
        placed = {**found, **told, "state": _IN_PLACE[result]}
        return placed if found["manifest"] is not None else {}
    if content.get("touched") is True:  # whatever was in place before is there no more
        return {**dict.fromkeys(_RELEASE), **told, "state": "incomplete"}
    if result == "fell back":
        before = digest(_part(content, "trial").get("before"))
        return {**_earlier(run, line, before), **told, "state": "installed"}
    return {}


def _earlier(run: FleetRun, line: CountedLine, manifest: bytes | None) -> dict[str, object]:
    """Return the columns about a release, as the newest line of the device named it."""
    rows = run.rows(_EARLIER, line.device, manifest) if manifest is not None else []
    named = release_columns(json.loads(rows[0][0])) if rows else dict.fromkeys(_RELEASE)
    return {**named, "manifest": manifest}


def _upsert(
    run: FleetRun,
    line: CountedLine,
    board: str,
    first: Mapping[str, object],
    columns: Mapping[str, object],
) -> None:
    """Change columns of a row, or make it; `first` has those that only a new row gets."""
    changed = {**columns, "heard": line.received}
    row = {"device": line.device, "board": board, "receipt": line.receipt, **first, **changed}
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
    run.rows(
        f"INSERT INTO running ({names}) VALUES ({marks}) "  # noqa: S608 - our own names
        f"ON CONFLICT (device, board) DO UPDATE SET {sets}",
        *row.values(),
    )


def release_columns(content: Mapping[str, Any]) -> dict[str, object]:
    """Return the columns about the release that a line is about, as the line says."""
    release = _part(content, "release")
    return {
        "vendor": column(release.get("vendor")),
        "product": column(release.get("product")),
        "version": column(release.get("version")),
        "sequence": number(release.get("sequence_number")),
        "manifest": digest(release.get("manifest_digest")),
        "notice": _notice(release),
    }


def _notice(release: Mapping[str, Any]) -> str | None:
    """Return class and advisories as one text; None if a release has neither."""
    kind, advisories = release.get("class"), release.get("advisories")
    named = advisories or []
    told = {"advisories": named, "class": kind}
    if not (kind or named) or not isinstance(kind, str | None) or not isinstance(named, list):
        return None
    if not all(isinstance(one, str) for one in named):
        return None
    text = json.dumps(told, separators=(",", ":"), sort_keys=True)
    return text if len(text) <= MAX_NOTICE else None


def column(value: object) -> str | None:
    """Return a text as a column has it: not too long, without what PostgreSQL cannot keep."""
    if not isinstance(value, str):
        return None
    sound = value[: MAX_COLUMN + 1].replace("\0", "\\x00").encode(errors="backslashreplace")
    text = sound.decode()
    return text if len(text) <= MAX_COLUMN else f"{text[: MAX_COLUMN - 3]}..."


def number(value: object) -> int | None:
    """Return a whole number that a column can have; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


def digest(value: object) -> bytes | None:
    """Return a digest in hex as bytes; None for anything else."""
    if isinstance(value, str) and 0 < len(value) <= 2 * 64:
        with contextlib.suppress(ValueError):
            return bytes.fromhex(value)
    return None


def clock(content: Mapping[str, Any]) -> int | None:
    """Return the time that a line says, in seconds since 1970; None if it says none."""
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        found = datetime.fromisoformat(content["clock"])
        if found.tzinfo is not None:
            return int(found.timestamp())
    return None


def believed_time(content: Mapping[str, Any], received: int) -> int:
    """Return a line's clock where it is plausible, else the time of its arrival."""
    said = clock(content)
    return said if said is not None and received - OLDEST <= said <= received else received


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}
