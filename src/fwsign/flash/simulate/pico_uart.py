# SPDX-License-Identifier: Apache-2.0
"""A simulated Pico with the UART boot loader of usedbytes, 2 MiB of flash, and its weaknesses.

Like the real one it has no timeouts and no framing: it waits for ever for the rest of a half-sent
command, and loses bytes that arrive while it works, beyond the 32 that its UART keeps. It begins
as with the entry pin held down. After BOOT, or after a loss of power, it starts a program with a
valid header and then answers nothing.
"""

import re
import struct
import zlib
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from fwsign.flash.simulate import Settings

FLASH: Final = 0x10000000
SIZE: Final = 2 * 1024 * 1024
HEADER: Final = 0x3000
PROGRAM: Final = 0x4000
SECTOR: Final = 4096
PAGE: Final = 256
LARGEST: Final = 1024
UART_FIFO: Final = 32
BAUD: Final = 921600
_WORDS: Final = {
    **dict.fromkeys((b"SYNC", b"INFO"), 0),
    **dict.fromkeys((b"GOGO", b"BOOT"), 1),
    **dict.fromkeys((b"READ", b"CSUM", b"CRCC", b"ERAS", b"WRIT"), 2),
    b"SEAL": 3,
}


class _Refused(Exception):
    pass


class _PowerLost(Exception):
    pass


def _otp_id(identity: str) -> bytes:
    """Return the chip's id as its memory has it.

    Raises:
        Failed: `device.port`: that is no such id.
    """
    if not re.fullmatch("[0-9a-f]{16}", identity):
        message = f"not the identity of a Pico: {identity}, expected 16 hex digits"
        raise Failed("device.port", message, expected="16 hex digits", found=identity)
    return bytes.fromhex(identity)[::-1]


