# SPDX-License-Identifier: Apache-2.0
"""Take blocks of a payload from files that are here already, and fetch only the others.

The block list is signed, so it tells which blocks of the new payload an old file has. Old files are
not trusted: the receiver verifies every block, wherever it comes from, and a block that changed
since it was found is fetched. Old files are only read.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from fwsign.format.component import Component
from fwsign.format.payload import SHA256_SIZE, Blocks, PayloadSource
from fwsign.gateway.target.moved import Missing, RangedSource, digest_of
from fwsign.gateway.target.old_files import Place, likely_files, opened, pieces

MAX_SEARCHED: Final = 3
"""Bytes of old files that are searched, in sizes of the payload."""
MAX_REQUESTS: Final = 32
"""Ranges that are asked for; the smallest gaps between them are fetched too, until so many are
left."""
SMALL_GAP: Final = 32 * 1024
"""Bytes that are fetched again rather than that the server is asked once more."""


@contextlib.contextmanager
def reusing(
    source: PayloadSource | None,
    component: Component,
    blocks: Blocks | None,
    start: int,
    folders: Sequence[int],
) -> Iterator[PayloadSource | None]:
    """Yield a source of a payload that takes from its server only what no old file has.

    Args:
        source: the payload's source; any but a ranged one is yielded as it is.
        component: the component.
        blocks: its block list; without one nothing is reused.
        start: the offset of the first wanted byte, at the beginning of a block.
        folders: descriptors of the directories below which old files are.
    """
    if blocks is None or not isinstance(source, RangedSource):
        yield source
        return
    with contextlib.ExitStack() as stack:
        found = _find(component, blocks, start, folders, stack)
        missing = Missing(source, component, blocks, start // blocks.size, found)
        missing.look_elsewhere(folders, stack)
        yield _Mixed(source, component, blocks, start, found) if found else source


class _Mixed:
    """Blocks from old files and ranges from a server, in the order of the payload."""

    def __init__(
        self,
        source: RangedSource,
        component: Component,
        blocks: Blocks,
        start: int,
        found: Mapping[int, Place | bytes],
    ) -> None:
        self._source, self._size, self._blocks = source, component.size, blocks
        self._at, self._found = start, found
        self._block = b""  # the rest of an old file's block
        self._stop = start  # the end of the range that is being fetched
        self._ranges = dict(_ranges(component, blocks, start, found))

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if self._at == self._size >= self._stop:
            return b""
        if not self._block and self._at >= self._stop:
            self._block = self._next_block()
        if self._block:
            data, self._block = self._block[:size], self._block[size:]
        else:
            data = self._source.read(min(size, self._stop - self._at))
            if self._source.sends_all and self._stop <= self._size:
                self._stop = self._size + 1  # a source that has more is noticed
                self._source.aim(self._at + len(data), None)
        self._at += len(data)
        return data

    def _next_block(self) -> bytes:
        """Return the next block from an old file; go to its range, and return none, without."""
        index = self._at // self._blocks.size
        place, end = self._found.get(index), self._at + self._blocks.size
        if place is not None and self._at not in self._ranges:
            wanted = min(self._blocks.size, self._size - self._at)
            data = place.read(wanted) if isinstance(place, Place) else place
            if hashlib.sha256(data).digest() == digest_of(self._blocks, index):
                return data
        self._stop = self._ranges.get(self._at, min(end, self._size))
        self._source.aim(self._at, self._stop)
        return b""


def _find(
    component: Component,
    blocks: Blocks,
    start: int,
    folders: Sequence[int],
    stack: contextlib.ExitStack,
) -> dict[int, Place | bytes]:
    """Find blocks in old files; the stack closes the files that have some."""
    wanted: dict[bytes, list[int]] = {}
    for index in range(start // blocks.size, len(blocks.digests) // SHA256_SIZE):
        wanted.setdefault(digest_of(blocks, index), []).append(index)
    found: dict[int, Place | bytes] = {}
    left = MAX_SEARCHED * component.size
    for folder, path in likely_files(folders, component):
        if not wanted or left <= 0:
            break
        with contextlib.ExitStack() as unless_used:
            handle = unless_used.enter_context(opened(folder, path))
            if handle is None:
                continue
            before = len(found)
            for offset, data in pieces(handle, blocks.size, left):
                left -= len(data)
                for index in wanted.pop(hashlib.sha256(data).digest(), ()):
                    found[index] = Place(handle, offset)
            if len(found) > before:
                stack.push(unless_used.pop_all())
    return found


def _ranges(
    component: Component, blocks: Blocks, start: int, found: Mapping[int, Place | bytes]
) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each range to fetch."""
    count = len(blocks.digests) // SHA256_SIZE
    missing = [one for one in range(start // blocks.size, count) if one not in found]
    gaps = [(after - before - 1) * blocks.size for before, after in pairwise(missing)]
    largest = sorted(gaps, reverse=True)[: MAX_REQUESTS - 1]
    least = max(SMALL_GAP, largest[-1] if len(gaps) >= MAX_REQUESTS else 0)
    begin, left = 0, MAX_REQUESTS - 1
    for number, gap in enumerate([*gaps, None] if missing else ()):
        if gap is None or (gap >= least and left > 0):
            left -= 1
            end = (missing[number] + 1) * blocks.size
            yield missing[begin] * blocks.size, min(end, component.size)
            begin = number + 1
