"""Attacks on channels: each is refused, with a code, a message and a step."""

from datetime import UTC, datetime
from typing import Any

import pytest

from channel_kit import (
    ONE,
    SALT,
    WEEK,
    channel_pki,
    forged,
    identity,
    make_channel,
    signed,
    verify_channel,
)
from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.format.channel import MAX_COHORTS, MAX_RELEASES, ChannelRelease, encode_channel
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import decode_envelope
from fwsign.format.payload import digest
from fwsign.format.rollout import Rollout
from fwsign.signing.channel import sign
from fwsign.signing.envelope import Identity
from fwsign.verify.channel import MAX_AHEAD, SeenChannel
from fwsign.verify.policy import Slot
from fwsign.verify.verified import VerifiedChannel
from fwsign.verify.verifier import Verifier
from fwsign.x509.roles import CONFIG_SIGNING
from hostile import bare, outcome, refused_at, with_blocks, with_members
from support import (
    CODE_SIGNING,
    DAY,
    NOW,
    VENDOR,
    Pki,
    make_block,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    new_key,
    refused,
    sign_with,
    verify,
)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return channel_pki()


@pytest.fixture(scope="module")
def good(pki: Pki) -> bytes:
    return signed(pki)


def test_a_channel_is_verified(pki: Pki, good: bytes) -> None:
    found = verify_channel(good, [pki.root], name="stable", seen=SeenChannel(6, b"x"))
    assert found.channel == make_channel()
    assert (found.unchecked, found.notes, found.now, found.vendor) == ((), (), NOW, VENDOR)
    assert found.known_time == NOW - DAY
    assert [path.name for _, path in found.counted] == ["rollout"]
    again = SeenChannel(7, found.manifest_digest)
    assert verify_channel(good, [pki.root], seen=again).channel == found.channel


# --- whose key ------------------------------------------------------------------------------


def test_a_channel_signed_by_a_release_key_is_refused() -> None:
    pki = make_pki()
    with refused_at(3, "untrusted.eku", "5.5.7.3.3, expected configSigning alone"):
        verify_channel(forged(pki), [pki.root])


def test_a_release_signed_by_a_channel_key_is_refused(pki: Pki) -> None:
    with refused_at(3, "untrusted.eku", "5.5.7.3.41, expected codeSigning"):
        verify(sign_with(pki), [pki.root])


@pytest.mark.parametrize("profile", ["strict", "compat"])
def test_a_key_for_both_signs_releases_alone(profile: str) -> None:
    pki = channel_pki(usages=[CONFIG_SIGNING, CODE_SIGNING])
    verify(sign_with(pki), [pki.root])
    with refused_at(3, "untrusted.eku", "expected configSigning alone"):
        verify_channel(forged(pki), [pki.root], profile=profile)


def test_a_channel_by_a_foreign_ca_is_refused(good: bytes) -> None:
    with refused_at(3, "untrusted.no-anchor", 'the anchors are "Other"'):
        verify_channel(good, [make_ca("Other")])


def test_a_channel_by_a_ca_of_the_same_name_is_refused(good: bytes) -> None:
    with refused_at(3, "untrusted.no-anchor", 'the path ends at issuer "Root"'):
        verify_channel(good, [make_ca("Root")])


def test_a_channel_by_a_bare_key_is_refused(pki: Pki, good: bytes) -> None:
    key = new_key()
    unsigned = decode_envelope(good)
    by_key = with_blocks(good, make_block(unsigned.digest, key))
    with refused_at(3, "untrusted.eku", "the block has no certificate", "for configSigning"):
        verify_channel(by_key, [pki.root])
    verifier = Verifier([bare(key, [VENDOR])])
    with refused_at(3, "untrusted.eku", "may sign channels"):
        verifier.verify_channel(by_key, at=NOW)


def test_a_bare_key_may_issue_signers_of_channels() -> None:
    pki = channel_pki()
    verifier = Verifier([bare(pki.root.key)])
    assert verifier.verify_channel(signed(pki), at=NOW).channel.number == 7


