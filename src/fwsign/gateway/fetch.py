# SPDX-License-Identifier: Apache-2.0
"""Strict HTTPS: no proxy and no trust from the environment, bounded in time and size.

The received bytes are not trusted: the receiver checks sizes and digests. A broken transfer resumes
at the point where it ended, as long as the server still has the file.
"""

import contextlib
import http.client
import re
import ssl
import time
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from fwsign import __version__
from fwsign.errors import Failed, check_limit
from fwsign.gateway.config import FetchRules, Tell
from fwsign.gateway.https import Timed, check_address, connect, join, make_context, target_of
from fwsign.payload import CHUNK_SIZE

MAX_REDIRECTS: Final = 5
MAX_ATTEMPTS: Final = 5
"""Consecutive connections that bring less than `PROGRESS` bytes each."""
PROGRESS: Final = 1024 * 1024

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:[0-9]{1,18}|\*)")
_SIZE: Final = re.compile(r"[0-9]{1,18}")


class _Cut(Exception):
    """The connection broke; never leaves this module."""


class _Answer(NamedTuple):
    """An answer with an unread body.

    Args:
        connection: closed at the end.
        response: the source of the body.
        skip: the number of unwanted bytes at its beginning.
        left: the number of bytes it must have; None if the server does not say.
    """

    connection: http.client.HTTPSConnection
    response: http.client.HTTPResponse
    skip: int
    left: int | None


def fetch_bytes(url: str, rules: FetchRules, limit: int, tell: Tell) -> bytes:
    """Return a whole small file.

    Args:
        url: its address, https.
        rules: what bounds this.
        limit: the largest size, in bytes.
        tell: told of redirects.

    Raises:
        Malformed: `malformed.size`; Failed: `io.fetch-*`.
    """
    found = bytearray()
    with opened(url, rules, 0, tell) as source:
        while data := source.read(limit + 1 - len(found)):
            found += data
            check_limit(len(found), limit, f"{url} with {len(found)} bytes")
    return bytes(found)


@contextlib.contextmanager
def opened(url: str, rules: FetchRules, start: int, tell: Tell) -> Iterator["Download"]:
    """Open a file on a server, beginning at byte `start`.

    Raises:
        Failed: `io.fetch-*`.
    """
    download = Download(url, rules, start, tell)
    try:
        yield download
    finally:
        download.close()


