"""What docs/keys.md says of services and agents is true: its commands run, its options exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from bao_kit import running, without_steering
from cli.kit import MAIN, environment, program
from fwsign.keys import transit_login
from fwsign.keys.exchange import MAX_ANSWER, TOTAL_SECONDS
from keys.agent_kit import RunningAgent
from keys.transit_kit import READ, SIGN
from support import PAYLOAD

PAGE = (Path(__file__).parent.parent.parent / "docs" / "keys.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def run_block(title: str, directory: Path, **more: str) -> None:
    """Run the commands of a section in a directory with a new PKI."""
    block = re.search(r"```console\n(.*?)```", section(title), re.DOTALL)
    assert block is not None
    commands = [line.removeprefix("$ ") for line in block[1].splitlines()]
    assert len(commands) == 5
    (directory / "build.bin").write_bytes(PAYLOAD)
    about = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")
    assert program("init", ".", *about, cwd=directory).returncode == 0
    fwsign = shlex.join([sys.executable, "-c", MAIN])
    script = ["set -eu", f'fwsign() {{ {fwsign} "$@"; }}', *commands]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=directory,
        env={**environment(), **without_steering(), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout


def test_the_commands_with_openbao_run(tmp_path: Path) -> None:
    (tmp_path / "bao").mkdir()
    (tmp_path / "work").mkdir()
    with running(tmp_path / "bao") as own:
        assert own.api("DELETE", "sys/mounts/transit").status == 204
        folder = str(Path(own.program).parent)
        path = f"{folder}:{environment()['PATH']}"
        run_block("OpenBao and Vault", tmp_path / "work", **own.environment(), PATH=path)


def test_the_commands_with_an_agent_run(tmp_path: Path) -> None:
    agent = RunningAgent()
    try:
        run_block("ssh-agent", tmp_path, SSH_AUTH_SOCK=str(agent.socket))
    finally:
        agent.stop()


def test_the_page_has_every_option_and_variable() -> None:
    text = section("OpenBao and Vault")
    for option in (*transit_login.OPTIONS, "mount", "version"):
        assert f"`{option}`" in text, option
    for name in ("ADDR", "CACERT", "NAMESPACE", "TOKEN"):
        assert f"`BAO_{name}`, `VAULT_{name}`" in text
    assert f"after {TOTAL_SECONDS} seconds or {MAX_ANSWER >> 20} MiB" in text
    for option in ("region", "profile", "endpoint"):
        assert f"`{option}`" in section("AWS KMS")


def test_the_rules_of_the_page_are_those_that_are_enough() -> None:
    """Those that `test_two_rules_of_a_policy_are_enough` tries."""
    for rule in (READ, SIGN):
        assert f"    {rule.format('release')}" in section("OpenBao and Vault")