def test_a_channel_of_another_vendor_is_refused() -> None:
    other = channel_pki(vendors=["other.example"])
    words = '"rollout" may sign for other.example, the manifest is for acme.example'
    with refused_at(8, "untrusted.vendor", words):
        verify_channel(forged(other), [other.root])


def test_a_revoked_signer_of_channels_is_refused(pki: Pki) -> None:
    crls = make_crl(pki.issuing, [pki.leaf], number=2), make_crl(pki.root)
    revoked = Identity(identity(pki).signer, identity(pki).chain, crls)
    with refused_at(5, "untrusted.revoked", '"rollout" revoked'):
        sign(make_channel(), [revoked], [pki.root.anchor], at=NOW)
    with refused_at(5, "untrusted.revoked", '"rollout" revoked'):
        verify_channel(signed(pki), [pki.root], crls=crls)


def test_a_channel_needs_crls_where_the_device_requires_them(pki: Pki) -> None:
    bare_of_crls = sign(make_channel(), [identity(pki, ())], [pki.root.anchor], at=NOW)[0]
    assert verify_channel(bare_of_crls, [pki.root]).unchecked == ("revocation", "rollback")
    with refused_at(5, "stale.crl-missing"):
        verify_channel(bare_of_crls, [pki.root], revocation="require")


def test_who_must_sign_releases_says_nothing_of_channels(pki: Pki, good: bytes) -> None:
    """One signer of channels is enough: a channel decides nothing that its releases must prove."""
    slots = (Slot("quality", "00" * 32), Slot("boss", "11" * 32))
    for more in ({"threshold": 2}, {"slots": slots}, {"require_token": True}):
        assert verify_channel(good, [pki.root], **more).channel.number == 7


# --- for whom, and when ---------------------------------------------------------------------


def test_mixed_channels_of_two_products_are_refused(pki: Pki) -> None:
    other = signed(pki, make_channel(product="gateway-x2"))
    words = 'the channel is for product "gateway-x2", this device is "gateway-x1"'
    with refused_at(9, "unsuitable.product", words):
        verify_channel(other, [pki.root])


def test_a_channel_for_another_vendors_devices_is_refused(pki: Pki, good: bytes) -> None:
    words = 'the channel is for vendor "acme.example", this device is "other.example"'
    with refused_at(9, "unsuitable.vendor", words):
        verify_channel(good, [pki.root], vendor="other.example")


def test_another_channels_name_is_refused(pki: Pki) -> None:
    beta = signed(pki, make_channel(name="beta"))
    words = 'this is the channel "beta", this device follows "stable"'
    with refused_at(9, "unsuitable.channel-name", words):
        verify_channel(beta, [pki.root], name="stable")


def test_a_frozen_channel_is_refused(pki: Pki, good: bytes) -> None:
    last = datetime.fromtimestamp(make_channel().expires - 1, UTC)
    assert verify_channel(good, [pki.root], at=last).now == last
    words = "the channel was to be used before 2026-11-29T12:00:00+00:00, it is 2026-11-29T12:00:00"
    with refused_at(9, "stale.channel", words):
        verify_channel(good, [pki.root], at=NOW + WEEK)


def test_a_clock_behind_does_not_unfreeze_a_channel(pki: Pki, good: bytes) -> None:
    with refused_at(9, "stale.channel"):
        verify_channel(good, [pki.root], at=NOW - DAY, time_floor=NOW + WEEK)


def test_a_channel_without_expiry_is_refused(pki: Pki) -> None:
    with refused_at(7, "malformed.profile", "a manifest of a channel with more or other"):
        verify_channel(forged(pki, use_before=None), [pki.root])


def test_an_old_channel_is_refused(pki: Pki, good: bytes) -> None:
    with refused_at(9, "unsuitable.rollback", "channel number 7 is below 8"):
        verify_channel(good, [pki.root], seen=SeenChannel(8, b"x"))


