# SPDX-License-Identifier: Apache-2.0
"""Measure `fwsign flash` against esptool, on the same simulated boards; prints JSON.

usage: bench/boards.py [--quick]       with a Python that has fwsign[flash]

Each board is a process of its own, and its line is as slow as a cable at 921600 bit/s.
"""

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

BAUD = 921_600
SIZE = 1_702_240  # bytes, as MicroPython for the ESP32
BOARDS = 8
OFFSET = 0x10000
PROGRAMS = Path(sys.executable).parent
BOARD = """
import sys
from fwsign.flash.simulate import Simulated
with Simulated(sys.argv[1]) as board:
    print(board.port, flush=True)
    sys.stdin.read()
"""


class Sample(NamedTuple):
    """One run: seconds on the wall, and CPU seconds of the program and its children."""

    wall: float
    cpu: float


def main() -> None:
    """Measure everything, and print tables as `bench/run` takes them."""
    rounds = 1 if "--quick" in sys.argv else 3
    with tempfile.TemporaryDirectory(prefix="fwsign-boards-") as name:
        os.chdir(name)
        prepare()
        found = [measure() for _ in range(rounds)]
    rows = [[cell(found, row, column) for column in range(2)] for row in range(len(found[0]))]
    json.dump(rows, sys.stdout)


def cell(found: Sequence[Sequence[tuple[float, float]]], row: int, column: int) -> float:
    """Return the median of a figure over all rounds."""
    return statistics.median(one[row][column] for one in found)


def prepare() -> None:
    """Make a PKI, and two releases that differ in a block of 4 KiB."""
    init = ("init", "--org", "Acme", "--vendor", "acme.example", "--product", "bench")
    run(PROGRAMS / "fwsign", *init, "--no-passphrase")
    image = firmware()
    Path("old.bin").write_bytes(image)
    changed = image[:900_000] + hashlib.shake_128(b"new").digest(4096) + image[904_096:]
    Path("new.bin").write_bytes(changed)
    for number, name in enumerate(("old.bin", "new.bin"), 1):
        target = ("--target", f"esp32c3@{OFFSET:#x}", "--sequence", number)
        run(PROGRAMS / "fwsign", "sign", name, *target)


def firmware() -> bytes:
    """Make bytes that deflate to two thirds, as programs do."""
    stream = hashlib.shake_128(b"firmware").digest(SIZE)
    pieces = [stream[at : at + 683] + bytes(341) for at in range(0, SIZE, 1024)]
    return b"".join(pieces)[:SIZE]


def measure() -> list[tuple[float, float]]:
    """Run every contest once; each row is our figure and the peer's."""
    with boards(1) as (port,):
        theirs = esptool(port)
    with boards(1) as (port,):
        first = fwsign([port], "old.bin")
        again = fwsign([port], "old.bin")
        changed = fwsign([port], "new.bin")
    with boards(BOARDS) as ports:
        all_of_them = fwsign(ports, "old.bin")
    with boards(1, baud=None) as (port,):
        bare = esptool(port)
    with boards(1, baud=None) as (port,):
        one = fwsign([port], "old.bin")
    with boards(BOARDS, baud=None) as ports:
        eight = fwsign(ports, "old.bin")
    more = (eight.cpu - one.cpu) / (BOARDS - 1)
    return [
        (first.wall, theirs.wall),
        (again.wall, theirs.wall),
        (changed.wall, theirs.wall),
        (all_of_them.wall, first.wall),
        (more, bare.cpu),
        (eight.wall, bare.wall),  # no line at all: what this computer can do
    ]


@contextlib.contextmanager
def boards(count: int, baud: int | None = BAUD) -> Iterator[list[str]]:
    """Start simulated boards, each a process, and give their ports; nothing is remembered."""
    Path("boards.db").unlink(missing_ok=True)
    line = f"&baud={baud}" if baud else ""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BOARD, f"sim:esp32c3?id={number:012x}{line}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(1, count + 1)
    ]
    try:
        yield [str(one.stdout and one.stdout.readline().strip()) for one in started]
    finally:
        for one in started:
            one.communicate()


def esptool(port: str) -> Sample:
    """Let esptool write the image."""
    quiet = ("--port", port, "--chip", "esp32c3", "--before", "no-reset", "--after", "no-reset")
    return run(sys.executable, "-m", "esptool", *quiet, "write-flash", hex(OFFSET), "old.bin")


def fwsign(ports: Sequence[str], name: str) -> Sample:
    """Let fwsign flash a release."""
    named = [word for port in ports for word in ("--port", port)]
    return run(PROGRAMS / "fwsign", "flash", f"{name}.suit", *named, "--state", "boards.db")


def run(*command: object) -> Sample:
    """Run a program to its end, which must be a good one."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            sys.exit(f"boards: error: {command}: {output.read().decode(errors='replace')}")
    return Sample(wall, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main()
