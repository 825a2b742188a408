# SPDX-License-Identifier: Apache-2.0
"""One run of reporting: from a gateway's memory, or a flasher's file, to its collector."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from fwsign.errors import Failed
from fwsign.gateway.config.device import Device
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.credentials import OF_FETCH, ClientKey
from fwsign.gateway.report.sending import CollectorAnswer, Reported, Send, send_waiting, status_in
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
    return send_to(spool, to, rules, at, device.report.seconds, name=device.identity.name())


def send_to(
    spool: Spool,
    to: str,
    rules: FetchRules,
    at: datetime,
    seconds: float,
    *,
    name: str | None = None,
    client: ClientKey = OF_FETCH,
) -> Reported:
    """Send the lines that wait in a spool.

    Args:
        spool: where they wait.
        to: the collector's address.
        rules: whom to trust, and the client's own certificate.
        at: the clock's time.
        seconds: the longest time.
        name: the device's name, which MQTT needs; None if it has none.
        client: the names of the client's files in errors.

    Raises:
        FwsignError: as `fwsign.gateway.report.sending.send_waiting`.
    """
    with contextlib.ExitStack() as stack:

        def opened_way() -> Send:
            if to.startswith("mqtts:"):
                return _over_mqtt(stack, to, rules, name)
            return _over_https(to, rules, client)

        return send_waiting(spool, to, _Lazy(opened_way), at, seconds)


class _Lazy:
    """Opens the way at the first batch, so that its faults count as tries."""

    def __init__(self, opened_way: Callable[[], Send]) -> None:
        self._open = opened_way
        self._send: Send | None = None

    def __call__(self, body: bytes, seconds: float) -> CollectorAnswer:
        if self._send is None:
            self._send = self._open()
        return self._send(body, seconds)


def _over_https(to: str, rules: FetchRules, client: ClientKey) -> Send:
    from fwsign.gateway.https.post import Poster

    poster = Poster(to, rules, client)

    def send(body: bytes, seconds: float) -> CollectorAnswer:
        found = poster.post(body, CONTENT_TYPE, seconds)
        return CollectorAnswer(found.status, found.body)

    return send


def _over_mqtt(stack: contextlib.ExitStack, to: str, rules: FetchRules, name: str | None) -> Send:
    from fwsign.mqtt.address import parse_broker  # few gateways have a broker
    from fwsign.mqtt.receipts import Uplink

    if name is None:
        what = "receipts go to a broker under the device's name, and device.toml has none"
        raise Failed("io.config", what, expected='id = "NAME" in device.toml', found="none")
    uplink = stack.enter_context(Uplink(parse_broker(to), rules, name))

    def send(body: bytes, seconds: float) -> CollectorAnswer:
        found = uplink.send(body, seconds)
        return CollectorAnswer(status_in(found), found)

    return send
