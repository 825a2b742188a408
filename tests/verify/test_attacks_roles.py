"""Attacks on roles: strip, reorder, duplicate, re-chain; one person as two, one CA as two."""

from itertools import chain, combinations, permutations
from typing import Any, NamedTuple

import pytest

from fwsign.errors import FwsignError
from fwsign.verify.signer_policy import SignerPolicy
from fwsign.verify.verified import VerifiedRelease
from hostile import bare, encoded, refused_at
from people_kit import block, judge, key, person, policy
from support import VENDOR, Entity, make_block, make_ca, make_crl, signed_digest


class House(NamedTuple):
    """A PKI with two CAs, a foreign root, and people."""

    root: Entity
    dev: Entity
    release: Entity
    other: Entity

    def signs(self, leaf: Entity, ca: Entity | None = None, **more: Any) -> bytes:
        return block(leaf, ca or self.dev, root=self.root, **more)


@pytest.fixture(scope="module")
def house() -> House:
    root = make_ca("Root")
    return House(
        root,
        make_ca("Dev CA", root, path_length=0),
        make_ca("Release CA", root, path_length=0),
        make_ca("Other Root"),
    )


@pytest.fixture(scope="module")
def people(house: House) -> dict[str, Entity]:
    return {
        **{one: person(house.dev, one) for one in ("alice", "bob", "carol", "mallory")},
        "dora": person(house.dev, "dora", "release-approvers"),
        "erin": person(house.dev, "erin", "qa", "release-approvers"),
    }


def issue_of_the_day(house: House) -> SignerPolicy:
    """2 of three people and an approver, all below one CA."""
    below = key(house.dev)
    names = {one: {"name": one, "below": below} for one in ("alice", "bob", "carol")}
    approvers = {"unit": "release-approvers", "below": below}
    text = "2 of (alice, bob, carol) and 1 of release-approvers"
    return policy(text, **names, release_approvers=approvers)


def met(release: VerifiedRelease) -> list[str]:
    return [str(one) for one in release.demands]


def subsets(items: Any) -> Any:
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def test_two_of_three_and_an_approver(house: House, people: dict[str, Entity]) -> None:
    wanted = issue_of_the_day(house)
    blocks = {one: house.signs(leaf) for one, leaf in people.items()}
    for who in subsets(sorted(people)):
        enough = len({"alice", "bob", "carol"} & set(who)) >= 2 and {"dora", "erin"} & set(who)
        signed = [blocks[one] for one in who]
        if enough:
            judge(wanted, signed, house.root)
        else:
            with refused_at(6, "untrusted.signers", 'policy "signers": '):
                judge(wanted, signed, house.root)


def test_a_refusal_names_the_missing_roles(house: House, people: dict[str, Entity]) -> None:
    wanted = issue_of_the_day(house)
    with pytest.raises(FwsignError) as caught:
        judge(wanted, [house.signs(people[one]) for one in ("alice", "dora")], house.root)
    assert caught.value.code == "untrusted.signers"
    assert caught.value.message == (
        'policy "signers": 2 of (alice, bob, carol), found alice; release-approvers: met by "dora"'
    )
    assert caught.value.expected == "2 of (alice, bob, carol)"
    assert caught.value.found == "alice"
    with pytest.raises(FwsignError) as caught:
        judge(wanted, [house.signs(people["mallory"])], house.root)
    assert caught.value.message == (
        'policy "signers": 2 of (alice, bob, carol), found none; release-approvers, found none'
    )


def test_an_accepted_release_says_who_met_what(house: House, people: dict[str, Entity]) -> None:
    blocks = [house.signs(people[one]) for one in ("carol", "dora", "alice")]
    found = judge(issue_of_the_day(house), blocks, house.root)
    (words,) = met(found)
    two = '2 of (alice, bob, carol): met by "alice", "carol"'
    assert words == f'policy "signers": {two}; release-approvers: met by "dora"'


def test_order_and_repetition_change_nothing(house: House, people: dict[str, Entity]) -> None:
    wanted = issue_of_the_day(house)
    three = [house.signs(people[one]) for one in ("alice", "bob", "dora")]
    for order in permutations(three):
        judge(wanted, order, house.root)
    for pair in combinations(three, 2):
        for again in (pair * 2, pair * 4, (*pair, pair[0])):
            with refused_at(6, "untrusted.signers"):
                judge(wanted, again, house.root)


