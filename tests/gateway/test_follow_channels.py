"""`fwsign follow` and channels: what a gateway takes from one, and every attack on the way."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from channel_kit import forged, make_channel
from fwsign.errors import FwsignError, Unsuitable
from fwsign.format.cose import decode_block, encode_block
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.format.suit import MAX_SEQUENCE_NUMBER, MAX_TIME
from fwsign.gateway import trust as trust_updates
from fwsign.gateway.channel_memory import HEARD, read_heard
from fwsign.gateway.follow import channels
from fwsign.gateway.follow.polling import Polled
from fwsign.gateway.install import install
from fwsign.gateway.run.session import InstallRequest, opened
from fwsign.memory.channels import ChannelKey, Channels
from fwsign.verify.channel import MAX_AHEAD
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.roles import CONFIG_SIGNING
from gateway.channel_place import Place, rolled_out
from gateway.follow_kit import Follower, days
from gateway.kit import crls, pki
from gateway.server import Handler, Server
from support import DAY, NOW, PRODUCT, VENDOR, make_leaf, make_pki, refused
from trust.test_update import root, sign, update

KEY = ChannelKey(VENDOR, PRODUCT, "stable")


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    found = Follower(tmp_path, 'cohorts = ["pilot"]')
    found.address = str(tmp_path / "place/stable.channel")
    return found


def names(found: Polled) -> list[str]:
    return [one.name for one in found.obstacles]


def memory(follower: Follower) -> bytes:
    return (follower.gateway.base / "state.db").read_bytes()


def number(follower: Follower, key: ChannelKey = KEY) -> int | None:
    """Return the number of the last channel that was taken."""
    with opened(follower.gateway.device) as state:
        last = state.channels().last(key)
    return last.number if last else None


def words(found: Polled) -> str:
    return "; ".join(one.words for one in found.obstacles)


def unchanged(handler: Handler) -> None:
    """Answer that nothing changed, for ever."""
    if "If-None-Match" in handler.headers:
        handler.head(304, {"ETag": '"1"'})
        return
    data = handler.files[handler.path]
    handler.head(200, {"ETag": '"1"', "Content-Length": str(len(data))})
    handler.wfile.write(data)


def serve(server: Server, place: Place, follower: Follower) -> None:
    """Serve a published place; the gateway follows its channel over HTTPS."""
    server.files.clear()
    for path in place.base.rglob("*"):
        if path.is_file():
            server.files[f"/x/{path.relative_to(place.base)}"] = path.read_bytes()
    if "[fetch]" not in follower.gateway.config.read_text():
        follower.gateway.configure(f'[fetch]\nca = "{server.ca}"\nstall_seconds = 5\n')
    follower.address = server.url("/x/stable.channel")
    server.requests.clear()


# --- what is installed ---------------------------------------------------------------------------


def test_the_highest_release_for_this_device_is_installed(follower: Follower, place: Place) -> None:
    releases = [place.release(number) for number in (5, 40, 7)]
    place.channel(1, *releases)
    done = follower.poll()
    assert done.verdict == "installed"
    assert follower.installed == {"app40.bin": b"release 40"}
    assert follower.gateway.floor == 40
    assert number(follower) == 1
    assert done.choice is not None
    assert done.choice.words == f"stable, number 1, until {days(7):%Y-%m-%d %H:%M} UTC"


def test_a_channel_is_followed_over_https(follower: Follower, place: Place, server: Server) -> None:
    one = place.release(40)
    place.channel(1, one)
    serve(server, place, follower)
    assert follower.poll().verdict == "installed"
    payload = place.payloads()[0].name
    assert [path for path, _ in server.requests] == [
        "/x/stable.channel",
        f"/x/releases/{one.manifest_digest.hex()}.suit",
        f"/x/sha256/{payload}",
    ]


def test_a_poll_without_news_is_one_small_request_and_writes_nothing(
    follower: Follower, place: Place, server: Server
) -> None:
    place.channel(1, place.release(40))
    serve(server, place, follower)

    def tagged(handler: Handler) -> None:
        data = handler.files[handler.path]
        known = handler.headers.get("If-None-Match") == '"1"'
        body = b"" if known else data
        handler.head(304 if known else 200, {"ETag": '"1"', "Content-Length": str(len(body))})
        handler.wfile.write(body)

    server.answers["/x/stable.channel"] = tagged
    follower.poll()
    assert follower.poll().verdict == "nothing new"
    server.requests.clear()
    server.heads.clear()
    before = memory(follower)
    assert follower.poll().verdict == "nothing new"
    assert memory(follower) == before
    assert [path for path, _ in server.requests] == ["/x/stable.channel"]
    assert server.heads[0]["If-None-Match"] == '"1"'


def test_a_poll_of_a_folder_without_news_writes_nothing(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    follower.poll()
    follower.poll()
    before = memory(follower)
    assert follower.poll().verdict == "nothing new"
    assert memory(follower) == before


def test_the_next_channel_brings_the_next_release(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    follower.poll()
    place.channel(2, place.release(41))
    assert follower.poll().verdict == "installed"
    assert follower.installed == {"app41.bin": b"release 41"}
    assert number(follower) == 2


def test_a_new_channel_of_the_installed_release_fetches_no_envelope(
    follower: Follower, place: Place
) -> None:
    one = place.release(40)
    place.channel(1, one)
    follower.poll()
    place.envelope(one).unlink()
    place.channel(2, one)
    assert follower.poll().verdict == "nothing new"
    assert number(follower) == 2


def test_a_release_below_what_is_here_is_not_offered(follower: Follower, place: Place) -> None:
    old, new = place.release(40), place.release(41)
    place.channel(1, new)
    follower.poll()
    place.channel(2, old)
    done = follower.poll()
    assert done.verdict == "nothing new"
    assert done.choice is not None
    assert done.choice.said[0].why_not == "this device has release 41 already"
    assert follower.gateway.results[-1] == ("installed", None)


def test_a_release_with_block_lists_is_published_by_its_digest(
    follower: Follower, place: Place
) -> None:
    """The uri of a payload plays no part: that of this one names a place that is not there."""
    gateway = follower.gateway
    path = gateway.release(50, {"app.bin": b"content"}, uris={"app.bin": "app.bin"})
    place.channel(1, place.publish(path))
    (path.parent / "app.bin").unlink()
    assert follower.poll().verdict == "installed"
    assert follower.installed == {"app.bin": b"content"}


# --- rollouts and holds --------------------------------------------------------------------------


def test_a_rollout_leaves_a_device_out_and_then_takes_it_in(
    follower: Follower, place: Place
) -> None:
    one = place.release(40)
    place.channel(1, rolled_out(one, share=0))
    done = follower.poll()
    assert (done.verdict, names(done)) == ("waiting", ["rollout"])
    assert "release 40: the rollout is for 0 %, this device is at" in words(done)
    assert follower.installed is None
    again = follower.poll()
    assert (again.verdict, words(again)) == ("waiting", words(done))
    place.channel(2, one)
    assert follower.poll().verdict == "installed"


def test_a_device_that_is_left_out_fetches_no_envelope(follower: Follower, place: Place) -> None:
    one = place.release(40)
    place.channel(1, rolled_out(one, share=0))
    place.envelope(one).unlink()
    assert follower.poll().verdict == "waiting"


def test_a_device_that_is_left_out_takes_the_release_before(
    follower: Follower, place: Place
) -> None:
    old, new = place.release(40), place.release(41)
    place.channel(1, old, rolled_out(new, share=0))
    done = follower.poll()
    assert (done.verdict, names(done)) == ("installed", [])
    assert any("release 41: the rollout is for 0 %" in one for one in done.notes)
    assert follower.installed == {"app40.bin": b"release 40"}
    assert (follower.poll().verdict, names(follower.poll())) == ("waiting", ["rollout"])


def test_cohorts_are_those_of_device_toml(follower: Follower, place: Place) -> None:
    one = place.release(40)
    place.channel(1, rolled_out(one, cohorts=("factory",)))
    done = follower.poll()
    assert words(done) == (
        "release 40: the rollout is for factory, this device's cohorts are: pilot"
    )
    place.channel(2, rolled_out(one, cohorts=("factory", "pilot")))
    assert follower.poll().verdict == "installed"


def test_a_window_opens_while_the_channel_stays_the_same(follower: Follower, place: Place) -> None:
    one = place.release(40)
    start, until = (int((NOW + delta).timestamp()) for delta in (DAY, 2 * DAY))
    place.channel(1, rolled_out(one, start=start, until=until))
    assert names(follower.poll()) == ["rollout"]
    before = memory(follower)
    follower.at = NOW + timedelta(hours=1)
    assert names(follower.poll()) == ["rollout"]
    assert memory(follower) == before
    follower.at = NOW + DAY
    assert follower.poll().verdict == "installed"


def test_a_window_that_ended_leaves_out(follower: Follower, place: Place) -> None:
    until = int((NOW + DAY).timestamp())
    place.channel(1, rolled_out(place.release(40), until=until))
    follower.at = NOW + DAY
    done = follower.poll()
    assert names(done) == ["rollout"]
    assert "the rollout ended" in words(done)


def test_a_held_channel_installs_nothing_and_says_why(follower: Follower, place: Place) -> None:
    one = place.release(40)
    place.channel(1, one, hold="it drains batteries")
    done = follower.poll()
    assert (done.verdict, names(done)) == ("waiting", ["channel-held"])
    assert words(done) == "the channel is held: it drains batteries"
    assert follower.installed is None
    place.channel(2, one)
    assert follower.poll().verdict == "installed"
    place.channel(3, one, hold="it drains batteries")
    assert follower.poll().verdict == "nothing new"  # what runs goes on


def test_a_device_without_an_id_is_in_no_part_of_a_rollout(
    follower: Follower, place: Place
) -> None:
    config = follower.gateway.config
    lines = config.read_text().splitlines()
    config.write_text("\n".join(one for one in lines if not one.startswith("id =")))
    one = place.release(40)
    place.channel(1, rolled_out(one, share=9999))
    done = follower.poll()
    assert words(done) == (
        "release 40: the rollout is for a part of all devices, and this one has no id in "
        "device.toml"
    )
    place.channel(2, one)
    assert follower.poll().verdict == "installed"


def test_a_rollout_that_shrinks_leaves_the_device_where_it_is(
    follower: Follower, place: Place
) -> None:
    one = place.release(40)
    place.channel(1, one)
    follower.poll()
    place.channel(2, rolled_out(one, share=0))
    done = follower.poll()
    assert (done.verdict, done.obstacles) == ("nothing new", ())


def test_the_hold_of_the_owner_counts_beside_the_channel(follower: Follower, place: Place) -> None:
    follower.gateway.configure("")  # as it is
    text = follower.gateway.config.read_text().replace("[follow]", "[follow]\ninstall = []")
    follower.gateway.config.write_text(text)
    place.channel(1, place.release(40))
    for _ in range(2):
        done = follower.poll()
        assert (done.verdict, names(done)) == ("waiting", ["asks"])
        assert done.offer is not None
        assert done.choice is not None


def test_check_tells_and_changes_nothing(follower: Follower, place: Place) -> None:
    old, new = place.release(40), place.release(41)
    place.channel(1, old, rolled_out(new, share=0))
    before = memory(follower)
    done = follower.check()
    assert done.verdict == "offered"
    assert done.choice is not None
    found = done.choice.as_json()
    assert [(one["sequence_number"], one["in"]) for one in found["releases"]] == [
        (41, False),
        (40, True),
    ]
    assert (found["name"], found["number"], found["hold"]) == ("stable", 1, None)
    assert memory(follower) == before
    assert number(follower) is None


# --- attacks -------------------------------------------------------------------------------------


def test_frozen_channel_is_refused_and_stops_nothing_that_runs(
    follower: Follower, place: Place
) -> None:
    place.channel(1, place.release(40))
    follower.poll()
    follower.at = days(8)
    for _ in range(3):
        with refused("stale.channel", "the channel was to be used before"):
            follower.poll()
    assert follower.installed == {"app40.bin": b"release 40"}
    assert follower.gateway.results[-1] == ("refused", "stale.channel")
    assert [one for one in follower.gateway.results if one[0] == "refused"] == [
        ("refused", "stale.channel")
    ]
    place.channel(2, place.release(41), expires=int(days(20).timestamp()))
    assert follower.poll().verdict == "installed"


def test_frozen_by_a_server_that_says_unchanged(
    follower: Follower, place: Place, server: Server
) -> None:
    """Whoever answers 304 for ever is found out when the channel expires."""
    place.channel(1, place.release(40))
    serve(server, place, follower)

    server.answers["/x/stable.channel"] = unchanged
    follower.poll()
    assert follower.poll().verdict == "nothing new"
    follower.at = days(8)
    with refused("stale.channel"):
        follower.poll()


@pytest.mark.parametrize(
    ("life", "code"),
    [(365, "stale.crl"), (20, "stale.certificate")],
)
def test_frozen_by_a_thief_whose_channel_never_ends(
    follower: Follower, place: Place, server: Server, life: int, code: str
) -> None:
    """His channel lasts as long as its signer's certificate and CRLs, whatever it says."""
    leaf = make_leaf(pki().issuing, "rollout", usages=[CONFIG_SIGNING], days=(-10, life))
    place.signer = place.signer._replace(leaf=leaf)
    place.channel(1, place.release(40), expires=MAX_TIME)
    serve(server, place, follower)
    server.answers["/x/stable.channel"] = unchanged
    follower.poll()
    follower.at = days(min(life, 30))  # so long are the CRLs
    assert follower.poll().verdict == "nothing new"
    follower.at += timedelta(seconds=1)
    with refused(code):
        follower.poll()
    assert follower.installed == {"app40.bin": b"release 40"}


