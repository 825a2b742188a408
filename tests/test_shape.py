"""The shape of the code: short files, short functions, one name for one thing."""

import ast
from collections import defaultdict

import pytest

from test_layers import MODULES

LONGEST_FILE, LONGEST_FUNCTION = 350, 60
TABLES = {"errors.codes"}
"""Tables without a decision: a line for each code, twice."""
LOADED_BY_NAME = {"Simulator"}
"""Each simulated board has a class of this name, which is found by its module's name."""


@pytest.mark.parametrize("module", sorted(MODULES.keys() - TABLES))
def test_files_are_short(module: str) -> None:
    assert MODULES[module].read_text(encoding="utf-8").count("\n") <= LONGEST_FILE


@pytest.mark.parametrize("module", sorted(MODULES))
def test_functions_are_short(module: str) -> None:
    nodes = ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION} == {}


def test_a_class_of_a_name_exists_once() -> None:
    places = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert len(places) > 100
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert twice.keys() == LOADED_BY_NAME
