"""Rollouts: who is in is decided by salt and id alone, and raising a share keeps everybody."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.format.rollout import WHOLE, Rollout, percent, place, why_not

SALT = bytes(range(16))
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
T = int(NOW.timestamp())


def test_a_place_is_the_hash_of_salt_and_id_modulo_ten_thousand() -> None:
    found = int(hashlib.sha256(SALT + b"gateway-0017").hexdigest(), 16) % 10_000
    assert place(SALT, "gateway-0017") == found
    assert place(SALT, "ä") == int(hashlib.sha256(SALT + b"\xc3\xa4").hexdigest(), 16) % 10_000


@given(st.binary(min_size=16, max_size=16), st.text(), st.integers(0, WHOLE), st.integers(0, WHOLE))
def test_raising_the_share_keeps_everybody(salt: bytes, device: str, one: int, two: int) -> None:
    low, high = sorted((one, two))
    device = device.encode(errors="replace").decode()
    if why_not(Rollout(salt, low), device, (), NOW) is None:
        assert why_not(Rollout(salt, high), device, (), NOW) is None
    assert why_not(Rollout(salt, WHOLE), device, (), NOW) is None
    assert why_not(Rollout(salt, 0), device, (), NOW) is not None


def test_shares_are_met_and_salts_are_independent() -> None:
    names = [f"gateway-{number}" for number in range(20_000)]
    for share in (100, 1000, 5000):
        inside = [place(SALT, one) < share for one in names]
        assert sum(inside) == pytest.approx(20_000 * share / WHOLE, rel=0.15)
        other = [place(bytes(16), one) < share for one in names]
        both = sum(one and two for one, two in zip(inside, other, strict=True))
        assert both == pytest.approx(20_000 * (share / WHOLE) ** 2, rel=0.15, abs=8)


def test_the_last_place_needs_all() -> None:
    device = next(one for one in map(str, range(100_000)) if place(SALT, one) == 9_999)
    assert why_not(Rollout(SALT, 9_999), device, (), NOW) == (
        "the rollout is for 99.99 %, this device is at 99.99 %"
    )
    assert why_not(Rollout(SALT), device, (), NOW) is None
    first = next(one for one in map(str, range(100_000)) if place(SALT, one) == 0)
    assert why_not(Rollout(SALT, 1), first, (), NOW) is None
    assert why_not(Rollout(SALT, 0), first, (), NOW) == (
        "the rollout is for 0 %, this device is at 0 %"
    )


def test_cohorts() -> None:
    rollout = Rollout(SALT, cohorts=("lab", "pilot"))
    assert why_not(rollout, "x", ("pilot",), NOW) is None
    assert why_not(rollout, "x", {"eu", "lab"}, NOW) is None
    for own, words in (((), "none"), (("west", "east"), "east, west")):
        assert why_not(rollout, "x", own, NOW) == (
            f"the rollout is for lab, pilot, this device's cohorts are: {words}"
        )


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ((None, None), None),
        ((T, None), None),
        ((T + 1, None), "the rollout begins 2026-11-22 12:00 UTC, it is 2026-11-22 12:00 UTC"),
        ((T + 3600, None), "the rollout begins 2026-11-22 13:00 UTC, it is 2026-11-22 12:00 UTC"),
        ((None, T + 1), None),
        ((None, T), "the rollout ended 2026-11-22 12:00 UTC, it is 2026-11-22 12:00 UTC"),
        ((T, T + 1), None),
        ((T - 2, T - 1), "the rollout ended 2026-11-22 11:59 UTC, it is 2026-11-22 12:00 UTC"),
    ],
)
def test_windows(window: tuple[int | None, int | None], why: str | None) -> None:
    assert why_not(Rollout(SALT, WHOLE, (), *window), "x", (), NOW) == why


def test_percent() -> None:
    assert [percent(one) for one in (0, 1, 25, 1000, 1250, 10_000)] == [
        *("0 %", "0.01 %", "0.25 %", "10 %", "12.5 %", "100 %")
    ]
