"""Attacks on permits: each is refused, with a code and a message."""

from datetime import timedelta
from typing import Any

import pytest

from channel_kit import channel_pki, verify_channel
from channel_kit import signed as signed_channel
from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.format.envelope import decode_envelope
from fwsign.format.permit import MAX_LIFE, encode_permit, read_permit
from fwsign.verify.channel import SeenChannel
from fwsign.verify.permit import VerifiedPermit
from hostile import refused_at
from permit_kit import DEVICE, RELEASE, forged, make_permit, signed, verify_permit
from support import (
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    Pki,
    component,
    make_crl,
    make_manifest,
    make_pki,
    sign_with,
    verify,
)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def test_a_permit_is_verified(pki: Pki) -> None:
    found = verify_permit(signed(pki), [pki.root], min_sequence=2**40)
    assert found.permit == make_permit()
    assert found.unchecked == ("rollback",)  # it is no release, and has no floor
    assert read_permit(decode_envelope(signed(pki))) == make_permit()


def test_only_verification_makes_one() -> None:
    with pytest.raises(TypeError, match=r"only Verifier\.verify_permit can make a VerifiedPermit"):
        VerifiedPermit()


def test_a_permit_for_another_device_is_refused(pki: Pki) -> None:
    words = f'the permit is for device "{DEVICE}", this device is "gw-0008"'
    with refused_at(9, "unsuitable.permit-device", words):
        verify_permit(signed(pki), [pki.root], own="gw-0008")
    with refused_at(9, "unsuitable.permit-device", "this device is without an id"):
        verify_permit(signed(pki), [pki.root], own=None)


@pytest.mark.parametrize("release", [bytes(32), RELEASE[:31], RELEASE + b"\x01", b""])
def test_a_permit_for_another_release_is_refused(pki: Pki, release: bytes) -> None:
    words = f"the permit is for the release with manifest {RELEASE.hex()[:16]}, this has"
    with refused_at(9, "unsuitable.permit-release", words):
        verify_permit(signed(pki), [pki.root], release=release)


@pytest.mark.parametrize(
    ("more", "code"),
    [({"vendor": "other.example"}, "vendor"), ({"product": "gateway-x2"}, "product")],
)
def test_a_permit_for_another_product_is_refused(pki: Pki, more: Any, code: str) -> None:
    with refused_at(9, f"unsuitable.{code}", f"the permit is for {code}"):
        verify_permit(signed(pki), [pki.root], **more)


def test_an_expired_permit_is_refused(pki: Pki) -> None:
    data, crls = signed(pki), (make_crl(pki.issuing, number=9, days=(0, 30)),)
    end = NOW + 7 * DAY
    verify_permit(data, [pki.root], at=end - timedelta(seconds=1), crls=crls)
    with refused_at(9, "stale.permit", "the permit was to be used before"):
        verify_permit(data, [pki.root], at=end, crls=crls)
    # By the time floor, whatever the clock says.
    with refused_at(9, "stale.permit", "the permit was to be used before"):
        verify_permit(data, [pki.root], time_floor=end, crls=crls)


@pytest.mark.parametrize("behind", [timedelta(days=1, seconds=1), timedelta(days=20000)])
def test_a_permit_under_a_clock_that_is_behind_is_refused(pki: Pki, behind: timedelta) -> None:
    words = "it cannot tell whether the permit has expired"
    with refused_at(9, "stale.permit", words):
        verify_permit(signed(pki), [pki.root], at=NOW - behind, time_floor=NOW)


def test_a_clock_that_is_hours_behind_is_enough(pki: Pki) -> None:
    verify_permit(signed(pki), [pki.root], at=NOW - timedelta(hours=20), time_floor=NOW)


def test_a_permit_from_the_future_is_refused(pki: Pki) -> None:
    made = int((NOW + 2 * DAY).timestamp())
    with refused_at(9, "stale.permit", "the permit was made at", "it is 2026-11-22"):
        verify_permit(forged(pki, make_permit(made=made)), [pki.root])


def test_a_permit_signed_by_a_channel_key_is_refused() -> None:
    other = channel_pki()
    with refused_at(3, "untrusted.eku", "expected codeSigning"):
        verify_permit(forged(other), [other.root])


def test_a_permit_of_a_revoked_signer_is_refused(pki: Pki) -> None:
    crl = make_crl(pki.issuing, [pki.leaf], number=9)
    with refused_at(5, "untrusted.revoked"):
        verify_permit(signed(pki), [pki.root], crls=(crl,))


def test_a_permit_of_a_stranger_is_refused(pki: Pki) -> None:
    with refused_at(3, "untrusted.no-anchor"):
        verify_permit(signed(make_pki()), [pki.root])


def test_a_permit_with_too_few_signers_is_refused(pki: Pki) -> None:
    with refused_at(6, "untrusted.signers", "2 distinct signers, found 1"):
        verify_permit(signed(pki), [pki.root], threshold=2)


