# SPDX-License-Identifier: Apache-2.0
"""The questions about a fleet.

The names of a release are what most devices say, those that sign before those that do not: one
device alone cannot rename a release that others run.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from fwsign.fleet import statements
from fwsign.fleet.model import (
    FleetCurve,
    FleetDevice,
    FleetEvent,
    FleetProblem,
    FleetRefusal,
    FleetRelease,
    FleetTotals,
    read_notice,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from fwsign.collect.store import FleetRun, FleetStore

MAX_RELEASES: Final = 40
"""Releases that are shown one by one: a device may claim a release of its own."""
MAX_CODES: Final = 40
"""Codes of refusals that are shown."""
MAX_PROBLEMS: Final = 50
"""Problems that are shown one by one."""
MAX_CURVES: Final = 6
"""Releases of one product whose curve is drawn."""
MAX_POINTS: Final = 240
"""Steps of time of one curve."""
MAX_BOARDS: Final = 1000
"""Boards of one station that are shown with it."""
_STEPS: Final = (60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600, 28 * 24 * 3600)
"""Seconds of the steps of a curve."""
_LAST: Final = 2**63 - 1
_WORDS: Final = {
    "gap": "lines before it are missing",
    "fork": "two lines name the same one before them: lines were deleted, or a memory was put back",
    "restart": "a record begins anew, though the device has one",
    "pruned": "the device removed lines before they came",
    "behind": "the device came back with an older line as its newest",
}
"""What the kinds of breaks mean."""


class DeviceFilter(NamedTuple):
    """Which devices are asked for; what is None does not matter.

    Args:
        version: the version of the release in place, as the devices say.
        product: its product.
        release: its manifest digest.
        silent: only those of which nothing was heard for too long.
        refused: only those whose last action was a refusal.
        signed: whether the receipt about the release is signed.
        code: the code of the refusal.
        like: the beginning of the id.
    """

    version: str | None = None
    product: str | None = None
    release: bytes | None = None
    silent: bool = False
    refused: bool = False
    signed: bool | None = None
    code: str | None = None
    like: str = ""


class Questions:
    """Questions to a fleet at one moment, in one transaction.

    Args:
        run: the transaction.
        at: the time of the question, seconds since 1970.
        silence: seconds without a word after which a device is silent.
    """

    def __init__(self, run: FleetRun, at: int, silence: int) -> None:
        self._run, self.at, self._before = run, at, at - silence

    @classmethod
    @contextlib.contextmanager
    def asked(cls, store: FleetStore, at: datetime, silence: timedelta) -> Iterator[Self]:
        """Begin a transaction that reads one state of the store, and changes nothing.

        Raises:
            Failed: `io.store`.
        """
        with store.transaction("read") as run:
            if run.dialect == "postgresql":
                run.rows(statements.SNAPSHOT)
            yield cls(run, int(at.timestamp()), int(silence.total_seconds()))

    def totals(self) -> FleetTotals:
        """Return the fleet in numbers."""
        (row,) = self._run.rows(statements.TOTALS, self._before)
        devices, signed, unknown, silent, refused = (int(one or 0) for one in row)
        problems = {kind: int(count) for kind, count in self._run.rows(statements.BREAKS)}
        ((forged,),) = self._run.rows(statements.FORGED)
        ((limited,),) = self._run.rows(statements.LIMITED)
        more = {"forged": int(forged), "limit": int(limited)}
        problems |= {kind: count for kind, count in more.items() if count}
        ((moved,),) = self._run.rows(statements.MOVED)
        found = dict(sorted(problems.items()))
        return FleetTotals(devices, signed, unknown, silent, refused, found, int(moved))

    def releases(self) -> list[FleetRelease]:
        """Return what devices run: products with most devices first, of each the newest first."""
        found: dict[bytes, list[tuple[Any, ...]]] = {}
        for row in self._run.rows(statements.RELEASES):
            found.setdefault(bytes(row[0]), []).append(row)
        every = [_release(manifest, rows) for manifest, rows in found.items()]
        sizes: dict[str, int] = {}
        for one in every:
            sizes[one.of] = sizes.get(one.of, 0) + one.devices
        return sorted(
            every, key=lambda one: (-sizes[one.of], one.of, -(one.sequence or 0), one.manifest)
        )

    def refusals(self) -> list[FleetRefusal]:
        """Return the codes with which last actions ended, the most frequent first."""
        rows = self._run.rows(statements.REFUSALS, MAX_CODES)
        return [FleetRefusal(code, int(devices), int(last)) for code, devices, last in rows]

    def problems(self) -> list[FleetProblem]:
        """Return the newest problems of the collector."""
        found = []
        for noticed, kind, name, digest in self._run.rows(statements.NEWEST_BREAKS, MAX_PROBLEMS):
            place = f" ({bytes(digest).hex():.16})" if digest is not None else ""
            found.append(FleetProblem(noticed, kind, name, _WORDS.get(kind, kind) + place))
        for seen, client, claimed, times, code, message in self._run.rows(
            statements.NEWEST_FORGED, MAX_PROBLEMS
        ):
            often = f", {times} times" if times > 1 else ""
            words = f'sent by "{client}"{often}: {code}: {message}'
            found.append(FleetProblem(seen, "forged", claimed, words))
        found += self.at_limit()
        return sorted(found, key=lambda one: -one.noticed)[:MAX_PROBLEMS]

    def at_limit(self) -> list[FleetProblem]:
        """Return the certificates whose last lines went beyond a limit, the newest first."""
        return [
            FleetProblem(at, "limit", name, f"at its limit of {limit}, refused {times} times")
            for at, name, limit, times in self._run.rows(statements.NEWEST_LIMITED, MAX_PROBLEMS)
        ]

    def curve(self, release: FleetRelease) -> FleetCurve:
        """Return how many devices had taken a release, over time."""
        ((first, last),) = self._run.rows(statements.SPAN, release.manifest)
        if first is None:
            return FleetCurve(release, ())
        step = next((one for one in _STEPS if (last - first) / one < MAX_POINTS), _STEPS[-1])
        points, total = [(int(first), 0)], 0
        given = (step, step, release.manifest, release.manifest)
        for begin, count in self._run.rows(statements.TAKEN, *given):
            if begin > points[-1][0]:
                points.append((int(begin), total))  # nothing happened until then
            total += int(count)
            points.append((min(int(begin) + step, int(last)), total))
        return FleetCurve(release, tuple(points))

    def devices(
        self, wanted: DeviceFilter, after: tuple[str, str] | None = None, most: int | None = None
    ) -> list[FleetDevice]:
        """Return devices by their names.

        Args:
            wanted: which ones.
            after: name and board of the device before the first one; None begins with the first.
            most: how many; None for all.
        """
        conditions, values = self._conditions(wanted)
        if after is not None:
            conditions.append(statements.AFTER)
            values += [after[0], *after]
        parts = [statements.DEVICE]
        if conditions:
            parts += ["WHERE", " AND ".join(conditions)]
        parts.append("ORDER BY d.name, r.board")
        if most is not None:
            parts.append("LIMIT ?")
            values.append(most)
        return [_device(row) for row in self._run.rows(" ".join(parts), self._before, *values)]

    def _conditions(self, wanted: DeviceFilter) -> tuple[list[str], list[object]]:
        """Return the conditions for a filter, and the values for them."""
        words: list[str] = []
        values: list[object] = []
        signed = None if wanted.signed is None else int(wanted.signed)
        for column, value in (
            *(("r.version", wanted.version), ("r.product", wanted.product)),
            *(("r.manifest", wanted.release), ("r.code", wanted.code), ("r.signed", signed)),
        ):
            if value is not None:
                words.append(f"{column} = ?")
                values.append(value)
        if wanted.silent:
            words.append(statements.SILENT)
            values.append(self._before)
        if wanted.refused:
            words.append("r.code IS NOT NULL")
        if wanted.signed is not None:
            words.append("r.manifest IS NOT NULL")
        if wanted.like:
            words.append(statements.BEGINS)
            values += 2 * [len(wanted.like), wanted.like]
        if not (wanted.silent or wanted.refused or wanted.code or wanted.like):
            words.append(statements.NO_STATION)
        return words, values

    def device(self, name: str) -> list[FleetDevice]:
        """Return the device with an id, a station with its boards, or a board by its identity."""
        found = self._run.rows(statements.OF_NAME, self._before, name, MAX_BOARDS)
        found += self._run.rows(statements.OF_BOARD, self._before, name, MAX_BOARDS)
        return [_device(row) for row in found]

    def ended(self, release: bytes) -> tuple[int, dict[str, int]]:
        """Return how many devices with a release are silent, and how many ended with which code."""
        ((silent,),) = self._run.rows(statements.SILENT_OF, release, self._before)
        codes = self._run.rows(statements.REFUSED_OF, release)
        return int(silent), {code: int(count) for code, count in codes}

    def events(self, name: str, before: int | None = None, most: int = 50) -> list[FleetEvent]:
        """Return the receipts of a device, a station or a board, the newest first.

        Args:
            name: the id of the device or station, or the board's identity.
            before: the number of the receipt before which to begin; None for the newest.
            most: how many.
        """
        found = self._run.rows(statements.NUMBER, name)
        statement = statements.EVENTS if found else statements.EVENTS_OF_BOARD
        whose = found[0][0] if found else name
        rows = self._run.rows(statement, whose, _LAST if before is None else before, most)
        return [_event(row) for row in rows]


def curves_of(questions: Questions, releases: Sequence[FleetRelease]) -> list[FleetCurve]:
    """Return the curves of the newest releases of each product."""
    seen: dict[str, int] = {}
    found = []
    for one in releases:
        seen[one.of] = seen.get(one.of, 0) + 1
        if seen[one.of] <= MAX_CURVES:
            found.append(questions.curve(one))
    return found


def shown_releases(every: Sequence[FleetRelease]) -> list[FleetRelease]:
    """Return the releases that most devices run, at most `MAX_RELEASES`, in their order."""
    most = sorted(every, key=lambda one: -one.devices)[:MAX_RELEASES]
    kept = {one.manifest for one in most}
    return [one for one in every if one.manifest in kept]


def _release(manifest: bytes, rows: Iterable[tuple[Any, ...]]) -> FleetRelease:
    """Return a release from the rows that name it, each in its way.

    One who signs has one voice, however many boards it says that it flashed.
    """
    every = sorted(rows, key=lambda row: (-int(row[10]), -int(row[7]), -int(row[6]), str(row[1:6])))
    _, vendor, product, version, sequence, notice, count, *_ = every[0]
    devices = sum(int(row[6]) for row in every)
    release_class, advisories = read_notice(notice)
    return FleetRelease(
        manifest,
        *(vendor, product, version, sequence, release_class, advisories),
        devices,
        sum(int(row[7]) for row in every),
        devices - int(count),
        min((row[8] for row in every if row[8] is not None), default=None),
        max((row[9] for row in every if row[9] is not None), default=None),
    )


def _device(row: tuple[Any, ...]) -> FleetDevice:
    name, board, vendor, product, version, sequence, manifest, *rest = row
    state, since, heard, result, code, signed, silent = rest
    digest = None if manifest is None else bytes(manifest)
    what = (vendor, product, version, sequence, digest, state, since, int(heard), result, code)
    return FleetDevice(name, board, *what, bool(signed), bool(silent))


def _event(row: tuple[Any, ...]) -> FleetEvent:
    *ended, line, vendor, product, version, sequence, digest, signer, name, board = row
    number, received, clock, kind, result, code = ended
    release = (vendor, product, version, sequence, bytes(digest), signer, name, board)
    return FleetEvent(number, received, clock, kind, result, code, _message(line), *release)


def _message(line: str) -> str | None:
    """Return the words of a receipt about its end."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        message = json.loads(line).get("message")
        return message if isinstance(message, str) else None
    return None
