# SPDX-License-Identifier: Apache-2.0
"""The exact search for signers that meet a rule, each in a place of its own.

A signer may have several seats, and a way to meet a rule bars seats: its own, and those of whoever
is the same person. The search keeps one way for each set of seats. It is small, since an envelope
has at most `MAX_BLOCKS` signers.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

from fwsign.format.envelope import MAX_BLOCKS
from fwsign.verify.rule import Members, Rule


class Way(NamedTuple):
    """A way to meet a rule.

    Args:
        used: the seats that it takes, as bits.
        barred: the seats that nobody else may take then, as bits; among them its own.
        fills: for each place: the number of the clause, the role, and the number of the signer.
    """

    used: int = 0
    barred: int = 0
    fills: tuple[tuple[int, str, int], ...] = ()


Ways: TypeAlias = dict[int, Way]
"""Ways by the seats that they take."""
Seats: TypeAlias = Callable[[str], Sequence[Way]]
"""Returns the ways to have one signer of a role, by its label."""


def reach(most: int, options: Iterable[Ways]) -> list[Ways]:
    """Return the ways to have none, one, and up to `most` of several options at the same time.

    Args:
        most: the number of options that are wanted.
        options: for each, the ways to have it.
    """
    reached: list[Ways] = [{0: Way()}, *({} for _ in range(most))]
    for option in options:
        for count in range(most, 0, -1):
            for before, more in product(reached[count - 1].values(), option.values()):
                size = len(before.fills) + len(more.fills)
                if before.used & more.barred or size > MAX_BLOCKS:
                    continue
                used = before.used | more.used
                known = reached[count].get(used)
                if known is None or size < len(known.fills):
                    barred, fills = before.barred | more.barred, before.fills + more.fills
                    reached[count][used] = Way(used, barred, fills)
    return reached


def ways_to_meet(rule: Rule, seats: Seats) -> Ways:
    """Return the ways to meet a rule with the signers of `seats`."""
    if isinstance(rule, Members):
        return reach(rule.needed, [{one.used: one} for one in seats(rule.role)])[rule.needed]
    return reach(rule.needed, [ways_to_meet(one, seats) for one in rule.of])[rule.needed]
