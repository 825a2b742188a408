# SPDX-License-Identifier: Apache-2.0
"""The CRLs in a device's memory: of each issuer the newest, and not more than a bound of all."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.crl import Crl, HeldCrl, newest, parse_crl
from fwsign.errors import Failed
from fwsign.revocation import Issued
from fwsign.state_file import StateFile

MAX_EQUAL_CRLS: Final = 8
"""CRLs of one issuer with one number, where one would be right."""
MAX_HELD_SIZE: Final = 4 * 1024 * 1024
"""Bytes of all CRLs that are held, `ROW_SIZE` added for each: a fleet of PKIs with small CRLs."""
ROW_SIZE: Final = 16 * 1024
"""Bytes; 256 CRLs at most, so that opening a memory stays quick."""
_CRLS: Final = "SELECT crl FROM crls WHERE issuer = ? AND keys = ? ORDER BY rowid"


def held_crls(file: StateFile) -> tuple[HeldCrl, ...]:
    """Return all CRLs that are held, each with its issuer's key."""
    rows = file.run("SELECT keys, crl FROM crls ORDER BY rowid").fetchall()
    return tuple(HeldCrl(keys.rpartition(" ")[2], data) for keys, data in rows)


def newest_crls(file: StateFile, issued: Issued) -> tuple[list[bytes], list[bytes]]:
    """Return the CRLs of an issuer that are held, and those to hold: of the highest number.

    Raises:
        Failed: `state.limit`.
    """
    held = [data for (data,) in file.run(_CRLS, *_issuer(issued)).fetchall()]
    places: dict[tuple[object, ...], list[Crl]] = {}  # one that splits its list has several
    for crl in (*map(parse_crl, held), *issued.crls):
        places.setdefault(crl.places, []).append(crl)
    parts = [list(dict.fromkeys(crl.data for crl in newest(part))) for part in places.values()]
    for part in parts:
        if len(part) > MAX_EQUAL_CRLS:
            raise Failed(
                "state.limit",
                f'{len(part)} different CRLs of "{issued.issuer.name}" have one number',
                expected=f"at most {MAX_EQUAL_CRLS}",
                found=len(part),
            )
    return held, [data for part in parts for data in part]


def keep_crls(file: StateFile, issued: Issued) -> None:
    """Keep an issuer's CRLs of the highest number; those held may be of another process."""
    held, wanted = newest_crls(file, issued)
    if wanted == held:
        return
    issuer = _issuer(issued)
    file.run("DELETE FROM crls WHERE issuer = ? AND keys = ?", *issuer)
    for data in wanted:
        file.run("INSERT INTO crls VALUES (?, ?, ?)", *issuer, data)


def bound_crls(file: StateFile) -> None:
    """Let CRLs go where there are too many, those of whoever brought most (ADR 12)."""
    rows = [
        _Row(number, keys.split(" "), size)
        for number, keys, size in file.run(
            "SELECT rowid, keys, length(crl) FROM crls ORDER BY rowid"
        )
    ]
    while sum(row.weight for row in rows) > MAX_HELD_SIZE:
        lost = _to_let_go(rows)
        file.run("DELETE FROM crls WHERE rowid = ?", lost.number)
        rows.remove(lost)


class _Row(NamedTuple):
    """A CRL as `_to_let_go` sees it: who is above it, from the anchor's key to the issuer's."""

    number: int
    keys: list[str]
    size: int

    @property
    def weight(self) -> int:
        return self.size + ROW_SIZE


def _to_let_go(rows: Sequence[_Row]) -> _Row:
    """Choose a CRL, going down from the anchors: each time to whoever has most below it.

    A CA can only bring what is below itself. So it lets go of its own, as long as it is the one
    with most; and it cannot make another one's part larger.
    """
    for depth in range(max(len(row.keys) for row in rows)):
        parts: dict[str, list[_Row]] = {}
        for row in rows:
            parts.setdefault(row.keys[depth] if depth < len(row.keys) else "", []).append(row)
        rows = max(parts.values(), key=lambda part: sum(row.weight for row in part))
    return rows[-1]


def _issuer(issued: Issued) -> tuple[bytes, str]:
    """Return an issuer's name, and the keys from the anchor's to its own."""
    return issued.certificate.issuer.public_bytes(), " ".join(reversed(issued.keys))
