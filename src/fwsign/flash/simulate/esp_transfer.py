# SPDX-License-Identifier: Apache-2.0
"""What a simulated ESP chip remembers of a write or read that takes many messages."""

import zlib

from fwsign.flash.simulate.esp_frame import LENGTH, MODE, TOO_MUCH, expect, slip
from fwsign.flash.simulate.esp_nor import SECTOR, Nor


class Writing:
    """A write that has begun.

    Args:
        offset: where it begins, in bytes.
        size: how many bytes of flash it will be.
        block: the most bytes that come at once.
        deflated: whether they are a zlib stream.
        erased: whether that was erased already: by the ROM; the stub erases while it writes.
    """

    def __init__(self, offset: int, size: int, block: int, *, deflated: bool, erased: bool) -> None:
        self.at = offset
        self.end = offset + size
        self._block = block
        self._sequence = 0
        self._inflate = zlib.decompressobj() if deflated else None
        self._erased_to = self.end if erased else offset

    def put(self, nor: Nor, sequence: int, data: bytes, *, deflated: bool) -> None:
        """Take a block.

        Raises:
            RefusedError: it does not fit what has begun.
            zlib.error: it is no zlib stream.
            PowerLostError: while it is written.
        """
        expect(deflated is (self._inflate is not None), MODE)
        expect(len(data) <= self._block and sequence == self._sequence, LENGTH)
        self._sequence += 1
        if self._inflate is None:
            expect(self.at < self.end, TOO_MUCH)
            data = data[: self.end - self.at]  # the last block is padded
        else:
            data = self._inflate.decompress(data)
        end = self.at + len(data)
        expect(end <= self.end, TOO_MUCH)
        if end > self._erased_to:
            nor.erase(self._erased_to, end - self._erased_to)
            self._erased_to = -(-end // SECTOR) * SECTOR
        nor.program(self.at, data)
        self.at = end


class Reading:
    """A read that has begun; the host acknowledges each block with the bytes it has so far.

    Args:
        offset: where it begins, in bytes.
        size: how many bytes.
        block: how many at once.
        ahead: how many blocks may be on their way.
    """

    def __init__(self, offset: int, size: int, block: int, ahead: int) -> None:
        self._offset, self._size, self._block = offset, size, block
        self._ahead = ahead * block
        self._sent = 0

    def acknowledged(self, nor: Nor, count: int) -> bytes:
        """Return the frames that may follow; after the last block, the digest of all."""
        if count >= self._size:
            return slip(nor.md5(self._offset, self._size))
        frames = []
        while self._sent < min(self._size, count + self._ahead):
            end = min(self._sent + self._block, self._size)
            at = self._offset + self._sent
            frames.append(slip(bytes(nor.cells[at : self._offset + end])))
            self._sent = end
        return b"".join(frames)

    def is_over(self, count: int) -> bool:
        """Tell whether the host has everything."""
        return count >= self._size
