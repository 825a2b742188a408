# SPDX-License-Identifier: Apache-2.0
"""ESP boards, by way of esptool in a process of its own: one per port.

esptool's log, its settings and its errors are global to a process, and it is licensed under the
GPL, version 2 or later; this module starts it and exchanges messages with it over pipes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, cast

from fwsign.errors import Failed
from fwsign.flash.board import BoardInfo
from fwsign.flash.esp_chips import AFTER, BEFORE
from fwsign.flash.esp_pipe import Message, receive, send
from fwsign.flash.port import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.flash.board import Connect, Progress, Run

LADDER: Final = (2_000_000, 1_500_000, 921_600, 460_800, 230_400, 115_200)
"""Bit/s that are tried one after another where the line turns out to be bad."""
DEFAULT_BAUD: Final = 921_600
"""The most that all usual USB converters can do."""

_DIGEST_BLOCK: Final = 64 * 1024
_PIECE: Final = 4 * 1024 * 1024  # bytes of flash in one request, which bounds its time
_SILENCE: Final = 300.0  # seconds without a message; more than any one command of esptool's takes
_GRACE: Final = 2.0  # seconds for the worker to end by itself
_LEVEL: Final = 6  # against 9: 0.07 % more to send, 40 % less time to wait before that
_START: Final = "from fwsign.flash.esp_worker import main; main()"


def connect(
    port: str,
    *,
    baud: int | None = None,
    before: str | None = None,
    after: str | None = None,
) -> Connect:
    """Return what opens an ESP board.

    Args:
        port: a device path, `COM5`, `socket://host:port` or `rfc2217://host:port`.
        baud: bit/s for the transfer; None for `DEFAULT_BAUD`, or over `socket://`, where the
            other end of the cable need not follow, for the one that the board begins with.
        before: one of `BEFORE`, None for the first; over `socket://` there are no lines for it.
        after: one of `AFTER`, None for the first; over `socket://` that is done without lines
            by the chips that can.
    """
    if baud is None and not port.startswith("socket:"):
        baud = DEFAULT_BAUD
    return lambda attempt: EspBoard(port, baud, attempt, before or BEFORE[0], after or AFTER[0])


def rung(baud: int | None, attempt: int) -> int | None:
    """Return the bit/s for an attempt, counted from 0: first as asked, then ever slower."""
    if baud is None or attempt == 0:
        return baud
    slower = [one for one in LADDER if one < baud] or [baud]
    return slower[min(attempt, len(slower)) - 1]


class EspBoard:
    """A board in its ROM or esptool's stub, as `fwsign.flash.board.Board`.

    Args:
        port, baud, before, after: as for `connect`.
        attempt: how often this was tried before.

    Raises:
        Failed: `device.support`, `device.port`, `device.absent`, `device.lost`,
            `device.protocol`, `device.refused`.
    """

    def __init__(
        self,
        port: str,
        baud: int | None = DEFAULT_BAUD,
        attempt: int = 0,
        before: str = BEFORE[0],
        after: str = AFTER[0],
    ) -> None:
        self._port = port
        self._after = after
        self._worker = _start()
        self._requests = cast("BinaryIO", self._worker.stdin)
        self._answers = cast("BinaryIO", self._worker.stdout)
        try:
            told = self._call("connect", port=port, baud=rung(baud, attempt), before=before)
        except BaseException:
            self.close()
            raise
        self._stub, self._block = bool(told.fields["stub"]), int(told.fields["block"])

    def probe(self) -> BoardInfo:
        """Say what this board is."""
        fields = self._call("probe").fields
        return BoardInfo(
            kind="esp",
            chip=fields["chip"],
            identity=fields["identity"],
            flash_size=fields["flash_size"],
            digest=fields["digest"],
            digest_block=_DIGEST_BLOCK,
            readable=fields["readable"],
            locks=tuple(fields["locks"]),
            details=tuple((str(name), str(value)) for name, value in fields["details"]),
        )

    def digest(self, offset: int, size: int) -> bytes:
        """Return the MD5 that the board computed."""
        text = self._call("digest", offset=offset, size=size).fields["digest"]
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise Failed(
                "device.protocol", "the board's digest is not hex", expected="hex", found=text
            ) from None

    def read(self, offset: int, size: int) -> bytes:
        """Return what is in the flash."""
        return self._call("read", offset=offset, size=size).data

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and write, compressed where the stub runs and it makes the data smaller."""
        for run in runs:
            for at in range(0, len(run.data), _PIECE):
                data = run.data[at : at + _PIECE]
                packed = _packed(data, self._block) if self._stub else None
                if packed is None or len(packed.data) >= len(data):
                    packed = _Packed(data, _plain(len(data), self._block), deflated=False)
                self._call(
                    "write",
                    packed.data,
                    progress,
                    offset=run.offset + at,
                    size=len(data),
                    blocks=packed.blocks,
                    deflated=packed.deflated,
                )

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:  # noqa: ARG002 - of the protocol
        """Say so where `reset` cannot do anything."""
        if self._call("can_reset", after=self._after).fields["can"]:
            return ()
        return ("reset the board by hand: the port has no lines for it",)

    def reset(self) -> None:
        """Leave the boot loader as `after` says."""
        self._call("reset", after=self._after)

    def close(self) -> None:
        """Let the worker end, and see to it."""
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._worker.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()

    def _call(
        self, name: str, data: bytes = b"", progress: Progress | None = None, **fields: Any
    ) -> Message:
        """Send a request and return its answer."""
        try:
            send(self._requests, Message({"call": name, **fields}, data))
            while (told := self._next()) is not None:
                if "progress" not in told.fields:
                    return _unless_failed(told)
                if progress is not None:
                    progress(int(told.fields["progress"]))
        except (OSError, ValueError) as error:  # ValueError: closed, or not JSON
            raise self._gone() from error
        raise self._gone()

    def _next(self) -> Message | None:
        """Wait for a message, but not for ever: a worker that hangs is ended."""
        watch = threading.Timer(_SILENCE, self._worker.kill)
        watch.daemon = True
        watch.start()
        try:
            return receive(self._answers)
        finally:
            watch.cancel()

    def _gone(self) -> Failed:
        return Failed(
            "device.lost", f"the process that worked with {self._port} has ended unexpectedly"
        )


