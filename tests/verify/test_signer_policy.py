"""Policies about signers that nobody can meet or mean, and the search against brute force."""

import time
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fwsign.verify.policy import DevicePolicy, check_policy
from fwsign.verify.rule import Members, Rule, Several, clauses, parse_rule, rule_fault
from fwsign.verify.signer_policy import Role, SignerPolicy, signers_fault
from fwsign.verify.signers import judge_signers
from people_kit import policy
from support import refused

K = ["0" * 63 + one for one in "123456789abcdef"]
DEV = {"below": K[0]}


# --- policies that cannot be meant ----------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (SignerPolicy(), "roles, but demands no signers and no algorithms"),
        (policy(None, dev=DEV), "roles, but demands no signers and no algorithms"),
        (policy("dev", "classic", "classic", dev=DEV), "algorithms classic, classic, each of"),
        (policy("dev", "quantum", dev=DEV), "algorithms quantum, each of which is classic or"),
        (policy("a", **{f"r{one}": DEV for one in range(17)}), "17 roles, at most 16 are allowed"),
        (SignerPolicy((Role("a"), Role("a")), Members(1, "a")), "two roles of one label"),
        (policy("eve", dev=DEV), 'no role "eve", the roles are dev'),
        (policy("eve"), 'no role "eve", the roles are none'),
        (
            SignerPolicy((Role("or", below=K[0]),), Members(1, "or")),
            'a role "or", which is no label',
        ),
        (
            SignerPolicy((Role("1a", below=K[0]),), Members(1, "1a")),
            'a role "1a", which is no label',
        ),
        (policy("a", a={"keys": tuple(K[:9])}), 'a role "a" of 9 keys, at most 8 are allowed'),
        (policy("a", a={"keys": ("ab",)}), "with the key 'ab', which is no SHA-256 in lower-case"),
        (policy("a", a={"keys": ("G" * 64,)}), "which is no SHA-256"),
        (policy("a", a={"below": "AB" * 32}), "which is no SHA-256"),
        (policy("a", a={"below": ""}), "with the key '', which is no SHA-256"),
        (policy("a", a={**DEV, "algorithm": "rsa"}), "with the algorithm 'rsa', not classic or"),
        (policy("a", a={**DEV, "name": ""}), "with a name or unit that is not 1 to 256 printable"),
        (policy("a", a={**DEV, "name": "a\n"}), "with a name or unit that is not 1 to 256"),
        (policy("a", a={**DEV, "unit": "u" * 257}), "with a name or unit that is not 1 to 256"),
        (policy("a", a={"name": "alice"}), 'a role "a" with a name, but no CA that gives it'),
        (policy("a", a={"unit": "qa"}), 'a role "a" with a name, but no CA that gives it: below'),
        (policy("a", a={"keys": (K[1],), **DEV}), "with a key, and more about the certificate"),
        (policy("a", a={"keys": (K[1],), "name": "a", **DEV}), "with a key, and more"),
        (policy("a", a={}), 'a role "a", which says nothing'),
        (policy("3 of (a, b)", a=DEV, b={"keys": (K[1],)}), "a rule that demands 3 of only 2"),
        (policy("9 of a", a=DEV), "a rule that demands 9 signers, at most 8 fit"),
        (
            policy("a and b", a={"keys": (K[1], K[2])}, b={"keys": (K[3], K[2])}),
            'one key in the roles "a" and "b"',
        ),
        (policy("a and b", a=DEV, b=DEV), 'the same signers in the roles "a" and "b"'),
        (policy("a", "post-quantum", a={**DEV, "algorithm": "classic"}), "algorithms with post-"),
    ],
)
def test_policies_that_cannot_be_meant_are_refused(wrong: SignerPolicy, words: str) -> None:
    with refused("state.policy", "the policy has ", words):
        check_policy(DevicePolicy(signers=wrong))


