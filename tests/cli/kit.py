"""Running fwsign in tests: in this process, and as a program."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from fwsign.cli import app

REPOSITORY = Path(__file__).parent.parent.parent
EXAMPLE = REPOSITORY / "keys.example"
SAMPLES = REPOSITORY / "firmware-samples"
MAIN = "from fwsign.cli import main; main()"


class Result(NamedTuple):
    """A transcript: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The errors and hints, without their prefix."""
        lines = self.err.splitlines()
        return [
            line.removeprefix("fwsign: ")
            for line in lines
            if ": error:" in line or ": hint:" in line
        ]


def run(*arguments: object, env: Mapping[str, str] | None = None, stdin: str = "") -> Result:
    """Run a command line in this process."""
    found = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin, env=env)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Result(found.exit_code, found.stdout, found.stderr)


def good(*arguments: object, **more: Any) -> str:
    """Run a command line that has to succeed; return its standard output."""
    found = run(*arguments, **more)
    assert found.status == 0, found
    return found.out


def refused(found: Result, status: int, error: str, hint: str | None = None) -> None:
    """Assert that a run ended with one error, a hint or none, and nothing on standard output."""
    hints = [f"hint: {hint}"] if hint else []
    assert (found.status, found.errors) == (status, [f"error: {error}", *hints])
    assert found.out == ""


def tree(directory: Path) -> dict[str, bytes | None]:
    """Return every path below a directory with its content; the lock file means nothing."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
        if path.name != ".lock"
    }


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a program: this one's, without what steers fwsign."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FWSIGN_")}
    return {**kept, **more}


def program(
    *arguments: object, env: Mapping[str, str] | None = None, **more: Any
) -> "subprocess.CompletedProcess[str]":
    """Run fwsign as a program of its own."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "timeout": 60}
    if "stdout" not in more:
        options |= {"capture_output": True}
    return subprocess.run(
        command(arguments),
        check=False,
        env=environment(**(env or {})),
        text=True,
        **{**options, **more},
    )


def command(arguments: Sequence[object]) -> list[str]:
    """Return the argument vector of the program."""
    return [sys.executable, "-c", MAIN, *map(str, arguments)]
