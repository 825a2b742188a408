# SPDX-License-Identifier: Apache-2.0
"""Lint rules about certificates that are dead by their path: a CA above is revoked or expired."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from fwsign.pki.lint_files import Seen
from fwsign.pki.lint_paths import Tree
from fwsign.pki.lint_rules import Finding, found
from fwsign.pki.path_end import REVOKED


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
