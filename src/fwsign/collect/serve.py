# SPDX-License-Identifier: Apache-2.0
"""Run the collector's application: uvicorn, mutual TLS, limits of connections and time."""

import asyncio
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fwsign.collect.app import PEER
from fwsign.gateway.https.server_dates import verified_chain

MAX_CONNECTIONS: Final = 512
"""Connections whose requests are taken; others are told 503."""
MAX_OF_CLIENT: Final = 16
"""Connections with one certificate; further ones end at once, so that others find room."""
CONNECTION_SECONDS: Final = 120.0
"""A connection ends after these seconds, whatever it does."""
HANDSHAKE_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 5
"""Seconds until a connection without a request ends."""
MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's head."""
MAX_CHAINS: Final = 2000
"""Clients whose certificates are kept for resumed sessions."""
STOP_SECONDS: Final = 10
"""How long a stopping collector waits for the requests in progress."""


class _Chains:
    """The certificates that clients showed; a resumed session of TLS 1.2 has the first one alone.

    Python has no way to forbid that. Nothing is believed of it: each request judges them again.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, list[bytes]] = OrderedDict()

    def of(self, tls: Any) -> list[bytes]:
        """Return the certificates of a client, its own first; none without TLS."""
        own = tls.getpeercert(True) if tls is not None else None
        if not own:
            return []
        found = verified_chain(tls) or self._known.get(own) or [own]
        self._known[own] = found
        self._known.move_to_end(own)
        if len(self._known) > MAX_CHAINS:
            self._known.popitem(last=False)
        return found


class _Protocol(H11Protocol):
    """Hands the client's certificates to the application, and bounds each connection's time."""

    _chains: ClassVar[_Chains] = _Chains()
    _held: ClassVar[Counter[bytes]] = Counter()
    _end: asyncio.TimerHandle | None = None
    _client = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        chain = self._chains.of(tls)
        app: ASGIApp = self.app

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            scope[PEER] = chain
            await app(scope, receive, send)

        self.app = with_peer
        self._end = self.loop.call_later(CONNECTION_SECONDS, transport.abort)
        # Without a request nothing else ends a silent connection.
        self.timeout_keep_alive_task = self.loop.call_later(
            IDLE_SECONDS, self.timeout_keep_alive_handler
        )
        if chain:
            self._client = chain[0]
            self._held[self._client] += 1
            if self._held[self._client] > MAX_OF_CLIENT:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        if self._client:
            self._held[self._client] -= 1
            if not self._held[self._client]:
                del self._held[self._client]
        super().connection_lost(exc)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose TLS servers do not wait for clients that are silent."""

    async def create_server(self, *arguments: Any, **more: Any) -> Any:
        if more.get("ssl") is not None:
            more["ssl_handshake_timeout"] = HANDSHAKE_SECONDS
        return await super().create_server(*arguments, **more)


def serve(
    listener: socket.socket,
    context: ssl.SSLContext,
    app: ASGIApp,
    ready: Callable[[Callable[[], None]], object],
) -> None:
    """Serve until a signal ends it; requests in progress are answered.

    Args:
        listener: a listening socket; it is closed at the end.
        context: the settings of TLS.
        app: the application.
        ready: called once connections are taken, with what ends it from any thread.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    async def run() -> None:
        asyncio.get_running_loop().call_soon(ready, stop)
        await server.serve(sockets=[listener])

    with listener, asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(run())
