# SPDX-License-Identifier: Apache-2.0
"""A simulated ESP chip: the boot loader in its ROM, and the program ("stub") a host loads into it.

The protocol is Espressif's "Serial Protocol": SLIP frames, a request of `<BBHI` (0, command,
size, checksum) and data, an answer of `<BBHI` (1, command, size, value), data and status. What
is uploaded to RAM is not run: once started, the simulator itself answers as the stub does.
Of its own it has the fault `noise@N`: above N bit/s every block of data arrives damaged.
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Final

from fwsign.flash.boards.board import SECURE_DOWNLOAD
from fwsign.flash.simulate.esp_boot_image import Rom
from fwsign.flash.simulate.esp_boots import Started, bound_to, start
from fwsign.flash.simulate.esp_chip import Registers
from fwsign.flash.simulate.esp_frame import (
    CHECKSUM,
    FLASH,
    INFLATE,
    LENGTH,
    MODE,
    TOO_LITTLE,
    UNKNOWN,
    RefusedError,
    expect,
    fold,
    slip,
    status,
    unslip,
)
from fwsign.flash.simulate.esp_nor import SECTOR, SMALLEST, Nor, PowerLostError
from fwsign.flash.simulate.esp_stock import signature_for, stock
from fwsign.flash.simulate.esp_transfer import Reading, Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fwsign.flash.simulate import Settings

_ROM_BAUD: Final = 115200
_ROM_SYNC: Final = 0x20120707
_SYNC: Final = b"\x07\x07\x12\x20" + 32 * b"\x55"
_HEAD: Final = struct.Struct("<BBHI")
_DATA_HEAD: Final = struct.Struct("<IIII")
_READ_ACK: Final = struct.Struct("<I")
_READ_SLOW: Final = 64  # bytes, whatever was asked for
_WATCHDOG: Final = 1 << 31 | 5 << 28 | 1 << 8 | 2  # switches a watchdog on that resets the chip
_S3_READ_HOOK: Final = 0x3FCEF688  # the ROM calls what this word points to when it reads flash

_WRITING: Final = {0x02, 0x03, 0x04}
_OLD_ROM: Final = _WRITING | {0x05, 0x06, 0x07, 0x08, 0x09, 0x0A}
_ROM: Final = _OLD_ROM | {0x0B, 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x13, 0x14}
_LOCKED_ROM: Final = _WRITING | {0x08, 0x0B, 0x0D, 0x0F, 0x14}
_STUB: Final = (_ROM - {0x0E}) | {0xD0, 0xD1, 0xD2, 0xD3}
_DATA: Final = {0x03, 0x07, 0x11}


class Simulator:
    """The machine behind `sim:esp32c3` and its like.

    Raises:
        Failed: `device.port`: no such lock or identity.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nor = Nor(_content(settings), settings.faults, settings.size)
        self.flash = self._nor.cells
        self._sealed = bound_to(self.flash)
        self._registers = Registers(
            settings.board,
            settings.identity,
            settings.locks,
            self._nor.id,
            settings.revision,
            octal=settings.octal,
            boot=settings.boot,
        )
        self._rom = _OLD_ROM if settings.board == "esp8266" else _ROM
        if SECURE_DOWNLOAD in settings.locks:
            self._rom = _LOCKED_ROM
        self._naks = {fault.at for fault in settings.faults if fault.name == "nak"}
        self._noise = [fault.at for fault in settings.faults if fault.name == "noise"]
        self._commands = 0
        self.restarts = 0
        """The number of times that a host has let the chip leave its boot loader."""
        self._run: Mapping[int, Callable[[bytes], bytes]] = {
            0x02: partial(self._begin, deflated=False),
            0x03: partial(self._put, deflated=False),
            0x04: self._flash_end,
            0x05: self._mem_begin,
            0x06: self._mem_end,
            0x07: self._mem_data,
            0x08: self._sync,
            0x09: self._write_register,
            0x0A: self._read_register,
            0x0B: self._accept,
            0x0D: self._accept,
            0x0E: self._read_slow,
            0x0F: self._change_baud,
            0x10: partial(self._begin, deflated=True),
            0x11: partial(self._put, deflated=True),
            0x12: self._flash_end,
            0x13: self._md5,
            0x14: self._security_info,
            0xD0: self._erase_all,
            0xD1: self._erase,
            0xD2: self._read,
            0xD3: self._leave,
        }
        self._restart()

    def _restart(self) -> None:
        """Begin in the ROM, as after power came back."""
        self._stub = False
        self._speed = _ROM_BAUD
        self._partial = b""
        self._value = 0
        self._follows = b""  # what is sent after an answer
        self._silent = False  # no answer comes: the command never returns
        self._loading: tuple[int, int] | None = None  # blocks to come, their size
        self._loaded = 0
        self._writing: Writing | None = None
        self._reading: Reading | None = None

    @property
    def baud(self) -> int | None:
        """The line's speed in bit/s; None for as fast as the computer."""
        return self._speed if self._settings.baud == 0 else self._settings.baud

    @property
    def started(self) -> Started:
        """What a reset starts now, as its ROM and its boot loader judge the flash."""
        settings = self._settings
        revision = self._registers.revision
        usual = (settings.board, revision, settings.locks, settings.table, self._sealed)
        return start(self.flash, Rom(*usual, *settings.boot))

    def connected(self) -> None:
        """Nothing: a chip does not notice, and the stub goes on running."""

    def left(self) -> None:
        """Nothing, likewise."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the host and return the answer to all that is complete."""
        *frames, self._partial = (self._partial + data).split(b"\xc0")
        answer = b""
        try:
            for frame in frames:
                answer += self._frame(frame)
        except PowerLostError:
            self._restart()
        return answer

    def _frame(self, frame: bytes) -> bytes:
        frame = unslip(frame)
        if self._reading is not None and len(frame) == _READ_ACK.size:
            (count,) = _READ_ACK.unpack(frame)
            answer = self._reading.acknowledged(self._nor, count)
            self._reading = None if self._reading.is_over(count) else self._reading
            return answer
        if len(frame) < _HEAD.size:
            return b""
        self._reading = None  # the host wants something else
        direction, command, size, checksum = _HEAD.unpack_from(frame)
        data = frame[_HEAD.size :]
        if direction != 0 or size != len(data):
            return b""
        self._value, self._follows, self._silent = 0, b"", False
        was_stub = self._stub
        try:
            answer, code = self._command(command, checksum, data), 0
        except RefusedError as refused:
            answer, code = b"", refused.code
        except struct.error:
            answer, code = b"", LENGTH
        if self._silent:
            return self._follows
        if code == UNKNOWN and not was_stub:
            # The ROM says eight times that it did not understand, and names no command.
            return 8 * self._answer(0, b"", UNKNOWN, stub=False)
        times = 8 if command == 0x08 and not code else 1
        return times * self._answer(command, answer, code, stub=was_stub) + self._follows

    def _answer(self, command: int, data: bytes, code: int, *, stub: bool) -> bytes:
        ended = status(code, stub=stub, reserved=0 if self._rom is _OLD_ROM else 2)
        return slip(_HEAD.pack(1, command, len(data) + len(ended), self._value) + data + ended)

    def _command(self, command: int, checksum: int, data: bytes) -> bytes:
        number, self._commands = self._commands, self._commands + 1
        if command not in (_STUB if self._stub else self._rom):
            raise RefusedError(UNKNOWN)
        if number in self._naks:
            raise RefusedError(FLASH)
        if command in _DATA:
            noisy = any(self._speed > limit for limit in self._noise)
            if noisy or fold(data[_DATA_HEAD.size :]) != checksum & 0xFF:
                raise RefusedError(CHECKSUM)
        return self._run[command](data)

    # --- what the ROM and the stub both do --------------------------------------------------

    def _sync(self, data: bytes) -> bytes:
        expect(data == _SYNC, LENGTH)
        self._value = 0 if self._stub else _ROM_SYNC
        return b""

    def _accept(self, _data: bytes) -> bytes:
        return b""

    def _read_register(self, data: bytes) -> bytes:
        (address,) = struct.unpack("<I", data)
        self._value = self._registers.read(address)
        return b""

    def _write_register(self, data: bytes) -> bytes:
        for address, value, mask, _delay in struct.iter_unpack("<IIII", data):
            self._registers.write(address, value, mask)
            self.restarts += value == _WATCHDOG
        return b""

    def _security_info(self, data: bytes) -> bytes:
        info = self._registers.security_info
        expect(info is not None, UNKNOWN)
        expect(not data, LENGTH)
        return info or b""

    def _change_baud(self, data: bytes) -> bytes:
        self._speed, _ = struct.unpack("<II", data)
        return b""

    # --- RAM --------------------------------------------------------------------------------

    def _mem_begin(self, data: bytes) -> bytes:
        size, blocks, block, _address = struct.unpack("<IIII", data)
        expect(block > 0 and blocks == -(-size // block), LENGTH)
        self._loading, self._loaded = (blocks, block), 0
        return b""

    def _mem_data(self, data: bytes) -> bytes:
        size, sequence, _, _ = _DATA_HEAD.unpack_from(data)
        expect(self._loading is not None, MODE)
        blocks, block = self._loading or (0, 0)
        good = size == len(data) - _DATA_HEAD.size and 0 < size <= block
        expect(good and sequence == self._loaded < blocks, LENGTH)
        self._loaded += 1
        return b""

    def _mem_end(self, data: bytes) -> bytes:
        stay, _entry = struct.unpack("<II", data)
        expect(self._loading is not None, MODE)
        expect(self._loading is not None and self._loaded == self._loading[0], LENGTH)
        if not stay:
            self._start_stub()
        return b""

    def _start_stub(self) -> None:
        self._stub, self._follows = True, slip(b"OHAI")

    # --- writing ----------------------------------------------------------------------------

    def _begin(self, data: bytes, *, deflated: bool) -> bytes:
        expect(len(data) in (16, 20), LENGTH)  # the last word: to be encrypted, or not
        size, blocks, block, offset = struct.unpack_from("<IIII", data)
        if not self._stub:
            size = size if deflated else blocks * block
        expect(self._nor.holds(offset, size), FLASH)
        if not self._stub:
            self._nor.erase(offset, size)
        erased = not self._stub
        self._writing = Writing(offset, size, block, deflated=deflated, erased=erased)
        return b""

    def _put(self, data: bytes, *, deflated: bool) -> bytes:
        if self._writing is None:
            raise RefusedError(MODE)
        size, sequence, _, _ = _DATA_HEAD.unpack_from(data)
        block = data[_DATA_HEAD.size :]
        expect(size == len(block), LENGTH)
        try:
            self._writing.put(self._nor, sequence, block, deflated=deflated)
        except zlib.error:
            raise RefusedError(INFLATE) from None
        return b""

    def _flash_end(self, data: bytes) -> bytes:
        (stay,) = struct.unpack("<I", data)
        writing, self._writing = self._writing, None
        expect(writing is not None, MODE)
        if writing is not None and self._stub:
            expect(writing.at == writing.end, TOO_LITTLE)
        if not stay:
            self._stub, self._speed = False, _ROM_BAUD
        return b""

    # --- erasing and reading ----------------------------------------------------------------

    def _erase_all(self, _data: bytes) -> bytes:
        self._nor.erase(0, len(self.flash))
        return b""

    def _erase(self, data: bytes) -> bytes:
        offset, size = struct.unpack("<II", data)
        expect(offset % SECTOR == size % SECTOR == 0, LENGTH)
        expect(self._nor.holds(offset, size), FLASH)
        self._nor.erase(offset, size)
        return b""

    def _md5(self, data: bytes) -> bytes:
        offset, size, _, _ = struct.unpack("<IIII", data)
        expect(self._nor.holds(offset, size), FLASH)
        digest = self._nor.md5(offset, size)
        return digest if self._stub else digest.hex().encode()

    def _read_slow(self, data: bytes) -> bytes:
        offset, size = struct.unpack("<II", data)
        if self._registers.read(_S3_READ_HOOK):
            self._start_stub()
            self._silent = True
            return b""
        expect(size <= _READ_SLOW and self._nor.holds(offset, size), FLASH)
        return bytes(self.flash[offset : offset + size]).ljust(_READ_SLOW, b"\0")

    def _read(self, data: bytes) -> bytes:
        offset, size, block, ahead = struct.unpack("<IIII", data)
        expect(self._nor.holds(offset, size) and block > 0 and ahead > 0, FLASH)
        self._reading = Reading(offset, size, block, ahead)
        self._follows = self._reading.acknowledged(self._nor, 0)
        return b""

    def _leave(self, _data: bytes) -> bytes:
        """Start the application, which is silent; a reset that nobody sees brings it back."""
        self.restarts += 1
        self._restart()
        self._silent = True
        return b""


def _content(settings: Settings) -> bytes:
    """Return the flash's first content: the file's, else that of the kind of board."""
    if settings.flash or not settings.stock:
        return settings.flash
    signature = signature_for(settings.locks)
    return stock(settings.board, settings.size or SMALLEST, settings.table, signature)
