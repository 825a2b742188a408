# SPDX-License-Identifier: Apache-2.0
"""A noisy line to a simulated board: each byte may be damaged, either way."""

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.flash.simulate.line import Machine


class Noisy:
    """A machine at the end of a noisy line; a `Machine` itself. Two runs have the same noise.

    Args:
        machine: the board.
        rate: the probability that a byte is damaged.
    """

    def __init__(self, machine: "Machine", rate: float) -> None:
        self._machine, self._rate = machine, rate
        self._random = random.Random(rate)  # noqa: S311 - no secret
        self.damaged = 0
        """Bytes that were damaged."""

    @property
    def baud(self) -> int | None:
        """The board's."""
        return self._machine.baud

    def connected(self) -> None:
        """Tell the board."""
        self._machine.connected()

    def left(self) -> None:
        """Tell the board."""
        self._machine.left()

    def receive(self, data: bytes) -> bytes:
        """Damage the bytes, and then those of the answer."""
        return self._carry(self._machine.receive(self._carry(data)))

    def _carry(self, data: bytes) -> bytes:
        carried = bytearray(data)
        for at in range(len(carried)):
            if self._random.random() < self._rate:
                carried[at] ^= 1 << self._random.randrange(8)
                self.damaged += 1
        return bytes(carried)
