"""Run the steps of a composite action, and a wheel of this source, as a CI would."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import fwsign
from fwsign import __version__

_EXPRESSION = re.compile(r"\$\{\{ *([a-z_.-]+) *\}\}")
_CONDITION = re.compile(r"([a-z_.-]+) != ''")


def yaml(text: str) -> Any:
    """Parse YAML."""
    return import_module("yaml").safe_load(text)


def wheel(directory: Path) -> Path:
    """Write a wheel of this source; nothing is fetched to build it."""
    info = f"fwsign-{__version__}.dist-info"
    source = Path(fwsign.__file__).parent
    files = {
        f"fwsign/{path.relative_to(source).as_posix()}": path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: fwsign\nVersion: {__version__}\n".encode()
    )
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nfwsign = fwsign.__main__:main\n"
    record = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    target = directory / f"fwsign-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return target


def environment(home: Path, temporary: Path) -> dict[str, str]:
    """Return the environment of a job: pip takes the wheel, all it needs is there already."""
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "COVERAGE_PROCESS_START")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(home),
        "RUNNER_TEMP": str(temporary),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }


class Job:
    """Runs composite actions as GitHub does, as far as ours need it.

    Args:
        directory: where the repository is.
        temporary: a directory for the job alone.
    """

    def __init__(self, directory: Path, temporary: Path) -> None:
        self.directory, self.temporary = directory, temporary
        self.uploads: list[tuple[str, list[str]]] = []
        self.log = ""

    def use(
        self,
        action: Mapping[str, Any],
        inputs: Mapping[str, str],
        *,
        env: Mapping[str, str] = {},
        without: tuple[str, ...] = (),
    ) -> int:
        """Run the steps of an action; return the status of the first that fails, else 0.

        Args:
            action: action.yml, parsed.
            inputs: what `with` says.
            env: what `env` of the calling step says.
            without: names of steps that are left out.
        """
        known = {name: one.get("default") for name, one in action["inputs"].items()}
        assert inputs.keys() <= known.keys()
        missing = {name for name, one in action["inputs"].items() if one.get("required")}
        assert missing <= inputs.keys()
        values = {f"inputs.{name}": value for name, value in {**known, **inputs}.items()}
        for step in action["runs"]["steps"]:
            if step["name"] in without or not _applies(step, values):
                continue
            if "uses" in step:
                given = {name: _filled(one, values) for name, one in step["with"].items()}
                self.uploads.append((given["name"], given["path"].splitlines()))
                continue
            status, outputs = self._run(step, values, env)
            if status:
                return status
            values |= {f"steps.{step.get('id')}.outputs.{name}": one for name, one in outputs}
        self.outputs = {
            name: _filled(one["value"], values) for name, one in action["outputs"].items()
        }
        return 0

    def _run(
        self, step: Mapping[str, Any], values: Mapping[str, str], env: Mapping[str, str]
    ) -> tuple[int, list[tuple[str, str]]]:
        output = self.temporary / "output"
        output.write_text("")
        own = {name: _filled(one, values) for name, one in step.get("env", {}).items()}
        found = subprocess.run(
            # `shell: bash` means these options.
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            check=False,
            cwd=self.directory,
            env={
                **environment(self.temporary, self.temporary),
                **env,
                **own,
                "GITHUB_OUTPUT": str(output),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log += found.stdout
        return found.returncode, _outputs(output.read_text())


def _applies(step: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    if "if" not in step:
        return True
    found = _CONDITION.fullmatch(step["if"])
    assert found is not None, step["if"]
    return values[found[1]] != ""


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: values.get(found[1], ""), text)


def _outputs(text: str) -> list[tuple[str, str]]:
    """Read what a step wrote: `name=value`, or a value between two lines."""
    lines = text.splitlines()
    found = []
    while lines:
        line = lines.pop(0)
        name, mark, end = line.partition("<<")
        if mark:
            stop = lines.index(end)
            found.append((name, "\n".join(lines[:stop])))
            lines = lines[stop + 1 :]
        else:
            name, _, value = line.partition("=")
            found.append((name, value))
    return found
