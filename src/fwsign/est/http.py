# SPDX-License-Identifier: Apache-2.0
"""One HTTP request on a connection, and its answer (RFC 9112), as small as EST needs it.

A connection carries one request: whatever follows it is never read as another. Bodies have a
stated length. Everything has a limit, and one deadline for the whole exchange, which no client can
extend by sending a byte now and then.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

MAX_HEAD: Final = 8 * 1024
"""Octets of the request line and the headers."""
MAX_HEADERS: Final = 64
MAX_BODY: Final = 32 * 1024
"""Octets of a body; a request with ML-DSA-87 takes 11 kB in base64."""
MAX_DRAINED: Final = 256 * 1024
"""Octets read and thrown away after an answer, so that the client reads it."""
DRAIN_SECONDS: Final = 2.0

_PIECE: Final = 16 * 1024
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,1024}) HTTP/1\.([01])")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([ \t!-~]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")

REASONS: Final = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class Refused(Exception):
    """A request that is answered with an error; the message is for the client and the log."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


class Gone(Exception):
    """The client closed the connection, or its time is up before it asked anything."""


class HttpRequest(NamedTuple):
    """A request; names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """An answer; `note` is for the log."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    note: str = ""

    def encode(self) -> bytes:
        """Return the bytes to send."""
        length = {} if self.status == 204 else {"Content-Length": str(len(self.body))}
        headers = {**self.headers, **length, "Connection": "close"}
        lines = [f"HTTP/1.1 {self.status} {REASONS[self.status]}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        return "\r\n".join((*lines, "", "")).encode("latin-1") + self.body


class Exchange:
    """A connection with a deadline.

    Args:
        connection: the socket.
        seconds: the time for everything.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds
        self._data = b""
        self.whole = False
        """Whether the request was read to its end."""

    def read(self) -> HttpRequest:
        """Read the request.

        Raises:
            Refused: it breaks a rule or a limit.
            Gone: there is none.
            OSError: the connection failed.
        """
        head = self._head()
        line, *rest = head.split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if not match:
            raise Refused(400, "not a request of HTTP/1.1")
        headers = _headers(rest)
        if match[3] == b"1" and "host" not in headers:
            raise Refused(400, "no Host")
        method, target = match[1].decode(), match[2].decode()
        body = self._body(headers)
        self.whole = True
        return HttpRequest(method, target, headers, body)

    def send(self, data: bytes, *, at_least: float = 0.0) -> None:
        """Send bytes within the time that is left, or within `at_least` seconds."""
        self._deadline = max(self._deadline, time.monotonic() + at_least)
        view = memoryview(data)
        while view:
            self._limit()
            view = view[self._connection.send(view[:_PIECE]) :]

    def drain(self) -> None:
        """Read the rest that the client sends, within bounds: a reset could take it the answer."""
        self._deadline = min(self._deadline, time.monotonic() + DRAIN_SECONDS)
        taken = 0
        with contextlib.suppress(OSError):
            while taken < MAX_DRAINED and (piece := self._receive()):
                taken += len(piece)

    def _head(self) -> bytes:
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > MAX_HEAD:
                raise Refused(431, f"more than {MAX_HEAD} bytes of headers")
            try:
                piece = self._receive()
            except TimeoutError:
                raise (Refused(408, "too slow") if self._data else Gone) from None
            if not piece:
                raise Gone
            self._data += piece
        if end > MAX_HEAD:
            raise Refused(431, f"more than {MAX_HEAD} bytes of headers")
        head, self._data = self._data[:end], self._data[end + 4 :]
        return head

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise Refused(411, "a body needs Content-Length")
        said = headers.get("content-length", "0")
        if not _LENGTH.fullmatch(said):
            raise Refused(400, "Content-Length is no number")
        size = int(said)
        if size > MAX_BODY:
            raise Refused(413, f"a body of {size} bytes, at most {MAX_BODY} are allowed")
        if headers.get("expect", "").lower() == "100-continue" and len(self._data) < size:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._data) < size:
            try:
                piece = self._receive()
            except TimeoutError:
                raise Refused(408, "too slow") from None
            if not piece:
                raise Gone
            self._data += piece
        return self._data[:size]

    def _receive(self) -> bytes:
        self._limit()
        return self._connection.recv(_PIECE)

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self._connection.settimeout(left)


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise Refused(431, f"more than {MAX_HEADERS} headers")
    found: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if not match:
            raise Refused(400, "a header that cannot be read")
        name = match[1].decode().lower()
        if name in found:  # two readers could take two of them
            raise Refused(400, f"the header {name} twice")
        found[name] = match[2].strip(b" \t").decode()
    return found
