# SPDX-License-Identifier: Apache-2.0
"""Strict HTTPS: no proxy and no trust from the environment, bounded in time and size."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from fwsign.errors import Failed, check_limit
from fwsign.gateway.config.device import Tell
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.answer import Part, UnchangedError
from fwsign.gateway.https.download import Download


class Fetched(NamedTuple):
    """A small file, or the word of its server that it is the known one.

    Args:
        data: the file; None if it has not changed. The server's word is not trusted: it can hide a
            change for as long as it likes, as it can by giving the old file.
        tag: the tag to ask with next time; None if the server gives none.
    """

    data: bytes | None
    tag: str | None


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
    return _whole(url, Download(url, rules, Part(), tell), limit)


def changed(
    url: str, rules: FetchRules, tag: str | None, limit: int, tell: Tell = lambda _: None
) -> Fetched:
    """Return a whole small file if it is another one than the known; it costs one small request.

    Args:
        url: its address, https.
        rules: what bounds this.
        tag: the tag that the last call returned for this address; None to get the file.
        limit: the largest size, in bytes.
        tell: told of redirects.

    Raises:
        Malformed: `malformed.size`; Failed: `io.fetch-*`.
    """
    download = Download(url, rules, Part(tag=tag), tell)
    try:
        data = _whole(url, download, limit)
    except UnchangedError:
        return Fetched(None, tag)
    return Fetched(data, download.tag)


@contextlib.contextmanager
def opened(
    url: str, rules: FetchRules, start: int, tell: Tell, size: int | None = None
) -> Iterator[Download]:
    """Open a file on a server.

    Args:
        url: the address, https.
        rules: what bounds this.
        start: the offset of the first wanted byte.
        tell: told of redirects and of resumed transfers.
        size: as for `Part`.

    Raises:
        Failed: `io.fetch-*`.
    """
    with contextlib.closing(Download(url, rules, Part(start, size=size), tell)) as download:
        yield download


def _whole(url: str, download: Download, limit: int) -> bytes:
    """Read all of a small file, whose server must not exchange it meanwhile."""
    found = bytearray()
    with contextlib.closing(download):
        while data := download.read(limit + 1 - len(found)):
            found += data
            check_limit(len(found), limit, f"{url} with {len(found)} bytes")
    if download.tags_differ:
        what = f"{url} was exchanged on its server while it was fetched"
        raise Failed("io.fetch-cut", what, expected="one file", found="parts of two")
    return bytes(found)
