"""The table of codes and the wording of errors, by reading the source."""

import ast
import copy
import functools
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pytest

from fwsign import errors
from fwsign.errors import (
    CODES,
    Failed,
    FwsignError,
    Malformed,
    Stale,
    Tampered,
    Unsuitable,
    Untrusted,
)
from fwsign.names import product_name
from test_layers import MODULES
from test_layers import tree as source_of

CLASSES = {one.__name__: one for one in (Malformed, Tampered, Untrusted, Stale, Unsuitable, Failed)}
PREFIXES = {prefix for one in CLASSES.values() for prefix in one.prefixes}
CODE = re.compile(rf"(?:{'|'.join(sorted(PREFIXES))})\.[a-z0-9-]+")
PROPER = re.compile(r"[A-Z][A-Za-z]*[A-Z0-9]|Windows\b|Ed25519\b|I/O\b")
"""What a message may begin with in upper case: COSE, CRL, SHA-256, names of things."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Return the source of each file."""
    for module, path in MODULES.items():
        yield path, source_of(module)


class Raised(NamedTuple):
    """One place that makes an error: file and line, class, code and message."""

    where: str
    kind: str
    code: ast.expr
    message: ast.expr | None


def _raised() -> Iterator[Raised]:
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in CLASSES and node.args and not isinstance(node.args[0], ast.Starred):
                message = node.args[1] if len(node.args) > 1 else None
                where = f"{path.name}:{node.lineno}"
                yield Raised(where, node.func.id, node.args[0], message)


@functools.cache
def raised() -> list[Raised]:
    """Return every place that makes an error."""
    return list(_raised())