def test_a_stale_crl_that_is_allowed_ends_later(
    follower: Follower, place: Place, server: Server
) -> None:
    config = follower.gateway.config
    config.write_text(config.read_text().replace('"require"', '"allow-stale:10d"'))
    place.channel(1, place.release(40), expires=MAX_TIME)
    serve(server, place, follower)
    server.answers["/x/stable.channel"] = unchanged
    for day in (0, 31, 40):
        follower.at = days(day)
        follower.poll()
    assert follower.poll().verdict == "nothing new"
    follower.at = days(40) + timedelta(seconds=1)
    with refused("stale.crl"):
        follower.poll()


def test_an_expired_channel_is_not_remembered(follower: Follower, place: Place) -> None:
    place.channel(9, place.release(40))
    follower.at = days(8)
    with refused("stale.channel"):
        follower.poll()
    assert number(follower) is None
    assert follower.installed is None


def test_old_channel_is_refused(follower: Follower, place: Place) -> None:
    one, two = place.release(40), place.release(41)
    path = place.channel(1, one)
    old = path.read_bytes()
    place.channel(2, two)
    follower.poll()
    path.write_bytes(old)
    for _ in range(2):
        with refused("unsuitable.rollback", "channel number 1 is below 2"):
            follower.poll()
    assert number(follower) == 2
    assert follower.gateway.results[-1] == ("refused", "unsuitable.rollback")


