# SPDX-License-Identifier: Apache-2.0
"""Send the lines that wait, batch by batch, until the collector has acknowledged them all.

What a server answers is not trusted. It changes nothing but the place up to which lines count as
acknowledged, and only to a line that was sent. One that lies hides later lines from its owner; the
chain shows it, since the next line that arrives names one that never came.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from fwsign.errors import Failed, FwsignError, Malformed
from fwsign.gateway.report.spool import Spool, SpoolPlace
from fwsign.receipts.chain import line_digest

MAX_BATCH: Final = 96 * 1024
"""Bytes of lines that are sent at once; brokers of MQTT take little more."""
MAX_BATCH_LINES: Final = 500
MAX_BATCHES: Final = 1000
"""Batches of one run; the next run goes on."""
_MAX_WORDS: Final = 300
_OK: Final = 200
_LATER: Final = (413, 429)
"""The statuses of a collector that has taken as much as it may, of this device or now."""


class CollectorAnswer(NamedTuple):
    """A collector's answer: the status as in HTTP, and the body."""

    status: int
    body: bytes


Send: TypeAlias = Callable[[bytes, float], CollectorAnswer]
"""Sends a batch within so many seconds, and returns the answer.

Raises:
    Failed: `io.fetch-*`: it did not arrive, or there is no answer.
"""


class Reported(NamedTuple):
    """The result of a run.

    Args:
        sent: the number of lines that were acknowledged.
        head: the digest of the last line that is acknowledged; None if none is.
        finished: whether none waits any more.
    """

    sent: int
    head: str | None
    finished: bool = True


class _Batch(NamedTuple):
    """Lines that are sent at once, with their numbers and digests."""

    body: bytes
    digests: dict[str, int]


def send_waiting(spool: Spool, to: str, send: Send, at: datetime, seconds: float) -> Reported:
    """Send the lines that wait.

    Args:
        spool: where they wait.
        to: the collector's address.
        send: sends a batch.
        at: the clock's time.
        seconds: the longest time for all batches.

    Raises:
        Failed: `io.fetch-*`, `state.*`, `io.*`; what was acknowledged before stays so, and the try
            is counted as failed.
        Malformed: `malformed.receipt`: what waits is no receipt.
        FwsignError: the collector's refusal of a line, under its own code.
    """
    return _Run(spool, spool.place(to), send, time.monotonic() + seconds).run(at)


class _Run:
    def __init__(self, spool: Spool, place: SpoolPlace, send: Send, deadline: float) -> None:
        self._spool, self._place, self._send, self._deadline = spool, place, send, deadline
        self._sent, self._went_back = 0, False

    def run(self, at: datetime) -> Reported:
        for _ in range(MAX_BATCHES):
            batch = _next_batch(self._spool.lines(self._place.number))
            if batch is None:
                if self._place.failures:
                    self._keep(self._place._replace(failures=0))
                return Reported(self._sent, self._place.digest or None)
            left = self._deadline - time.monotonic()
            if left <= 0:
                break
            try:
                self._judge(batch, self._send(batch.body, left))
            except FwsignError:
                self._keep(self._place.failed(at))
                raise
        return Reported(self._sent, self._place.digest or None, finished=False)

    def _judge(self, batch: _Batch, answer: CollectorAnswer) -> None:
        """Take the place that an answer acknowledges, or go back to what the collector lacks."""
        found = _object(answer.body)
        head = found.get("head")
        number = batch.digests.get(head) if isinstance(head, str) else None
        if isinstance(head, str) and number is not None:
            self._sent += sum(one <= number for one in batch.digests.values())
            self._keep(self._place._replace(number=number, digest=head, failures=0))
        if answer.status != _OK:
            raise _refusal(self._place.to, answer.status, found)
        if number is None:
            what = "it acknowledges a receipt that was not sent"
            raise Failed("io.fetch-protocol", f"{self._place.to}: {what}", found=_word(head))
        after = found.get("after")
        if isinstance(after, str) and not self._went_back:
            self._went_back = True  # once in a run, since a stranger asks
            self._go_back(after, min(batch.digests.values()))

    def _go_back(self, after: str, before: int) -> None:
        """Send lines again that the collector lost: those after a line that it names."""
        for number, line in self._spool.lines(0):
            if number >= before:
                return
            if line_digest(line) == after:
                self._keep(self._place._replace(number=number, digest=after))
                return

    def _keep(self, place: SpoolPlace) -> None:
        self._spool.keep(place)
        self._place = place


def _next_batch(lines: Iterator[tuple[int, str]]) -> _Batch | None:
    body, digests = bytearray(), dict[str, int]()
    try:
        for number, line in lines:
            data = line.encode() + b"\n"
            if digests and (len(body) + len(data) > MAX_BATCH or len(digests) == MAX_BATCH_LINES):
                break
            body += data
            digests[line_digest(line)] = number
    except Malformed:  # those before it go first
        if not digests:
            raise
    return _Batch(bytes(body), digests) if digests else None


def status_in(body: bytes) -> int:
    """Return the status that an answer over MQTT names; 0 if it names none."""
    status = _object(body).get("status")
    return status if isinstance(status, int) else 0


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(to: str, status: int, found: dict[str, Any]) -> Failed:
    """Return the error for an answer that is not 200."""
    words = f"{_word(found.get('code'))}: {_word(found.get('message'))}"
    if status in _LATER:
        return Failed(
            "io.fetch-status",
            f"{to}: the collector takes no more receipts now, with status {status}: {words}",
            expected="status 200",
            found=f"status {status}",
            hint="they stay here, and are sent again later; the collector's owner sets its limits",
        )
    return Failed(
        "io.fetch-status",
        f"{to}: the collector refuses the receipts, with status {status}: {words}",
        expected="status 200",
        found=f"status {status}",
        hint="they stay here; fwsign receipts verify tells whether they are whole and signed",
    )


def _word(value: object) -> str:
    return value[:_MAX_WORDS] if isinstance(value, str) else "nothing"
