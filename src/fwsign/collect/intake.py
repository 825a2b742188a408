# SPDX-License-Identifier: Apache-2.0
"""Put judged lines into the store, in one transaction, and notice what is missing.

Lines that were stored before are acknowledged and not stored again. Lines that fill a gap, or come
late for another reason, change nothing of what the device runs now.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fwsign.collect.breaks import BreakKind, Breaks
from fwsign.collect.columns import columns_of, device_columns
from fwsign.collect.judge import JudgedBatch, NewLine
from fwsign.collect.quotas import Account, QuotaLimit, Quotas
from fwsign.collect.store import FleetRun
from fwsign.collect.summary import CountedLine, note

_ASKED: Final = 500
"""Digests in one question."""
_INSERT: Final = (
    "INSERT INTO receipts (device, chain, received, clock, kind, result, code, vendor, product,"
    " version, sequence, manifest, board, digest, previous, signer, line)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Taken(NamedTuple):
    """The answer to a batch.

    Args:
        device: the device whose lines they are.
        head: the digest of the last of these lines, all of which are stored now; None if none is.
        lines: their number.
        new: how many of them were not stored before.
        after: the newest line that is known from before, if lines between it and these are missing.
        payer: the name of the certificate whose account they are for.
        limit: the limit of that account which keeps the lines after these out; None if all fit.
    """

    device: str
    head: str | None
    lines: int
    new: int
    after: str | None = None
    payer: str = ""
    limit: QuotaLimit | None = None


class _Part(NamedTuple):
    """Consecutive lines of a batch that are new.

    Args:
        lines: the lines.
        late: whether they lie before lines that are known.
    """

    lines: Sequence[NewLine]
    late: bool


def take(
    run: FleetRun,
    batch: JudgedBatch,
    now: int,
    *,
    client: str | None = None,
    direct: bool = True,
    quotas: Quotas = Quotas(),  # noqa: B008 - it cannot change
) -> Taken:
    """Store the lines of a batch that count; at least one does.

    Args:
        run: a transaction for writing.
        batch: the judged lines.
        now: seconds since 1970, by the collector's clock.
        client: who brought them; None for the device itself.
        direct: whether the device itself sent them now; a broker may send old ones again.
        quotas: what one certificate may store.

    Raises:
        Failed: `io.store`.
    """
    lines, name = batch.lines, str(batch.owner)
    signed = all(one.receipt.signer is not None for one in lines)
    payer = name if signed or client is None else client
    account = Account(run, payer, now, quotas)
    select = f"SELECT device, chain, head FROM devices WHERE name = ?{run.lock}"  # noqa: S608
    found = run.rows(select, name)
    if not found:
        if not account.begin_device():  # a station must not invent them without end
            account.write()
            return Taken(name, None, 0, 0, payer=payer, limit=account.limit)
        run.rows(
            "INSERT INTO devices (name, first_heard, last_heard) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO NOTHING",
            *(name, now, now),
        )
        found = run.rows(select, name)
    ((device, chain, head),) = found
    known = _known(run, device, lines)
    breaks = Breaks(run, device, now)
    storing = _Storing(run, device, known, breaks, account, chain=chain, head=head, now=now)
    count = storing.add_all(lines[: account.fitting(lines, known, device)])
    last = lines[count - 1] if count else None
    if direct and not storing.fresh and last is not None:
        breaks.came_back(bytes.fromhex(last.follows), head, chain, account.begin_chain)
    storing.finish(heard=direct or storing.fresh > 0)
    account.write()
    after = head.hex() if storing.missing and head is not None else None
    end = last.receipt.digest if last is not None else None
    return Taken(name, end, count, storing.fresh, after, payer, account.limit)


def _known(run: FleetRun, device: int, lines: Sequence[NewLine]) -> set[bytes]:
    """Return the digests of these lines, and of those before them, that are stored."""
    texts = {text for one in lines for text in (one.receipt.digest, one.parent) if text is not None}
    asked = [bytes.fromhex(text) for text in texts]
    found: set[bytes] = set()
    for start in range(0, len(asked), _ASKED):
        part = asked[start : start + _ASKED]
        marks = ", ".join("?" * len(part))
        select = f"SELECT digest FROM receipts WHERE device = ? AND digest IN ({marks})"  # noqa: S608
        found |= {digest for (digest,) in run.rows(select, device, *part)}
    return found


def _parts(lines: Sequence[NewLine], known: set[bytes], breaks: Breaks) -> Iterator[_Part]:
    """Yield the parts of a batch that are new."""
    part: list[NewLine] = []
    for one in lines:
        if bytes.fromhex(one.receipt.digest) not in known:
            part.append(one)
        elif part:
            yield _Part(part, late=True)
            part = []
    if part:
        end = bytes.fromhex(part[-1].follows)
        yield _Part(part, late=end in known or breaks.is_missing(end))


class _Storing:
    """New lines of one device on their way into the store.

    Attributes:
        fresh: their number.
        missing: whether lines before some of them are missing.
    """

    def __init__(
        self,
        run: FleetRun,
        device: int,
        known: set[bytes],
        breaks: Breaks,
        account: Account,
        *,
        chain: int,
        head: bytes | None,
        now: int,
    ) -> None:
        self._run, self._device, self._known, self._breaks = run, device, known, breaks
        self._account = account
        self._chain, self._head, self._now = chain, head, now
        self._newest: NewLine | None = None
        self.fresh = 0
        self.missing = False

    def add_all(self, lines: Sequence[NewLine]) -> int:
        """Store what is new of consecutive lines; return how many of them are stored now."""
        for part in _parts(lines, self._known, self._breaks):
            if not self._add(part):
                return lines.index(part.lines[0])
        return len(lines)

    def _add(self, part: _Part) -> bool:
        """Store a part of a batch; tell whether it fits into the account."""
        first = part.lines[0]
        parent = bytes.fromhex(first.parent) if first.parent is not None else None
        kind = self._kind(first, parent, late=part.late)
        begins = kind is not None or not self._chain
        if begins and not self._account.begin_chain():
            return False
        self.missing |= kind in ("gap", "pruned")
        if not part.late and begins:
            self._chain += 1
        if kind is not None:
            lost = self._head if kind == "restart" else parent
            self._breaks.add(kind, lost, self._chain)
        self._run.many(_INSERT, map(self._row, part.lines))
        self._account.charge(part.lines)
        self.fresh += len(part.lines)
        self._breaks.close_gaps(bytes.fromhex(one.follows) for one in part.lines)
        if not part.late:
            self._breaks.close_behind()
            self._newest = part.lines[-1]
            self._head = bytes.fromhex(self._newest.follows)
        self._summarise(part)
        return True

    def _kind(self, first: NewLine, parent: bytes | None, *, late: bool) -> BreakKind | None:
        """Return the kind of the break before the first line of a part; None if there is none."""
        if parent == self._head:
            return None
        if parent is not None and parent not in self._known:
            return "gap" if first.follows == first.receipt.digest else "pruned"
        if late:
            return None
        return "restart" if parent is None else "fork"

    def _row(self, one: NewLine) -> tuple[object, ...]:
        receipt = one.receipt
        previous = receipt.content["previous"]
        return (
            self._device,
            self._chain,
            self._now,
            *columns_of(receipt.content),
            bytes.fromhex(receipt.digest),
            bytes.fromhex(previous) if previous is not None else None,
            receipt.signer,
            one.line,
        )

    def _summarise(self, part: _Part) -> None:
        """Bring what is known of the device up to date with each line."""
        lines = part.lines
        numbers: dict[bytes, int] = {}
        for start in range(0, len(lines), _ASKED):
            asked = [bytes.fromhex(one.receipt.digest) for one in lines[start : start + _ASKED]]
            marks = ", ".join("?" * len(asked))
            select = (
                f"SELECT digest, receipt FROM receipts WHERE device = ? AND digest IN ({marks})"  # noqa: S608
            )
            numbers |= dict(self._run.rows(select, self._device, *asked))
        with self._run.queued():
            for one in lines:
                number = numbers[bytes.fromhex(one.receipt.digest)]
                note(self._run, self._counted(one, number, newest=not part.late))

    def _counted(self, one: NewLine, number: int, *, newest: bool) -> CountedLine:
        content, signed = one.receipt.content, one.receipt.signer is not None
        return CountedLine(self._device, number, self._now, content, signed, newest=newest)

    def finish(self, *, heard: bool) -> None:
        """Write what all lines together say of the device, and whether it was heard now."""
        run, content = self._run, self._newest.receipt.content if self._newest else {}
        run.rows(
            "UPDATE devices SET last_heard = COALESCE(?, last_heard), receipts = receipts + ?,"
            " chain = ?, head = ?, vendor = COALESCE(?, vendor), product = COALESCE(?, product)"
            " WHERE device = ?",
            *(self._now if heard else None, self.fresh, self._chain, self._head),
            *(*device_columns(content), self._device),
        )
