# SPDX-License-Identifier: Apache-2.0
"""The file of a collector's SQLite database: which one it is, and that it is still that one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fwsign.collect import schema
from fwsign.errors import Failed

_WRITING: Final = ("journal_mode = WAL", "synchronous = FULL")


class _Opened(sqlite3.Connection):
    """A connection, and the file that it is to: one under the same name may be another by now."""

    file: tuple[int, int] | None = None


class SqliteFile:
    """A file that connections are opened to.

    Args:
        path: where it is.
        make: whether it is made where there is none, and written; else it is only read.
        seconds: how long to wait for another writer.

    Raises:
        Failed: `io.missing`: there is no such file, and none is made.
    """

    def __init__(self, path: str, *, make: bool, seconds: int) -> None:
        self._path, self._writes, self._seconds = path, make, seconds
        self._make = make
        if not make and not Path(path).exists():
            raise Failed(
                "io.missing", f"there is no store {path}", hint="fwsign collect --store makes one"
            )

    def connect(self) -> _Opened:
        """Return a new connection.

        Raises:
            sqlite3.Error: the file is gone, or cannot be used.
            Failed: `io.store`: it is one of another program.
        """
        if not self._make and not Path(self._path).exists():
            raise sqlite3.OperationalError("the file is gone")
        self._make = False  # one that was made and is gone is no empty fleet
        connection = sqlite3.connect(
            f"file:{quote(self._path)}?mode={'rwc' if self._writes else 'ro'}",
            uri=True,
            timeout=self._seconds,
            isolation_level=None,
            check_same_thread=False,
            factory=_Opened,
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def is_there(self, connection: _Opened) -> bool:
        """Tell whether a connection is to the file that has the path now."""
        return connection.file == self._now()

    def _set_up(self, connection: _Opened) -> None:
        """Choose how the file is used; one of another program stays as it is."""
        for setting in (f"busy_timeout = {self._seconds * 1000}", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {setting}")
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = {name for (name,) in found}
        if names and not names >= schema.OF_EVERY_VERSION:
            raise Failed(
                "io.store",
                f"{self._path} is a database of something else, and stays as it is",
                expected="the tables of fwsign collect",
                found=", ".join(sorted(names))[:80],
                hint="name the file of fwsign collect, or for it a new one",
            )
        for setting in _WRITING if self._writes else ():
            connection.execute(f"PRAGMA {setting}")
        connection.file = self._now()

    def _now(self) -> tuple[int, int] | None:
        """Return what the file at the path has for itself alone; None if there is none."""
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
