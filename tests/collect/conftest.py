"""One PostgreSQL server for all tests of the collector."""

from collections.abc import Iterator

import pytest

from collect.postgres import Postgres, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server
