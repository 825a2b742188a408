"""docs/library.md, the public names of the packages, and their docstrings say the same.

After a change, WRITE_DOCS=1 in the environment writes the page anew. The examples run.
"""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "library.md"
FACES = (
    "pki",
    "pki.lint",
    "signing",
    "verify",
    "gateway",
    "gateway.install",
    "gateway.trial.ends",
    "flash",
    "errors",
)
"""In the order in which a release goes through them."""
LAZY = ("pki", "pki.lint", "signing", "gateway", "flash")
Function = ast.FunctionDef
QUOTES = "'"


def public(face: str) -> list[str]:
    """Return the names that a package exports."""
    names: list[str] = importlib.import_module(f"fwsign.{face}").__all__
    return names


def documented(face: str) -> str:
    """Return the docstring of a package."""
    return inspect.cleandoc(importlib.import_module(f"fwsign.{face}").__doc__ or "")


def example_of(face: str) -> str | None:
    """Return the program in a package's docstring."""
    found = re.findall(r"^```python\n(.*?)^```$", documented(face), re.DOTALL | re.MULTILINE)
    assert len(found) <= 1
    return found[0] if found else None


EXAMPLES = [face for face in FACES if example_of(face)]


# --- from the source ------------------------------------------------------------------------


class Defined(NamedTuple):
    """A name, the statement that defines it, and its docstring."""

    name: str
    node: ast.stmt
    text: str

    @property
    def sentence(self) -> str:
        """The first paragraph, on one line."""
        return " ".join(self.text.partition("\n\n")[0].split())


def defined(face: str, name: str) -> Defined:
    """Find the definition of a public name, wherever it is imported from."""
    module = origin(f"fwsign.{face}", name)
    body = [one for one in statements(module) if not isinstance(one, ast.If)]
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return Defined(name, node, ast.get_docstring(node) or "")
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == name:
            said = following.value if isinstance(following, ast.Expr) else None
            if isinstance(said, ast.Constant):  # else it is defined again, for type checkers
                return Defined(name, node, inspect.cleandoc(str(said.value)))
    raise AssertionError(f"fwsign.{face} exports {name}, which {module} does not define")


def origin(module: str, name: str) -> str:
    """Follow a name through imports to the module that defines it."""
    for node in statements(module):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return origin(str(node.module), name)
    return module


@cache
def tree(module: str) -> ast.Module:
    """Parse a module."""
    path = Path(str(importlib.import_module(module).__file__))
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(module: str) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those for type checkers too."""
    for node in tree(module).body:
        yield from [*node.body, *node.orelse] if isinstance(node, ast.If) else [node]


def methods(node: ast.ClassDef) -> list[Function]:
    """Return the public methods and properties of a class."""
    functions = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    return [one for one in functions if not one.name.startswith("_")]


def decorators(node: Function) -> set[str]:
    """Return the names of a function's decorators."""
    return {ast.unparse(one) for one in node.decorator_list}


def is_tuple(node: ast.ClassDef) -> bool:
    """Tell whether a class is a named tuple."""
    return "NamedTuple" in {ast.unparse(base) for base in node.bases}


def fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    """Return the fields of a named tuple."""
    return [one for one in node.body if isinstance(one, ast.AnnAssign)] if is_tuple(node) else []


def parameters(node: Function) -> list[str]:
    """Return the names of a function's parameters, but for `self` and `cls`."""
    each = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [one.arg for one in each if one.arg not in ("self", "cls")]


# --- the page -------------------------------------------------------------------------------


def page() -> str:
    """Return the page as it should be: its own words, then what the packages say."""
    head, mark, _ = PAGE.read_text(encoding="utf-8").partition("\n## fwsign.")
    assert mark
    return "\n".join([head, *(section(face) for face in FACES)])


