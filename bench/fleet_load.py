# SPDX-License-Identifier: Apache-2.0
"""The load of a fleet on a store and a broker as it grows, against servers on 127.0.0.1.

usage: fleet_load.py [--quick] [--interval 3600]      prints JSON, and ends by itself

A real poll of `fwsign follow` where nothing is new is measured first, through a relay that counts
connections and bytes. The same connection is then made over and over, at the rate of fleets of
1,000 to 100,000 devices that poll once in the interval, spread evenly; and as fast as it goes, as
when a hint wakes all at once. The store is Apache with TLS and files; the broker is mosquitto, and
its clients are subscribers with real connections, as many as this machine's limit of descriptors
lets be. Server and clients share the machine, so a rate is what both together reach.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import fleet_broker

FLEETS = (1_000, 3_000, 10_000, 30_000, 100_000)
POLLED = "stable.suit"
AT_ONCE = 64
"""Connections at once where a hint wakes all: a fleet has more, a server takes them in turn."""
_APACHE = """
ServerRoot "{here}"
ServerName localhost
Listen 127.0.0.1:{port}
PidFile "{here}/httpd.pid"
ErrorLog "{here}/error.log"
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
DocumentRoot "{here}/web"
FileETag MTime Size
SSLEngine on
SSLCertificateFile "{here}/updates.pem"
SSLCertificateKeyFile "{here}/pki/private/updates.key"
"""


def main() -> None:
    """Measure, and print the curve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--interval", type=int, default=3600)
    given = parser.parse_args()
    _raise_limit()
    seconds = 2.0 if given.quick else 10.0
    with tempfile.TemporaryDirectory(prefix="fwsign-bench-") as name:
        here = Path(name)
        prepare(here)
        with apache(here) as port:
            poll = asyncio.run(one_poll(here, port))
            request = asyncio.run(request_of(here, port))
            store = asyncio.run(curve(here, port, request, seconds, given.interval))
        broker = [fleet_broker.measure(here, one) for one in fleets(quick=given.quick)]
    found = {"interval": given.interval, "poll": poll, "store": store, "broker": broker}
    print(json.dumps(found, indent=2))


def fleets(*, quick: bool) -> list[int]:
    """Return the sizes of fleets whose connections this machine can hold, on both sides."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
    return [one for one in (FLEETS[:2] if quick else FLEETS) if one <= room]


def _raise_limit() -> None:
    """Take as many descriptors as the machine gives; a child takes the same."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (110_000, max(hard, 110_000)))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# --- the store ----------------------------------------------------------------------------------


