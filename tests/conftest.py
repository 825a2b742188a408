"""Settings for all tests, and the servers that tests share."""

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bao_kit import Bao

# A slow machine is no failure; examples are the same in each run, so that a red test stays red.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# The gateway is for POSIX systems, and cannot be imported elsewhere.
collect_ignore_glob = [] if os.name == "posix" else ["gateway/*", "test_gateway_kills.py"]


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Bao]":
    """Run one OpenBao for all tests; each test makes keys with names of its own."""
    import bao_kit  # few tests need it

    with bao_kit.running(tmp_path_factory.mktemp("bao")) as server:
        yield server
