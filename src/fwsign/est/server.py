# SPDX-License-Identifier: Apache-2.0
"""The server of EST: TLS, threads, limits, and a graceful end.

Each connection has a thread, one request and one deadline. Connections beyond the limits wait in
the operating system's queue, or are closed before TLS has cost anything.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.est.http import Answer, Exchange, Gone, Refused
from fwsign.est.limits import RateLimits, site_of
from fwsign.est.service import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fwsign.keys import Passphrase

MAX_CONNECTIONS: Final = 128
MAX_OF_ONE_ADDRESS: Final = 64
EXCHANGE_SECONDS: Final = 20.0
"""From the TCP connection to the last byte of the request."""
HANDSHAKE_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 2.0
"""The time for an answer, also to a client that was too slow."""
CLOSE_SECONDS: Final = 1.0
"""The time for the client to close TLS, after the answer."""
STOP_SECONDS: Final = 10.0
"""How long a stopping server waits for the exchanges in progress."""
WRONG_COST: Final = 6.0
"""A wrong password counts as so many more requests."""
_BACKLOG: Final = 128
_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}


class ServerEvent(NamedTuple):
    """One line of the server's report."""

    address: str
    operation: str
    status: int
    note: str


def make_context(
    chain: Path, key: Path, anchors: str, passphrase: Passphrase | None
) -> ssl.SSLContext:
    """Return the TLS settings: the server's certificate, and the CAs whose clients count.

    Args:
        chain: the server's certificate and the CAs above it, in PEM.
        key: its private key.
        anchors: the CAs, in PEM.
        passphrase: called if the key is encrypted.

    Raises:
        Failed: `key.unsupported`: OpenSSL cannot use the key; `key.passphrase`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0  # no resumption: each client shows its certificate anew
    try:
        context.load_verify_locations(cadata=anchors)
        context.load_cert_chain(chain, key, lambda: (passphrase() if passphrase else None) or b"")
    except (ssl.SSLError, ValueError) as error:
        words = getattr(error, "reason", None) or str(error)
        raise Failed(
            "key.unsupported",
            f"TLS cannot use {key}: {str(words).lower().replace('_', ' ')}",
            expected="a key that this Python's OpenSSL can use, and its passphrase",
            found=words,
        ) from error
    return context


class Server:
    """Serve EST until it is stopped.

    Args:
        listener: a listening socket; the server closes it.
        context: from `make_context`.
        service: the operations.
        limits: how often clients may ask.
        tell: called with each event, from several threads.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        service: Service,
        limits: RateLimits,
        tell: Callable[[ServerEvent], None],
    ) -> None:
        self._listener, self._context = listener, context
        self._service, self._limits, self._tell = service, limits, tell
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._each: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._wake, self._waker = socket.socketpair()
        self._stopping = False

    def stop(self) -> None:
        """Let `run` return; may be called by a signal handler."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def run(self) -> None:
        """Serve; after `stop`, end the exchanges in progress and return."""
        with self._listener, self._wake, self._waker:
            self._listener.setblocking(False)
            while not self._stopping:
                ready, _, _ = select.select([self._listener, self._wake], [], [])
                if self._listener in ready and not self._stopping:
                    self._accept()
        end = time.monotonic() + STOP_SECONDS
        for _ in range(MAX_CONNECTIONS):  # a slot that can be had is not in use
            if not self._slots.acquire(timeout=max(end - time.monotonic(), 0)):
                return

    def _accept(self) -> None:
        """Take a connection when a slot is free, and give it a thread."""
        if not self._slots.acquire(timeout=1):
            return
        try:
            connection, place = self._listener.accept()
        except OSError:  # it is gone again, or there are too many open files
            self._slots.release()
            return
        address = str(place[0])
        if not self._enter(address):
            connection.close()
            self._slots.release()
            return
        thread = threading.Thread(target=self._serve, args=(connection, address), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads
            connection.close()
            self._leave(address)

    def _enter(self, address: str) -> bool:
        site = site_of(address)
        with self._lock:
            if self._each[site] >= MAX_OF_ONE_ADDRESS:
                return False
            self._each[site] += 1
        return True

    def _leave(self, address: str) -> None:
        site = site_of(address)
        with self._lock:
            self._each[site] -= 1
            if not self._each[site]:
                del self._each[site]
        self._slots.release()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            with connection:
                self._exchange(connection, address)
        except (OSError, Gone):  # nothing that anybody could be told
            pass
        finally:
            self._leave(address)

    def _exchange(self, connection: socket.socket, address: str) -> None:
        deadline = time.monotonic() + EXCHANGE_SECONDS
        connection.settimeout(HANDSHAKE_SECONDS)
        with self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ) as tls:
            try:
                tls.do_handshake()
            except ssl.SSLError as error:
                words = str(error.reason or "failed").lower().replace("_", " ")
                self._tell(ServerEvent(address, "TLS", 0, words))
                return
            exchange = Exchange(tls, deadline - time.monotonic())
            operation, answer = self._answered(exchange, Client(address, tls.getpeercert(True)))
            exchange.send(answer.encode(), at_least=ANSWER_SECONDS)
            self._tell(ServerEvent(address, operation, answer.status, answer.note))
            with contextlib.suppress(OSError):
                if exchange.whole:
                    tls.settimeout(CLOSE_SECONDS)
                    tls.unwrap()
                else:  # what the client still sends would make a reset of the end
                    tls.shutdown(socket.SHUT_WR)
                    exchange.drain()

    def _answered(self, exchange: Exchange, client: Client) -> tuple[str, Answer]:
        """Return the operation and the answer; every refusal becomes one."""
        operation, guessed = "-", False
        try:
            if not self._limits.take(client.address, time.monotonic()):
                raise Refused(429, "too many requests", Retry_After="60")
            request = exchange.read()
            operation = request.target.rpartition("/")[2][:40]
            guessed = "authorization" in request.headers
            return operation, self._service.answer(request, client)
        except Refused as refused:
            if refused.status == 401 and guessed:
                self._limits.charge(client.address, time.monotonic(), WRONG_COST)
            headers = {**_TEXT, **refused.headers}
            text = f"{refused.message}\n".encode()
            return operation, Answer(refused.status, text, headers, refused.message)
        except (Gone, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - one request never ends the server
            said = error.message if isinstance(error, FwsignError) else f"{type(error).__name__}"
            status, words = _status_of(error)
            return operation, Answer(status, f"{words}\n".encode(), _TEXT, said)


def _status_of(error: Exception) -> tuple[int, str]:
    """Return the status and the words for clients; the server's files are not their business."""
    if isinstance(error, Failed) and error.code == "state.ca-limit":
        return 403, error.message
    return 500, "the certificate cannot be issued: ask the operator"
