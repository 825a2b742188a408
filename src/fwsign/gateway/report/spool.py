# SPDX-License-Identifier: Apache-2.0
"""Receipts that wait to be sent: those of a gateway's memory, or of a flasher's file.

They are no copy. The spool is a place in the chain: the last line that a collector acknowledged,
by its number and digest. If the line with this number is another one, or if there is another
collector, all lines wait again; a collector knows those that it has.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.memory.state import State
from fwsign.mqtt.address import is_broker
from fwsign.receipts.chain import line_digest, parse_line
from fwsign.receipts.file import read_whole_lines

SPOOL: Final = "report"
"""The memory's name for the place up to which receipts were acknowledged."""
LONGEST_PAUSE: Final = 6 * 3600
"""Seconds between two tries at most, however often they failed."""
_FIRST_PAUSE: Final = 60
_MOST_DOUBLINGS: Final = 12
_MAX_SIZE: Final = 4096


class SpoolPlace(NamedTuple):
    """The place up to which a collector acknowledged the lines.

    Args:
        to: the collector's address.
        number: the number of the line, from 1 on; 0 before the first.
        digest: its digest; empty before the first.
        failures: how many tries have failed since.
        tried: when the last of them was, by the clock.
    """

    to: str
    number: int = 0
    digest: str = ""
    failures: int = 0
    tried: int = 0

    def failed(self, at: datetime) -> "SpoolPlace":
        """Return the place after a try that failed."""
        return self._replace(failures=self.failures + 1, tried=int(at.timestamp()))

    def is_due(self, at: datetime) -> bool:
        """Tell whether it is time for the next try; if the clock went back, it is."""
        since = int(at.timestamp()) - self.tried
        pause = _FIRST_PAUSE * 2 ** min(self.failures, _MOST_DOUBLINGS)
        return not self.failures or not 0 <= since < min(pause, LONGEST_PAUSE)

    def encode(self) -> str:
        """Return the place as it is kept; inverse of `decode_place`."""
        return json.dumps(self._asdict())


def decode_place(text: str | None, to: str) -> SpoolPlace:
    """Read a place; what does not read, or is about another collector, is the beginning."""
    try:
        found = SpoolPlace(**json.loads(text or "{}"))
        kinds = [type(one) for one in found]
    except (ValueError, TypeError, RecursionError):
        return SpoolPlace(to)
    if kinds != [str, int, str, int, int] or min(found.number, found.failures) < 0:
        return SpoolPlace(to)
    return found if found.to == to else SpoolPlace(to)


class Spool(Protocol):
    """Where lines wait."""

    def place(self, to: str) -> SpoolPlace:
        """Return the place up to which a collector acknowledged the lines."""

    def keep(self, place: SpoolPlace) -> None:
        """Remember a place."""

    def lines(self, after: int) -> Iterator[tuple[int, str]]:
        """Yield the lines after a number, with their numbers."""


class MemorySpool:
    """The receipts of a gateway; the memory is open only while it is read or written.

    Args:
        opened: opens the memory.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[State]]) -> None:
        self._opened = opened

    def place(self, to: str) -> SpoolPlace:
        """Return the place up to which a collector acknowledged the lines."""
        with self._opened() as state:
            found = decode_place(state.remembered(SPOOL), to)
            same = _is_there(state.numbered_receipts(found.number - 1), found)
        return found if same else found._replace(number=0, digest="")

    def keep(self, place: SpoolPlace) -> None:
        """Remember a place."""
        with self._opened() as state:
            state.remember(SPOOL, place.encode())

    def lines(self, after: int) -> Iterator[tuple[int, str]]:
        """Yield the lines after a number, with their numbers."""
        with self._opened() as state:
            yield from state.numbered_receipts(after)


class FileSpool:
    """The receipts of a file; the place is in a file beside it.

    Args:
        path: the file of receipts.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._beside = path, path.with_name(f"{path.name}.reported")

    def place(self, to: str) -> SpoolPlace:
        """Return the place up to which a collector acknowledged the lines."""
        try:
            text = read_bytes(self._beside, _MAX_SIZE, "files").decode(errors="replace")
        except Failed as error:
            if error.code != "io.missing":
                raise
            text = None
        found = decode_place(text, to)
        same = _is_there(self.lines(found.number - 1), found)
        return found if same else found._replace(number=0, digest="")

    def keep(self, place: SpoolPlace) -> None:
        """Remember a place."""
        write_atomic(self._beside, place.encode().encode(), overwrite=True)

    def lines(self, after: int) -> Iterator[tuple[int, str]]:
        """Yield the lines after a number, with their numbers."""
        every = enumerate(read_whole_lines(self._path), 1)
        for number, line in islice(every, max(after, 0), None):
            parse_line(line, number)  # what is no receipt has no digest, and does not leave
            yield number, line


def _is_there(found: Iterator[tuple[int, str]], place: SpoolPlace) -> bool:
    """Tell whether the first of these lines is the one of a place."""
    if not place.number:
        return True
    first: Any = next(found, None)
    return first is not None and first[0] == place.number and line_digest(first[1]) == place.digest


def acknowledged(state: State, to: str) -> int:
    """Return the number of the oldest lines that a collector has acknowledged.

    An answer that came by a broker proves nothing: it can invent one, and the only copy is here.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    if is_broker(to):
        return 0
    found = decode_place(state.remembered(SPOOL), to)
    first = next(state.numbered_receipts(0), None)
    if first is None or not _is_there(state.numbered_receipts(found.number - 1), found):
        return 0
    return max(0, found.number - first[0] + 1)
