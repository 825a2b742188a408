# SPDX-License-Identifier: Apache-2.0
"""Who must sign: roles, and a rule about them (ADR 41).

A role is an identity in certificates. A name is only as good as the CA that gave it: so a role with
a name also has the key of a CA or anchor, and only signers below that one have the role.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Final, NamedTuple

from fwsign.format.algorithms import STRENGTHS, Strength
from fwsign.format.envelope import MAX_BLOCKS
from fwsign.verify.rule import Rule, is_role_label, labels, places, rule_fault, write_rule
from fwsign.verify.seats import Way, Ways, ways_to_meet

MAX_ROLES: Final = 16
"""Roles of a policy."""
MAX_ROLE_KEYS: Final = 8
"""Keys of one person."""
MAX_ROLE_TEXT: Final = 256
"""Characters of a name or a unit."""
_HEX: Final = frozenset("0123456789abcdef")
# Default_Ignorable_Code_Point of Unicode, without the format controls, which are of category Cf.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_KINDS: Final = " or ".join(STRENGTHS)


class Role(NamedTuple):
    """An identity in certificates; all that is given must fit.

    Keys are the SHA-256 of a SubjectPublicKeyInfo, in hex.

    Args:
        label: its label in the rule.
        keys: the keys of one person; the leaf has one of them.
        below: the key of a CA or anchor above the leaf.
        name: the leaf's only common name; stands for one person.
        unit: one of the leaf's organisational units.
        algorithm: "classic" or "post-quantum" signatures alone.
    """

    label: str
    keys: tuple[str, ...] = ()
    below: str | None = None
    name: str | None = None
    unit: str | None = None
    algorithm: Strength | None = None

    @property
    def is_person(self) -> bool:
        """Whether all its signers are one and the same person."""
        return bool(self.keys) or self.name is not None


class SignerPolicy(NamedTuple):
    """Who must sign.

    Args:
        roles: the roles that the rule may name.
        rule: the signers that must be there; None if only algorithms matter.
        algorithms: for each of these, a signer with a role of the rule must be there.
    """

    roles: tuple[Role, ...] = ()
    rule: Rule | None = None
    algorithms: tuple[Strength, ...] = ()

    @property
    def used(self) -> tuple[Role, ...]:
        """The roles in the rule."""
        named = labels(self.rule) if self.rule else ()
        return tuple(one for one in self.roles if one.label in named)

    @property
    def needed(self) -> int:
        """The number of signers without whom the rule cannot be met."""
        return min(len(way.fills) for way in _imagined(self).values())

    @property
    def one_ca_suffices(self) -> bool:
        """Whether a single CA could meet the rule alone, by issuing certificates."""
        named = {None, *(one.below for one in self.used)}
        return any(_imagined(self, partial(_may_issue, ca)) for ca in named)


def folded(name: str) -> str:
    """Return a name as people tell it from others.

    Letter case, runs of spaces, forms of letters, and what nobody sees do not count.
    """
    seen = (one for one in _UNSEEN.sub("", name) if unicodedata.category(one) != "Cf")
    plain = unicodedata.normalize("NFKC", "".join(seen)).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def signers_fault(policy: SignerPolicy) -> str | None:
    """Say what is wrong with a policy: nothing is demanded, or nobody can meet it."""
    if policy.rule is None and not policy.algorithms:
        return "roles, but demands no signers and no algorithms"
    if any(one not in STRENGTHS for one in policy.algorithms) or not _distinct(policy.algorithms):
        return (
            f"algorithms {', '.join(map(str, policy.algorithms))}, each of which is {_KINDS}, once"
        )
    if len(policy.roles) > MAX_ROLES:
        return f"{len(policy.roles)} roles, at most {MAX_ROLES} are allowed"
    if not _distinct([one.label for one in policy.roles]):
        return "two roles of one label"
    faults = (_role_fault(one) for one in policy.roles)
    found = next((one for one in faults if one is not None), None)
    return found or (_rule_fault(policy, policy.rule) if policy.rule else None)


def _rule_fault(policy: SignerPolicy, rule: Rule) -> str | None:
    if (found := rule_fault(rule)) is not None:
        return found
    known = [one.label for one in policy.roles]
    if strangers := [label for label in labels(rule) if label not in known]:
        return f'no role "{strangers[0]}", the roles are {", ".join(known) or "none"}'
    for one, other in combinations(policy.used, 2):
        if not set(one.keys).isdisjoint(other.keys):
            return f'one key in the roles "{one.label}" and "{other.label}"'
        if one._replace(label=other.label) == other:
            return f'the same signers in the roles "{one.label}" and "{other.label}"'
    words = write_rule(rule)
    if not _imagined(policy):
        return f"signers that nobody can be, with at most {MAX_BLOCKS} in an envelope: {words}"
    for kind in policy.algorithms:
        if not any(one.algorithm in (None, kind) for one in policy.used):
            return f"algorithms with {kind}, which no role of {words} may have"
    return None


def _role_fault(role: Role) -> str | None:
    who = f'a role "{role.label}"'
    keys = (*role.keys, *(() if role.below is None else (role.below,)))
    if not is_role_label(role.label):
        return f"{who}, which is no label: a letter, then letters, digits, and . _ -"
    if len(role.keys) > MAX_ROLE_KEYS:
        return f"{who} of {len(role.keys)} keys, at most {MAX_ROLE_KEYS} are allowed"
    if wrong := [one for one in keys if len(one) != 64 or not _HEX.issuperset(one)]:
        return f"{who} with the key {wrong[0]!r}, which is no SHA-256 in lower-case hex"
    if role.algorithm not in (None, *STRENGTHS):
        return f"{who} with the algorithm {role.algorithm!r}, not {_KINDS}"
    texts = [one for one in (role.name, role.unit) if one is not None]
    if any(not one or len(one) > MAX_ROLE_TEXT or not one.isprintable() for one in texts):
        return f"{who} with a name or unit that is not 1 to {MAX_ROLE_TEXT} printable characters"
    if texts and role.below is None:
        return f"{who} with a name, but no CA that gives it: below"
    if role.keys and (texts or role.below is not None):
        return f"{who} with a key, and more about the certificate: either is enough"
    if not role.keys and role.below is None and role.algorithm is None:
        return f"{who}, which says nothing"
    return None


def _imagined(policy: SignerPolicy, there: Callable[[Role], bool] = lambda _: True) -> Ways:
    """Return the ways to meet a rule if everyone signed: each person, and any number of others.

    Args:
        policy: the policy; without a rule, nobody need be there.
        there: whether the signers of a role are there.
    """
    if policy.rule is None:
        return {0: Way()}
    named = Counter(places(policy.rule))
    people = [_person(one) for one in policy.used if one.is_person]
    alone = {one.label for one in policy.used if people.count(_person(one)) == 1}

    def seats(label: str) -> Sequence[Way]:
        role = next(one for one in policy.used if one.label == label)
        fills = ((0, label, 0),)
        if not there(role):
            return ()
        if not role.is_person:
            return [Way(fills=fills)] * MAX_BLOCKS
        if label in alone and named[label] == 1:  # which spares the search most of its work
            return [Way(fills=fills)]
        # As on a bench: a seat for places of any kind, and one for each kind of algorithm.
        first = (1 + len(STRENGTHS)) * people.index(_person(role))
        if role.algorithm is None:
            return [Way(1 << first, 0b111 << first, fills)]
        own = 2 << STRENGTHS.index(role.algorithm) << first
        return [Way(own, own | 1 << first, fills)]

    return ways_to_meet(policy.rule, seats)


def _person(role: Role) -> object:
    """Return the same for two roles of the same person, as far as their words tell."""
    return role.keys or (role.below, folded(role.name or ""))


def _may_issue(ca: str | None, role: Role) -> bool:
    """Tell whether a CA, or one that no role names, may issue certificates with a role."""
    return not role.keys and role.below in (None, ca)


def _distinct(items: Sequence[object]) -> bool:
    return len(set(items)) == len(items)
