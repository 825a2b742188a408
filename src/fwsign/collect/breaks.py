# SPDX-License-Identifier: Apache-2.0
"""Places where a device's record is not one whole chain.

Lines are missing before a line (a gap, or "pruned" if the device says that it removed them); two
lines name the same one before them (a fork: lines were deleted, or an old memory was put back); a
chain begins anew (a restart); a device comes back with an older end than is known (behind). The
lines count all the same, since they are signed, and the break stays until what was missing comes.
"""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from fwsign.collect.store import FleetRun

BreakKind: TypeAlias = Literal["gap", "pruned", "fork", "restart", "behind"]


class Breaks:
    """The breaks in one device's record, inside a transaction.

    Args:
        run: a transaction for writing.
        device: the device's number.
        now: seconds since 1970, by the collector's clock.
    """

    def __init__(self, run: FleetRun, device: int, now: int) -> None:
        self._run, self._device, self._now = run, device, now
        rows = run.rows(
            "SELECT kind, digest FROM breaks WHERE device = ? AND closed IS NULL"
            " AND kind IN ('gap', 'pruned', 'behind')",
            device,
        )
        self._missing = {digest for kind, digest in rows if kind != "behind"}
        self._is_behind = any(kind == "behind" for kind, _ in rows)

    def is_missing(self, digest: bytes) -> bool:
        """Tell whether a line is the last one of lines that are missing."""
        return digest in self._missing

    def add(self, kind: BreakKind, digest: bytes | None, chain: int) -> None:
        """Note a break.

        Args:
            kind: its kind.
            digest: as `fwsign.collect.schema` says for the kind.
            chain: the number of the chain that begins after it.
        """
        self._run.rows(
            "INSERT INTO breaks (device, kind, noticed, digest, chain) VALUES (?, ?, ?, ?, ?)",
            *(self._device, kind, self._now, digest, chain),
        )

    def close_gaps(self, digests: Iterable[bytes]) -> None:
        """Note that lines came which were missing."""
        for digest in self._missing.intersection(digests):
            self._run.rows(
                "UPDATE breaks SET closed = ? WHERE device = ? AND digest = ?"
                " AND kind IN ('gap', 'pruned') AND closed IS NULL",
                *(self._now, self._device, digest),
            )

    def came_back(
        self, end: bytes, head: bytes | None, chain: int, may_note: Callable[[], bool]
    ) -> None:
        """Compare the newest line of a device that sent nothing new with the one that is known.

        Args:
            end: the newest line that it sent.
            head: the newest line that is known.
            chain: the number of its chain.
            may_note: asked before a break is noted: who comes and goes for ever fills no disk.
        """
        if end == head:
            self.close_behind()
        elif not self._is_behind and may_note():
            self.add("behind", end, chain)

    def close_behind(self) -> None:
        """Note that a device has its newest lines after all."""
        if self._is_behind:
            self._run.rows(
                "UPDATE breaks SET closed = ? WHERE device = ? AND kind = 'behind'"
                " AND closed IS NULL",
                *(self._now, self._device),
            )
