"""A file of SWUpdate is a payload: the real SWUpdate reads the verified bytes from a descriptor."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.goosebit_kit import cpio
from gateway.trial_kit import TrialGateway
from support import refused, require_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SWUpdate is for Linux")
NAME = "system.swu"
SCRIPT = """#!/bin/sh
said=$({program} -H board:1.0 -k {key} -i /proc/self/fd/0 2>&1)
printf '%s\\n' "$said"
case $said in *'SWUPDATE successful'*) exit 0 ;; esac
exit 1
"""
"""As docs/adapters.md has it: SWUpdate 2022.12 may end with status 1 after a success."""


def openssl(*words: str, data: bytes = b"") -> bytes:
    """Run openssl; return what it prints."""
    program = require_program("openssl")
    return subprocess.run([program, *words], input=data, check=True, capture_output=True).stdout


def new_key(base: Path) -> tuple[str, str]:
    """Make SWUpdate's own key; return the files of the key and of its certificate."""
    key, certificate = str(base / "swu.key"), str(base / "swu.crt")
    made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate)
    use = ("-addext", "extendedKeyUsage=emailProtection")
    openssl(*made, "-subj", "/CN=swupdate", "-days", "9999", *use)
    return key, certificate


def system(keys: tuple[str, str], slot: Path, content: bytes) -> bytes:
    """Return a file for SWUpdate that writes some bytes into a slot, which is a file."""
    digest = hashlib.sha256(content).hexdigest()
    text = f"""software = {{
  version = "1.0.0";
  hardware-compatibility: [ "1.0" ];
  images: ( {{ filename = "rootfs.img"; type = "raw"; device = "{slot}"; sha256 = "{digest}"; }} );
}}
"""
    key, certificate = keys
    files = ("-inkey", key, "-signer", certificate)
    options = ("-sign", "-binary", "-nosmimecap", "-md", "sha256", "-outform", "DER")
    signature = openssl("cms", *options, *files, data=text.encode())
    parts = {"sw-description": text.encode(), "sw-description.sig": signature}
    return cpio({**parts, "rootfs.img": content})


def test_a_release_goes_through_swupdate_and_comes_back(tmp_path: Path) -> None:
    """As docs/adapters.md has it: no adapter, since each release brings the whole system."""
    program = require_program("swupdate")
    gateway, slot = TrialGateway(tmp_path), tmp_path / "slot"
    slot.write_bytes(bytes(100_000))
    keys = new_key(tmp_path)
    script = tmp_path / "swu"
    script.write_text(SCRIPT.format(program=program, key=keys[1]))
    script.chmod(0o755)
    command = [str(script)]
    verbs = {"activate": command, "confirm": ["/bin/true"], "revert": command}
    gateway.configure(f"[exec.{json.dumps(NAME)}]", **verbs)

    def release(number: int, content: bytes) -> Path:
        return gateway.plain.release(number, {NAME: system(keys, slot, content)})

    old, new = b"old system " * 1000, b"new system " * 1000
    assert gateway.install(release(1, old)).verdict == "installed"
    assert slot.read_bytes().startswith(old)
    gateway.healthy("exit 1")
    with refused("unsuitable.trial", "release 1 is in place again"):
        gateway.install(release(2, new))
    assert slot.read_bytes().startswith(old)
    gateway.healthy("exit 0")
    assert gateway.install(release(3, new)).verdict == "installed"
    assert slot.read_bytes().startswith(new)
    assert gateway.floor == 3
    with refused("unsuitable.rollback"):
        gateway.install(release(1, old))
    with refused("unsuitable.trial"):  # SWUpdate refuses it itself
        gateway.install(gateway.plain.release(4, {NAME: b"no such file" * 100}))
    assert slot.read_bytes().startswith(new)