def test_an_approver_who_is_one_of_the_two_is_not_both(house: House) -> None:
    wanted = issue_of_the_day(house)
    alice = person(house.dev, "alice", "release-approvers")
    bob, dora = person(house.dev, "bob"), person(house.dev, "dora", "release-approvers")
    with refused_at(6, "untrusted.signers"):
        judge(wanted, [house.signs(alice), house.signs(bob)], house.root)
    # Three people: who fills which place is searched, not guessed from the order.
    for order in permutations([alice, bob, dora]):
        judge(wanted, [house.signs(one) for one in order], house.root)
    carol = person(house.dev, "carol")
    for order in permutations([alice, bob, carol]):
        judge(wanted, [house.signs(one) for one in order], house.root)


def test_one_person_with_two_keys_is_one(house: House) -> None:
    below = key(house.dev)
    wanted = policy(
        "2 of (alice, bob)",
        alice={"name": "alice", "below": below},
        bob={"name": "bob", "below": below},
    )
    two = [house.signs(person(house.dev, "alice")), house.signs(person(house.dev, "alice", "qa"))]
    with refused_at(6, "untrusted.signers", 'alice: met by "alice"; bob, found none'):
        judge(wanted, two, house.root)
    group = policy("2 of dev", dev={"below": below})
    unseen = ("al\u200bice", "alice\u00ad", "al\u034fice", "\u3164alice", "alice\ufe0f\U000e0101")
    for other in ("alice", "ALICE ", "\uff41lice", *unseen):
        names = ("alice", other)
        leaves = [person(house.dev, one, str(at)) for at, one in enumerate(names)]
        with refused_at(6, "untrusted.signers", "2 of dev, found dev"):
            judge(group, [house.signs(one) for one in leaves], house.root)
    judge(group, [house.signs(person(house.dev, one)) for one in ("alice", "bob")], house.root)


def test_several_keys_in_a_role_are_of_one_person(house: House) -> None:
    old, new = person(house.dev, "alice old"), person(house.dev, "alice new")
    bob = person(house.dev, "bob")
    roles: dict[str, dict[str, Any]] = {
        "alice": {"keys": (key(old), key(new))},
        "bob": {"keys": (key(bob),)},
        "dev": {"below": key(house.dev)},
    }
    both = [house.signs(old), house.signs(new)]
    for text in ("2 of (alice, bob)", "alice and dev"):
        wanted = policy(text, **roles)
        with refused_at(6, "untrusted.signers"):
            judge(wanted, both, house.root)
        judge(wanted, [*both, house.signs(bob)], house.root)


def test_a_name_counts_only_below_its_ca(house: House) -> None:
    wanted = policy("alice", alice={"name": "alice", "below": key(house.dev)})
    for ca in (house.release, house.root):
        above = [] if ca is house.root else [ca]
        forged = block(person(ca, "alice"), *above, root=house.root)
        with refused_at(6, "untrusted.signers", "alice, found none"):
            judge(wanted, [forged], house.root)
    strange = make_ca("Dev CA", house.other, path_length=0)
    forged = block(person(strange, "alice"), strange, root=house.other)
    with refused_at(6, "untrusted.signers", "alice, found none"):
        judge(wanted, [forged], house.root, house.other)


def test_a_name_is_the_whole_and_only_common_name(house: House) -> None:
    wanted = policy("alice", alice={"name": "alice", "below": key(house.dev)})
    for common in ("Alice", "alice ", "alice.evil", "xalice", "al\u0131ce"):
        with refused_at(6, "untrusted.signers", "alice, found none"):
            judge(wanted, [house.signs(person(house.dev, common))], house.root)
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from support import certify, leaf_extensions, new_key

    both = [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in ("alice", "mallory")]
    for order in (both, both[::-1]):
        leaf = certify(new_key(), x509.Name(order), house.dev, leaf_extensions())
        with refused_at(6, "untrusted.signers", "alice, found none"):
            judge(wanted, [house.signs(leaf)], house.root)


def test_a_unit_is_one_of_the_leafs_own(house: House) -> None:
    wanted = policy("qa", qa={"unit": "qa", "below": key(house.dev)})
    judge(wanted, [house.signs(person(house.dev, "a", "x", "qa"))], house.root)
    for units in ((), ("QA",), ("qa2",), ("x,qa",)):
        with refused_at(6, "untrusted.signers", "qa, found none"):
            judge(wanted, [house.signs(person(house.dev, "qa", *units))], house.root)


