# SPDX-License-Identifier: Apache-2.0
"""Rules about signers, in words: `2 of (alice, bob, carol) and release-approvers`.

    rule   = item *("and" item) / item *("or" item)
    item   = [count "of"] role / "(" rule ")" / count "of" "(" rule *("," rule) ")"

`and` and `or` do not stand side by side without parentheses: nobody needs to know which binds
closer. A role's label begins with a letter; the words of the rule are no labels.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from fwsign.errors import Failed
from fwsign.format.envelope import MAX_BLOCKS

MAX_RULE_LENGTH: Final = 1024
"""Characters of a rule."""
MAX_RULE_DEPTH: Final = 8
"""Rules inside rules."""
MAX_PLACES: Final = 24
"""Places in a rule that name a role."""
MAX_LABEL: Final = 64
"""Characters of a role's label."""

_WORDS: Final = ("and", "or", "of")
_LABEL: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_.-]{{0,{MAX_LABEL - 1}}}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]+|[(),]")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,3}")


class Members(NamedTuple):
    """So many different signers of one role."""

    needed: int
    role: str


class Several(NamedTuple):
    """So many of several rules, each met by signers of its own."""

    needed: int
    of: "tuple[Rule, ...]"


Rule: TypeAlias = Members | Several


def is_role_label(text: str) -> bool:
    """Tell whether a text can be the label of a role."""
    return _LABEL.fullmatch(text) is not None and text.lower() not in _WORDS


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        Failed: `state.policy`.
    """
    if len(text) > MAX_RULE_LENGTH:
        what = f"signers has {len(text)} characters"
        raise _wrong(what, f"at most {MAX_RULE_LENGTH}", str(len(text)))
    return _Parser(text).read()


def write_rule(rule: Rule) -> str:
    """Return a rule in words; `parse_rule` reads them again."""
    if isinstance(rule, Members):
        return rule.role if rule.needed == 1 else f"{rule.needed} of {rule.role}"
    if len(rule.of) > 1 and rule.needed in (1, len(rule.of)):
        return (" or " if rule.needed == 1 else " and ").join(map(_enclosed, rule.of))
    return f"{rule.needed} of ({', '.join(map(write_rule, rule.of))})"


def clauses(rule: Rule) -> tuple[Rule, ...]:
    """Return the rules that must all be met; one that is no `and` stands for itself."""
    return rule.of if isinstance(rule, Several) and rule.needed == len(rule.of) else (rule,)


def labels(rule: Rule) -> tuple[str, ...]:
    """Return the labels in a rule, each once, in their order."""
    return tuple(dict.fromkeys(places(rule)))


def places(rule: Rule) -> Iterator[str]:
    """Yield the label in each place of a rule."""
    return (one.role for one, _ in _walk(rule) if isinstance(one, Members))


def rule_fault(rule: Rule) -> str | None:
    """Say what is wrong with a rule: its size, or a count that nothing can reach."""
    count = 0
    for one, depth in _walk(rule):
        if isinstance(one, Several) and depth > MAX_RULE_DEPTH:
            return f"more than {MAX_RULE_DEPTH} rules inside each other"
        count += isinstance(one, Members)
        if count > MAX_PLACES:
            return f"a rule that names roles in more than {MAX_PLACES} places"
        if one.needed < 1:
            return f"a rule that demands {one.needed}"
        if isinstance(one, Several) and one.needed > len(one.of):
            return f"a rule that demands {one.needed} of only {len(one.of)}"
        if one.needed > MAX_BLOCKS:
            return f"a rule that demands {one.needed} signers, at most {MAX_BLOCKS} fit"
    return None


def _enclosed(rule: Rule) -> str:
    words = write_rule(rule)
    joined = isinstance(rule, Several) and len(rule.of) > 1 and rule.needed in (1, len(rule.of))
    return f"({words})" if joined else words


def _walk(rule: Rule) -> Iterator[tuple[Rule, int]]:
    """Yield a rule and those inside it, in the order of the words, each with its depth."""
    left = [(rule, 1)]
    while left:
        one, depth = left.pop()
        yield one, depth
        if isinstance(one, Several):
            left.extend((inner, depth + 1) for inner in reversed(one.of))


class _Parser:
    """Reads one rule from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        if rest := _TOKEN.sub("", text).strip():
            raise self._unexpected(rest[0], "letters, digits, parentheses and commas")

    def read(self) -> Rule:
        rule = self._joined(1)
        if self._next is not None:
            raise self._unexpected(self._next, "and, or, or the end")
        return rule

    @property
    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> str:
        found = self._next
        if found is None:
            raise self._unexpected("the end", "a role")
        self._at += 1
        return found

    def _skip(self, token: str) -> bool:
        """Take a token if it is the next one."""
        found = self._next == token
        self._at += found
        return found

    def _joined(self, depth: int) -> Rule:
        """Read items with one and the same word between them."""
        items = [self._item(depth)]
        word = self._next
        if word not in ("and", "or"):
            return items[0]
        while self._skip(word):
            items.append(self._item(depth))
        if self._next in ("and", "or"):
            raise self._unexpected(str(self._next), f'"{word}", or parentheses around one of them')
        return Several(1 if word == "or" else len(items), tuple(items))

    def _item(self, depth: int) -> Rule:
        if depth > MAX_RULE_DEPTH:
            raise self._unexpected(
                "more parentheses", f"at most {MAX_RULE_DEPTH} inside each other"
            )
        word = self._take()
        if word == "(":
            inner = self._joined(depth + 1)
            self._close()
            return inner
        if _COUNT.fullmatch(word) and self._skip("of"):
            return self._counted(int(word), depth)
        return Members(1, self._label(word))

    def _counted(self, count: int, depth: int) -> Rule:
        if not self._skip("("):
            return Members(count, self._label(self._take()))
        items = [self._joined(depth + 1)]
        while self._skip(","):
            items.append(self._joined(depth + 1))
        self._close()
        return Several(count, tuple(items))

    def _close(self) -> None:
        if not self._skip(")"):
            raise self._unexpected(self._next or "the end", "a closing parenthesis")

    def _label(self, word: str) -> str:
        if not is_role_label(word):
            raise self._unexpected(word, "a role, or a number and of")
        return word

    def _unexpected(self, found: str, expected: str) -> Failed:
        shown = f'"{found}"' if found != "the end" else found
        return _wrong(f'signers "{self._text}" has {shown}', expected, found)


def _wrong(what: str, expected: str, found: str) -> Failed:
    return Failed("state.policy", f"{what}, expected {expected}", expected=expected, found=found)
