"""The channel that follows another: what goes on, what changes, what is refused."""

from typing import Any

import pytest

from channel_kit import SALT, WEEK, channel_pki, identity, make_channel, signed
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.rollout import WHOLE, Rollout
from fwsign.signing.channel import sign
from fwsign.signing.next_channel import (
    Next,
    RolloutChange,
    follow_up,
    verified_before,
    verified_release,
)
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from support import (
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    make_crl,
    make_manifest,
    make_pki,
    refused,
    sign_with,
    verify,
)

PKI = make_pki()
CHANNELS = channel_pki()
LATER = int((NOW + 2 * WEEK).timestamp())
POLICY = DevicePolicy(vendor=VENDOR, product=PRODUCT)


def release(number: int, **more: Any) -> VerifiedRelease:
    return verify(sign_with(PKI, make_manifest(sequence_number=number, **more)), [PKI.root])


OLD, NEW = release(1), release(2)


def wanted(**more: Any) -> Next:
    return Next(
        **{"vendor": VENDOR, "product": PRODUCT, "name": "stable", "expires": LATER, **more}
    )


def first(*releases: VerifiedRelease, **more: Any) -> Channel:
    return follow_up(wanted(**more), releases or (OLD,))


def test_the_first_channel() -> None:
    found = first(NEW, OLD)
    assert found._replace(releases=()) == Channel(VENDOR, PRODUCT, "stable", 1, LATER)
    assert [one.sequence_number for one in found.releases] == [1, 2]
    assert [one.manifest_digest for one in found.releases] == [
        *(OLD.manifest_digest, NEW.manifest_digest)
    ]
    salts = {one.rollout.salt for one in found.releases}
    assert [len(one) for one in salts] == [16, 16]
    assert {one.rollout._replace(salt=b"") for one in found.releases} == {Rollout(b"", WHOLE)}
    assert first().releases[0].rollout.salt != first().releases[0].rollout.salt


def test_what_is_not_named_stays() -> None:
    change = RolloutChange(1000, ("pilot", "lab"), 5, 9)
    before = first(OLD, NEW, change=change, hold="wait")
    after = follow_up(wanted(), (), before)
    assert after == before._replace(number=2)
    assert after.releases[0].rollout.share == WHOLE
    assert after.releases[1].rollout[1:] == (1000, ("lab", "pilot"), 5, 9)


def test_a_rollout_that_goes_on_keeps_its_salt() -> None:
    before = first(NEW, change=RolloutChange(1000))
    after = follow_up(wanted(change=RolloutChange(5000)), (OLD, NEW), before)
    assert after.releases[1].rollout == before.releases[0].rollout._replace(share=5000)
    assert after.releases[0].rollout.salt != before.releases[0].rollout.salt


def test_a_release_that_is_left_out_is_gone() -> None:
    before = first(OLD, NEW, change=RolloutChange(1000))
    assert follow_up(wanted(), (OLD,), before).releases == before.releases[:1]


def test_pause_and_resume() -> None:
    before = first(hold="broken")
    assert before.hold == "broken"
    assert follow_up(wanted(), (), before).hold == "broken"
    assert follow_up(wanted(hold="worse"), (), before).hold == "worse"
    assert follow_up(wanted(release=True), (), before).hold is None


def test_cohorts_and_windows_are_taken_back() -> None:
    before = first(change=RolloutChange(None, ("pilot",), 5, 9))
    change = RolloutChange(cohorts=(), no_window=True, until=20)
    after = follow_up(wanted(change=change), (), before)
    assert after.releases[0].rollout[1:] == (WHOLE, (), None, 20)


def test_numbers_go_up() -> None:
    before = first()._replace(number=7)
    assert follow_up(wanted(), (), before).number == 8
    assert follow_up(wanted(number=20), (), before).number == 20
    for number in (0, 6, 7):
        words = f"channel number {number} is not above 7, that of the channel before"
        with refused("unsuitable.rollback", words):
            follow_up(wanted(number=number), (), before)


