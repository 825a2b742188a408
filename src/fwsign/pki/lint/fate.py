# SPDX-License-Identifier: Apache-2.0
"""Lint rules about certificates that are dead by their path: a CA above is revoked or expired."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from fwsign.pki.lint.files import Seen
from fwsign.pki.lint.paths import Tree
from fwsign.pki.lint.rules import Finding, found
from fwsign.pki.paths.end import REVOKED


class Fates(NamedTuple):
    """The certificates that no path leads to any more, by DER, and what to say of them."""

    dead: frozenset[bytes]
    """The revoked and expired ones, and all that are below one of them alone."""
    below_revoked: frozenset[bytes]
    findings: tuple[Finding, ...]


def judge(tree: Tree, revoked: frozenset[bytes], now: datetime) -> Fates:
    """Judge each certificate by the end of its path; `revoked` holds the DER of revoked ones."""
    ends = tree.ends(revoked)
    by_der = {one.der: one for one in tree.certificates}
    dead = frozenset(der for der, end in ends.items() if end.time < now)
    above = {der: by_der[cause] for der in dead if (cause := ends[der].cause) is not None}
    below = frozenset(der for der in above if ends[der].time == REVOKED)
    return Fates(dead, below - revoked, tuple(_findings(tree, above, dead, revoked, now)))


def idle(tree: Tree, fates: Fates, revoked: frozenset[bytes], now: datetime) -> frozenset[bytes]:
    """Return the CAs whose work others have taken over, by DER: nothing in use is below them.

    A lost or expired root is one after a rotation, once the last certificate below it has ended. If
    no CA is in use, none has taken over.
    """
    taken = {one.parsed.subject for one in tree.certificates if one.der not in fates.dead}

    def waits(one: Seen) -> bool:
        """Tell whether a certificate is dead by its path alone, and nothing has replaced it."""
        in_date = one.parsed.not_valid_after_utc >= now
        replaced = one.der in revoked or one.parsed.subject in taken
        return in_date and one.der in fates.dead and not replaced

    def is_busy(one: Seen, seen: frozenset[bytes]) -> bool:
        below = [kid for kid in tree.below(one) if kid.der not in seen]
        if not one.is_ca or not below:
            return one.der not in fates.dead or waits(one)
        if one.der in fates.dead:
            return any(map(waits, below))
        return any(is_busy(kid, seen | {kid.der}) for kid in below)

    authorities = [one for one in tree.certificates if one.is_ca]
    busy = {one.der for one in authorities if is_busy(one, frozenset({one.der}))}
    return frozenset(one.der for one in authorities if one.der not in busy) if busy else frozenset()


def _findings(
    tree: Tree,
    above: dict[bytes, Seen],
    dead: frozenset[bytes],
    revoked: frozenset[bytes],
    now: datetime,
) -> Iterator[Finding]:
    """Name what would still be in use: not what ended itself, and not what was replaced."""
    replaced = {one.parsed.subject for one in tree.certificates if one.der not in dead}
    for one in tree.certificates:
        ca = above.get(one.der)
        if ca is None or one.der in revoked or one.parsed.not_valid_after_utc < now:
            continue
        if one.parsed.subject in replaced:
            continue
        if ca.der in revoked:
            yield found("lint.ca-revoked", one.name, one.file, f'below "{ca.name}", a revoked CA')
        else:
            end = ca.parsed.not_valid_after_utc
            words = f'below "{ca.name}", a CA that expired {end:%Y-%m-%d}'
            yield found("lint.ca-expired", one.name, one.file, words)
