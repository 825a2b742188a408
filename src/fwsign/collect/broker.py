# SPDX-License-Identifier: Apache-2.0
"""Receipts that come by a broker: the topic names the device, and its signature proves it.

The broker is not trusted. It can hold lines back or bring them twice, and neither changes what is
known of a device: what it brings again is stored already, and does not count as the device's word.
"""

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from fwsign.collect.app import OVERALL, PER_CLIENT, CollectorEvent
from fwsign.collect.clients import Clients
from fwsign.collect.service import LATER, CollectorService
from fwsign.errors import FwsignError
from fwsign.est.limits import RateLimits
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.mqtt.address import Broker
from fwsign.mqtt.receipts import serve

STOP_SECONDS: Final = 10.0
"""How long a stopping collector waits for the message in progress."""


class BrokerPlace(NamedTuple):
    """A broker, whom to trust as one, and the collector's own certificate."""

    broker: Broker
    rules: FetchRules


class BrokerIntake:
    """Takes receipts from a broker, in a thread of its own; a context manager.

    Args:
        place: the broker.
        service: judges and stores.
        clients: whose receipts count.
        tell: told of each message, and of connections that end.
    """

    def __init__(
        self,
        place: BrokerPlace,
        service: CollectorService,
        clients: Clients,
        tell: Callable[[CollectorEvent], object],
    ) -> None:
        self._place, self._service = place, service
        self._clients, self._tell = clients, tell
        # Its own: a broker must not use up what clients of HTTPS may send.
        self._limits = RateLimits(PER_CLIENT, OVERALL, str)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fwsign-mqtt", daemon=True)

    def __enter__(self) -> "BrokerIntake":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            serve(
                *self._place,
                self._answer,
                self._stop.is_set,
                tell=lambda words: self._tell(CollectorEvent("mqtt", 0, words)),
                share=random.random,
            )
        except FwsignError as error:
            self._tell(CollectorEvent("mqtt", 0, f"no more receipts by MQTT: {error.message}"))

    def _answer(self, device: str, body: bytes) -> bytes | None:
        """Return the answer to lines; None if they are to be sent again later."""
        if not self._limits.take(device, time.monotonic()):
            return None
        # The topic proves nothing, so neither stations nor lines without a signature are let in.
        trust = self._clients.trust()._replace(stations=(), unsigned=False)
        try:
            reply = self._service.receive(body, device, trust, direct=False)
        except Exception as error:  # noqa: BLE001 - one message never ends the collector
            self._tell(CollectorEvent(device, 0, f"{type(error).__name__}"))
            return None
        self._tell(CollectorEvent(device, reply.status, reply.note))
        if reply.status in LATER:
            return None
        return json.dumps({"status": reply.status, **reply.content}).encode()
