# SPDX-License-Identifier: Apache-2.0
"""Which refusals get a receipt: each once, and so many that no stranger can fill the memory.

A hostile server answers each poll with other bytes, so each is another refusal. The first ones get
a receipt; of the rest, codes and times are counted, and the count is written into the chain: at
each doubling, and before the next receipt of any other kind, which opens the budget anew. Only the
owner's releases, updates and commands make such receipts.
"""

import json
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fwsign.receipts.fit import cut

MAX_WRITTEN: Final = 64
"""Refusals with a receipt of their own; whoever reads them has seen enough."""
MAX_BYTES: Final = 128 * 1024
"""Bytes of these receipts: a memory of 2 MB has room for a dozen good releases between."""
MAX_KNOWN: Final = 64
"""Refusals that are remembered, so that several that alternate are each written once."""
MAX_CODES: Final = 32
"""Codes that are counted one by one; there are more, and a stranger can cause some of them."""
_OTHERS: Final = "others"

What: TypeAlias = Literal["known", "write", "count"]
"""The refusal was written or counted before; it gets a receipt; it is counted only."""


class Refusals(NamedTuple):
    """The refusals since the last receipt of another kind.

    Args:
        known: short digests of the last ones.
        written: how many have a receipt.
        size: bytes of these receipts.
        dropped: code -> how many have none, and are not yet in the chain.
        total: how many have none in all.
        first: the clock's time of the first of `dropped`; None if there is none.
        last: that of the last.
    """

    known: tuple[str, ...] = ()
    written: int = 0
    size: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    total: int = 0
    first: str | None = None
    last: str | None = None

    def what(self, key: str) -> What:
        """Return what becomes of a refusal."""
        if key in self.known:
            return "known"
        room = self.written < MAX_WRITTEN and self.size < MAX_BYTES
        return "write" if room else "count"

    def with_written(self, key: str, size: int) -> "Refusals":
        """Return the record with a refusal that has a receipt of so many bytes."""
        kept = (*self.known, key)[-MAX_KNOWN:]
        return self._replace(known=kept, written=self.written + 1, size=self.size + size)

    def with_dropped(self, key: str, code: str, clock: str) -> "Refusals":
        """Return the record with a refusal that is counted only."""
        counts = dict(self.dropped)
        name = code if code in counts or len(counts) < MAX_CODES else _OTHERS
        counts[name] = counts.get(name, 0) + 1
        return self._replace(
            known=(*self.known, key)[-MAX_KNOWN:],
            dropped=tuple(counts.items()),
            total=self.total + 1,
            first=self.first or clock,
            last=clock,
        )

    @property
    def is_due(self) -> bool:
        """Whether the count is to be written now: its total is a power of two."""
        return self.total > 0 and self.total & (self.total - 1) == 0

    @property
    def facts(self) -> dict[str, Any]:
        """The count as receipts have it."""
        return {"dropped": dict(self.dropped), "first": self.first, "last": self.last}

    def told(self) -> "Refusals":
        """Return the record after its count was written."""
        return self._replace(dropped=(), first=None, last=None)

    def encode(self) -> str:
        """Return the record as the memory keeps it; inverse of `decode`."""
        return json.dumps(self._asdict())


def decode(text: str | None) -> Refusals:
    """Read a record; one that does not read counts as empty, since it decides about nothing."""
    try:
        found = Refusals(**json.loads(text or "{}"))
        clocks = [cut(str(one)) if one is not None else None for one in (found.first, found.last)]
        return Refusals(
            tuple(str(one)[:64] for one in found.known)[:MAX_KNOWN],
            int(found.written),
            int(found.size),
            tuple((str(code)[:64], int(count)) for code, count in found.dropped)[: MAX_CODES + 1],
            int(found.total),
            *clocks,
        )
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError, OverflowError):
        return Refusals()
