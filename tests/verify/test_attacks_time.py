"""Attacks with time and revocation: old lists, wrong clocks, missing lists."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from fwsign.format.cose import CRLS
from hostile import blocks_in, encoded, judge, refused_at, with_block, with_blocks
from support import (
    DAY,
    NOW,
    VENDOR,
    Entity,
    Pki,
    make_block,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    parts,
    resign,
    sign_with,
    signed_digest,
    verify,
)

LAST_DAY = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAST = NOW + 365 * DAY
BEHIND = "freshness unproven: the clock is behind"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def aged(pki: Pki, *, leaf: tuple[int, int] = (-10, 365), ca: tuple[int, int] = (-10, 365)) -> Pki:
    """Return a PKI under the same root with other validities, in days from NOW."""
    issuing = make_ca("Issuing", pki.root, days=ca)
    return Pki(pki.root, issuing, make_leaf(issuing, days=leaf))


def stapled(pki: Pki, *crls: bytes) -> bytes:
    return sign_with(pki, crls=crls)


# --- dates ----------------------------------------------------------------------------------


def test_expired_leaf_is_refused(pki: Pki) -> None:
    words = 'certificate "release" expired 2026-11-20, it is 2026-11-22'
    with refused_at(4, "stale.certificate", words):
        verify(sign_with(aged(pki, leaf=(-9, -2))), [pki.root])


def test_expired_intermediate_is_refused(pki: Pki) -> None:
    with refused_at(4, "stale.certificate", 'certificate "Issuing" expired 2026-11-20'):
        verify(sign_with(aged(pki, ca=(-9, -2))), [pki.root])


def test_not_yet_valid_is_refused(pki: Pki) -> None:
    with refused_at(4, "stale.not-yet-valid", '"release" is valid from 2026-11-24'):
        verify(sign_with(aged(pki, leaf=(2, 9))), [pki.root])
    with refused_at(4, "stale.not-yet-valid", '"Issuing" is valid from'):
        verify(sign_with(aged(pki, ca=(2, 9))), [pki.root])


def test_dates_of_an_anchor_do_not_count() -> None:
    root = make_ca("Root", days=(-9, -2))
    issuing = make_ca("Issuing", root)
    verify(sign_with(Pki(root, issuing, make_leaf(issuing))), [root])


def test_validity_is_inclusive_at_both_ends(pki: Pki) -> None:
    envelope, first = stapled(pki), NOW - 10 * DAY
    verify(envelope, [pki.root], at=first)
    verify(envelope, [pki.root], at=LAST)
    with refused_at(4, "stale.not-yet-valid"):
        verify(envelope, [pki.root], at=first - SECOND)
    with refused_at(4, "stale.certificate"):
        verify(envelope, [pki.root], at=LAST + SECOND)


# --- clocks ---------------------------------------------------------------------------------


def test_clock_in_1970_is_moved_by_a_crl(pki: Pki) -> None:
    release = verify(sign_with(pki), [pki.root], at=datetime.fromtimestamp(0, NOW.tzinfo))
    assert release.now == NOW - DAY
    assert release.notes == (BEHIND,)
    assert release.unchecked == ()


def test_clock_in_1970_without_crl_or_floor_is_refused(pki: Pki) -> None:
    with refused_at(4, "stale.not-yet-valid", "it is 1970-01-01"):
        verify(stapled(pki), [pki.root], at=datetime.fromtimestamp(0, NOW.tzinfo))


def test_clock_behind_does_not_revive_an_expired_leaf(pki: Pki) -> None:
    envelope = sign_with(aged(pki, leaf=(-9, -2)))
    with refused_at(4, "stale.certificate"):
        verify(envelope, [pki.root], at=NOW - 5 * DAY)


def test_time_floor_moves_now(pki: Pki) -> None:
    release = verify(stapled(pki), [pki.root], at=NOW - 99 * DAY, time_floor=NOW)
    assert (release.now, release.notes) == (NOW, (BEHIND,))
    with refused_at(4, "stale.certificate", "it is 2027-11-22"):
        verify(stapled(pki), [pki.root], at=NOW, time_floor=LAST + SECOND)


def test_time_floor_in_the_past_changes_nothing(pki: Pki) -> None:
    release = verify(stapled(pki), [pki.root], time_floor=NOW - 99 * DAY)
    assert (release.now, release.notes) == (NOW, ())


def test_not_before_is_not_judged_by_a_clock_that_is_behind(pki: Pki) -> None:
    young = aged(pki, leaf=(2, 9))
    release = verify(stapled(young), [pki.root], at=NOW, time_floor=NOW + DAY)
    assert release.notes == (BEHIND,)


def test_a_crl_held_moves_now_too(pki: Pki) -> None:
    late = make_crl(pki.issuing, number=9, days=(3, 30))
    release = verify(sign_with(pki), [pki.root], crls=(late,))
    assert (release.now, release.notes) == (NOW + 3 * DAY, (BEHIND,))


def test_a_crl_of_a_stranger_does_not_move_now(pki: Pki) -> None:
    late = make_crl(make_ca("Else"), days=(90, 99))
    release = verify(stapled(pki, *pki.crls, late), [pki.root], crls=(late,))
    assert (release.now, release.notes) == (NOW, ())


def test_a_forged_crl_does_not_move_now(pki: Pki) -> None:
    late = make_crl(pki.issuing, number=9, days=(90, 99), signer=pki.leaf)
    with refused_at(5, "tampered.crl", 'CRL of "Issuing" does not verify'):
        verify(stapled(pki, *pki.crls, late), [pki.root])


def test_the_latest_time_of_the_signers_judges_the_release(pki: Pki) -> None:
    late = make_crl(pki.issuing, days=(3, 30))
    content = encoded(use_before=int((NOW + DAY).timestamp()))
    chain = [pki.leaf.der, pki.issuing.der]
    crls = [pki.crls, (late, make_crl(pki.root))]
    blocks = [make_block(signed_digest(content), pki.leaf.key, chain, one) for one in crls]
    with refused_at(9, "stale.release"):
        judge(pki, content, *blocks)


def test_required_token_is_missed(pki: Pki) -> None:
    with refused_at(4, "untrusted.token-required", '"release" gives no time-stamp token'):
        verify(sign_with(pki), [pki.root], require_token=True)


# --- revocation -----------------------------------------------------------------------------


def test_revoked_leaf_is_refused(pki: Pki) -> None:
    lists = make_crl(pki.issuing, [pki.leaf]), make_crl(pki.root)
    words = 'certificate "release" revoked 2026-11-21 (key compromise)'
    with refused_at(5, "untrusted.revoked", words):
        verify(stapled(pki, *lists), [pki.root])


def test_revoked_intermediate_is_refused(pki: Pki) -> None:
    lists = make_crl(pki.issuing), make_crl(pki.root, [pki.issuing])
    with refused_at(5, "untrusted.revoked", 'certificate "Issuing" revoked'):
        verify(stapled(pki, *lists), [pki.root])


@pytest.mark.parametrize(
    "reason",
    [
        None,
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.certificate_hold,
        x509.ReasonFlags.remove_from_crl,
    ],
)
def test_any_reason_refuses_without_a_proof_of_time(
    pki: Pki, reason: x509.ReasonFlags | None
) -> None:
    lists = make_crl(pki.issuing, [pki.leaf], reason=reason), make_crl(pki.root)
    with refused_at(5, "untrusted.revoked"):
        verify(stapled(pki, *lists), [pki.root])


def test_revocation_in_the_future_refuses_now(pki: Pki) -> None:
    lists = make_crl(pki.issuing, [pki.leaf], since=NOW + 9 * DAY), make_crl(pki.root)
    with refused_at(5, "untrusted.revoked", "2026-12-01"):
        verify(stapled(pki, *lists), [pki.root])


def test_replayed_old_crl_does_not_hide_a_newer_one_held(pki: Pki) -> None:
    old = make_crl(pki.issuing, number=1), make_crl(pki.root)
    held = make_crl(pki.issuing, [pki.leaf], number=2)
    verify(stapled(pki, *old), [pki.root])
    with refused_at(5, "untrusted.revoked"):
        verify(stapled(pki, *old), [pki.root], crls=(held,))


def test_newest_number_counts_and_not_the_newest_time(pki: Pki) -> None:
    lists = [
        make_crl(pki.issuing, [pki.leaf], number=2, days=(-3, 30)),
        make_crl(pki.issuing, number=1, days=(-1, 30)),
        make_crl(pki.root),
    ]
    for order in (lists, lists[::-1]):
        with refused_at(5, "untrusted.revoked"):
            verify(stapled(pki, *order), [pki.root])


def test_stale_list_of_the_highest_number_is_not_replaced_by_a_fresh_one(pki: Pki) -> None:
    lists = (
        make_crl(pki.issuing, number=2, days=(-9, -1)),
        make_crl(pki.issuing, number=1),
        make_crl(pki.root),
    )
    with refused_at(5, "stale.crl", 'CRL of "Issuing" was to be replaced by 2026-11-21'):
        verify(stapled(pki, *lists), [pki.root])


@pytest.mark.parametrize("order", [1, -1])
def test_revoked_in_one_of_two_lists_of_one_number_is_revoked(pki: Pki, order: int) -> None:
    two = [make_crl(pki.issuing, [pki.leaf]), make_crl(pki.issuing)][::order]
    with refused_at(5, "untrusted.revoked"):
        verify(stapled(pki, *two, make_crl(pki.root)), [pki.root])


def test_missing_crl_of_the_intermediate_is_refused(pki: Pki) -> None:
    words = 'no CRL of "Issuing", the issuer of "release"'
    with refused_at(5, "stale.crl-missing", words):
        verify(stapled(pki, make_crl(pki.root)), [pki.root])
    with refused_at(5, "stale.crl-missing", 'no CRL of "Root", the issuer of "Issuing"'):
        verify(stapled(pki, make_crl(pki.issuing)), [pki.root])


def test_a_held_crl_alone_demands_one_of_every_issuer(pki: Pki) -> None:
    with refused_at(5, "stale.crl-missing"):
        verify(stapled(pki), [pki.root], crls=(make_crl(pki.root),))
    assert verify(stapled(pki), [pki.root], crls=pki.crls).unchecked == ()


def test_a_stapled_crl_of_a_stranger_alone_asks_for_those_of_the_issuers(pki: Pki) -> None:
    with refused_at(5, "stale.crl-missing"):
        verify(stapled(pki, make_crl(make_ca("Else"))), [pki.root])


def test_stripped_crls_show_in_the_result(pki: Pki) -> None:
    stripped = with_block(sign_with(pki), lambda block: block[1].pop(CRLS))
    assert verify(stripped, [pki.root]).unchecked == ("revocation",)
    with refused_at(5, "stale.crl-missing"):
        verify(stripped, [pki.root], revocation="require")
    assert verify(sign_with(pki), [pki.root]).unchecked == ()


def test_revocation_off_is_shown(pki: Pki) -> None:
    envelope = stapled(pki, make_crl(pki.issuing, [pki.leaf]), make_crl(pki.root))
    assert verify(envelope, [pki.root], revocation="off").unchecked == ("revocation",)


def test_a_copy_without_crls_cannot_make_revocation_count_as_checked(pki: Pki) -> None:
    envelope = sign_with(pki)
    bare = with_block(envelope, lambda block: block[1].pop(CRLS))
    both = with_blocks(envelope, *blocks_in(envelope), *blocks_in(bare))
    assert verify(both, [pki.root]).unchecked == ("revocation",)


def test_expired_crl_is_refused(pki: Pki) -> None:
    lists = make_crl(pki.issuing, days=(-9, -1)), make_crl(pki.root)
    with refused_at(5, "stale.crl", "2026-11-21, it is 2026-11-22"):
        verify(stapled(pki, *lists), [pki.root])


def test_crl_is_good_until_its_last_second(pki: Pki) -> None:
    until = NOW + 30 * DAY
    verify(sign_with(pki), [pki.root], at=until)
    with refused_at(5, "stale.crl"):
        verify(sign_with(pki), [pki.root], at=until + SECOND)


def test_forged_and_broken_lists_are_refused(pki: Pki) -> None:
    forged = make_crl(pki.issuing, signer=pki.root)
    with refused_at(5, "tampered.crl"):
        verify(stapled(pki, forged, make_crl(pki.root)), [pki.root])
    with refused_at(5, "malformed.crl", "not a CRL"):
        verify(stapled(pki, *pki.crls, b"junk"), [pki.root])
    with refused_at(5, "malformed.crl"):
        verify(stapled(pki, *pki.crls), [pki.root], crls=(b"junk",))


DELTA = (x509.DeltaCRLIndicator(1), True)
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)


@pytest.mark.parametrize(
    ("extensions", "words"), [([DELTA], "2.5.29.27"), ([UNKNOWN], "1.2.3.4: only complete")]
)
def test_list_that_is_not_complete_is_refused(
    pki: Pki, extensions: Sequence[tuple[x509.ExtensionType, bool]], words: str
) -> None:
    lists = make_crl(pki.issuing, extensions=extensions), make_crl(pki.root)
    with refused_at(5, "untrusted.crl", words):
        verify(stapled(pki, *lists), [pki.root])


def test_list_without_number_is_refused_or_shown(pki: Pki) -> None:
    lists = make_crl(pki.issuing, number=None), make_crl(pki.root)
    with refused_at(5, "untrusted.crl", "cannot be told from a new one"):
        verify(stapled(pki, *lists), [pki.root])
    release = verify(stapled(pki, *lists), [pki.root], profile="compat")
    assert release.notes == ('CRL of "Issuing" has no number',)


def test_revoked_in_the_later_list_without_number_is_refused(pki: Pki) -> None:
    lists = [
        make_crl(pki.issuing, [pki.leaf], number=None, days=(-1, 30)),
        make_crl(pki.issuing, number=7, days=(-2, 30)),
        make_crl(pki.root),
    ]
    for order in (lists, lists[::-1]):
        with refused_at(5, "untrusted.revoked"):
            verify(stapled(pki, *order), [pki.root], profile="compat")


def test_revoked_signer_does_not_count_beside_another(pki: Pki) -> None:
    other = make_pki(common="Other ")
    content = encoded()
    lists = make_crl(pki.issuing, [pki.leaf]), make_crl(pki.root)
    blocks = [
        make_block(signed_digest(content), pki.leaf.key, [pki.leaf.der, pki.issuing.der], lists),
        make_block(
            signed_digest(content), other.leaf.key, [other.leaf.der, other.issuing.der], other.crls
        ),
    ]
    anchors = [pki.root, other.root]
    release = judge(pki, content, *blocks, anchors=anchors)
    assert release.vendor == VENDOR
    assert [one.refusal and one.refusal.code for one in release.signers] == [
        "untrusted.revoked",
        None,
    ]
    with refused_at(5, "untrusted.revoked"):
        judge(pki, content, *blocks, anchors=anchors, threshold=2)


def unknown_reason(pki: Pki, entity: Entity) -> bytes:
    """Revoke for a reason that does not exist, in a list that the CA has signed nevertheless."""
    tbs = parts(parts(make_crl(pki.issuing, [entity]))[0])
    tbs[5] = tbs[5].replace(b"\x0a\1\1", b"\x0a\1\7")
    return resign(tbs, pki.issuing.key)


def test_an_entry_that_cannot_be_read_refuses(pki: Pki) -> None:
    with refused_at(5, "malformed.crl", 'an entry of the CRL of "Issuing"'):
        verify(stapled(pki, unknown_reason(pki, pki.leaf), make_crl(pki.root)), [pki.root])


def test_an_entry_of_another_certificate_is_not_looked_at(pki: Pki) -> None:
    """Nothing in it is critical, so it cannot say anything about this one."""
    verify(stapled(pki, unknown_reason(pki, pki.root), make_crl(pki.root)), [pki.root])


@pytest.mark.parametrize("at", [LAST_DAY, LAST_DAY - SECOND], ids=str)
def test_a_clock_at_the_end_of_the_calendar_is_judged(at: datetime) -> None:
    """Certificates without end are good until then (RFC 5280 section 4.1.2.5)."""
    days: Any = (-10, (LAST_DAY - NOW) / DAY)
    root = make_ca(days=days)
    issuing = make_ca("Issuing", root, days=days)
    pki = Pki(root, issuing, make_leaf(issuing, days=days))
    lists = [make_crl(one, days=days) for one in (issuing, root)]
    release = verify(sign_with(pki, crls=lists), [root], at=at)
    assert (release.now, release.known_time) == (at, NOW - 10 * DAY)
