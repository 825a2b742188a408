"""The collector's database, as SQLite; `test_postgresql` has the same for PostgreSQL."""

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from collect.postgres import Postgres, emptied
from fwsign.collect.store import FleetStore, open_store
from support import refused

DEVICE = "INSERT INTO devices (name, first_heard, last_heard) VALUES (?, 1, 1)"
NAMES = "SELECT name FROM devices ORDER BY name"


def insert(store: FleetStore, *names: str) -> None:
    with store.transaction() as run:
        run.many(DEVICE, [(name,) for name in names])


def interrupted(store: FleetStore) -> None:
    with store.transaction() as run:
        run.rows(DEVICE, "gw-2")
        raise KeyboardInterrupt


def test_a_transaction_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/fleet.db") as store:
        with store.transaction() as run:
            run.rows(DEVICE, "gw-1")
        with pytest.raises(KeyboardInterrupt):
            interrupted(store)
        with refused("io.store", "UNIQUE constraint failed: devices.name"):
            insert(store, "gw-3", "gw-1")
        with store.transaction("read") as run:
            assert run.rows(NAMES) == [("gw-1",)]


def test_tables_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/fleet.db"
    with open_store(address) as store, store.transaction() as run:
        run.rows("UPDATE meta SET value = '3'")
    with refused("state.newer", "has tables of version 3, this fwsign knows 2"):
        open_store(address)


def test_tables_of_an_older_version_are_brought_up_to_date(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/fleet.db"
    with open_store(address) as store, store.transaction() as run:
        run.rows(DEVICE, "gw-1")
        run.rows("INSERT INTO running (device, board, state, receipt) VALUES (1, '', 'unknown', 1)")
        for name in ("placed", "ended", "last"):
            run.rows(f"ALTER TABLE running DROP COLUMN {name}")
        run.rows("DROP TABLE accounts")
        run.rows("UPDATE meta SET value = '1'")
    with refused("state.newer", "has tables of version 1, this fwsign knows 2") as found:
        open_store(address, make=False)
    assert found.value.hint == "fwsign collect --store brings older ones up to date"
    with open_store(address) as store, store.transaction("read") as run:
        assert run.rows("SELECT placed, ended, last FROM running") == [(0, 0, 0)]
        assert run.rows("SELECT count(*) FROM accounts") == [(0,)]
    open_store(address, make=False).close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fleet.db").write_bytes(b"something else" * 100)
    with refused("io.store", "file is not a database"):
        open_store(f"sqlite:///{tmp_path}/fleet.db")


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with refused("io.store", f"the store {tmp_path}/none/fleet.db: unable to open database file"):
        open_store(f"sqlite:///{tmp_path}/none/fleet.db")


@pytest.mark.parametrize("make", [True, False])
def test_a_database_of_something_else_stays_as_it_is(tmp_path: Path, *, make: bool) -> None:
    """A gateway's memory whose journal was changed would be damaged."""
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE floors (identity TEXT)")
    before = path.read_bytes()
    with refused("io.store", f"{path} is a database of something else, and stays as it is"):
        open_store(f"sqlite:///{path}", make=make)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["state.db"]


def test_who_only_asks_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a fleet? 100%.db"
    address = f"sqlite:///{quote(str(path))}"
    with open_store(address) as store:
        insert(store, "gw-1")
        with open_store(address, make=False) as asking:
            with asking.transaction("read") as run:
                assert run.rows(NAMES) == [("gw-1",)]
            with refused("io.store", "attempt to write a readonly database"):
                insert(asking, "gw-2")
    before = path.read_bytes()
    with open_store(address, make=False) as asking, asking.transaction("read") as run:
        assert run.rows(NAMES) == [("gw-1",)]
    assert path.read_bytes() == before


@pytest.mark.parametrize("put_back", ["the same", "another"])
def test_a_file_that_is_gone_takes_nothing(tmp_path: Path, put_back: str) -> None:
    """What went into a removed file would be acknowledged, and lost."""
    path = tmp_path / "fleet.db"
    with open_store(f"sqlite:///{tmp_path}/aside.db") as store:
        insert(store, "older")
    with open_store(f"sqlite:///{path}") as store:
        insert(store, "gw-1")
        for one in tmp_path.glob("fleet.db*"):
            one.rename(tmp_path / one.name.replace("fleet", "moved"))
        for _ in range(2):
            with refused("io.store", f"the store {path}: the file is gone"):
                insert(store, "gw-2")
        assert not path.exists()
        for one in tmp_path.glob("moved.db*" if put_back == "the same" else "aside.db"):
            one.rename(tmp_path / one.name.replace(one.stem, "fleet"))
        insert(store, "gw-3")
        with store.transaction("read") as run:
            names = {name for (name,) in run.rows(NAMES)}
    assert names == {"gw-1" if put_back == "the same" else "older", "gw-3"}


def test_two_collectors_begin_at_once(postgres: Postgres) -> None:
    address = emptied(postgres)
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(lambda _: open_store(address), range(4)):
            one.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://host/fleet", 'the store "mysql" is not sqlite:///FILE, or postgresql'),
        ("fleet.db", "is not sqlite:///FILE, or"),
        ("sqlite:fleet.db", "sqlite:fleet.db is not sqlite:///FILE"),
        ("sqlite:///", "is not sqlite:///FILE"),
        ("postgresql://me:s3cret@host/fleet", "a password in the address is seen by every user"),
        ("postgres://host/fleet?user=me&password=s3cret", "a password in the address"),
        ("postgresql://host/fleet?sslpassword=s3cret", "a password in the address"),
        ("postgresql://[host/fleet", "the store is not sqlite"),
    ],
)
def test_other_addresses_are_refused(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        open_store(address)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_relative_file_and_an_absolute_one_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///here.db").close()
    open_store(f"sqlite:///{tmp_path}/there%201.db").close()
    assert sorted(one.name for one in tmp_path.glob("*.db")) == ["here.db", "there 1.db"]
