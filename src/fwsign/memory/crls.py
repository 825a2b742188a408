# SPDX-License-Identifier: Apache-2.0
"""The CRLs in a device's memory: the newest of each issuer, within a bound for all."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.memory.file import StateFile
from fwsign.verify.verified import Verified
from fwsign.x509.crl import Crl, HeldCrl, newest, parse_crl
from fwsign.x509.revocation import Issued

MAX_EQUAL_CRLS: Final = 8
"""CRLs of one issuer with one number; a correct issuer makes one."""
MAX_HELD_SIZE: Final = 4 * 1024 * 1024
"""Bytes of all held CRLs, plus `ROW_SIZE` for each; enough for many PKIs with small CRLs."""
ROW_SIZE: Final = 16 * 1024
"""Bytes; 256 CRLs at most, so that opening a memory stays quick."""


class _Row(NamedTuple):
    """A CRL, its issuer's name, and the keys from the anchor to the issuer, with spaces between."""

    issuer: bytes
    keys: str
    data: bytes

    @property
    def weight(self) -> int:
        return len(self.data) + ROW_SIZE


def teaching(verified: Verified) -> list[Issued]:
    """Return the certificates in blocks for this vendor, with their issuers' verified CRLs."""
    return [one for signer in verified.signers if signer.for_vendor for one in signer.issued]


def held_crls(file: StateFile) -> tuple[HeldCrl, ...]:
    """Return all held CRLs, each with its issuer's key."""
    return tuple(HeldCrl(row.keys.rpartition(" ")[2], row.data) for row in _rows(file))


def knows_crls(file: StateFile, teaching: Sequence[Issued]) -> bool:
    """Tell whether `keep_crls` would change nothing.

    Raises:
        Failed: `state.limit`.
    """
    rows = _rows(file)
    return set(_taught(rows, teaching)) == set(rows)


def keep_crls(file: StateFile, teaching: Sequence[Issued]) -> None:
    """Keep each issuer's CRLs with the highest number; another process may have stored some.

    If there are too many, CRLs of the CA that brought the most are removed (ADR 12).

    Raises:
        Failed: `state.limit`.
    """
    rows = _rows(file)
    kept = _taught(rows, teaching)
    for row in set(rows).difference(kept):
        file.run("DELETE FROM crls WHERE issuer = ? AND keys = ? AND crl = ?", *row)
    held = set(rows)
    for row in kept:
        if row not in held:
            file.run("INSERT INTO crls VALUES (?, ?, ?)", *row)


def _rows(file: StateFile) -> list[_Row]:
    return [_Row(*row) for row in file.run("SELECT issuer, keys, crl FROM crls ORDER BY rowid")]


def _taught(rows: Sequence[_Row], teaching: Sequence[Issued]) -> list[_Row]:
    """Return the CRLs to hold, with those held before first and in their order.

    A removed CRL comes again with the same release. It must be removed again, so that a device
    that polls for a release does not write each time: the CRL that came last is removed first.
    """
    kept = list(rows)
    for issued in teaching:
        issuer = (issued.certificate.issuer.public_bytes(), " ".join(reversed(issued.keys)))
        held = [row.data for row in kept if row[:2] == issuer]
        wanted = _newest(held, issued)
        kept = [row for row in kept if row[:2] != issuer or row.data in wanted]
        kept += [_Row(*issuer, data) for data in wanted if data not in held]
    size = sum(row.weight for row in kept)
    while size > MAX_HELD_SIZE:
        lost = _to_let_go(kept)
        kept.remove(lost)
        size -= lost.weight
    return kept


def _newest(held: Sequence[bytes], issued: Issued) -> list[bytes]:
    """Choose the CRLs of an issuer to hold, among those held and those that came."""
    places: dict[tuple[object, ...], list[Crl]] = {}  # a split list has several
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
    return [data for part in parts for data in part]


def _to_let_go(rows: Sequence[_Row]) -> _Row:
    """Choose a CRL to remove: go down from the anchors, each time to the CA with most below it.

    A CA can only bring CRLs from below itself. So it loses its own CRLs as long as it has the
    most, and it cannot make another CA's part larger. Of equal parts the later one loses.
    """
    part = [(row.keys.split(" "), row) for row in rows]
    for depth in range(max(len(keys) for keys, _ in part)):
        parts: dict[str, list[tuple[list[str], _Row]]] = {}
        for keys, row in part:
            parts.setdefault(keys[depth] if depth < len(keys) else "", []).append((keys, row))
        part = max(reversed(parts.values()), key=lambda one: sum(row.weight for _, row in one))
    return part[-1][1]
