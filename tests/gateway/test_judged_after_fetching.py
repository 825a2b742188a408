"""A release that ends while its payloads come: judged again right before it counts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fwsign.gateway.run.uptime import Uptime
from gateway.kit import Gateway, crls, make_gateway
from support import DAY, NOW, refused

OLD, NEW = {"app.tar": b"old"}, {"app.tar": b"new"}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway on which release 1 is installed."""
    made = make_gateway(tmp_path)
    made.install(made.release(1, OLD))
    return made


class Slow:
    """A transfer that takes seconds of uptime."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._now = int(seconds), 1000

    def uptime(self) -> Uptime:
        return Uptime("boot", self._now)

    def progress(self, *_: object) -> None:
        self._now, self._seconds = self._now + self._seconds, 0


def take(gateway: Gateway, envelope: Path, seconds: float) -> None:
    slow = Slow(seconds)
    gateway.install(envelope, uptime=slow.uptime, progress=slow.progress)


def test_a_release_that_ends_while_it_is_fetched_is_refused(gateway: Gateway) -> None:
    end = int(NOW.timestamp()) + 10
    envelope = gateway.release(2, NEW, use_before=end)
    with refused("stale.release"):
        take(gateway, envelope, 14)
    assert (gateway.installed, gateway.floor) == (OLD, 1)
    assert gateway.results[-1] == ("refused", "stale.release")
    take(gateway, envelope, 9)
    assert (gateway.installed, gateway.floor) == (NEW, 2)


def test_crls_and_certificates_that_end_meanwhile_are_refused(gateway: Gateway) -> None:
    envelope = gateway.release(2, NEW, crls=crls(7, days=(-1, 1)))
    with refused("stale.crl"):
        take(gateway, envelope, 2 * DAY.total_seconds())
    with refused("stale.certificate"):
        take(gateway, gateway.release(3, NEW), 10_000 * DAY.total_seconds())
    assert (gateway.installed, gateway.floor) == (OLD, 1)


def test_time_that_goes_back_is_no_time(gateway: Gateway) -> None:
    take(gateway, gateway.release(2, NEW), -5000)
    assert gateway.installed == NEW


def test_a_clock_at_the_end_of_all_years_ends_in_a_refusal(gateway: Gateway) -> None:
    slow = Slow(10)
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    with refused("stale.certificate"):
        gateway.install(gateway.release(2, NEW), at=last, uptime=slow.uptime)
