# SPDX-License-Identifier: Apache-2.0
"""Raspberry Pi Pico behind a UART: the protocol of usedbytes' rp2040-serial-bootloader.

Its forks move the application, so all places come from INFO; picowota speaks the same over TCP.
A command is four letters and little-endian words, then data for WRIT; the answer is OKOK or ERR!,
then words or data. After ERR! only SYNC is understood.

    SYNC                PICO, or WOTA          ERAS address size
    INFO                address, size, sector, page, largest block
    READ address size   data                   WRIT address size, data    CRC-32 of the flash there
    CRCC address size   CRC-32                 SEAL vectors size CRC-32   writes the boot header
                                               BOOT 0                     restarts; no answer

A cut is safe at any point: the header names the CRC-32 of the whole application, so once a byte
of it has changed the boot loader stays, until SEAL. Commands carry no checksum of their own: a
noisy line can change an address, which is noticed inside of what is written, but not outside.

What noise damages is sent again: a command that may be repeated, a block that was read, a sector
that was written. A silent line is not waited for in this way, since another board may be on it
afterwards: that is an attempt of the engine's.

Source: the boot loader's own source. It was tried with a simulated board, not yet with a real one.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from fwsign.errors import Failed, Unsuitable
from fwsign.flash.boards.board import Board, BoardInfo, Connect, Progress, Run
from fwsign.flash.boards.port import Port
from fwsign.flash.pico.line import ANSWER, PicoLine
from fwsign.images import rp_chips
from fwsign.images.rp_chips import FLASH

BAUD: Final = 921600
_FLASH_END: Final = max(one.flash.stop for one in rp_chips.CHIPS)
_RAM: Final = 0x20000000
_CHIP_ID: Final = 0x40000000  # SYSINFO.CHIP_ID, at the same place in both chips
_CHIPS: Final = {one.part: one.name for one in rp_chips.CHIPS}
_OTP_ID: Final = 0x40130000  # RP2350: OTP rows 0 to 3, 16 bits each, are the chip's public id
_ERASE_BLOCK: Final = 65536  # the flash erases it in a third of the time of its sectors
_TRIES: Final = 12  # of one piece; noise of 1e-4 per byte damages every third sector
_COSTS: Final = {"device.mismatch": 1, "device.protocol": 1, "device.refused": 4}
"""Failures that noise explains, and how many tries each counts for."""
_T = TypeVar("_T")


def connect(port: str, *, baud: int | None = None) -> Connect:
    """Return a function that opens a Pico's port and finds its boot loader, in any state.

    Args:
        port: any port that pyserial opens.
        baud: bit/s; the boot loader's own by default, which it cannot change.
    """

    def attempt(number: int) -> Board:
        opened = Port(port, baud or BAUD, ANSWER)
        try:
            opened.low_latency()
            return _UartBoard(PicoLine(opened, 1 + number, ahead=0 if number else 2))
        except BaseException:
            opened.close()
            raise

    return attempt


def refuse_unbootable(program: Run) -> None:
    """Refuse a program that the boot loader would not seal, before the old one is erased.

    Args:
        program: with its vector table at its beginning: the stack pointer, the reset vector.

    Raises:
        Unsuitable: `unsuitable.payload`.
    """
    start = FLASH + program.offset
    if len(program.data) >= 8:
        stack, reset = struct.unpack_from("<II", program.data)
        if stack >= _RAM and reset & 1 and start <= reset <= start + len(program.data):
            return
        found = f"stack pointer 0x{stack:08x}, reset vector 0x{reset:08x}"
    else:
        found = f"{len(program.data)} bytes"
    expected = f"a vector table of a program that was linked to 0x{start:08x}"
    raise Unsuitable(
        "unsuitable.payload",
        f"the boot loader would not start this: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )


class _Layout(NamedTuple):
    """The answer to INFO; `start` and `end` in bytes from the start of the flash."""

    start: int
    end: int
    sector: int
    block: int


def _layout(answer: bytes) -> _Layout:
    address, size, sector, page, largest = struct.unpack("<5I", answer)
    block = largest - largest % page if page else 0
    sane = (
        FLASH + sector <= address
        and address + size <= _FLASH_END
        and sector in (4096, 8192, 16384, 32768, 65536)
        and page in (256, 512, 1024, 2048, 4096)
        and size > sector
        and address % sector == size % sector == 0
        and block > 0
    )
    if not sane:
        found = f"0x{address:x} 0x{size:x} 0x{sector:x} 0x{page:x} 0x{largest:x}"
        raise Failed(
            "device.protocol",
            f"the boot loader's INFO is not possible: {found}",
            expected="address, size, sector, page and block of a flash",
            found=found,
        )
    return _Layout(address - FLASH, address - FLASH + size, sector, min(block, sector))


class _UartBoard:
    """A Pico in its UART boot loader."""

    def __init__(self, line: PicoLine) -> None:
        self._line = line
        self._layout = _layout(line.command(b"INFO", answer=20))

    def probe(self) -> BoardInfo:
        """Say what this board is."""
        layout = self._layout
        chip = self._chip()
        return BoardInfo(
            "pico-uart",
            chip,
            self._identity(chip),
            # It refuses a range that ends at the end of the flash, so the last sector is of no use.
            layout.end - layout.sector,
            start=layout.start,
            sector=layout.sector,
            digest="crc32",
            digest_block=layout.sector,
            readable=True,
            details=(("boot loader", self._line.name), ("block", str(layout.block))),
        )

    def _chip(self) -> str | None:
        """Read the chip's name; READ takes any address, but a fork may refuse this one."""
        try:
            value = int.from_bytes(self._read_twice(_CHIP_ID, 4), "little") & 0x0FFFFFFF
        except Failed as error:
            if error.code != "device.refused":
                raise
            self._line.synchronise(1)
            return None
        if value not in _CHIPS:
            raise Failed(
                "device.protocol",
                f"no chip that is known has the id 0x{value:07x}",
                expected=" or ".join(_CHIPS.values()),
                found=f"0x{value:07x}",
            )
        return _CHIPS[value]

    def _identity(self, chip: str | None) -> str | None:
        """Read the chip's id, which is readable in every RP2350.

        An RP2040 has none: only its flash chip has, and that answers no memory access.
        """
        if chip != "rp2350":
            return None
        value = int.from_bytes(self._read_twice(_OTP_ID, 8), "little")
        return f"chipid:{value:016x}" if 0 < value < (1 << 64) - 1 else None

    def _read_twice(self, address: int, size: int) -> bytes:
        """Read twice, since answers have no checksum, and refusals and floors depend on this."""
        first, second = (self._read_memory(address, size) for _ in range(2))
        if first != second:
            raise Failed(
                "device.protocol",
                f"0x{address:x} was read as {first.hex()}, then as {second.hex()}",
                expected=first.hex(),
                found=second.hex(),
            )
        return first

    def digest(self, offset: int, size: int) -> bytes:
        """Let the board compute a CRC-32; read the bytes beyond whole words instead."""
        words = size - size % 4
        crc = self._crc(offset, words)
        if size > words:
            tail = self._read_memory_again(FLASH + offset + words, 4)
            crc = zlib.crc32(tail[: size - words], crc)
        return crc.to_bytes(4, "big")

    def read(self, offset: int, size: int) -> bytes:
        """Return the flash's content; a CRC-32 detects damage on the line."""
        start, end = offset - offset % 4, -(-(offset + size) // 4) * 4
        try:
            content = self._checked(start, end - start)
        except Failed as error:
            self._resume(error)
            pieces = range(start, end, self._layout.block)
            sizes = [min(self._layout.block, end - at) for at in pieces]
            content = b"".join(map(self._read_again, pieces, sizes))
        return content[offset - start : offset - start + size]

    def _read_again(self, offset: int, size: int) -> bytes:
        return self._again(lambda: self._checked(offset, size))

    def _checked(self, offset: int, size: int) -> bytes:
        content = self._read_memory(FLASH + offset, size)
        here, there = zlib.crc32(content), self._crc(offset, size)
        if here != there:
            raise Failed(
                "device.protocol",
                f"what was read at 0x{offset:x} was damaged on its way: "
                f"expected CRC-32 {there:08x}, found {here:08x}",
                expected=f"{there:08x}",
                found=f"{here:08x}",
            )
        return content

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase at most 64 KiB at a time, and write sector by sector."""
        for run in runs:
            for start, length in _blocks(run.offset, len(run.data)):
                self._erase(start, length)
                for at in range(start, start + length, self._layout.sector):
                    sector = run.data[at - run.offset :][
                        : min(self._layout.sector, start + length - at)
                    ]
                    self._write_sector(at, sector)
                    progress(len(sector))

    def _erase(self, offset: int, size: int) -> None:
        self._again(lambda: self._line.command(b"ERAS", FLASH + offset, size))

    def _write_sector(self, offset: int, data: bytes) -> None:
        """Write a sector that is erased; after a failure erase it again."""
        erased = True

        def attempt() -> None:
            nonlocal erased
            if not erased:
                self._line.command(b"ERAS", FLASH + offset, self._layout.sector)
            erased = False
            self._program(offset, data)

        self._again(attempt)

    def _program(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), self._layout.block):
            block = data[at : at + self._layout.block]
            if block.strip(b"\xff"):  # else the erase was enough
                where = FLASH + offset + at
                there = _word(self._line.command(b"WRIT", where, len(block), data=block, answer=4))
                if there != (here := zlib.crc32(block)):
                    raise Failed(
                        "device.mismatch",
                        f"the flash at 0x{offset + at:x} does not hold what was written: "
                        f"expected CRC-32 {here:08x}, found {there:08x}",
                        expected=f"{here:08x}",
                        found=f"{there:08x}",
                    )

    def _again(self, action: Callable[[], _T]) -> _T:
        """Do something until no noise is in the way."""
        left = _TRIES
        while True:
            try:
                return action()
            except Failed as error:
                left -= _COSTS.get(error.code, left)
                if left <= 0:
                    raise
                self._resume(error)

    def _resume(self, error: Failed) -> None:
        """Make the boot loader wait for a command, or raise the error."""
        if error.code not in _COSTS:
            raise error
        if error.code != "device.mismatch":
            try:
                self._line.synchronise(1)
            except Failed:
                raise error from None

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """Write the boot header for the program, unless it is there already."""
        start = self._layout.start
        program = next((one for one in regions if one.offset == start), None)
        if program is None:
            return (f"boot not controlled: nothing was written at 0x{start:x}",)
        # SEAL counts in words: the last one may include bytes that follow the program.
        filler = -len(program.data) % 4
        data = program.data + (self.read(program.end, filler) if filler else b"")
        header = (FLASH + start, len(data), zlib.crc32(data))
        # The header is in the sector before the program, in every fork that is known. Elsewhere
        # it is only written once more than needed.
        before = FLASH + start - self._layout.sector
        if self._read_memory_again(before, 12) != struct.pack("<3I", *header):
            self._again(lambda: self._line.command(b"SEAL", *header))
        return ()

    def reset(self) -> None:
        """Start the program."""
        self._line.restart()

    def close(self) -> None:
        """Release the port."""
        self._line.close()

    def _crc(self, offset: int, size: int) -> int:
        where = FLASH + offset
        return self._again(lambda: _word(self._line.command(b"CRCC", where, size, answer=4)))

    def _read_memory_again(self, address: int, size: int) -> bytes:
        return self._again(lambda: self._read_memory(address, size))

    def _read_memory(self, address: int, size: int) -> bytes:
        return self._line.read(address, size, self._layout.block)


def _word(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _blocks(offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a range at multiples of 64 KiB, into offsets and sizes."""
    end = offset + size
    while offset < end:
        cut = min(end, (offset // _ERASE_BLOCK + 1) * _ERASE_BLOCK)
        yield offset, cut - offset
        offset = cut