def test_old_channel_cannot_lift_a_hold(follower: Follower, place: Place) -> None:
    one = place.release(40)
    path = place.channel(1, one)
    old = path.read_bytes()
    place.channel(2, one, hold="stop")
    follower.poll()
    path.write_bytes(old)
    with refused("unsuitable.rollback"):
        follower.poll()
    assert follower.installed is None


def test_two_channels_of_one_number_conflict(follower: Follower, place: Place) -> None:
    one, two = place.release(40), place.release(41)
    place.channel(1, one)
    follower.poll()
    place.channel(1, two)
    with refused("unsuitable.conflict", "another channel with channel number 1"):
        follower.poll()
    assert follower.installed == {"app40.bin": b"release 40"}


def test_fast_forwarded_channel_is_refused(follower: Follower, place: Place) -> None:
    """A thief of the key cannot use up the numbers: the owner's next one is tomorrow's time."""
    place.channel(1, place.release(40))
    follower.poll()
    most = int((NOW + MAX_AHEAD).timestamp())
    for high in (most + 1, MAX_SEQUENCE_NUMBER):
        fast_forwarded(place, high)
        with refused("unsuitable.fast-forward", f"channel number {high} is above {most}"):
            follower.poll()
    assert number(follower) == 1
    fast_forwarded(place, most)  # the best that the thief can do
    assert follower.poll().verdict == "installed"
    place.channel(most - 1, place.release(42))
    with refused("unsuitable.rollback"):
        follower.poll()
    follower.at = NOW + timedelta(seconds=1)
    (place.base / "stable.channel").write_bytes(
        forged(place.signer, make_channel(place.release(42), number=most + 1))
    )
    assert follower.poll().verdict == "installed"
    assert follower.installed == {"app42.bin": b"release 42"}


