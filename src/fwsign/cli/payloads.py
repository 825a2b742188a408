# SPDX-License-Identifier: Apache-2.0
"""Read payload files in pieces, or hash their blocks on every core, with a progress bar."""

import mmap
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Final

import typer

from fwsign.cli import ui
from fwsign.cli.inputs import STREAM
from fwsign.files import io_error
from fwsign.format.component import Component
from fwsign.format.payload import CHUNK_SIZE, Blocks, PayloadSource, failed, wrong_size

_LARGE: Final = 32 * 1024 * 1024  # bytes; smaller files are done before a bar is seen
_IN_HAND: Final = 32 * 1024 * 1024  # bytes that all threads together hash at a time


class _Counted:
    """A file that reports the bytes read to a progress bar."""

    def __init__(self, file: FileIO, bar: Any) -> None:
        self._file, self._bar = file, bar

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        data = self._file.read(size)
        self._bar.update(len(data))
        return data


@contextmanager
def opened(path: Path) -> Iterator[PayloadSource]:
    """Open a payload for reading.

    Raises:
        Failed: `io.*`.
    """
    with _file(path) as file:
        size = os.fstat(file.fileno()).st_size
        with _bar(path.name, size) as bar:
            yield file if bar is None else _Counted(file, bar)


def check_blocks(path: Path, component: Component, blocks: Blocks) -> None:
    """Check a file by only its block list, hashing on every core.

    Every byte is read once and in order: what is judged is what was read, whatever happens to the
    file meanwhile. A pipe will do.

    Raises:
        Tampered: `tampered.block`, `tampered.payload-size`.
        Failed: `io.*`.
    """
    with _file(path) as file, _bar(path.name, component.size) as bar:
        _BlockCheck(file, component, blocks, bar).run()


class _BlockCheck:
    """Threads that take turns in reading; while one reads, the others hash.

    They need no processes: hashing gives way to other threads.
    """

    def __init__(self, file: FileIO, component: Component, blocks: Blocks, bar: Any) -> None:
        self._file, self._component, self._blocks, self._bar = file, component, blocks, bar
        self._lock = threading.Lock()
        self._read_so_far = self._checked = 0
        self._failures: list[tuple[int, BaseException]] = []

    def run(self) -> None:
        size = self._component.size
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
        wanted = memory[: self._component.size - offset]
        got = self._fill(wanted)
        self._read_so_far += got
        if got < len(wanted):
            raise wrong_size(self._component, f"{self._read_so_far} bytes")
        if self._bar is not None:
            self._bar.update(got)
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


@contextmanager
def _file(path: Path) -> Iterator[FileIO]:
    try:
        file = path.open("rb", buffering=0) if path != STREAM else FileIO(os.dup(0))
    except OSError as error:
        raise io_error(error, path) from error
    with file:
        yield file


@contextmanager
def _bar(name: str, size: int) -> Iterator[Any]:
    if size < _LARGE or ui.Console.quiet or not ui.is_terminal(sys.stderr):
        yield None
        return
    with typer.progressbar(length=size, label=ui.clean(name), file=sys.stderr) as bar:
        yield bar
