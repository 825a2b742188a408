# SPDX-License-Identifier: Apache-2.0
"""The timeline of the page: spans of time as SVG, on scales that the page can change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TICKS: Final = 7
"""The approximate number of marks on a scale, so that they fit a narrow window."""
_STEPS: Final = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200)
"""Months between two marks."""
_ZOOMS: Final = ((365 * 5, "5 years"), (365, "1 year"), (90, "90 days"))
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class Scale(NamedTuple):
    """A window of time, as wide as the chart."""

    name: str
    begin: datetime
    end: datetime

    def place(self, time: datetime) -> float:
        """Return the position of a time, in percent; a time outside is at the edge."""
        whole = (self.end - self.begin).total_seconds()
        return min(max((time - self.begin).total_seconds() / whole, 0.0), 1.0) * 100


def scales(spans: Iterable[tuple[datetime, datetime]], at: datetime) -> list[Scale]:
    """Return the scale of all spans, and closer ones that begin a little before `at`."""
    times = [time for span in spans for time in span] + [at]
    least, most = min(times), max(times)
    margin = max((most - least) / 40, timedelta(days=1))
    found = [Scale("All", _shift(least, -margin), _shift(most, margin))]
    for days, name in _ZOOMS:
        whole = timedelta(days=days)
        if whole < most - least:
            found.append(Scale(name, _shift(at, -whole / 5), _shift(at, whole * 4 / 5)))
    return found


def axis(scale: Scale, at: datetime, *, first: bool) -> tuple[str, str]:
    """Return the labels and the lines of a scale, as two pieces of SVG."""
    hidden = "" if first else " hidden"
    now = scale.place(at)
    labels, lines = [], []
    for number, (time, text) in enumerate(_ticks(scale)):
        place = scale.place(time)
        lines.append(f'<line x1="{place:.3f}%" x2="{place:.3f}%" y1="0" y2="100%"/>')
        if abs(place - now) > 7 and 2 < place < 98:
            # The page leaves these out if it is narrow.
            rank = ("near" if abs(place - now) < 28 else "far") + (" odd" if number % 2 else "")
            labels.append(f'<text class="{rank}" x="{place:.3f}%" y="20">{text}</text>')
    labels.append(f'<text class="now" x="{now:.3f}%" y="20">today</text>')
    lines.append(f'<line class="now" x1="{now:.3f}%" x2="{now:.3f}%" y1="0" y2="100%"/>')
    head = f'data-scale="{scale.name}" aria-hidden="true"{hidden}'
    return (
        f'<svg class="axis" {head}>{"".join(labels)}</svg>',
        f'<svg class="grid" {head}>{"".join(lines)}</svg>',
    )


def bars(scale: Scale, begin: datetime, end: datetime, turn: datetime, tone: str) -> str:
    """Return a span as bars: faint until `turn`, then in full colour."""
    turn = min(max(turn, begin), end)
    return _bar(scale, begin, turn, f"{tone} past") + _bar(scale, turn, end, tone)


def seconds(time: datetime) -> int:
    """Return a time in the unit of the page's script."""
    return int(time.timestamp())


def _bar(scale: Scale, begin: datetime, end: datetime, tone: str) -> str:
    if begin >= end:
        return ""
    left, right = scale.place(begin), scale.place(end)
    return (
        f'<rect class="fill {tone}" data-span="{seconds(begin)} {seconds(end)}" '
        f'x="{left:.3f}%" width="{right - left:.3f}%" y="3" height="8" rx="1.5"/>'
    )


def _ticks(scale: Scale) -> Iterator[tuple[datetime, str]]:
    """Return round months or years with a label each."""
    months = (scale.end - scale.begin).days / 30.4
    step = next((step for step in _STEPS if months / step <= _TICKS), _STEPS[-1])
    at = (scale.begin.year * 12 + scale.begin.month - 1) // step * step
    while at < 9999 * 12:
        if at >= 12:
            time = datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC)
            if time > scale.end:
                return
            if time >= scale.begin:
                yield time, f"{time.year:04}" if step >= 12 else f"{time.year:04}-{time.month:02}"
        at += step


def _shift(time: datetime, by: timedelta) -> datetime:
    try:
        return min(max(time + by, _EARLIEST), _LATEST)
    except OverflowError:
        return _EARLIEST if by < timedelta(0) else _LATEST