class Simulator:
    """The boot loader and its flash.

    Args:
        settings: what the flash holds and what goes wrong.
    """

    def __init__(self, settings: "Settings") -> None:
        self.flash = bytearray(settings.flash[:SIZE].ljust(SIZE, b"\xff"))
        self.baud = BAUD if settings.baud == 0 else settings.baud
        self.name = b"PICO"
        self.chip_id = 0x20002927  # an RP2040 B2
        self.otp_id = _otp_id(settings.identity or "0123456789abcdef")
        self.running = False
        self.commands: list[bytes] = []
        self.received = self.answered = 0  # bytes on the line
        self._faults = list(settings.faults)
        self._sent = bytearray(self.flash)  # what a boot loader that lies speaks of
        self._input = bytearray()
        self._step: Callable[[], bytes | None] = self._wait_for_sync
        self._matched = 0
        self._name = b""
        self._words: tuple[int, ...] = ()
        self._actions: dict[bytes, Callable[[bytes], bytes]] = {
            b"SYNC": lambda _: b"",
            b"INFO": self._info,
            b"READ": self._read,
            b"CSUM": self._csum,
            b"CRCC": self._crcc,
            b"ERAS": self._eras,
            b"WRIT": self._writ,
            b"SEAL": self._seal_it,
            b"GOGO": self._go,
            b"BOOT": self._boot,
        }

    def connected(self) -> None:
        """A UART does not notice."""

    def left(self) -> None:
        """A UART does not notice."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes, and answer all commands that are complete."""
        self.received += len(data)
        if self.running:
            return b""
        self._input += data
        answers = b""
        try:
            while (answer := self._step()) is not None:
                answers += answer
        except _PowerLost:
            self._power_on()
        self.answered += len(answers)
        return answers

    def sealed(self) -> bool:
        """Tell whether the header is one that boots."""
        return self._header_fits(*struct.unpack_from("<3I", self.flash, HEADER))

    def _power_on(self) -> None:
        self._input.clear()
        self._begin()
        self.running = self.sealed()

    def _begin(self) -> None:
        self._step, self._matched = self._wait_for_sync, 0

    # --- its states: each returns an answer, or None while bytes are missing -----------------

    def _wait_for_sync(self) -> bytes | None:
        while self._input:
            byte = self._input.pop(0)
            self._matched = self._matched + 1 if byte == b"SYNC"[self._matched] else 0
            if self._matched == 4:
                self._matched = 0
                return self._command(b"SYNC")
        return None

    def _wait_for_name(self) -> bytes | None:
        name = self._take(4)
        return None if name is None else self._command(name)

    def _command(self, name: bytes) -> bytes:
        self.commands.append(name)
        if name not in _WORDS:
            return self._error()
        self._name, self._step = name, self._wait_for_words
        return b""

    def _wait_for_words(self) -> bytes | None:
        count = _WORDS[self._name]
        taken = self._take(4 * count)
        if taken is None:
            return None
        self._words = struct.unpack(f"<{count}I", taken)
        if self._fault("nak", len(self.commands) - 1) or not self._sizes_fit():
            return self._error()
        self._step = self._wait_for_data
        return b""

    def _wait_for_data(self) -> bytes | None:
        data = self._take(self._words[1] if self._name == b"WRIT" else 0)
        if data is None:
            return None
        self._step = self._wait_for_name
        status = self.name if self._name == b"SYNC" else b"OKOK"
        try:
            answer = self._actions[self._name](data)
        except _Refused:
            return self._error()
        del self._input[UART_FIFO:]  # nobody took them in the meantime
        if self.running:
            return b""
        return status + answer

    def _error(self) -> bytes:
        self._begin()
        return b"ERR!"

    def _take(self, size: int) -> bytes | None:
        if len(self._input) < size:
            return None
        taken = bytes(self._input[:size])
        del self._input[:size]
        return taken

    # --- what the commands demand and do ------------------------------------------------------

    def _sizes_fit(self) -> bool:
        if self._name == b"READ":
            return self._words[1] <= LARGEST
        if self._name in (b"CSUM", b"CRCC"):
            return not (self._words[0] | self._words[1]) & 3
        if self._name == b"WRIT":
            return self._inside(PROGRAM, PAGE) and self._words[1] <= LARGEST
        return True

    def _inside(self, lowest: int, unit: int) -> bool:
        start, size = self._words
        end = (start + size) & 0xFFFFFFFF
        aligned = not (start | size) & (unit - 1)
        return FLASH + lowest <= start and end < FLASH + SIZE and aligned

    def _info(self, _: bytes) -> bytes:
        return struct.pack("<5I", FLASH + PROGRAM, SIZE - PROGRAM, SECTOR, PAGE, LARGEST)

    def _memory(self, flash: bytearray) -> bytes:
        start, size = self._words
        if FLASH <= start < FLASH + SIZE:
            return bytes(flash[start - FLASH :][:size]).ljust(size, b"\0")
        if start == 0x40000000:
            return struct.pack("<I", self.chip_id).ljust(size, b"\0")[:size]
        if start == 0x40130000:
            return self.otp_id.ljust(size, b"\0")[:size]
        return bytes(size)

    def _read(self, _: bytes) -> bytes:
        return self._memory(self.flash)

    def _csum(self, _: bytes) -> bytes:
        words = struct.unpack(f"<{self._words[1] // 4}I", self._memory(self.flash))
        return struct.pack("<I", sum(words) & 0xFFFFFFFF)

    def _crcc(self, _: bytes) -> bytes:
        return struct.pack("<I", zlib.crc32(self._memory(self._shown())))

    def _shown(self) -> bytearray:
        lies = any(fault.name == "lie" for fault in self._faults)
        return self._sent if lies else self.flash

    def _eras(self, _: bytes) -> bytes:
        if not self._inside(HEADER, SECTOR):
            raise _Refused
        start, size = self._words[0] - FLASH, self._words[1]
        self._sent[start : start + size] = b"\xff" * size
        for at in range(start, start + size, SECTOR):
            half = self._fault("power", at // SECTOR)
            length = SECTOR // 2 if half else SECTOR
            self.flash[at : at + length] = b"\xff" * length
            if half:
                raise _PowerLost
        return b""

    def _writ(self, data: bytes) -> bytes:
        start = self._words[0] - FLASH
        self._sent[start : start + len(data)] = data
        cut = self._fault("power", start // SECTOR)
        self._program(start, data[: len(data) // 2] if cut else data)
        if cut:
            raise _PowerLost
        return struct.pack("<I", zlib.crc32(self._memory(self._shown())))

    def _program(self, start: int, data: bytes) -> None:
        """Program as flash does: bits are only ever cleared."""
        end = start + len(data)
        stuck = [one.at for one in self._faults if one.name == "stuck" and start <= one.at < end]
        kept = [(at, self.flash[at]) for at in stuck]
        both = int.from_bytes(self.flash[start:end], "big") & int.from_bytes(data, "big")
        self.flash[start:end] = both.to_bytes(len(data), "big")
        for at, byte in kept:
            self.flash[at] = byte

    def _seal_it(self, _: bytes) -> bytes:
        vectors, size, _crc = self._words
        if vectors & 0xFF or size & 3 or not self._header_fits(*self._words):
            raise _Refused
        self.flash[HEADER : HEADER + SECTOR] = b"\xff" * SECTOR
        if self._fault("power", HEADER // SECTOR):
            raise _PowerLost
        self._program(HEADER, struct.pack("<3I", *self._words).ljust(PAGE, b"\0"))
        return b""

    def _header_fits(self, vectors: int, size: int, crc: int) -> bool:
        start = vectors - FLASH
        if not 0 <= start < SIZE - 8 or zlib.crc32(self.flash[start : start + size]) != crc:
            return False
        stack, reset = struct.unpack_from("<II", self.flash, start)
        return bool(stack >= 0x20000000 and vectors <= reset <= vectors + size and reset & 1)

    def _go(self, _: bytes) -> bytes:
        self.running = True
        return b""

    def _boot(self, _: bytes) -> bytes:
        self._power_on()
        self.running = self.running and not self._words[0]
        return b""

    def _fault(self, name: str, at: int) -> bool:
        """Tell whether a fault is due, which it then no longer is."""
        found = next((one for one in self._faults if one == (name, at)), None)
        if found is not None:
            self._faults.remove(found)
        return found is not None
