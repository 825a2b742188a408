"""docs/airgap.md, followed literally: its commands as printed, in order, on two machines."""

import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.kit import REPOSITORY, good
from fwsign.cli import inputs
from fwsign.signing.fingerprint import WORDS
from support import require_program

PAGE = REPOSITORY / "docs/airgap.md"
STICK = "/media/stick"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs")


def steps() -> list[tuple[str, str, str]]:
    """Return machine, command and output of each step of the page."""
    found = []
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        for one in re.split(r"^(?=here\$ |there\$ )", block, flags=re.MULTILINE)[1:]:
            command, _, output = one.partition("\n")
            machine, _, words = command.partition("$ ")
            found.append((machine, words, output))
    return found


def shape(text: str) -> str:
    """Return a text without what differs from one key to the next."""
    text = re.sub(rf"\b({'|'.join(WORDS)})\b *", "WORD ", text)
    text = re.sub(r"\b[0-9a-f]{4}(?: [0-9a-f]{4}){7}", "DIGITS", text)
    return re.sub(r"until \d{4}-\d{2}-\d{2}", "until DAY", text)


def do(words: list[str]) -> str:
    """Run a command; return its standard output."""
    if words[0] == "fwsign":
        to = words[-1] if ">" in words else None
        out = good(*(words[1:-2] if to else words[1:]))
        if to is None:
            return out
        Path(to).write_text(out)
        return ""
    require_program(words[0])
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_page_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "now", lambda: datetime.now(UTC))
    for name in ("here", "there", "stick"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    project = ("--org", "Acme", "--vendor", "acme.example", "--product", "gateway-x1")
    good("init", ".", *project, "--no-passphrase")
    Path("build.bin").write_bytes(bytes(5000))
    count, printed = 0, {}
    for machine, command, shown in steps():
        monkeypatch.chdir(tmp_path / machine)
        found = do(shlex.split(command.replace(STICK, str(tmp_path / "stick"))))
        printed[command] = found
        if shown:
            assert shape(found) == shape(shown), command
        count += 1
    assert count > 15
    # Both machines have made the same page, from their own files.
    here = next(one for name, one in printed.items() if name.startswith("fwsign digest build.bin"))
    there = next(one for name, one in printed.items() if name.startswith("fwsign digest --show"))
    assert [line for line in there.splitlines() if "    here   " not in line] == here.splitlines()
    # Without fwsign, the digits are those of sha256sum.
    digits = next(one for name, one in printed.items() if name.startswith("sha256sum")).split()[0]
    assert " ".join(digits[at : at + 4] for at in range(0, 32, 4)) in here


def test_the_table_names_what_digest_writes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for ending in (".tbs", ".tbs.sha256", ".tbs.sha384", ".tbs.mu"):
        assert f"`{ending}`" in text
