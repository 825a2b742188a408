"""kill -9 at any moment leaves the old state or the new one, never half of either."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from cli.kit import command, environment, program
from fwsign import native
from fwsign.format.envelope import decode_envelope
from fwsign.pki.directory import Pki
from native_kit import app, key_file
from support import stride

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")

ROUNDS = 20 // stride(3)
NAMES = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")


def killed(arguments: tuple[str, ...], cwd: Path, after: float) -> None:
    """Run fwsign, and kill it after some seconds unless it has ended."""
    process = subprocess.Popen(
        command(arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after)
    process.kill()
    process.wait()


def length(arguments: tuple[str, ...], cwd: Path) -> float:
    """Return how long a run takes, in seconds."""
    start = time.monotonic()
    assert program(*arguments, cwd=cwd).returncode == 0
    return time.monotonic() - start


def test_of_sign(today: Path) -> None:
    sign = ("sign", "build.bin", "--force", "--sequence")
    whole = length((*sign, "1"), today)
    envelope = today / "build.bin.suit"
    states = {envelope.read_bytes()}
    rng = random.Random(1)  # moments, not secrets
    for number in range(2, 2 + ROUNDS):
        before = envelope.read_bytes()
        killed((*sign, str(number)), today, whole * rng.uniform(0.3, 1.1))
        if envelope.read_bytes() != before:
            found = program("verify", "build.bin.suit", "--min-sequence", number, cwd=today)
            assert found.returncode == 0, found
            states.add(envelope.read_bytes())
    visible = [path.name for path in today.iterdir() if not path.name.startswith(".")]
    assert sorted(visible) == ["build.bin", "build.bin.suit", "fwsign.toml", "pki"]
    assert len(states) <= ROUNDS + 1


def test_of_cosign(today: Path) -> None:
    assert program("sign", "build.bin", cwd=today).returncode == 0
    envelope = today / "build.bin.suit"
    old = envelope.read_bytes()
    issue = ("pki", "issue", "signer", "bob", "--no-passphrase")
    assert program(*issue, cwd=today).returncode == 0
    cosign = ("cosign", "build.bin.suit", "--signer", "bob")
    whole = length(cosign, today)
    rng = random.Random(3)  # moments, not secrets
    for _ in range(ROUNDS):
        envelope.write_bytes(old)
        killed(cosign, today, whole * rng.uniform(0.3, 1.1))
        if envelope.read_bytes() != old:
            found = program("verify", "build.bin.suit", "--require", "2", cwd=today)
            assert found.returncode == 0, found
    visible = [path.name for path in today.iterdir() if not path.name.startswith(".")]
    assert sorted(visible) == ["build.bin", "build.bin.suit", "fwsign.toml", "pki"]
    assert program("log", "verify", cwd=today).returncode == 0


def test_of_sign_with_a_native_signature(today: Path) -> None:
    """Two files, each whole; after the next run they belong together."""
    (today / "app.bin").write_bytes(app(secure_version=7))
    keys = [key_file(today, name).name for name in ("p256", "p256 other")]
    sign = ("sign", "app.bin", "--force", "--native", "esp-secure-boot-v2", "--native-key")
    whole = length((*sign, keys[0]), today)
    envelope, image = today / "app.signed.bin.suit", today / "app.signed.bin"
    rng = random.Random(2)  # moments, not secrets
    for number in range(1, 1 + ROUNDS // 3):
        killed((*sign, keys[number % 2]), today, whole * rng.uniform(0.5, 1.1))
        found = native.read(image.read_bytes())
        assert found is not None
        assert len(found.signatures) == 1
        assert decode_envelope(envelope.read_bytes()).blocks
    assert program("log", "verify", cwd=today).returncode == 0
    assert program(*sign, keys[0], cwd=today).returncode == 0
    found_by = program("verify", envelope.name, cwd=today)
    assert found_by.returncode == 0, found_by


def test_of_init(tmp_path: Path) -> None:
    whole = length(("init", "whole", *NAMES), tmp_path)
    rng = random.Random(2)  # moments, not secrets
    for number in range(ROUNDS):
        project = tmp_path / f"p{number}"
        killed(("init", project.name, *NAMES), tmp_path, whole * rng.uniform(0.3, 1.1))
        if (project / "pki").exists():
            assert Pki(project / "pki").names() == ("issuing", "issuing-tls", "release")
            assert len(Pki(project / "pki").crls("release")) == 2
        if (project / "fwsign.toml").exists():
            assert (project / "fwsign.toml").read_text().endswith('signer = "release"\n')
            assert (project / "pki").exists()
        again = program("init", project.name, *NAMES, cwd=tmp_path)
        if (project / "pki").exists() and again.returncode != 0:
            assert "exists already" in again.stderr  # one of the two, whole
        else:
            assert again.returncode == 0
