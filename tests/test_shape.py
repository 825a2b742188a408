"""The shape of the code: short files, short functions, one name for one thing."""

import ast
from collections import defaultdict

from test_layers import MODULES, tree

LONGEST_FILE, LONGEST_FUNCTION = 350, 60
TABLES = {"errors.codes"}
"""Tables without a decision: a line for each code, twice."""
LOADED_BY_NAME = {"Simulator"}
"""Each simulated board has a class of this name, which is found by its module's name."""


def test_files_are_short() -> None:
    texts = {module: MODULES[module].read_text(encoding="utf-8") for module in MODULES}
    sizes = {module: text.count("\n") for module, text in texts.items()}
    assert {one for one, size in sizes.items() if size > LONGEST_FILE} == TABLES


def test_functions_are_short() -> None:
    sizes = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION} == {}


def test_a_class_of_a_name_exists_once() -> None:
    places = defaultdict(list)
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert len(places) > 100
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert twice.keys() == LOADED_BY_NAME
