# SPDX-License-Identifier: Apache-2.0
"""The tables of a device's memory, and the proof that a file has these, and nothing else.

`fwsign trust rehearse` and `receipts show --state` open memories that others wrote. A database is
a program: generated columns, views and triggers compute, and pages that name each other in circles
never end. So objects are compared by their text, values by type and length, rows by their order.
The work of reading is bounded by the few rows that a memory's schema has, and then by the size of
the file; that size alone would not do, since a file may be made of holes.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from fwsign.errors import Failed

APPLICATION: Final = int.from_bytes(b"fwsg")
VERSION: Final = 2
PAGE_SIZE: Final = 4096
TABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "floors": """CREATE TABLE floors (
    identity TEXT NOT NULL, vendor BLOB NOT NULL, class BLOB NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (identity, vendor, class)
) STRICT, WITHOUT ROWID""",
        "recorded": """CREATE TABLE recorded (
    identity TEXT NOT NULL, vendor BLOB NOT NULL, class BLOB NOT NULL, manifest BLOB NOT NULL,
    components BLOB NOT NULL,
    PRIMARY KEY (identity, vendor, class, manifest)
) STRICT, WITHOUT ROWID""",
        "crls": """CREATE TABLE crls (
    issuer BLOB NOT NULL, keys TEXT NOT NULL, crl BLOB NOT NULL
) STRICT""",
        "times": """CREATE TABLE times (vendor BLOB PRIMARY KEY, seconds INTEGER NOT NULL) STRICT, \
WITHOUT ROWID""",
        "facts": """CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, \
WITHOUT ROWID""",
        "receipts": "CREATE TABLE receipts (number INTEGER PRIMARY KEY, line TEXT NOT NULL) STRICT",
    }
)
SCHEMA: Final = ";\n".join(
    (
        f"PRAGMA page_size = {PAGE_SIZE}",
        f"PRAGMA application_id = {APPLICATION}",
        f"PRAGMA user_version = {VERSION}",
        *TABLES.values(),
    )
)
"""Makes an empty memory, without its sum."""

MAX_FILE_SIZE: Final = 8 * 1024**3
"""Bytes; millions of receipts, and boards of a factory."""
MAX_VALUE: Final = 4 * 1024 * 1024 + 64 * 1024
"""Bytes of one row: all held CRLs have 4 MiB, so one has no more."""
MAX_LINE_CHARACTERS: Final = 64 * 1024
"""Characters of a receipt's line; see `fwsign.receipts.chain.MAX_LINE`."""
MAX_IDENTITY: Final = 200
"""Characters of a board's identity."""
MAX_TEXT: Final = 1024 * 1024
"""Characters of a text that `State.remember` keeps; a list of anchors has no more bytes."""
MAX_CRLS: Final = 256
"""CRLs that are held; see `fwsign.memory.crls.ROW_SIZE`."""
WORK_FOR_SCHEMA: Final = 1000
"""Steps of SQLite until a memory's schema is read; ours takes a tenth. It parses each object there,
in a time that grows with the square of their number."""
WORK_FOR_PAGE: Final = 20_000
"""Steps of SQLite for each page while a memory is checked; full pages take a third."""
_WORK_AT_LEAST: Final = 100_000
_WORK_STEP: Final = 50_000
_SCHEMA_STEP: Final = 10

