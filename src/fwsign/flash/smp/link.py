# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of SMP over a port; this handles noise, lost lines and late answers.

A damaged line is dropped by the other side without a word, and some requests take long. After
some silence an echo is therefore asked for: a boot loader that is still at work answers the
request first, one that did not get it answers the echo alone, and is sent the request again. All
requests of the backend may be repeated; each time they get another sequence number.
"""

import time
from typing import Any, Final

from fwsign.errors import Failed
from fwsign.flash.boards.port import Port
from fwsign.flash.smp.cbor import decode_map
from fwsign.flash.smp.encodings import ConsoleEncoding, Encoding
from fwsign.flash.smp.frame import WRITE, Garbled, Packet
from fwsign.format import cbor

OS, IMAGE = 0, 1
"""Groups of commands."""
ECHO, RESET, PARAMETERS = 0, 5, 6
"""Commands of the group OS."""
STATE, UPLOAD = 0, 1
"""Commands of the group IMAGE."""

POLL: Final = 0.1  # seconds that a read from the port waits
_SILENCE: Final = 1.0  # seconds of silence after which an echo is requested
_SENDS: Final = 8  # sends of one request; a line that damages more is unusable


class SmpLink:
    """SMP over an open port, which it owns.

    Args:
        port: its reads must end after `POLL`.
        encoding: how packets are carried.
    """

    def __init__(self, port: Port, encoding: Encoding | None = None) -> None:
        self._port = port
        self._encoding: Encoding = encoding or ConsoleEncoding()
        self._sequence = 0
        self._disturbed = True  # the other side may hold a part of a line

    def request(
        self, operation: int, group: int, command: int, body: dict[str, Any], patience: float
    ) -> dict[str, Any]:
        """Return the answer to a request, with any result code.

        Args:
            operation: READ or WRITE.
            group: the group of commands.
            command: the command's number in the group.
            body: values that CBOR can hold.
            patience: seconds until the boot loader counts as gone.

        Raises:
            Failed: `device.absent`, `device.lost`, `device.protocol`.
        """
        end = time.monotonic() + patience
        asked: set[int] = set()
        for _ in range(_SENDS):
            asked.add(self._send(operation, group, command, body))
            answer = self._answer((operation + 1, group, command), asked, end)
            if answer is not None:
                return _decoded(answer)
        raise Failed(
            "device.lost",
            f"the line to {self._port.url} damages what it carries: "
            f"{_SENDS} requests got no whole answer",
        )

    def close(self) -> None:
        """Release the port."""
        self._port.close()

    def _send(self, operation: int, group: int, command: int, body: dict[str, Any]) -> int:
        self._sequence = (self._sequence + 1) % 256
        packet = Packet(operation, group, command, self._sequence, cbor.encode(body))
        sent = self._encoding.encode(packet)
        if self._disturbed:
            self._encoding.reset()
            sent = self._encoding.wake + sent
        self._port.write(sent)
        self._disturbed = False
        return self._sequence

    def _answer(self, kind: tuple[int, int, int], asked: set[int], end: float) -> Packet | None:
        """Wait for an answer; None: the request, or the answer, did not arrive."""
        knock = None
        while True:
            try:
                packet = self._receive(min(end, time.monotonic() + _SILENCE * self._encoding.calm))
            except Garbled:
                self._disturbed = True
                return None
            if packet is None:
                if time.monotonic() >= end:
                    raise Failed("device.absent", f"no boot loader answers at {self._port.url}")
                self._disturbed = True
                knock = self._send(WRITE, OS, ECHO, {"d": ""})
            elif packet.sequence in asked and packet[:3] == kind:
                return packet
            elif packet.sequence == knock:
                return None

    def _receive(self, until: float) -> Packet | None:
        while time.monotonic() < until:
            byte = self._port.read(1)
            if byte and (packet := self._encoding.feed(byte)) is not None:
                return packet
        return None


def _decoded(answer: Packet) -> dict[str, Any]:
    try:
        return decode_map(answer.body)
    except ValueError as error:
        raise Failed(
            "device.protocol",
            f"the answer of the boot loader is not CBOR: {error}",
            expected="a map",
            found=answer.body[:16].hex() or "nothing",
        ) from None
