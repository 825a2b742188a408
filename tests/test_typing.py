"""mypy proves that only a verified release is installed; tests/typing says what it refuses."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import absent

CASES = Path(__file__).parent / "typing"
ROOT = Path(__file__).parents[1]
EXPECTED = re.compile(r"# error: ([a-z-]+)")
FOUND = re.compile(r"case\.py:(\d+): error: .* \[([a-z-]+)\]")


def errors(case: str, folder: Path) -> set[tuple[int, str]]:
    """Return line and code of each error that mypy finds in a case."""
    if importlib.util.find_spec("mypy") is None:
        absent("mypy is not installed")
    file = folder / "case.py"
    file.write_text((CASES / f"{case}.txt").read_text(encoding="utf-8"), encoding="utf-8")
    config = str(ROOT / "pyproject.toml")
    command = [sys.executable, "-m", "mypy", "--config-file", config, str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr + run.stdout
    lines = run.stdout.splitlines()
    others = [line for line in lines if ": error: " in line and not FOUND.search(line)]
    assert others == []
    return {(int(match[1]), match[2]) for match in map(FOUND.search, lines) if match}


def test_what_mypy_must_refuse(tmp_path: Path) -> None:
    lines = (CASES / "refused.txt").read_text(encoding="utf-8").splitlines()
    expected = {
        (number, match[1])
        for number, line in enumerate(lines, 1)
        if (match := EXPECTED.search(line))
    }
    assert len(expected) > 15
    assert errors("refused", tmp_path) == expected


def test_what_mypy_must_accept(tmp_path: Path) -> None:
    assert errors("accepted", tmp_path) == set()


@pytest.mark.parametrize("case", ["refused", "accepted"])
def test_cases_are_python(case: str) -> None:
    compile((CASES / f"{case}.txt").read_text(encoding="utf-8"), case, "exec")
