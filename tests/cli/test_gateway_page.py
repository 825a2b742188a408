"""docs/gateway.md, followed literally: its commands as printed, in order, in a scratch root."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.kit import good, run
from fwsign.cli import inputs
from fwsign.gateway.config import device as config
from gateway.server import serving
from support import require_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")

PAGE = Path(__file__).parent.parent.parent / "docs/gateway.md"
TOP, TRIAL, LIVING, RECEIPTS = (
    *("# Gateways", "## Trial", "## Living on a gateway", "## Receipts"),
)
SECTIONS = (TOP, TRIAL, LIVING, RECEIPTS)
PLACES = (
    *("/etc/fwsign", "/etc/systemd/system", "/srv/gateway", "/usr/local/sbin"),
    "/var/lib/fwsign",
)
ADDRESS = "https://updates.acme.example"
CHECK = "usr/local/sbin/check-app"


class Step(NamedTuple):
    """A command of the page with the output that the page prints, or lines for device.toml."""

    command: str | None
    text: str


def steps(title: str) -> Iterator[Step]:
    """Yield what a section says one shall do, in its order."""
    page = PAGE.read_text(encoding="utf-8")
    level = title.partition(" ")[0]
    body = re.split(rf"^{re.escape(title)}$", page, flags=re.MULTILINE)[1]
    body = re.split(rf"^{level}#? ", body, flags=re.MULTILINE)[0]
    for kind, content in re.findall(r"^```(\w+)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL):
        if kind == "toml":
            yield Step(None, content)
            continue
        for one in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
            command, _, output = one.partition("\n")
            yield Step(command, output)


def shape(text: str) -> str:
    """Return a text without what differs from day to day."""
    text = re.sub(r"\b[0-9a-f]{16,}\b", "HEX", text)
    text = re.sub(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC", "TIME", text)
    return re.sub(r"(sequence|release) \d+", r"\1 N", text)


class Scratch:
    """The machine of the page, below a directory."""

    def __init__(self, root: Path, address: str) -> None:
        self.root, self.address = root, address

    def here(self, text: str) -> str:
        """Put the places of the page below the root."""
        for place in PLACES:
            text = text.replace(place, f"{self.root}{place}")
        return text.replace(ADDRESS, self.address)

    def there(self, text: str) -> str:
        """Put them back."""
        return text.replace(str(self.root), "").replace(self.address, ADDRESS)

    def follow(self, step: Step) -> str:
        """Do a step; return what it printed."""
        if step.command is None:
            configure(self, step.text)
            return ""
        words = shlex.split(self.here(step.command))
        if words[0] == "fwsign":
            found = run(*words[1:])
            refused = "fwsign: error:" in step.text
            assert (found.status != 0) is refused, (step.command, found.err)
            return self.there(found.err if refused else found.out)
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return self.there(done.stdout)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    """A vendor with a PKI and a release, its server, and an empty machine."""
    root, vendor = tmp_path / "root", tmp_path / "vendor"
    for folder in (root / "etc", root / "var/lib", vendor / "published"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(vendor)
    monkeypatch.setattr(inputs, "now", lambda: datetime.now(UTC))
    monkeypatch.setattr(config, "DEFAULT_CONFIG", root / "etc/fwsign/device.toml")
    monkeypatch.setattr(config, "DEFAULT_STATE", root / "var/lib/fwsign/state.db")
    monkeypatch.delenv("FWSIGN_DEVICE", raising=False)
    good("init", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    good("pki", "standby", "--no-passphrase")
    for name in ("ca.crt", "standby.crt"):
        Path(name).write_bytes(Path("pki", name).read_bytes())
    Path("app.tar").write_bytes(b"application" * 933)
    older = int(datetime.now(UTC).timestamp()) - 1000
    words = ("--product", "gateway-x1", "--version", "2.4.0", "--sequence", older)
    good("sign", "app.tar", *words, "-o", "published/update.suit")
    with serving(tmp_path) as server:

        def give(handler: Any) -> None:
            name = handler.path.rpartition("/")[2]
            path = vendor / name if (vendor / name).exists() else vendor / "published" / name
            data = path.read_bytes()
            tag = f'"{len(data)}-{path.stat().st_mtime_ns}"'
            if handler.headers.get("If-None-Match") == tag:
                handler.head(304, {"ETag": tag})
                return
            handler.head(200, {"ETag": tag, "Content-Length": str(len(data))})
            handler.wfile.write(data)

        server.answers.update({"/x1/update.suit": give, "/x1/app.tar": give})
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
        yield Scratch(root, server.url("").rstrip("/"))


def configure(scratch: Scratch, text: str) -> None:
    """Add lines to device.toml."""
    path = scratch.root / "etc/fwsign/device.toml"
    path.write_text(f"{path.read_text()}\n{scratch.here(text)}\n")


def kept_release(scratch: Scratch) -> None:
    """Give the section on trials its health command: what is in place works."""
    check = scratch.root / CHECK
    check.parent.mkdir(parents=True)
    check.write_text("#!/bin/sh\nexit 0\n")
    check.chmod(0o755)


def broken_release(scratch: Scratch) -> None:
    """Give the section on trials the release that fails."""
    number = int(datetime.now(UTC).timestamp()) - 500
    words = ("--product", "gateway-x1", "--version", "2.5.0", "--sequence", number)
    good("sign", "app.tar", *words, "-o", "update.suit")
    (scratch.root / CHECK).write_text("#!/bin/sh\necho no answer from the pump; exit 1\n")


def mended_release(scratch: Scratch) -> None:
    """Let the next release work."""
    (scratch.root / CHECK).write_text("#!/bin/sh\nexit 0\n")
    Path("update.suit").unlink()


BEFORE = {
    '[trial]\nhealth = ["/usr/local/sbin/check-app"]\n': kept_release,
    "fwsign install update.suit": broken_release,
    "fwsign sign": mended_release,
}
"""What the reader does before a step, by how that begins."""


def test_the_page_is_followed_literally(scratch: Scratch) -> None:
    done: list[str] = []
    for step in (one for title in SECTIONS for one in steps(title)):
        for begins, prepare in BEFORE.items():
            if (step.command or step.text).startswith(begins):
                prepare(scratch)
        printed = scratch.follow(step)
        if step.command is None:
            continue
        done.append(step.command)
        assert not step.text.strip() or shape(printed) == shape(step.text), step.command
        if step.command.startswith("fwsign device init"):  # the servers of the page are known
            configure(scratch, f'[fetch]\nca = "{os.environ["SSL_CERT_FILE"]}"')
    assert done == re.findall(r"^\$ (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    current = scratch.root / "srv/gateway/current/app.tar"
    assert current.read_bytes() == Path("app.tar").read_bytes()


def test_the_units_of_the_page_are_taken_by_systemd(scratch: Scratch) -> None:
    analyze = require_program("systemd-analyze")
    needed = ("mkdir", "fwsign device init", "fwsign device units")
    for step in (one for title in SECTIONS for one in steps(title)):
        if (step.command or "mkdir").startswith(needed):
            scratch.follow(step)
    units = sorted(map(str, (scratch.root / "etc/systemd/system").iterdir()))
    assert len(units) == 4
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