_LIMITS: Final = (
    (sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4096),
    (sqlite3.SQLITE_LIMIT_COLUMN, 16),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 16),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
)
_PRAGMAS: Final = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
    "synchronous = EXTRA",
    "fullfsync = ON",
    "temp_store = MEMORY",
)
_IDENTITY: Final = (str, 0, MAX_IDENTITY)
_ID: Final = (bytes, 16, 16)
_FACTS: Final = "SELECT * FROM facts"
_SUM: Final = "sum"
"""The fact that the sum leaves out. A condition in SQL would pass over it for ever, in circles."""
_BYTES: Final = ("trust", _SUM)
_COLUMNS: Final[tuple[tuple[str, int, tuple[tuple[type | None, int, int], ...]], ...]] = (
    ("SELECT * FROM floors", 3, (_IDENTITY, _ID, _ID, (int, 0, 2**63 - 1))),
    ("SELECT * FROM recorded", 4, (_IDENTITY, _ID, _ID, (bytes, 32, 64), (bytes, 1, 64 * 1024))),
    (
        "SELECT * FROM crls ORDER BY rowid",
        0,
        ((bytes, 1, 16 * 1024), (str, 0, 1024), (bytes, 1, MAX_VALUE)),
    ),
    ("SELECT * FROM times", 1, (_ID, (int, 0, 253402300799))),
    (_FACTS, 1, ((str, 1, 1024), (None, 0, MAX_TEXT))),
    (
        "SELECT * FROM receipts ORDER BY number DESC LIMIT 1",
        1,
        ((int, 1, 2**63 - 1), (str, 1, MAX_LINE_CHARACTERS)),
    ),
)
"""The rows that the sum covers, the number of columns of their key, and type and length, or range,
of each of their values.

Rows with a key come in its order. Those without one are `MAX_CRLS` at most.
The last receipt stands for the chain before it. A fact is bytes, if it is `trust` or the
sum, or else text.
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Let a connection compute nothing from the file's own schema, and write durably."""
    for limit, value in _LIMITS:
        connection.setlimit(limit, value)
    read_schema(connection)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def bounded(connection: sqlite3.Connection, size: int) -> Iterator[None]:
    """Bound the work of all statements inside it.

    Args:
        connection: the connection, which has read the file's schema.
        size: bytes of the file, and of the journal that may belong to it.

    Raises:
        sqlite3.OperationalError: `SQLITE_INTERRUPT`: it took too much.
    """
    with _working(connection, _WORK_AT_LEAST + size // PAGE_SIZE * WORK_FOR_PAGE, _WORK_STEP):
        yield


def read_schema(connection: sqlite3.Connection) -> None:
    """Let SQLite read the schema of a file, if it is no longer than a memory's.

    Raises:
        sqlite3.OperationalError: `SQLITE_INTERRUPT`: it is longer.
    """
    with _working(connection, WORK_FOR_SCHEMA, _SCHEMA_STEP):
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 0")


@contextmanager
def _working(connection: sqlite3.Connection, most: int, every: int) -> Iterator[None]:
    """End a statement after so many steps of all statements inside; count `every` so many."""
    left = most // every

    def spend() -> bool:
        nonlocal left
        left -= 1
        return left < 0  # SQLite ends the statement then

    connection.set_progress_handler(spend, every)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def check(connection: sqlite3.Connection) -> None:
    """Check all that is read of a memory, inside a transaction.

    Raises:
        ValueError: what is not as in a memory, in words.
        sqlite3.Error: it is damaged.
    """
    pages, size = _number(connection, "page_count"), _number(connection, "page_size")
    _demand(size == PAGE_SIZE, f"its pages have {size} bytes")
    _demand(pages * size <= MAX_FILE_SIZE, f"it has {pages * size} bytes")
    _check_objects(connection)
    kept = connection.execute("SELECT value FROM facts WHERE name = 'sum'").fetchone()
    found = _sum(_checked(connection, pages * size))
    _demand(kept == (found,), "its sum is not the one kept in it")


def check_text(text: str) -> None:
    """Refuse a text that is too long for a memory.

    Raises:
        Failed: `state.limit`.
    """
    if len(text) > MAX_TEXT:
        what = f"a text of {len(text)} characters for the memory, at most {MAX_TEXT} fit"
        raise Failed("state.limit", what, expected=MAX_TEXT, found=len(text))


def sum_of(connection: sqlite3.Connection) -> bytes:
    """Return the sum over everything that affects decisions."""
    return _sum(
        row
        for select, *_ in _COLUMNS
        for row in connection.execute(select)
        if row[0] != _SUM or select != _FACTS
    )


def _sum(rows: Iterator[tuple[Any, ...]]) -> bytes:
    state = hashlib.sha256()
    for row in rows:
        state.update(repr(row).encode())
    return state.digest()


def _check_objects(connection: sqlite3.Connection) -> None:
    expected = {("table", name, name, sql) for name, sql in TABLES.items()}
    select = "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT ?"
    rows = connection.execute(select, (len(expected) + 1,)).fetchall()
    _demand(len(rows) == len(expected) and set(rows) == expected, "it has other tables")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    _demand((mode, encoding) == ("delete", "UTF-8"), f"its modes are {mode} and {encoding}")


def _checked(connection: sqlite3.Connection, room: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that the sum covers. Together they are no larger than the file."""
    for select, keys, columns in _COLUMNS:
        before: tuple[Any, ...] = ()
        for number, row in enumerate(connection.execute(select)):
            # Memories of factories have many rows: no call and no text for a good value.
            for value, (kind, least, most) in zip(row, columns):  # noqa: B905 - both are ours
                wanted: Any = kind or (bytes if row[0] in _BYTES else str)
                if type(value) is not wanted:
                    raise ValueError(f"a value in it is no {wanted.__name__}")
                measure: int = value if wanted is int else len(value)
                if not least <= measure <= most:
                    raise ValueError(f"a value in it is {measure}, or so long")
                if wanted is not int:
                    room -= measure
            # Only after the types: in pages that name each other in circles, a row comes again.
            if row[:keys] <= before if keys else number == MAX_CRLS:
                raise ValueError("its rows are too many, or not in their order")
            before = row[:keys]
            room -= 1
            if room < 0:
                raise ValueError("its rows are larger than the file")
            if row[0] != _SUM or select != _FACTS:
                yield row


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def _demand(fine: bool, what: str) -> None:
    if not fine:
        raise ValueError(what)
