# SPDX-License-Identifier: Apache-2.0
"""One run of reporting: from a gateway's memory, or a flasher's file, to its collector."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from fwsign.errors import Failed
from fwsign.gateway.config.device import Device
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.report.sending import CollectorAnswer, Reported, Send, send_waiting
from fwsign.gateway.report.spool import MemorySpool, Spool
from fwsign.gateway.run.session import fetch_rules, opened
from fwsign.memory.state import State

CONTENT_TYPE: Final = "application/jsonl"


def report(device: Device, at: datetime, *, only_if_due: bool = False) -> Reported | None:
    """Send the receipts of a gateway that wait, if device.toml names a collector.

    Args:
        device: the gateway.
        at: the clock's time.
        only_if_due: after tries that failed, wait longer and longer.

    Returns:
        The result; None if there is no collector, nothing waits, or it is not time yet.

    Raises:
        FwsignError: as `fwsign.gateway.report.sending.send_waiting`.
    """
    to = device.report.to
    if to is None:
        return None

    def memory() -> AbstractContextManager[State]:
        return opened(device)

    spool = MemorySpool(memory)
    place = spool.place(to)
    if only_if_due and not place.is_due(at):
        return None
    if next(spool.lines(place.number), None) is None:
        return None
    with memory() as state:
        rules = fetch_rules(device, state)
    return send_to(spool, to, rules, at, device.report.seconds)


def send_to(spool: Spool, to: str, rules: FetchRules, at: datetime, seconds: float) -> Reported:
    """Send the lines that wait in a spool.

    Args:
        spool: where they wait.
        to: the collector's address.
        rules: whom to trust, and the client's own certificate.
        at: the clock's time.
        seconds: the longest time.

    Raises:
        FwsignError: as `fwsign.gateway.report.sending.send_waiting`.
    """
    return send_waiting(spool, to, _Lazy(to, rules), at, seconds)


class _Lazy:
    """Opens the connection's settings at the first batch, so that their faults count as tries."""

    def __init__(self, to: str, rules: FetchRules) -> None:
        self._to, self._rules = to, rules
        self._send: Send | None = None

    def __call__(self, body: bytes, seconds: float) -> CollectorAnswer:
        if self._send is None:
            self._send = _over_https(self._to, self._rules)
        return self._send(body, seconds)


def _over_https(to: str, rules: FetchRules) -> Send:
    if not to.startswith("https:"):
        raise Failed(
            "io.fetch-address",
            f"receipts cannot be sent to {to}",
            expected="https://HOST/receipts",
            found=to,
        )
    from fwsign.gateway.https.post import Poster

    poster = Poster(to, rules)

    def send(body: bytes, seconds: float) -> CollectorAnswer:
        found = poster.post(body, CONTENT_TYPE, seconds)
        return CollectorAnswer(found.status, found.body)

    return send