ALICE, BOB = ({**DEV, "name": one} for one in ("alice", "bob"))


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("2 of dev", True),
        ("8 of dev", True),
        ("2 of alice", False),
        ("alice and alice", False),
        ("alice and 2 of (alice, bob)", False),
        ("2 of (alice, bob) and 1 of (alice, bob)", False),
        ("2 of (alice, bob, key) and 1 of (alice, bob)", True),
        ("alice or (bob and bob)", True),
        ("5 of dev and 4 of any", False),
        ("5 of dev and 3 of any", True),
        ("alice and old-alice", False),  # one name below one CA is one person
        ("alice and any", True),
        ("classic-alice and pq-alice", True),  # the halves of a hybrid
        ("classic-alice and pq-alice and alice", False),
        ("classic-alice and classic-alice", False),
    ],
)
def test_rules_that_nobody_can_meet_are_refused(text: str, fine: bool) -> None:
    given = policy(
        text,
        dev=DEV,
        any={"algorithm": "classic"},
        alice=ALICE,
        old_alice={**ALICE, "unit": "old"},
        bob=BOB,
        key={"keys": (K[5],)},
        classic_alice={**ALICE, "algorithm": "classic"},
        pq_alice={**ALICE, "algorithm": "post-quantum"},
    )
    found = signers_fault(given)
    words = "signers that nobody can be, with at most 8 in an envelope: "
    assert found is None if fine else str(found).startswith(words)


def test_a_role_that_the_rule_does_not_name_does_no_harm() -> None:
    given = policy("dev", dev=DEV, twin=DEV, alice=ALICE)
    assert signers_fault(given) is None
    assert [one.label for one in given.used] == ["dev"]


def test_the_worst_policy_is_read_fast() -> None:
    names = {f"r{one}": {**DEV, "name": f"n{one}"} for one in range(12)}
    every = ", ".join(names)
    begun = time.perf_counter()
    assert signers_fault(policy(f"4 of ({every}) and 4 of ({every})", **names)) is None
    assert time.perf_counter() - begun < 20


# --- the search against brute force ---------------------------------------------------------


class Card(NamedTuple):
    """A signer as the oracle sees it."""

    key: str
    cas: tuple[str, ...]
    common: str
    unit: str
    strength: str


def path_of(card: Card) -> Any:
    """Return what the search reads of a path."""
    parts = [(NameOID.COMMON_NAME, card.common), (NameOID.ORGANIZATIONAL_UNIT_NAME, card.unit)]
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    return SimpleNamespace(
        keys=(card.key, *card.cas),
        strength=card.strength,
        name=card.common,
        certificates=[SimpleNamespace(subject=subject)],
        anchor=SimpleNamespace(spki=card.cas[-1]),
    )


def belongs(card: Card, role: Role, pins: Iterable[str | None]) -> bool:
    nearest = next((one for one in card.cas if one in pins), None)
    return (
        (not role.keys or card.key in role.keys)
        and role.below in (None, nearest)
        and role.name in (None, card.common)
        and role.unit in (None, card.unit)
        and role.algorithm in (None, card.strength)
    )


def one_person(one: Card, other: Card, roles: Sequence[Role], pins: Sequence[str | None]) -> bool:
    shared = [
        role
        for role in roles
        if (role.keys or role.name) and belongs(one, role, pins) and belongs(other, role, pins)
    ]
    scopes = [next((ca for ca in card.cas if ca in pins), card.cas[-1]) for card in (one, other)]
    alike = scopes[0] == scopes[1] and one.common.lower() == other.common.lower()
    return one.key == other.key or bool(shared) or alike


def oracle(given: SignerPolicy, cards: Sequence[Card]) -> bool:
    """Try every choice of a role, or none, for every signer."""
    assert given.rule is not None
    roles, pins = given.used, [one.below for one in given.used]
    seats = [[None, *(role for role in roles if belongs(card, role, pins))] for card in cards]
    for seating in product(*seats):
        sat = [(at, role) for at, role in enumerate(seating) if role is not None]
        fine = all(
            not one_person(cards[a], cards[b], roles, pins)
            or (
                one.algorithm
                and other.algorithm
                and cards[a].strength != cards[b].strength
                and cards[a].key != cards[b].key
            )
            for (a, one), (b, other) in combinations(sat, 2)
        )
        if fine and enough(given.rule, tuple(role.label for _, role in sat)):
            return True
    return False