def test_another_channel_of_the_same_number_is_refused(pki: Pki, good: bytes) -> None:
    words = "another channel with channel number 7 was accepted already"
    with refused_at(9, "unsuitable.conflict", words):
        verify_channel(good, [pki.root], seen=SeenChannel(7, b"x"))
    assert verify_channel(good, [pki.root], seen=SeenChannel(7)).channel.number == 7


@pytest.mark.parametrize("number", [2**53 - 1, int((NOW + MAX_AHEAD).timestamp()) + 1])
def test_a_fast_forwarded_channel_is_refused(pki: Pki, number: int) -> None:
    data = forged(pki, make_channel(number=number))
    words = f"channel number {number} is above {int((NOW + MAX_AHEAD).timestamp())}"
    with refused_at(9, "unsuitable.fast-forward", words):
        verify_channel(data, [pki.root])
    with refused("unsuitable.fast-forward"):  # whoever signs is told at once
        signed(pki, make_channel(number=number))


def test_after_the_highest_number_there_is_a_next_one(pki: Pki) -> None:
    """A thief's highest number is behind the owner's, a day and a second later."""
    stolen = int((NOW + MAX_AHEAD).timestamp())
    found = verify_channel(signed(pki, make_channel(number=stolen)), [pki.root])
    seen = SeenChannel(stolen, found.manifest_digest)
    later = NOW + MAX_AHEAD
    data = signed(pki, make_channel(number=stolen + 1), at=later)
    for known in (seen, None):  # for devices that saw the thief's, and for new ones
        assert verify_channel(data, [pki.root], at=later, seen=known).channel.number == stolen + 1


def test_a_device_without_a_clock_takes_usual_numbers(pki: Pki, good: bytes) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert verify_channel(good, [pki.root], at=epoch).channel.number == 7
    without = sign(make_channel(), [identity(pki, ())], [pki.root.anchor], at=NOW)[0]
    with refused_at(4, "stale.not-yet-valid"):
        verify_channel(without, [pki.root], at=epoch)


def test_a_number_of_2_to_the_53_is_refused(pki: Pki) -> None:
    with refused_at(7, "malformed.profile", "sequence number is not a number"):
        verify_channel(forged(pki, make_channel(number=2**53)), [pki.root])


# --- other envelopes ------------------------------------------------------------------------


def test_a_channel_by_a_release_key_is_no_release() -> None:
    pki = make_pki()
    with refused_at(7, "unsuitable.channel", "this is a channel, not a release"):
        verify(forged(pki), [pki.root])


def test_a_release_by_a_channel_key_is_no_channel(pki: Pki) -> None:
    with refused_at(7, "unsuitable.release", "this is a release, not a channel"):
        verify_channel(sign_with(pki), [pki.root])


def test_a_permit_is_neither(pki: Pki) -> None:
    permit = encode_statement_of(pki, (b"permit",))
    with refused_at(7, "unsuitable.permit", "this is a permit, not a channel"):
        verify_channel(permit, [pki.root])
    release_pki = make_pki()
    permit = encode_statement_of(release_pki, (b"permit",))
    with refused_at(7, "unsuitable.permit", "this is a permit, not a release"):
        verify(permit, [release_pki.root])


def encode_statement_of(pki: Pki, identifier: tuple[bytes, ...]) -> bytes:
    """Sign a channel whose only component has another identifier."""
    own = make_channel()
    content = encode_channel(own)
    image = Digest(-16, digest(-16, content))
    component = Component(identifier, image, len(content), "#channel")
    return forged(pki, components=(component,))


# --- bytes ----------------------------------------------------------------------------------


def test_a_stripped_channel_is_refused(pki: Pki, good: bytes) -> None:
    with refused_at(6, "untrusted.signers", "1 distinct signers, found 0"):
        verify_channel(with_blocks(good), [pki.root])
    with refused_at(7, "tampered.payload-absent", "the content was taken out of the channel"):
        verify_channel(with_members(good, {"#channel": None}), [pki.root])


