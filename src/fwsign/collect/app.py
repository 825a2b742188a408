# SPDX-License-Identifier: Apache-2.0
"""The collector as an ASGI application: one address that takes lines, with every limit."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fwsign.collect.clients import ClientNames, Clients
from fwsign.collect.judge import MAX_BODY
from fwsign.collect.service import CollectorService, IntakeReply, refused
from fwsign.errors import FwsignError
from fwsign.est.limits import RateLimits

PATH: Final = "/receipts"
CONTENT_TYPE: Final = "application/jsonl"
BODY_SECONDS: Final = 30.0
"""Seconds from the head of a request to the end of its body."""
WORKERS: Final = 4
"""Batches that are judged at once; the others wait."""
PER_CLIENT: Final = 60
"""Batches of one client in a minute."""
OVERALL: Final = 60_000
"""Batches of all clients in a minute."""
PEER: Final = "fwsign.peer"
"""The key of the ASGI scope with the certificates that a client showed, in DER, its own first."""


T = TypeVar("T")


class CollectorEvent(NamedTuple):
    """One line of the collector's report."""

    client: str
    status: int
    note: str


class _TooSlowError(Exception):
    """The body did not come in time."""


class CollectorApp:
    """The application.

    Args:
        service: judges and stores.
        clients: whose connections and receipts count.
        clock: returns the collector's time.
        tell: told of each request.
        limits: how often clients may send.
    """

    def __init__(
        self,
        service: CollectorService,
        clients: Clients,
        clock: Callable[[], datetime],
        tell: Callable[[CollectorEvent], object],
        limits: RateLimits | None = None,
    ) -> None:
        self._service, self._clients, self._clock, self._tell = service, clients, clock, tell
        self._names = ClientNames(clients)
        self._limits = limits or RateLimits(PER_CLIENT, OVERALL, str)
        self._workers: CapacityLimiter | None = None

    def asgi(self, *routes: BaseRoute) -> Starlette:
        """Return the ASGI application, with further routes."""
        return Starlette(routes=[Route(PATH, self._receipts, methods=["POST"]), *routes])

    async def _receipts(self, request: Request) -> Response:
        chain: Sequence[bytes] = request.scope.get(PEER) or ()
        address = request.client.host if request.client else "-"
        if self._workers is None:
            self._workers = CapacityLimiter(WORKERS)  # of the loop that runs now
        reply, client = await self._answered(request, chain, address)
        self._tell(CollectorEvent(client, reply.status, reply.note))
        headers = {} if reply.retry is None else {"Retry-After": str(reply.retry)}
        return JSONResponse(dict(reply.content), reply.status, headers)

    async def _answered(
        self, request: Request, chain: Sequence[bytes], address: str
    ) -> tuple[IntakeReply, str]:
        """Return the answer, and the client's name, or its address if it has none that counts."""
        if not chain:
            return _plain(403, "a certificate of a TLS client is needed"), address
        try:
            client = await self._run(lambda: self._names.name_of(chain, self._clock()))
        except FwsignError as refusal:
            return refused(403, refusal), address
        if not self._limits.take(client, time.monotonic()):
            return _plain(429, "too many requests")._replace(retry=60), client
        if request.headers.get("content-type", "").partition(";")[0].strip() != CONTENT_TYPE:
            return _plain(415, f"the content is not {CONTENT_TYPE}"), client
        try:
            body = await _body(request)
        except _TooSlowError:
            return _plain(408, f"the body took longer than {BODY_SECONDS:.0f} seconds"), client
        if body is None:
            return _plain(413, f"the body has more than {MAX_BODY} bytes"), client
        service = self._service
        return (
            await self._run(lambda: service.receive(body, client, self._clients.trust())),
            client,
        )

    async def _run(self, call: Callable[[], T]) -> T:
        return await to_thread.run_sync(call, limiter=self._workers)


def _plain(status: int, words: str) -> IntakeReply:
    return IntakeReply(status, {"message": words}, words)


async def _body(request: Request) -> bytes | None:
    """Return the body; None if it is too long."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BODY:
        return None
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    return None
    except (TimeoutError, ClientDisconnect) as error:
        raise _TooSlowError from error
    return bytes(body)
