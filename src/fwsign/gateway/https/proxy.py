# SPDX-License-Identifier: Apache-2.0
"""A tunnel to a server through the proxy of device.toml (CONNECT, RFC 9110 s.9.3.6).

The proxy sees the server's name and encrypted bytes. It can refuse and delay, and nothing else: the
TLS connection inside is with the server.
"""

import re
import socket
import time
from typing import Final

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.gateway.https.answer import Cut

MAX_HEAD: Final = 16 * 1024
"""Bytes of a proxy's answer."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_ENDS: Final = (b"\r\n\r\n", b"\n\n")


def tunnel(sock: socket.socket, host: str, port: int, login: str | None, deadline: float) -> None:
    """Ask a connected proxy for a tunnel.

    Args:
        sock: the connection to the proxy; afterwards it leads to the server.
        host: the server's name or address.
        port: its port.
        login: the value of Proxy-Authorization; None for none.
        deadline: the end of the time for this, by `time.monotonic`.

    Raises:
        Failed: `io.fetch-connect`; Cut: the proxy is busy; OSError: the connection broke.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: fwsign/{__version__}"]
    if login is not None:
        lines.append(f"Proxy-Authorization: {login}")
    _give_time(sock, deadline)
    sock.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii"))
    head = _head(sock, deadline)
    match = _STATUS.match(head)
    if match is None:
        shown = "" if login is not None else f": {head.splitlines()[0][:80]!r}"  # it may repeat it
        raise _refused(f"no proper answer{shown}")
    status = int(match[1])
    if status >= 500 or status == 429:
        raise Cut(f"the proxy answers with status {status}")
    if status == 407:
        hint = "fetch.proxy_login_file in device.toml names the file with user:password"
        raise _refused("status 407: it wants a user and a password").with_hint(hint)
    if not 200 <= status < 300:
        raise _refused(f"status {status}")


def _head(sock: socket.socket, deadline: float) -> bytes:
    """Read up to the empty line, and no byte of what follows it: that is the server's."""
    head = bytearray()
    while not head.endswith(_ENDS):
        if len(head) == MAX_HEAD:
            raise _refused(f"more than {MAX_HEAD} bytes of headers")
        _give_time(sock, deadline)
        byte = sock.recv(1)
        if not byte:
            raise Cut("the proxy closed the connection")
        head += byte
    return bytes(head)


def _give_time(sock: socket.socket, deadline: float) -> None:
    """Give the next step of a socket the time that is left."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the proxy does not answer")
    sock.settimeout(left)


def _refused(found: str) -> Failed:
    message = f"the proxy answers with {found}"
    return Failed("io.fetch-connect", message, expected="a tunnel to the server", found=found)
