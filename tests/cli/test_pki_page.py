"""The page for newcomers, followed literally: each command in its order, with a real broker."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import require_program

PAGE = Path(__file__).parents[2] / "docs" / "pki.md"
_STEP = re.compile(r"as `([\w.]+)`:\n\n```\n(.*?)```|```console\n(.*?)```", re.DOTALL)


class Reader:
    """Somebody who types what the page says, in one directory after another."""

    def __init__(self, home: Path) -> None:
        self.place = home
        self.broker: subprocess.Popen[bytes] | None = None
        self.commands = 0

    def write(self, name: str, content: str) -> None:
        """Write a file as the page shows it."""
        # Only where tests run as root does the broker have to be told to stay what it is.
        mine = "user root\n" if name == "broker.conf" and os.geteuid() == 0 else ""
        (self.place / name).write_text(content + mine)

    def type(self, line: str) -> None:
        """Run a line: `$` in this terminal, `$ !` a failure expected, `&` in another terminal."""
        self.commands += 1
        if line.startswith("& "):
            self.start(line[2:])
        elif line.startswith("$ cd "):
            self.place /= line[5:]
        else:
            # The page says that this is how to try things out.
            made = "fwsign init" in line or "fwsign pki issue" in line
            text = line.removeprefix("$ ") + (" --no-passphrase" if made else "")
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=self.place,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
            assert "internal error" not in done.stderr

    def start(self, command: str) -> None:
        """Start the broker, in place of the one that runs, and wait until it listens."""
        self.stop()
        self.broker = subprocess.Popen(
            command.split(), cwd=self.place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.broker.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", 8883)) == 0:
                    return
            time.sleep(0.02)
        pytest.fail(f"{command} does not listen, exit status {self.broker.poll()}")

    def stop(self) -> None:
        """Stop the broker, if it runs."""
        if self.broker is not None:
            self.broker.terminate()
            self.broker.wait(20)


@contextmanager
def reader(home: Path) -> Iterator[Reader]:
    one = Reader(home)
    try:
        yield one
    finally:
        one.stop()


@pytest.mark.external
@pytest.mark.skipif(sys.platform == "win32", reason="the page is for a shell of Unix")
def test_the_page_for_newcomers_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = (str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin")
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    for program in ("bash", "mosquitto", "mosquitto_pub"):
        require_program(program)
    steps = list(_STEP.finditer(PAGE.read_text(encoding="utf-8")))
    with reader(tmp_path) as one:
        for step in steps:
            if step[1]:
                one.write(step[1], step[2])
            else:
                for line in step[3].splitlines():
                    one.type(line)
    assert one.commands == 36
