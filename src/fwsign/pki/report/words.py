# SPDX-License-Identifier: Apache-2.0
"""The words for certificates of an inventory, the same in the tree and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwsign.pki.report.inventory import Standing
from fwsign.pki.view.entry import old_fingerprints, visible
from fwsign.spans import plain_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from fwsign.pki.report.inventory import EndingCa, Entry
    from fwsign.pki.view.entry import Facts

BELOW: Final = (Standing.CA_EXPIRED, Standing.CA_REVOKED)
"""The states of a certificate that is dead by its path alone."""


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


def path_note(entry: Entry, at: datetime, clean: Callable[[str], str] = visible) -> str:
    """Return how the path ends a certificate before its own time; empty if it does not."""
    above, standing = entry.above, entry.standing(at)
    if above is None or (standing.dead and standing not in BELOW):
        return ""
    if standing in BELOW:
        return f'below "{clean(above.name)}": {_fate(above, standing)}'
    return f'it ends with "{clean(above.name)}"'


def _fate(above: EndingCa, standing: Standing) -> str:
    if standing is Standing.CA_REVOKED and above.revocation:
        return f"its CA was revoked {above.revocation.date:%Y-%m-%d}"
    return f"its CA ended {above.end:%Y-%m-%d}"


def details(entry: Entry, clean: Callable[[str], str] = visible) -> list[str]:
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
    if key is None:
        return "private key not here"
    return f"key at {key.uri}" if key.uri else f"key in {key.file}, {key.state}"


def in_full(said: Facts) -> list[str]:
    """Return the serial number, the fingerprints and the key identifiers of a certificate."""
    old = old_fingerprints(said.der)
    found = [f"serial {said.serial}", f"SHA-256 {said.sha256}"]
    found += [f"SHA-1 {old['sha1']}", f"MD5 {old['md5']}"]
    found += [f"key SHA-256 {said.key_sha256}"] * bool(said.key_sha256)
    for word, identifier in (("subject", said.subject_key), ("authority", said.authority_key)):
        if identifier is not None:
            found.append(f"{word} key identifier {identifier.hex()}")
    return found
