# SPDX-License-Identifier: Apache-2.0
"""Make esptool silent and several times faster, in its worker process.

esptool takes a second of CPU to write 1.7 MB. Most of it goes into hex dumps for a disabled trace,
and into frames and checksums byte by byte. Nothing here changes the bytes on the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import esptool.loader
from esp_pylib.logger import EspLog, EspLogBase
from esptool.util import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SEED: Final = 0xEF
_MUCH: Final = 1 << 16  # bytes; more than waits in a socket


class SilenceError(FatalError):  # type: ignore[misc]  # esptool has no types
    """The board has not answered in time."""


class _Silent(EspLogBase):
    """Says nothing: the pipe to the parent is the only output."""

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing."""

    def err(self, *args: Any, suggestion: str | None = None) -> None:
        """Say nothing."""

    warn = err

    def note(self, *args: Any) -> None:
        """Say nothing."""

    hint = debug = note

    def set_verbosity(self, mode: int | str) -> None:
        """Stay silent."""

    def progress_bar(self, *args: Any, **kwargs: Any) -> None:
        """Show nothing."""


class _NoDump:
    """Replaces a hex dump that is never read."""

    def __init__(self, data: bytes, auto_split: bool = True) -> None:
        """Forget the data."""

    def __str__(self) -> str:
        return ""


def tune() -> None:
    """Replace esptool's slow and talkative parts; once per process, before a port is opened."""
    EspLog.instance = _Silent()
    esptool.loader.HexFormatter = _NoDump
    esptool.loader.slip_reader = slip_frames
    esptool.loader.ESPLoader.checksum = staticmethod(checksum)


def slip_frames(port: Any, _trace: Callable[[str], None]) -> Iterator[bytes]:
    """Yield frames as they arrive; bytes outside a frame are noise.

    Raises:
        SilenceError: nothing has come within the port's timeout.
    """
    partial = b""
    while True:
        *frames, partial = (partial + _arrived(port)).split(b"\xc0")
        for frame in frames:
            if frame:
                yield frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


def _arrived(port: Any) -> bytes:
    data: bytes = port.read(port.in_waiting or 1)
    if not data:
        raise SilenceError("no answer from the board")
    if port.name.startswith("socket:"):  # where pyserial counts at most one waiting byte
        timeout, port.timeout = port.timeout, 0
        data += port.read(_MUCH)
        port.timeout = timeout
    return data


def checksum(data: bytes, state: int = _SEED) -> int:
    """XOR all bytes, by halves of one long integer."""
    value = int.from_bytes(data, "little")
    width = 1 << max(value.bit_length() - 1, 7).bit_length()
    while width > 8:
        width //= 2
        value = (value >> width) ^ (value & ((1 << width) - 1))
    return value ^ state
