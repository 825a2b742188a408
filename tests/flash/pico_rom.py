# SPDX-License-Identifier: Apache-2.0
"""An imitated RP2040 or RP2350 in BOOTSEL mode, as a pyusb device sees it.

Written from the data sheets (RP2040 section 2.8.5, RP2350 section 5.6), not from the client.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

MAGIC = 0x431FD10B
XIP, WINDOW = 0x10000000, 16 * 1024 * 1024
SECTOR, PAGE = 4096, 256
OUT, IN = 3, 0x84
UNKNOWN, BAD_ARGUMENTS, BAD_TRANSFER, BAD_ADDRESS, BAD_ALIGNMENT = 1, 2, 3, 4, 5
NOT_PERMITTED = 10
ARGUMENTS = {1: 1, 2: 12, 3: 8, 0x84: 8, 5: 8, 6: 0, 0x0A: 16, 0x8B: 16}
RP2350_ONLY = (0x0A, 0x8B)


class UsbError(OSError):
    """As pyusb's, an OSError."""


class Stall(Exception):
    """A command that is refused, with its status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Endpoint(NamedTuple):
    """As pyusb has it."""

    bEndpointAddress: int  # noqa: N815 - USB's name


class Interface(list[Endpoint]):
    """As pyusb has it."""

    def __init__(self, kind: int, number: int, *endpoints: int) -> None:
        super().__init__(map(Endpoint, endpoints))
        self.bInterfaceClass, self.bInterfaceNumber = kind, number


class BootRom:
    """The device; its faults are attributes.

    Args:
        chip: "rp2040" or "rp2350".
        flash: what its flash of 2 MiB begins with.
    """

    def __init__(self, chip: str = "rp2040", flash: bytes = b"") -> None:
        self.idProduct = 0x000F if chip == "rp2350" else 0x0003
        self.bus, self.port_numbers = 1, (2, 3)
        self.rp2350 = chip == "rp2350"
        self.flash = bytearray(flash.ljust(2 * 1024 * 1024, b"\xff"))
        self.commands: list[int] = []
        self.partitions = self.secure = 0
        self.restarted = self.ejected = False
        self.hasty = False  # restarts before it has answered
        self.unplug_at = self.refuse_at = self.power_at = -1  # number of a command
        self.stuck = -1  # offset of a byte that cannot be programmed
        self.short = 0  # bytes that every answer lacks
        self.interfaces = [Interface(8, 0, 1, 0x82), Interface(0xFF, 1, OUT, IN)]
        self.released = 0
        self._gone = self._no_xip = False
        self._halted: set[int] = set()
        self._status = struct.pack("<IIBB6x", 0, 0, 0, 0)
        self._answers: list[bytes] = []
        self._after: Callable[[bytes], None] | None = None

    def get_active_configuration(self) -> list[Interface]:
        """Return the interfaces."""
        return self.interfaces

    def release(self) -> None:
        """Take note that the host is done."""
        self.released += 1

    # --- transfers --------------------------------------------------------------------------

    def write(self, endpoint: int, data: bytes, timeout: int) -> int:
        """Take a command, its data, or the empty packet behind an answer."""
        self._check(endpoint, OUT, timeout)
        if self._after is not None:
            after, self._after = self._after, None
            self._try(lambda: after(data), IN)
        elif data:
            assert len(data) == 32
            self._try(lambda: self._begin(data), OUT)
        return len(data)

    def read(self, endpoint: int, size: int, timeout: int) -> bytes:
        """Give an answer, or the empty packet behind data."""
        self._check(endpoint, IN, timeout)
        if not self._answers:
            raise UsbError(110, "Operation timed out")
        answer = self._answers.pop(0)
        assert len(answer) <= size
        self._gone = self.restarted
        return answer[: len(answer) - self.short]

    def clear_halt(self, endpoint: int) -> None:
        """Let an endpoint go on."""
        self._halted.discard(endpoint)

    def ctrl_transfer(  # noqa: PLR0917 - as pyusb has it
        self, kind: int, request: int, value: int, index: int, data: Any, timeout: int
    ) -> bytes:
        """Answer GET_STATUS of an endpoint, IF_RESET and IF_CMD_STATUS."""
        if self._gone:
            raise UsbError(19, "No such device")
        assert timeout > 0
        assert value == 0
        if (kind, request) == (0x82, 0):
            return bytes([index in self._halted, 0])[:data]
        assert index == 1
        if (kind, request) == (0x41, 0x41):
            self._halted.clear()
            self._answers.clear()
            self._after = None
            return b""
        assert (kind, request, data) == (0xC1, 0x42, 16)
        return self._status

    def _check(self, endpoint: int, expected: int, timeout: int) -> None:
        assert endpoint == expected
        assert timeout > 0
        if self._gone:
            raise UsbError(19, "No such device")
        if endpoint in self._halted:
            raise UsbError(32, "Pipe error")

    def _try(self, action: Callable[[], None], endpoint: int) -> None:
        try:
            action()
        except Stall as stall:
            self._halted |= {OUT, IN}
            self._status = struct.pack("<IIBB6x", self._token, stall.status, self.commands[-1], 0)
            if endpoint == OUT:
                return  # the host finds out with its next transfer

    # --- commands ---------------------------------------------------------------------------

    def _begin(self, packet: bytes) -> None:
        magic, self._token, command, count, zero, size, arguments = struct.unpack(
            "<IIBBHI16s", packet
        )
        assert (magic, zero) == (MAGIC, 0)
        number = len(self.commands)
        self.commands.append(command)
        if number == self.unplug_at:
            self._gone = True
            return
        if command not in ARGUMENTS or (command in RP2350_ONLY and not self.rp2350):
            raise Stall(UNKNOWN)
        if count != ARGUMENTS[command]:
            raise Stall(BAD_ARGUMENTS)
        if number == self.refuse_at:
            raise Stall(NOT_PERMITTED)
        self._do(command, arguments, size)
        if number == self.power_at:
            self._gone = True

    def _do(self, command: int, arguments: bytes, size: int) -> None:
        start, length = struct.unpack_from("<II", arguments)
        if command == 0x84:
            self._place(start, length, 1, size)
            self._answer(self._mirrored(start - XIP, length))
        elif command == 0x8B:
            self._answer(self._info(arguments).ljust(size, b"\0"))
        elif command == 5:
            self._place(start, length, PAGE, size)
            self._after = lambda data: self._program(start - XIP, data)
        elif size:
            raise Stall(BAD_TRANSFER)
        else:
            if command == 3:
                self._place(start, length, SECTOR, length)
                self._erase(start - XIP, length)
            self.ejected |= command == 1 and arguments[0] == 2
            self._no_xip |= command == 6
            self._answers.append(b"")
            self.restarted |= command in (2, 0x0A)
            self._gone = self.restarted and self.hasty
            if self.restarted:
                expected = (0, 0, 100) if command == 2 else (0, 100, 0, 0)
                assert struct.unpack_from(f"<{len(expected)}I", arguments) == expected

    def _place(self, start: int, length: int, unit: int, size: int) -> None:
        assert self._no_xip  # else the ROM would read a cache
        if size != length:
            raise Stall(BAD_TRANSFER)
        if (start | length) % unit:
            raise Stall(BAD_ALIGNMENT)
        if not XIP <= start <= start + length <= XIP + WINDOW:
            raise Stall(BAD_ADDRESS)

    def _answer(self, data: bytes) -> None:
        self._answers.append(data)
        self._after = self._acknowledged

    @staticmethod
    def _acknowledged(data: bytes) -> None:
        assert data == b""

    def _info(self, arguments: bytes) -> bytes:
        kind, _, _, flags, _, _ = struct.unpack("<BBHIII", arguments)
        words = {
            (1, 3): (5, 3, 0x00000002, 0x89ABCDEF, 0x01234567, self.secure),
            (2, 1): (4, 1, self.partitions, 0, 0),
        }[kind, flags]
        return struct.pack(f"<{len(words)}I", *words)

    # --- flash ------------------------------------------------------------------------------

    def _mirrored(self, start: int, length: int) -> bytes:
        size = len(self.flash)
        return bytes(self.flash[at % size] for at in range(start, start + length))

    def _erase(self, start: int, length: int) -> None:
        half = len(self.commands) - 1 == self.power_at
        for at in range(start, start + length // (2 if half else 1)):
            self.flash[at % len(self.flash)] = 0xFF

    def _program(self, start: int, data: bytes) -> None:
        for at, byte in enumerate(data, start):
            if at != self.stuck:
                self.flash[at % len(self.flash)] &= byte
        self._answers.append(b"")
