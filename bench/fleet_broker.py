# SPDX-License-Identifier: Apache-2.0
"""A broker with many gateways that wait for hints; `fleet_load.py` runs this.

Each gateway is one MQTT 5 connection with a subscription, as `fwsign watch` has, without TLS: the
memory and the time to reach all are those of the broker. Connections come from several addresses
of 127.0.0.0/8, since one has ports for some 28,000 alone.
"""

import contextlib
import selectors
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOPIC = b"fwsign/acme.example/bench/stable"
HINT = b'{"channel":"stable","number":7}'
PER_ADDRESS = 20_000
AT_ONCE = 500
"""Connections that are begun before their answers are awaited."""
_SECONDS = 60.0


def measure(here: Path, gateways: int) -> dict[str, Any]:
    """Return the broker's memory with so many gateways, and how long a hint takes to all."""
    with mosquitto(here) as (port, process):
        before = _resident(process)
        begin = time.perf_counter()
        waiting = list(_connected(port, gateways))
        joined = time.perf_counter() - begin
        memory = _resident(process) - before
        cpu = _cpu(process)
        first, last = _hint(port, waiting)
        spent = _cpu(process) - cpu
        for one in waiting:
            one.close()
    return {
        "devices": gateways,
        "connected_per_second": round(gateways / joined),
        "memory_mib": round(memory / 2**20, 1),
        "bytes_each": round(memory / gateways),
        "hint_first_ms": round(1000 * first, 1),
        "hint_all_ms": round(1000 * last, 1),
        "hint_cpu_ms": round(1000 * spent),
    }


@contextlib.contextmanager
def mosquitto(here: Path) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """Run a broker; yield its port and process."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        sys.exit("bench: error: the program mosquitto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    config = here / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_connections -1\n")
    with subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield port, process
        finally:
            process.terminate()


def _connected(port: int, count: int) -> Iterator[socket.socket]:
    """Connect and subscribe gateways, some hundred at a time."""
    for start in range(0, count, AT_ONCE):
        batch = []
        for number in range(start, min(start + AT_ONCE, count)):
            one = socket.socket()
            one.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
            one.connect(("127.0.0.1", port))
            one.sendall(_connect(f"gw-{number}".encode()))
            batch.append(one)
        for one in batch:
            _expect(one, 0x20)  # CONNACK
            one.sendall(_subscribe())
        for one in batch:
            _expect(one, 0x90)  # SUBACK
            yield one


def _hint(port: int, waiting: list[socket.socket]) -> tuple[float, float]:
    """Publish a hint; return the seconds until the first and the last gateway has it."""
    with selectors.DefaultSelector() as selector, socket.socket() as sender:
        for one in waiting:
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        sender.connect(("127.0.0.1", port))
        sender.sendall(_connect(b"publisher"))
        _expect(sender, 0x20)
        begin = time.perf_counter()
        sender.sendall(_publish())
        first, missing = 0.0, len(waiting)
        while missing and time.perf_counter() - begin < _SECONDS:
            for key, _ in selector.select(1):
                first = first or time.perf_counter() - begin
                key.fileobj.recv(4096)  # type: ignore[union-attr]
                selector.unregister(key.fileobj)
                missing -= 1
        if missing:
            sys.exit(f"bench: error: {missing} gateways had no hint after {_SECONDS:.0f} s")
        return first, time.perf_counter() - begin


def _expect(one: socket.socket, kind: int) -> None:
    one.settimeout(_SECONDS)
    answer = one.recv(4096)
    if not answer or answer[0] & 0xF0 != kind:
        sys.exit(f"bench: error: the broker answers {answer[:8]!r}")


def _connect(name: bytes) -> bytes:
    # MQTT 5 s.3.1: clean start, keep-alive of an hour, no properties.
    body = b"\0\4MQTT\5\2" + (3600).to_bytes(2) + b"\0" + _text(name)
    return b"\x10" + bytes([len(body)]) + body


def _subscribe() -> bytes:
    body = b"\0\1\0" + _text(TOPIC) + b"\1"
    return b"\x82" + bytes([len(body)]) + body


def _publish() -> bytes:
    body = _text(TOPIC) + b"\0\2\0" + HINT
    return b"\x33" + bytes([len(body)]) + body  # QoS 1, retained


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


def _resident(process: "subprocess.Popen[bytes]") -> int:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096


def _cpu(process: "subprocess.Popen[bytes]") -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
