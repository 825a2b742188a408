"""What a channel offers a device: facts in, a choice out."""

from datetime import timedelta

import pytest

from channel_kit import SALT, make_channel
from fwsign.format.channel import ChannelRelease
from fwsign.format.rollout import WHOLE, Rollout, place
from fwsign.gateway.choice import ChannelChoice, Who, choose, is_channel, name_in
from support import DAY, NOW

WHO = Who("gw-0007", ("pilot",), 0)


def one(number: int, **more: object) -> ChannelRelease:
    """Return a release whose digest is made of its number."""
    rollout = Rollout(SALT)._replace(**more)  # type: ignore[arg-type]
    return ChannelRelease(bytes([number]) * 32, number, rollout)


def chosen(*releases: ChannelRelease, who: Who = WHO, has: tuple[str, ...] = ()) -> ChannelChoice:
    return choose(make_channel(*releases), who, NOW, has)


def number(choice: ChannelChoice) -> int | None:
    return choice.release.sequence_number if choice.release else None


def test_the_highest_that_takes_the_device_in_is_chosen() -> None:
    found = chosen(one(1), one(2), one(3, share=0), one(4, cohorts=("factory",)))
    assert number(found) == 2
    assert [obstacle.name for obstacle in found.obstacles] == ["rollout", "rollout"]
    assert [said.sequence for said in found.said] == [4, 3, 2, 1]
    assert [said.why_not is None for said in found.said] == [False, False, True, True]
    assert found.manifest == "02" * 32


def test_no_release_is_no_choice() -> None:
    found = choose(make_channel()._replace(releases=()), WHO, NOW)
    assert (found.release, found.obstacles, found.said, found.manifest) == (None, (), (), "")


def test_what_is_in_place_stays_whatever_the_channel_says() -> None:
    found = chosen(one(1), one(2, share=0), has=("02" * 32,))
    assert (number(found), found.obstacles) == (2, ())
    held = choose(make_channel(one(2), hold="stop"), WHO, NOW, ("02" * 32,))
    assert (number(held), held.obstacles) == (2, ())


def test_a_hold_is_said_once() -> None:
    held = choose(make_channel(one(1), one(2), hold="stop"), WHO, NOW)
    assert held.release is None
    assert held.obstacles == (("channel-held", "the channel is held: stop"),)


def test_below_the_floor_nothing_is_offered() -> None:
    found = chosen(one(1), one(2), who=WHO._replace(floor=3))
    assert (found.release, found.obstacles) == (None, ())
    assert {said.why_not for said in found.said} == {"this device has release 3 already"}
    assert number(chosen(one(1), one(3), who=WHO._replace(floor=3))) == 3


def test_a_device_without_a_name_is_in_whole_rollouts_alone() -> None:
    nameless = WHO._replace(name=None)
    assert number(chosen(one(1), one(2, share=WHOLE - 1), who=nameless)) == 1
    assert number(chosen(one(1, cohorts=("pilot",)), who=nameless)) == 1


def test_the_place_in_a_rollout_is_that_of_id_and_salt() -> None:
    share = place(SALT, "gw-0007")
    assert number(chosen(one(1, share=share))) is None
    assert number(chosen(one(1, share=share + 1))) == 1


@pytest.mark.parametrize(("hours", "is_in"), [(-1, False), (0, True), (23, True), (24, False)])
def test_a_window_has_its_beginning_and_not_its_end(hours: int, is_in: bool) -> None:
    start, until = int(NOW.timestamp()), int((NOW + DAY).timestamp())
    at = NOW + timedelta(hours=hours)
    found = choose(make_channel(one(1, start=start, until=until)), WHO, at)
    assert (number(found) == 1) is is_in


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://updates.acme.example/x1/stable.channel", "stable"),
        ("https://updates.acme.example/x1/stable.channel?token=a/b.suit#c", "stable"),
        ("/media/updates/beta-2.channel", "beta-2"),
        ("https://updates.acme.example/.channel", ""),
        ("https://updates.acme.example/%73table.channel", "%73table"),
        ("https://updates.acme.example/x1/stable.channel/", None),
        ("https://updates.acme.example/update.suit?stable.channel", None),
        ("/media/updates", None),
    ],
)
def test_the_address_tells_a_channel_and_its_name(address: str, name: str | None) -> None:
    assert is_channel(address) == (name is not None)
    if name is not None:
        assert name_in(address) == name
