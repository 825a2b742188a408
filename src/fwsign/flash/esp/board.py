# SPDX-License-Identifier: Apache-2.0
"""ESP boards, driven by esptool in a separate process for each port.

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
from fwsign.flash.boards.board import BoardInfo
from fwsign.flash.boards.port import missing
from fwsign.flash.esp.chips import AFTER, BEFORE, RESETTING
from fwsign.flash.esp.pipe import Message, receive, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.flash.boards.board import Connect, Progress, Run

LADDER: Final = (2_000_000, 1_500_000, 921_600, 460_800, 230_400, 115_200)
"""Bit/s to try one after another if the line is bad."""
DEFAULT_BAUD: Final = 921_600
"""The highest rate that all usual USB converters support."""

_DIGEST_BLOCK: Final = 64 * 1024
_PIECE: Final = 4 * 1024 * 1024  # bytes of flash in one request, which bounds its time
_SILENCE: Final = 300.0  # seconds without a message; more than any one command of esptool's takes
_GRACE: Final = 2.0  # seconds for the worker to end by itself
_LEVEL: Final = 6  # compared with 9: 0.07 % more bytes, 40 % less time for compression
_START: Final = "import sys; sys.path.append(sys.argv[1]); from fwsign.flash.esp.worker import main"


def connect(
    port: str,
    *,
    baud: int | None = None,
    before: str | None = None,
    after: str | None = None,
    stub: bool = True,
) -> Connect:
    """Return a function that opens an ESP board.

    Args:
        port: a device path, `COM5`, `socket://host:port` or `rfc2217://host:port`.
        baud: bit/s for the transfer; None for `DEFAULT_BAUD`. Over `socket://`, None is the
            board's first rate, since the other end of the cable may not follow a change.
        before: one of `BEFORE`, None for the first; `socket://` has no control lines for it.
        after: one of `AFTER`, None for the first; over `socket://`, chips that can do it
            without control lines.
        stub: whether to start esptool's stub; without it all is slower.
    """
    if baud is None and not port.startswith("socket:"):
        baud = DEFAULT_BAUD
    way, end = before or BEFORE[0], after or AFTER[0]
    return lambda attempt: EspBoard(port, baud, attempt, way, end, stub=stub)


def rung(baud: int | None, attempt: int) -> int | None:
    """Return the bit/s for an attempt, counted from 0: first as requested, then ever slower."""
    if baud is None or attempt == 0:
        return baud
    slower = [one for one in LADDER if one < baud] or [baud]
    return slower[min(attempt, len(slower)) - 1]


class EspBoard:
    """A board in its ROM or esptool's stub, as `fwsign.flash.boards.board.Board`.

    Args:
        port, baud, before, after, stub: as for `connect`.
        attempt: the number of earlier attempts.

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
        *,
        stub: bool = True,
    ) -> None:
        self._port = port
        self._after = after
        self._worker = _start()
        self._requests = cast("BinaryIO", self._worker.stdin)
        self._answers = cast("BinaryIO", self._worker.stdout)
        try:
            told = self._call(
                "connect",
                port=port,
                baud=rung(baud, attempt),
                before=before,
                after=after,
                stub=stub,
                # By the control lines, which a socket does not have.
                recoverable=before in RESETTING and not port.startswith("socket:"),
            )
        except BaseException:
            self.close()
            raise
        self._stub, self._block = bool(told.fields["stub"]), int(told.fields["block"])

    def probe(self) -> BoardInfo:
        """Return the facts about this board."""
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
            revision=fields["revision"],
            octal=fields["octal"],
            boot_keys=_boot_keys(fields["boot_keys"]),
            revoked_keys=_boot_keys(fields["boot_keys"], revoked=True) or (),
            security_version=fields["security_version"],
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
        """Return the flash's content."""
        return self._call("read", offset=offset, size=size).data

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and write; compress the data if the stub runs and it becomes smaller."""
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
        """Do nothing: the engine has selected what starts."""
        return ()

    def reset(self) -> None:
        """Leave the boot loader in the way of `after`."""
        self._call("reset", after=self._after)

    def close(self) -> None:
        """End the worker, by force if need be."""
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
        """Wait for a message, but not for ever: end a worker that hangs."""
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
    """Start a worker without the caller's settings for esptool."""
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
        [sys.executable, "-P", "-c", f"{_START}; main()", str(Path(__file__).parents[3])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


class _Packed(NamedTuple):
    """The blocks of a run, each with the number of bytes of flash that it fills."""

    data: bytes
    blocks: tuple[tuple[int, int], ...]
    deflated: bool


def _plain(size: int, block: int) -> tuple[tuple[int, int], ...]:
    sizes = [min(block, size - at) for at in range(0, size, block)]
    return tuple((one, one) for one in sizes)


_packing = threading.Lock()


def _packed(data: bytes, block: int) -> _Packed:
    """Compress once for all boards with the same data: it takes half of a board's CPU time."""
    with _packing:
        return _deflated(data, block)


@functools.lru_cache(maxsize=16)
def _deflated(data: bytes, block: int) -> _Packed:
    packed = zlib.compress(data, _LEVEL)
    inflate = zlib.decompressobj()
    pieces = [packed[at : at + block] for at in range(0, len(packed), block)]
    blocks = tuple((len(piece), len(inflate.decompress(piece))) for piece in pieces)
    return _Packed(packed, blocks, deflated=True)


def _boot_keys(
    fields: Sequence[tuple[str, bool]] | None, *, revoked: bool = False
) -> tuple[bytes, ...] | None:
    """Return the digests of the keys that are revoked, or are not; None if they are unknown."""
    if fields is None:
        return None
    return tuple(bytes.fromhex(digest) for digest, gone in fields if gone == revoked)