def constants(node: ast.AST) -> Iterator[str]:
    """Return every string constant in a tree, docstrings left out."""
    docstrings = {
        id(inner.body[0].value)
        for inner in ast.walk(node)
        if isinstance(inner, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and inner.body
        and isinstance(inner.body[0], ast.Expr)
    }
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and id(inner) not in docstrings:
            yield from [inner.value] if isinstance(inner.value, str) else []


def text_of(message: ast.expr) -> tuple[str, bool, bool]:
    """Return the text of a message, and whether its beginning and its end are known."""
    if isinstance(message, ast.Constant):
        return str(message.value), True, True
    if isinstance(message, ast.JoinedStr):
        ends = [isinstance(message.values[at], ast.Constant) for at in (0, -1)]
        words = (part.value if isinstance(part, ast.Constant) else "x" for part in message.values)
        return "".join(map(str, words)), ends[0], ends[1]
    if isinstance(message, ast.BinOp):
        (left, begins, _), (right, _, ends_) = text_of(message.left), text_of(message.right)
        return left + right, begins, ends_
    return "", False, False


@functools.cache
def used() -> tuple[set[str], set[str]]:
    """Return the codes in the source, and the constants that an f-string could end one with."""
    whole, parts = set(), set()
    for path, tree in trees():
        if path.parent.name != "errors":
            found = set(constants(tree))
            whole |= {text for text in found if CODE.fullmatch(text)}
            joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
            begun = {
                str(node.values[0].value)
                for node in joined
                if len(node.values) == 2 and isinstance(node.values[0], ast.Constant)
            }
            parts |= {f"{prefix}{end}" for prefix in begun for end in found}
    return whole, parts


def literal() -> set[object]:
    """Return the codes that stand where an error is made, fwsign.errors included."""
    return {node.value for *_, node, _ in raised() if isinstance(node, ast.Constant)}


def test_every_code_in_the_source_is_in_the_table() -> None:
    whole, _ = used()
    loaded_by_name = {".".join(path.with_suffix("").parts[-2:]) for path in MODULES.values()}
    assert (whole - loaded_by_name | literal()) - CODES.keys() == set()


def test_every_code_in_the_table_is_used() -> None:
    whole, parts = used()
    assert CODES.keys() - whole - parts - literal() == set()


def test_many_places_that_raise_were_found() -> None:
    assert len(raised()) > 100
    assert {one.kind for one in raised()} == set(CLASSES)


def test_the_class_fits_the_code() -> None:
    codes = [(one, text_of(one.code)[0]) for one in raised()]
    wrong = [
        one.where
        for one, code in codes
        if code and code.split(".")[0] not in CLASSES[one.kind].prefixes
    ]
    assert wrong == []


def is_well_worded(message: ast.expr) -> bool:
    text, begins, ends = text_of(message)
    upper = begins and text[:1].isupper() and not PROPER.match(text)
    return not upper and not (ends and text[-1:] in {".", "!", "\n", " "})


def test_messages_are_lower_case_without_full_stop() -> None:
    wrong = [one.where for one in raised() if one.message and not is_well_worded(one.message)]
    assert wrong == []


def test_messages_with_braces_are_f_strings() -> None:
    plain = {
        one.where: one.message.value for one in raised() if isinstance(one.message, ast.Constant)
    }
    assert plain
    assert [where for where, text in plain.items() if re.search(r"\{\w+\}", str(text))] == []


def test_every_class_has_its_own_prefixes_and_every_code_one() -> None:
    prefixes = [prefix for one in CLASSES.values() for prefix in one.prefixes]
    assert len(prefixes) == len(set(prefixes))
    assert {code.split(".")[0] for code in CODES} <= set(prefixes)
    assert all(CODE.fullmatch(code) for code in CODES)


def test_type_checkers_know_the_codes_of_the_table() -> None:
    (tree,) = (tree for path, tree in trees() if path.parts[-2:] == ("errors", "codes.py"))
    (literal,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and "Literal" in ast.dump(node.value)
    )
    assert ast.literal_eval(literal.slice) == tuple(CODES)


def test_another_hint_leaves_the_refusal_as_it_was() -> None:
    error = Failed("io.missing", "no x", step=3, expected="x", found="y", hint="look for x")
    other = error.with_hint("make x")
    assert (type(other), other.hint) == (Failed, "make x")
    assert {**vars(other), "hint": None} == {**vars(error), "hint": None}
    assert error.hint == "look for x"


def test_no_error_is_changed_after_it_was_made() -> None:
    changed = [
        f"{path.name}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and target.attr == "hint"
        if not (isinstance(target.value, ast.Name) and target.value.id == "self")
    ]
    assert changed == []


def test_there_is_one_root() -> None:
    found = [one for one in vars(errors).values() if isinstance(one, type)]
    exceptions = {one for one in found if issubclass(one, BaseException)}
    assert exceptions == {FwsignError, *CLASSES.values()}
    assert all(issubclass(one, FwsignError) for one in exceptions)


@pytest.mark.parametrize("code", CODES)
def test_meanings_are_lower_case_without_full_stop(code: errors.Code) -> None:
    meaning = CODES[code]
    assert meaning == meaning.strip()
    assert not meaning[0].isupper() or PROPER.match(meaning)
    assert not meaning.endswith((".", "!"))


def test_fields_of_an_error() -> None:
    error = Tampered("tampered.text", "not the text", step=7, expected=b"a", found=1)
    assert (str(error), error.message, error.step) == ("not the text", "not the text", 7)
    assert (error.code, error.expected, error.found) == ("tampered.text", "b'a'", "1")
    assert error.hint is None


def test_fields_that_are_not_given_are_none() -> None:
    error = Failed("io.missing", "no file")
    assert (error.step, error.expected, error.found) == (None, None, None)


@pytest.mark.parametrize("kind", [FwsignError, *CLASSES.values()])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_and_copying(kind: type[FwsignError], protocol: int) -> None:
    error = kind("io.missing", "no x", step=3, expected="x", found=7, hint="look for x")
    error.add_note("a note")
    pickled = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    for one in (pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(one) is kind
        assert (str(one), one.args, vars(one)) == ("no x", ("no x",), vars(error))
    assert (error.code, error.step, error.expected) == ("io.missing", 3, "x")
    assert (error.found, error.hint) == ("7", "look for x")


def test_an_error_reaches_the_parent_of_a_pool_of_processes() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        raised = pool.submit(product_name, "My Board").exception(60)
        assert pool.submit(product_name, "my-board").result(60) == "my-board"  # it is not broken
    assert type(raised) is Failed
    assert (raised.code, raised.found) == ("state.policy", "My Board")
    assert raised.message.startswith('product "My Board" is not a name of 1 to 64 of a-z')


def test_a_refusal_names_its_place_once() -> None:
    error = Malformed("malformed.cbor", "it is cut off", step=1, expected=2, found=3, hint="x")
    placed = error.about("a.suit")
    assert placed.message == "a.suit: it is cut off"
    assert placed.about("a.suit").message == placed.message
    assert (placed.code, placed.step, placed.expected, placed.found, placed.hint) == (
        *("malformed.cbor", 1, "2", "3", "x"),
    )