def test_a_number_ahead_of_a_clock_that_is_behind_is_taken_when_the_clock_is_right(
    follower: Follower, place: Place
) -> None:
    """The server has the same file as before, and the device is the same: only time has passed."""
    place.channel(int((NOW + MAX_AHEAD).timestamp()), place.release(40))
    follower.at = NOW.replace(year=1970)
    for _ in range(2):
        with refused("unsuitable.fast-forward", "the highest that is accepted now"):
            follower.poll()
    follower.at = NOW
    assert follower.poll().verdict == "installed"


def fast_forwarded(place: Place, high: int) -> None:
    """Publish a channel of a high number, which no signer of ours would sign."""
    one = make_channel(place.release(41), number=high)
    (place.base / "stable.channel").write_bytes(forged(place.signer, one))


def test_fast_forwarded_first_channel_is_refused(follower: Follower, place: Place) -> None:
    fast_forwarded(place, MAX_SEQUENCE_NUMBER)
    with refused("unsuitable.fast-forward"):
        follower.poll()
    assert number(follower) is None


def test_a_new_epoch_resets_the_numbers_of_channels(follower: Follower, place: Place) -> None:
    """The owner's way back after numbers that a thief drove up."""
    place.channel(int(NOW.timestamp()), place.release(40))
    follower.poll()
    place.channel(2, place.release(41))
    with refused("unsuitable.rollback"):
        follower.poll()
    new_epoch(follower)
    assert number(follower) is None
    assert follower.poll().verdict == "installed"
    assert number(follower) == 2


