# SPDX-License-Identifier: Apache-2.0
"""When the path of a certificate ends: a certificate lives as long as one path to a root does.

A path ends with the first of its certificates that ends, and at once if one is revoked. The dates
of a root do not count for what fwsign verifies; TLS programs mind them. Of several paths, by a
cross-certificate or a renewed CA, the last to end counts.

`show`, `lint`, `expire` and `renew` all ask here. Nothing here decides about trust.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

N = TypeVar("N", bound="Hashable")

TLS: Final = ("server", "client")
"""The kinds of leaves for which the dates of a root count."""
REVOKED: Final = datetime.min.replace(tzinfo=UTC)
"""The end of what is below a revoked certificate: before all times."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class PathLink(NamedTuple, Generic[N]):
    """A certificate among others."""

    issuers: Sequence[N]
    """The certificates here whose key signed it, itself if it is a root; empty if none is here."""
    end: datetime
    revoked: bool
    tls: bool = False
    """Whether it is a TLS server's or client's, for which the dates of a root count."""


class PathEnd(NamedTuple, Generic[N]):
    """The end of a path; `cause` is the certificate above that ends it, None if it ends itself."""

    time: datetime
    cause: N | None


def path_ends(links: Mapping[N, PathLink[N]]) -> dict[N, PathEnd[N]]:
    """Return when each certificate's last path ends, and by which certificate.

    A certificate whose issuer is not here, or that is in a circle without a root, ends by itself.
    """
    for_code, for_tls = _ends(links, dated_roots=False), _ends(links, dated_roots=True)
    found = {}
    for one, link in links.items():
        time, cause = (for_tls if link.tls else for_code)[one]
        found[one] = PathEnd(time, None if cause == one else cause)
    return found


def _ends(links: Mapping[N, PathLink[N]], *, dated_roots: bool) -> dict[N, tuple[datetime, N]]:
    """Go down from the tops, the latest end first, so that each is reached by its best path."""
    below: dict[N, list[N]] = {}
    for one, link in links.items():
        for issuer in link.issuers:
            below.setdefault(issuer, []).append(one)
    own = {one: _own_end(one, link, dated_roots=dated_roots) for one, link in links.items()}
    tops = [one for one, link in links.items() if one in link.issuers or not link.issuers]
    found: dict[N, tuple[datetime, N]] = {}
    for group in (tops, *([one] for one in links)):  # those that no top reaches are in a circle
        order = count()  # keeps certificates out of comparisons
        queue = [
            (-own[one].timestamp(), next(order), one, one) for one in group if one not in found
        ]
        heapq.heapify(queue)
        while queue:
            _, _, last, cause = heapq.heappop(queue)
            if last in found:
                continue
            found[last] = (own[cause], cause)
            for child in below.get(last, ()):
                first = min(child, cause, key=lambda one: own[one])
                heapq.heappush(queue, (-own[first].timestamp(), next(order), child, first))
    return found


def _own_end(one: N, link: PathLink[N], *, dated_roots: bool) -> datetime:
    if link.revoked:
        return REVOKED
    return link.end if dated_roots or one not in link.issuers else _NEVER
