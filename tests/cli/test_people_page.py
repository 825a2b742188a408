"""docs/people.md, followed literally: each command, and the policy as the page writes it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fwsign.pki.directory import Pki
from people_kit import key_of

PAGE = Path(__file__).parents[2] / "docs" / "people.md"
_STEP = re.compile(r"```(console|toml)\n(.*?)```", re.DOTALL)
_REFUSAL = re.compile(r"```\n(fwsign: error: .*?)\n```")
pytestmark = [
    pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs"),
    pytest.mark.skipif(os.name != "posix", reason="the page is for a POSIX shell"),
]


def test_the_page_about_several_people(tmp_path: Path) -> None:
    place, commands, said = tmp_path, 0, ""
    text = PAGE.read_text(encoding="utf-8")
    for kind, content in _STEP.findall(text):
        if kind == "toml":
            digest = key_of(Pki(place / "pki").certificate("issuing"))
            with (place / "fwsign.toml").open("a", encoding="utf-8") as file:
                file.write(content.replace("KEY SHA256 OF ISSUING", digest))
            continue
        for line in re.findall(r"^\$ (.*)$", content, re.MULTILINE):
            commands += 1
            if line.startswith("cd "):
                place /= line[3:]
                continue
            new = re.search(r"fwsign (init|pki issue)", line) is not None
            program = f"{sys.executable} -m fwsign"
            typed = re.sub(r"\bfwsign (?=[a-z])", f"{program} ", line, count=1)
            done = subprocess.run(
                ["bash", "-c", typed + (" --no-passphrase" if new else "")],
                cwd=place,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            said += done.stderr
    assert commands == 21
    (refusal,) = _REFUSAL.findall(text)
    assert refusal in said
