"""docs/keys.md is true: its commands run, and its tables have what the code has."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from cli.kit import MAIN, environment, program
from fwsign.keys.pkcs11_uri import LIBRARY_ATTRIBUTES, SLOT_ATTRIBUTES, TOKEN_ATTRIBUTES
from softhsm_kit import SoftHsm
from support import PAYLOAD

PAGE = (Path(__file__).parent.parent.parent / "docs" / "keys.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run(softhsm: SoftHsm, tmp_path: Path) -> None:
    section = PAGE.partition("\n## PKCS#11\n")[2].partition("\n### ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert len(commands) == 10
    (tmp_path / "tokens").mkdir()
    settings = f"directories.tokendir = {tmp_path / 'tokens'}\n"
    (tmp_path / "softhsm2.conf").write_text(settings, encoding="utf-8")
    (tmp_path / "build.bin").write_bytes(PAYLOAD)
    own = environment(SOFTHSM2_CONF=str(tmp_path / "softhsm2.conf"))
    about = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")
    assert program("init", ".", *about, cwd=tmp_path).returncode == 0
    fwsign = shlex.join([sys.executable, "-c", MAIN])
    script = ["set -eu", f'fwsign() {{ {fwsign} "$@"; }}', *commands]
    text = "\n".join(script).replace("/usr/lib/softhsm/libsofthsm2.so", softhsm.module)
    done = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("verified") == 2
    assert "unchecked  revocation" not in done.stdout  # the CRLs travel along
    assert "271828" not in done.stdout + done.stderr


def test_the_page_has_every_attribute() -> None:
    for name in (*TOKEN_ATTRIBUTES, *SLOT_ATTRIBUTES, *LIBRARY_ATTRIBUTES, "object", "id", "type"):
        assert f"`{name}`" in PAGE
    for name in ("module-path", "module-name", "pin-source", "pin-value"):
        assert re.search(f"`[?&]?{name}`", PAGE)