def test_a_swapped_content_is_refused(pki: Pki, good: bytes) -> None:
    other = encode_channel(make_channel(hold="x"))
    with refused_at(7, "tampered.payload-digest", "the content is not the one that was signed"):
        verify_channel(with_members(good, {"#channel": other}), [pki.root])


@pytest.mark.parametrize("more", [{"#more": b"x"}, {23: b"x"}, {20: b"x"}], ids=str)
def test_nothing_rides_along_in_a_channel(pki: Pki, good: bytes, more: dict[Any, bytes]) -> None:
    with refused_at(7, "malformed.profile", "a channel with more than wrapper, manifest and"):
        verify_channel(with_members(good, more), [pki.root])


@pytest.mark.parametrize(
    "more",
    [{"version": (1, 0)}, {"text_digest": Digest(-16, bytes(32))}],
    ids=str,
)
def test_a_manifest_with_more_than_a_channels_is_refused(pki: Pki, more: dict[str, Any]) -> None:
    with refused_at(7, "malformed.profile", "a manifest of a channel with more or other"):
        verify_channel(forged(pki, **more), [pki.root])


def test_every_flipped_bit_of_a_channel_is_refused(pki: Pki) -> None:
    channel = make_channel(ONE, hold="wait")
    data = sign(channel, [identity(pki, ())], [pki.root.anchor], at=NOW)[0]
    original = verify_channel(data, [pki.root])
    content = data.index(b"#channel")
    bits = {*range(0, 8 * len(data), 23), *range(8 * content, 8 * len(data), 9)}
    for number in sorted(bits):
        spot, bit = divmod(number, 8)
        changed = data[:spot] + bytes([data[spot] ^ 1 << bit]) + data[spot + 1 :]
        found = outcome(verify_channel, changed, [pki.root])
        if isinstance(found, VerifiedChannel):  # such as a certificate after the path's end
            assert found.channel == original.channel, number
            assert found.manifest_digest == original.manifest_digest


def test_every_cut_channel_is_refused(pki: Pki, good: bytes) -> None:
    for size in range(0, len(good), 7):
        with refused("malformed.cbor"):
            verify_channel(good[:size], [pki.root])


# --- content --------------------------------------------------------------------------------


def content(change: dict[int, Any]) -> bytes:
    """Encode the usual content with other members; None takes one out."""
    members = {**cbor.decode(encode_channel(make_channel())), **change}
    return cbor.encode({key: one for key, one in members.items() if one is not None})


def release(number: Any = 1, digest: Any = b"\x01" * 32, **rollout: Any) -> Any:
    names = {"salt": 1, "share": 2, "cohorts": 3, "start": 4, "until": 5}
    said = {1: SALT, 2: 10_000, **{names[key]: one for key, one in rollout.items()}}
    return (digest, number, said)


def releases(count: int) -> tuple[Any, ...]:
    return tuple(release(one, one.to_bytes(32, "big")) for one in range(count))