class Download:
    """A source that connects on the first read, and again after a broken transfer.

    Args:
        url: the address, https.
        rules: what bounds this.
        start: the offset of the first wanted byte.
        tell: told of redirects and of resumed transfers.

    Raises:
        Failed: `io.fetch-address`, `io.fetch-connect`.
    """

    def __init__(self, url: str, rules: FetchRules, start: int, tell: Tell) -> None:
        self._url, self._rules, self._tell = url, rules, tell
        self._at = start
        self._since = start  # the offset where the last counted attempt began
        self._attempts = 0
        self._answer: _Answer | None = None
        self._deadline = time.monotonic() + rules.total_seconds
        check_address(url, rules)
        self._context = make_context(rules.ca)

    def close(self) -> None:
        """Close the connection."""
        if self._answer is not None:
            self._answer.response.close()
            self._answer.connection.close()
            self._answer = None

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            Failed: `io.fetch-*`.
        """
        while True:
            try:
                if self._answer is None:
                    self._answer = self._skipped(self._connect())
                data = self._body(self._answer, size)
            except TimeoutError:
                self._again(self._slow(), "silence")
            except (_Cut, ConnectionError, ssl.SSLEOFError) as error:
                self._again(self._cut(error), str(error))
            except (OSError, http.client.HTTPException) as error:
                raise _protocol(self._url, error) from error
            else:
                self._at += len(data)
                return data

    def _again(self, failure: Failed, reason: str) -> None:
        """Count an attempt; refuse if too many brought nothing, or if no time is left."""
        self.close()
        if self._at - self._since >= PROGRESS:
            self._attempts, self._since = 0, self._at
        self._attempts += 1
        if self._attempts >= MAX_ATTEMPTS or time.monotonic() >= self._deadline:
            raise failure
        time.sleep(self._rules.pause_seconds)
        self._tell(f"{self._url} ended after {self._at} bytes, trying again: {reason}")

    def _body(self, answer: _Answer, size: int) -> bytes:
        try:
            data = answer.response.read1(size) if size else b""
        except http.client.IncompleteRead as error:
            raise _Cut("the connection was closed") from error
        if len(data) > size:  # http.client accepts chunks of negative size
            raise http.client.HTTPException("more bytes than were asked for")
        if data or not size:
            self._answer = answer._replace(left=answer.left - len(data)) if answer.left else answer
            return data
        if answer.left:
            raise _Cut("the connection was closed")
        return b""

    def _skipped(self, answer: _Answer) -> _Answer:
        """Skip the bytes before the wanted part, if the server has no ranges."""
        self._answer = answer
        left = answer.skip
        while left:
            data = self._body(self._answer, min(left, CHUNK_SIZE))
            if not data:
                raise _status(self._url, "a shorter file than before")
            left -= len(data)
        return self._answer

    def _connect(self) -> _Answer:
        """Ask for the file, following redirects."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            connection, response = self._ask(url)
            if response.status not in _REDIRECTS:
                return self._judge(url, connection, response)
            place = response.getheader("Location")
            connection.close()
            response.close()
            if not place:
                raise Failed("io.fetch-redirect", f"{url} redirects to nowhere")
            target = join(url, place)
            check_address(target, self._rules)
            self._tell(f"{url} redirects to {target}")
            url = target
        raise Failed(
            "io.fetch-redirect",
            f"{self._url} redirects more than {MAX_REDIRECTS} times, last to {url}",
            expected=f"at most {MAX_REDIRECTS}",
            found="more",
        )

    def _ask(self, url: str) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        parts = urlsplit(url)
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._slow()
        connection = http.client.HTTPSConnection(
            parts.hostname or "",
            parts.port or http.client.HTTPS_PORT,  # else http.client splits an IPv6 address
            timeout=min(left, self._rules.stall_seconds),
            context=self._context,
        )
        try:
            connect(connection, url)
            timed = connection.sock
            if isinstance(timed, Timed):
                timed.deadline, timed.stall = self._deadline, self._rules.stall_seconds
            headers = {
                "User-Agent": f"fwsign/{__version__}",
                "Accept-Encoding": "identity",
                "Connection": "close",
            }
            if self._at:
                headers["Range"] = f"bytes={self._at}-"
            connection.request("GET", target_of(parts), headers=headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _judge(
        self,
        url: str,
        connection: http.client.HTTPSConnection,
        response: http.client.HTTPResponse,
    ) -> _Answer:
        try:
            return self._judged(url, connection, response)
        except BaseException:
            response.close()
            connection.close()
            raise

    def _judged(
        self,
        url: str,
        connection: http.client.HTTPSConnection,
        response: http.client.HTTPResponse,
    ) -> _Answer:
        if response.status >= 500:
            raise _Cut(f"status {response.status}")
        if response.status not in (200, 206):
            raise _status(url, f"status {response.status}")
        encoding = response.getheader("Content-Encoding", "identity")
        length = response.getheader("Content-Length")
        if encoding != "identity" or (length is not None and not _SIZE.fullmatch(length)):
            what = f"{url} answers with Content-Encoding {encoding}, Content-Length {length}"
            raise Failed("io.fetch-protocol", what, expected="the file as it is", found=encoding)
        left = None if length is None else int(length)
        if response.status == 200:
            return _Answer(connection, response, self._at, left)
        given = response.getheader("Content-Range", "none")
        match = _RANGE.fullmatch(given)
        fits = match and int(match[1]) == self._at
        if not self._at or not match or not fits or left not in (None, _span(match)):
            raise Failed(
                "io.fetch-range",
                f"{url}: bytes from {self._at} on were asked for, the answer has {given}",
                expected=f"bytes {self._at}-",
                found=given,
            )
        return _Answer(connection, response, 0, _span(match))

    def _cut(self, error: Exception) -> Failed:
        return Failed(
            "io.fetch-cut",
            f"{self._url} ended after {self._at} bytes, {MAX_ATTEMPTS} times: {error}",
            expected="the whole file",
            found=f"{self._at} bytes",
        )

    def _slow(self) -> Failed:
        rules = self._rules
        return Failed(
            "io.fetch-slow",
            f"{self._url} stalled after {self._at} bytes: {rules.stall_seconds} seconds of silence "
            f"and {rules.total_seconds} in all are allowed",
            expected=f"{rules.stall_seconds} and {rules.total_seconds} seconds",
            found="more",
        )


def _span(match: re.Match[str]) -> int:
    return int(match[2]) - int(match[1]) + 1


def _status(url: str, found: str) -> Failed:
    message = f"{url}: the server answers with {found}"
    return Failed("io.fetch-status", message, expected="the file", found=found)


def _protocol(url: str, error: Exception) -> Failed:
    found = f"{type(error).__name__}: {error}"
    return Failed("io.fetch-protocol", f"{url}: no proper answer: {found}", found=found)
