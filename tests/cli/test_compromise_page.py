"""docs/compromise.md, followed literally, with a device that sees what was signed."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cli.kit import REPOSITORY, good, run

PAGE = REPOSITORY / "docs/compromise.md"
_SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {
    found[1]: re.findall(r"^\$ fwsign (.*)$", found[2], re.MULTILINE)
    for found in (_SECTION.finditer(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else ())
}
NEW_KEYS = ("--new-key", "pki rotate", "pki standby")

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs")


@pytest.fixture
def device(project: Path) -> Path:
    """A project whose PKI has a standby, and a device that knows both roots."""
    good("pki", "standby", "--no-passphrase")
    anchors = ("--anchor", "pki/ca.crt", "--anchor", "pki/standby.crt")
    names = ("--vendor", "acme.example", "--product", "gateway-x1")
    places = ("--config", "device.toml", "--state", "state.db", "--target-dir", project / "target")
    (project / "target").mkdir()
    good("device", "init", *names, *anchors, *places)
    good("sign", "build.bin", "--sequence", "1")
    shutil.copy("build.bin.suit", "old.suit")
    return project


def follow(section: str) -> None:
    commands = SECTIONS[section]
    assert commands
    for command in commands:
        more = ["--no-passphrase"] if any(one in command for one in NEW_KEYS) else []
        good(*shlex.split(command), *more)


def test_the_page_fits_on_a_screen() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 72
    assert list(SECTIONS) == [
        "A signer",
        "The issuing CA",
        "The root",
        "A chip's key",
        "Afterwards",
    ]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    ("section", "code"),
    [
        ("A signer", "untrusted.revoked"),
        ("The issuing CA", "untrusted.revoked"),
        ("The root", "untrusted.no-anchor"),
    ],
)
def test_the_new_release_is_installed_and_the_old_one_refused(section: str, code: str) -> None:
    install = ("install", "--config", "device.toml", "--json")
    follow(section)
    assert json.loads(good(*install, "build.bin.suit"))["verdict"] == "installed"
    found = run(*install, "old.suit")
    assert (found.status, json.loads(found.out)["code"]) == (1, code)
    follow("Afterwards")
    assert good("pki", "expire") == ""