FLAWS: dict[str, tuple[Any, str]] = {
    "no vendor": ({1: None}, "it matches no template"),
    "a vendor that is no text": ({1: b"acme.example"}, "it matches no template"),
    "no releases": ({5: None}, "it matches no template"),
    "releases that are no array": ({5: {}}, "it matches no template"),
    "more": ({6: 1}, "it has more, or another form, than its template"),
    "an empty hold": ({4: ""}, "a hold that is no line of printable text"),
    "a hold of two lines": ({4: "a\nb"}, "a hold that is no line of printable text"),
    "a hold that is no text": ({4: True}, "a hold that is no line of printable text"),
    "a long hold": ({4: "x" * 501}, "a hold that is no line of printable text"),
    "a vendor in two lines": ({1: "acme\n"}, "vendor 'acme\\n', no line of printable text"),
    "a long product": ({2: "x" * 254}, "product 'xxx"),
    "an empty product": ({2: ""}, "product '', no line of printable text"),
    "another product": ({2: "other"}, "it is for another product than its manifest"),
    "another vendor": ({1: "other.example"}, "it is for another product than its manifest"),
    "an upper-case name": ({3: "Stable"}, "the name 'Stable', which is not allowed"),
    "a path as name": ({3: "../stable"}, "the name '../stable', which is not allowed"),
    "an empty name": ({3: ""}, "the name '', which is not allowed"),
    "a hyphen first": ({3: "-x"}, "the name '-x', which is not allowed"),
    "a long name": ({3: "x" * 33}, "which is not allowed"),
    "a name with a line end": ({3: "stable\n"}, "which is not allowed"),
    "a release that is no array": ({5: ({},)}, "a release that matches no template"),
    "a release with more": ({5: ((*release(), 1),)}, "a release that matches no template"),
    "a digest that is text": ({5: (release(digest="x" * 32),)}, "a release that matches no"),
    "a short digest": ({5: (release(digest=b"x" * 31),)}, "a manifest digest of 31 bytes"),
    "a negative number": ({5: (release(-1),)}, "a sequence number that is not a number from 0"),
    "a high number": ({5: (release(2**53),)}, "a sequence number that is not a number from 0"),
    "true as number": ({5: (release(True),)}, "a sequence number that is not a number from 0"),
    "a short salt": ({5: (release(salt=b"x"),)}, "a salt of 1 bytes, not 16"),
    "no salt": ({5: ((b"\x01" * 32, 1, {2: 1}),)}, "a release that matches no template"),
    "a share of all and more": ({5: (release(share=10_001),)}, "a share that is not a number"),
    "a share of less than none": ({5: (release(share=-1),)}, "a share that is not a number"),
    "a share that is text": ({5: (release(share="1"),)}, "a share that is not a number"),
    "cohorts that are text": ({5: (release(cohorts="pilot"),)}, "cohorts that are not an array"),
    "an empty list of cohorts": ({5: (release(cohorts=()),)}, "it has more, or another form"),
    "a cohort that is no text": ({5: (release(cohorts=(1,)),)}, "the cohort 1, which is not"),
    "a cohort with a blank": ({5: (release(cohorts=("a b",)),)}, "the cohort 'a b', which is not"),
    "cohorts in disorder": ({5: (release(cohorts=("b", "a")),)}, "cohorts that are not sorted"),
    "a cohort twice": ({5: (release(cohorts=("a", "a")),)}, "cohorts that are not sorted"),
    "a window that ends first": ({5: (release(start=2, until=2),)}, "a window that ends before"),
    "a window without a number": ({5: (release(start="now"),)}, "a time of a window that is not"),
    "a window after all time": ({5: (release(until=2**48),)}, "a time of a window that is not"),
    "duplicate releases": ({5: (release(), release())}, "two releases of one sequence number"),
    "two of one number": (
        {5: (release(), release(digest=b"\x02" * 32))},
        "two releases of one sequence number",
    ),
    "one under two numbers": ({5: (release(1), release(2))}, "one release under two sequence"),
    "releases in disorder": (
        {5: (release(2), release(1, b"\x02" * 32))},
        "releases that are not sorted",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_content_off_the_template_is_refused(pki: Pki, flaw: str) -> None:
    change, words = FLAWS[flaw]
    with refused_at(7, "malformed.channel", "the channel cannot be used", words):
        verify_channel(forged(pki, content=content(change)), [pki.root])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({5: releases(MAX_RELEASES + 1)}, "65 releases"),
        ({5: releases(2000)}, "2000 releases"),
        (
            {5: (release(cohorts=tuple(f"{one:03}" for one in range(MAX_COHORTS + 1))),)},
            "33 cohorts",
        ),
        ({4: "x" * 1024 * 1024}, "content of 10"),
    ],
    ids=["releases", "many releases", "cohorts", "bytes"],
)
def test_huge_lists_are_refused(pki: Pki, change: dict[int, Any], words: str) -> None:
    with refused_at(7, "malformed.size", words):
        verify_channel(forged(pki, content=content(change)), [pki.root])


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x01", b"\xa0\xa0", b"\xbf\xff"], ids=bytes.hex)
def test_a_content_that_is_no_map_is_refused(pki: Pki, raw: bytes) -> None:
    with pytest.raises(FwsignError) as caught:
        verify_channel(forged(pki, content=raw), [pki.root])
    assert caught.value.code in ("malformed.cbor", "malformed.channel")
    assert caught.value.step == 7


