"""Attacks on who must sign: stripped blocks, one key twice, one CA in two slots, junk beside."""

from itertools import permutations
from typing import Any

import pytest

from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.verify.policy import Slot
from fwsign.x509.anchor import Anchor
from hostile import (
    bare,
    block_of,
    blocks_in,
    counted,
    encoded,
    judge,
    refused_at,
    spki,
    with_blocks,
)
from support import (
    VENDOR,
    Entity,
    Pki,
    der,
    make_block,
    make_crl,
    make_leaf,
    make_manifest,
    make_pki,
    new_key,
    sign_with,
    signed_digest,
    verify,
)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def other() -> Pki:
    return make_pki(common="Other ")


@pytest.fixture(scope="module")
def quantum() -> Pki:
    return make_pki("ml-dsa-65", common="Quantum ")


def slot(label: str, entity: Entity) -> Slot:
    return Slot(label, spki(entity.key))


def signed(*signers: Pki, junk: tuple[bytes, ...] = (), **policy: Any) -> Any:
    """Sign with several and verify with all their roots pinned."""
    content = encoded()
    blocks = [block_of(one, content) for one in signers]
    roots = list({one.root.der: one.root for one in signers}.values())
    return judge(signers[0], content, *blocks, *junk, anchors=roots, **policy)


# --- too few --------------------------------------------------------------------------------


def test_no_block_at_all_is_refused(pki: Pki) -> None:
    with refused_at(6, "untrusted.signers", "1 distinct signers, found 0"):
        judge(pki, encoded())


def test_stripped_block_is_refused_where_two_must_sign(pki: Pki, other: Pki) -> None:
    signed(pki, other, threshold=2)
    with refused_at(6, "untrusted.signers", "2 distinct signers, found 1"):
        signed(pki, threshold=2)


def test_stripped_post_quantum_block_is_refused(pki: Pki, quantum: Pki) -> None:
    slots = slot("classic", pki.root), slot("post-quantum", quantum.root)
    signed(pki, quantum, slots=slots)
    with refused_at(6, "untrusted.slot", "2 of 2 slots, found 1; empty: post-quantum"):
        signed(pki, slots=slots)
    with refused_at(6, "untrusted.slot", "empty: classic"):
        signed(quantum, slots=slots)


def test_m_of_n(pki: Pki, other: Pki, quantum: Pki) -> None:
    everyone = {"a": pki, "b": other, "c": quantum}
    slots = tuple(slot(label, one.root) for label, one in everyone.items())
    for pair in permutations(everyone.values(), 2):
        signed(*pair, slots=slots, threshold=2)
    for label, one in everyone.items():
        empty = ", ".join(sorted(everyone.keys() - {label}))
        with refused_at(6, "untrusted.slot", f"2 of 3 slots, found 1; empty: {empty}"):
            signed(one, slots=slots, threshold=2)


def test_a_signer_outside_all_slots_fills_none(pki: Pki, other: Pki) -> None:
    slots = (slot("ours", pki.root),)
    with refused_at(6, "untrusted.slot", "1 of 1 slots, found 0; empty: ours"):
        signed(other, slots=slots)
    signed(other, pki, slots=slots)


# --- one signer as two ----------------------------------------------------------------------


def test_duplicated_block_counts_once(pki: Pki) -> None:
    envelope = sign_with(pki)
    twice = with_blocks(envelope, *blocks_in(envelope) * 2)
    assert len(verify(twice, [pki.root]).signers) == 2
    with refused_at(6, "untrusted.signers", "found 1"):
        verify(twice, [pki.root], threshold=2)


def test_one_key_signing_twice_counts_once(pki: Pki) -> None:
    with refused_at(6, "untrusted.signers", "found 1"):
        signed(pki, pki, threshold=2)


def test_one_key_under_two_certificates_counts_once(pki: Pki) -> None:
    again = pki._replace(leaf=make_leaf(pki.issuing, "another name", key=pki.leaf.key))
    with refused_at(6, "untrusted.signers", "found 1"):
        signed(pki, again, threshold=2)


def test_one_key_under_two_roots_counts_once(pki: Pki, other: Pki) -> None:
    again = other._replace(leaf=make_leaf(other.issuing, key=pki.leaf.key))
    with refused_at(6, "untrusted.signers", "found 1"):
        signed(pki, again, threshold=2)
    with refused_at(6, "untrusted.slot", "found 1"):
        signed(pki, again, slots=(slot("ours", pki.root), slot("theirs", other.root)))


def test_one_key_with_and_without_certificate_counts_once(pki: Pki) -> None:
    content = encoded()
    blocks = block_of(pki, content), make_block(signed_digest(content), pki.leaf.key)
    anchors = [pki.root.anchor, bare(pki.leaf.key)]
    pins = {spki(pki.leaf.key): (VENDOR,)}
    judge(pki, content, *blocks, anchors=anchors, pinned_vendors=pins)
    with refused_at(6, "untrusted.signers", "found 1"):
        judge(pki, content, *blocks, anchors=anchors, pinned_vendors=pins, threshold=2)


