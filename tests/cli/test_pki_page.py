"""The page for newcomers, followed literally: each command in its order, with a real broker."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import require_program, stride

PAGE = Path(__file__).parents[2] / "docs" / "pki.md"
_PROMPT = re.compile(rb"(?:Passphrase of [^\n]*|Repeat for confirmation): ")
_SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_STEP = re.compile(r"as `([\w.]+)`:\n\n```\n(.*?)```|```console\n(.*?)```", re.DOTALL)


PASSPHRASE = "four words drawn by dice"


class Reader:
    """Somebody who types what the page says, in one directory after another.

    With a passphrase, it is typed at a terminal; without, every new key is left unencrypted.
    """

    def __init__(self, home: Path, *, passphrase: bool = False) -> None:
        self.passphrase = passphrase
        self.place = home
        self.broker: subprocess.Popen[bytes] | None = None
        self.commands = 0
        self.port = 8883

    def write(self, name: str, content: str) -> None:
        """Write a file as the page shows it."""
        # Only where tests run as root does the broker have to be told to stay what it is.
        mine = "user root\n" if name.endswith(".conf") and os.geteuid() == 0 else ""
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
            text = line.removeprefix("$ ")
            if self.passphrase:
                self.type_at_terminal(text)
                return
            text += " --no-passphrase" if made and "--no-passphrase" not in text else ""
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

    def type_at_terminal(self, text: str) -> None:
        """Run a line at a terminal, and type the passphrase when it is asked for: once."""
        import pty  # not on Windows

        child, terminal = pty.fork()
        if child == 0:  # pragma: no cover - another process
            os.chdir(self.place)
            os.execvp("bash", ["bash", "-c", text])  # noqa: S606
        shown, answered = b"", 0
        with contextlib.suppress(OSError):  # the child has closed its end
            while data := os.read(terminal, 4096):
                shown += data
                asked = len(_PROMPT.findall(shown))
                if asked > answered:
                    answered = asked
                    os.write(terminal, PASSPHRASE.encode() + b"\n")
        status = os.waitpid(child, 0)[1]
        os.close(terminal)  # earlier, it would hang up on a program that closes its streams first
        words = shown.decode(errors="replace")
        assert os.waitstatus_to_exitcode(status) == 0, f"{text}\n{words}"
        assert "internal error" not in words
        assert words.count("Passphrase of") <= 1, words

    def start(self, command: str) -> None:
        """Start the broker, in place of the one that runs, and wait until it listens."""
        self.stop()
        self.broker = subprocess.Popen(
            command.split(), cwd=self.place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.broker.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        pytest.fail(f"{command} does not listen, exit status {self.broker.poll()}")

    def stop(self) -> None:
        """Stop the broker, if it runs."""
        if self.broker is not None:
            self.broker.terminate()
            self.broker.wait(20)


@contextmanager
def reader(home: Path, *, passphrase: bool = False) -> Iterator[Reader]:
    one = Reader(home, passphrase=passphrase)
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
    for passphrase in (True, False)[:: stride(2)]:  # one by one: both have the broker's port
        home = tmp_path / f"passphrase-{passphrase}"
        home.mkdir()
        with reader(home, passphrase=passphrase) as one:
            for step in steps:
                if step[1]:
                    one.write(step[1], step[2])
                else:
                    for line in step[3].splitlines():
                        one.type(line)
        assert one.commands == 54
        key = (home / "gateway/pki/private/issuing.key").read_text()
        assert key.startswith("-----BEGIN ENCRYPTED") is passphrase


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _broker(place: Path, port: int) -> "subprocess.Popen[bytes]":
    """Start the distribution's broker as root does: it becomes the user mosquitto."""
    (place / "broker.conf").write_text(
        f"listener {port} 127.0.0.1\nrequire_certificate true\nuse_identity_as_username true\n"
        f"cafile {place}/ca.crt\n"
        f"certfile {place}/broker.pem\nkeyfile {place}/broker.key\ncrlfile {place}/bundle.pem\n"
    )
    return subprocess.Popen(
        ["mosquitto", "-c", place / "broker.conf"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _is_sent(command: list[str], home: Path) -> bool:
    """Tell whether a message is taken; the client asks a broker that has just ended for ever."""
    try:
        return subprocess.run(command, cwd=home, timeout=30, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _listens(broker: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and broker.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False


@pytest.mark.external
@pytest.mark.skipif(sys.platform == "win32", reason="the page is for a shell of Unix")
def test_a_broker_that_drops_its_user_can_read_the_copy_of_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another group")
    places = (str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin")
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    for program in ("bash", "install", "mosquitto", "mosquitto_pub"):
        require_program(program)
    import grp  # not on Windows

    group = grp.getgrnam("mosquitto").gr_gid
    script = _SHELL.search(PAGE.read_text(encoding="utf-8"))
    assert script
    place = Path(tempfile.mkdtemp())  # those of pytest are closed to other users
    with reader(tmp_path) as one:
        one.type("$ fwsign init . --org Acme --vendor acme.example --product x1")
        one.type("$ fwsign pki issue server broker.acme.example --ip 127.0.0.1 --no-passphrase")
        one.type("$ fwsign pki issue client sensor-7 --no-passphrase")
        one.type("$ fwsign pki export chain broker.acme.example broker.pem")
        one.type("$ fwsign pki export chain sensor-7 sensor-7.pem")
        for line in script[1].splitlines():
            text = line.removeprefix("sudo ").replace("/etc/mosquitto/acme", str(place))
            one.type(f"$ {text}")
    key = place / "broker.key"
    assert (key.stat().st_mode & 0o777, key.stat().st_gid) == (0o640, group)
    sent = "-t t -m 21 --cert sensor-7.pem --key pki/private/sensor-7.key --cafile pki/ca.crt"
    try:
        for mode, works in ((0o640, True), (0o600, False)):
            key.chmod(mode)
            port = _free_port()
            broker = _broker(place, port)
            try:
                if _listens(broker, port):
                    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), *sent.split()]
                    assert _is_sent(command, tmp_path) is works
                else:
                    assert not works
            finally:
                broker.terminate()
                broker.wait(20)
    finally:
        shutil.rmtree(place)