def test_the_most_that_a_channel_says_is_verified(pki: Pki) -> None:
    cohorts = tuple(f"{one:032}" for one in range(MAX_COHORTS))
    most = [
        ChannelRelease(one.to_bytes(64, "big"), one, Rollout(SALT, one, cohorts, 1, 2))
        for one in range(MAX_RELEASES)
    ]
    channel = make_channel(*most, hold="ä" * 250, product="x" * 253)
    assert verify_channel(signed(pki, channel), [pki.root], product=None).channel == channel


def test_the_least_that_a_channel_says_is_verified(pki: Pki) -> None:
    channel = make_channel()._replace(releases=(), name="0", number=0)
    assert verify_channel(signed(pki, channel), [pki.root]).channel == channel


def test_every_cohort_and_channel_of_a_chain_may_have_a_digest_of_any_kind(pki: Pki) -> None:
    for size in (32, 48, 64):
        channel = make_channel(ChannelRelease(bytes(size), 1, Rollout(SALT)))
        assert verify_channel(signed(pki, channel), [pki.root]).channel == channel


# --- a type that only verifying gives -------------------------------------------------------


def test_a_verified_channel_cannot_be_made_or_changed(pki: Pki, good: bytes) -> None:
    with pytest.raises(TypeError, match=r"only Verifier\.verify_channel can make a VerifiedCh"):
        VerifiedChannel()
    with pytest.raises(TypeError, match="a VerifiedChannel has no subclasses"):
        type("Forged", (VerifiedChannel,), {})
    found = verify_channel(good, [pki.root])
    with pytest.raises(AttributeError, match="a VerifiedChannel does not change: channel"):
        found.channel = make_channel(number=8)
    with pytest.raises(AttributeError, match="a VerifiedChannel does not change: channel"):
        del found.channel


def test_what_a_signer_may_not_sign_is_not_signed(pki: Pki) -> None:
    with refused("malformed.channel", "the name 'Stable'"):
        signed(pki, make_channel(name="Stable"))
    other = channel_pki()
    wrong = identity(pki)._replace(signer=identity(other).signer)
    with refused("key.mismatch", 'the key is not that of certificate "rollout"'):
        sign(make_channel(), [wrong], [pki.root.anchor], at=NOW)
    stale = identity(pki, (make_crl(pki.issuing, days=(-1, 0)), make_crl(pki.root)))
    with refused("stale.crl"):
        sign(make_channel(), [stale], [pki.root.anchor], at=NOW - DAY / 2)
    with refused("state.clock", "the clock is wrong"):
        sign(make_channel(), [identity(pki)], [pki.root.anchor], at=NOW - 9 * DAY)
    made = sign(make_channel(), [identity(pki)], [pki.root.anchor], at=NOW - 9 * DAY, force=True)
    assert made[1].now == NOW - DAY


def test_a_signer_of_another_purpose_is_told_so() -> None:
    pki = make_pki()
    with refused("untrusted.eku", "expected configSigning alone"):
        sign(make_channel(), [identity(pki)], [pki.root.anchor], at=NOW)
    leaf = make_leaf(pki.issuing, usages=[CONFIG_SIGNING])
    data, verified = sign(
        make_channel(), [identity(Pki(pki.root, pki.issuing, leaf))], [pki.root.anchor], at=NOW
    )
    assert verified.channel == make_channel()
    assert verify_channel(data, [pki.root]).manifest_digest == verified.manifest_digest
