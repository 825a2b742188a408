# SPDX-License-Identifier: Apache-2.0
"""HTTP exchanges with a server that may be slow, wordy or gone: bounded in time and size.

No redirect is followed and no proxy is asked, so a secret in a request reaches one server alone.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import ssl
import threading
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.files import io_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

STALL_SECONDS: Final = 10
"""The server's longest silence."""
TOTAL_SECONDS: Final = 30
"""The longest time for one exchange."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of an answer; a thousand versions of an ML-DSA-87 key take 3.5 MB."""

T = TypeVar("T")
Connection = http.client.HTTPConnection
_GONE: Final = (ConnectionError, ssl.SSLError)
"""What a connection raises that the server has closed meanwhile."""


class Reply(NamedTuple):
    """What a server answered.

    Args:
        status: the HTTP status.
        body: all of it.
        place: the header Location, "" if there is none.
    """

    status: int
    body: bytes
    place: str


class KeyServer:
    """A server at an address; threads may ask it at once, and connections are used again.

    Args:
        address: `https://HOST` with or without a port, or `http://` and a loopback host.
        ca: a PEM file with the only CAs to trust; None for those of the system.

    Raises:
        Failed: `key.unsupported`: no such address; `io.*`: no CA can be read.
    """

    def __init__(self, address: str, ca: Path | None) -> None:
        parts = check_address(address)
        self._host, self._port = parts.host, parts.port
        self._context = make_context(ca) if parts.tls else None
        host = f"[{parts.host}]" if ":" in parts.host else parts.host
        self.address = f"{'https' if parts.tls else 'http'}://{host}:{parts.port}"
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._idle)  # for those who never close it

    def ask(self, method: str, target: str, body: bytes | None, secret: Mapping[str, str]) -> Reply:
        """Send a request and return the answer, of any status.

        Args:
            method: such as GET.
            target: the path.
            body: JSON; None for none.
            secret: further headers.

        Raises:
            OSError, http.client.HTTPException: no answer came, or more than `MAX_ANSWER` bytes.
        """
        headers = {"User-Agent": f"fwsign/{__version__}", "Accept": "application/json", **secret}
        if body is not None:
            headers["Content-Type"] = "application/json"

        def once() -> Reply:
            idle = self._take()
            if idle is not None:
                try:
                    return self._once(idle, method, target, body, headers)
                except _GONE:  # signing again does no harm
                    pass
            return self._once(self._connection(), method, target, body, headers)

        return within(TOTAL_SECONDS, once)

    def close(self) -> None:
        """Close the idle connections."""
        _close(self._idle)

    def _once(
        self,
        connection: Connection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Reply:
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.request(method, target, body, headers)
            with connection.getresponse() as response:
                data = read_bounded(response, MAX_ANSWER)
            found = Reply(response.status, data, response.getheader("Location") or "")
            if not response.will_close:
                stack.pop_all()
                with self._lock:
                    self._idle.append(connection)
        return found

    def _take(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _connection(self) -> Connection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=STALL_SECONDS)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=STALL_SECONDS, context=self._context
        )


def _close(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


class _Address(NamedTuple):
    host: str
    port: int
    tls: bool


def check_address(address: str) -> _Address:
    """Take an address apart; what may be a secret in a wrong one is not repeated.

    Raises:
        Failed: `key.unsupported`: it is not one, or without TLS and not of this machine.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    clean = address.isascii() and address.isprintable() and " " not in address
    bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    named = parts.scheme in {"https", "http"} and host and port != 0
    if not named or not clean or not bare or "@" in parts.netloc:
        raise Failed(
            "key.unsupported",
            "the address of the key's server is not https://HOST or https://HOST:PORT, "
            "without user, password and path",
            expected="https://HOST:PORT",
        )
    tls = parts.scheme == "https"
    if not tls and not _is_loopback(host):
        raise Failed(
            "key.unsupported",
            f"http://{host} has no TLS, which only a server on this machine may do without",
            expected="https, or http to a loopback address",
            found="http",
        )
    return _Address(host, port or (443 if tls else 80), tls)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_context(ca: Path | None) -> ssl.SSLContext:
    """Return a context that takes TLS 1.2 and later.

    `ssl.create_default_context` would write the session's keys to the file SSLKEYLOGFILE.

    Args:
        ca: a PEM file with the only CAs to trust; None for those of the system.

    Raises:
        Failed: `io.*`: it cannot be read; `io.format`: no certificates are in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9525 s.2: names are alternative names
    if ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise Failed(
            "io.format",
            f"{ca} has no certificates of CAs",
            expected="certificates in PEM",
            found="none",
        ) from error
    except OSError as error:
        raise io_error(error, ca) from error
    return context


def read_bounded(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Read an answer in pieces: a single `read` would read a chunk of size -1 without end.

    Raises:
        OSError: more than `limit` bytes.
    """
    found = bytearray()
    while data := response.read1(limit + 1 - len(found)):
        found += data
        if len(found) > limit:
            raise OSError(f"an answer of more than {limit} bytes")
    return bytes(found)


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call in a thread, which is abandoned when its time is up: a server could send on for ever.

    Raises:
        TimeoutError: the time is up. Whatever the call raises.
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(call())
        except BaseException as error:  # noqa: BLE001 - raised by the other thread
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # none starts at the end of the process any more
        return call()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not made:
        raise TimeoutError(f"no answer in {seconds} seconds")
    return made[0]
