# SPDX-License-Identifier: Apache-2.0
"""A limit on the bytes of a second, so that a gateway's line stays free for others."""

import time
from typing import Final

SLICES: Final = 4
"""Reads in a second, so that the line is never silent for long."""


class Pace:
    """Spreads the reads of a transfer over time.

    Args:
        per_second: bytes a second; None for no limit.
    """

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._free = 0.0

    def wait(self, size: int, deadline: float) -> int:
        """Wait until the next bytes may be read; return how many, at most `size`.

        Args:
            size: the number of bytes that are wanted.
            deadline: the latest end of the wait, by `time.monotonic`.
        """
        if self._per_second is None:
            return size
        pause = min(self._free, deadline) - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        return min(size, max(self._per_second // SLICES, 1))

    def took(self, count: int) -> None:
        """Count bytes that were read."""
        if self._per_second is not None:
            self._free = max(self._free, time.monotonic()) + count / self._per_second