def new_epoch(follower: Follower, epoch: int = 1) -> None:
    """Apply a trust update; with another epoch by default."""
    data = sign(update(1, root(pki().root), epoch=epoch), pki().root.key)
    trust_updates.apply(follower.gateway.device, data, NOW, None)


def test_an_update_without_a_new_epoch_keeps_the_numbers(follower: Follower, place: Place) -> None:
    place.channel(5, place.release(40))
    follower.poll()
    new_epoch(follower, 0)
    assert number(follower) == 5


def test_mixed_channels_of_two_products_are_refused(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40), product="gateway-x9")
    with refused("unsuitable.product", 'the channel is for product "gateway-x9"'):
        follower.poll()
    with opened(follower.gateway.device) as state:
        assert state.channels().last(KEY._replace(product="gateway-x9")) is None


def test_a_release_of_another_product_in_a_channel_is_refused(
    follower: Follower, place: Place
) -> None:
    place.channel(1, place.release(40, product="gateway-x9"))
    with refused("unsuitable.product"):
        follower.poll()
    assert follower.installed is None


def test_a_channel_under_another_name_is_refused(follower: Follower, place: Place) -> None:
    """Beta served as stable."""
    place.channel(1, place.release(40), name="beta", file="stable")
    with refused("unsuitable.channel-name", 'this is the channel "beta", this device follows'):
        follower.poll()


def test_numbers_of_channels_are_kept_by_name(follower: Follower, place: Place) -> None:
    place.channel(5, place.release(40))
    follower.poll()
    place.channel(2, place.release(41), name="beta")
    follower.address = str(place.base / "beta.channel")
    assert follower.poll().verdict == "installed"
    assert number(follower) == 5
    assert number(follower, KEY._replace(name="beta")) == 2


def test_a_release_served_as_a_channel_is_refused(follower: Follower, place: Place) -> None:
    one = place.release(40)
    (place.base / "stable.channel").write_bytes(place.envelope(one).read_bytes())
    with pytest.raises(FwsignError) as caught:
        follower.poll()
    assert caught.value.code in ("unsuitable.release", "untrusted.eku", "untrusted.signers")
    assert follower.installed is None


def test_a_channel_served_as_a_release_is_refused(follower: Follower, place: Place) -> None:
    one = place.release(40)
    path = place.channel(1, one)
    place.envelope(one).write_bytes(path.read_bytes())
    with refused("tampered.release"):
        follower.poll()


def test_a_channel_signed_by_a_release_key_is_refused(follower: Follower, place: Place) -> None:
    one = place.release(40)
    data = forged(pki(), make_channel(one))
    (place.base / "stable.channel").write_bytes(data)
    with refused("untrusted.eku"):
        follower.poll()
    assert number(follower) is None


def test_a_channel_whose_signer_was_revoked_is_refused(follower: Follower, place: Place) -> None:
    one = place.release(40)
    path = place.channel(1, one)
    with opened(follower.gateway.device) as state:
        before = state.remembered(HEARD)
    assert before is None
    follower.poll()
    place.channel(2, one)
    data = stapled(path.read_bytes(), crls(9, revoked=[place.signer.leaf]))
    path.write_bytes(data)
    with refused("untrusted.revoked"):
        follower.poll()
    assert number(follower) == 1
    # What revokes it is kept, so that it does not come back without.
    place.channel(3, one)
    with refused("untrusted.revoked"):
        follower.poll()


