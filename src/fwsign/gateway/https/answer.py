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

MAX_TAG: Final = 256
"""Characters of a server's ETag; a longer one is not used."""

_BUSY: Final = (408, 425, 429)
"""Statuses that ask for another try, beside those from 500 on."""
_UNKNOWN: Final = (401, 403)
_WHO: Final = "fetch.token_file or fetch.client_cert in device.toml say who this gateway is"
_NO_SUCH_RANGE: Final = 416
_NOT_MODIFIED: Final = 304
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_WHOLE: Final = re.compile(r"bytes \*/([0-9]{1,18})")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')  # RFC 9110 s.8.8.3
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT")


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


class UnchangedError(Exception):
    """The file is the one whose tag was given; never leaves this package."""


class Part(NamedTuple):
    """The part of a file to ask for.

    Args:
        start: the offset of its first byte.
        stop: the offset after its last byte; None for all bytes from `start` on.
        size: the expected size of the whole file; None if it is not known. A transfer that ends
            before is cut, if the server does not say that its file is shorter.
        tag: the tag of the file that is known; the server may say that it is the same.
    """

    start: int = 0
    stop: int | None = None
    size: int | None = None
    tag: str | None = None

    @property
    def is_range(self) -> bool:
        """Whether the request names a range."""
        return self.start > 0 or self.stop is not None


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


def judge(url: str, response: http.client.HTTPResponse, part: Part) -> Promise:
    """Judge the head of an answer.

    Args:
        url: the address, for messages.
        response: the answer, whose body is unread.
        part: the part that was asked for.

    Raises:
        Cut: the server is busy.
        NoMoreError: the file ends at this byte.
        UnchangedError: the file still has the part's tag.
        Failed: `io.fetch-status`, `io.fetch-protocol`, `io.fetch-range`.
    """
    status, at = response.status, part.start
    if status >= 500 or status in _BUSY:
        raise Cut(f"status {status}", wait_of(response))
    if status == _NO_SUCH_RANGE and part.is_range:
        raise _no_more(url, response.getheader("Content-Range", "none"), part)
    if status == _NOT_MODIFIED and not part.is_range and validator(part.tag):
        raise UnchangedError
    if status not in (200, 206):
        refusal = unexpected(url, f"status {status}")
        raise refusal.with_hint(_WHO) if status in _UNKNOWN else refusal
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
    if not part.is_range or not match or not _fits(match, at, left):
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


def _no_more(url: str, given: str, part: Part) -> Exception:
    """Judge a server's answer that its file has no byte here."""
    match, at = _WHOLE.fullmatch(given), part.start
    ends_here = match is None or int(match[1]) == at
    if ends_here and part.size in (None, at):
        return NoMoreError()
    found = f"{match[1]} bytes" if match else "none"
    return unexpected(url, f"status 416 for bytes from {at} on, size of its file: {found}")


def wait_of(response: http.client.HTTPResponse) -> float:
    """Return the seconds of a Retry-After header, at most `MAX_WAIT`; 0 if there are none.

    A date is compared with the server's own, since the clock here may be wrong.
    """
    text = response.getheader("Retry-After", "")
    if _SIZE.fullmatch(text):
        return min(int(text), MAX_WAIT)
    date, now = _seconds(text), _seconds(response.getheader("Date", ""))
    if date is None:
        return 0.0
    return min(max(date - (time.time() if now is None else now), 0.0), MAX_WAIT)


def _seconds(date: str) -> float | None:
    """Return the time of a date in a header; None if it is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def tag_of(response: http.client.HTTPResponse) -> str | None:
    """Return the tag of a file: its ETag, else the time of its last change; None without both.

    A time counts only if the answer is later: within the same second the file may change again
    (RFC 9110 s.8.8.2.2).
    """
    tag = response.getheader("ETag", "")
    if len(tag) <= MAX_TAG and _TAG.fullmatch(tag):
        return tag
    changed, now = response.getheader("Last-Modified", ""), response.getheader("Date", "")
    then, sent = _seconds(changed), _seconds(now)
    if not _DATE.fullmatch(changed) or then is None or sent is None or sent - then < 1:
        return None
    return changed


def validator(tag: str | None) -> dict[str, str]:
    """Return the header that asks for a file only if it no longer has a tag.

    A tag that a server cannot have given asks for the file in any case.
    """
    if tag is None or len(tag) > MAX_TAG:
        return {}
    if _TAG.fullmatch(tag):
        return {"If-None-Match": tag}
    return {"If-Modified-Since": tag} if _DATE.fullmatch(tag) else {}


def _span(match: re.Match[str]) -> int:
    return int(match[2]) - int(match[1]) + 1


def unexpected(url: str, found: str) -> Failed:
    """Return the error for an answer that is not the file."""
    message = f"{url}: the server answers with {found}"
    return Failed("io.fetch-status", message, expected="the file", found=found)
