# SPDX-License-Identifier: Apache-2.0
"""One transfer over HTTPS: it follows redirects, and resumes where it broke.

The received bytes are not trusted: the receiver checks sizes and digests.
"""

import http.client
import ssl
import time
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.format.payload import CHUNK_SIZE
from fwsign.gateway.config.device import Tell
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.answer import Cut, NoMoreError, Part, judge, tag_of, unexpected, validator
from fwsign.gateway.https.connection import (
    Connector,
    check_address,
    is_known,
    join,
    same_origin,
    target_of,
)
from fwsign.gateway.https.credentials import hide, read_token, without
from fwsign.gateway.https.pace import Pace

MAX_REDIRECTS: Final = 5
MAX_ATTEMPTS: Final = 5
"""Consecutive connections that bring less than `PROGRESS` bytes each."""
PROGRESS: Final = 1024 * 1024

_REDIRECTS: Final = (301, 302, 303, 307, 308)


class _Answer(NamedTuple):
    """An answer with an unread body.

    Args:
        connection: closed at the end.
        response: the source of the body.
        skip: the number of unwanted bytes at its beginning.
        left: the number of bytes it must have; None if the server does not say.
        total: the size of the whole file; None if the server does not say.
    """

    connection: http.client.HTTPSConnection
    response: http.client.HTTPResponse
    skip: int
    left: int | None
    total: int | None


