"""mypy proves that only a verified release is installed; tests/typing says what it refuses."""

import importlib.util
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support import absent

CASES = Path(__file__).parent / "typing"
ROOT = Path(__file__).parents[1]
EXPECTED = re.compile(r"# error: ([a-z-]+)")
FOUND = re.compile(r"case\.py:(\d+): error: .* \[([a-z-]+)\]")


def source(case: str) -> str:
    """Return the program of a case."""
    return (CASES / f"{case}.txt").read_text(encoding="utf-8")


def errors(program: str, folder: Path) -> set[tuple[int, str]]:
    """Return line and code of each error that mypy finds in a program."""
    if importlib.util.find_spec("mypy") is None:
        absent("mypy is not installed")
    file = folder / "case.py"
    file.write_text(program, encoding="utf-8")
    config = str(ROOT / "pyproject.toml")
    command = [sys.executable, "-m", "mypy", "--config-file", config, str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr + run.stdout
    lines = run.stdout.splitlines()
    others = [line for line in lines if ": error: " in line and not FOUND.search(line)]
    assert others == []
    return {(int(match[1]), match[2]) for match in map(FOUND.search, lines) if match}


def test_what_mypy_must_refuse(tmp_path: Path) -> None:
    lines = source("refused").splitlines()
    expected = {
        (number, match[1])
        for number, line in enumerate(lines, 1)
        if (match := EXPECTED.search(line))
    }
    assert len(expected) > 15
    assert errors(source("refused"), tmp_path) == expected


def test_what_mypy_must_accept(tmp_path: Path) -> None:
    assert errors(source("accepted"), tmp_path) == set()


def test_what_the_library_page_shows(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(examples) > 5
    functions = [
        f"def example_{number}() -> None:\n{textwrap.indent(example, '    ')}"
        for number, example in enumerate(examples)
    ]
    assert errors("\n\n".join(functions), tmp_path) == set()


def test_names_that_are_not_public_are_not_seen(tmp_path: Path) -> None:
    program = "from fwsign.pki import Pki, nobody\nfrom fwsign.flash import attached, nothing\n"
    assert errors(program, tmp_path) == {(1, "attr-defined"), (2, "attr-defined")}


@pytest.mark.parametrize("case", ["refused", "accepted"])
def test_cases_are_python(case: str) -> None:
    compile(source(case), case, "exec")
