"""What a device demands: who must sign, for which vendor, and policies that cannot be meant."""

from datetime import datetime, tzinfo
from typing import Any

import pytest

from fwsign.errors import Failed
from fwsign.verify.policy import (
    DevicePolicy,
    Recorded,
    Slot,
    check_policy,
    missing_signers,
    pins_for,
)
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, validate_path
from support import NOW, VENDOR, Entity, der, make_ca, make_leaf, make_pki, new_key, refused

PKI = make_pki()
OTHER = make_pki(common="Other")


def path_of(leaf: Entity, issuing: Entity, anchor: Anchor) -> CertificationPath:
    return validate_path([leaf.der, issuing.der], [anchor])


def signer(pki: Any = PKI, **more: Any) -> CertificationPath:
    """The path of another leaf of a PKI."""
    return path_of(make_leaf(pki.issuing, **more), pki.issuing, pki.root.anchor)


def spki(entity: Entity) -> str:
    return entity.anchor.spki


PATH = path_of(PKI.leaf, PKI.issuing, PKI.root.anchor)
OTHER_PATH = path_of(OTHER.leaf, OTHER.issuing, OTHER.root.anchor)
BARE = CertificationPath((), Anchor.from_public_key(der(new_key().public_key())))


# --- policies that cannot be meant ----------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        DevicePolicy(),
        DevicePolicy(vendor=VENDOR),
        DevicePolicy(vendor=VENDOR, product="gateway-x1", min_sequence=0, time_floor=NOW),
        DevicePolicy(threshold=2),
        DevicePolicy(threshold=1, slots=(Slot("a", "1"), Slot("b", "2"))),
        DevicePolicy(min_sequence=1, recorded=(Recorded(b"", ()),)),
        DevicePolicy(profile="compat", revocation="off", pinned_vendors={"1": (VENDOR,)}),
    ],
)
def test_policies_that_can_be_meant(policy: DevicePolicy) -> None:
    check_policy(policy)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"product": "gateway-x1"}, "a product without a vendor"),
        ({"vendor": "Acme.example"}, 'vendor "Acme.example" is not a lower-case domain'),
        ({"vendor": "*.acme.example"}, 'vendor "*.acme.example" is not a lower-case domain'),
        ({"vendor": ""}, 'vendor "" is not a lower-case domain'),
        ({"pinned_vendors": {"1": ("acme",)}}, 'vendor "acme" is not a lower-case domain'),
        ({"vendor": VENDOR, "product": "a\x1b"}, "a product 'a\\x1b', which is not printable"),
        ({"threshold": 0}, "a threshold of 0"),
        ({"threshold": -1}, "a threshold of -1"),
        ({"threshold": 2, "slots": (Slot("a", "1"),)}, "2 of only 1 slots"),
        ({"slots": (Slot("a", "1"), Slot("b", "1"))}, "one key in two slots"),
        ({"slots": (Slot("a", "1"), Slot("a", "2"))}, "two slots of one name"),
        ({"min_sequence": -1}, "a floor below 0"),
        ({"recorded": (Recorded(b"", ()),)}, "recorded releases but no floor"),
        ({"profile": "lax"}, 'profile "lax"'),
        ({"revocation": "maybe"}, 'revocation "maybe"'),
    ],
)
def test_policies_that_cannot_be_meant_are_refused(wrong: dict[str, Any], words: str) -> None:
    with refused("state.policy", f"the policy has {words}") as caught:
        check_policy(DevicePolicy(**wrong))
    assert isinstance(caught.value, Failed)
    assert str(caught.value.found).startswith(words)


class Nowhere(tzinfo):
    """A time zone that does not know where it is."""

    def utcoffset(self, _: datetime | None, /) -> None:
        return None

    tzname = dst = utcoffset


@pytest.mark.parametrize("zone", [None, Nowhere()])
def test_a_time_floor_needs_a_zone(zone: tzinfo | None) -> None:
    with refused("state.clock", "the time floor has no time zone"):
        check_policy(DevicePolicy(time_floor=NOW.replace(tzinfo=zone)))


# --- who must sign --------------------------------------------------------------------------


def test_by_default_one_signer_is_enough() -> None:
    assert missing_signers(DevicePolicy(), [PATH]) is None
    assert missing_signers(DevicePolicy(), []) == "1 distinct signers, found 0"


def test_a_threshold_of_distinct_signers() -> None:
    policy = DevicePolicy(threshold=2)
    assert missing_signers(policy, [PATH]) == "2 distinct signers, found 1"
    assert missing_signers(policy, [PATH, signer()]) is None


def test_each_leaf_key_counts_once_however_many_certificates_it_has() -> None:
    again = signer(key=PKI.leaf.key, common="again")
    policy = DevicePolicy(threshold=2)
    assert missing_signers(policy, [PATH, PATH, again]) == "2 distinct signers, found 1"


def slots(*entities: Entity, threshold: int | None = None) -> DevicePolicy:
    pinned = tuple(Slot(f"slot {index}", spki(entity)) for index, entity in enumerate(entities))
    return DevicePolicy(slots=pinned, threshold=threshold)


@pytest.mark.parametrize("pinned", [PKI.leaf, PKI.issuing, PKI.root], ids=["leaf", "CA", "anchor"])
def test_a_slot_pins_a_key_of_leaf_ca_or_anchor(pinned: Entity) -> None:
    assert missing_signers(slots(pinned), [PATH]) is None
    missing = missing_signers(slots(pinned), [OTHER_PATH])
    assert missing == "1 of 1 slots, found 0; empty: slot 0"


