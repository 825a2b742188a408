# SPDX-License-Identifier: Apache-2.0
"""A folder as a store; any web server can serve it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fwsign.errors import Failed
from fwsign.files import atomic_writer, exclusive, io_error, open_plain, write_atomic
from fwsign.format.payload import CHUNK_SIZE
from fwsign.publish.store import (
    Source,
    StoredEntry,
    check_size,
    conflict,
    missing,
    written_time,
)


class FolderStore:
    """A folder; see `fwsign.publish.store.Store`.

    Args:
        base: the folder, which is made with the first file.
    """

    def __init__(self, base: Path) -> None:
        self._base = base

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._base)

    def entry(self, path: str) -> StoredEntry | None:
        """Return the facts about a file; None if there is none."""
        file = self._base / path
        try:
            facts = file.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise io_error(error, file) from error
        return StoredEntry(path, facts.st_size, facts.st_mtime)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a file."""
        file = self._base / path
        if not os.path.lexists(file):
            raise missing(self.place, path)
        with open_plain(file, "files") as opened:
            try:
                rest = max(os.fstat(opened.fileno()).st_size - start, 0)
                wanted = rest if size is None else min(size, rest)
                check_size(self.place, path, wanted)
                opened.seek(start)
                return opened.read(wanted)
            except OSError as error:
                raise io_error(error, file) from error

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        """Write a file that is not there, under its name only once it is whole."""
        del size  # the source counts
        file = self._made(path)
        try:
            with atomic_writer(file) as sink:
                while data := source.read(CHUNK_SIZE):
                    sink.write(data)
        except Failed as error:
            if error.code == "io.exists":
                return False
            raise
        return True

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        """Replace a file; the lock of the folder orders the publishers of one file system."""
        del names  # files are kept without being named
        file = self._made(path)
        with exclusive(self._base):
            found = self.read(path) if os.path.lexists(file) else None
            if found != seen:
                raise conflict(self.place, path)
            write_atomic(file, data, overwrite=True)
        return True

    def names(self, prefix: str) -> Iterator[StoredEntry]:
        """Yield the files in a directory, with what a killed publisher left there."""
        directory = self._base / prefix
        try:
            with os.scandir(directory) as found:
                files = sorted(one.name for one in found if not one.is_dir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise io_error(error, directory) from error
        for name in files:
            path = f"{prefix}{name}"
            # One that was removed meanwhile, or a link to nothing, is for the reader to refuse.
            yield self.entry(path) or StoredEntry(path, 0, 0.0)

    def delete(self, path: str) -> None:
        """Remove a file."""
        file = self._base / path
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise io_error(error, file, "write") from error

    def now(self) -> float:
        """Return the time of the folder's file system, which may be another machine's."""
        return written_time(self, lambda path: write_atomic(self._base / path, b""))

    def _made(self, path: str) -> Path:
        """Return a file's path, in a directory that is there."""
        file = self._base / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise io_error(error, file.parent, "write") from error
        return file
