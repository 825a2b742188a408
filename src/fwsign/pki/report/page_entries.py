# SPDX-License-Identifier: Apache-2.0
"""The lists of the page: certificates as a tree, and CRLs, each with its details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwsign.pki.report import page_facts, tree
from fwsign.pki.report.inventory import Standing
from fwsign.pki.report.page_facts import link, mono, text
from fwsign.pki.report.tree import TONES, tone_of
from fwsign.pki.report.words import BELOW, share_left, until, validity

if TYPE_CHECKING:
    from datetime import datetime

    from fwsign.pki.report.inventory import CrlEntry, Entry, Inventory
    from fwsign.pki.report.tree import TreeRow

_DEPTH: Final = 200
"""Levels of nesting; browsers ignore more than 512 elements in one another."""


def icon(tone: str, shape: str = "") -> str:
    """Return a mark; its shape has the same meaning as its colour."""
    return f'<svg class="icon {tone}" aria-hidden="true"><use href="#i-{shape or tone}"/></svg>'


def standing_icon(standing: Standing) -> str:
    """Return the mark for a state."""
    return icon(TONES[standing], "urgent" if standing is Standing.URGENT else "")


# --- the tree -------------------------------------------------------------------------------


def tree_of(inventory: Inventory, at: datetime) -> str:
    """Return the items of the tree, lists within items."""
    if not inventory.entries:
        return '<li class="none">There is no certificate here.</li>'
    found: list[str] = []
    depth = 0
    rows = tree.rows(inventory)
    for number, row in enumerate(rows):
        level = min(len(row.rails), _DEPTH)
        if number:  # close what is before: an item, and each list that ended
            opened = level > depth
            found.append("<ul>" if opened else "</li>" + "</ul></li>" * (depth - level))
        depth = level
        found.append(_node(inventory, row, at, nested=_is_nested(rows, number, level)))
    found.append("</li>" + "</ul></li>" * depth)
    return "".join(found)


def _is_nested(rows: tuple[TreeRow, ...], number: int, level: int) -> bool:
    return number + 1 < len(rows) and min(len(rows[number + 1].rails), _DEPTH) > level


def _node(inventory: Inventory, row: TreeRow, at: datetime, *, nested: bool) -> str:
    entry = inventory.entries[row.entry]
    tone = tone_of(entry, at)
    kind = "authority" if entry.facts.ca else "issued"
    begin = f'<li class="node" data-kind="{kind}" data-standing="{tone}"><div class="row">'
    if row.repeated:
        link = f'<a href="#c{entry.number}">{text(entry.name)}</a>'
        return f'{begin}<div class="again">{link} {_chip(entry)} also above</div></div>'
    fold = (
        '<button class="fold" type="button" aria-expanded="true" hidden '
        f'aria-label="Show what {text(entry.name)} issued"><svg width="12" height="12" '
        'viewBox="0 0 12 12" aria-hidden="true"><path d="M2.5 4.5L6 8l3.5-3.5" fill="none" '
        'stroke="currentColor" stroke-width="1.6" stroke-linecap="round"/></svg></button>'
    )
    common = entry.facts.common_name
    named = f'<span class="common">{text(common)}</span>' if common != entry.name else ""
    who = f'<span class="name">{text(entry.name)}</span>{_chip(entry)}{named}{_marks(entry, at)}'
    words = validity(entry, at)
    facts = page_facts.laid_out(page_facts.of_certificate(inventory, entry, at))
    life = _life((entry.facts.begin, entry.end), at, (entry.standing(at), tone), words)
    return (
        f'{begin}{fold if nested else ""}<details class="entry" id="c{entry.number}">'
        f'<summary><span class="who">{who}</span>{life}</summary>'
        f"{facts}</details></div>"
    )


def _chip(entry: Entry) -> str:
    kind = {"root CA": " root", "CA": " ca"}.get(entry.kind, "")
    return f'<span class="chip{kind}">{text(entry.kind)}</span>'


def _marks(entry: Entry, at: datetime) -> str:
    found = []
    standing = entry.standing(at)
    if standing in BELOW:
        found.append(f'<span class="chip {TONES[standing]}">DEAD</span>')
    elif standing in {Standing.REVOKED, Standing.EXPIRED, Standing.FUTURE}:
        found.append(f'<span class="chip {TONES[standing]}">{standing.value.upper()}</span>')
    if entry.problems:
        found.append('<span class="chip warn">PROBLEM</span>')
    return "".join(found)


def _life(
    period: tuple[datetime, datetime], at: datetime, state: tuple[Standing, str], words: str
) -> str:
    standing, tone = state
    mark = standing_icon(standing) if tone == TONES[standing] else icon(tone)
    share = 0.0 if standing.dead else share_left(*period, at)
    return (
        f'<span class="life {tone}"><span>{mark}{words}</span>'
        '<svg class="bar" aria-hidden="true"><rect class="fill" width="100%" height="5"/>'
        f'<rect class="fill {tone}" width="{share * 100:.1f}%" height="5"/></svg></span>'
    )


# --- CRLs -----------------------------------------------------------------------------------


def crls_of(inventory: Inventory, at: datetime) -> str:
    """Return the section of CRLs; nothing if there are none."""
    if not inventory.crls:
        return ""
    items = "".join(
        f'<li class="node" data-kind="crl" data-standing="{_crl_tone(crl, at)}">'
        f'<div class="row">{_crl(inventory, number, crl, at)}</div></li>'
        for number, crl in enumerate(inventory.crls)
    )
    return (
        '<section id="crls" aria-labelledby="h-crls"><div class="head">'
        '<h2 id="h-crls">Revocation lists</h2><p>What each CA has taken back.</p></div>'
        f'<div class="panel"><ul class="plain">{items}</ul></div></section>'
    )


def _crl_tone(crl: CrlEntry, at: datetime) -> str:
    tone = TONES[crl.standing(at)]
    return "warn" if crl.problems and tone == "good" else tone


def _crl(inventory: Inventory, number: int, crl: CrlEntry, at: datetime) -> str:
    standing, tone = crl.standing(at), _crl_tone(crl, at)
    stale = '<span class="chip bad">STALE</span>' if standing is Standing.EXPIRED else ""
    faulty = '<span class="chip warn">PROBLEM</span>' if crl.problems else ""
    life = (
        _life((crl.begin, crl.end), at, (standing, tone), until(crl.begin, crl.end, at))
        if crl.end
        else '<span class="life"><span>no next update</span></span>'
    )
    facts = page_facts.laid_out(page_facts.of_crl(inventory, crl))
    revoked = f'<span class="common">{crl.revoked} revoked</span>'
    return (
        f'<details class="entry" id="r{number}"><summary><span class="who"><span class="name">'
        f'{text(crl.files[0])}</span><span class="chip">CRL</span>{revoked}{stale}{faulty}</span>'
        f"{life}</summary>{facts}</details>"
    )


# --- the table ------------------------------------------------------------------------------

_COLUMNS: Final = ("Name", "Common name", "CA", "Serial", "Key", "Expires", "CRL until")


def table_of(inventory: Inventory) -> str:
    """Return all certificates as rows of a table, in the order of the tree."""
    head = "".join(f'<th scope="col">{one}</th>' for one in _COLUMNS)
    order = dict.fromkeys(row.entry for row in tree.rows(inventory))
    body = "".join(_row(inventory, inventory.entries[number]) for number in order)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(inventory: Inventory, entry: Entry) -> str:
    ends = [crl.end for crl in inventory.crls if entry.number in crl.issuers and crl.end]
    cells = (
        link(entry),
        text(entry.facts.common_name),
        "yes" if entry.facts.ca else "no",
        mono(entry.facts.serial),
        text(entry.facts.key),
        f"{entry.facts.end:%Y-%m-%d}",
        f"{max(ends):%Y-%m-%d}" if ends else "",
    )
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="listed" data-of="c{entry.number}">{row}</tr>'
