# SPDX-License-Identifier: Apache-2.0
"""Simulated Picos behind a UART, and programs that they would start."""

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fwsign.flash.boards.board import Board, Run
from fwsign.flash.pico.uart import connect
from fwsign.flash.simulate import Settings
from fwsign.flash.simulate.line import Fault, Line
from fwsign.flash.simulate.pico_uart import Simulator

START = 0x4000
XIP = 0x10000000


def program(size: int, seed: int = 1) -> bytes:
    """Make a program for `START` whose vector table the boot loader accepts."""
    vectors = struct.pack("<II", 0x20042000, XIP + START + 0x101)
    return vectors + random.Random(seed).randbytes(size - len(vectors))  # no secret


def padded(data: bytes) -> bytes:
    """Fill up the last sector, as the engine does."""
    return data.ljust(-(-len(data) // 4096) * 4096, b"\xff")


class Bench(NamedTuple):
    """A simulated board at the end of a line."""

    machine: Simulator
    line: Line

    @contextmanager
    def board(self, attempt: int = 0) -> Iterator[Board]:
        """Connect to it."""
        board = connect(self.line.port)(attempt)
        try:
            yield board
        finally:
            board.close()


@contextmanager
def bench(*faults: tuple[str, int], flash: bytes = b"") -> Iterator[Bench]:
    """Run a simulated board with faults by name and place."""
    made = tuple(Fault(*fault) for fault in faults)
    machine = Simulator(Settings("pico-uart", flash=flash, faults=made))
    with Line(machine, made) as line:
        yield Bench(machine, line)


def run(data: bytes, offset: int = START) -> Run:
    """Make what the engine hands to `write`."""
    return Run(offset, padded(data))


def no_progress(size: int) -> None:
    """Take note of nothing."""
    assert size > 0
