"""A real RAUC: its service on a bus of its own, with two slots that are files."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support import require_program

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={base}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
BACKEND = """#!/bin/sh
cd {base}/loader
case $1 in
get-primary) cat primary;;
set-primary) echo "$2" > primary;;
get-state) cat "state-$2";;
set-state) echo "$3" > "state-$2";;
esac
"""
SYSTEM = """[system]
compatible=test
bootloader=custom
mountprefix={base}/mnt
statusfile={base}/central.status
[keyring]
path={base}/cert.pem
[handlers]
bootloader-custom-backend={base}/backend
[slot.rootfs.0]
device={base}/slot0
type=raw
bootname=A
[slot.rootfs.1]
device={base}/slot1
type=raw
bootname=B
"""
MANIFEST = """[update]
compatible=test
version={version}
[bundle]
format=plain
[image.rootfs]
filename=rootfs.img
"""
SIZE = 64 * 1024
PATIENCE = 20


class RaucSystem:
    """The service, the boot loader's variables, and the slots."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.slots = (base / "slot0", base / "slot1")
        self.loader = base / "loader"
        self._service: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={base}/bus",
        }

    def write(self) -> None:
        """Write all files: keys, configuration, slots."""
        self.loader.mkdir()
        for name, text in {"primary": "A", "state-A": "good", "state-B": "good"}.items():
            (self.loader / name).write_text(f"{text}\n")
        for slot in self.slots:
            slot.write_bytes(bytes(SIZE))
        for name, text in {"bus.conf": BUS, "backend": BACKEND, "system.conf": SYSTEM}.items():
            (self.base / name).write_text(text.format(base=self.base))
        (self.base / "backend").chmod(0o755)
        new_key = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        files = ("-keyout", "key.pem", "-out", "cert.pem")
        self._run("openssl", *new_key, "-nodes", *files, "-subj", "/CN=bundles", "-days", "9999")

    def bundle(self, version: str, content: bytes) -> bytes:
        """Make a bundle whose image is some bytes."""
        folder = self.base / f"bundle-{version}"
        folder.mkdir()
        (folder / "rootfs.img").write_bytes(content)
        (folder / "manifest.raucm").write_text(MANIFEST.format(version=version))
        made = self.base / f"{version}.raucb"
        self._run("rauc", "bundle", "--cert=cert.pem", "--key=key.pem", str(folder), str(made))
        return made.read_bytes()

    def boot(self, name: str | None = None) -> str:
        """Start the machine: the service runs from the primary slot, or from the one named."""
        self.stop()
        name = name or (self.loader / "primary").read_text().strip()
        command = ["rauc", "-c", "system.conf", f"--override-boot-slot={name}", "service"]
        self._service = subprocess.Popen(
            command,
            cwd=self.base,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while self._status() != 0:
            assert time.monotonic() < end, "RAUC's service does not answer"
            time.sleep(0.05)
        return name

    def _status(self) -> int:
        asked = ("busctl", f"--address=unix:path={self.base}/bus", "--no-pager", "list")
        done = subprocess.run(asked, capture_output=True, check=False)
        return 0 if b"de.pengutronix.rauc" in done.stdout else 1

    def stop(self) -> None:
        if self._service is not None:
            self._service.terminate()
            self._service.wait(PATIENCE)
            self._service = None

    def state(self, name: str) -> str:
        """Return what the boot loader thinks of a slot."""
        return (self.loader / f"state-{name}").read_text().strip()

    @property
    def primary(self) -> str:
        return (self.loader / "primary").read_text().strip()

    def starts(self, slot: int, content: bytes) -> bool:
        """Tell whether a slot begins with some bytes."""
        return self.slots[slot].read_bytes()[: len(content)] == content

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.base, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@contextmanager
def rauc_system(base: Path) -> Iterator[RaucSystem]:
    """Run a bus and RAUC's service, which are ended with this."""
    for program in ("rauc", "dbus-daemon", "busctl", "mksquashfs", "openssl"):
        require_program(program)
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("RAUC mounts its bundles: it needs root, and loop devices")
    found = RaucSystem(base)
    found.write()
    bus = subprocess.Popen(
        ["dbus-daemon", "--config-file=bus.conf", "--nofork", "--nopidfile"],
        cwd=base,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + PATIENCE
        while not (base / "bus").exists():
            assert time.monotonic() < end, "the bus does not listen"
            time.sleep(0.02)
        yield found
    finally:
        with suppress(Exception):
            found.stop()
        bus.terminate()
        bus.wait(PATIENCE)


Environment = Mapping[str, str]
