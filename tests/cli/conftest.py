"""Projects with a PKI each, and a clock that stands still."""

import os
import shutil
from pathlib import Path

import pytest

from cli.kit import good
from fwsign.cli import inputs
from fwsign.keys import pbes2
from support import NOW, PAYLOAD

_CLOCK = inputs.now
_INIT = ("--org", "Acme", "--vendor", "acme.example", "--product", "gateway-x1", "--no-passphrase")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay in a directory of one's own; nothing outside steers what happens."""
    for key in [*os.environ]:
        if key.startswith("FWSIGN_") or key in {"SOURCE_DATE_EPOCH", "NO_COLOR", "COLUMNS"}:
            monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "now", lambda: NOW)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases cost next to nothing, for tests that are not about their cost."""
    for name, value in (("SCRYPT_N", 1 << 10), ("SCRYPT_P", 1), ("PBKDF2_ITERATIONS", 1000)):
        monkeypatch.setattr(pbes2, name, value)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the time at which the clock stands."""
    directory = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "now", lambda: NOW)
        good("init", directory, *_INIT)
    (directory / "build.bin").write_bytes(PAYLOAD)
    return directory


@pytest.fixture(scope="session")
def _today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of today, for programs: the clock of another process does not stand still."""
    directory = tmp_path_factory.mktemp("today")
    good("init", directory, *_INIT)
    (directory / "build.bin").write_bytes(PAYLOAD)
    return directory


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A project for this test alone, and the current directory: pki, fwsign.toml, build.bin."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def today(_today: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `project`, but made by the real clock, which goes on."""
    monkeypatch.setattr(inputs, "now", _CLOCK)
    shutil.copytree(_today, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def signed(project: Path) -> Path:
    """A project whose build.bin is signed: build.bin.suit is beside it."""
    good("sign", "build.bin")
    return project
