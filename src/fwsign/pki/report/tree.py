# SPDX-License-Identifier: Apache-2.0
"""An inventory as a tree, issuer to issued, and as lines of text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from fwsign.pki.report.columns import columns, wrap
from fwsign.pki.report.inventory import Standing
from fwsign.pki.view.entry import old_fingerprints, visible
from fwsign.spans import plain_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from fwsign.pki.report.inventory import Above, Crl, Entry, Inventory
    from fwsign.pki.view.entry import Facts

Tone: TypeAlias = Literal["", "strong", "dim", "good", "warn", "bad"]
_Text: TypeAlias = "Callable[[str], str]"


class Row(NamedTuple):
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
BELOW: Final = (Standing.CA_EXPIRED, Standing.CA_REVOKED)
"""The states of a certificate that is dead by its path alone."""


def tone_of(entry: Entry, at: datetime) -> Tone:
    """Return the tone of an entry; an entry with a problem never looks good."""
    tone = TONES[entry.standing(at)]
    return "warn" if entry.problems and tone == "good" else tone


def rows(inventory: Inventory) -> tuple[Row, ...]:
    """Return the tree in the order of display.

    A certificate with several issuers appears under each of them. Its own certificates appear only
    under its first place, so that the tree has one row per link, also in a circle.
    """
    children: dict[int | None, list[int]] = {}
    for entry in inventory.entries:
        above: list[int | None] = [one for one in entry.issuers if one != entry.number]
        for issuer in above or [None]:
            children.setdefault(issuer, []).append(entry.number)
    found: list[Row] = []
    seen: set[int] = set()

    def walk(start: list[int]) -> None:
        # An explicit stack: the files decide the depth of the tree.
        stack: list[tuple[int, int | None, tuple[bool, ...]]]
        stack = [(number, None, ()) for number in reversed(start)]
        while stack:
            number, parent, rails = stack.pop()
            below = children.get(number, [])
            repeated = number in seen
            found.append(Row(number, parent, rails, repeated, bool(below) and not repeated))
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


def plural(count: int, word: str) -> str:
    """Return "1 CRL" or "2 CRLs"."""
    return f"{count} {word}" + ("" if count == 1 else "s")


def span(begin: datetime, end: datetime) -> str:
    """Return a span in words: whole years from two years on, below two days hours or minutes."""
    days = (end - begin).days
    if 2 <= days < 730:
        return plural(days, "day")
    return plural(days // 365, "year") if days >= 730 else plain_span(end - begin)


def share_left(begin: datetime, end: datetime, at: datetime) -> float:
    """Return the remaining share of a validity, from 0 to 1."""
    whole = (end - begin).total_seconds()
    left = (end - at).total_seconds()
    return min(max(left / whole, 0.0), 1.0) if whole > 0 else 0.0


def until(begin: datetime, end: datetime, at: datetime) -> str:
    """Return the end of a validity and the time until then, in words."""
    if end < at:
        return f"ended {end:%Y-%m-%d}, {span(end, at)} ago"
    if at < begin:
        return f"from {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
    return f"until {end:%Y-%m-%d}, {span(at, end)} left"


def validity(entry: Entry, at: datetime) -> str:
    """Return the end of a certificate or of its path, or the revocation, in words."""
    if entry.revocation:
        return f"revoked {entry.revocation.date:%Y-%m-%d}"
    if entry.above and (standing := entry.standing(at)) in BELOW:
        return _fate(entry.above, standing)
    return until(entry.facts.begin, entry.end, at)


def path_note(entry: Entry, at: datetime, clean: _Text = visible) -> str:
    """Return how the path ends a certificate before its own time; empty if it does not."""
    above, standing = entry.above, entry.standing(at)
    if above is None or (standing.dead and standing not in BELOW):
        return ""
    if standing in BELOW:
        return f'below "{clean(above.name)}": {_fate(above, standing)}'
    return f'it ends with "{clean(above.name)}"'


def _fate(above: Above, standing: Standing) -> str:
    if standing is Standing.CA_REVOKED and above.revocation:
        return f"its CA was revoked {above.revocation.date:%Y-%m-%d}"
    return f"its CA ended {above.end:%Y-%m-%d}"


def details(entry: Entry, clean: _Text = visible) -> list[str]:
    """Return the fields of a certificate, each as a short phrase."""
    said = entry.facts
    found = [said.key, _key_place(entry)]
    if said.ca:
        length = "" if said.path_length is None else f", path length {said.path_length}"
        found.append(f"CA:TRUE{length}")
    for word, values in (
        ("key usage", said.key_usage),
        ("EKU", said.extended_key_usage),
        ("SAN", said.names),
        ("permits", said.permitted),
        ("excludes", said.excluded),
    ):
        if values:
            more = f" and {len(values) - 8} more" if len(values) > 8 else ""
            named = ", ".join(value or '""' for value in values[:8])
            found.append(f"{word} {named}{more}")
    return [*map(clean, found)]


def unlinked(entry: Entry) -> str:
    """Return why an entry has no issuer: none is here, or the one here did not sign it."""
    return "not verified" if entry.problems else "not here"


def _key_place(entry: Entry) -> str:
    key = entry.key_file
    return f"key in {key.file}, {key.state}" if key else "private key not here"


def _in_full(said: Facts) -> list[str]:
    """Return the serial number, the fingerprints and the key identifiers of a certificate."""
    old = old_fingerprints(said.der)
    found = [f"serial {said.serial}", f"SHA-256 {said.sha256}"]
    found += [f"SHA-1 {old['sha1']}", f"MD5 {old['md5']}"]
    found += [f"key SHA-256 {said.key_sha256}"] * bool(said.key_sha256)
    for word, identifier in (("subject", said.subject_key), ("authority", said.authority_key)):
        if identifier is not None:
            found.append(f"{word} key identifier {identifier.hex()}")
    return found


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

    def entry(self, row: Row) -> Iterator[tuple[Piece, ...]]:
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

    def crl(self, crl: Crl) -> Iterator[tuple[Piece, ...]]:
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
            found += _in_full(said)
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
