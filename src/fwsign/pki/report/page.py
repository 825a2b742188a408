# SPDX-License-Identifier: Apache-2.0
"""An inventory as one web page, which loads nothing and runs only its own script.

All text of certificates and files is escaped twice: first characters that deceive, as in a
terminal, then characters with a meaning in HTML. The content security policy names the style and
the script by their digests, so that even a failed escape would run nothing.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from importlib import resources
from typing import TYPE_CHECKING, Final

from fwsign import __version__
from fwsign.pki.report import timeline, tree
from fwsign.pki.report.inventory import Standing
from fwsign.pki.report.page_entries import crls_of, icon, standing_icon, table_of, tree_of
from fwsign.pki.report.page_facts import text
from fwsign.pki.report.tree import TONES
from fwsign.pki.report.words import plural

if TYPE_CHECKING:
    from datetime import datetime

    from fwsign.pki.report.inventory import Inventory

FIRST_LINE: Final = b"<!doctype html><!-- fwsign pki show -->\n"
"""The beginning of a page, which distinguishes an old page from other files."""

_MARKER: Final = re.compile(r"<!--@([a-z]+)-->")


def render(inventory: Inventory, at: datetime) -> str:
    """Return the page; the same for the same inventory and time.

    Args:
        inventory: the inventory to show.
        at: an aware time in UTC, "today".
    """
    template = resources.files("fwsign.pki.report").joinpath("page.html").read_text("utf-8")
    parts = {
        "policy": _policy(template),
        "version": text(__version__),
        "source": text(inventory.source),
        "at": at.isoformat(),
        "when": f"{at:%Y-%m-%d %H:%M} UTC",
        "day": f"{at:%Y-%m-%d}",
        "counts": _counts(inventory, at),
        "problems": _problems(inventory),
        "tree": tree_of(inventory, at),
        "crls": crls_of(inventory, at),
        "table": table_of(inventory),
        **_timeline(inventory, at),
    }
    return _MARKER.sub(lambda marker: parts[marker[1]], template)  # once: no part is looked into


def _policy(template: str) -> str:
    def digest(element: str) -> str:
        content = template.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
        return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest('style')}; script-src {digest('script')}; "
        "base-uri 'none'; form-action 'none'"
    )


def _counts(inventory: Inventory, at: datetime) -> str:
    entries = inventory.entries
    found = [
        _count(len(entries), "certificate"),
        _count(sum(entry.facts.ca for entry in entries), "CA"),
        _count(len(inventory.crls), "CRL"),
    ]
    standings = [one.standing(at) for one in entries]
    standings += [one.standing(at) for one in inventory.crls]
    found += [
        f"<li>{standing_icon(one)}<b>{standings.count(one)}</b> {one.value}</li>"
        for one in Standing
        if one is not Standing.OK and one in standings
    ]
    if inventory.problems:
        found.append(f"<li>{icon('warn')}<b>{len(inventory.problems)}</b> not readable</li>")
    return "".join(found)


def _count(number: int, word: str) -> str:
    return f"<li><b>{number}</b> {plural(number, word).partition(' ')[2]}</li>"


def _problems(inventory: Inventory) -> str:
    if not inventory.problems:
        return ""
    items = "".join(
        f'<li>{icon("warn")}<span><b class="mono">{text(one.file)}</b> '
        f"{text(one.message)}</span></li>"
        for one in inventory.problems
    )
    return (
        '<section aria-labelledby="h-problems"><div class="head"><h2 id="h-problems">Not readable'
        "</h2><p>Files, or parts of files, that are not in what follows.</p></div>"
        f'<div class="panel"><ul class="plain problems">{items}</ul></div></section>'
    )


def _timeline(inventory: Inventory, at: datetime) -> dict[str, str]:
    dated = [crl for crl in inventory.crls if crl.end]
    spans = [(one.facts.begin, one.facts.end) for one in inventory.entries]
    spans += [(one.begin, one.end) for one in dated if one.end]
    windows = timeline.scales(spans, at)
    chart = (windows[0], at)
    axes = [timeline.axis(one, at, first=one is windows[0]) for one in windows]
    found = [f'<div class="ticks">{"".join(labels for labels, _ in axes)}</div>']
    found += [lines for _, lines in axes]
    order = dict.fromkeys(row.entry for row in tree.rows(inventory))
    for entry in (inventory.entries[number] for number in order):
        period = (entry.facts.begin, entry.end)
        found.append(_span(f"c{entry.number}", entry.name, period, entry.standing(at), chart))
    if inventory.crls:
        found.append('<p class="group" id="dated">Revocation lists</p>')
    for number, crl in enumerate(inventory.crls):
        if crl.end:
            period = (crl.begin, crl.end)
            found.append(_span(f"r{number}", crl.files[0], period, crl.standing(at), chart))
    zooms = "".join(
        f'<button type="button" value="{one.name}" aria-pressed="{str(one is windows[0]).lower()}" '
        f'data-window="{timeline.seconds(one.begin)} {timeline.seconds(one.end)}">'
        f"{one.name}</button>"
        for one in windows
    )
    return {"timeline": "".join(found), "zooms": zooms}


def _span(
    target: str,
    name: str,
    period: tuple[datetime, datetime],
    standing: Standing,
    chart: tuple[timeline.Scale, datetime],
) -> str:
    (begin, end), (scale, at) = period, chart
    turn = end if standing.dead else at  # a dead one has no time left
    words = f"{name}: {standing.value}, {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
    return (
        f'<div class="span" data-of="{target}"><a href="#{target}">{text(name)}</a>'
        f'<svg class="track" role="img" aria-label="{text(words)}"><title>{text(words)}</title>'
        f"{timeline.bars(scale, begin, end, turn, TONES[standing])}</svg>"
        f'<time datetime="{end.isoformat()}">{end:%Y-%m-%d}</time></div>'
    )
