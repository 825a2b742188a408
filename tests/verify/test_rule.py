"""Rules about signers: words to values and back, and words that cannot be meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import Failed
from fwsign.verify.rule import (
    MAX_RULE_DEPTH,
    MAX_RULE_LENGTH,
    Members,
    Rule,
    Several,
    clauses,
    labels,
    parse_rule,
    rule_fault,
    write_rule,
)
from support import refused

ALICE, BOB, CAROL = (Members(1, name) for name in ("alice", "bob", "carol"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("alice", ALICE),
        (" ( alice ) ", ALICE),
        ("1 of alice", ALICE),
        ("2 of dev", Members(2, "dev")),
        ("alice and bob", Several(2, (ALICE, BOB))),
        ("alice or bob or carol", Several(1, (ALICE, BOB, CAROL))),
        ("2 of (alice, bob, carol)", Several(2, (ALICE, BOB, CAROL))),
        ("1 of (alice)", Several(1, (ALICE,))),
        (
            "2 of (alice, bob, carol) and 1 of release-approvers",
            Several(2, (Several(2, (ALICE, BOB, CAROL)), Members(1, "release-approvers"))),
        ),
        (
            "(qa or 2 of dev) and release",
            Several(
                2,
                (Several(1, (Members(1, "qa"), Members(2, "dev"))), Members(1, "release")),
            ),
        ),
        (
            "2 of (alice and bob, 2 of dev, carol)",
            Several(2, (Several(2, (ALICE, BOB)), Members(2, "dev"), CAROL)),
        ),
        ("orders and android", Several(2, (Members(1, "orders"), Members(1, "android")))),
    ],
)
def test_words_are_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(write_rule(rule)) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'signers "" has the end, expected a role'),
        ("alice and", "has the end, expected a role"),
        ("alice bob", 'has "bob", expected and, or, or the end'),
        ("alice and bob or carol", 'has "or", expected "and", or parentheses around one of them'),
        ("alice or bob and carol", 'has "and", expected "or", or parentheses around one of them'),
        ("2 of (alice, bob", "has the end, expected a closing parenthesis"),
        ("(alice, bob)", 'has ",", expected a closing parenthesis'),
        ("2 alice", 'has "2", expected a role, or a number and of'),
        ("0 of dev", 'has "0", expected a role, or a number and of'),
        ("-1 of dev", 'has "-1", expected a role'),
        ("02 of dev", 'has "02", expected a role'),
        ("2 of 3", 'has "3", expected a role'),
        ("2 of of", 'has "of", expected a role'),
        ("AND", 'has "AND", expected a role'),
        ("alice & bob", 'has "&", expected letters, digits, parentheses and commas'),
        ("alic\u00e9", 'has "\u00e9", expected letters'),
        ("2 of ()", 'has ")", expected a role'),
        ("a" * 65, "expected a role"),
        ("(" * 9 + "alice" + ")" * 9, 'has "more parentheses", expected at most 8'),
        ("a" * (MAX_RULE_LENGTH + 1), "signers has 1025 characters, expected at most 1024"),
    ],
)
def test_words_that_say_nothing_are_refused(text: str, words: str) -> None:
    with refused("state.policy", words) as caught:
        parse_rule(text)
    assert isinstance(caught.value, Failed)
    assert caught.value.expected
    assert caught.value.found


def deep(levels: int) -> Rule:
    rule: Rule = ALICE
    for _ in range(levels):
        rule = Several(1, (rule, BOB))
    return rule


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Several(3, (ALICE, BOB)), "a rule that demands 3 of only 2"),
        (Several(1, ()), "a rule that demands 1 of only 0"),
        (Members(0, "dev"), "a rule that demands 0"),
        (Several(-1, (ALICE,)), "a rule that demands -1"),
        (Members(9, "dev"), "a rule that demands 9 signers, at most 8 fit"),
        (deep(MAX_RULE_DEPTH + 1), "more than 8 rules inside each other"),
        (Several(1, (ALICE,) * 25), "a rule that names roles in more than 24 places"),
    ],
)
def test_rules_that_cannot_be_meant(rule: Rule, words: str) -> None:
    assert rule_fault(rule) == words


def test_rules_at_the_limits_are_fine() -> None:
    for rule in (Several(1, (ALICE,) * 24), Members(8, "dev"), deep(MAX_RULE_DEPTH)):
        assert rule_fault(rule) is None
        assert parse_rule(write_rule(rule)) == rule


def test_the_clauses_of_a_rule_must_all_be_met() -> None:
    assert clauses(parse_rule("alice and (bob or carol)")) == (ALICE, Several(1, (BOB, CAROL)))
    assert clauses(parse_rule("2 of (alice, bob)")) == (ALICE, BOB)
    for text in ("alice", "alice or bob", "2 of (alice, bob, carol)"):
        assert clauses(parse_rule(text)) == (parse_rule(text),)


def test_labels_are_named_once_in_their_order() -> None:
    assert labels(parse_rule("(b or a) and 2 of (b, c, a)")) == ("b", "a", "c")


def rules() -> st.SearchStrategy[Rule]:
    """Make rules of any form that words can have."""
    counts, names = st.integers(1, 8), st.sampled_from(["alice", "bob", "dev", "qa.x", "R_1"])
    leaves: st.SearchStrategy[Rule] = st.builds(Members, counts, names)

    def joined(inner: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
        return st.builds(Several, counts, st.lists(inner, min_size=1, max_size=4).map(tuple))

    return st.recursive(leaves, joined, max_leaves=12)


@given(rules())
def test_what_is_written_is_read_as_the_same(rule: Rule) -> None:
    if rule_fault(rule) is None:
        assert parse_rule(write_rule(rule)) == rule


@given(st.text("ab ,()12ofandr", max_size=40))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except Failed as error:
        refusal = error.code
    else:
        refusal = "state.policy"
        assert rule_fault(rule) or parse_rule(write_rule(rule)) == rule
    assert refusal == "state.policy"