def test_name_and_unit_must_both_fit(house: House) -> None:
    wanted = policy("lead", lead={"name": "alice", "unit": "lead", "below": key(house.dev)})
    judge(wanted, [house.signs(person(house.dev, "alice", "lead"))], house.root)
    two = person(house.dev, "alice"), person(house.dev, "bob", "lead")
    with refused_at(6, "untrusted.signers", "lead, found none"):
        judge(wanted, [house.signs(one) for one in two], house.root)


def test_one_ca_cannot_fill_the_roles_of_the_ca_above(house: House) -> None:
    wanted = policy(
        "team and company", team={"below": key(house.dev)}, company={"below": key(house.root)}
    )
    two = [house.signs(person(house.dev, one)) for one in ("alice", "bob")]
    with refused_at(6, "untrusted.signers", "company, found none"):
        judge(wanted, two, house.root)
    boss = block(person(house.release, "boss"), house.release, root=house.root)
    judge(wanted, [two[0], boss], house.root)


def test_one_key_under_two_cas_is_one_signer(house: House) -> None:
    alice = person(house.dev, "alice")
    again = person(house.release, "bob", key=alice.key)
    wanted = policy("dev and rel", dev={"below": key(house.dev)}, rel={"below": key(house.release)})
    both = [house.signs(alice), house.signs(again, house.release)]
    for order in (both, both[::-1]):
        with refused_at(6, "untrusted.signers"):
            judge(wanted, order, house.root)
    # Which of its certificates counts is searched: a third signer settles it.
    third = house.signs(person(house.dev, "carol"))
    for three in permutations([*both, third]):
        judge(wanted, three, house.root)


def test_a_cross_certified_ca_is_the_same_ca_by_either_path(house: House) -> None:
    crossed = house.dev._replace(
        certificate=make_cross(house.dev, house.other).certificate,
    )
    alice, bob = person(house.dev, "alice"), person(house.dev, "bob")
    ours = house.signs(alice)
    theirs = block(alice, crossed, root=house.other)
    group = policy("2 of dev", dev={"below": key(house.dev)})
    with refused_at(6, "untrusted.signers"):
        judge(group, [ours, theirs], house.root, house.other)
    judge(group, [ours, block(bob, crossed, root=house.other)], house.root, house.other)
    # The other root does not become a role of its own by certifying the CA.
    apart = policy(
        "dev and partner", dev={"below": key(house.dev)}, partner={"below": key(house.other)}
    )
    blocks = [ours, block(bob, crossed, root=house.other)]
    with refused_at(6, "untrusted.signers", "partner, found none"):
        judge(apart, blocks, house.root, house.other)


def test_one_person_is_not_two_by_the_two_paths_of_a_cross_certified_ca(house: House) -> None:
    roots = house.root, house.other
    crossed = house.dev._replace(certificate=make_cross(house.dev, house.other).certificate)
    team = make_ca("Team CA", crossed, path_length=0)
    wide = make_cross(house.dev, house.other, path_length=1)
    again = [
        block(person(house.dev, "Alice"), crossed, root=house.other),
        block(
            person(team, "Alice"),
            team,
            house.dev._replace(certificate=wide.certificate),
            root=house.other,
        ),
    ]
    here = house.signs(person(house.dev, "alice"))
    both = {"ours": {"below": key(house.root)}, "theirs": {"below": key(house.other)}}
    for wanted, words in (
        (policy("ours and theirs", **both), 'ours: met by "alice"; theirs, found none'),
        (policy("2 of classic", classic={"algorithm": "classic"}), "2 of classic, found classic"),
    ):
        for there in again:
            with refused_at(6, "untrusted.signers", words):
                judge(wanted, [here, there], *roots)
        other = block(person(house.dev, "bob"), crossed, root=house.other)
        judge(wanted, [here, *again, other], *roots)
    # The same name by another CA is another person's.
    judge(
        policy("ours and theirs", **both),
        [here, block(person(house.other, "alice"), root=house.other)],
        *roots,
    )


