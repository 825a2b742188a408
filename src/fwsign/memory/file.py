# SPDX-License-Identifier: Apache-2.0
"""The file of the device's memory: it is created whole, checked when opened, and transactional.

It is one SQLite file with a rollback journal, so a single file at rest. EXTRA syncs the directory
after the journal is removed, so that a crash or power loss leaves the old state or the new one.
SQLite itself has no checksum, so the file keeps a sum over everything that affects decisions: a
flipped bit is an error, and never a board that looks new. The sum is no protection from an attacker
who can write the file.
"""

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Self

from fwsign.errors import Code, Failed, FwsignError
from fwsign.files import io_error, refuse_special, sync_directory, write_atomic
from fwsign.memory import schema

BUSY_SECONDS: Final = 30
"""Seconds to wait for another process; a slow token signs many receipts in that time."""

_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
"""If a journal ends like this, SQLite takes the bytes before for a super-journal's name."""

_REASONS: Final[Mapping[int, tuple[Code, str]]] = MappingProxyType(
    {
        sqlite3.SQLITE_BUSY: ("state.busy", "another process keeps it locked"),
        sqlite3.SQLITE_LOCKED: ("state.busy", "another process keeps it locked"),
        sqlite3.SQLITE_PERM: ("io.permission", "permission denied"),
        sqlite3.SQLITE_READONLY: ("io.permission", "it is read-only"),
        sqlite3.SQLITE_CANTOPEN: ("io.permission", "it cannot be opened, or nothing written there"),
        sqlite3.SQLITE_FULL: ("io.full", "no space left on device"),
        sqlite3.SQLITE_IOERR: ("io.write", "input or output error"),
        sqlite3.SQLITE_NOTADB: ("state.foreign", "it is something else, or overwritten"),
        sqlite3.SQLITE_INTERRUPT: (
            "state.damaged",
            "its pages name each other in circles, or are too many",
        ),
    }
)


class StateFile:
    """The open file. Only `open` makes it, and one thread uses it.

    Attributes:
        is_new: whether `open` made the file.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, *, is_new: bool) -> None:
        self._connection = connection
        self._path = path
        self.is_new = is_new

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Self:
        """Open a memory, and check that it is whole; see `fwsign.memory.state.State.open`."""
        refuse_special(path)
        is_new = create and not os.path.lexists(path) and _create(path)
        _refuse_super_journal(path)
        # Never read it as a plain file: closing that would drop this process's locks on it.
        size = sum(_size(one) for one in (path, _journal_of(path)))
        opened = cls(_connect(path), path, is_new=is_new)
        try:
            opened._check(size)
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Close the file; undo uncommitted changes."""
        self._connection.close()

    def run(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Run a statement inside a `transaction`."""
        return self._connection.execute(statement, values)

    @contextmanager
    def transaction(self, kind: Literal["read", "write"]) -> Iterator[None]:
        """Make all statements inside it one step: they read one moment; all or none are written.

        Raises:
            Failed: `state.busy`, `state.damaged`, `io.*`.
        """
        if self._connection.in_transaction:  # a part of a larger step
            yield
            return
        with _explained(self._path):
            self.run("BEGIN IMMEDIATE" if kind == "write" else "BEGIN")
            try:
                yield
                if kind == "write":
                    sum_now = schema.sum_of(self._connection)
                    self.run("REPLACE INTO facts VALUES ('sum', ?)", sum_now)
                self.run("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def damaged(self, found: str) -> Failed:
        """Return the error for a content that no memory has."""
        return _damaged(self._path, found)

    @contextmanager
    def whole(self, what: str) -> Iterator[None]:
        """Take a value that does not decode for damage; it is not from an envelope.

        Raises:
            Failed: `state.damaged`.
        """
        try:
            yield
        except FwsignError as error:
            raise self.damaged(f"{what}: {error}") from error

    def _check(self, size: int) -> None:
        try:
            self._check_version()
            with schema.bounded(self._connection, size), self.transaction("read"):
                schema.check(self._connection)
        except ValueError as error:
            raise _damaged(self._path, str(error)) from None

    def _check_version(self) -> None:
        with _explained(self._path):
            schema.prepare(self._connection)
            ((application,),) = self.run("PRAGMA application_id")
            ((version,),) = self.run("PRAGMA user_version")
        if application != schema.APPLICATION:
            raise Failed("state.foreign", f"{self._path} is not a device's memory")
        known = schema.VERSION
        if version != known:
            raise Failed(
                "state.newer" if version > known else "state.foreign",
                f"{self._path} is a memory of version {version}, this fwsign knows {known}",
                expected=known,
                found=version,
            )


def default_path(platform: str = sys.platform) -> Path:
    """Return the path of a user's memory of boards.

    Raises:
        Failed: `state.home`.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises if there is none
    if platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", ""))
    elif platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME", ""))
        if not base.is_absolute():  # the XDG specification says to ignore it then
            base = home / ".local" / "state"
    if not base.is_absolute():
        raise Failed("state.home", "there is no home directory to keep the memory of boards in")
    return base / "fwsign" / "boards.db"


def _create(path: Path) -> bool:
    """Make an empty memory, whole or not at all; return False if another process was first."""
    journal = Path(f"{path}-journal")
    if os.path.lexists(journal):  # SQLite would apply the old journal to the new file
        message = f"{path} is not there, but its journal is: the memory was moved or deleted"
        raise Failed("state.lost", message, expected=str(path), found=str(journal))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(schema.SCHEMA)
        with StateFile(connection, path, is_new=True).transaction("write"):
            pass  # writes the sum of the empty memory
        content = connection.serialize()
    try:
        _make_directory(path.parent)
        write_atomic(path, content, mode=0o600)
    except OSError as error:
        raise io_error(error, path.parent, "write") from error
    except Failed as error:
        if error.code != "io.exists":
            raise
        return False
    return True


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def _journal_of(path: Path) -> Path:
    return Path(f"{os.path.realpath(path)}-journal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # opening it gives the error
        return 0


def _refuse_super_journal(path: Path) -> None:
    """Refuse a journal that names a file at its end: SQLite would delete that file."""
    journal = _journal_of(path)
    refuse_special(journal)
    try:
        with journal.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(_JOURNAL_MAGIC)))
            found = file.read(len(_JOURNAL_MAGIC))
    except (FileNotFoundError, NotADirectoryError):  # SQLite has a better message for the second
        return
    except OSError as error:
        raise io_error(error, journal) from error
    if found == _JOURNAL_MAGIC:
        raise _damaged(path, "its journal is of several databases")


def _connect(path: Path) -> sqlite3.Connection:
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"  # rwc would make a new, empty one
        with _explained(path):
            return sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
    except OSError as error:
        raise io_error(error, path) from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second for damaged names
        raise _explain(error, path) from error


def _explain(error: Exception, path: Path) -> Failed:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        message = f"the device's memory {path} is not there"
        return Failed("state.lost", message, expected=str(path), found="no such file")
    except OSError as reason:
        return io_error(reason, path)
    if stat.S_ISDIR(mode):
        return Failed("io.directory", f"{path} is a directory, not a device's memory")
    number = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if (number & 0xFF) not in _REASONS:
        return _damaged(path, str(error))
    code, words = _REASONS[number & 0xFF]
    return Failed(code, f"the device's memory {path}: {words}", found=str(error))


def _damaged(path: Path, found: str) -> Failed:
    words = f"the device's memory {path} is damaged, or was changed by another program: {found}"
    return Failed("state.damaged", words, expected="a whole memory", found=found)
