"""One PostgreSQL server for all tests of the collector, and a store of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collect.kit import sqlite_address
from collect.postgres import Postgres, emptied, running
from fwsign.collect.store import FleetStore, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FleetStore]:
    """An empty store."""
    if request.param == "sqlite":
        address = sqlite_address(tmp_path)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        address = emptied(server)
    with open_store(address) as made:
        yield made
