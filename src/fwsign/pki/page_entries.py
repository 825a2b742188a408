# SPDX-License-Identifier: Apache-2.0
"""The lists of `fwsign.pki.page`: certificates as a tree, and CRLs, each with its details."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from fwsign.pki import tree
from fwsign.pki.entry import visible
from fwsign.pki.inventory import Standing
from fwsign.pki.tree import TONES, tone_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from fwsign.pki.inventory import Crl, Entry, Inventory
    from fwsign.pki.tree import Row

_DEPTH: Final = 200
"""Levels of nesting; browsers ignore more than 512 elements in one another."""


def text(value: object) -> str:
    """Escape text for HTML, in elements and in attributes with quotes."""
    return html.escape(visible(value))


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


def _is_nested(rows: tuple[Row, ...], number: int, level: int) -> bool:
    return number + 1 < len(rows) and min(len(rows[number + 1].rails), _DEPTH) > level


def _node(inventory: Inventory, row: Row, at: datetime, *, nested: bool) -> str:
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
    words = tree.validity(entry, at)
    life = _life((entry.facts.begin, entry.end), at, (entry.standing(at), tone), words)
    return (
        f'{begin}{fold if nested else ""}<details class="entry" id="c{entry.number}">'
        f'<summary><span class="who">{who}</span>{life}</summary>'
        f"{_facts(_said(inventory, entry, at))}</details></div>"
    )


def _chip(entry: Entry) -> str:
    kind = {"root CA": " root", "CA": " ca"}.get(entry.kind, "")
    return f'<span class="chip{kind}">{text(entry.kind)}</span>'


def _marks(entry: Entry, at: datetime) -> str:
    found = []
    standing = entry.standing(at)
    if standing in tree.BELOW:
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
    share = 0.0 if standing.dead else tree.share_left(*period, at)
    return (
        f'<span class="life {tone}"><span>{mark}{words}</span>'
        '<svg class="bar" aria-hidden="true"><rect class="fill" width="100%" height="5"/>'
        f'<rect class="fill {tone}" width="{share * 100:.1f}%" height="5"/></svg></span>'
    )


def _facts(items: Iterable[tuple[str, list[str]]]) -> str:
    """Lay out facts; the values are HTML already."""
    found = "".join(
        f"<dt>{name}</dt>" + "".join(f"<dd>{value}</dd>" for value in values)
        for name, values in items
        if values
    )
    return f'<dl class="facts">{found}</dl>'


def _said(inventory: Inventory, entry: Entry, at: datetime) -> Iterator[tuple[str, list[str]]]:
    said, key = entry.facts, entry.key_file
    if entry.revocation:
        date, reason, crl = entry.revocation.date, entry.revocation.reason, entry.revocation.crl
        yield "Revoked", [f"<b>{date:%Y-%m-%d %H:%M} UTC</b>, {text(reason)}, by {text(crl)}"]
    if note := tree.path_note(entry, at):
        yield "Path", [f'<span class="fault">{text(note)}</span>']
    yield "Problem", [f'<span class="fault">{text(one)}</span>' for one in entry.problems]
    yield "Subject", [text(said.subject)]
    yield "Issuer", [_issuers(inventory, entry)]
    yield "Valid", [f"{said.begin:%Y-%m-%d %H:%M} to {said.end:%Y-%m-%d %H:%M} UTC"]
    length = "" if said.path_length is None else f", path length {said.path_length}"
    yield "Basic constraints", [f"CA:TRUE{length}" if said.ca else "CA:FALSE"]
    yield "Key usage", [", ".join(said.key_usage)] if said.key_usage else []
    yield (
        "Extended key usage",
        [text(", ".join(said.extended_key_usage))] * bool(said.extended_key_usage),
    )
    yield "Alternative names", [text(one or '""') for one in said.names]
    yield "Permits names", [text(one or '""') for one in said.permitted]
    yield "Excludes names", [text(one or '""') for one in said.excluded]
    yield "Key", [text(said.key)]
    yield "Private key", [text(f"{key.file}, {key.protection}") if key else "not here"]
    yield "Signature", [text(said.signature)]
    yield "Serial", [f'<span class="mono">{text(said.serial)}</span>']
    yield "SHA-256", [f'<span class="mono">{said.sha256}</span>']
    yield "Key SHA-256", [f'<span class="mono">{said.key_sha256}</span>'] * bool(said.key_sha256)
    yield "File", [f'<span class="mono">{text(one)}</span>' for one in entry.files]


def _issuers(inventory: Inventory, entry: Entry) -> str:
    links = [
        "itself" if number == entry.number else _link(inventory.entries[number])
        for number in entry.issuers
    ]
    return f"{text(entry.facts.issuer)} ({', '.join(links) or tree.unlinked(entry)})"


def _link(entry: Entry) -> str:
    return f'<a href="#c{entry.number}">{text(entry.name)}</a>'


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


def _crl_tone(crl: Crl, at: datetime) -> str:
    tone = TONES[crl.standing(at)]
    return "warn" if crl.problems and tone == "good" else tone


def _crl(inventory: Inventory, number: int, crl: Crl, at: datetime) -> str:
    standing, tone = crl.standing(at), _crl_tone(crl, at)
    stale = '<span class="chip bad">STALE</span>' if standing is Standing.EXPIRED else ""
    faulty = '<span class="chip warn">PROBLEM</span>' if crl.problems else ""
    life = (
        _life((crl.begin, crl.end), at, (standing, tone), tree.until(crl.begin, crl.end, at))
        if crl.end
        else '<span class="life"><span>no next update</span></span>'
    )
    links = ", ".join(_link(inventory.entries[one]) for one in crl.issuers) or "not here"
    end = f"{crl.end:%Y-%m-%d %H:%M} UTC" if crl.end else "none"
    facts = _facts(
        (
            ("Problem", [f'<span class="fault">{text(one)}</span>' for one in crl.problems]),
            ("Issuer", [f"{text(crl.issuer)} ({links})"]),
            ("Number", ["none" if crl.number is None else str(crl.number)]),
            ("Revoked", [tree.plural(crl.revoked, "certificate")]),
            ("This update", [f"{crl.begin:%Y-%m-%d %H:%M} UTC"]),
            ("Next update", [end]),
            ("File", [f'<span class="mono">{text(one)}</span>' for one in crl.files]),
        )
    )
    revoked = f'<span class="common">{crl.revoked} revoked</span>'
    return (
        f'<details class="entry" id="r{number}"><summary><span class="who"><span class="name">'
        f'{text(crl.files[0])}</span><span class="chip">CRL</span>{revoked}{stale}{faulty}</span>'
        f"{life}</summary>{facts}</details>"
    )
