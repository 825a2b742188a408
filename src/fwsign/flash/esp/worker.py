# SPDX-License-Identifier: Apache-2.0
"""The process that drives esptool for one port: `fwsign.flash.esp.board` starts it and talks to it.

Requests come in over standard input, answers go out over standard output; the only calls are
those of `_Worker`. It ends when its input ends; the parent handles Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from fwsign.errors import Failed
from fwsign.flash.esp.pipe import Message, receive, send

if TYPE_CHECKING:
    from fwsign.flash.esp.loader import Loader


class _Worker:
    """The calls that the parent can make, by name."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._board: Loader  # from the first call on, which is "connect"
        self.calls = {
            "connect": self._connect,
            "probe": lambda _: Message(self._board.probe()),
            "digest": self._digest,
            "read": self._read,
            "write": self._write,
            "reset": self._reset,
        }

    def _connect(self, asked: Message) -> Message:
        # esptool takes 0.1 s to import, and by now standard output is out of its reach.
        try:
            from fwsign.flash.esp.loader import Loader
            from fwsign.flash.esp.tuned import tune
        except ImportError as error:
            raise Failed(
                "device.support",
                f"the esptool that is installed cannot be used: {error}",
                expected="esptool 5.6 or newer, before 6",
                found=str(error),
            ) from error
        tune()
        fields = asked.fields
        self._board = Loader(fields["port"], fields["before"])
        try:
            self._board.begin(fields["baud"], stub=fields["stub"])
        except Failed:
            if fields["recoverable"]:  # the next attempt finds it even if it runs
                with contextlib.suppress(Failed):
                    self._board.reset(fields["after"])
            raise
        return Message({"stub": self._board.stub, "block": self._board.block})

    def _digest(self, asked: Message) -> Message:
        return Message({"digest": self._board.digest(*_place(asked))})

    def _read(self, asked: Message) -> Message:
        return Message({}, self._board.read(*_place(asked)))

    def _write(self, asked: Message) -> Message:
        blocks, at = [], 0
        for size, worth in asked.fields["blocks"]:
            blocks.append((asked.data[at : at + size], worth))
            at += size
        self._board.write(
            *_place(asked),
            blocks,
            deflated=asked.fields["deflated"],
            progress=lambda count: send(self._out, Message({"progress": count})),
        )
        return Message({})

    def _reset(self, asked: Message) -> Message:
        self._board.reset(asked.fields["after"])
        return Message({})


def _place(asked: Message) -> tuple[int, int]:
    return asked.fields["offset"], asked.fields["size"]


def _answer(worker: _Worker, asked: Message) -> Message:
    try:
        return worker.calls[asked.fields["call"]](asked)
    except Failed as failed:
        error: dict[str, Any] = {
            "error": failed.code,
            "message": failed.message,
            "expected": failed.expected,
            "found": failed.found,
        }
        return Message(error)


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a stray print does no harm
    worker = _Worker(out)
    try:
        while (asked := receive(sys.stdin.buffer)) is not None:
            send(out, _answer(worker, asked))
    except OSError:
        pass  # the parent is gone
    # Exit at once: pyserial would sleep for 0.3 s while it closes a socket, and the operating
    # system closes the port anyway.
    os._exit(0)
