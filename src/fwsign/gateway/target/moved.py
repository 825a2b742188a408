# SPDX-License-Identifier: Apache-2.0
"""Find the blocks of a payload that an old file has elsewhere, since bytes came in before them.

The first of the missing blocks has to be fetched anyway, so it is fetched before the others. A
piece of it that an old file has shows how far the bytes there have moved, and the other missing
blocks are looked for as far away. So the signed block list suffices: there is no list of weak sums
that somebody would have to make, to publish, and to send.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, Protocol, runtime_checkable

from fwsign.format.component import Component
from fwsign.format.payload import CHUNK_SIZE, SHA256_SIZE, Blocks, PayloadSource
from fwsign.gateway.target.old_files import Place, likely_files, opened, pieces

MAX_FILES: Final = 4
"""Old files that are searched for moved blocks."""
MAX_PROBES: Final = 8
"""Blocks that are fetched to see how far the bytes there have moved."""
MAX_IN_VAIN: Final = 2
"""Such blocks in a row that led to no other: what is missing is new."""
SMALLEST_RUN: Final = 256 * 1024
"""Bytes of neighbouring missing blocks that are worth such a request of their own."""
LARGEST_BLOCK: Final = 1024 * 1024
"""Bytes of a block; fetched ones are held in memory until their turn comes."""
MAX_HASHED: Final = 4
"""Bytes of old files that are hashed for this, in sizes of the payload."""
MAX_SCANNED: Final = 32
"""Bytes of old files that pieces are looked for in, in sizes of the payload."""
PIECE: Final = 64
"""Bytes of a piece that is looked for."""
PIECES: Final = 8
"""Pieces of a block. The last ones come first, since what is missing begins with a change."""
LEAST_VARIED: Final = 12
"""Different bytes of a piece: what is filled with a few is everywhere."""


@runtime_checkable
class RangedSource(PayloadSource, Protocol):
    """A source that can go on at another byte, such as a transfer over HTTPS."""

    @property
    def sends_all(self) -> bool:
        """Whether it sends the file to its end, whatever was asked for."""
        ...

    def aim(self, start: int, stop: int | None) -> None:
        """Go on at the byte `start`, and end before `stop`."""
        ...


def digest_of(blocks: Blocks, index: int) -> bytes:
    """Return the signed digest of a block."""
    return blocks.digests[SHA256_SIZE * index : SHA256_SIZE * (index + 1)]


class Missing:
    """The blocks of a payload that no old file has at a multiple of their size.

    Args:
        source: the payload's server.
        component: the component.
        blocks: its block list.
        first: the first block that is wanted.
        found: the blocks that are at hand: their places, or their bytes.
    """

    def __init__(
        self,
        source: RangedSource,
        component: Component,
        blocks: Blocks,
        first: int,
        found: dict[int, Place | bytes],
    ) -> None:
        self._source, self._component, self._blocks = source, component, blocks
        self._first, self._found = first, found
        self._left = MAX_HASHED * component.size
        self._to_scan = MAX_SCANNED * component.size

    def look_elsewhere(self, folders: Sequence[int], stack: contextlib.ExitStack) -> None:
        """Add blocks that old files have at any offset to those at hand.

        Args:
            folders: descriptors of the directories below which old files are.
            stack: closes the files that were opened.

        Raises:
            Failed: `io.fetch-*`.
        """
        runs = self._runs()
        if self._blocks.size > LARGEST_BLOCK or not any(map(self._is_long, runs)):
            return
        files = likely_files(folders, self._component, SMALLEST_RUN)[:MAX_FILES]
        handles = [stack.enter_context(opened(*one)) for one in files]
        old = [one for one in handles if one is not None]
        # The first of all comes first: if its server has no ranges, the transfer goes on there.
        wanted: int | None = runs[0].start if old else None
        in_vain = 0
        for _ in range(MAX_PROBES):
            before = len(self._found) + 1
            if wanted is None or not self._probe(wanted, old):
                return
            in_vain = 0 if len(self._found) > before else in_vain + 1
            wanted = self._next(in_vain)

    def _next(self, in_vain: int) -> int | None:
        """Return the block to fetch next: the first of the longest run; None to end the search.

        If the last one was in vain, it is the one in the middle: much may have come in before it.
        """
        run = max(self._runs(), key=len, default=range(0))
        if in_vain >= MAX_IN_VAIN or self._left <= 0 or not self._is_long(run):
            return None
        return run[len(run) // 2] if in_vain else run.start

    def _is_long(self, run: range) -> bool:
        return len(run) * self._blocks.size >= SMALLEST_RUN

    def _runs(self) -> list[range]:
        """Return the runs of neighbours that are missing."""
        missing = enumerate(self._each())
        runs = (list(run) for _, run in groupby(missing, key=lambda one: one[1] - one[0]))
        return [range(run[0][1], run[-1][1] + 1) for run in runs]

    def _each(self) -> Iterator[int]:
        count = len(self._blocks.digests) // SHA256_SIZE
        return (one for one in range(self._first, count) if one not in self._found)

    def _probe(self, index: int, old: Sequence[int]) -> bool:
        """Fetch a block, and find those that moved as it did; return whether to go on."""
        data = self._fetch(index)
        if hashlib.sha256(data).digest() != digest_of(self._blocks, index):
            self._source.aim(self._first * self._blocks.size, None)
            return False  # the receiver gets it in its turn, and refuses it
        self._found[index] = data
        if self._source.sends_all:
            return False
        for handle, distance in self._distances(index, data, old):
            self._take(handle, distance)
        return True

    def _fetch(self, index: int) -> bytes:
        begin = index * self._blocks.size
        size = min(self._blocks.size, self._component.size - begin)
        self._source.aim(begin, begin + size)
        found = bytearray()
        while data := self._source.read(min(CHUNK_SIZE, size - len(found))):
            found += data
        return bytes(found)

    def _distances(self, index: int, data: bytes, old: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield old files with the distances at which they have pieces of a block, each once."""
        seen: set[tuple[int, int]] = set()
        for at in range(len(data) - PIECE, -1, -max(PIECE, len(data) // PIECES)):
            piece = data[at : at + PIECE]
            if len(set(piece)) < LEAST_VARIED:
                continue
            for handle in old:
                if (offset := self._offset(handle, piece)) is None:
                    continue
                one = handle, offset - (index * self._blocks.size + at)
                if one not in seen:
                    seen.add(one)
                    yield one
                break

    def _offset(self, handle: int, piece: bytes) -> int | None:
        """Return the offset of a piece in an old file; None if it was not found there."""
        tail = b""
        for offset, data in pieces(handle, CHUNK_SIZE, self._to_scan):
            self._to_scan -= len(data)
            at = (tail + data).find(piece)
            if at >= 0:
                return offset - len(tail) + at
            tail = data[-(PIECE - 1) :]
        return None

    def _take(self, handle: int, distance: int) -> None:
        """Take the missing blocks that an old file has at a distance."""
        size = self._blocks.size
        for index in list(self._each()):
            place = Place(handle, index * size + distance)
            if place.offset < 0 or self._left <= 0:
                continue
            data = place.read(min(size, self._component.size - index * size))
            self._left -= len(data)
            if hashlib.sha256(data).digest() == digest_of(self._blocks, index):
                self._found[index] = place
