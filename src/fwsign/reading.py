# SPDX-License-Identifier: Apache-2.0
"""Read payload files: in pieces that are counted, or in blocks that every core hashes."""

import mmap
import os
import threading
from collections.abc import Callable
from io import FileIO
from typing import Final, TypeAlias

from fwsign.format.component import Component
from fwsign.format.payload import CHUNK_SIZE, Blocks
from fwsign.format.streams import failed, wrong_size

Advance: TypeAlias = Callable[[int], object]
"""Told how many more bytes were read."""
_IN_HAND: Final = 32 * 1024 * 1024  # bytes that all threads together hash at a time


class BlockCheck:
    """Threads that take turns in reading; while one reads, the others hash.

    They need no processes: hashing gives way to other threads. Every byte is read once and in
    order: what is judged is what was read, whatever happens to the file meanwhile.

    Args:
        file: a file or pipe.
        component: the signed component.
        blocks: its block list.
        advance: told how many bytes were read.
    """

    def __init__(
        self, file: FileIO, component: Component, blocks: Blocks, advance: Advance | None = None
    ) -> None:
        self._file, self._component, self._blocks = file, component, blocks
        self._advance = advance
        self._lock = threading.Lock()
        self._read_so_far = self._checked = 0
        self._failures: list[tuple[int, BaseException]] = []

    def run(self) -> None:
        """Check the whole file.

        Raises:
            Tampered: `tampered.block`, `tampered.payload-size`.
            Failed: `io.*`.
        """
        size = self._component.carried.size
        piece = max(CHUNK_SIZE, self._blocks.size)  # both powers of two: whole blocks
        count = max(1, min(_cores(), _IN_HAND // piece, -(-size // piece)))
        threads = [
            threading.Thread(target=self._work, args=(piece,), daemon=True) for _ in range(count)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as stopped:  # such as Ctrl-C: the threads must stop too
            self._failures.append((size, stopped))
            raise
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0])[1]
        if self._fill(memoryview(bytearray(1))):
            raise wrong_size(self._component, f"more than {size} bytes")
        if self._checked != size:
            raise AssertionError("a block was left out")

    def _work(self, piece: int) -> None:
        # Memory of whole pages: a kernel copies several times as slowly into what malloc gives for
        # this size, 16 bytes behind a page's start, on processors whose `rep movsb` minds that.
        memory, size = memoryview(mmap.mmap(-1, piece)), self._blocks.size
        offset = 0
        try:
            while not self._failures:
                with self._lock:
                    offset, data = self._next(memory)
                for at in range(0, len(data), size):
                    block = data[at : at + size]
                    self._blocks.check(self._component, (offset + at) // size, block)
                with self._lock:
                    self._checked += len(data)
                if not data:
                    return
        except BaseException as error:  # noqa: BLE001 - after any error, the file is not good
            self._failures.append((offset, error))

    def _next(self, memory: memoryview) -> tuple[int, memoryview]:
        """Read the next whole blocks; none at the signed size."""
        offset = self._read_so_far
        wanted = memory[: self._component.carried.size - offset]
        got = self._fill(wanted)
        self._read_so_far += got
        if got < len(wanted):
            raise wrong_size(self._component, f"{self._read_so_far} bytes")
        if self._advance is not None:
            self._advance(got)
        return offset, wanted

    def _fill(self, memory: memoryview) -> int:
        """Read until the buffer is full or the file ends; pipes give little at a time."""
        full = 0
        try:
            while full < len(memory) and (got := self._file.readinto(memory[full:])):
                full += got
        except OSError as error:
            raise failed("io.read", "reading", self._component, error) from error
        return full


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Counted:
    """A file that tells how many bytes were read."""

    def __init__(self, file: FileIO, advance: Advance) -> None:
        self._file, self._advance = file, advance

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        data = self._file.read(size)
        self._advance(len(data))
        return data
