"""The map in docs/design.md: its picture agrees with the imports, and names what exists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from test_layers import FLOOR, MODULES, own, package_of

ROOT = Path(__file__).parent.parent
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PICTURE = (ROOT / "docs" / "map.svg").read_text(encoding="utf-8")
BOXES = set(re.findall(r"<text [^>]*>([a-z0-9_.]+)</text>", PICTURE))
ARROWS = set(re.findall(r'<path id="([\w.]+)--([\w.]+)"', PICTURE))


def box_of(module: str) -> str | None:
    """Return the box of a module: of its package, or of what that lies in; None for a tool."""
    package = package_of(module)
    return next((one for one in (package, package.partition(".")[0]) if one in BOXES), None)


def imported() -> set[tuple[str, str]]:
    """Return what each box imports, read from the source without the program that draws."""
    pairs = {
        (box_of(module), box_of(one)) for module in MODULES for one in own(module) & MODULES.keys()
    }
    return {(a, b) for a, b in pairs if a and b and a != b}


def implied() -> set[tuple[str, str]]:
    """Return the arrows, and those that follow from them."""
    found = set(ARROWS)
    while more := {(a, d) for a, b in found for c, d in ARROWS if b == c} - found:
        found |= more
    return found


def test_the_picture_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "draw-map"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_arrow_is_an_import_and_each_import_follows_from_arrows() -> None:
    found = imported()
    assert len(ARROWS) > 15
    assert found >= ARROWS
    assert implied() >= found


def test_each_package_has_a_box() -> None:
    tools = {one for one in FLOOR if "." not in one} - BOXES
    drawn = re.search(r"for all: ([\w, ]+)", PICTURE)
    assert drawn
    assert tools - {"__main__"} == set(drawn[1].split(", "))


def test_the_page_shows_the_picture() -> None:
    assert "(map.svg)" in DESIGN


def names_of(module: str) -> set[str]:
    """Return what a module defines, with the members of its classes as `Class.member`."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            inside = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{one.name}" for one in inside if hasattr(one, "name")}
    return found


def exists(name: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in MODULES:
            return length == len(parts) or ".".join(parts[length:]) in names_of(module)
    return False


TITLES = r"^## (?:Four journeys|Where do I change X\?)\n.*?(?=^## )"
SECTIONS = re.findall(TITLES, DESIGN, re.MULTILINE | re.DOTALL)
NAMED = sorted(
    {
        name
        for section in SECTIONS
        for name in re.findall(r"`([a-z0-9_]+(?:\.\w+)+|[a-z0-9]+)`", section)
        if name.partition(".")[0] in FLOOR
    }
)


def test_the_journeys_name_many_functions() -> None:
    assert len(SECTIONS) == 2
    assert len(NAMED) > 50


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_exists(name: str) -> None:
    assert exists(name)


def test_what_does_not_exist_is_found_out() -> None:
    assert exists("verify.verifier.Verifier.verify")
    assert not exists("verify.verifier.Verifier.judge")
    assert not exists("verify.nothing")
