"""An ssh-agent of OpenSSH for tests, and one that gives the answers of a test."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.keys import open_key
from fwsign.keys.held import HeldKey
from fwsign.keys.ssh_wire import encode_string
from support import require_program


class RunningAgent:
    """An ssh-agent in a folder with a short name, since a socket's name is short."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agent-"))
        self.socket = self.folder / "socket"
        self.process = subprocess.Popen(
            [require_program("ssh-agent"), "-D", "-a", str(self.socket)], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while not self.socket.exists():
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    def add(self, key: Any, comment: str, *options: str) -> None:
        """Give it a key of cryptography's."""
        path = self.folder / "key"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        path.chmod(0o600)
        self._run("ssh-keygen", "-q", "-c", "-C", comment, "-f", str(path))
        self._run("ssh-add", "-q", *options, str(path))
        for one in self.folder.glob("key*"):
            one.unlink()

    def clear(self) -> None:
        self._run("ssh-add", "-q", "-D")

    def fingerprints(self) -> list[str]:
        return [line.split()[1] for line in self._run("ssh-add", "-l").splitlines()]

    def lock(self, *, on: bool = True) -> None:
        """Lock it, or unlock it; `ssh-add -x` wants a terminal."""
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(self.socket))
            one.sendall(encode_string(bytes([22 if on else 23]) + encode_string(b"pw")))
            assert one.recv(5)[-1:] == b"\6"

    def uri(self, name: str) -> str:
        return f"ssh-agent:{name}?socket={self.socket}"

    def _run(self, *words: str) -> str:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self.socket), "LC_ALL": "C"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout


def opened(uri: str) -> HeldKey:
    return open_key(uri, lambda: None)


@contextmanager
def lying(answers: Sequence[bytes], *, wait: float = 0) -> Iterator[str]:
    """Run an agent that gives one answer to each connection; yield a URI without a name."""
    folder = Path(tempfile.mkdtemp(prefix="agent-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    size = int.from_bytes(connection.recv(4), "big")
                    while size:
                        size -= len(connection.recv(size))
                    time.sleep(wait)
                    with suppress(OSError):  # the client has enough
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"ssh-agent:?socket={folder / 'socket'}"
        thread.join(10)
    shutil.rmtree(folder)