class Download:
    """A source that connects on the first read, and again after a broken transfer.

    Args:
        url: the address, https.
        rules: what bounds this.
        part: the wanted part of the file.
        tell: told of redirects and of resumed transfers.

    Raises:
        Failed: `io.fetch-address`, `io.fetch-connect`.
    """

    def __init__(self, url: str, rules: FetchRules, part: Part, tell: Tell) -> None:
        self._url, self._rules = url, rules
        self._part, self._at = part, part.start
        self._since = part.start  # the offset where the last counted attempt began
        self.tag: str | None = None
        """The tag of the first answer."""
        self.tags_differ = False
        """Whether a later answer had another one."""
        self._answers = 0
        self._attempts = 0
        self._answer: _Answer | None = None
        self._deadline = time.monotonic() + rules.total_seconds
        check_address(url, rules)
        self._connector = Connector(rules)
        token = read_token(rules.token_file) if rules.token_file else None
        self._token = token
        self._tell: Tell = lambda text: tell(hide(text, token))
        self._pace = Pace(rules.bytes_per_second)

    def close(self) -> None:
        """Close the connection."""
        if self._answer is not None:
            self._answer.response.close()
            self._answer.connection.close()
            self._answer = None

    @property
    def sends_all(self) -> bool:
        """Whether the server sends the file to its end, whatever was asked for."""
        return self._answer is not None and self._answer.response.status == 200

    def aim(self, start: int, stop: int | None) -> None:
        """Go on at another byte.

        Args:
            start: the offset of the next wanted byte; the connection stays if it leads there.
            stop: the offset after the last wanted byte; None for the end of the file.
        """
        if not (self.sends_all and start == self._at):
            self.close()
            self._attempts = 0
        self._part = self._part._replace(stop=stop)
        self._at = self._since = start

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end of the part.

        Raises:
            Failed: `io.fetch-*`.
            UnchangedError: the file still has the part's tag.
        """
        stop = self._part.stop
        most = size if stop is None else min(size, stop - self._at)
        if not most and size:
            return b""
        try:
            return self._read(most)
        except Failed as error:
            raise without(error, self._token) from None

    def _read(self, size: int) -> bytes:
        while True:
            try:
                if self._answer is None:
                    self._answer = self._skipped(self._connect())
                data = self._body(self._answer, size)
                if not data and size and self._goes_on(self._answer):
                    self.close()
                    continue
            except NoMoreError:
                return b""
            except TimeoutError:
                self._again(self._slow(), "silence")
            except Cut as error:
                self._again(self._cut(str(error)), str(error), error.wait)
            except (ConnectionError, ssl.SSLEOFError) as error:
                if self._at == self._part.size:  # nothing is missing
                    return b""
                closed = isinstance(error, ssl.SSLEOFError)
                reason = "the connection was closed" if closed else str(error)
                self._again(self._cut(reason), reason)
            except (OSError, http.client.HTTPException) as error:
                raise no_answer(self._url, error) from error
            else:
                self._at += len(data)
                return data

    def _goes_on(self, answer: _Answer) -> bool:
        """Tell whether the file goes on after the end of an answer.

        Raises:
            Cut: the answer had to be longer, or nothing shows that it was whole.
        """
        if answer.total is not None:
            return self._at < answer.total
        size = self._part.size
        if size is not None and self._at >= size:
            return False
        if answer.left is not None:
            return True  # a range of a file whose size only the next answer may tell
        if size is not None:
            raise Cut("the answer ended early")
        return False

    def _again(self, failure: Failed, reason: str, wait: float = 0.0) -> None:
        """Count an attempt; refuse if too many brought nothing, or if no time is left."""
        self.close()
        if self._at - self._since >= PROGRESS:
            self._attempts, self._since = 0, self._at
        self._attempts += 1
        if self._attempts >= MAX_ATTEMPTS or time.monotonic() >= self._deadline:
            raise failure
        left = max(self._deadline - time.monotonic(), 0)
        pause = min(max(wait, self._rules.pause_seconds), left)
        after = f" in {pause:.0f} seconds" if wait else ""
        self._tell(f"{self._url} ended after {self._at} bytes, trying again{after}: {reason}")
        time.sleep(pause)

    def _body(self, answer: _Answer, size: int) -> bytes:
        size = self._pace.wait(size, self._deadline)
        try:
            data = answer.response.read1(size) if size else b""
        except http.client.IncompleteRead as error:
            raise Cut("the connection was closed") from error
        if len(data) > size:  # http.client accepts chunks of negative size
            raise http.client.HTTPException("more bytes than were asked for")
        self._pace.took(len(data))
        if data or not size:
            self._answer = answer._replace(left=answer.left - len(data)) if answer.left else answer
            return data
        if answer.left:
            raise Cut("the connection was closed")
        return b""

    def _skipped(self, answer: _Answer) -> _Answer:
        """Skip the bytes before the wanted part, if the server has no ranges."""
        self._answer = answer
        left = answer.skip
        while left:
            data = self._body(self._answer, min(left, CHUNK_SIZE))
            if not data and self._answer.left is None:
                raise Cut("the answer ended early")
            if not data:
                raise unexpected(self._url, "a shorter file than before")
            left -= len(data)
        return self._answer

    def _connect(self) -> _Answer:
        """Ask for the file, following redirects."""
        url, own = self._url, is_known(self._url, self._rules)
        for _ in range(MAX_REDIRECTS + 1):
            connection, response = self._ask(url, own=own)
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
            own = own and same_origin(url, target)  # never again: the place is another's choice
            url = target
        raise Failed(
            "io.fetch-redirect",
            f"{self._url} redirects more than {MAX_REDIRECTS} times, last to {url}",
            expected=f"at most {MAX_REDIRECTS}",
            found="more",
        )

    def _ask(
        self, url: str, *, own: bool
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        if time.monotonic() >= self._deadline:
            raise self._slow()
        connection = self._connector.connect(url, self._deadline, own=own, turn=self._attempts)
        try:
            headers = self._headers()
            if own and self._token is not None:
                headers["Authorization"] = f"{self._rules.authorization} {self._token}"
            connection.request("GET", target_of(urlsplit(url)), headers=headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _headers(self) -> dict[str, str]:
        headers = {
            "User-Agent": f"fwsign/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        part = self._part._replace(start=self._at)
        if part.is_range:
            headers["Range"] = f"bytes={part.start}-{'' if part.stop is None else part.stop - 1}"
        elif part.tag is not None:
            headers |= validator(part.tag)
        return headers

    def _judge(
        self,
        url: str,
        connection: http.client.HTTPSConnection,
        response: http.client.HTTPResponse,
    ) -> _Answer:
        try:
            promise = judge(url, response, self._part._replace(start=self._at))
            self._compare(tag_of(response))
            return _Answer(connection, response, *promise)
        except BaseException:
            response.close()
            connection.close()
            raise

    def _compare(self, tag: str | None) -> None:
        """Keep the first tag; of two different ones, the answers are parts of two files."""
        self.tags_differ |= None not in (tag, self.tag) and tag != self.tag
        self.tag = tag if not self._answers or tag == self.tag else None
        self._answers += 1

    def _cut(self, reason: str) -> Failed:
        return Failed(
            "io.fetch-cut",
            f"{self._url} ended after {self._at} bytes, {MAX_ATTEMPTS} times: {reason}",
            expected="the whole file",
            found=f"{self._at} bytes",
        )

    def _slow(self) -> Failed:
        rules = self._rules
        rate = rules.bytes_per_second
        limit = f", and {rate} bytes a second" if rate is not None else ""
        return Failed(
            "io.fetch-slow",
            f"{self._url} stalled after {self._at} bytes: {rules.stall_seconds} seconds of silence "
            f"and {rules.total_seconds} in all are allowed{limit}",
            expected=f"{rules.stall_seconds} and {rules.total_seconds} seconds",
            found="more",
        )


def no_answer(url: str, error: Exception) -> Failed:
    """Return the error for a connection that broke without a proper answer."""
    reason = str(getattr(error, "reason", ""))
    if isinstance(error, ssl.SSLError) and "ALERT" in reason:  # of TLS 1.3, after the handshake
        found = reason.lower().replace("_", " ")
        message = f"{url}: the server refuses this gateway: {found}"
        return Failed(
            "io.fetch-connect",
            message,
            expected="a client it accepts",
            found=found,
            hint="fetch.client_cert and fetch.client_key in device.toml say who this gateway is",
        )
    found = f"{type(error).__name__}: {error}"
    return Failed("io.fetch-protocol", f"{url}: no proper answer: {found}", found=found)
