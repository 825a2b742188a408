"""Settings for all tests."""

import gc
import os

from hypothesis import HealthCheck, settings

# A slow machine is no failure; examples are the same in each run, so that a red test stays red.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# Fixtures that more than one folder uses.
pytest_plugins = ["bao_kit", "softhsm_kit"]

# The gateway is for POSIX systems, and cannot be imported elsewhere.
collect_ignore_glob = [] if os.name == "posix" else ["gateway/*", "test_gateway_kills.py"]


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through all the tests again and again."""
    gc.collect()
    gc.freeze()
