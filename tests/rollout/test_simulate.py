"""Simulated rollouts against the devices' own rule, and their pictures."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest

from fwsign.format.rollout import WHOLE, Rollout, place, why_not
from fwsign.rollout.picture import lines, shown, spacing
from fwsign.rollout.simulate import HOUR, Curve, Pollster, RolloutStep, numbered, simulate
from fwsign.rollout.svg import draw

SALT = bytes(range(16))
BEGIN = 1_795_000_000
PLAN = (RolloutStep(100, 0), RolloutStep(1000, 24 * HOUR), RolloutStep(WHOLE, 72 * HOUR))
FLEET = [*numbered(3000)]


def run(plan: tuple[RolloutStep, ...] = PLAN, pause: int | None = None) -> Curve:
    return simulate(Rollout(SALT), plan, FLEET, every=HOUR, begin=BEGIN, pause=pause)


def test_each_device_decides_as_a_real_one_at_its_polls() -> None:
    """Every poll of every device, by the function that devices run."""
    rollout = Rollout(SALT, start=BEGIN + 3 * HOUR, until=BEGIN + 30 * HOUR)
    every, taken = 2 * HOUR, []
    for device in FLEET[:400]:
        offset = place(b"poll", device.device_id) * every // WHOLE
        for time in range(offset, 80 * HOUR, every):
            share = max(one.share for one in PLAN if one.at <= time)
            now = datetime.fromtimestamp(BEGIN + time, UTC)
            if why_not(rollout._replace(share=share), device.device_id, (), now) is None:
                taken.append(time)
                break
    found = simulate(rollout, PLAN, FLEET[:400], every=every, begin=BEGIN)
    assert taken
    assert list(found.taken) == sorted(taken)


def test_a_pause_spares_whoever_has_not_polled() -> None:
    whole, paused = run(), run(pause=24 * HOUR + HOUR // 2)
    assert len(whole.taken) == 3000
    assert paused.taken == whole.taken[: len(paused.taken)]
    assert len(paused.taken) == whole.by(24 * HOUR + HOUR // 2)
    assert 30 < len(paused.taken) < 300  # about half of the tenth has polled
    assert paused.spared == 3000 - len(paused.taken)
    assert (whole.spared, whole.pause) == (0, None)


def test_within_one_poll_all_who_are_in_have_it() -> None:
    found = run(plan=(RolloutStep(WHOLE, 0),))
    assert found.by(HOUR) == 3000
    assert found.by(0) == 0
    assert found.end == HOUR
    assert 20 <= found.peak <= 100  # 50 a minute, if they are spread evenly
    assert run(plan=(RolloutStep(0, 0),)).taken == ()
    assert run(plan=(RolloutStep(0, 0),)).peak == 0


def test_cohorts_count_for_named_devices() -> None:
    fleet = [Pollster("a", ("pilot",)), Pollster("b"), Pollster("c", ("lab", "pilot"))]
    rollout, plan = Rollout(SALT, cohorts=("pilot",)), (RolloutStep(WHOLE, 0),)
    found = simulate(rollout, plan, fleet, every=60, begin=0)
    assert (found.devices, found.members, len(found.taken)) == (3, 2, 2)
    every = simulate(rollout, plan, fleet, every=60, begin=0, any_cohort=True)
    assert (every.members, len(every.taken)) == (3, 3)


def test_the_picture_has_a_row_for_each_time() -> None:
    rows = list(lines(run(pause=30 * HOUR)))
    assert rows[0].split() == ["0h", "0", "plan", "1", "%"]
    assert rows[-1].split()[-4:] == ["plan", "100", "%", "paused"]
    assert len(rows) <= 18
    assert "#" in rows[-1]
    assert any("." in row and "#" not in row for row in rows)


@pytest.mark.parametrize(
    ("end", "most", "step"),
    [(HOUR, 16, 300), (80 * HOUR, 16, 6 * HOUR), (80 * HOUR, 9, 12 * HOUR), (10**9, 10, 10**8)],
)
def test_times_are_even(end: int, most: int, step: int) -> None:
    assert spacing(end, most) == step


def test_spans_have_words() -> None:
    assert [shown(one) for one in (0, 90, 120, HOUR, 36 * HOUR)] == [
        *("0h", "90s", "2min", "1h", "36h")
    ]


@pytest.mark.parametrize("pause", [None, 2 * HOUR, 70 * HOUR])
def test_the_svg_is_one_well_formed_file_without_links(pause: int | None) -> None:
    curve = simulate(Rollout(SALT), PLAN, FLEET, every=HOUR, begin=BEGIN, pause=pause)
    text = draw(curve, 'A "rollout" <of> & more')
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert 'A "rollout" <of> & more' in words
    assert f"{len(curve.taken):,} of 3,000 devices have it after {shown(curve.end)}" in words
    assert any("paused after" in str(one) for one in words) is (pause is not None)
    assert "prefers-color-scheme: dark" in text
    assert text.count("http") == 1  # its own name space
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        spots = [tuple(map(float, one.split(","))) for one in line.attrib["points"].split()]
        assert all(0 <= x <= 760 and 0 <= y <= 400 for x, y in spots)
        assert [x for x, _ in spots] == sorted(x for x, _ in spots)
