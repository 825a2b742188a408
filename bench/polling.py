# SPDX-License-Identifier: Apache-2.0
"""Measure one poll of a channel where nothing is new: CPU, and bytes on the wire.

usage: polling.py [--quick]        prints JSON: seconds of CPU, bytes sent and received of each task

The server is that of `bench/run`, over TLS; a relay before it counts bytes in both directions, with
those of TCP and IP left out. The tasks: the channel, an envelope at a fixed address, `curl
--etag-compare` of the channel, and a new channel that leaves this device as it is.
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
FWSIGN = (sys.executable, "-m", "fwsign")


class Wire(NamedTuple):
    """The bytes that passed a relay: to the server, and from it."""

    sent: list[int]
    received: list[int]

    def take(self) -> tuple[int, int]:
        """Return the sums, and begin anew."""
        found = sum(self.sent), sum(self.received)
        self.sent.clear()
        self.received.clear()
        return found


def main() -> None:
    """Measure, and print."""
    n = 3 if "--quick" in sys.argv[1:] else 21
    with tempfile.TemporaryDirectory(prefix="fwsign-polling-") as name:
        os.chdir(name)
        prepare()
        with serving() as port, relayed(port) as (own, wire):
            address = f"https://localhost:{own}"
            with Path("device.toml").open("a") as file:
                file.write(f'[fetch]\nca = "{Path.cwd()}/pki/ca.crt"\n')
            found = {
                "channel": task(wire, n, *poll(f"{address}/stable.channel")),
                "envelope": task(wire, n, *poll(f"{address}/small.bin.suit")),
                "curl": task(wire, n, *curl(f"{address}/stable.channel")),
            }
            make("--expires", "7d")
            wire.take()
            found["new channel"] = task(wire, 1, *poll(f"{address}/stable.channel"))
    print(json.dumps(found))


def prepare() -> None:
    """Make a PKI, a published place in `web`, and a gateway that has its release."""
    run("init", ".", "--org", "Bench", "--vendor", "acme.example", "--product", "bench", quiet=True)
    run("pki", "issue", "server", "updates", "--host", "localhost", "--no-passphrase")
    run("pki", "issue", "channel", "rollout", "--no-passphrase")
    parts = [Path("pki/issued") / name for name in ("updates.crt", "issuing-tls.crt")]
    Path("updates.pem").write_bytes(b"".join(path.read_bytes() for path in parts))
    Path("small.bin").write_bytes(os.urandom(1024 * 1024))
    run("sign", "small.bin")
    for one in ("web", "target"):
        Path(one).mkdir(mode=0o755)
    make()
    named = json.loads(run("channel", "show", "web/stable.channel", "--json"))
    digest = hashlib.sha256(Path("small.bin").read_bytes()).hexdigest()
    # The server knows names and no directories.
    shutil.copy("small.bin.suit", f"web/{manifest_of(named)}.suit")
    shutil.copy("small.bin.suit", "web/small.bin.suit")
    shutil.copy("small.bin", f"web/{digest}")
    shutil.copy("small.bin", "web/small.bin")
    anchors = ("--vendor", "acme.example", "--product", "bench", "--anchor", "pki/ca.crt")
    where = ("--config", "device.toml", "--state", "gateway.db", "--target-dir", "target")
    run("device", "init", *anchors, *where)


def manifest_of(shown: object) -> str:
    """Return the manifest digest in what `channel show --json` prints."""
    text = json.dumps(shown)
    place = text.index('"manifest_digest": "') + len('"manifest_digest": "')
    return text[place : text.index('"', place)]


def make(*more: str) -> None:
    """Sign the next channel."""
    Path("made").mkdir(exist_ok=True)
    options = ("--force",) if Path("made/stable.channel").exists() else ()
    run("channel", "make", "stable", "small.bin.suit", "--output-dir", "made", *options, *more)
    shutil.copy("made/stable.channel", "web/stable.channel")


def poll(address: str) -> tuple[str, ...]:
    """Return the command of a poll."""
    return (*FWSIGN, "follow", "--once", address, "--config", "device.toml")


def curl(address: str) -> tuple[str, ...]:
    """Return the command of the same with curl."""
    options = ("--silent", "--fail", "--cacert", "pki/ca.crt", "--output", "got.channel")
    return ("curl", *options, "--etag-save", "tag", "--etag-compare", "tag", address)


def task(wire: Wire, n: int, *command: str) -> tuple[float, int, int]:
    """Run a command; return the seconds of CPU, and the bytes sent and received in one run."""
    if n > 1:
        for _ in range(2):  # the first installs, the second knows the tag
            subprocess.run(command, check=True, capture_output=True)
    wire.take()
    used = []
    for _ in range(n):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    sent, received = wire.take()
    return statistics.median(used), sent // n, received // n


def run(*words: str, quiet: bool = False) -> str:
    """Run fwsign; return its output."""
    more = ("--no-passphrase",) if quiet else ()
    done = subprocess.run((*FWSIGN, *words, *more), check=True, capture_output=True, text=True)
    return done.stdout


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """Run the server of `bench/run` for the directory `web`; yield its port."""
    command = (sys.executable, HERE / "release_server.py", "web", "updates.pem")
    key = "pki/private/updates.key"
    with subprocess.Popen((*command, key), stdout=subprocess.PIPE, text=True) as running:
        try:
            yield int(running.stdout.readline()) if running.stdout else 0
        finally:
            running.terminate()


@contextlib.contextmanager
def relayed(port: int) -> Iterator[tuple[int, Wire]]:
    """Relay connections to a port, and count; yield the relay's own port."""
    wire = Wire([], [])
    with socket.create_server(("127.0.0.1", 0)) as own:
        threading.Thread(target=_accept, args=(own, port, wire), daemon=True).start()
        yield own.getsockname()[1], wire


def _accept(own: socket.socket, port: int, wire: Wire) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = own.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for one, other, count in ((client, server, wire.sent), (server, client, wire.received)):
                threading.Thread(target=_pump, args=(one, other, count), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket, count: list[int]) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            count.append(len(data))
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
