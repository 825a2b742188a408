# SPDX-License-Identifier: Apache-2.0
"""The answer of `fwsign.fleet.answer` as a page of Markdown for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fwsign import __version__
from fwsign.fleet.answer import (
    FINAL_REPORT,
    LAW,
    NOTIFICATION,
    TO_FILL_IN,
    WARNING,
    chosen_by,
    unknowns,
)
from fwsign.fleet.model import rfc3339
from fwsign.fleet.words import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fwsign.fleet.answer import FleetAnswer
    from fwsign.fleet.model import FleetRelease

_OPEN: Final = "____________"
"""A place to fill in."""
_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|~&]|:(?=//))")
"""Characters that Markdown reads within a line."""


def as_markdown(answer: FleetAnswer) -> str:
    """Return the answer for people."""
    return "\n".join(
        [
            *_head(answer),
            *_affected(answer),
            *_claimed(answer),
            *_mended(answer),
            *_open(answer),
            *("", "## What this does not know", ""),
            *(f"- {_text(one)}" for one in unknowns(answer)),
            "",
            "*Signed*: the device's certificate signed the receipt. *Only said*: an unsigned log.",
            f"Written by fwsign {__version__}.",
            "",
        ]
    )


def _head(answer: FleetAnswer) -> list[str]:
    asked = answer.asked
    what = asked.advisory or (asked.version and f"version {asked.version}") or "one release"
    aware = asked.aware
    return [
        f"# Affected devices: {_text(what)}",
        "",
        f"As of {_minute(answer.at)}, from {_text(answer.source)}. For {LAW}.",
        "",
        "| | |",
        "|---|---|",
        f"| became aware | {_time(aware)} |",
        f"| early warning, within 24 hours | {_time(aware and aware + WARNING)} |",
        f"| notification, within 72 hours | {_time(aware and aware + NOTIFICATION)} |",
        f"| final report | {FINAL_REPORT} |",
    ]


def _affected(answer: FleetAnswer) -> list[str]:
    devices, signed = answer.devices, answer.signed
    lines = [
        "",
        "## Affected",
        "",
        f"**{devices} devices** run an affected release.",
        f"{signed} of them signed that, {devices - signed} only said so.",
        f"{answer.silent} of them were silent for {answer.silence}.",
        f"Affected releases are {_text(chosen_by(answer.asked))}.",
        *_table(answer.affected),
    ]
    if answer.refused:
        told = ", ".join(f"{_text(code)} {count}" for code, count in answer.refused.items())
        lines += ["", f"Of these, the last action of some was a refusal: {told}."]
    return lines


def _claimed(answer: FleetAnswer) -> list[str]:
    if not answer.claimed:
        return []
    return [
        *("", "## Said to be affected", ""),
        f"**{answer.only_claimed} devices** say that they run a release that no envelope is of.",
        "It may be yours, or invented.",
        *_table(answer.claimed),
    ]


def _mended(answer: FleetAnswer) -> list[str]:
    everyone = answer.everyone
    share = f" ({100 * answer.mended / everyone:.1f} %)" if everyone else ""
    lines = ["", "## Mended", ""]
    if not answer.mending:
        return [*lines, f"No release that a device runs names the advisory. {_OPEN}"]
    return [
        *lines,
        f"**{answer.mended} of {everyone} devices**{share} run a release that names the advisory.",
        f"{answer.newer} run a newer one that does not name it, {answer.others} run another.",
        *_table(answer.mending),
    ]


def _open(answer: FleetAnswer) -> list[str]:
    countries = ", ".join(answer.asked.countries) or _OPEN
    return [
        *("", "## To fill in", ""),
        f"- countries in which the product is available: {countries}",
        *(f"- {one}: {_OPEN}" for one in TO_FILL_IN),
    ]


def _table(releases: Sequence[FleetRelease]) -> list[str]:
    rows = [
        "| "
        + " | ".join(
            (
                *(_text(one.of), _text(one.name)),
                *("" if one.sequence is None else f"#{one.sequence}", _text(one.release_class)),
                *(_text(", ".join(one.advisories)), str(one.devices), str(one.signed)),
                f"`{one.manifest.hex()}`",
            )
        )
        + " |"
        for one in releases
    ]
    if not rows:
        return ["", "No device runs such a release any more."]
    head = "| product | version | sequence | class | advisories | devices | signed | manifest |"
    return ["", head, "|---|---|---|---|---|---:|---:|---|", *rows]


def _text(text: object) -> str:
    """Return a text of a device as Markdown that is nothing but text."""
    return _MARKUP.sub(r"\\\1", plain(text) or "")


def _minute(seconds: int) -> str:
    return f"{(rfc3339(seconds) or '')[:16].replace('T', ' ')} UTC"


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else _OPEN
