# SPDX-License-Identifier: Apache-2.0
"""The flash as it will be: the bytes of a release, laid over the board's own."""

import io
from collections.abc import Sequence
from typing import BinaryIO, Final, cast

from fwsign.errors import Malformed
from fwsign.flash.boards.board import Read, Run
from fwsign.images import esp, esp8266
from fwsign.images.base import Image, ImagePart, Reader
from fwsign.images.esp_chips import ESP8266
from fwsign.images.esp_partitions import SECTOR

READ_SIZE: Final = 64 * 1024
"""Bytes per request to the board."""


class Future:
    """The flash of a board after a run.

    Args:
        runs: the bytes that the run writes; the rest of their last sectors is erased.
        read: reads the board's flash as it is.
        signed: whether the signatures of images are read, which are two sectors after each.
    """

    def __init__(self, runs: Sequence[Run], read: Read, *, signed: bool = True) -> None:
        self._runs, self._read = [_whole(run) for run in runs], read
        self._signed = signed

    def written(self, offset: int, size: int = 1) -> bool:
        """Tell whether the run writes any of these bytes."""
        return any(run.offset < offset + size and offset < run.end for run in self._runs)

    def read(self, offset: int, size: int) -> bytes | None:
        """Return bytes; None if the board must be asked for some and cannot be read."""
        for run in self._runs:
            if run.offset <= offset and offset + size <= run.end:
                return run.data[offset - run.offset :][:size]
        pieces = []
        for start in range(offset, offset + size, READ_SIZE):
            piece = self._read(start, min(READ_SIZE, offset + size - start))
            if piece is None:
                return None
            pieces.append(piece)
        content = b"".join(pieces)
        for run in self._runs:
            start, end = max(run.offset, offset), min(run.end, offset + size)
            if start < end:
                fresh = run.data[start - run.offset : end - run.offset]
                content = content[: start - offset] + fresh + content[end - offset :]
        return content

    def part(self, offset: int, end: int) -> ImagePart | None:
        """Return the image at a place; None if the board cannot be read there.

        Args:
            offset: its first byte.
            end: the first byte that cannot belong to it.

        Raises:
            Malformed: `malformed.image`: no intact image is there.
        """
        view = _View(self)
        try:
            return esp.part_at(cast("BinaryIO", view), offset, end, signed=self._signed)
        except Malformed:
            if view.blind:
                return None
            raise

    def first(self, end: int) -> Image | None:
        """Return the image for an ESP8266 at 0; None if the board cannot be read there.

        Args:
            end: the size of the flash, in bytes.

        Raises:
            Malformed: `malformed.image`: no intact image is there.
        """
        view = _View(self)
        try:
            return esp8266.parse(Reader(cast("BinaryIO", view), ESP8266, 0, end))
        except Malformed:
            if view.blind:
                return None
            raise


def _whole(run: Run) -> Run:
    """Fill the last sector: what the board has there, such as an old signature, goes."""
    size = -(-len(run.data) // SECTOR) * SECTOR
    return run if size == len(run.data) else Run(run.offset, run.data.ljust(size, b"\xff"))


class _View(io.RawIOBase):
    """A future flash as a file, which is read where it is asked for."""

    def __init__(self, future: Future) -> None:
        self._future, self._at = future, 0
        self.blind = False  # whether the board could not be read

    def seek(self, offset: int, _whence: int = 0) -> int:
        """Move."""
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Return bytes; none if the board cannot be read."""
        content = self._future.read(self._at, size)
        self.blind |= content is None
        self._at += len(content or b"")
        return content or b""