def test_a_release_is_no_permit_and_a_permit_no_release(pki: Pki) -> None:
    with refused_at(7, "unsuitable.release"):
        verify_permit(sign_with(pki), [pki.root])
    with refused_at(7, "unsuitable.permit"):
        verify(signed(pki), [pki.root])


def test_a_channel_is_no_permit() -> None:
    other = channel_pki()
    with refused_at(3, "untrusted.eku"):
        verify_permit(signed_channel(other), [other.root])


_GOOD = make_permit()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"vendor": ""}, "vendor '', no line"),
        ({"product": "x" * 300}, "no line of printable text"),
        ({"device": ""}, "device '', no line"),
        ({"device": "a\nb"}, "no line of printable text"),
        ({"device": "x" * 201}, "no line of printable text"),
        ({"release": b"short"}, "a manifest digest of 5 bytes"),
        ({"sequence_number": -1}, "a sequence number that is not one"),
        ({"sequence_number": True}, "a sequence number that is not one"),
        ({"sequence_number": 2**63}, "a sequence number that is not one"),
        ({"id": b"\x01" * 15}, "an id of 15 bytes, not 16"),
        ({"expires": _GOOD.made}, "0 seconds from making to expiry"),
        ({"expires": _GOOD.made + MAX_LIFE + 1}, "seconds from making to expiry"),
    ],
)
def test_a_permit_outside_its_template(pki: Pki, more: Any, words: str) -> None:
    data = forged(pki, make_permit(**more))
    with refused_at(7, "malformed.permit", "the permit cannot be used", words):
        verify_permit(data, [pki.root])
    with refused_at(None, "malformed.permit", words):
        signed(pki, make_permit(**more))


@pytest.mark.parametrize(
    "content",
    [
        b"\xa0",
        cbor.encode({1: VENDOR, 2: PRODUCT, 3: DEVICE, 4: b"\x01" * 32, 5: "1", 6: bytes(16)}),
        cbor.encode(()),
    ],
)
def test_a_content_of_another_form(pki: Pki, content: bytes) -> None:
    with refused_at(7, "malformed.permit", "it matches no template"):
        verify_permit(forged(pki, content=content), [pki.root])


def test_a_content_with_more(pki: Pki) -> None:
    more = cbor.encode({**cbor.decode(encode_permit(_GOOD)), 7: 0})
    with refused_at(7, "malformed.permit", "it has more, or another form"):
        verify_permit(forged(pki, content=more), [pki.root])


def test_a_content_for_another_product_than_its_manifest(pki: Pki) -> None:
    content = encode_permit(make_permit(product="gateway-x2"))
    with refused_at(7, "malformed.permit", "another product than its manifest"):
        verify_permit(forged(pki, content=content), [pki.root])


def test_a_permit_without_an_expiry(pki: Pki) -> None:
    with refused_at(7, "malformed.profile", "a manifest of a permit"):
        verify_permit(forged(pki, use_before=None), [pki.root])


def test_any_flipped_byte_is_refused(pki: Pki) -> None:
    data = signed(pki)
    for at in range(0, len(data), 7):
        broken = bytearray(data)
        broken[at] ^= 0x10
        with pytest.raises(FwsignError):
            verify_permit(bytes(broken), [pki.root])


def test_any_cut_is_refused(pki: Pki) -> None:
    data = signed(pki)
    for size in range(0, len(data), 11):
        with pytest.raises(FwsignError):
            verify_permit(data[:size], [pki.root])


class TestPermittedRelease:
    """The floor, for a release that a permit names."""

    def test_it_passes_below_the_floor(self, pki: Pki) -> None:
        data = sign_with(pki)
        digest = verify(data, [pki.root]).manifest_digest
        with refused_at(9, "unsuitable.rollback"):
            verify(data, [pki.root], min_sequence=1000)
        found = verify(data, [pki.root], min_sequence=1000, permitted=digest)
        assert "rollback" not in found.unchecked

    def test_no_other_does(self, pki: Pki) -> None:
        with refused_at(9, "unsuitable.rollback"):
            verify(sign_with(pki), [pki.root], min_sequence=1000, permitted=b"\x01" * 32)

    def test_its_expiry_counts(self, pki: Pki) -> None:
        ended = make_manifest(component(), use_before=int(NOW.timestamp()))
        data = sign_with(pki, ended)
        early = verify(data, [pki.root], at=NOW - DAY, revocation="off")
        with refused_at(9, "stale.release"):
            verify(data, [pki.root], min_sequence=1000, permitted=early.manifest_digest)

    def test_no_statement_passes_a_floor_by_it(self) -> None:
        other = channel_pki()
        data = signed_channel(other)
        digest = verify_channel(data, [other.root]).manifest_digest
        with refused_at(9, "unsuitable.rollback"):
            seen = SeenChannel(8, b"x")
            verify_channel(data, [other.root], seen=seen, permitted=digest)
