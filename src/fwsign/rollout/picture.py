# SPDX-License-Identifier: Apache-2.0
"""A simulated rollout as lines of text: the devices that have the release, over time."""

from collections.abc import Iterator
from typing import Final

from fwsign.format.rollout import percent
from fwsign.rollout.simulate import HOUR, Curve

ROWS: Final = 16
_WIDTH: Final = 40
_DAY: Final = 24 * HOUR
_SPACINGS: Final = (
    *(60, 300, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 6 * HOUR, 8 * HOUR, 12 * HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY),
)


def spacing(end: int, most: int) -> int:
    """Return the distance of even times, so that there are at most so many until the end."""
    fitting = (one for one in _SPACINGS if end // one <= most)
    return next(fitting, -(-end // most))


def times(curve: Curve, most: int) -> list[int]:
    """Return even times from the beginning to the end."""
    step = spacing(curve.end, most)
    return list(range(0, curve.end + step, step))


def shown(time: int) -> str:
    """Return a span from the beginning, such as 36h or 20min."""
    if time % HOUR == 0:
        return f"{time // HOUR}h"
    return f"{time // 60}min" if time % 60 == 0 else f"{time}s"


def lines(curve: Curve) -> Iterator[str]:
    """Yield the picture: a row for each time, with a bar as long as the share that has it."""
    at = times(curve, ROWS)
    width = max(len(shown(one)) for one in at)
    most = max(curve.devices, 1)
    for time in at:
        count = curve.by(time)
        bar = "#" * round(_WIDTH * count / most) or ("." if count else "")
        held = " paused" if curve.pause is not None and time >= curve.pause else ""
        plan = percent(curve.share_at(time))
        yield f"  {shown(time):>{width}}  {bar:<{_WIDTH}} {count:>9,}  plan {plan}{held}"