def make_cross(ca: Entity, issuer: Entity, path_length: int = 0) -> Entity:
    """Certify a CA's key and name once more, by another root."""
    from support import ca_extensions, certify

    extensions = ca_extensions(path_length=path_length)
    return certify(ca.key, ca.certificate.subject, issuer, extensions)


def test_a_ca_that_is_itself_the_anchor_counts_as_below(house: House) -> None:
    alice = person(house.dev, "alice")
    direct = make_block(signed_digest(encoded()), alice.key, [alice.der], [make_crl(house.dev)])
    wanted = policy("alice", alice={"name": "alice", "below": key(house.dev)})
    judge(wanted, [direct], house.dev)
    judge(wanted, [house.signs(alice)], house.root)


def test_a_leaf_is_not_below_its_own_key(house: House) -> None:
    alice = person(house.dev, "alice")
    with refused_at(6, "untrusted.signers", "x, found none"):
        judge(policy("x", x={"below": key(alice)}), [house.signs(alice)], house.root)
    with refused_at(6, "untrusted.signers", "x, found none"):
        judge(policy("x", x={"keys": (key(house.dev),)}), [house.signs(alice)], house.root)


def test_a_bare_key_has_roles_by_its_key_alone(house: House) -> None:
    alice = person(house.dev, "alice")
    signed = make_block(signed_digest(encoded()), alice.key)
    anchors, pins = (bare(alice.key),), {key(alice): (VENDOR,)}
    good = policy("alice", alice={"keys": (key(alice),)})
    found = judge(good, [signed], *anchors, pinned_vendors=pins)  # type: ignore[arg-type]
    assert met(found) == ['policy "signers": alice: met by "P-256 key"']
    for role in ({"below": key(alice)}, {"name": "P-256 key", "below": key(alice)}):
        with refused_at(6, "untrusted.signers", "x, found none"):
            judge(policy("x", x=role), [signed], *anchors, pinned_vendors=pins)  # type: ignore[arg-type]


def test_expired_and_revoked_people_do_not_count(house: House, people: dict[str, Entity]) -> None:
    wanted = issue_of_the_day(house)
    good = [house.signs(people[one]) for one in ("alice", "dora")]
    expired = house.signs(person(house.dev, "bob", days=(-9, -2)))
    missing = 'policy "signers": 2 of (alice, bob, carol), found alice'
    with refused_at(4, "stale.certificate", 'certificate "bob" expired', missing):
        judge(wanted, [*good, expired], house.root)
    with refused_at(5, "untrusted.revoked", missing):
        judge(wanted, [*good, house.signs(people["bob"], revoked=[people["bob"]])], house.root)
    # A good signature beside them is enough: they take nothing away.
    judge(wanted, [expired, *good, house.signs(people["carol"])], house.root)


def test_a_signer_for_another_vendor_leaves_its_role_empty(house: House) -> None:
    from support import make_leaf

    wanted = policy("dev", dev={"below": key(house.dev)})
    stranger = make_leaf(house.dev, vendors=["other.example"])
    with refused_at(8, "untrusted.vendor", 'policy "signers": dev, found none'):
        judge(wanted, [house.signs(stranger)], house.root)


def test_junk_beside_changes_nothing(house: House, people: dict[str, Entity]) -> None:
    wanted = issue_of_the_day(house)
    blocks = [house.signs(people[one]) for one in ("alice", "bob", "dora")]
    strange = block(person(house.other, "alice"), root=house.other)
    judge(wanted, [strange, *blocks], house.root)
    with refused_at(3, "untrusted.no-anchor", 'policy "signers"'):
        judge(wanted, [strange, *blocks[1:]], house.root)


# --- hybrid ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hybrid(house: House) -> tuple[bytes, bytes]:
    """A classic and a post-quantum block of one person, below one CA."""
    return (
        house.signs(person(house.dev, "release")),
        house.signs(person(house.dev, "release", alg="ml-dsa-65")),
    )


def test_a_hybrid_without_one_of_its_blocks_is_refused(
    house: House, hybrid: tuple[bytes, bytes]
) -> None:
    wanted = policy(None, "classic", "post-quantum")
    for order in (hybrid, hybrid[::-1]):
        assert met(judge(wanted, order, house.root)) == [
            'policy "algorithms": classic: met by "release"; post-quantum: met by "release"'
        ]
    for blocks, words in (
        (hybrid[:1], 'classic: met by "release"; post-quantum, found none'),
        (hybrid[1:], 'classic, found none; post-quantum: met by "release"'),
        (hybrid[:1] * 2, 'classic: met by "release"; post-quantum, found none'),
    ):
        with refused_at(6, "untrusted.signers", f'policy "algorithms": {words}'):
            judge(wanted, blocks, house.root)


