"""docs/cli.md and the help pages say the same.

After a change of the help, WRITE_DOCS=1 in the environment writes them anew.
"""

import os
import re
from pathlib import Path

import pytest

from cli.kit import REPOSITORY, good, run

PAGE = REPOSITORY / "docs" / "cli.md"
_HELP = re.compile(r"<!-- help: fwsign ?([a-z -]*?) ?-->\n(?:\n```text\n.*?```\n)?", re.DOTALL)
COMMANDS = [
    "",
    "init",
    "sign",
    "cosign",
    "digest",
    "attach",
    "verify",
    "flash",
    "ports",
    "board",
    "device",
    "device init",
    "device status",
    "device trial",
    "device confirm",
    "device rollback",
    "device hold",
    "device release",
    "device units",
    "device reset",
    "install",
    "follow",
    "watch",
    "hint",
    "publish",
    "channel",
    "channel make",
    "channel show",
    "channel verify",
    "rollout",
    "rollout simulate",
    "permit",
    "permit make",
    "permit show",
    "adapter",
    "adapter rauc",
    "adapter mender",
    "trust",
    "trust make",
    "trust sign",
    "trust show",
    "trust rehearse",
    "trust apply",
    "receipts",
    "receipts show",
    "receipts verify",
    "receipts export",
    "receipts prune",
    "report",
    "collect",
    "fleet",
    "fleet answer",
    "fleet page",
    "fleet status",
    "fleet devices",
    "fleet device",
    "show",
    "staple",
    "rewrap",
    "pki",
    "pki init",
    "pki issue",
    "pki issue signer",
    "pki issue encryption",
    "pki issue channel",
    "pki issue tsa",
    "pki issue server",
    "pki issue client",
    "pki issue idevid",
    "pki renew",
    "pki revoke",
    "pki crl",
    "pki expire",
    "pki serve",
    "pki invite",
    "pki requests",
    "pki approve",
    "pki deny",
    "pki csr",
    "pki sign-ca",
    "pki accept",
    "pki standby",
    "pki rotate",
    "pki show",
    "pki key",
    "pki lint",
    "pki verify",
    "pki import",
    "pki export",
    "pki export bundle",
    "pki export chain",
    "pki export easyrsa",
    "log",
    "log show",
    "log verify",
    "log head",
    "key",
    "key new",
    "key show",
    "key convert",
    "key passwd",
    "completion",
    "version",
    "help",
]

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs")


def help_of(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "82")  # pages of 80 columns
    page = good(*command.split(), "--help")
    return f"<!-- help: {' '.join(['fwsign', *command.split()])} -->\n\n```text\n{page}```\n"


def test_every_help_page_is_in_the_docs_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    wanted = _HELP.sub(lambda found: help_of(found[1], monkeypatch), text)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert [found[1] for found in _HELP.finditer(text)] == COMMANDS
    assert wanted == text


def test_the_happy_path_is_in_the_docs() -> None:
    assert f"```text\n{run().out}```" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_explains_every_argument_and_option(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = help_of(command, monkeypatch)
    options = page.partition("Options:\n")[2].partition("\n\n")[0]
    arguments = page.partition("Arguments:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^  (\S.*(?:\n {3,}.*)*)", f"{arguments}\n{options}", re.MULTILINE)
    assert entries
    for entry in entries:
        words = re.split(r"\s{2,}", entry, maxsplit=1)
        assert len(words) == 2, entry
        assert re.search(r"\.(\s+\[.*\])?$", words[1], re.DOTALL), entry
    if command not in {
        "",
        "device",
        "channel",
        "rollout",
        "permit",
        "adapter",
        "trust",
        "receipts",
        "fleet",
        "pki",
        "log",
        "pki issue",
        "pki export",
        "key",
    }:
        assert "\n  Examples:\n    fwsign " in page
    short = page.partition("Commands:\n")[2]
    assert "..." not in short


def test_the_examples_of_the_help_pages_are_command_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del tmp_path
    for command in COMMANDS:
        page = help_of(command, monkeypatch).replace("\\\n        ", "")
        for line in re.findall(r"^    fwsign (.*)$", page, re.MULTILINE):
            found = run(*line.split())
            assert "no such option" not in found.err, line
            assert "missing" not in found.err, line
            assert found.status != 70, line