def test_a_compressed_point_is_the_same_key(pki: Pki) -> None:
    whole = der(pki.leaf.key.public_key())
    point = whole[-65:]
    short = bytes([2 + point[-1] % 2]) + point[1:33]
    algorithm = whole[2:23]
    packed = bytes([0x30, len(algorithm) + 36]) + algorithm + b"\x03\x22\0" + short
    assert Anchor.from_public_key(packed).spki == Anchor.from_public_key(whole).spki


def test_one_ca_cannot_fill_its_slot_and_that_of_the_root_above(pki: Pki) -> None:
    sibling = pki._replace(leaf=make_leaf(pki.issuing, "another"))
    slots = slot("team", pki.issuing), slot("company", pki.root)
    with refused_at(6, "untrusted.slot", "found 1; empty: company"):
        signed(pki, sibling, slots=slots)


def test_a_block_fills_only_the_slot_nearest_its_leaf(pki: Pki) -> None:
    slots = slot("me", pki.leaf), slot("team", pki.issuing), slot("company", pki.root)
    with refused_at(6, "untrusted.slot", "3 of 3 slots, found 1; empty: team, company"):
        signed(pki, slots=slots)
    colleague = pki._replace(leaf=make_leaf(pki.issuing, "colleague"))
    with refused_at(6, "untrusted.slot", "found 2; empty: company"):
        signed(pki, colleague, slots=slots)
    direct = make_leaf(pki.root, "company")
    content = encoded()
    third = make_block(signed_digest(content), direct.key, [direct.der], [make_crl(pki.root)])
    blocks = block_of(pki, content), block_of(colleague, content), third
    assert len(judge(pki, content, *blocks, slots=slots).signers) == 3


def test_two_leaves_of_one_ca_do_not_fill_two_slots(pki: Pki, other: Pki) -> None:
    sibling = pki._replace(leaf=make_leaf(pki.issuing, "another"))
    slots = slot("ours", pki.root), slot("theirs", other.root)
    with refused_at(6, "untrusted.slot", "empty: theirs"):
        signed(pki, sibling, slots=slots)


def test_a_policy_that_one_ca_can_meet_alone_says_so(pki: Pki) -> None:
    sibling = pki._replace(leaf=make_leaf(pki.issuing, "another"))
    release = signed(pki, sibling, threshold=2)
    assert release.notes == ("a single CA could meet this policy alone: no slots are pinned",)


def test_order_of_blocks_does_not_matter(pki: Pki, other: Pki, quantum: Pki) -> None:
    slots = slot("ours", pki.root), slot("theirs", other.root)
    for order in permutations((pki, other, quantum)):
        assert counted(signed(*order, slots=slots)) == {
            spki(one.leaf.key) for one in (pki, other, quantum)
        }


def test_a_certificate_outside_the_slots_does_not_use_up_its_key(pki: Pki, other: Pki) -> None:
    again = other._replace(leaf=make_leaf(other.issuing, key=pki.leaf.key))
    slots = (slot("ours", pki.root),)
    signed(pki, again, slots=slots)
    signed(again, pki, slots=slots)


# --- junk beside ----------------------------------------------------------------------------

UNKNOWN_ALGORITHM = cbor.encode(cbor.Tag(18, (cbor.encode({1: -999}), {}, None, b"x")))


def junk_blocks(pki: Pki) -> dict[str, bytes]:
    """Return blocks that anybody can make and that are only untrusted."""
    content, stranger = encoded(), make_pki(common="Strange ")
    expired = pki._replace(leaf=make_leaf(pki.issuing, days=(-9, -2)))
    unfit = pki._replace(leaf=make_leaf(pki.issuing, usages=()))
    return {
        "unknown algorithm": UNKNOWN_ALGORITHM,
        "unknown anchor": block_of(stranger, content),
        "bare key": make_block(signed_digest(content), new_key()),
        "expired": block_of(expired, content),
        "without EKU": block_of(unfit, content),
        "CA as leaf": make_block(signed_digest(content), pki.issuing.key, [pki.issuing.der]),
    }


def test_untrusted_block_beside_a_good_one_is_left_uncounted(pki: Pki) -> None:
    content = encoded()
    good = block_of(pki, content)
    for label, junk in junk_blocks(pki).items():
        for blocks in ((good, junk), (junk, good)):
            release = judge(pki, content, *blocks)
            assert counted(release) == {spki(pki.leaf.key)}, label
            assert sum(one.refusal is not None for one in release.signers) == 1


