"""A PostgreSQL server in a directory of its own, which no other user can reach."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from support import absent

_PLACES = (Path("/usr/lib/postgresql"), Path("/usr/libexec/postgresql"))
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "40",
}


class Postgres:
    """A server, reached by a socket in its directory."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder, self._programs, self._user = folder, programs, user
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        more = ["--no-sync", "--auth=trust", "--username=fleet", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", "-D", str(self.folder / "data"), *more)

    def start(self, **settings: str) -> None:
        """Start it, and wait until it answers."""
        chosen = {**SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        options = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        command = self._command("postgres", "-D", str(self.folder / "data"), *options)
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        log.close()
        for _ in range(300):
            try:
                psycopg.connect(self.address("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """End it by its own process id, at once: connections break."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(30)
            self._process = None

    def address(self, database: str = "fleet") -> str:
        return f"postgresql://fleet@/{database}?host={self.folder}"

    def run(self, statement: str) -> None:
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _command(self, program: str, *words: str) -> list[str]:
        return [str(self._programs / program), *words]

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {"cwd": self.folder}
        found = pwd.getpwnam(self._user)
        return {"cwd": self.folder, "user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            self._command(program, *words), capture_output=True, check=False, **self._as_user()
        )
        assert done.returncode == 0, done.stderr.decode()


def find_programs() -> Path:
    """Return the directory of PostgreSQL's programs; skip where there is none."""
    found = sorted(path.parent for place in _PLACES for path in place.glob("*/bin/initdb"))
    if not found:
        absent("PostgreSQL is not installed")
    return found[-1]


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server until the end of the block. It refuses to be root's, so root lends a user."""
    programs = find_programs()
    user = None
    if os.getuid() == 0:
        user = next((one for one in ("postgres", "nobody") if _is_user(one)), None)
    folder = Path(tempfile.mkdtemp(prefix="fwsign-pg-", dir="/tmp"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    server = Postgres(folder, programs, user)
    try:
        server.initialise()
        server.start()
        server.run("CREATE DATABASE fleet")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def emptied(server: Postgres) -> str:
    """Return the address of the database, without any tables."""
    with psycopg.connect(server.address(), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server.address()
