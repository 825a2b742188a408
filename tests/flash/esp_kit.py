"""Simulated ESP boards, and firmware for them."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import md5
from typing import Any

from fwsign.flash.boards.board import Run
from fwsign.flash.esp.board import EspBoard
from fwsign.flash.simulate import Settings
from fwsign.flash.simulate.esp import Simulator
from fwsign.flash.simulate.line import Fault, Line

SECTOR = 4096


class Bench:
    """A simulated board and the port that it is at."""

    def __init__(self, line: Line, chip: Simulator) -> None:
        self.line, self.port, self.flash = line, line.port, chip.flash
        self.chip = chip

    def soon(self, name: str, after: int) -> None:
        """Let something go wrong that many bytes, or for `nak` commands, from now."""
        if name == "nak":
            self.chip._naks.add(self.chip._commands + after)
        else:
            count = self.line._sent if name == "flip-back" else self.line._received
            self.line._faults.append(Fault(name, count + after))

    def restarts(self, expected: int) -> int:
        """Return how often the board restarted: a command without an answer is still on its way."""
        latest = time.monotonic() + 10
        while self.chip.restarts < expected and time.monotonic() < latest:
            time.sleep(0.01)
        return self.chip.restarts

    @contextmanager
    def board(self, baud: int | None = None, attempt: int = 0, **how: Any) -> Iterator[EspBoard]:
        """Open it as the flasher does."""
        with closing(EspBoard(self.port, baud, attempt, **how)) as board:
            yield board


@contextmanager
def bench(name: str, *faults: tuple[str, int], **settings: Any) -> Iterator[Bench]:
    """Put a simulated board on the table."""
    wrong = tuple(Fault(*fault) for fault in faults)
    chip = Simulator(Settings(name, faults=wrong, **settings))
    with Line(chip, wrong) as line:
        yield Bench(line, chip)


def firmware(size: int, seed: int = 7) -> bytes:
    """Make bytes that compress to about two thirds, as firmware does; the same every time."""
    source = random.Random(seed)  # the same every time
    words = [source.randbytes(6) for _ in range(500)]
    made = bytearray()
    while len(made) < size:
        made += source.choice(words) if source.random() < 0.6 else source.randbytes(4)
    return bytes(made[:size])


def write(board: EspBoard, *runs: Run) -> list[int]:
    """Write, and return what progress was told."""
    told: list[int] = []
    board.write(runs, told.append)
    return told


def differing(board: EspBoard, runs: Sequence[Run]) -> list[Run]:
    """Return the sectors that do not hold what they should, by their digests."""
    sectors = [
        Run(run.offset + at, run.data[at : at + SECTOR])
        for run in runs
        for at in range(0, len(run.data), SECTOR)
    ]
    return [one for one in sectors if board.digest(one.offset, len(one.data)) != digest(one.data)]


def digest(data: bytes) -> bytes:
    """Return the MD5 that a board should compute."""
    return md5(data, usedforsecurity=False).digest()
