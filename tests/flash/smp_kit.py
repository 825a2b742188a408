# SPDX-License-Identifier: Apache-2.0
"""Simulated boards in serial recovery, images for them, and a port that answers by script."""

import base64
import binascii
import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cbor2
import pytest

from fwsign.errors import Failed
from fwsign.flash.boards.board import Board, Run
from fwsign.flash.simulate import Settings
from fwsign.flash.simulate.line import Fault, Line
from fwsign.flash.simulate.smp import Simulator
from fwsign.flash.smp import board as smp
from fwsign.flash.smp import link as smp_link

RAM_LOAD = 0x20


def image(size: int = 12000, seed: int = 1, *, flags: int = 0) -> bytes:
    """Make an MCUboot image of `size` bytes of code; its signature is none."""
    code = random.Random(seed).randbytes(size)  # no secret
    head = struct.pack("<IIHHIIBBHI4x", 0x96F3B83D, 0, 32, 0, size, flags, 1, 2, 3, 0)
    digest = hashlib.sha256(head + code).digest()
    tlvs = struct.pack("<HH", 0x10, 32) + digest + struct.pack("<HH", 0x22, 64) + bytes(64)
    return head + code + struct.pack("<HH", 0x6907, 4 + len(tlvs)) + tlvs


class Bench(NamedTuple):
    """A simulated board at the end of a line."""

    machine: Simulator
    line: Line

    @contextmanager
    def board(self, attempt: int = 0) -> Iterator[Board]:
        """Connect to it."""
        board = smp.connect(self.line.port)(attempt)
        try:
            yield board
        finally:
            board.close()

    @property
    def carried(self) -> int:
        """Bytes that the host has sent so far."""
        return self.line._received


@contextmanager
def bench(*faults: tuple[str, int], flash: bytes = b"") -> Iterator[Bench]:
    """Run a simulated board with faults by name and place."""
    made = tuple(Fault(*fault) for fault in faults)
    machine = Simulator(Settings("smp", flash=flash, faults=made))
    with Line(machine, made) as line:
        yield Bench(machine, line)


def no_progress(size: int) -> None:
    """Take no note."""


def write(board: Board, data: bytes) -> None:
    """Probe, and upload."""
    board.probe()
    board.write([Run(0, data)], no_progress)


def flash(made: Bench, data: bytes, wanted: bytes) -> list[str]:
    """Do as the engine does, four times at most; return the codes of what failed."""
    codes: list[str] = []
    for attempt in range(4):
        try:
            with made.board(attempt) as board:
                board.probe()
                if board.digest(0, len(data)) != wanted:
                    board.write([Run(0, data)], no_progress)
                if board.digest(0, len(data)) == wanted:
                    return codes
                codes.append("device.mismatch")
        except Failed as error:
            codes.append(error.code)
    return [*codes, "gave up"]


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait for long."""
    monkeypatch.setattr(smp, "POLL", 0.01)
    monkeypatch.setattr(smp_link, "_SILENCE", 0.1)
    for name in ("_ANSWER", "_ERASE", "_LIST", "_HELLO", "_START"):
        monkeypatch.setattr(smp, name, 2.0)


class Asked(NamedTuple):
    """A request as the other side sees it."""

    operation: int
    group: int
    command: int
    sequence: int
    body: dict[str, object]


def framed(packet: bytes, *, room: int = 124) -> bytes:
    """Put a packet into lines."""
    whole = struct.pack(">H", len(packet) + 2) + packet
    whole += struct.pack(">H", binascii.crc_hqx(packet, 0))
    text = base64.b64encode(whole)
    pieces = [text[at : at + room] for at in range(0, len(text), room)]
    return b"\x06\x09" + b"\n\x04\x14".join(pieces) + b"\n"


def answer(asked: Asked, body: object, **fields: Any) -> bytes:
    """Answer a request, with other fields in the header where they are given."""
    encoded = body if isinstance(body, bytes) else cbor2.dumps(body)
    one = asked._replace(operation=asked.operation + 1)._replace(**fields)
    head = (one.operation, 0, len(encoded), one.group, one.sequence, one.command)
    return framed(struct.pack(">BBHHBB", *head) + encoded)


class Scripted:
    """A port at whose other end a function answers each request; silence where it has none."""

    url = "scripted"

    def __init__(self, respond: Callable[[Asked], bytes]) -> None:
        self._respond = respond
        self._incoming = bytearray()
        self.asked: list[Asked] = []

    def write(self, data: bytes) -> None:
        """Take one request."""
        lines = [line for line in data.split(b"\n") if line]
        frame = base64.b64decode(b"".join(line[2:] for line in lines))
        assert binascii.crc_hqx(frame[2:], 0) == 0
        operation, _, _, group, sequence, command = struct.unpack(">BBHHBB", frame[2:10])
        asked = Asked(operation, group, command, sequence, cbor2.loads(frame[10:-2]))
        self.asked.append(asked)
        self._incoming += self._respond(asked)

    def read(self, size: int) -> bytes:
        """Give what there is."""
        taken = bytes(self._incoming[:size])
        del self._incoming[:size]
        return taken

    def close(self) -> None:
        """Stay."""