def test_a_device_that_wants_classic_takes_the_hybrid_and_what_is_left_of_it(
    house: House, hybrid: tuple[bytes, bytes]
) -> None:
    wanted = policy(None, "classic")
    for blocks in (hybrid, hybrid[:1]):
        assert met(judge(wanted, blocks, house.root)) == [
            'policy "algorithms": classic: met by "release"'
        ]


def test_the_halves_of_a_hybrid_may_be_of_one_person(
    house: House, hybrid: tuple[bytes, bytes]
) -> None:
    below = key(house.dev)
    kinds: dict[str, dict[str, Any]] = {
        "classic": {"below": below, "algorithm": "classic"},
        "pq": {"below": below, "algorithm": "post-quantum"},
    }
    judge(policy("classic and pq", **kinds), hybrid, house.root)
    for blocks in (hybrid[:1], hybrid[1:]):
        with refused_at(6, "untrusted.signers"):
            judge(policy("classic and pq", **kinds), blocks, house.root)
    # Not where a role takes either kind: then it is a second person that is wanted.
    with refused_at(6, "untrusted.signers", "anyone, found none"):
        judge(policy("pq and anyone", **kinds, anyone={"below": below}), hybrid, house.root)
    with refused_at(6, "untrusted.signers", "2 of anyone"):
        judge(policy("2 of anyone", anyone={"below": below}), hybrid, house.root)


def test_algorithms_count_only_with_a_role(house: House, hybrid: tuple[bytes, bytes]) -> None:
    alice = house.signs(person(house.dev, "alice"))
    roles = {"alice": {"name": "alice", "below": key(house.dev)}}
    wanted = policy("alice", "classic", "post-quantum", **roles)
    with refused_at(6, "untrusted.signers", "post-quantum, found none"):
        judge(wanted, [alice, hybrid[1]], house.root)
    also = house.signs(person(house.dev, "alice", alg="ml-dsa-65"))
    judge(wanted, [alice, also], house.root)


def test_roles_go_with_a_threshold_and_with_slots(house: House) -> None:
    from fwsign.verify.policy import Slot

    one, two = (house.signs(person(house.dev, who)) for who in ("alice", "bob"))
    wanted = policy("alice", alice={"name": "alice", "below": key(house.dev)})
    judge(wanted, [one, two], house.root, threshold=2)
    with refused_at(6, "untrusted.signers", "2 distinct signers, found 1"):
        judge(wanted, [one], house.root, threshold=2)
    slots = (Slot("release", key(house.release)),)
    with refused_at(6, "untrusted.slot", "empty: release"):
        judge(wanted, [one], house.root, slots=slots)
    with refused_at(6, "untrusted.signers", 'policy "signers": alice, found none'):
        boss = block(person(house.release, "boss"), house.release, root=house.root)
        judge(wanted, [boss], house.root, slots=slots)


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("2 of dev", True),
        ("dev", False),
        ("dev and rel", False),
        ("2 of (dev, rel)", False),
        ("2 of dev or 2 of rel", True),
        ("alice and dev", True),
        ("alice and owner", False),
        ("any and dev", True),
        ("2 of any", True),
    ],
)
def test_a_rule_that_one_ca_can_meet_alone_says_so(house: House, text: str, alone: bool) -> None:
    owner, other = person(house.dev, "owner"), person(house.release, "owner 2")
    roles: dict[str, dict[str, Any]] = {
        "dev": {"below": key(house.dev)},
        "rel": {"below": key(house.release)},
        "alice": {"name": "alice", "below": key(house.dev)},
        "owner": {"keys": (key(owner),)},
        "any": {"algorithm": "classic"},
    }
    blocks = [
        *(house.signs(person(house.dev, one)) for one in ("alice", "bob")),
        house.signs(owner),
        *(house.signs(person(house.release, one), house.release) for one in ("carol", "dave")),
        house.signs(other, house.release),
    ]
    note = "a single CA could meet this policy alone: its roles name no two CAs"
    found = judge(policy(text, **roles), blocks, house.root)
    assert (note in found.notes) is alone
