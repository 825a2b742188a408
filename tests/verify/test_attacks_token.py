"""Attacks with time-stamp tokens: stripped, moved, forged, of the wrong authority or time."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from fwsign.errors import CODES, FwsignError
from fwsign.format.cose import TOKEN, decode_block
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.anchor import Anchor
from hostile import (
    altered_block,
    bare,
    encoded,
    judge,
    no_stronger,
    outcome,
    refused_at,
    with_block,
)
from mutation import Dice
from support import (
    CODE_SIGNING,
    DAY,
    NOW,
    VENDOR,
    Pki,
    ca_extensions,
    certify,
    make_block,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    name,
    new_key,
    sign_with,
    signed_digest,
    stride,
    tlv,
    verify,
)
from tsa_kit import (
    TIME_STAMPING,
    Tsa,
    attribute,
    certificates_of,
    make_token,
    make_tsa,
    make_tsa_leaf,
    octets,
    sequence,
    signatures,
    signed_attributes,
    stamped,
    token_in,
    tst_info,
    with_tokens,
)

SUPERSEDED = x509.ReasonFlags.superseded
BEFORE = NOW - 5 * DAY
SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEHIND = "freshness unproven: the clock is behind"


def keeps(since: str = "20260101000000Z") -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.60"), tlv(0x18, since.encode()))


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def tsa() -> Tsa:
    return make_tsa()


def device(envelope: bytes, pki: Pki, *authorities: Tsa, **more: Any) -> VerifiedRelease:
    """Verify on a device that pins these authorities."""
    anchors = tuple(one.root.anchor for one in authorities)
    return verify(envelope, [pki.root], tsa_anchors=anchors, **more)


def revoked(pki: Pki, tsa: Tsa, **more: Any) -> bytes:
    """Sign, stamp, and revoke the signer later, for a reason that leaves old signatures good."""
    listed = make_crl(pki.issuing, [pki.leaf], **{"reason": SUPERSEDED, **more})
    return stamped(pki, tsa, crls=(listed, make_crl(pki.root), *tsa.crls), gen_time=BEFORE)


def expired(pki: Pki, tsa: Tsa, since: str | None = "20260101000000Z", **more: Any) -> bytes:
    """Sign with a leaf that has expired since, whose CA may keep that on its CRL."""
    old = pki._replace(leaf=make_leaf(pki.issuing, days=(-10, -2)))
    extensions = [(keeps(since), False)] if since else []
    crls = (make_crl(pki.issuing, extensions=extensions), make_crl(pki.root), *tsa.crls)
    return stamped(old, tsa, crls=crls, **{"gen_time": BEFORE, **more})


# --- what a token proves --------------------------------------------------------------------


def test_a_token_says_when(pki: Pki, tsa: Tsa) -> None:
    release = device(stamped(pki, tsa, gen_time=BEFORE), pki, tsa)
    (signer,) = release.signers
    assert signer.signed_at == BEFORE
    assert signer.tsa == "TSA 1"
    assert (signer.now, release.now, release.notes) == (NOW, NOW, ())
    names = [one.certificate.name for one in signer.issued]
    assert names == ["release", "Issuing", "TSA 1"]


def test_a_release_without_token_has_no_such_time(pki: Pki, tsa: Tsa) -> None:
    (signer,) = device(sign_with(pki), pki, tsa).signers
    assert (signer.signed_at, signer.tsa, signer.stamp) == (None, None, None)


def test_a_token_of_a_longer_path(pki: Pki) -> None:
    root = make_ca("TSA Root")
    middle = make_ca("TSA Issuing", root)
    deep = Tsa(root, make_tsa_leaf(middle), (middle,))
    assert device(stamped(pki, deep), pki, deep).signers[0].signed_at == NOW
    nearer = Anchor.from_certificate(middle.der)
    release = verify(stamped(pki, deep), [pki.root], tsa_anchors=(nearer,))
    assert release.signers[0].signed_at == NOW


def test_the_same_root_may_stand_for_both(pki: Pki) -> None:
    own = Tsa(pki.root, make_tsa_leaf(pki.root))
    release = device(stamped(pki, own, crls=pki.crls), pki, own)
    assert release.signers[0].signed_at == NOW


def test_an_anchor_for_releases_is_none_for_time(pki: Pki) -> None:
    own = Tsa(pki.root, make_tsa_leaf(pki.root))
    release = device(stamped(pki, own, crls=pki.crls), pki)
    assert release.signers[0].signed_at is None


def test_an_anchor_for_time_is_none_for_releases(pki: Pki, tsa: Tsa) -> None:
    own = pki._replace(leaf=make_leaf(tsa.root), issuing=tsa.root)
    with refused_at(3, "untrusted.no-anchor"):
        device(stamped(own, tsa), pki, tsa)


def test_a_signer_for_code_cannot_stamp(pki: Pki) -> None:
    own = Tsa(pki.root, pki.leaf, (pki.issuing,))
    with refused_at(4, "untrusted.eku", "expected timeStamping alone"):
        device(stamped(pki, own, crls=pki.crls), pki, own, require_token=True)


def test_a_stamper_cannot_sign(pki: Pki) -> None:
    own = pki._replace(leaf=make_tsa_leaf(pki.issuing))
    with refused_at(3, "untrusted.eku", "expected codeSigning"):
        device(sign_with(own), pki)


def test_a_ca_for_code_cannot_issue_a_stamper(pki: Pki) -> None:
    usage = (x509.ExtendedKeyUsage([CODE_SIGNING]), True)
    top = certify(new_key(), name("TSA Root"), None, [*ca_extensions(), usage])
    own = Tsa(top, make_tsa_leaf(top))
    with refused_at(4, "untrusted.eku", 'CA "TSA Root" may not issue for time stamping'):
        device(stamped(pki, own), pki, own, require_token=True)


@pytest.mark.parametrize("critical", [False, True])
def test_a_public_ca_for_time_need_not_be_critical_about_it(pki: Pki, *, critical: bool) -> None:
    usage = (x509.ExtendedKeyUsage([TIME_STAMPING]), critical)
    top = certify(new_key(), name("TSA Root"), None, [*ca_extensions(), usage])
    own = Tsa(top, make_tsa_leaf(top))
    assert device(stamped(pki, own), pki, own).signers[0].signed_at == NOW


def test_a_ca_is_no_stamper(pki: Pki) -> None:
    top = make_ca("TSA Root")
    with refused_at(4, "untrusted.ca-as-leaf", "it may not sign time stamps"):
        own = Tsa(top, make_ca("TSA 1", top))
        device(stamped(pki, own), pki, own, require_token=True)


@pytest.mark.parametrize(("alg", "found"), [("rsa2048", "RSA-2048"), ("ed448", "Ed448")])
def test_weak_and_odd_keys_are_not_believed(pki: Pki, alg: str, found: str) -> None:
    own = make_tsa(alg)
    with refused_at(4, "untrusted.algorithm", found):
        device(stamped(pki, own), pki, own, require_token=True)


def test_published_keys_are_not_believed(
    pki: Pki, tsa: Tsa, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = frozenset({tsa.leaf.anchor.spki})
    monkeypatch.setattr("fwsign.verify.policy.EXAMPLE_SPKI", known)
    with refused_at(4, "untrusted.example-key", 'path of "TSA 1"'):
        device(stamped(pki, tsa), pki, tsa, require_token=True)
    device(stamped(pki, tsa), pki, tsa, require_token=True, allow_example_keys=True)


# --- revoked and expired signers ------------------------------------------------------------


def test_stripped_token_of_a_revoked_signer_is_refused(pki: Pki, tsa: Tsa) -> None:
    envelope = revoked(pki, tsa)
    device(envelope, pki, tsa)
    with refused_at(5, "untrusted.revoked"):
        device(with_tokens(envelope, None), pki, tsa)


def test_a_revoked_signer_is_refused_where_nobody_believes_the_token(pki: Pki, tsa: Tsa) -> None:
    words = "; its time-stamp token does not count: no time-stamping authority is pinned"
    with refused_at(5, "untrusted.revoked", words):
        device(revoked(pki, tsa), pki)


@pytest.mark.parametrize(
    "reason", [one for one in x509.ReasonFlags if one.name != "remove_from_crl"]
)
def test_only_harmless_reasons_leave_old_signatures_good(
    pki: Pki, tsa: Tsa, reason: x509.ReasonFlags
) -> None:
    harmless = ("superseded", "cessation_of_operation", "affiliation_changed")
    found = outcome(device, revoked(pki, tsa, reason=reason), pki, tsa)
    if reason.name in harmless:
        assert isinstance(found, VerifiedRelease)
    else:
        assert isinstance(found, FwsignError)
        assert found.code == "untrusted.revoked"


def test_a_signature_at_the_moment_of_revocation_is_refused(pki: Pki, tsa: Tsa) -> None:
    device(revoked(pki, tsa, since=BEFORE + SECOND), pki, tsa)
    with refused_at(5, "untrusted.revoked"):
        device(revoked(pki, tsa, since=BEFORE), pki, tsa)


def test_a_token_moved_from_another_envelope_is_refused(pki: Pki, tsa: Tsa) -> None:
    content = encoded(sequence_number=101)
    other = tsa.stamp(*signatures(sign_with(pki, content)), gen_time=BEFORE)
    words = "its time-stamp token does not count: the time-stamp token is of another signature"
    with refused_at(5, "untrusted.revoked", words):
        device(with_tokens(revoked(pki, tsa), other), pki, tsa)
    with refused_at(4, "tampered.token", "of another signature"):
        device(with_tokens(sign_with(pki), other), pki, tsa, require_token=True)
    release = device(with_tokens(sign_with(pki), other), pki, tsa)  # worth as much as none
    assert release.signers[0].signed_at is None
    assert "not counted: the time-stamp token is of another signature" in release.notes[0]


def test_a_token_counts_for_its_own_block_only(pki: Pki, tsa: Tsa) -> None:
    content = encoded()
    old = make_leaf(pki.issuing, days=(-10, -2))
    crls = (make_crl(pki.issuing, extensions=[(keeps(), False)]), make_crl(pki.root), *tsa.crls)
    one = [
        make_block(signed_digest(content), leaf.key, [leaf.der, pki.issuing.der], crls)
        for leaf in (old, pki.leaf)
    ]
    token = tsa.stamp(decode_block(one[1]).signature, gen_time=BEFORE)
    good = with_token(one[1], token)
    with refused_at(4, "stale.certificate"):
        judge(pki, content, one[0], good, tsa_anchors=(tsa.root.anchor,), threshold=2)
    release = judge(pki, content, one[0], good, tsa_anchors=(tsa.root.anchor,))
    assert [signer.signed_at for signer in release.signers] == [None, BEFORE]
    assert [signer.refusal is None for signer in release.signers] == [False, True]
    doubled = (with_token(one[0], token), good)
    release = judge(pki, content, *doubled, tsa_anchors=(tsa.root.anchor,))
    assert [signer.signed_at for signer in release.signers] == [None, BEFORE]
    words = "its time-stamp token does not count: the time-stamp token is of another signature"
    with refused_at(4, "stale.certificate", words):
        judge(pki, content, *doubled, tsa_anchors=(tsa.root.anchor,), threshold=2)


def with_token(block: bytes, token: bytes) -> bytes:
    return altered_block(block, lambda parts: parts[1].update({TOKEN: token}))


def test_an_expired_signer_needs_a_crl_that_remembers(pki: Pki, tsa: Tsa) -> None:
    assert device(expired(pki, tsa), pki, tsa).signers[0].signed_at == BEFORE
    words = 'no CRL of "Issuing" says that it keeps those that expired'
    for profile in ("strict", "compat"):
        with refused_at(4, "stale.certificate", 'certificate "release" expired', words):
            device(expired(pki, tsa, since=None), pki, tsa, profile=profile)


def test_a_crl_that_remembers_less_is_not_enough(pki: Pki, tsa: Tsa) -> None:
    end = NOW - 2 * DAY
    device(expired(pki, tsa, since=f"{end:%Y%m%d%H%M%SZ}"), pki, tsa)
    with refused_at(4, "stale.certificate"):
        device(expired(pki, tsa, since=f"{end + SECOND:%Y%m%d%H%M%SZ}"), pki, tsa)


def test_of_two_crls_with_one_number_both_have_to_remember(pki: Pki, tsa: Tsa) -> None:
    with refused_at(4, "stale.certificate"):
        device(expired(pki, tsa), pki, tsa, crls=(make_crl(pki.issuing),))


@pytest.mark.parametrize("since", ["2026", "20260101000000", "261301000000Z"])
def test_an_expired_certs_extension_that_cannot_be_read(pki: Pki, tsa: Tsa, since: str) -> None:
    with refused_at(5, "malformed.crl", "GeneralizedTime"):
        device(expired(pki, tsa, since=since), pki, tsa)


def test_without_crls_a_token_extends_nothing(pki: Pki, tsa: Tsa) -> None:
    old = pki._replace(leaf=make_leaf(pki.issuing, days=(-10, -2)))
    envelope = stamped(old, tsa, crls=(), gen_time=BEFORE)
    for revocation in ("if-present", "off"):
        with refused_at(4, "stale.certificate"):
            device(envelope, pki, tsa, revocation=revocation)
    with refused_at(4, "stale.certificate"):
        device(expired(pki, tsa), pki, tsa, revocation="off")


def test_expired_and_stripped_is_refused(pki: Pki, tsa: Tsa) -> None:
    with refused_at(4, "stale.certificate"):
        device(with_tokens(expired(pki, tsa), None), pki, tsa)


def test_a_stolen_expired_key_gets_no_token_that_helps(pki: Pki, tsa: Tsa) -> None:
    with refused_at(4, "stale.certificate", "its time stamp says 2026-11-22"):
        device(expired(pki, tsa, gen_time=NOW), pki, tsa)
    first = NOW - 10 * DAY
    with refused_at(4, "stale.not-yet-valid", "its time stamp says 2026-11-12T11:59:59"):
        older = make_tsa(days=(-99, 99))
        device(expired(pki, older, gen_time=first - SECOND), pki, older)


def test_next_update_is_never_judged_by_the_token(pki: Pki, tsa: Tsa) -> None:
    old = make_crl(pki.issuing, days=(-9, -1)), make_crl(pki.root), *tsa.crls
    with refused_at(5, "stale.crl"):
        device(stamped(pki, tsa, crls=old, gen_time=BEFORE), pki, tsa)


def test_a_stale_crl_may_be_allowed_for_a_while(pki: Pki) -> None:
    old = sign_with(pki, crls=(make_crl(pki.issuing, days=(-9, -1)), make_crl(pki.root)))
    release = device(old, pki, revocation="require", allow_stale=DAY)
    assert release.notes == ('stale revocation: CRL of "Issuing" was to be replaced by 2026-11-21',)
    with refused_at(5, "stale.crl"):
        device(old, pki, revocation="require", allow_stale=DAY - SECOND)


def test_allowing_stale_crls_allows_no_revoked_signer(pki: Pki) -> None:
    lists = make_crl(pki.issuing, [pki.leaf], days=(-9, -1)), make_crl(pki.root)
    with refused_at(5, "untrusted.revoked"):
        device(sign_with(pki, crls=lists), pki, allow_stale=999 * DAY)
    with refused_at(5, "stale.crl-missing"):
        device(sign_with(pki, crls=()), pki, revocation="require", allow_stale=999 * DAY)


def test_stale_crls_are_not_forgiven_before_their_time(pki: Pki) -> None:
    with refused_at(None, "state.policy", "stale before their time"):
        device(sign_with(pki), pki, allow_stale=-SECOND)


def test_an_anchor_for_time_is_not_limited_to_vendors(pki: Pki, tsa: Tsa) -> None:
    anchor = Anchor.from_certificate(tsa.root.der, [VENDOR])
    with refused_at(None, "state.policy", "limited to vendors"):
        verify(sign_with(pki), [pki.root], tsa_anchors=(anchor,))


# --- authorities ----------------------------------------------------------------------------


def test_a_token_of_an_untrusted_authority_is_worth_nothing(pki: Pki, tsa: Tsa) -> None:
    stranger = make_tsa(root=make_ca("Stranger"))
    release = device(stamped(pki, stranger), pki, tsa)
    assert release.signers[0].signed_at is None
    words = 'the path ends at issuer "Stranger", the anchors are "TSA Root"'
    assert release.notes == (f"time-stamp token not counted: {words}",)
    with refused_at(5, "untrusted.revoked", "its time-stamp token does not count"):
        device(revoked(pki, stranger), pki, tsa)
    with refused_at(4, "stale.certificate", "its time-stamp token does not count"):
        device(expired(pki, stranger), pki, tsa)
    with refused_at(4, "untrusted.no-anchor"):
        device(stamped(pki, stranger), pki, tsa, require_token=True)


def test_a_stranger_with_the_authoritys_name_is_refused(pki: Pki, tsa: Tsa) -> None:
    same = make_tsa()
    with refused_at(4, "untrusted.no-anchor"):
        device(stamped(pki, same), pki, tsa, require_token=True)


def test_a_forged_certificate_of_the_authority_is_refused(pki: Pki, tsa: Tsa) -> None:
    forged = bytearray(tsa.leaf.der)
    forged[-1] ^= 1
    envelope = sign_with(pki, crls=())
    signature = signatures(envelope)[0]
    info = tst_info(signature, NOW, "sha256")
    ess = sequence(sequence(sequence(octets(hashlib.sha256(bytes(forged)).digest()))))
    attributes = signed_attributes(info, tsa.leaf.der, "sha256")[:3]
    token = make_token(
        signature,
        tsa.leaf,
        [bytes(forged)],
        info=info,
        attributes=[*attributes, attribute("signing certificate v2", ess)],
    )
    with refused_at(4, "tampered.certificate", '"TSA 1" does not verify'):
        device(with_tokens(envelope, token), pki, tsa, require_token=True)
    assert device(with_tokens(envelope, token), pki, tsa).signers[0].signed_at is None


def test_a_forged_token_is_worth_nothing(pki: Pki, tsa: Tsa) -> None:
    forged = stamped(pki, tsa, key=pki.leaf.key, gen_time=NOW + 9 * DAY)
    words = "the time-stamp token's own signature does not verify"
    with refused_at(4, "tampered.token", words):
        device(forged, pki, tsa, require_token=True)
    release = device(forged, pki, tsa)
    assert (release.now, release.signers[0].signed_at) == (NOW, None)
    assert release.notes == (f"time-stamp token not counted: {words}",)
    with refused_at(4, "stale.certificate", f"its time-stamp token does not count: {words}"):
        device(expired(pki, tsa, key=pki.leaf.key), pki, tsa)


def test_a_broken_token_of_one_of_two_signers_stops_neither(pki: Pki, tsa: Tsa) -> None:
    """Whoever could break it could as well take it out."""
    content = encoded()
    leaves = (pki.leaf, make_leaf(pki.issuing, common="second"))
    blocks = [
        make_block(signed_digest(content), leaf.key, [leaf.der, pki.issuing.der]) for leaf in leaves
    ]
    good = with_token(blocks[1], tsa.stamp(decode_block(blocks[1]).signature))
    options: dict[str, Any] = {"tsa_anchors": (tsa.root.anchor,), "require_token": True}
    forged = tsa.stamp(decode_block(blocks[0]).signature, key=pki.leaf.key)
    for broken, code in ((b"token", "malformed.token"), (forged, "tampered.token")):
        bad = with_token(blocks[0], broken)
        release = judge(pki, content, bad, good, **options)
        found = [signer.refusal for signer in release.signers]
        assert found[0] is not None
        assert (found[0].code, found[0].step, found[1]) == (code, 4, None)
        with refused_at(4, code):
            judge(pki, content, bad, good, **options, threshold=2)


def test_a_broken_token_saves_no_bad_signature(pki: Pki, tsa: Tsa) -> None:
    content = encoded()
    wrong = make_block(signed_digest(content), tsa.leaf.key, [pki.leaf.der, pki.issuing.der])
    with refused_at(3, "tampered.signature"):
        judge(pki, content, with_token(wrong, b"token"), tsa_anchors=(tsa.root.anchor,))


@pytest.mark.parametrize("reason", [SUPERSEDED, x509.ReasonFlags.key_compromise, None])
def test_a_revoked_authority_refuses_its_token(pki: Pki, tsa: Tsa, reason: Any) -> None:
    lists = make_crl(tsa.root, [tsa.leaf], reason=reason, since=NOW + DAY)
    envelope = stamped(pki, tsa, crls=(*pki.crls, lists), gen_time=BEFORE)
    with refused_at(4, "untrusted.revoked", 'certificate "TSA 1" revoked'):
        device(envelope, pki, tsa, require_token=True)
    (signer,) = device(envelope, pki, tsa).signers
    assert (signer.signed_at, signer.tsa) == (None, None)
    # What is known of it is remembered: an old CRL must not bring it back.
    assert lists in [crl.data for one in signer.issued for crl in one.crls]


def test_a_revoked_authority_is_known_from_held_crls(pki: Pki, tsa: Tsa) -> None:
    held = make_crl(tsa.root, [tsa.leaf], number=2)
    with refused_at(4, "untrusted.revoked"):
        device(stamped(pki, tsa), pki, tsa, crls=(held,), require_token=True)
    with refused_at(4, "untrusted.revoked"):  # also where nothing else is stapled
        device(stamped(pki, tsa, crls=()), pki, tsa, crls=(held,), require_token=True)


def test_an_authority_whose_crl_was_taken_out_is_not_believed(pki: Pki, tsa: Tsa) -> None:
    words = 'no CRL of "TSA Root", the issuer of "TSA 1"'
    with refused_at(4, "stale.crl-missing", words):
        device(stamped(pki, tsa, crls=pki.crls), pki, tsa, require_token=True)
    with refused_at(4, "stale.crl-missing", words):
        device(stamped(pki, tsa, crls=()), pki, tsa, require_token=True, revocation="require")


def test_a_stale_crl_of_the_authority_is_noted_where_it_is_allowed(pki: Pki, tsa: Tsa) -> None:
    old = make_crl(tsa.root, days=(-9, -1))
    envelope = stamped(pki, tsa, crls=(*pki.crls, old), gen_time=BEFORE)
    with refused_at(4, "stale.crl", 'CRL of "TSA Root"'):
        device(envelope, pki, tsa, require_token=True)
    release = device(envelope, pki, tsa, require_token=True, allow_stale=DAY)
    assert release.notes == (
        'stale revocation: CRL of "TSA Root" was to be replaced by 2026-11-21',
    )


def test_with_a_forged_crl_of_the_authority_its_token_does_not_count(pki: Pki, tsa: Tsa) -> None:
    forged = make_crl(tsa.root, signer=pki.leaf)
    envelope = stamped(pki, tsa, crls=(*pki.crls, forged))
    with refused_at(4, "tampered.crl"):
        device(envelope, pki, tsa, require_token=True)
    assert device(envelope, pki, tsa).signers[0].signed_at is None


def test_without_any_crl_the_result_says_so(pki: Pki, tsa: Tsa) -> None:
    release = device(stamped(pki, tsa, crls=()), pki, tsa)
    assert release.unchecked == ("revocation",)
    assert release.signers[0].signed_at == NOW


def test_with_revocation_off_a_revoked_authority_is_believed_and_the_result_says_so(
    pki: Pki, tsa: Tsa
) -> None:
    lists = make_crl(tsa.root, [tsa.leaf])
    release = device(stamped(pki, tsa, crls=(*pki.crls, lists)), pki, tsa, revocation="off")
    assert release.unchecked == ("revocation",)


@pytest.mark.parametrize(("days", "code"), [((-99, -2), "certificate"), ((2, 99), "not-yet-valid")])
def test_an_authority_outside_its_validity_is_not_believed(
    pki: Pki, days: tuple[int, int], code: str
) -> None:
    own = make_tsa(days=days)
    with refused_at(4, f"stale.{code}", 'certificate "TSA 1"', "its time stamp says"):
        device(stamped(pki, own), pki, own, require_token=True)


def test_an_authority_that_expired_since_needs_a_crl_that_remembers(pki: Pki) -> None:
    own = make_tsa(days=(-99, -2))
    for lists, good in (
        (own.crls, False),
        ((make_crl(own.root, extensions=[(keeps(), False)]),), True),
    ):
        envelope = stamped(pki, own, crls=(*pki.crls, *lists), gen_time=BEFORE)
        release = device(envelope, pki, own)
        assert (release.signers[0].signed_at is not None) == good


# --- clocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [1970, 2000, 2026])
def test_a_clock_that_is_behind_is_corrected_by_a_token(pki: Pki, tsa: Tsa, year: int) -> None:
    at = datetime(year, 1, 1, tzinfo=UTC)
    release = device(stamped(pki, tsa, crls=()), pki, tsa, at=at, require_token=True)
    assert (release.now, release.notes) == (NOW, ())


def test_a_clock_in_1970_without_token_says_so_or_is_refused(pki: Pki, tsa: Tsa) -> None:
    assert device(sign_with(pki), pki, tsa, at=EPOCH).notes == (BEHIND,)
    with refused_at(4, "untrusted.token-required"):
        device(sign_with(pki), pki, tsa, at=EPOCH, require_token=True)


def test_a_token_that_does_not_count_moves_no_clock(pki: Pki, tsa: Tsa) -> None:
    stranger = make_tsa(root=make_ca("Stranger"), days=(-10, 3000))
    envelope = stamped(pki, stranger, gen_time=NOW + 300 * DAY)
    assert device(envelope, pki, tsa).now == NOW


@pytest.mark.parametrize("at", ["20380119031408Z", "20990101000000Z", "99991231235959Z"])
def test_a_token_from_the_future_is_refused(pki: Pki, tsa: Tsa, at: str) -> None:
    envelope = stamped(pki, tsa, gen_time=at)
    with refused_at(4, "stale.certificate", 'certificate "TSA 1"'):
        device(envelope, pki, tsa, require_token=True)
    release = device(envelope, pki, tsa)  # worth as much as none
    assert (release.now, release.signers[0].signed_at) == (NOW, None)


def test_a_future_within_the_authoritys_life_makes_crls_stale(pki: Pki, tsa: Tsa) -> None:
    envelope = stamped(pki, tsa, gen_time=NOW + 31 * DAY)
    with refused_at(4, "stale.crl"):
        device(envelope, pki, tsa, require_token=True)
    assert device(envelope, pki, tsa).now == NOW


@pytest.mark.parametrize("year", [2038, 2099, 9999])
def test_a_clock_ahead_is_refused_and_correcting_it_recovers(pki: Pki, tsa: Tsa, year: int) -> None:
    envelope = stamped(pki, tsa, crls=(*pki.crls, *tsa.crls))
    found = outcome(device, envelope, pki, tsa, at=datetime(year, 2, 1, tzinfo=UTC))
    assert isinstance(found, FwsignError)
    assert found.code.startswith("stale.")
    device(envelope, pki, tsa, require_token=True)


def test_crls_of_the_authority_move_now_even_if_the_token_does_not_count(
    pki: Pki, tsa: Tsa
) -> None:
    late = make_crl(tsa.root, [tsa.leaf], days=(3, 30))
    release = device(stamped(pki, tsa, crls=(*pki.crls, late)), pki, tsa)
    assert release.now == NOW + 3 * DAY


def test_the_time_of_a_token_judges_the_expiry_of_a_release(pki: Pki, tsa: Tsa) -> None:
    content = encoded(use_before=int(NOW.timestamp()))
    envelope = sign_with(pki, content, crls=())
    token = tsa.stamp(*signatures(envelope))
    with refused_at(9, "stale.release"):
        device(with_tokens(envelope, token), pki, tsa, at=EPOCH)


# --- bare keys ------------------------------------------------------------------------------


def bare_block(tsa: Tsa, **more: Any) -> tuple[bytes, bytes, Anchor]:
    key = make_leaf(tsa.root).key
    content = encoded()
    block = make_block(signed_digest(content), key)
    return content, with_token(block, tsa.stamp(decode_block(block).signature, **more)), bare(key)


def test_a_bare_key_may_be_stamped(tsa: Tsa, pki: Pki) -> None:
    content, block, anchor = bare_block(tsa)
    options: dict[str, Any] = {"anchors": [anchor], "pinned_vendors": {anchor.spki: (VENDOR,)}}
    pinned = {**options, "tsa_anchors": (tsa.root.anchor,), "require_token": True}
    release = judge(pki, content, block, at=EPOCH, **pinned)
    assert (release.now, release.unchecked) == (NOW, ("revocation",))
    held = {**pinned, "crls": tsa.crls}
    assert judge(pki, content, block, at=EPOCH, **held).unchecked == ()
    assert judge(pki, content, block, **options).unchecked == ()


def test_a_broken_token_of_a_bare_key_that_signed_is_worth_none(tsa: Tsa, pki: Pki) -> None:
    content, block, anchor = bare_block(tsa, key=pki.leaf.key)
    options: dict[str, Any] = {"anchors": [anchor], "pinned_vendors": {anchor.spki: (VENDOR,)}}
    options["tsa_anchors"] = (tsa.root.anchor,)
    with refused_at(4, "tampered.token"):
        judge(pki, content, block, require_token=True, **options)
    assert judge(pki, content, block, **options).signers[0].signed_at is None


# --- no change of a token makes more of it --------------------------------------------------


def strength(found: VerifiedRelease | FwsignError) -> tuple[bool, bool]:
    """Tell whether a release was accepted, and whether its time was proved."""
    if isinstance(found, FwsignError):
        assert found.code in CODES
        return False, False
    return True, found.signers[0].signed_at is not None


@pytest.mark.parametrize("kind", ["good", "revoked", "expired", "stranger"])
def test_a_changed_token_is_never_stronger(pki: Pki, tsa: Tsa, kind: str) -> None:
    """Any byte of it: what comes is the good token's own result, or no better than without it."""
    stranger = make_tsa(root=make_ca("Stranger"))
    envelope = {
        "good": lambda: stamped(pki, tsa),
        "revoked": lambda: revoked(pki, tsa),
        "expired": lambda: expired(pki, tsa),
        "stranger": lambda: revoked(pki, stranger),
    }[kind]()
    good = outcome(device, envelope, pki, tsa)
    without = outcome(device, with_tokens(envelope, None), pki, tsa)
    token, dice = token_in(envelope), Dice(kind)
    for at in range(dice.below(3), len(token), stride(3)):
        changed = bytearray(token)
        changed[at] ^= 1 << dice.below(8)
        found = outcome(device, with_tokens(envelope, bytes(changed)), pki, tsa)
        if isinstance(found, VerifiedRelease):
            best = good if isinstance(good, VerifiedRelease) else without
            assert isinstance(best, VerifiedRelease), at
            assert no_stronger(found, best), at
            proved = found.signers[0].signed_at
            assert proved in (None, best.signers[0].signed_at), at
        assert strength(found) <= max(strength(good), strength(without)), at


def test_certificates_in_another_order_change_nothing(pki: Pki) -> None:
    root = make_ca("TSA Root")
    middle = make_ca("TSA Issuing", root)
    deep = Tsa(root, make_tsa_leaf(middle), (middle,))
    envelope = stamped(pki, deep)
    certificates = certificates_of(token_in(envelope))
    turned = make_token(signatures(envelope)[0], deep.leaf, certificates[::-1])
    release = device(with_tokens(envelope, turned), pki, deep)
    assert release.signers[0].signed_at == NOW


def test_a_token_is_no_reason_to_read_more_than_the_limit(pki: Pki) -> None:
    large = with_block(sign_with(pki), lambda parts: parts[1].update({TOKEN: bytes(65537)}))
    with refused_at(1, "malformed.size", "time-stamp token of 65537 bytes"):
        device(large, pki)
