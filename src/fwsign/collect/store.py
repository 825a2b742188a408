# SPDX-License-Identifier: Apache-2.0
"""The collector's database: SQLite in a file, or PostgreSQL.

Both speak the SQL of `fwsign.collect.schema`, with `?` for values. A transaction is kept whole or
not at all, and is on disk when it ends. Passwords of PostgreSQL come from a password file or a
service file of libpq, never from the address: that is seen by every user of the machine.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from fwsign.collect import schema
from fwsign.collect.sqlite_file import SqliteFile
from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fwsign.collect.schema import Dialect

BUSY_SECONDS: Final = 10
"""Seconds to wait for another writer, or for PostgreSQL to answer a connection."""
STATEMENT_SECONDS: Final = 60
"""Seconds of one statement; a question to ten million receipts takes fewer."""
MAX_IDLE: Final = 8
"""Connections that are kept for the next transaction."""
_MAKING: Final = 0x66777369676E
"""The number of the lock of PostgreSQL for making the tables."""
_SQLITE: Final = "sqlite://"
_POSTGRESQL: Final = ("postgresql", "postgres")
_SECRETS: Final = {"password", "sslpassword"}
_EXPECTED: Final = "sqlite:///FILE, or postgresql://[USER@]HOST[:PORT]/DATABASE"


class FleetRun:
    """The statements of one transaction."""

    def __init__(self, connection: Any, dialect: Dialect) -> None:
        self.connection, self.dialect = connection, dialect
        self.lock = " FOR UPDATE" if dialect == "postgresql" else ""
        """Ends a SELECT whose rows no other transaction may change meanwhile."""
        self._queues = False

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement with `?` for each value, and return its rows."""
        cursor = self.connection.execute(self._text(statement), values)
        if self._queues:
            return list(cursor.fetchall()) if statement.lstrip().startswith("SELECT") else []
        return list(cursor.fetchall()) if cursor.description else []

    @contextlib.contextmanager
    def queued(self) -> Iterator[None]:
        """Do not wait for each statement inside it but SELECT: a server may be far away."""
        if self.dialect == "sqlite":
            yield
            return
        with self.connection.pipeline():
            self._queues = True
            try:
                yield
            finally:
                self._queues = False

    def many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        with contextlib.closing(self.connection.cursor()) as cursor:
            cursor.executemany(self._text(statement), rows)

    def _text(self, statement: str) -> str:
        return statement if self.dialect == "sqlite" else statement.replace("?", "%s")