def fwsign(here: Path, *words: object) -> None:
    """Run a command that has to succeed."""
    program = [sys.executable, "-m", "fwsign", "--quiet", *map(str, words)]
    done = subprocess.run(program, cwd=here, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: error: {done.stderr}")


def prepare(here: Path) -> None:
    """Make a PKI, a server's certificate, a release, and a gateway that follows it."""
    fwsign(here, "init", ".", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    issue = ("pki", "issue", "server", "updates", "--host", "localhost", "--no-passphrase")
    fwsign(here, *issue)
    parts = [here / "pki/issued" / name for name in ("updates.crt", "issuing-tls.crt")]
    (here / "updates.pem").write_bytes(b"".join(path.read_bytes() for path in parts))
    (here / "web").mkdir()
    (here / "app.bin").write_bytes(os.urandom(1024 * 1024))
    named = ("--product", "bench", "--version", "1.0.0")
    fwsign(here, "sign", "app.bin", *named, "--output", f"web/{POLLED}")
    shutil.copy(here / "app.bin", here / "web")
    (here / "target").mkdir()
    what = ("--vendor", "acme.example", "--product", "bench", "--anchor", "pki/ca.crt")
    where = ("--config", "device.toml", "--state", "gateway.db", "--target-dir", "target")
    fwsign(here, "device", "init", *what, *where)
    with (here / "device.toml").open("a") as file:
        file.write(f'\n[fetch]\nca = "{here}/pki/ca.crt"\n')


@contextlib.contextmanager
def apache(here: Path) -> Iterator[int]:
    """Serve the files over TLS; yield the port."""
    program = shutil.which("apache2") or shutil.which("httpd")
    if program is None:
        sys.exit("bench: error: the program apache2 is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    modules = next(p for p in map(Path, _MODULES) if p.is_dir())
    config = _APACHE.format(here=here, port=port, modules=modules)
    if os.getuid() == 0:
        config += "User www-data\nGroup www-data\n"
        if (modules / "mod_unixd.so").is_file():  # Debian has it built in
            config += f"LoadModule unixd_module {modules}/mod_unixd.so\n"
        for path in (here, here / "web", *(here / "web").iterdir()):
            path.chmod(0o755)
    (here / "httpd.conf").write_text(config)
    command = [program, "-f", str(here / "httpd.conf"), "-DFOREGROUND"]
    with subprocess.Popen(command) as running:
        try:
            _await(port)
            yield port
        finally:
            running.terminate()


_MODULES = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/libexec/apache2")


def _await(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit("bench: error: the server does not listen")


async def one_poll(here: Path, port: int) -> dict[str, Any]:
    """Let a gateway install, then poll where nothing is new; return what went over the line."""
    counted = {"connections": 0, "sent": 0, "received": 0}

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted["connections"] += 1
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            _pump(reader, back, counted, "sent"), _pump(there, writer, counted, "received")
        )

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/{POLLED}"
    words = ("follow", "--once", url, "--config", "device.toml")
    async with server:
        await asyncio.to_thread(fwsign, here, *words)  # installs
        counted.update(connections=0, sent=0, received=0)
        begin = time.perf_counter()
        await asyncio.to_thread(fwsign, here, *words)
        seconds = time.perf_counter() - begin
    return {**counted, "bytes": counted["sent"] + counted["received"], "seconds": round(seconds, 3)}


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: dict[str, int], what: str
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            counted[what] += len(data)
            writer.write(data)
            await writer.drain()
    writer.close()


async def request_of(here: Path, port: int) -> bytes:
    """Return the request of a poll where nothing is new, with the entity tag that it knows."""
    plain = f"GET /{POLLED} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = await _ask(port, f"{plain}\r\n".encode(), _context(here))
    tag = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"etag:"))
    request = f"{plain}If-None-Match: {tag.split(b':', 1)[1].strip().decode()}\r\n\r\n".encode()
    if b" 304 " not in await _ask(port, request, _context(here)):
        sys.exit("bench: error: the server knows no entity tags")
    return request


def _context(here: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=here / "pki/ca.crt")


async def _ask(port: int, request: bytes, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def curve(
    here: Path, port: int, request: bytes, seconds: float, interval: int
) -> dict[str, Any]:
    """Return the load of each fleet, and how fast a fleet is served that comes at once."""
    context = _context(here)
    points = []
    for devices in FLEETS:
        rate = devices / interval
        times = await _at_rate(port, request, context, rate, max(seconds, 3 / rate))
        points.append({"devices": devices, "polls_per_second": round(rate, 2), **times})
    count, begin = 0, time.perf_counter()

    async def worker() -> None:
        nonlocal count
        while time.perf_counter() - begin < seconds:
            await _ask(port, request, context)
            count += 1

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    most = count / (time.perf_counter() - begin)
    woken = {str(one): round(one / most, 1) for one in FLEETS}
    return {"curve": points, "most_per_second": round(most), "seconds_if_all_come": woken}


async def _at_rate(
    port: int, request: bytes, context: ssl.SSLContext, rate: float, seconds: float
) -> dict[str, float]:
    """Poll at a rate, whether or not earlier polls have ended; return how long they took."""
    times: list[float] = []

    async def poll() -> None:
        begin = time.perf_counter()
        await _ask(port, request, context)
        times.append(1000 * (time.perf_counter() - begin))

    async with asyncio.TaskGroup() as group:
        async for _ in _ticks(rate, seconds):
            group.create_task(poll())
    times.sort()
    return {
        "polls": len(times),
        "median_ms": round(statistics.median(times), 1),
        "slowest_of_100_ms": round(times[min(len(times) - 1, int(0.99 * len(times)))], 1),
    }


async def _ticks(rate: float, seconds: float) -> AsyncIterator[int]:
    begin = time.perf_counter()
    for number in range(max(1, int(rate * seconds))):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        yield number


if __name__ == "__main__":
    main()
