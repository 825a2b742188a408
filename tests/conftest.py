"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# A slow machine is no failure; examples are the same in each run, so that a red test stays red.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
