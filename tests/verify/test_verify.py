"""The Verifier and the VerifiedRelease: what they take, what they give, what they do not allow."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from fwsign.format import cbor
from fwsign.format.component import Digest
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from fwsign.verify.policy import DevicePolicy, Recorded, Slot
from fwsign.verify.verified import Verified, VerifiedRelease, seal
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from hostile import bare, block_of, encoded, judge, refused_at, spki
from support import (
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    Pki,
    component,
    make_block,
    make_ca,
    make_leaf,
    make_manifest,
    make_pki,
    new_key,
    sign_with,
    signed_digest,
    verify,
)


class Nowhere(tzinfo):
    """A zone without an offset, which Python counts as none."""

    def utcoffset(self, when: datetime | None, /) -> None:
        del when

    def dst(self, when: datetime | None, /) -> None:
        del when

    def tzname(self, when: datetime | None, /) -> str:
        del when
        return "nowhere"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def release(pki: Pki) -> VerifiedRelease:
    return verify(sign_with(pki), [pki.root])


# --- anchors and policy ---------------------------------------------------------------------


def test_no_anchor_trusts_nobody() -> None:
    with refused_at(None, "state.policy", "no anchor given: nobody is trusted"):
        Verifier([])


def test_anchors_are_taken_once_and_not_looked_up_again(pki: Pki) -> None:
    anchors = [pki.root.anchor]
    verifier = Verifier(anchors, DevicePolicy())
    anchors.clear()
    verifier.verify(sign_with(pki), at=NOW)
    once = Verifier(iter([pki.root.anchor]))
    assert once.verify(sign_with(pki), at=NOW).now == NOW
    assert once.verify(sign_with(pki), at=NOW).now == NOW


@pytest.mark.parametrize("vendor", ["", "acme", "ACME.example", "*.example", ".example", "a b.c"])
def test_anchor_for_what_is_no_domain_is_refused(pki: Pki, vendor: str) -> None:
    # An empty domain holds all names, so a slip of the pen would lift the limit.
    with refused_at(None, "state.policy", f'vendor "{vendor}" is not a lower-case domain'):
        Verifier([Anchor.from_certificate(pki.root.der, [vendor])])


KEY = "ab" * 32


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (DevicePolicy(product="x"), "a product without a vendor"),
        (DevicePolicy(vendor=""), 'vendor "" is not'),
        (DevicePolicy(vendor="ACME.example"), 'vendor "ACME.example"'),
        (DevicePolicy(vendor="*.example"), "is not a lower-case domain"),
        (DevicePolicy(vendor="m\u00fcnchen.example"), "is not a lower-case domain"),
        (DevicePolicy(vendor=VENDOR + "\n"), "is not a lower-case domain"),
        (DevicePolicy(vendor="\udcff.example"), "is not a lower-case domain"),
        (DevicePolicy(vendor=VENDOR, product="\udcff"), "not printable"),
        (DevicePolicy(vendor=VENDOR, product="a\n"), "not printable"),
        (DevicePolicy(pinned_vendors={KEY: ("x",)}), 'vendor "x"'),
        (DevicePolicy(threshold=0), "a threshold of 0"),
        (DevicePolicy(threshold=-1), "a threshold of -1"),
        (DevicePolicy(slots=(Slot("a", KEY),), threshold=2), "2 of only 1 slots"),
        (DevicePolicy(slots=(Slot("a", KEY), Slot("b", KEY))), "one key in two slots"),
        (DevicePolicy(slots=(Slot("a", KEY), Slot("a", "cd"))), "two slots of one name"),
        (DevicePolicy(min_sequence=-1), "a floor below 0"),
        (DevicePolicy(recorded=(Recorded(b"", ()),)), "recorded releases but no floor"),
        (DevicePolicy(profile="lax"), 'profile "lax"'),  # type: ignore[arg-type]
        (DevicePolicy(revocation="no"), 'revocation "no"'),  # type: ignore[arg-type]
    ],
)
def test_policy_that_cannot_be_meant_is_refused(pki: Pki, policy: DevicePolicy, words: str) -> None:
    with refused_at(None, "state.policy", words):
        Verifier([pki.root.anchor], policy)


@pytest.mark.parametrize("zone", [None, Nowhere()])
def test_time_floor_without_zone_is_refused(pki: Pki, zone: tzinfo | None) -> None:
    floor = NOW.replace(tzinfo=zone)
    with refused_at(None, "state.clock", "the time floor has no time zone"):
        Verifier([pki.root.anchor], DevicePolicy(time_floor=floor))


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [None, Nowhere()])
def test_time_without_zone_is_refused(pki: Pki, zone: tzinfo | None) -> None:
    with refused_at(None, "state.clock", "the time given has no time zone"):
        verify(b"", [pki.root], at=NOW.replace(tzinfo=zone))


@pytest.mark.parametrize(("year", "hours"), [(9999, -14), (9999, -1), (1, 14), (1, 1)])
def test_time_beyond_the_calendar_is_refused(pki: Pki, year: int, hours: int) -> None:
    month, day, hour = (12, 31, 23) if year == 9999 else (1, 1, 0)
    when = datetime(year, month, day, hour, tzinfo=timezone(timedelta(hours=hours)))
    with refused_at(None, "state.clock", "is not possible"):
        verify(b"", [pki.root], at=when)


@pytest.mark.parametrize("hours", [-12, -3.5, 0, 5.75, 14])
def test_zone_of_the_time_does_not_matter(pki: Pki, hours: float) -> None:
    there = NOW.astimezone(timezone(timedelta(hours=hours)))
    assert verify(sign_with(pki), [pki.root], at=there).now == NOW
    floor = verify(sign_with(pki), [pki.root], at=NOW - DAY, time_floor=there)
    assert floor.now == NOW


def test_fractions_of_a_second_are_cut_off(pki: Pki) -> None:
    until = NOW + 30 * DAY
    late = until.replace(microsecond=999_999)
    assert verify(sign_with(pki), [pki.root], at=late).now == until


@pytest.mark.parametrize("year", [1, 9999])
def test_extreme_times_are_refused_by_dates_alone(pki: Pki, year: int) -> None:
    code = "stale.not-yet-valid" if year == 1 else "stale.certificate"
    with refused_at(4, code):
        verify(sign_with(pki, crls=()), [pki.root], at=datetime(year, 1, 1, tzinfo=UTC))


# --- the result -----------------------------------------------------------------------------


def test_result_says_what_was_verified(pki: Pki, release: VerifiedRelease) -> None:
    assert release.vendor == VENDOR
    assert release.now == NOW
    assert (release.unchecked, release.notes, release.text) == ((), (), None)
    assert release.components == release.manifest.components == (component(),)
    assert release.component("build.bin") == component()
    content = encoded()
    head = cbor.byte_string_head(len(content))
    assert release.manifest_digest == digest(-16, head, content)
    (signer,) = release.signers
    assert (signer.algorithm, signer.refusal, signer.notes) == ("ESP256", None, ())
    assert signer.revocation_checked
    assert signer.path is not None
    assert signer.path.name == "release"
    assert [one.issuer.name for one in signer.issued] == ["Issuing", "Root"]
    assert signer.path.keys == tuple(map(spki, (pki.leaf.key, pki.issuing.key, pki.root.key)))


def test_what_the_policy_does_not_say_is_listed(pki: Pki) -> None:
    bare_policy = Verifier([pki.root.anchor])
    release = bare_policy.verify(sign_with(pki, crls=()), at=NOW)
    assert release.unchecked == ("revocation", "vendor", "product", "rollback")
    release = verify(sign_with(pki), [pki.root], product=None)
    assert release.unchecked == ("product",)
    release = verify(sign_with(pki), [pki.root], min_sequence=None)
    assert release.unchecked == ("rollback",)


@pytest.mark.parametrize("revocation", ["off", "if-present", "require"])
def test_a_bare_key_has_nothing_to_revoke(revocation: Any) -> None:
    key, content = new_key(), encoded()
    pki = make_pki()
    release = judge(
        pki,
        content,
        make_block(signed_digest(content), key),
        anchors=[bare(key)],
        pinned_vendors={spki(key): (VENDOR,)},
        revocation=revocation,
    )
    assert release.unchecked == (("revocation",) if revocation == "off" else ())


def test_uncounted_blocks_are_listed_with_their_refusal(pki: Pki) -> None:
    stranger, content = make_pki(common="Strange "), encoded()
    unknown = cbor.encode(cbor.Tag(18, (cbor.encode({1: -999}), {}, None, b"x")))
    blocks = [block_of(stranger, content), unknown, block_of(pki, content)]
    release = judge(pki, content, *blocks)
    codes = [one.refusal and one.refusal.code for one in release.signers]
    assert codes == ["untrusted.no-anchor", "untrusted.algorithm", None]
    steps = [one.refusal and one.refusal.step for one in release.signers]
    assert steps == [3, 3, None]
    assert [one.algorithm for one in release.signers] == ["ESP256", "-999", "ESP256"]
    assert [one.path is None for one in release.signers] == [True, True, False]


def test_what_compat_forgave_is_noted(pki: Pki) -> None:
    loose = make_ca("Loose", pki.root, critical=False)
    signer = Pki(pki.root, loose, make_leaf(loose))
    release = verify(sign_with(signer, crls=()), [pki.root], profile="compat")
    assert release.notes == ('basicConstraints of CA "Loose" is not critical',)


def test_text_is_in_the_result(pki: Pki) -> None:
    text = Text(VENDOR, PRODUCT, "2.4.1", "what is new")
    raw = encode_text(text, (component(),))
    signed = Digest(-16, digest(-16, cbor.byte_string_head(len(raw)), raw))
    manifest = make_manifest(version=(2, 4, 1), text_digest=signed)
    assert verify(sign_with(pki, manifest, text=raw), [pki.root]).text == text


# --- a type that only verifying gives -------------------------------------------------------


def test_a_verified_release_cannot_be_made() -> None:
    with pytest.raises(TypeError, match=r"only Verifier\.verify"):
        VerifiedRelease()
    with pytest.raises(TypeError):
        VerifiedRelease("build.bin")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 5 required keyword-only arguments"):
        seal(None)  # type: ignore[call-arg, arg-type]


def test_a_verified_release_has_no_subclasses() -> None:
    with pytest.raises(TypeError, match="has no subclasses"):
        type("Forged", (VerifiedRelease,), {})


@pytest.mark.parametrize("field", [*Verified.__slots__, *VerifiedRelease.__slots__, "other"])
def test_a_verified_release_does_not_change(release: VerifiedRelease, field: str) -> None:
    with pytest.raises(AttributeError, match="does not change"):
        setattr(release, field, ())
    with pytest.raises(AttributeError, match="does not change"):
        delattr(release, field)


def test_a_verified_release_is_not_copied(release: VerifiedRelease) -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises((TypeError, pickle.PicklingError)):
            attempt(release)