def stapled(data: bytes, newer: tuple[bytes, ...]) -> bytes:
    """Return a channel with other CRLs."""
    envelope = decode_envelope(data)
    blocks = tuple(encode_block(decode_block(one)._replace(crls=newer)) for one in envelope.blocks)
    return encode_envelope(envelope._replace(blocks=blocks))


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("unsuitable.rollback", {"number": 1}),
        ("unsuitable.conflict", {"number": 2, "hold": "another content"}),
        ("stale.channel", {"number": 3, "expires": int((NOW - DAY).timestamp())}),
        ("unsuitable.fast-forward", {"number": MAX_SEQUENCE_NUMBER}),
    ],
)
def test_a_channel_that_is_refused_for_its_age_teaches_its_crls(
    follower: Follower, place: Place, code: str, more: dict[str, Any]
) -> None:
    one = place.release(40)
    place.channel(2, rolled_out(one, share=0))
    follower.poll()
    data = forged(place.signer, make_channel(one, **more))
    path = place.base / "stable.channel"
    path.write_bytes(stapled(data, crls(9, revoked=[pki().leaf])))
    for _ in range(2):
        with refused(code):
            follower.poll()
    assert number(follower) == 2
    before = memory(follower)
    with refused(code):
        follower.poll()
    assert memory(follower) == before
    place.channel(4, one)  # the release's signer was revoked, as the refused channel said
    with refused("untrusted.revoked"):
        follower.poll()
    assert follower.installed is None


def test_an_old_channel_of_a_stranger_teaches_nothing(follower: Follower, place: Place) -> None:
    one = place.release(40)
    place.channel(2, one)
    follower.poll()
    data = forged(make_pki(common="Stranger "), make_channel(one, number=1))
    (place.base / "stable.channel").write_bytes(data)

    def held() -> set[bytes]:
        with opened(follower.gateway.device) as state:
            return {one.data for one in state.policy(DevicePolicy(), None)[0].held}

    before = held()
    with refused("untrusted.no-anchor"):
        follower.poll()
    assert held() == before


def test_the_crls_of_a_channel_count_for_releases(follower: Follower, place: Place) -> None:
    one = place.release(40)
    path = place.channel(1, one)
    path.write_bytes(stapled(path.read_bytes(), crls(9, revoked=[pki().leaf])))
    with refused("untrusted.revoked"):
        follower.poll()
    assert follower.installed is None
    assert number(follower) == 1


def test_a_flipped_byte_of_a_channel_is_refused(follower: Follower, place: Place) -> None:
    path = place.channel(1, place.release(40))
    data = path.read_bytes()
    for at in range(0, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(FwsignError) as caught:
            follower.check()
        assert caught.value.code.partition(".")[0] != "io"
    with pytest.raises(FwsignError):
        follower.poll()
    assert number(follower) is None
    assert follower.installed is None


def test_a_truncated_channel_is_refused(follower: Follower, place: Place) -> None:
    path = place.channel(1, place.release(40))
    data = path.read_bytes()
    for size in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(FwsignError):
            follower.poll()
    assert number(follower) is None


def test_swapped_blob_is_refused(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40), place.release(41))
    one, two = place.payloads()
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with refused("tampered.payload-digest"):
        follower.poll()
    assert follower.installed is None
    assert follower.gateway.floor is None
    one.write_bytes(first)
    two.write_bytes(second)
    for found in (follower.poll(), follower.poll()):
        assert (names(found), found.to_fetch) == (["failed"], len(b"release 41"))
        assert found.offer is not None
        assert found.offer.sequence == 41
    follower.waits(3 * 3600)
    assert follower.poll().verdict == "installed"


