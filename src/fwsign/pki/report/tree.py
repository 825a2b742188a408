# SPDX-License-Identifier: Apache-2.0
"""An inventory as a tree, issuer to issued, and as lines of text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from fwsign.pki.report.columns import columns, wrap
from fwsign.pki.report.inventory import Standing
from fwsign.pki.report.words import (
    BELOW,
    details,
    in_full,
    path_note,
    plural,
    share_left,
    unlinked,
    until,
    validity,
)
from fwsign.pki.view.entry import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from fwsign.pki.report.inventory import CrlEntry, Entry, Inventory

Tone: TypeAlias = Literal["", "strong", "dim", "good", "warn", "bad"]
_Text: TypeAlias = "Callable[[str], str]"


class TreeRow(NamedTuple):
    """One place of an entry in the tree; `rails` tells for each level above if it continues."""

    entry: int
    parent: int | None
    rails: tuple[bool, ...]
    """Whether another row follows, for each level from the top; the last is its own level."""
    repeated: bool
    """Whether it is already further up, with the certificates that it issued."""
    has_children: bool


class Piece(NamedTuple):
    """A part of a line, and its tone; the text itself has the same meaning."""

    text: str
    tone: Tone = ""


class Marks(NamedTuple):
    """The characters that draw lines and bars."""

    tee: str
    corner: str
    rail: str
    full: str
    empty: str
    ellipsis: str


BOX: Final = Marks("├─ ", "└─ ", "│  ", "█", "░", "…")
ASCII: Final = Marks("|- ", "`- ", "|  ", "#", ".", "..")
BAR: Final = 10
"""Cells of a bar; the full ones show the remaining validity."""

TONES: Final[dict[Standing, Tone]] = {
    Standing.OK: "good",
    Standing.SOON: "warn",
    Standing.URGENT: "bad",
    Standing.EXPIRED: "bad",
    Standing.FUTURE: "warn",
    Standing.CA_EXPIRED: "bad",
    Standing.CA_REVOKED: "bad",
    Standing.REVOKED: "bad",
}


def tone_of(entry: Entry, at: datetime) -> Tone:
    """Return the tone of an entry; an entry with a problem never looks good."""
    tone = TONES[entry.standing(at)]
    return "warn" if entry.problems and tone == "good" else tone


def rows(inventory: Inventory) -> tuple[TreeRow, ...]:
    """Return the tree in the order of display.

    A certificate with several issuers appears under each of them. Its own certificates appear only
    under its first place, so that the tree has one row per link, also in a circle.
    """
    children: dict[int | None, list[int]] = {}
    for entry in inventory.entries:
        above: list[int | None] = [one for one in entry.issuers if one != entry.number]
        for issuer in above or [None]:
            children.setdefault(issuer, []).append(entry.number)
    found: list[TreeRow] = []
    seen: set[int] = set()

    def walk(start: list[int]) -> None:
        # An explicit stack: the files decide the depth of the tree.
        stack: list[tuple[int, int | None, tuple[bool, ...]]]
        stack = [(number, None, ()) for number in reversed(start)]
        while stack:
            number, parent, rails = stack.pop()
            below = children.get(number, [])
            repeated = number in seen
            found.append(TreeRow(number, parent, rails, repeated, bool(below) and not repeated))
            if not repeated:
                seen.add(number)
                stack += [
                    (child, number, (*rails, child != below[-1])) for child in reversed(below)
                ]

    walk(children.get(None, []))
    for entry in inventory.entries:
        if entry.number not in seen:  # it is in a circle without a root
            walk([entry.number])
    return tuple(found)


def lines(
    inventory: Inventory,
    at: datetime,
    width: int = 100,
    marks: Marks = BOX,
    clean: _Text = visible,
    *,
    every: bool = False,
) -> Iterator[tuple[Piece, ...]]:
    """Lay out an inventory as lines of pieces, none wider than `width`, or 60 if that is less.

    Args:
        inventory: the inventory to show.
        at: the time from which the remaining validity is counted.
        width: columns of the terminal.
        marks: `BOX`, or `ASCII` if the output supports nothing better.
        clean: escapes text of certificates and files.
        every: whether to show serial numbers, fingerprints and key identifiers in full.
    """
    page = _Page(inventory, at, max(width, 60), marks, clean, every=every)
    yield (Piece(summary(inventory, at), "strong"),)
    for row in rows(inventory):
        yield from page.entry(row)
    if inventory.crls:
        yield ()
        yield (Piece("CRLs", "strong"),)
        for crl in inventory.crls:
            yield from page.crl(crl)
    if inventory.problems:
        yield ()
        yield (Piece("not readable", "strong"),)
        for problem in inventory.problems:
            yield from page.note(f"{problem.file} {problem.message}", "", "warn")


def summary(inventory: Inventory, at: datetime) -> str:
    """Return the counts of all things in one line."""
    parts = [plural(len(inventory.entries), "certificate"), plural(len(inventory.crls), "CRL")]
    standings = [entry.standing(at) for entry in inventory.entries]
    standings += [crl.standing(at) for crl in inventory.crls]
    parts += [
        f"{standings.count(one)} {one.value}"
        for one in Standing
        if one is not Standing.OK and one in standings
    ]
    if inventory.problems:
        parts.append(f"{len(inventory.problems)} not readable")
    return f"{', '.join(parts)}, as of {at:%Y-%m-%d %H:%M} UTC"


class _Page:
    """The settings of all lines."""

    def __init__(
        self,
        inventory: Inventory,
        at: datetime,
        width: int,
        marks: Marks,
        clean: _Text,
        *,
        every: bool,
    ) -> None:
        self._every = every
        self._entries, self._at, self._width = inventory.entries, at, width
        self._marks, self._clean = marks, clean
        # In a deeper tree, lines would have no room for words.
        self._deepest = (width - 50) // 3

    def entry(self, row: TreeRow) -> Iterator[tuple[Piece, ...]]:
        entry = self._entries[row.entry]
        rails, marks = row.rails[-self._deepest :], self._marks
        above = "".join(marks.rail if goes_on else "   " for goes_on in rails[:-1])
        own = (marks.tee if rails[-1] else marks.corner) if rails else ""
        below = above + ((marks.rail if rails[-1] else "   ") if rails else "")
        standing = entry.standing(self._at)
        left = [Piece(above + own, "dim"), Piece(self._clean(entry.name), "strong")]
        left.append(Piece(f"  {entry.kind}"))
        if row.repeated:
            yield from self._fit([*left, Piece("  (also above)", "dim")], [], below)
            return
        if mark := self._mark(entry, standing):
            left.append(Piece(f"  {mark}", "bad"))
        period = (entry.facts.begin, entry.end)
        words = validity(entry, self._at)
        bar = self._bar(period, standing, words, tone_of(entry, self._at))
        under = below + (marks.rail if row.has_children else "   ")
        yield from self._fit(left, bar, under)
        yield from self._wrapped(self._phrases(entry), under, "dim")
        if note := path_note(entry, self._at, self._clean):
            yield from self.note(note, under, "bad" if standing in BELOW else "warn")
        for problem in entry.problems:
            yield from self.note(problem, under, "warn")

    def crl(self, crl: CrlEntry) -> Iterator[tuple[Piece, ...]]:
        standing = crl.standing(self._at)
        left = [Piece(self._clean(crl.files[0]), "strong")]
        if standing is Standing.EXPIRED:
            left.append(Piece("  STALE", "bad"))
        end, bar = crl.end, [Piece("no next update", "warn")]
        if end:
            bar = self._bar(
                (crl.begin, end), standing, until(crl.begin, end, self._at), TONES[standing]
            )
        yield from self._fit(left, bar, "   ")
        issuers = [self._entries[number].name for number in crl.issuers]
        by = ", ".join(dict.fromkeys(issuers)) or f"{crl.issuer} (not here)"
        number = "no number" if crl.number is None else f"number {crl.number}"
        said = [f"of {by}", number, f"{crl.revoked} revoked", f"made {crl.begin:%Y-%m-%d}"]
        yield from self._wrapped([self._clean(one) for one in said], "   ", "dim")
        for problem in crl.problems:
            yield from self.note(problem, "   ", "warn")

    def note(self, text: str, indent: str, tone: Tone) -> Iterator[tuple[Piece, ...]]:
        yield from self._wrapped([f"! {self._clean(text)}"], indent, tone)

    def _mark(self, entry: Entry, standing: Standing) -> str:
        revocation = entry.revocation
        if revocation:
            return f"REVOKED ({self._clean(revocation.reason)})"
        if standing in BELOW:
            return "DEAD"
        return {Standing.EXPIRED: "EXPIRED", Standing.FUTURE: "NOT VALID YET"}.get(standing, "")

    def _bar(
        self, period: tuple[datetime, datetime], standing: Standing, words: str, tone: Tone
    ) -> list[Piece]:
        share = 0.0 if standing.dead else share_left(*period, self._at)
        cells = max(round(share * BAR), 1 if share > 0 else 0)
        bar = self._marks.full * cells + self._marks.empty * (BAR - cells)
        return [Piece(f"{bar} {words}", tone)]

    def _phrases(self, entry: Entry) -> list[str]:
        said, more = entry.facts, self._marks.ellipsis
        named = said.common_name != entry.name
        found = [self._clean(said.common_name)] if named else []
        found += details(entry, self._clean)
        if self._every:
            found += in_full(said)
        else:
            found.append(f"serial {said.serial[:8]}{more if len(said.serial) > 8 else ''}")
            found.append(f"SHA-256 {said.sha256[:16]}{more}")
        if not entry.issuers:
            found.append(f"issuer {unlinked(entry)}: {self._clean(said.issuer)}")
        return found

    def _fit(
        self, left: list[Piece], right: list[Piece], under: str
    ) -> Iterator[tuple[Piece, ...]]:
        """Put `right` at the right edge, or on its own line if there is no room."""
        column = self._width - 44
        used = sum(columns(piece.text) for piece in left)
        if not right:
            yield from self._cut(left, under)
        elif used + 2 <= column:
            yield (*left, Piece(" " * (column - used)), *right)
        else:
            yield from self._cut(left, under)
            yield (Piece(under, "dim"), *right)

    def _cut(self, pieces: list[Piece], under: str) -> Iterator[tuple[Piece, ...]]:
        if sum(columns(piece.text) for piece in pieces) <= self._width:
            yield tuple(pieces)
            return
        words = "".join(piece.text for piece in pieces[1:])  # a long name also shares its line
        first, *rest = wrap([words], self._width - columns(pieces[0].text), "")
        yield pieces[0], Piece(first, "strong")
        for line in rest:
            yield from self._wrapped([line], under, "strong")

    def _wrapped(
        self, phrases: Sequence[str], indent: str, tone: Tone
    ) -> Iterator[tuple[Piece, ...]]:
        joint = "; " if self._marks is ASCII else " · "
        for line in wrap(phrases, self._width - columns(indent), joint):
            yield Piece(indent, "dim"), Piece(line, tone)
