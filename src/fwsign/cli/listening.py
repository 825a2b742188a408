# SPDX-License-Identifier: Apache-2.0
"""Commands that are servers: where they listen, and how they end."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

from fwsign.cli import ui
from fwsign.errors import Failed

_BACKLOG: Final = 128
_LAST_PORT: Final = 65535


def listen_place(value: str) -> str:
    """Refuse a text that is no ADDR:PORT; a callback of options."""
    _place(value)
    return value


def _place(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    host = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if not colon or not host or not port.isdecimal() or int(port) > _LAST_PORT:
        ui.usage(f'"{value}" is not ADDR:PORT', "as in 127.0.0.1:8443 or [::1]:8443")
    return host, int(port)


def listening(place: str) -> socket.socket:
    """Return a socket that listens at ADDR:PORT.

    Raises:
        Failed: `io.listen`.
    """
    host, port = _place(place)
    try:
        family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(found[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        code = None if isinstance(error, socket.gaierror) else error.errno
        words = (os.strerror(code) if code else error.strerror or str(error)).lower()
        raise Failed(
            "io.listen",
            f"cannot listen on {host}, port {port}: {words}",
            expected="an address of this machine, and a free port",
            found=words,
        ) from error


def address_of(listener: socket.socket) -> str:
    """Return the https address of a listening socket, without a path."""
    host, port = listener.getsockname()[:2]
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` for SIGINT and SIGTERM while the block runs."""
    before = {}
    for one in (signal.SIGINT, signal.SIGTERM):
        before[one] = signal.signal(one, lambda *_: stop())
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
