# SPDX-License-Identifier: Apache-2.0
"""A simulated rollout as an SVG picture: one file, nothing fetched, light and dark."""

from collections.abc import Iterator
from html import escape
from typing import Final

from fwsign.format.rollout import WHOLE, percent
from fwsign.rollout.picture import shown, times
from fwsign.rollout.simulate import Curve

_WIDTH: Final = 760
_HEIGHT: Final = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 56, 52
_POINTS: Final = 240
_STYLE: Final = """
  :root { --paper: #ffffff; --ink: #1b1f24; --soft: #5b6470; --line: #d8dde3;
          --curve: #0a66c2; --fill: #0a66c2; --plan: #8a5a00; --pause: #b3261e; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #14171a; --ink: #e8eaed; --soft: #a3acb7; --line: #343a41;
            --curve: #6cb2ff; --fill: #6cb2ff; --plan: #e0b050; --pause: #ff8a80; } }
  text { font: 12px system-ui, sans-serif; fill: var(--soft); }
  .title { font-size: 15px; fill: var(--ink); }
  .line { stroke: var(--line); }
  .curve { stroke: var(--curve); stroke-width: 2; fill: none; }
  .area { fill: var(--fill); opacity: 0.14; }
  .plan { stroke: var(--plan); stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
  .pause { stroke: var(--pause); stroke-width: 1.5; }
  .plan-word { fill: var(--plan); } .curve-word { fill: var(--curve); }
  .pause-word { fill: var(--pause); }
"""


def draw(curve: Curve, title: str) -> str:
    """Return the picture: the devices that have the release, and the plan, over time."""
    summary = f"{len(curve.taken):,} of {curve.devices:,} devices have it after {shown(curve.end)}"
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(summary)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" style="fill: var(--paper)"/>',
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="42">{escape(summary)}</text>',
        f'<text class="curve-word" x="{_WIDTH - 130}" y="24">have it</text>',
        f'<text class="plan-word" x="{_WIDTH - 60}" y="24">plan</text>',
        *_axes(curve),
        *_plan(curve),
        *_taken(curve),
        *_pause(curve),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(curve: Curve, time: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(time / curve.end, 1)


def _y(part: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - part)


def _axes(curve: Curve) -> Iterator[str]:
    for quarter in range(5):
        y, count = _y(quarter / 4), round(curve.devices * quarter / 4)
        yield f'<line class="line" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{count:,}</text>'
    for time in times(curve, 9):
        if time <= curve.end:
            x, y = _x(curve, time), _HEIGHT - _BOTTOM + 18
            yield f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{shown(time)}</text>'
    x, y = (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14
    yield f'<text x="{x:.1f}" y="{y}" text-anchor="middle">time since the rollout began</text>'


def _plan(curve: Curve) -> Iterator[str]:
    corners: list[tuple[float, float]] = [(_x(curve, 0), _y(0))]
    for one in curve.steps:
        x = _x(curve, one.at)
        corners += [(x, corners[-1][1]), (x, _y(one.share / WHOLE))]
    corners.append((_x(curve, curve.end), corners[-1][1]))
    yield f'<polyline class="plan" points="{_points(corners)}"/>'
    for one in curve.steps:
        x, y = _x(curve, one.at) + 5, max(_y(one.share / WHOLE) - 6, _TOP - 4)
        end = x > _WIDTH - 70
        x, anchor = (x - 10, "end") if end else (x, "start")
        where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        yield f'<text class="plan-word" {where}>{percent(one.share)}</text>'


def _taken(curve: Curve) -> Iterator[str]:
    most = max(curve.devices, 1)
    moments = [curve.end * number // _POINTS for number in range(_POINTS + 1)]
    line = [(_x(curve, time), _y(curve.by(time) / most)) for time in moments]
    area = [(line[0][0], _y(0)), *line, (line[-1][0], _y(0))]
    yield f'<polygon class="area" points="{_points(area)}"/>'
    yield f'<polyline class="curve" points="{_points(line)}"/>'


def _pause(curve: Curve) -> Iterator[str]:
    if curve.pause is None:
        return
    x, count = _x(curve, curve.pause), len(curve.taken)
    yield f'<line class="pause" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
    side, anchor = (x - 6, "end") if x > _WIDTH / 2 else (x + 6, "start")
    words = f"paused after {shown(curve.pause)}: {count:,} have it"
    y = _TOP + 14
    yield f'<text class="pause-word" x="{side:.1f}" y="{y}" text-anchor="{anchor}">{words}</text>'


def _points(corners: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
