# SPDX-License-Identifier: Apache-2.0
"""Measure `fwsign flash` against esptool, on the same simulated boards; prints JSON.

usage: bench/boards.py [--quick]       with a Python that has fwsign[flash]

Each board is a process of its own, and its line is as slow as a cable at 921600 bit/s. It comes
with a boot loader, a partition table and an application, as a board does that is updated.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fwsign.flash.simulate.esp_stock import Head, application

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


TASKS = ("first", "again", "changed")


class Sample(NamedTuple):
    """One run: seconds on the wall, and CPU seconds of the program and its children."""

    wall: float
    cpu: float


class Contest(NamedTuple):
    """The tasks by one program, each on the flash as the one before left it.

    Args:
        first: a board with another application.
        again: the same release, unchanged.
        changed: a release with 4 KiB of other code.
    """

    first: Sample
    again: Sample
    changed: Sample


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
    """Make a PKI, and two releases of an application that differ in 4 KiB of code."""
    init = ("init", "--org", "Acme", "--vendor", "acme.example", "--product", "bench")
    run(PROGRAMS / "fwsign", *init, "--no-passphrase")
    code = firmware()
    changed = code[:900_000] + hashlib.shake_128(b"new").digest(4096) + code[904_096:]
    for number, (name, data) in enumerate((("old.bin", code), ("new.bin", changed)), 1):
        Path(name).write_bytes(application(Head("esp32c3"), data))
        run(PROGRAMS / "fwsign", "sign", name, "--sequence", number)


def firmware() -> bytes:
    """Make bytes that deflate to two thirds, as programs do."""
    stream = hashlib.shake_128(b"firmware").digest(SIZE)
    pieces = [stream[at : at + 683] + bytes(341) for at in range(0, SIZE, 1024)]
    return b"".join(pieces)[:SIZE]


def measure() -> list[tuple[float, float]]:
    """Run every contest once; each row is our figure and the peer's."""
    ours, theirs = contest(by_fwsign), contest(by_esptool)
    ours_alone, theirs_alone = contest(by_fwsign, alone=True), contest(by_esptool, alone=True)
    with boards(BOARDS) as ports:
        all_of_them = fwsign(ports, "old.bin")
    with boards(1, baud=None) as (port,):
        bare = esptool(port, "old.bin")
    with boards(1, baud=None) as (port,):
        one = fwsign([port], "old.bin")
    with boards(BOARDS, baud=None) as ports:
        eight = fwsign(ports, "old.bin")
    more = (eight.cpu - one.cpu) / (BOARDS - 1)
    return [
        (ours.first.wall, theirs.first.wall),
        (ours_alone.first.wall, theirs_alone.first.wall),
        (ours_alone.first.cpu, theirs_alone.first.cpu),
        (ours.again.wall, theirs.first.wall),
        (ours.again.wall, theirs.again.wall),
        (ours_alone.again.wall, theirs_alone.again.wall),
        (ours_alone.again.cpu, theirs_alone.again.cpu),
        (ours.changed.wall, theirs.first.wall),
        (ours.changed.wall, theirs.changed.wall),
        (ours_alone.changed.wall, theirs_alone.changed.wall),
        (ours_alone.changed.cpu, theirs_alone.changed.cpu),
        (all_of_them.wall, ours.first.wall),
        (more, bare.cpu),
        (eight.wall, bare.wall),  # no line at all: what this computer can do
    ]


def contest(by: Callable[[str, str], Sample], *, alone: bool = False) -> Contest:
    """Let a program do its tasks on a board of its own, with one core or all.

    The board is reset before each: its ROM answers, and the flash is as it was left.
    """
    kept = Path("board.flash")
    kept.unlink(missing_ok=True)
    found = []
    for task in TASKS:
        with boards(1, kept=kept) as (port,), one_core() if alone else contextlib.nullcontext():
            found.append(by(port, task))
    return Contest(*found)


def by_fwsign(port: str, task: str) -> Sample:
    """Flash a release; fwsign has no image to compare with but the board's."""
    return fwsign([port], "new.bin" if task == "changed" else "old.bin")


def by_esptool(port: str, task: str) -> Sample:
    """Flash an image with the option for the task; for the last one it is given the old image."""
    if task == "changed":
        return esptool(port, "new.bin", "--diff-with", "old.bin")
    return esptool(port, "old.bin", *(("--skip-flashed",) if task == "again" else ()))


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Start programs on one core, where that can be asked for; boards that run keep theirs."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def boards(count: int, baud: int | None = BAUD, kept: Path | None = None) -> Iterator[list[str]]:
    """Start simulated boards, each a process, and give their ports; nothing is remembered.

    Args:
        count: how many.
        baud: the line's speed in bit/s; None for as fast as the computer.
        kept: a file with the flash, before and after.
    """
    Path("boards.db").unlink(missing_ok=True)
    line = f"&baud={baud}" if baud else ""
    line += f"&flash={kept}" if kept else ""
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


def esptool(port: str, name: str, *more: str) -> Sample:
    """Let esptool write an image."""
    quiet = ("--port", port, "--chip", "esp32c3", "--before", "no-reset", "--after", "no-reset")
    written = ("write-flash", hex(OFFSET), name, *more)
    return run(sys.executable, "-m", "esptool", *quiet, *written)


def fwsign(ports: Sequence[str], name: str) -> Sample:
    """Let fwsign flash a release."""
    named = [word for port in ports for word in ("--port", port)]
    end = ("--after", "no-reset", "--state", "boards.db")
    return run(PROGRAMS / "fwsign", "flash", f"{name}.suit", *named, *end)


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