class FleetStore:
    """The database; only `open_store` makes it. Several threads may use it at once.

    Attributes:
        dialect: "sqlite" or "postgresql".
        place: its address, without secrets, for messages.
    """

    def __init__(
        self,
        dialect: Dialect,
        place: str,
        connect: Callable[[], Any],
        is_there: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        self.dialect, self.place = dialect, place
        self._connect, self._is_there = connect, is_there
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._errors = _errors(dialect)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            with contextlib.suppress(*self._errors):
                one.close()

    def prepare(self) -> None:
        """Make the tables that are not there yet, and compare the version.

        Raises:
            Failed: `io.store`; `state.newer`: the tables of a newer fwsign.
        """
        with self.transaction() as run:
            if self.dialect == "postgresql":  # two that begin at once would collide
                run.rows("SELECT pg_advisory_xact_lock(?)", _MAKING)
            for statement in schema.statements(self.dialect):
                run.rows(statement)
            run.rows(
                "INSERT INTO meta VALUES ('version', ?) ON CONFLICT (name) DO NOTHING",
                str(schema.VERSION),
            )
            ((found,),) = run.rows("SELECT value FROM meta WHERE name = 'version'")
            for statement in schema.UPGRADES.get(found, ()):
                run.rows(statement)
            if found in schema.UPGRADES:
                run.rows("UPDATE meta SET value = ? WHERE name = 'version'", str(schema.VERSION))
        self.compare()

    def compare(self) -> None:
        """Compare the version of the tables.

        Raises:
            Failed: `io.store`: also if there are none; `state.newer`: those of a newer fwsign.
        """
        with self.transaction("read") as run:
            ((found,),) = run.rows("SELECT value FROM meta WHERE name = 'version'")
        if found != str(schema.VERSION):
            raise Failed(
                "state.newer",
                f"{self.place} has tables of version {found}, this fwsign knows {schema.VERSION}",
                expected=schema.VERSION,
                found=found,
                hint="fwsign collect --store brings older ones up to date"
                if found in schema.UPGRADES
                else None,
            )

    @contextlib.contextmanager
    def transaction(self, kind: Literal["read", "write"] = "write") -> Iterator[FleetRun]:
        """Make all statements inside it one step; all or none are kept.

        Raises:
            Failed: `io.store`: the database does not answer, or cannot keep it.
        """
        begin = "BEGIN IMMEDIATE" if self.dialect == "sqlite" and kind == "write" else "BEGIN"
        try:
            connection = self._begun(begin)
            try:
                yield FleetRun(connection, self.dialect)
                connection.execute("COMMIT")
            except BaseException:
                self._undo(connection)
                raise
        except self._errors as error:
            raise self._failed(error) from error
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _begun(self, begin: str) -> Any:
        """Return a connection with a transaction; a kept one may be of a server that is gone."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            try:
                if self._is_there(connection):
                    connection.execute(begin)
                    return connection
            except self._errors:
                pass
            with contextlib.suppress(*self._errors):
                connection.close()
        connection = self._connect()
        try:
            connection.execute(begin)
        except BaseException:
            connection.close()
            raise
        return connection

    def _undo(self, connection: Any) -> None:
        """End a connection whose transaction failed: the next one begins with a fresh one."""
        with contextlib.suppress(*self._errors):
            connection.rollback()
        with contextlib.suppress(*self._errors):
            connection.close()

    def _failed(self, error: Exception) -> Failed:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        return Failed("io.store", f"the store {self.place}: {words}", found=type(error).__name__)


def open_store(address: str, *, make: bool = True) -> FleetStore:
    """Open a database by its address, and make its tables if there are none.

    Args:
        address: `sqlite:///FILE`, `sqlite:////ABSOLUTE/FILE`, or a `postgresql://` URI of libpq
            without a password.
        make: whether a new one is made; else it is only read.

    Raises:
        Failed: `io.store`, `state.newer`; `state.library`: psycopg is not installed; `io.missing`:
            there is no such file, and none is made.
        ValueError: no such address, in words.
    """
    scheme = address.partition(":")[0].lower()
    if scheme == "sqlite":
        store = _sqlite(address, make=make)
    elif scheme in _POSTGRESQL:
        store = _postgresql(address)
    else:
        raise ValueError(f'the store "{scheme}" is not {_EXPECTED}')
    try:
        store.prepare() if make else store.compare()
    except BaseException:
        store.close()
        raise
    return store


def _errors(dialect: Dialect) -> tuple[type[Exception], ...]:
    if dialect == "sqlite":
        return (sqlite3.Error,)
    import psycopg

    return (psycopg.Error,)


def _sqlite(address: str, *, make: bool) -> FleetStore:
    path = unquote(address.removeprefix(_SQLITE).removeprefix("/"))
    if not address.startswith(f"{_SQLITE}/") or not path:
        raise ValueError(f"{address} is not sqlite:///FILE")
    file = SqliteFile(path, make=make, seconds=BUSY_SECONDS)
    return FleetStore("sqlite", path, file.connect, file.is_there)


def _postgresql(address: str) -> FleetStore:
    try:
        parts = urlsplit(address)
        secret = parts.password is not None or bool(_SECRETS & parse_qs(parts.query).keys())
    except ValueError as error:
        raise ValueError(f"the store is not {_EXPECTED}") from error
    if secret:
        raise ValueError("a password in the address is seen by every user of this machine")
    try:
        import psycopg
    except ImportError as error:
        raise Failed(
            "state.library",
            "a store in PostgreSQL needs psycopg, which is not installed",
            expected="psycopg 3",
            found="none",
            hint="pip install 'fwsign[collect]'",
        ) from error

    def connect() -> Any:
        return psycopg.connect(
            address,
            autocommit=True,
            connect_timeout=BUSY_SECONDS,
            application_name="fwsign",
            keepalives_idle=BUSY_SECONDS,
            tcp_user_timeout=BUSY_SECONDS * 1000,
            options=f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={BUSY_SECONDS}s"
            " -c jit=off",  # compiling a question takes longer than its answer
        )

    host = parts.hostname or "local socket"
    return FleetStore("postgresql", f"{parts.scheme}://{host}{parts.path}", connect)
