# SPDX-License-Identifier: Apache-2.0
"""Judge the head of a server's answer: which part of the file follows, or when to ask again.

A server may send less than what was asked for (RFC 9110 s.15.3.7), begin earlier, or be busy (429
and 503, with Retry-After). All of this is legal, and the transfer goes on.
"""

import email.utils
import http.client
import re
import time
from typing import Final, NamedTuple

from fwsign.errors import Failed

MAX_WAIT: Final = 300
"""Seconds of a server's Retry-After that are waited for, before each further connection."""

_BUSY: Final = (408, 425, 429)
"""Statuses that ask for another try, beside those from 500 on."""
_NO_SUCH_RANGE: Final = 416
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_WHOLE: Final = re.compile(r"bytes \*/([0-9]{1,18})")
_SIZE: Final = re.compile(r"[0-9]{1,18}")


class Cut(Exception):
    """The transfer broke, or the server is busy; never leaves this package.

    Args:
        reason: in words.
        wait: seconds that the server asks for.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class NoMoreError(Exception):
    """The file ends here; never leaves this package."""


class Promise(NamedTuple):
    """The part of a file that an answer brings.

    Args:
        skip: the number of unwanted bytes at its beginning.
        left: the number of bytes it must have; None if the server does not say.
        total: the size of the whole file; None if the server does not say.
    """

    skip: int
    left: int | None
    total: int | None


def judge(url: str, response: http.client.HTTPResponse, at: int, size: int | None) -> Promise:
    """Judge the head of an answer.

    Args:
        url: the address, for messages.
        response: the answer, whose body is unread.
        at: the first byte that was asked for; 0 for the whole file.
        size: the expected size of the whole file; None if it is not known.

    Raises:
        Cut: the server is busy.
        NoMoreError: the file ends at this byte.
        Failed: `io.fetch-status`, `io.fetch-protocol`, `io.fetch-range`.
    """
    status = response.status
    if status >= 500 or status in _BUSY:
        raise Cut(f"status {status}", _wait(response.getheader("Retry-After", "")))
    if status == _NO_SUCH_RANGE and at:
        raise _no_more(url, response.getheader("Content-Range", "none"), at, size)
    if status not in (200, 206):
        raise unexpected(url, f"status {status}")
    encoding = response.getheader("Content-Encoding", "identity")
    length = response.getheader("Content-Length")
    if encoding != "identity" or (length is not None and not _SIZE.fullmatch(length)):
        what = f"{url} answers with Content-Encoding {encoding}, Content-Length {length}"
        raise Failed("io.fetch-protocol", what, expected="the file as it is", found=encoding)
    left = None if length is None else int(length)
    if status == 200:
        return Promise(at, left, left)
    given = response.getheader("Content-Range", "none")
    match = _RANGE.fullmatch(given)
    if not at or not match or not _fits(match, at, left):
        raise Failed(
            "io.fetch-range",
            f"{url}: bytes from {at} on were asked for, the answer has {given}",
            expected=f"bytes {at}-",
            found=given,
        )
    total = None if match[3] == "*" else int(match[3])
    return Promise(at - int(match[1]), _span(match), total)


def _fits(match: re.Match[str], at: int, left: int | None) -> bool:
    """Tell whether a range has the next byte; it may begin earlier and end at any byte."""
    first, last = int(match[1]), int(match[2])
    inside = match[3] == "*" or last < int(match[3])
    return first <= at <= last and inside and left in (None, _span(match))


def _no_more(url: str, given: str, at: int, size: int | None) -> Exception:
    """Judge a server's answer that its file has no byte here."""
    match = _WHOLE.fullmatch(given)
    ends_here = match is None or int(match[1]) == at
    if ends_here and size in (None, at):
        return NoMoreError()
    found = f"{match[1]} bytes" if match else "none"
    return unexpected(url, f"status 416 for bytes from {at} on, size of its file: {found}")


def _wait(text: str) -> float:
    """Return the seconds of a Retry-After header, at most `MAX_WAIT`; 0 if there are none."""
    if _SIZE.fullmatch(text):
        return min(int(text), MAX_WAIT)
    try:
        date = email.utils.parsedate_to_datetime(text)
        seconds = date.timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_WAIT)


def _span(match: re.Match[str]) -> int:
    return int(match[2]) - int(match[1]) + 1


def unexpected(url: str, found: str) -> Failed:
    """Return the error for an answer that is not the file."""
    message = f"{url}: the server answers with {found}"
    return Failed("io.fetch-status", message, expected="the file", found=found)