def section(face: str) -> str:
    """Return what the page says of a package."""
    lines = [f"## fwsign.{face}", "", documented(face), ""]
    for name in public(face):
        one = defined(face, name)
        lines.append(f"- `{line_of(one)}`: {one.sentence}")
        if isinstance(one.node, ast.ClassDef):
            for method in methods(one.node):
                said = Defined(method.name, method, ast.get_docstring(method) or "")
                lines.append(f"  - `{line_of(said)}`: {said.sentence}")
    return "\n".join([*lines, ""])


def line_of(one: Defined) -> str:
    """Return the line that shows how a name is used."""
    node = one.node
    if isinstance(node, ast.FunctionDef):
        return signature(one.name, node)
    if isinstance(node, ast.AnnAssign):
        return f"{one.name}: {ast.unparse(node.annotation)}"
    assert isinstance(node, ast.ClassDef)
    if own := fields(node):
        return f"{one.name}({', '.join(map(ast.unparse, own))})"
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    makes = [
        each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    ]
    return signature(one.name, makes[0], returns=False) if makes else f"class {one.name}{bases}"


def signature(name: str, node: Function, *, returns: bool = True) -> str:
    """Return a function's name, parameters and result; a property's name and type."""
    result = f" -> {ast.unparse(node.returns).strip(QUOTES)}" if node.returns and returns else ""
    if "property" in decorators(node):
        return f"{name}: {result.removeprefix(' -> ')}"
    arguments = ", ".join(spelt(node.args))
    if "contextlib.contextmanager" in decorators(node):
        result = result.replace("Iterator[", "AbstractContextManager[")
    return f"{name}({arguments}){result}"


def spelt(args: ast.arguments) -> Iterator[str]:
    """Yield each parameter as the source has it, but for `self` and `cls`."""
    positional = [*args.posonlyargs, *args.args]
    defaults = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    pairs = [*zip(positional, defaults, strict=True)]
    named = [*zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    for number, (one, default) in enumerate([*pairs, *named]):
        if number == len(pairs):
            yield "*"
        if one.arg not in ("self", "cls"):
            kind = f": {ast.unparse(one.annotation)}" if one.annotation else ""
            yield f"{one.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")


def test_the_page_says_what_is_exported() -> None:
    if os.environ.get("WRITE_DOCS") == "1":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "WRITE_DOCS=1 writes it anew"


def test_everything_else_is_private() -> None:
    assert "Everything else is private and may change" in PAGE.read_text(encoding="utf-8")


# --- the faces ------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_is_there(face: str) -> None:
    module = importlib.import_module(f"fwsign.{face}")
    names = public(face)
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), name))
    assert 1 <= len(names) <= 17
    for name in names:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("face", LAZY)
def test_type_checkers_see_the_same_names(face: str) -> None:
    module = importlib.import_module(f"fwsign.{face}")
    seen = {
        alias.name: str(node.module).removeprefix("fwsign.")
        for node in statements(f"fwsign.{face}")
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fwsign.")
        for alias in node.names
    }
    assert seen == module._PLACES
    assert sorted(module._PLACES) == sorted(module.__all__)


@pytest.mark.parametrize("face", LAZY)
def test_a_name_that_is_not_public_is_not_there(face: str) -> None:
    module = importlib.import_module(f"fwsign.{face}")
    with pytest.raises(AttributeError, match=f"module 'fwsign.{face}' has no attribute 'nobody'"):
        _ = module.nobody


@pytest.mark.parametrize("face", LAZY)
def test_no_public_name_is_a_module_of_its_package(face: str) -> None:
    """Such a name would change its meaning when somebody imports the module."""
    folder = Path(str(importlib.import_module(f"fwsign.{face}").__file__)).parent
    assert not {path.stem for path in folder.iterdir()} & set(public(face))


@pytest.mark.parametrize("face", LAZY)
def test_a_package_loads_none_of_its_modules(face: str) -> None:
    code = f"import sys, fwsign.{face}; print(*(one for one in sys.modules if 'fwsign' in one))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parents = {f"fwsign.{face}".rsplit(".", depth)[0] for depth in range(face.count(".") + 2)}
    assert set(run.stdout.split()) == parents