def _unless_failed(told: Message) -> Message:
    fields = told.fields
    if "error" in fields:
        raise Failed(
            fields["error"],
            fields["message"],
            expected=fields["expected"],
            found=fields["found"],
        )
    return told


def _start() -> subprocess.Popen[bytes]:
    """Start a worker, with nothing of the caller's settings for esptool."""
    if importlib.util.find_spec("esptool") is None:
        raise missing("esptool")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ESPTOOL_") and name != "ESP_IDE_WS"
    }
    environment["ESPTOOL_CFGFILE"] = str(Path(__file__).with_name("esptool.cfg"))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        # -P: nothing is imported from the current directory.
        [sys.executable, "-P", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


class _Packed(NamedTuple):
    """What is sent for a run: per block its size, and the bytes of flash that it is good for."""

    data: bytes
    blocks: tuple[tuple[int, int], ...]
    deflated: bool


def _plain(size: int, block: int) -> tuple[tuple[int, int], ...]:
    sizes = [min(block, size - at) for at in range(0, size, block)]
    return tuple((one, one) for one in sizes)


_packing = threading.Lock()


def _packed(data: bytes, block: int) -> _Packed:
    """Compress once for all boards that get the same: compressing is half of a board's CPU."""
    with _packing:
        return _deflated(data, block)


@functools.lru_cache(maxsize=16)
def _deflated(data: bytes, block: int) -> _Packed:
    packed = zlib.compress(data, _LEVEL)
    inflate = zlib.decompressobj()
    pieces = [packed[at : at + block] for at in range(0, len(packed), block)]
    blocks = tuple((len(piece), len(inflate.decompress(piece))) for piece in pieces)
    return _Packed(packed, blocks, deflated=True)
