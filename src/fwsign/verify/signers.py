# SPDX-License-Identifier: Apache-2.0
"""Which signers of an envelope meet the rule about them (ADR 41).

A signer has the roles of the nearest CA in its path that the rule names. So one CA cannot fill the
roles of another above it.

Each signer fills one place. Two signatures of one person fill one place, too: of one key, of the
same name below one CA, or both of one role that stands for a person. Only the halves of a hybrid
are apart: a classic and a post-quantum signature, in roles that each name their kind.

Whether two signers are one person depends on these two alone. So a block more never undoes what the
others meet.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from cryptography.x509.oid import NameOID, ObjectIdentifier

from fwsign.format.algorithms import Strength
from fwsign.verify.rule import Rule, clauses, labels, write_rule
from fwsign.verify.seats import Way, reach, ways_to_meet
from fwsign.verify.signer_policy import Role, SignerPolicy, folded
from fwsign.x509.chain import CertificationPath

_COMMON: Final = NameOID.COMMON_NAME
_UNIT: Final = NameOID.ORGANIZATIONAL_UNIT_NAME


class Clause(NamedTuple):
    """One part of a policy, and the signers that meet it.

    Args:
        words: the part, as it is written.
        met: whether it is met.
        by: the names of the signers that meet it.
        found: the roles that are there, if it is not met; of one role, the names of signers.
        missing: the roles that are not there, if it is not met.
    """

    words: str
    met: bool
    by: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in words."""
        if self.met:
            return f"{self.words}: met by {', '.join(self.by)}"
        return f"{self.words}, found {', '.join(self.found) or 'none'}"


class Demand(NamedTuple):
    """What a policy demands by one name.

    Args:
        name: "signers" or "algorithms".
        clauses: its parts, each met or not.
    """

    name: str
    clauses: tuple[Clause, ...]

    @property
    def met(self) -> bool:
        """Whether it is met."""
        return all(one.met for one in self.clauses)

    @property
    def wanted(self) -> str:
        """The parts that are not met, in words."""
        return ", ".join(one.words for one in self.clauses if not one.met)

    @property
    def there(self) -> str:
        """The roles that are there of the parts that are not met, in words."""
        return ", ".join(one for part in self.clauses for one in part.found) or "none"

    def __str__(self) -> str:
        """Say it in words."""
        return f'policy "{self.name}": {"; ".join(map(str, self.clauses))}'


def judge_signers(policy: SignerPolicy, paths: Sequence[CertificationPath]) -> tuple[Demand, ...]:
    """Judge the signers that count; one demand for the rule, one for algorithms.

    Args:
        policy: who must sign.
        paths: the path of each signer that counts.
    """
    bench = _Bench(policy.used, paths)
    found = [Demand("signers", bench.judge(policy.rule))] if policy.rule else []
    if policy.algorithms:
        eligible = bench.eligible() if policy.rule else paths
        kinds = tuple(_kind(one, eligible) for one in policy.algorithms)
        found.append(Demand("algorithms", kinds))
    return tuple(found)


def _kind(kind: Strength, paths: Sequence[CertificationPath]) -> Clause:
    by = tuple(dict.fromkeys(f'"{path.name}"' for path in paths if path.strength == kind))
    return Clause(kind, bool(by), by, (), () if by else (kind,))