def described(face: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield functions, tuples and methods of a package: name, docstring, and parameters."""
    for name in public(face):
        one = defined(face, name)
        if isinstance(one.node, ast.FunctionDef):
            yield name, one.text, parameters(one.node)
        if isinstance(one.node, ast.ClassDef):
            names = [ast.unparse(each.target) for each in fields(one.node)]
            for each in one.node.body:
                if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                    names = parameters(each)
            yield name, one.text, names
            for method in methods(one.node):
                text = ast.get_docstring(method) or ""
                yield f"{name}.{method.name}", text, parameters(method)


@pytest.mark.parametrize("face", FACES)
def test_every_argument_is_described(face: str) -> None:
    missing = {
        name: [one for one in names if not re.search(rf"^ +{one}: ", text, re.MULTILINE)]
        for name, text, names in described(face)
        if len(names) > 1 and "Args: as `" not in text
    }
    assert {name: names for name, names in missing.items() if names} == {}
    assert all(text.strip() for _, text, _ in described(face))


@pytest.mark.parametrize("face", FACES)
def test_every_function_says_what_it_raises(face: str) -> None:
    named = (defined(face, name) for name in public(face))
    functions = [one for one in named if isinstance(one.node, ast.FunctionDef)]
    assert [one.name for one in functions if "\nRaises:\n" not in one.text] == []


# --- the examples ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory in which the examples run."""
    place = tmp_path_factory.mktemp("library")
    (place / "build.bin").write_bytes(b"firmware" * 1000)
    return place


def run_in(place: Path, code: str) -> str:
    """Run a program, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def sign_for_a_board() -> str:
    """Return the example of signing, for the firmware of a board."""
    code = example_of("signing") or ""
    firmware = ROOT / "firmware-samples" / "blink-esp32c3.bin"
    return f'import shutil\nshutil.copy({str(firmware)!r}, "board.bin")\n' + (
        code.replace("build.bin", "board.bin")
        .replace("gateway-x1", "blink")
        .replace('file_identifier("board.bin")', 'flash_identifier("esp32c3", 0x10000)')
        .replace("file_identifier,", "flash_identifier,")
    )


PRINTED: dict[str, Any] = {
    "pki": r"",
    "pki.lint": r"(note [\w.-]+ .*\n)*",
    "signing": r"",
    "verify": r"",
    "gateway": r"",
    "flash": r"sim:esp32c3 verified None\n",
    "errors": r"",
}


def test_the_examples_run(place: Path) -> None:
    if os.name != "posix":
        pytest.skip("a gateway is POSIX only")
    assert PRINTED.keys() == set(EXAMPLES)
    for face in EXAMPLES:
        if face == "flash":
            run_in(place, sign_for_a_board())
        printed = run_in(place, example_of(face) or "")
        assert re.fullmatch(PRINTED[face], printed), (face, printed)
    assert (place / "staged.bin").read_bytes() == (place / "build.bin").read_bytes()


def test_the_page_begins_with_the_updater_of_the_examples() -> None:
    program = (ROOT / "examples" / "updater.py").read_text(encoding="utf-8")
    code = program.partition('"""\n\n')[2]
    assert f"```python\n{code}```" in PAGE.read_text(encoding="utf-8")
    assert len([line for line in code.splitlines() if line]) <= 30


def test_the_readme_shows_the_same_verifier() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert shown
    imported = re.findall(r"^from fwsign\S* import .*$", shown[1], re.MULTILINE)
    assert imported == ["from fwsign.verify import Anchor, DevicePolicy, Verifier"]


@pytest.mark.parametrize("face", EXAMPLES)
def test_examples_use_public_names_alone(face: str) -> None:
    for node in ast.walk(ast.parse(example_of(face) or "")):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fwsign"):
            used = {alias.name for alias in node.names}
            assert used <= set(public(str(node.module).removeprefix("fwsign.")))