def test_by_default_every_slot_must_be_filled() -> None:
    policy = slots(PKI.issuing, OTHER.issuing)
    assert missing_signers(policy, [PATH, OTHER_PATH]) is None
    assert missing_signers(policy, [PATH]) == "2 of 2 slots, found 1; empty: slot 1"


def test_a_threshold_of_slots() -> None:
    policy = slots(PKI.issuing, OTHER.issuing, threshold=1)
    assert missing_signers(policy, [OTHER_PATH]) is None
    assert missing_signers(policy, []) == "1 of 2 slots, found 0; empty: slot 0, slot 1"


def test_one_ca_cannot_fill_its_own_slot_and_that_of_the_root_above_it() -> None:
    policy = slots(PKI.issuing, PKI.root)
    missing = missing_signers(policy, [PATH, signer()])
    assert missing == "2 of 2 slots, found 1; empty: slot 1"


def test_one_block_fills_only_the_slot_nearest_its_leaf() -> None:
    policy = slots(PKI.root, PKI.leaf)
    assert missing_signers(policy, [PATH]) == "2 of 2 slots, found 1; empty: slot 0"
    assert missing_signers(policy, [PATH, signer()]) is None


def test_signers_outside_every_slot_do_not_count() -> None:
    policy = slots(PKI.issuing, OTHER.issuing, threshold=1)
    third = make_pki(common="Third")
    stranger = path_of(third.leaf, third.issuing, third.root.anchor)
    assert missing_signers(policy, [stranger]) == ("1 of 2 slots, found 0; empty: slot 0, slot 1")


def test_one_leaf_key_does_not_fill_two_slots() -> None:
    again = signer(OTHER, key=PKI.leaf.key)
    policy = slots(PKI.issuing, OTHER.issuing)
    assert missing_signers(policy, [PATH, again]) == "2 of 2 slots, found 1; empty: slot 1"


def test_a_certificate_outside_every_slot_does_not_use_up_the_leafs_key() -> None:
    again = signer(OTHER, key=PKI.leaf.key)
    assert missing_signers(slots(PKI.issuing), [again, PATH]) is None


def test_a_bare_key_fills_its_slot() -> None:
    policy = DevicePolicy(slots=(Slot("pinned", BARE.anchor.spki),))
    assert missing_signers(policy, [BARE]) is None


@pytest.mark.parametrize(
    ("policy", "alone"),
    [
        (DevicePolicy(), False),
        (DevicePolicy(threshold=2), True),
        (slots(PKI.issuing, OTHER.issuing), False),
    ],
)
def test_a_policy_that_one_ca_can_meet_alone_is_known(policy: DevicePolicy, alone: bool) -> None:
    assert policy.one_ca_suffices is alone


# --- vendors --------------------------------------------------------------------------------


def test_vendors_are_those_of_the_leaf() -> None:
    assert DevicePolicy().vendors_of(signer(vendors=["a.example", "b.example"])) == (
        "a.example",
        "b.example",
    )


def test_a_leaf_that_names_vendors_gets_no_others_by_pins() -> None:
    policy = DevicePolicy(pinned_vendors={spki(PKI.leaf): ("other.example",)})
    assert policy.vendors_of(PATH) == (VENDOR,)


def test_a_leaf_that_names_only_wildcards_gets_none_by_pins() -> None:
    path = signer(vendors=["*.acme.example"])
    policy = DevicePolicy(pinned_vendors={path.keys[0]: (VENDOR,)})
    assert policy.vendors_of(path) == ()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_vendors_of_a_leaf_without_names_are_pinned_to_a_key_of_its_path(at: int) -> None:
    path = signer(vendors=())
    policy = DevicePolicy(pinned_vendors={path.keys[at]: (VENDOR,)})
    assert policy.vendors_of(path) == (VENDOR,)
    assert DevicePolicy().vendors_of(path) == ()


def test_of_several_pins_the_nearest_counts() -> None:
    path = signer(vendors=())
    pins = {path.keys[2]: ("root.example",), path.keys[1]: ("issuing.example",)}
    assert DevicePolicy(pinned_vendors=pins).vendors_of(path) == ("issuing.example",)


def test_vendors_of_a_bare_key_are_pinned() -> None:
    policy = DevicePolicy(pinned_vendors={BARE.anchor.spki: (VENDOR,)})
    assert policy.vendors_of(BARE) == (VENDOR,)
    assert DevicePolicy().vendors_of(BARE) == ()


def test_an_anchors_vendors_limit_pins_too() -> None:
    limited = BARE._replace(anchor=BARE.anchor._replace(vendors=("acme.example",)))
    pins = {BARE.anchor.spki: ("x.acme.example", "other.example", "acme.example")}
    policy = DevicePolicy(pinned_vendors=pins)
    assert policy.vendors_of(limited) == ("x.acme.example", "acme.example")


def test_enrolment_speaks_for_bare_keys_and_for_certificates_in_compat_alone() -> None:
    root = make_ca()
    bare = Anchor.from_public_key(der(make_ca().key.public_key()))
    anchors = [root.anchor, bare]
    assert pins_for(anchors, "strict", VENDOR) == {bare.spki: (VENDOR,)}
    both = {root.anchor.spki: (VENDOR,), bare.spki: (VENDOR,)}
    assert pins_for(anchors, "compat", VENDOR) == both
