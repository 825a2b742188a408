# SPDX-License-Identifier: Apache-2.0
"""TCP connections: the name and all of its addresses share one deadline.

The addresses are tried one after another, a moment apart, and the first that answers is taken
(RFC 8305), so that no number of silent ones takes more than the time that is allowed. The system
has no way to ask for a name with a deadline: a thread asks, and is left behind when the time is up.
"""

import contextlib
import errno
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

MAX_ADDRESSES: Final = 64
"""Addresses of a name that are tried; a name server may give thousands."""
APART: Final = 0.25
"""Seconds between the first attempts, the value of RFC 8305 s.8; less if the time is short."""

_PENDING: Final = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


class _Address(NamedTuple):
    """An address of a host, as `getaddrinfo` gives it."""

    family: int
    kind: int
    protocol: int
    name: str
    place: Any


def dial(
    host: str, port: int, deadline: float, buffer: int | None = None, turn: int = 0
) -> socket.socket:
    """Connect to a host.

    Args:
        host: its name or address.
        port: the port.
        deadline: the end of the time for all of this, by `time.monotonic`.
        buffer: bytes that the system takes in before they are read; None for the usual.
        turn: the number of tries before, each of which began with another address: one may
            accept connections and then be silent.

    Raises:
        TimeoutError: the time is up; OSError, UnicodeError: there is no connection.
    """
    found = _resolve(host, port, deadline)
    first = turn % max(len(found), 1)
    addresses = found[first:] + found[:first]
    left = max(deadline - time.monotonic(), 0)
    apart = min(APART, left / (2 * len(addresses) + 1))  # the last one has half of the time
    with _Attempts(addresses, buffer) as attempts:
        while True:
            sock = attempts.next(deadline, apart)
            if sock is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock


class _Attempts:
    """Attempts to connect, several at once; leaving closes those that were not taken."""

    def __init__(self, addresses: Sequence[_Address], buffer: int | None) -> None:
        self._waiting, self._buffer = deque(addresses), buffer
        self._count = len(addresses)
        self._selector = selectors.DefaultSelector()
        self._pending: set[socket.socket] = set()
        self._failure: OSError = OSError(errno.EADDRNOTAVAIL, "the name has no address")
        self._due = 0.0

    def __enter__(self) -> "_Attempts":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._pending:
            one.close()
        self._selector.close()

    def next(self, deadline: float, apart: float) -> socket.socket | None:
        """Begin the attempt that is due, and wait for one that is decided.

        Raises:
            TimeoutError: the time is up; OSError: every address has failed.
        """
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError(f"none of {self._count} addresses answers")
        if not self._pending:
            self._due = now
        if self._waiting and now >= self._due:
            self._begin(self._waiting.popleft())
            self._due = now + apart
        if not self._pending:
            if self._waiting:
                return None
            raise self._failure
        until = min(self._due, deadline) if self._waiting else deadline
        for key, _ in self._selector.select(max(until - now, 0)):
            if (found := self._decided(key.fileobj)) is not None:
                return found
        return None

    def _begin(self, address: _Address) -> None:
        try:
            attempt = socket.socket(address.family, address.kind, address.protocol)
        except OSError as error:  # such as a system without IPv6
            self._failure = error
            return
        self._pending.add(attempt)
        attempt.setblocking(False)
        if self._buffer is not None:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        code = attempt.connect_ex(address.place)
        if code not in _PENDING:
            self._drop(attempt, code)
            return
        self._selector.register(attempt, selectors.EVENT_WRITE)

    def _decided(self, attempt: Any) -> socket.socket | None:
        """Return a socket that is connected; drop one that failed."""
        self._selector.unregister(attempt)
        code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._drop(attempt, code)
            self._due = 0.0  # the next one need not wait
            return None
        self._pending.remove(attempt)
        return attempt  # type: ignore[no-any-return]

    def _drop(self, attempt: socket.socket, code: int) -> None:
        self._failure = OSError(code, os.strerror(code))
        self._pending.remove(attempt)
        attempt.close()


def _resolve(host: str, port: int, deadline: float) -> list[_Address]:
    """Return the addresses of a host, first of each family in turn."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised by the other thread
            answers.put(error)

    try:
        threading.Thread(target=ask, name="fwsign-resolve", daemon=True).start()
    except RuntimeError as error:  # the system has no thread left
        raise OSError(errno.EAGAIN, str(error)) from error
    found: list[Any] | Exception = TimeoutError(f"no name server answers for {host}")
    with contextlib.suppress(queue.Empty):
        found = answers.get(timeout=max(deadline - time.monotonic(), 0))
    if isinstance(found, Exception):
        raise found
    families: dict[int, list[_Address]] = {}
    for one in found:
        families.setdefault(one[0], []).append(_Address(*one))
    turns = chain.from_iterable(zip_longest(*families.values()))
    return [one for one in turns if one is not None][:MAX_ADDRESSES]