def enough(rule: Rule, labels: tuple[str, ...]) -> bool:
    """Tell whether these places, each used once, meet a rule."""
    if isinstance(rule, Members):
        return labels.count(rule.role) >= rule.needed
    return any(all_met(some, labels) for some in combinations(rule.of, rule.needed))


def all_met(rules: Sequence[Rule], labels: tuple[str, ...]) -> bool:
    if not rules:
        return True
    for bits in range(1 << len(labels)):
        mine = tuple(one for at, one in enumerate(labels) if bits >> at & 1)
        rest = tuple(one for at, one in enumerate(labels) if not bits >> at & 1)
        if enough(rules[0], mine) and all_met(rules[1:], rest):
            return True
    return False


ROLES = (
    Role("alice", below=K[0], name="alice"),
    Role("bob", keys=(K[7], K[8])),
    Role("dev", below=K[0]),
    Role("qa", below=K[1], unit="qa"),
    Role("boss", below=K[2]),
    Role("pq", below=K[0], algorithm="post-quantum"),
    Role("old", below=K[0], algorithm="classic"),
)
CARDS = st.builds(
    Card,
    key=st.sampled_from(K[6:11]),
    cas=st.sampled_from([(K[0], K[2]), (K[1], K[2]), (K[2],), (K[0], K[1]), (K[3],)]),
    common=st.sampled_from(["alice", "Alice", "bob", "carol"]),
    unit=st.sampled_from(["qa", "x"]),
    strength=st.sampled_from(["classic", "post-quantum"]),
)


def rules() -> st.SearchStrategy[Rule]:
    labels = st.sampled_from([one.label for one in ROLES])
    leaves: st.SearchStrategy[Rule] = st.builds(Members, st.integers(1, 2), labels)

    def joined(inner: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
        of = st.lists(inner, min_size=1, max_size=3).map(tuple)
        return st.builds(Several, st.integers(1, 3), of)

    return st.recursive(leaves, joined, max_leaves=5).filter(lambda one: rule_fault(one) is None)


def is_met(given: SignerPolicy, cards: Sequence[Card]) -> bool:
    found = judge_signers(given, [path_of(card) for card in cards])
    return all(one.met for one in found)


@settings(max_examples=150)
@given(rules(), st.lists(CARDS, max_size=4))
def test_the_search_finds_what_brute_force_finds(rule: Rule, cards: list[Card]) -> None:
    given = SignerPolicy(ROLES, rule)
    assert is_met(given, cards) == oracle(given, cards)


@settings(max_examples=100)
@given(rules(), st.lists(CARDS, max_size=6), st.randoms(use_true_random=False))
def test_no_block_taken_out_or_repeated_meets_a_policy(
    rule: Rule, cards: list[Card], chance: Any
) -> None:
    given = SignerPolicy(ROLES, rule)
    whole = is_met(given, cards)
    shuffled = chance.sample(cards, len(cards))
    assert is_met(given, shuffled) == whole
    assert is_met(given, (shuffled + cards)[:8]) == whole if cards else not whole
    for at in range(len(cards)):
        fewer = cards[:at] + cards[at + 1 :]
        assert whole or not is_met(given, fewer)  # a block more takes nothing away


@settings(max_examples=100)
@given(rules(), st.lists(CARDS, max_size=5))
def test_the_words_say_what_is_met(rule: Rule, cards: list[Card]) -> None:
    (found,) = judge_signers(SignerPolicy(ROLES, rule), [path_of(card) for card in cards])
    assert found.name == "signers"
    assert len(found.clauses) == len(clauses(rule))
    for one in found.clauses:
        assert bool(one.by) is one.met
        assert bool(one.missing) is not one.met
        assert not (one.met and one.found)


def test_fifty_envelopes_of_eight_are_judged_fast() -> None:
    text = "2 of (alice, bob, dev, qa) and 2 of (dev, boss, pq or old) or 3 of dev"
    rule = parse_rule(f"({text.replace(' or 3 of dev', '')}) or 3 of dev")
    cards = [
        Card(K[at], (K[0], K[2]), f"n{at}", "qa", ("classic", "post-quantum")[at % 2])
        for at in range(8)
    ]
    begun = time.perf_counter()
    for _ in range(50):
        assert is_met(SignerPolicy(ROLES, rule), cards)
    assert time.perf_counter() - begun < 20