def test_another_channel_is_not_gone_on_with() -> None:
    before = first()
    with refused("unsuitable.channel-name", 'the channel before is "stable", not "beta"'):
        follow_up(wanted(name="beta"), (), before)
    with refused("unsuitable.product", "is for acme.example gateway-x1, not acme.example x2"):
        follow_up(wanted(product="x2"), (), before)
    with refused("unsuitable.product", "not other.example gateway-x1"):
        follow_up(wanted(vendor="other.example"), (), before)


def test_two_releases_of_one_number_are_refused() -> None:
    with refused("state.conflict", "two releases have the sequence number 2"):
        first(NEW, OLD, release(2, version=(1,)))
    with refused("state.conflict", "two releases have the sequence number 2"):
        first(NEW, NEW)


def test_no_release_is_refused() -> None:
    with refused("state.nothing", "the channel would name no release"):
        follow_up(wanted(), ())
    with refused("state.nothing"):
        follow_up(wanted(), (), first()._replace(releases=()))


# --- verified first -------------------------------------------------------------------------


def before_of(data: bytes, **more: Any) -> Channel:
    return verified_before(data, [CHANNELS.root.anchor], POLICY, **{"at": NOW, **more})


def test_the_channel_before_may_have_expired() -> None:
    data = signed(CHANNELS)
    assert before_of(data) == make_channel()
    for at in (NOW + WEEK, NOW + 100 * DAY):  # its CRLs are stale then, too
        assert before_of(data, at=at) == make_channel()


def test_the_channel_before_may_not_be_anybodys() -> None:
    with refused("untrusted.no-anchor"):
        before_of(signed(channel_pki()))
    with refused("unsuitable.product"):
        before_of(signed(CHANNELS, make_channel(product="x2")))
    with refused("unsuitable.release", "this is a release, not a channel"):
        before_of(sign_with(PKI))


def test_nor_that_of_a_revoked_signer() -> None:
    crls = make_crl(CHANNELS.issuing, [CHANNELS.leaf], number=2), make_crl(CHANNELS.root)
    policy = POLICY._replace(crls=crls)
    with refused("untrusted.revoked"):
        verified_before(signed(CHANNELS), [CHANNELS.root.anchor], policy, at=NOW + WEEK)


def test_releases_are_verified_as_devices_do() -> None:
    data = sign_with(PKI, make_manifest(sequence_number=3))
    found = verified_release(data, [PKI.root.anchor], POLICY, at=NOW)
    assert found.manifest.sequence_number == 3
    with refused("untrusted.no-anchor"):
        verified_release(data, [CHANNELS.root.anchor], POLICY, at=NOW)
    with refused("unsuitable.product"):
        verified_release(data, [PKI.root.anchor], POLICY._replace(product="x2"), at=NOW)
    ended = sign_with(PKI, make_manifest(use_before=int(NOW.timestamp())))
    with refused("stale.release"):
        verified_release(ended, [PKI.root.anchor], POLICY, at=NOW)


def test_a_channel_that_follows_is_signed_and_read_again() -> None:
    channel = first(OLD, NEW, change=RolloutChange(1000, ("pilot",)))
    data, _ = sign(channel, [identity(CHANNELS)], [CHANNELS.root.anchor], at=NOW)
    assert before_of(data) == channel
    assert ChannelRelease(OLD.manifest_digest, 1, channel.releases[0].rollout) in channel.releases
    assert SALT not in [one.rollout.salt for one in channel.releases]


@pytest.mark.parametrize("share", [-1, WHOLE + 1])
def test_a_share_that_is_none_is_not_signed(share: int) -> None:
    channel = first(change=RolloutChange(share))
    with refused("malformed.channel", "a share that is not a number from 0 to 10000"):
        sign(channel, [identity(CHANNELS)], [CHANNELS.root.anchor], at=NOW)