class _Bench:
    """The signers of one envelope: their roles, and who of them are one person.

    Each signer has two seats, of which it takes one: one for places of any kind, and one for places
    of its own kind of algorithm.
    """

    def __init__(self, roles: Sequence[Role], paths: Sequence[CertificationPath]) -> None:
        pins = {role.below for role in roles} - {None}
        self._paths = paths
        self._nearest = [next((key for key in one.keys[1:] if key in pins), None) for one in paths]
        self._names = [_names(path) for path in paths]
        every = range(len(paths))
        self._roles = [[role for role in roles if self._has(one, role)] for one in every]
        self._barred = [self._bars(one, half=half) for half in (False, True) for one in every]

    def eligible(self) -> list[CertificationPath]:
        """Return the paths of the signers that have a role."""
        return [path for path, roles in zip(self._paths, self._roles, strict=True) if roles]

    def judge(self, rule: Rule) -> tuple[Clause, ...]:
        """Judge the clauses of a rule: as many as can be met together are."""
        parts = clauses(rule)
        options = [ways_to_meet(part, partial(self._seats, at)) for at, part in enumerate(parts)]
        *_, best = (ways for ways in reach(len(parts), options) if ways)
        fills = next(iter(best.values())).fills
        taken = {signer for _, _, signer in fills}
        free = [one for one in range(len(self._paths)) if not self._is_taken(one, taken)]
        return tuple(
            self._clause(part, [one for clause, _, one in fills if clause == number], free)
            for number, part in enumerate(parts)
        )

    def _clause(self, rule: Rule, by: Sequence[int], free: Sequence[int]) -> Clause:
        words = write_rule(rule)
        if by:
            return Clause(words, True, tuple(f'"{self._paths[one].name}"' for one in by))
        wanted = labels(rule)
        there = {role.label: one for one in reversed(free) for role in self._roles[one]}
        found = tuple(self._called(label, there[label]) for label in wanted if label in there)
        missing = tuple(label for label in wanted if label not in there) or wanted
        return Clause(words, False, (), found, missing)

    def _called(self, label: str, signer: int) -> str:
        """Name a role, and its signer if that has another name."""
        name = self._paths[signer].name
        return label if name == label else f'{label} ("{name}")'

    def _seats(self, clause: int, label: str) -> list[Way]:
        """Return the ways to have one signer of a role."""
        found = []
        for signer, roles in enumerate(self._roles):
            for role in roles:
                if role.label == label:
                    seat = signer + len(self._paths) * (role.algorithm is not None)
                    found.append(Way(1 << seat, self._barred[seat], ((clause, label, signer),)))
        return found

    def _has(self, signer: int, role: Role) -> bool:
        path = self._paths[signer]
        if role.keys and path.keys[0] not in role.keys:
            return False
        if role.below is not None and role.below != self._nearest[signer]:
            return False
        if role.algorithm not in (None, path.strength):
            return False
        common, units = (_texts(path, oid) for oid in (_COMMON, _UNIT))
        return role.name in (None, *(common if len(common) == 1 else ())) and (
            role.unit in (None, *units)
        )

    def _bars(self, signer: int, *, half: bool) -> int:
        """Return the seats that are barred if a signer takes one of its own."""
        count, bits = len(self._paths), 0
        for other in range(count):
            if not self._same(signer, other):
                continue
            bits |= 1 << other
            apart = self._paths[signer].strength != self._paths[other].strength
            if not (half and apart):
                bits |= 1 << (other + count)
        return bits

    def _is_taken(self, signer: int, taken: Iterable[int]) -> bool:
        return any(self._same(signer, other) for other in taken)

    def _same(self, one: int, other: int) -> bool:
        """Tell whether two signers are one person."""
        if self._paths[one].keys[0] == self._paths[other].keys[0]:
            return True
        if any(role.is_person and role in self._roles[other] for role in self._roles[one]):
            return True
        scopes = [self._nearest[at] or self._paths[at].anchor.spki for at in (one, other)]
        return scopes[0] == scopes[1] and not self._names[one].isdisjoint(self._names[other])


def _texts(path: CertificationPath, oid: ObjectIdentifier) -> tuple[str, ...]:
    """Return the values of an attribute in the leaf's subject, in their order."""
    found = path.certificates[0].subject.get_attributes_for_oid(oid) if path.certificates else ()
    return tuple(str(one.value) for one in found)


def _names(path: CertificationPath) -> frozenset[str]:
    """Return the names by which a leaf's CA tells people apart, without their letter case."""
    if not path.certificates:
        return frozenset()
    names = _texts(path, _COMMON) or (path.name,)
    return frozenset(map(folded, names))