def test_truncated_blob_is_refused(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    (blob,) = place.payloads()
    data = blob.read_bytes()
    blob.write_bytes(data[:-1])
    with refused("tampered.payload-size", f"has {len(data) - 1} bytes"):
        follower.poll()
    blob.write_bytes(data + b"!")
    follower.waits(3 * 3600)
    with refused("tampered.payload-size"):
        follower.poll()
    assert follower.installed is None


def test_a_channel_that_names_a_release_that_is_not_there(follower: Follower, place: Place) -> None:
    one = place.release(40)
    place.channel(1, one)
    envelope = place.envelope(one)
    data = envelope.read_bytes()
    envelope.unlink()
    for _ in range(2):
        with refused("io.missing"):
            follower.poll()
    assert number(follower) == 1
    envelope.write_bytes(data)  # it comes later than the channel
    assert follower.poll().verdict == "installed"


def test_a_payload_that_is_not_there(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    (blob,) = place.payloads()
    blob.unlink()
    with refused("io.payload-missing", "is not there: "):
        follower.poll()
    assert follower.gateway.floor is None


def test_another_envelope_under_the_right_name_is_refused(follower: Follower, place: Place) -> None:
    """A server that gives a new channel and old envelopes."""
    old, new = place.release(40), place.release(41)
    place.channel(1, new)
    right = place.envelope(new).read_bytes()
    place.envelope(new).write_bytes(place.envelope(old).read_bytes())
    with refused("tampered.release", f"the channel names {new.manifest_digest.hex()}"):
        follower.poll()
    assert follower.installed is None
    assert follower.gateway.floor is None
    place.envelope(new).write_bytes(right)  # the same channel: a cache is right again
    done = follower.poll()
    assert (done.verdict, names(done)) == ("waiting", ["failed"])
    follower.waits(3 * 3600)
    assert follower.poll().verdict == "installed"


def test_the_same_manifest_with_a_bad_signature_is_refused(
    follower: Follower, place: Place
) -> None:
    one = place.release(40)
    place.channel(1, one)
    data = place.envelope(one).read_bytes()
    other = stapled(data, crls(9, revoked=[pki().leaf]))
    place.envelope(one).write_bytes(other)
    with refused("untrusted.revoked"):
        follower.poll()
    assert follower.installed is None


def test_power_cut_between_remember_and_install(
    follower: Follower, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.channel(1, place.release(40))

    class PowerCutError(BaseException):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise PowerCutError

    cuts = (
        "fwsign.gateway.follow.channels.write_heard",
        "fwsign.gateway.follow.judging.write_seen",
        "fwsign.gateway.install.install",
    )
    for where in cuts:
        with monkeypatch.context() as patch:
            patch.setattr(where, cut)
            with pytest.raises(PowerCutError):
                follower.poll()
        assert number(follower) == 1
        assert follower.installed is None
    assert follower.poll().verdict == "installed"


def test_power_cut_after_the_channel_was_taken_lets_no_old_one_in(
    follower: Follower, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.channel(1, place.release(40))
    old = path.read_bytes()
    place.channel(2, place.release(41))

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fwsign.gateway.follow.channels.write_heard", cut)
        with pytest.raises(KeyboardInterrupt):
            follower.poll()
    path.write_bytes(old)
    with refused("unsuitable.rollback"):
        follower.poll()


@pytest.mark.parametrize("others", [1, 9])
def test_others_that_take_channels_meanwhile_are_noticed(
    follower: Follower, place: Place, others: int
) -> None:
    """The number is compared again when it is written: once more is enough, unless they go on."""
    path = place.channel(1, place.release(40))
    follower.poll()
    place.channel(100, place.release(41))
    request = follower.request()
    accept, came = Channels.accept, iter(range(2, 2 + others))

    def meanwhile(own: Channels, verified: Any, before: Any) -> bool:
        if (number := next(came, None)) is not None:
            with opened(request.device) as state, state.transaction():
                state._file.run("UPDATE facts SET value = ? WHERE name = ?", *taken(number))
        return accept(own, verified, before)

    def taken(number: int) -> tuple[str, str]:
        return f"{number} {bytes(32).hex()}", KEY.fact

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channels, "accept", meanwhile)
        if others == 1:
            found, _ = channels._verify(request, path.read_bytes(), accept=True)
            assert (found.channel.number, number(follower)) == (100, 100)
            return
        words = "another channel stable was taken meanwhile: the number was 3, and is 4"
        with refused("state.conflict", words):
            channels._verify(request, path.read_bytes(), accept=True)
    assert number(follower) == 1 + channels.TRIES


def test_a_damaged_hint_is_no_hint(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    follower.poll()
    for text in (
        "[]",
        "{",
        '{"address": 1}',
        '{"address": "", "tag": "", "notes": [], "channel": "!"}',
    ):
        with opened(follower.gateway.device) as state:
            state.remember(HEARD, text)
            assert read_heard(state) is None
        assert follower.poll().verdict == "nothing new"


def test_a_damaged_number_is_damage(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    with opened(follower.gateway.device) as state, state.transaction():
        state._file.run("INSERT INTO facts VALUES (?, ?)", KEY.fact, "x y")
    with refused("state.damaged", "the number of channel stable"):
        follower.poll()


# --- clocks --------------------------------------------------------------------------------------


def test_a_clock_of_1970_takes_a_good_channel_with_a_note(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    follower.at = NOW.replace(year=1970)
    done = follower.poll()
    assert done.verdict == "installed"
    assert any("freshness unproven" in one for one in done.notes)


def test_the_note_on_the_clock_is_that_of_this_poll(follower: Follower, place: Place) -> None:
    """An unchanged channel is heard again later, when the clock is right, or has gone back."""
    place.channel(1, place.release(40))
    note = "freshness unproven: the clock is behind"
    for year, notes in ((1970, (note,)), (NOW.year, ()), (1970, (note,)), (NOW.year, ())):
        follower.at = NOW.replace(year=year)
        follower.poll()
        found = follower.poll()
        assert (found.verdict, found.notes) == ("nothing new", notes)


def test_a_clock_of_2099_refuses_and_remembers_nothing(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    follower.at = NOW.replace(year=2099)
    with pytest.raises(FwsignError) as caught:
        follower.poll()
    assert caught.value.code.startswith("stale.")
    assert number(follower) is None
    follower.at = NOW
    assert follower.poll().verdict == "installed"


# --- an install that is typed --------------------------------------------------------------------


def typed(follower: Follower, *, dry: bool = False) -> Any:
    request = follower.request()
    sources = channels.to_install(request, record=not dry)
    more = InstallRequest(request.device, follower.at, tell=follower.said.append, dry_run=dry)
    return install(more, sources)


def test_a_channel_is_installed_by_its_address(follower: Follower, place: Place) -> None:
    place.channel(3, place.release(40))
    assert typed(follower, dry=True).verdict == "dry run"
    assert number(follower) is None
    assert typed(follower).verdict == "installed"
    assert number(follower) == 3
    assert typed(follower).verdict == "already installed"


def test_a_channel_that_offers_nothing_is_refused(follower: Follower, place: Place) -> None:
    one = place.release(40)
    place.channel(1, one, hold="it drains batteries")
    with refused("unsuitable.rollout", "the channel is held: it drains batteries"):
        typed(follower)
    place.channel(2, rolled_out(one, share=0))
    with refused("unsuitable.rollout", "release 40: the rollout is for 0 %"):
        typed(follower)
    place.channel(3)
    with pytest.raises(Unsuitable, match="it names nothing newer"):
        typed(follower)


def test_an_install_by_a_channel_is_resumed(follower: Follower, place: Place) -> None:
    place.channel(1, place.release(40))
    (blob,) = place.payloads()
    data = blob.read_bytes()
    blob.unlink()
    with refused("io.payload-missing"):
        typed(follower)
    blob.write_bytes(data)
    assert follower.gateway.install(None).verdict == "installed"
    assert follower.installed == {"app40.bin": b"release 40"}


def test_a_resumed_install_takes_no_other_release(follower: Follower, place: Place) -> None:
    one, two = place.release(40), place.release(41)
    place.channel(1, one)
    for blob in place.payloads():
        blob.unlink()
    with refused("io.payload-missing"):
        typed(follower)
    place.envelope(one).write_bytes(place.envelope(two).read_bytes())
    with refused("tampered.release"):
        follower.gateway.install(None)


def test_a_resumed_install_takes_no_staged_envelope_of_another_release(
    follower: Follower, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut before the envelope was staged, and then no network."""
    one, _ = place.release(40), place.release(41)
    work = follower.gateway.base / "signed"
    follower.gateway.install(work / "41.suit", download_only=True)
    place.channel(1, one)

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fwsign.gateway.target.directory.Target.begin", cut)
        with pytest.raises(KeyboardInterrupt):
            typed(follower)
    place.envelope(one).rename(place.base / "gone")
    with refused("io.missing"):
        follower.gateway.install(None)
    assert follower.installed is None
    (place.base / "gone").rename(place.envelope(one))
    assert follower.gateway.install(None).verdict == "installed"
    assert follower.installed == {"app40.bin": b"release 40"}
