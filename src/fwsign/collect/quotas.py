# SPDX-License-Identifier: Apache-2.0
"""How much one certificate may store: a device can invent boards, chains and lines without end.

The lines of a batch are for the account of who signed them; lines without a signature are for that
of the client that brought them. What fits is stored, and the rest is refused for now: the device
keeps it, and sends it again. A day is one of the collector's clock, in UTC. Lines that are stored
already cost nothing, so a broker that brings them twice uses up nobody's account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.collect.summary import board_of
from fwsign.errors import Failed
from fwsign.receipts.chain import device_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.collect.judge import NewLine
    from fwsign.collect.store import FleetRun

MIB: Final = 1024 * 1024
DAY: Final = 24 * 3600
LATER_SECONDS: Final = 6 * 3600
"""When a client may try again after a limit that no new day lifts."""
_ASKED: Final = 500
"""Boards in one question."""


class Quotas(NamedTuple):
    """What one certificate may store; a limit itself is still within.

    Args:
        gateway_boards: boards that a gateway may have flashed: whoever reports for a device.
        boards: boards that a station may have flashed, ever.
        chains: beginnings of a record, such as after a lost memory, and other breaks.
        day_lines: new lines of one day: eight slots that flash a board a minute write 11,520.
        day_bytes: bytes of these; the largest signatures make 35 thousand for each line.
        total_bytes: bytes of all lines.
    """

    gateway_boards: int = 64
    boards: int = 1_000_000
    chains: int = 10_000
    day_lines: int = 20_000
    day_bytes: int = 512 * MIB
    total_bytes: int = 64 * 1024 * MIB


class QuotaLimit(NamedTuple):
    """A limit that a certificate has reached.

    Args:
        words: the limit, in words.
        found: what there would be beyond it.
        most: the limit.
        daily: whether a new day lifts it.
    """

    words: str
    found: int
    most: int
    daily: bool = False

    def refusal(self, name: str) -> Failed:
        """Return the error for a certificate at this limit."""
        return Failed(
            "state.limit",
            f'"{name:.80}" is at its limit: {self.found} {self.words}',
            expected=f"at most {self.most}",
            found=self.found,
        )

    def retry(self, now: int) -> int:
        """Return the seconds until it is worth to try again."""
        return DAY - now % DAY if self.daily else LATER_SECONDS


class Account:
    """What one certificate has stored, inside a transaction.

    Args:
        run: a transaction for writing.
        name: the name in the certificate.
        now: seconds since 1970, by the collector's clock.
        quotas: what it may store.

    Attributes:
        limit: the limit that it has reached; None if everything fitted.
    """

    def __init__(self, run: FleetRun, name: str, now: int, quotas: Quotas) -> None:
        self._run, self._name, self._now, self._quotas = run, name, now, quotas
        self.limit: QuotaLimit | None = None
        select = (
            "SELECT day, day_lines, day_bytes, total_bytes, boards, chains, gateway"  # noqa: S608
            f" FROM accounts WHERE name = ?{run.lock}"
        )
        rows = run.rows(select, name)
        day, lines, size, *kept = rows[0] if rows else (0,) * 7
        self._today = now // DAY
        is_today = day == self._today
        self._lines, self._size = int(lines) * is_today, int(size) * is_today
        self._total, self._boards, self._chains = map(int, kept[:3])
        self._gateway, self._changed = bool(kept[3]), False
        self._named: dict[str, str] = {}  # digest of a line -> the new board that it brings

    def fitting(self, lines: Sequence[NewLine], known: set[bytes], device: int) -> int:
        """Return how many of these lines fit, and note the limit if these are not all.

        Args:
            lines: consecutive lines of a device.
            known: digests of lines that are stored already.
            device: the device's number.
        """
        new = [one for one in lines if bytes.fromhex(one.receipt.digest) not in known]
        boards = self._new_boards(new, device)
        self._gateway |= any(device_of(one.receipt.content) is not None for one in new)
        count, size, seen = self._lines, self._size, set[str]()
        fresh = iter(new)
        following = next(fresh, None)
        for number, one in enumerate(lines):
            if one is not following:
                continue  # it is stored
            following = next(fresh, None)
            count, size = count + 1, size + _size(one)
            board = board_of(one.receipt.content) if boards else ""
            if board in boards and board not in seen:
                seen.add(board)
                self._named[one.receipt.digest] = board
            self.limit = self._reached(count, size, self._boards + len(seen))
            if self.limit is not None:
                return number
        return len(lines)

    def _reached(self, count: int, size: int, boards: int) -> QuotaLimit | None:
        """Return the limit that would be passed by so many lines, bytes and boards."""
        most, total = self._quotas, self._total + size - self._size
        at_most = most.gateway_boards if self._gateway else most.boards
        is_full = count > most.day_lines or size > most.day_bytes or total > most.total_bytes
        if not is_full and boards <= max(at_most, self._boards):
            return None
        of = "boards of a gateway" if self._gateway else "boards"
        limits = (
            QuotaLimit("lines in a day", count, most.day_lines, daily=True),
            QuotaLimit("bytes in a day", size, most.day_bytes, daily=True),
            QuotaLimit("bytes", total, most.total_bytes),
            QuotaLimit(of, boards, at_most),
        )
        # What only a person can lift is told first.
        passed = [one for one in limits if one.found > one.most]
        passed = [one for one in passed if one.words != of or boards > self._boards]
        return min(passed, key=lambda one: one.daily)

    def begin_chain(self) -> bool:
        """Count a chain that begins; tell whether it may, and note the limit if it may not."""
        if self._chains >= self._quotas.chains:
            self.limit = self._no_chain()
            return False
        self._chains += 1
        self._changed = True
        return True

    def begin_device(self) -> bool:
        """Tell whether a device may be begun that is not known yet; note the limit if not."""
        self.limit = self._reached(self._lines + 1, self._size + 1, self._boards)
        if self._chains >= self._quotas.chains:
            self.limit = self._no_chain()
        return self.limit is None

    def _no_chain(self) -> QuotaLimit:
        return QuotaLimit("chains", self._chains + 1, self._quotas.chains)

    def charge(self, lines: Sequence[NewLine]) -> None:
        """Count lines that were stored."""
        size = sum(map(_size, lines))
        self._lines, self._size = self._lines + len(lines), self._size + size
        self._total, self._changed = self._total + size, True
        self._boards += sum(one.receipt.digest in self._named for one in lines)

    def write(self) -> None:
        """Write it, if there is anything new to write."""
        if not self._changed and self.limit is None:
            return  # lines that were stored before lift no limit, either
        limit = self.limit
        words = f"{limit.most} {limit.words}" if limit is not None else None
        again = int(limit is not None)
        self._run.rows(
            "INSERT INTO accounts (name, day, day_lines, day_bytes, total_bytes, boards, chains,"
            " gateway, limited, limited_at, refused) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET day = excluded.day,"
            " day_lines = excluded.day_lines, day_bytes = excluded.day_bytes,"
            " total_bytes = excluded.total_bytes, boards = excluded.boards,"
            " chains = excluded.chains, gateway = excluded.gateway, limited = excluded.limited,"
            " limited_at = excluded.limited_at,"
            " refused = CASE WHEN excluded.limited IS NULL THEN 0 ELSE accounts.refused + 1 END",
            *(self._name, self._today, self._lines, self._size, self._total, self._boards),
            *(self._chains, int(self._gateway), words, self._now if words else None, again),
        )

    def _new_boards(self, lines: Sequence[NewLine], device: int) -> set[str]:
        """Return the boards of these lines that this device has not reported before."""
        named = {board_of(one.receipt.content) for one in lines} - {""}
        asked = sorted(named)
        for start in range(0, len(asked), _ASKED):
            part: list[Any] = asked[start : start + _ASKED]
            marks = ", ".join("?" * len(part))
            select = f"SELECT board FROM running WHERE device = ? AND board IN ({marks})"  # noqa: S608
            named -= {board for (board,) in self._run.rows(select, device, *part)}
        return named


def _size(one: NewLine) -> int:
    return (len(one.line) if one.line.isascii() else len(one.line.encode())) + 1
