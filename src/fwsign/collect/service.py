# SPDX-License-Identifier: Apache-2.0
"""From a batch of lines to its answer, without a network.

Lines that count are stored before they are acknowledged; nothing of a batch is stored if the
database fails. A wrong line ends its batch: it is kept apart, the lines before it count, and the
answer says both.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from fwsign.collect.forged import MAX_WORDS, reject
from fwsign.collect.intake import Taken, take
from fwsign.collect.judge import CollectorTrust, JudgedBatch, judge_batch, split
from fwsign.collect.quotas import QuotaLimit, Quotas
from fwsign.collect.store import FleetStore
from fwsign.errors import Failed, FwsignError

RETRY_SECONDS: Final = 30
"""When a client may try again after the database failed."""
WRONG: Final = 422
"""The status for lines of which one does not count."""
TOMORROW: Final = 429
"""The status for lines beyond what a certificate may store in a day."""
FULL: Final = 413
"""The status for lines beyond what a certificate may store at all."""
UNAVAILABLE: Final = 503
"""The status if the database fails."""
LATER: Final = (TOMORROW, FULL, UNAVAILABLE)
"""The statuses after which a device keeps its lines and sends them again later."""
BROKER: Final = "a broker"
"""Who brought a line that came by one. Its topics name whom it likes, and no certificate."""


class IntakeReply(NamedTuple):
    """An answer.

    Args:
        status: that of HTTP.
        content: the JSON object.
        note: for the collector's operator; empty if there is nothing to say.
        retry: seconds until the client may try again; None if it need not.
    """

    status: int
    content: Mapping[str, Any]
    note: str = ""
    retry: int | None = None


class CollectorService:
    """Takes batches; safe in several threads.

    Args:
        store: the database.
        clock: returns the collector's time.
        quotas: what one certificate may store.
    """

    def __init__(
        self,
        store: FleetStore,
        clock: Callable[[], datetime],
        quotas: Quotas = Quotas(),  # noqa: B008 - it cannot change
    ) -> None:
        self.store, self._clock, self._quotas = store, clock, quotas

    def receive(
        self, body: bytes, client: str, trust: CollectorTrust, *, direct: bool = True
    ) -> IntakeReply:
        """Judge and store a batch.

        Args:
            body: lines of one chain.
            client: the name in the client's certificate, or the device whose topic it came by.
            trust: what receipts are judged by now.
            direct: whether the client itself sent it now.
        """
        try:
            batch = judge_batch(split(body), client, trust)
        except FwsignError as refusal:  # not even lines
            return refused(400, refusal)
        now = int(self._clock().timestamp())
        try:
            taken = self._store(batch, client, now, direct=direct)
        except Failed as error:
            return IntakeReply(
                UNAVAILABLE,
                {"code": error.code, "message": "the collector cannot keep it now"},
                error.message,
                RETRY_SECONDS,
            )
        return _reply(taken, batch, now)

    def _store(self, batch: JudgedBatch, client: str, now: int, *, direct: bool) -> Taken | None:
        taken = None
        with self.store.transaction() as run:
            if batch.lines:
                # What a station brings may be an old copy: it says nothing of where a device is.
                own = direct and batch.owner == client
                taken = take(run, batch, now, client=client, direct=own, quotas=self._quotas)
            full = taken is not None and taken.limit is not None  # the wrong line comes again
            if batch.refusal is not None and not full:
                reject(run, client if direct else BROKER, batch.refused, batch.refusal, now)
        return taken


def refused(status: int, refusal: FwsignError) -> IntakeReply:
    """Return the answer to what is refused."""
    content = {"code": refusal.code, "message": refusal.message[:MAX_WORDS]}
    return IntakeReply(status, content, f"{refusal.code}: {refusal.message}")


def _reply(taken: Taken | None, batch: JudgedBatch, now: int) -> IntakeReply:
    stored: dict[str, Any] = {}
    note = ""
    if taken is not None:
        if taken.head is not None:
            stored = {"device": taken.device, "head": taken.head, "lines": taken.lines}
        if taken.after is not None:
            stored["after"] = taken.after
        note = f"{taken.device}: {taken.new} new of {taken.lines}"
        if taken.limit is not None:
            return _full(taken.payer, taken.limit, stored, now)
    if batch.refusal is None:
        return IntakeReply(200, stored, note)
    wrong = refused(WRONG, batch.refusal)
    return wrong._replace(content={**wrong.content, **stored})


def _full(payer: str, limit: QuotaLimit, stored: Mapping[str, Any], now: int) -> IntakeReply:
    """Return the answer to lines that do not fit, of which some may be stored."""
    reply = refused(TOMORROW if limit.daily else FULL, limit.refusal(payer))
    return reply._replace(content={**reply.content, **stored}, retry=limit.retry(now))
