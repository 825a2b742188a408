# SPDX-License-Identifier: Apache-2.0
"""The line to a Pico's UART boot loader: waking it from any state, commands and their answers."""

import struct
from typing import Final

from fwsign.errors import Failed
from fwsign.flash.boards.port import Port

ANSWER: Final = 10.0  # seconds; erasing 64 KiB takes at most 2
_SYNC: Final = 0.3  # seconds until the first byte of an answer to SYNC
_QUIET: Final = 0.05  # seconds without a byte after which no more is coming
_CHATTER: Final = 64  # pieces of 256 bytes; a boot loader sends no more than that
_NAMES: Final = (b"PICO", b"WOTA")

_FILLERS: Final = (16, 1048, 1048, 4144, 4144)
"""Zeros to send before SYNC; together they wake the boot loader from any state. 16 end a half-sent
command: zeros complete its words, harmlessly, and form an opcode that does not exist. (SYNC itself
as the size of a half-sent CRCC would be a gigabyte.) The others fill up the data of a half-sent
WRIT, at most 1,024 bytes, 4,096 in old ones. They are sent twice, since it takes in no more than 32
bytes while it programs."""


class PicoLine:
    """A port with the boot loader behind it.

    Args:
        port: the port; this object closes it.
        patience: 1, or more if the line is slow.
        ahead: READs to send before their turn. Two of 12 bytes fit into the UART's 32 bytes while
            an answer is being sent; while it programs or erases nothing may be under way.

    Raises:
        Failed: `device.absent`, `device.lost`.
    """

    def __init__(self, port: Port, patience: int, ahead: int) -> None:
        self._port, self._ahead = port, ahead
        self._in_step = False  # whether it waits for a command
        self.name = self.synchronise(patience)

    def synchronise(self, patience: int) -> str:
        """Wake it from any state, also after ERR!, and return its name."""
        port = self._port
        for zeros in _FILLERS:
            port.drop_input()
            port.write(bytes(zeros) + b"SYNC")
            port.set_timeout(_SYNC * patience)
            heard = port.read(4)
            port.set_timeout(_QUIET * patience)
            for _ in range(_CHATTER):
                more = port.read(256)
                heard = (heard + more)[-4:]
                if not more:
                    break
            if heard in _NAMES:
                port.set_timeout(ANSWER)
                self._in_step = True
                return heard.decode()
        raise Failed(
            "device.absent",
            f"no boot loader answers at {port.url}: expected PICO or WOTA to SYNC",
            expected="PICO or WOTA",
            found="nothing of the kind",
        )

    def read(self, address: int, size: int, block: int) -> bytes:
        """Return the content of memory, read in blocks."""
        end = address + size
        pieces = [(at, min(block, end - at)) for at in range(address, end, block)]
        content = []
        for number in range(-self._ahead, len(pieces)):
            if number + self._ahead < len(pieces):
                self._port.write(b"READ" + struct.pack("<II", *pieces[number + self._ahead]))
            if number >= 0:
                content.append(self._answer(b"READ", pieces[number][1]))
        return b"".join(content)

    def command(self, name: bytes, *words: int, data: bytes = b"", answer: int = 0) -> bytes:
        """Send one command, and return the `answer` bytes that follow OKOK.

        Raises:
            Failed: `device.refused`, `device.protocol`, `device.lost`.
        """
        self._port.write(name + struct.pack(f"<{len(words)}I", *words) + data)
        return self._answer(name, answer)

    def _answer(self, name: bytes, size: int) -> bytes:
        self._in_step = False
        status = self._port.read(4)
        if status == b"ERR!":
            raise _refused(name)
        if status not in (b"OKOK", b"OKOK"[: len(status)]):
            raise Failed(
                "device.protocol",
                f"the boot loader answered {name.decode()} with {status!r}, expected OKOK",
                expected="OKOK or ERR!",
                found=repr(status),
            )
        data = self._port.read(size) if len(status) == 4 else b""
        if len(status) + len(data) < 4 + size:
            found = f"{len(status) + len(data)} bytes"
            raise Failed(
                "device.lost",
                f"no whole answer to {name.decode()} within {ANSWER:.0f} s: {found}",
                expected=f"{4 + size} bytes",
                found=found,
            )
        self._in_step = True
        return data

    def restart(self) -> None:
        """Start the program; only an old boot loader without BOOT answers."""
        if not self._in_step:
            self.synchronise(1)
        self._port.write(b"BOOT" + bytes(4))
        self._port.set_timeout(_QUIET)
        if self._port.read(4) == b"ERR!":
            raise _refused(b"BOOT")

    def close(self) -> None:
        """Release the port."""
        self._port.close()


def _refused(name: bytes) -> Failed:
    return Failed(
        "device.refused",
        f"the boot loader refused {name.decode()}",
        expected="OKOK",
        found="ERR!",
    )
