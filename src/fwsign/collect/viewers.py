# SPDX-License-Identifier: Apache-2.0
"""Who may look at a collector's page: clients whose certificate has a name that its owner gave."""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final, Protocol

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fwsign.collect.app import PEER, CollectorEvent
from fwsign.collect.clients import ClientNames, Clients
from fwsign.errors import FwsignError
from fwsign.est.limits import RateLimits

VIEWS: Final = 600
"""Requests of one viewer in a minute: each search is some."""
ALL_VIEWS: Final = 6000
"""Requests of all viewers in a minute."""
WORKERS: Final = 2
"""Questions to the database at once, beside the batches that are taken."""


class PageAnswer(Protocol):
    """An answer to a request."""

    @property
    def status(self) -> int:
        """The status of HTTP."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    @property
    def body(self) -> bytes:
        """The body."""


class Pages(Protocol):
    """What viewers see, as `fwsign.fleet.web.FleetPages`."""

    def answer(self, path: str, query: Mapping[str, str]) -> PageAnswer:
        """Answer a GET of a viewer."""


class Viewers:
    """The part of the application for those who look.

    Args:
        pages: answers them.
        clients: judges their certificates.
        names: the names that may look.
        clock: returns the collector's time.
        tell: told of each request that is refused.
    """

    def __init__(
        self,
        pages: Pages,
        clients: Clients,
        names: Collection[str],
        clock: Callable[[], datetime],
        tell: Callable[[CollectorEvent], object],
    ) -> None:
        self._pages, self._names, self._allowed = pages, ClientNames(clients), frozenset(names)
        self._clock, self._tell = clock, tell
        self._limits = RateLimits(VIEWS, ALL_VIEWS, str)
        self._workers: CapacityLimiter | None = None

    def route(self) -> Route:
        """Return the route of everything that can be looked at."""
        return Route("/{path:path}", self._look, methods=["GET"])

    async def _look(self, request: Request) -> Response:
        if self._workers is None:
            self._workers = CapacityLimiter(WORKERS)  # of the loop that runs now
        return await to_thread.run_sync(lambda: self._answer(request), limiter=self._workers)

    def _answer(self, request: Request) -> Response:
        chain = request.scope.get(PEER) or ()
        client = request.client.host if request.client else "-"
        try:
            if not chain:
                return self._refuse(client, 403, "a certificate of a TLS client is needed")
            client = self._names.name_of(chain, self._clock())
        except FwsignError as refusal:
            return self._refuse(client, 403, f"{refusal.code}: {refusal.message}")
        if client not in self._allowed:
            return self._refuse(client, 403, f'"{client:.80}" may not look; --viewer names who may')
        if not self._limits.take(client, time.monotonic()):
            return self._refuse(client, 429, "too many requests")
        found = self._pages.answer(request.url.path, dict(request.query_params))
        return Response(found.body, found.status, dict(found.headers))

    def _refuse(self, client: str, status: int, words: str) -> Response:
        self._tell(CollectorEvent(client, status, words))
        return JSONResponse({"message": words}, status)