def test_untrusted_block_turns_no_refusal_into_acceptance(pki: Pki) -> None:
    content = encoded()
    for junk in junk_blocks(pki).values():
        for policy in ({}, {"slots": (slot("ours", pki.root),)}):
            with pytest.raises(FwsignError) as caught:
                judge(pki, content, junk, **policy)
            assert caught.value.code.startswith(("untrusted", "stale"))
        with pytest.raises(FwsignError) as caught:
            judge(pki, content, block_of(pki, content), junk, threshold=2)
        assert caught.value.code.startswith(("untrusted", "stale"))


def test_the_refusal_is_the_worst_of_the_blocks_own(pki: Pki) -> None:
    content, junk = encoded(), junk_blocks(pki)
    for order in ([junk["expired"], junk["without EKU"]], [junk["without EKU"], junk["expired"]]):
        with refused_at(3, "untrusted.eku"):
            judge(pki, content, *order)
    with refused_at(4, "stale.certificate"):
        judge(pki, content, junk["expired"])


def test_junk_that_is_no_block_refuses_the_envelope(pki: Pki) -> None:
    content = encoded()
    with refused_at(1, "malformed.envelope"):
        judge(pki, content, block_of(pki, content), b"\0")


def test_forged_block_under_a_pinned_root_refuses_the_envelope(pki: Pki, other: Pki) -> None:
    content = encoded()
    forged = make_block(
        signed_digest(content), other.leaf.key, [pki.leaf.der, pki.issuing.der], pki.crls
    )
    with refused_at(3, "tampered.signature", "ESP256 signature does not verify"):
        judge(pki, content, block_of(pki, content), forged)


def test_a_block_over_another_manifest_does_not_count(pki: Pki, other: Pki) -> None:
    content, old = encoded(), encoded(sequence_number=1)
    with refused_at(3, "tampered.signature"):
        judge(
            pki,
            content,
            block_of(pki, content),
            block_of(other, old),
            anchors=[pki.root, other.root],
            threshold=2,
        )


# --- vendors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["other.example"],
        ["*.example"],
        ["*.acme.example"],
        ["ACME.example"],
        ["acme.example."],
        [".acme.example"],
        ["www.acme.example"],
        ["example"],
        ["acme"],
        ["xn--acme-0qa.example"],
        [" acme.example"],
        ["acme.example\n"],
    ],
)
def test_leaf_for_another_name_is_refused(pki: Pki, names: list[str]) -> None:
    signer = pki._replace(leaf=make_leaf(pki.issuing, vendors=names))
    with refused_at(8, "untrusted.vendor", '"release" may sign for'):
        verify(sign_with(signer), [pki.root])


def test_common_name_is_no_vendor(pki: Pki) -> None:
    signer = pki._replace(leaf=make_leaf(pki.issuing, VENDOR, vendors=[]))
    with refused_at(8, "untrusted.vendor", f'"{VENDOR}" may sign for no vendor'):
        verify(sign_with(signer), [pki.root])


def test_a_pin_does_not_widen_what_a_leaf_names(pki: Pki) -> None:
    for names in (["other.example"], ["OTHER.example"], ["*.example"]):
        signer = pki._replace(leaf=make_leaf(pki.issuing, vendors=names))
        for entity in (signer.leaf, signer.issuing, signer.root):
            with refused_at(8, "untrusted.vendor"):
                verify(sign_with(signer), [pki.root], pinned_vendors={spki(entity.key): (VENDOR,)})


def test_the_pin_nearest_the_leaf_counts(pki: Pki) -> None:
    signer = pki._replace(leaf=make_leaf(pki.issuing, vendors=[]))
    far = {spki(pki.root.key): (VENDOR,)}
    verify(sign_with(signer), [pki.root], pinned_vendors=far)
    near = {**far, spki(pki.issuing.key): ("other.example",)}
    with refused_at(8, "untrusted.vendor", "may sign for other.example"):
        verify(sign_with(signer), [pki.root], pinned_vendors=near)


def test_signer_of_another_vendor_does_not_fill_a_slot(pki: Pki, other: Pki) -> None:
    stranger = other._replace(leaf=make_leaf(other.issuing, vendors=["other.example"]))
    slots = slot("ours", pki.root), slot("theirs", other.root)
    with refused_at(8, "untrusted.vendor", "other.example"):
        signed(pki, stranger, slots=slots)
    with refused_at(8, "untrusted.vendor"):
        signed(pki, stranger, threshold=2)
    assert counted(signed(pki, stranger)) == {spki(pki.leaf.key)}


def test_signer_for_several_vendors_signs_for_the_one_of_the_manifest(pki: Pki) -> None:
    signer = pki._replace(leaf=make_leaf(pki.issuing, vendors=["other.example", VENDOR]))
    assert verify(sign_with(signer), [pki.root]).vendor == VENDOR
    theirs = sign_with(signer, make_manifest(vendor="other.example"))
    assert verify(theirs, [pki.root], vendor="other.example").vendor == "other.example"
    with refused_at(9, "unsuitable.vendor"):
        verify(theirs, [pki.root])
