# SPDX-License-Identifier: Apache-2.0
"""Payload files, read ahead so that reading and hashing overlap, with a progress bar."""

import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import typer

from fwsign.atomic import io_error
from fwsign.cli import ui
from fwsign.payload import CHUNK_SIZE, Source

_LARGE: Final = 32 * 1024 * 1024  # bytes; below, a thread costs more than it saves
_AHEAD: Final = 4  # chunks


class _ReadAhead:
    """A source whose file a thread reads; errors of the thread come out of `read`."""

    def __init__(self, file: BinaryIO, bar: Any) -> None:
        self._file, self._bar = file, bar
        self._chunks: queue.Queue[bytes | OSError] = queue.Queue(_AHEAD)
        self._left = b""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped:
                data = self._file.read(CHUNK_SIZE)
                self._chunks.put(data)
                if not data:
                    return
        except OSError as error:
            self._chunks.put(error)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        data = self._left or self._chunks.get()
        if isinstance(data, OSError):
            raise data
        if self._bar is not None:
            self._bar.update(min(size, len(data)))
        # Whole chunks are handed on as they are; only the last one is cut.
        self._left, data = data[size:], data[:size]
        return data

    def stop(self) -> None:
        """End the thread, also where not everything was read."""
        self._stopped = True
        while self._thread.is_alive():
            try:
                self._chunks.get(timeout=0.01)
            except queue.Empty:
                continue


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a payload for reading.

    Raises:
        Failed: `io.*`.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise io_error(error, path) from error
    with file:
        size = os.fstat(file.fileno()).st_size
        if size < _LARGE:
            yield file
            return
        with _bar(path.name, size) as bar:
            source = _ReadAhead(file, bar)
            try:
                yield source
            finally:
                source.stop()


@contextmanager
def _bar(name: str, size: int) -> Iterator[Any]:
    if ui.Console.quiet or not ui.is_terminal(sys.stderr):
        yield None
        return
    with typer.progressbar(length=size, label=ui.clean(name), file=sys.stderr) as bar:
        yield bar
