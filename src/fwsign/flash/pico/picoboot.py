# SPDX-License-Identifier: Apache-2.0
"""PICOBOOT: the USB interface of the boot ROMs of RP2040 and RP2350, beside their drive.

It can read flash, for comparison and verification, which the drive cannot. It
needs pyusb and the right to use the device. A command is 32 bytes to the OUT endpoint (magic,
token, command, size of the arguments, size of the data, arguments), then data either way, then an
empty packet the other way. A failed command stalls, and a control request tells why.

Source: RP2040 data sheet, section 2.8.5; RP2350 data sheet, section 5.6. No real board has been
on the other end of this yet: it was tried with a simulated device, made from the same sources.
"""

import contextlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

from fwsign.errors import Failed
from fwsign.flash.boards.board import SECURE_BOOT, BoardInfo, Progress, Run
from fwsign.flash.pico.usb import UsbLink
from fwsign.images import pico_block
from fwsign.images.rp_chips import FLASH

_MAGIC: Final = 0x431FD10B
_COMMAND: Final = struct.Struct("<IIBBHI16s")
_STATUS: Final = struct.Struct("<IIBB6x")
_EXCLUSIVE, _REBOOT, _ERASE, _WRITE, _EXIT_XIP, _REBOOT2 = 0x01, 0x02, 0x03, 0x05, 0x06, 0x0A
_READ, _GET_INFO = 0x84, 0x8B  # the high bit means that the board sends the data
_AND_EJECT: Final = 2  # exclusive, and the drive goes away
_IF_RESET, _IF_STATUS = 0x41, 0x42
_TO_INTERFACE, _FROM_INTERFACE, _FROM_ENDPOINT = 0x41, 0xC1, 0x82
_SYSTEM, _PARTITIONS = 1, 2  # what GET_INFO can tell
_CHIP_AND_CRITICAL: Final = 0x3
_WORDS: Final = {
    1: "unknown command",
    2: "wrong size of arguments",
    3: "wrong size of data",
    4: "no such address",
    5: "address not aligned",
    6: "interleaved write",
    7: "it is restarting",
    9: "not in this state",
    10: "not permitted",
    11: "no such argument",
}

_SECTOR: Final = 4096
_ERASE_BLOCK: Final = 65536
_CHUNK: Final = 16384  # bytes of one READ or WRITE
_INFO_SIZE: Final = 64
_TIMEOUT: Final = 10_000  # ms; erasing 64 KiB takes at most 2 s
_RESTART_DELAY: Final = 100  # ms, for the answer to REBOOT to get out
_SIZES: Final = tuple(1 << bits for bits in range(18, 24))  # bytes of flash: 256 KiB to 8 MiB
_MOST: Final = 1 << 24


class PicobootBoard:
    """An RP2040 or RP2350 in BOOTSEL mode; its drive is taken away while this is open.

    Raises:
        Failed: `device.lost`, `device.refused`.
    """

    def __init__(self, link: UsbLink) -> None:
        self._link = link
        self._token = 0
        self._partitions: bool | None = None  # whether the board has any; None: it is not known
        try:
            self._reset_interface()
            self._command(_EXCLUSIVE, bytes([_AND_EJECT]))
            self._command(_EXIT_XIP)
        except BaseException:
            self.close()
            raise

    def probe(self) -> BoardInfo:
        """Return the facts about this board."""
        identity: str | None = None
        locks: tuple[str, ...] = ()
        # The USB serial number of every RP2040 is the same one, and its flash chip's id can be
        # read only by a program.
        if self._link.chip == "rp2350":
            _, _, device, wafer, critical = self._info(_SYSTEM, _CHIP_AND_CRITICAL, 5)
            identity = f"chipid:{wafer << 32 | device:016x}"
            locks = (SECURE_BOOT,) if critical & 1 else ()
            try:
                self._partitions = bool(self._info(_PARTITIONS, 1, 2)[1] & 0x100)
            except Failed:  # unknown facts are noted at the end
                self._reset_interface()
        return BoardInfo(
            "pico-uf2",
            self._link.chip,
            identity,
            self._flash_size(),
            sector=_SECTOR,
            # Computed here, from what was read. It spares what is there already; what counts is
            # the SHA-256 over everything, read back.
            digest="crc32",
            digest_block=_SECTOR,
            readable=True,
            locks=locks,
            details=(("through", "PICOBOOT"),),
        )

    def _flash_size(self) -> int | None:
        """Find the size at which the flash's content repeats; None if it is erased."""
        start = self.read(0, _SECTOR)
        if not start.strip(start[:1]):
            return None
        for size in _SIZES:
            # Two slots may begin alike, but rarely continue alike.
            alike = self.read(size, _SECTOR) == start
            if alike and self.read(size, _ERASE_BLOCK) == self.read(0, _ERASE_BLOCK):
                return size
        return _MOST

    def digest(self, offset: int, size: int) -> bytes:
        """Compute a CRC-32 over the bytes read."""
        return zlib.crc32(self.read(offset, size)).to_bytes(4, "big")

    def read(self, offset: int, size: int) -> bytes:
        """Return the flash's content."""
        content = []
        for at in range(offset, offset + size, _CHUNK):
            length = min(_CHUNK, offset + size - at)
            content.append(
                self._command(_READ, struct.pack("<II", FLASH + at, length), size=length)
            )
        return b"".join(content)

    def _erase(self, offset: int, size: int) -> None:
        for at in range(offset, offset + size, _ERASE_BLOCK):
            length = min(_ERASE_BLOCK, offset + size - at)
            self._command(_ERASE, struct.pack("<II", FLASH + at, length))

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and write; erase the sector that makes the flash boot first, and write it last.

        So a board that loses power in between comes back in BOOTSEL mode.
        """
        heads = [run for run in runs if run.offset == 0]
        for _ in heads:
            self._erase(0, _SECTOR)
        tails = [Run(_SECTOR, run.data[_SECTOR:]) if run.offset == 0 else run for run in runs]
        for run in [*tails, *(Run(0, head.data[:_SECTOR]) for head in heads)]:
            for at in range(0, len(run.data), _ERASE_BLOCK):
                block = run.data[at : at + _ERASE_BLOCK]
                self._erase(run.offset + at, len(block))
                self._program(run.offset + at, block, progress)

    def _program(self, offset: int, data: bytes, progress: Progress) -> None:
        for at in range(0, len(data), _CHUNK):
            chunk = data[at : at + _CHUNK]
            if chunk.strip(b"\xff"):  # else the erase was enough
                place = struct.pack("<II", FLASH + offset + at, len(chunk))
                self._command(_WRITE, place, data=chunk)
            progress(len(chunk))

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """Return a note if an RP2350's partition table may start another program."""
        if self._link.chip != "rp2350":
            return ()
        brought = any(run.offset == 0 and pico_block.has_partitions(run.data) for run in regions)
        if self._partitions is False and not brought:
            return ()
        return ("boot not controlled: the partition table selects what starts",)

    def reset(self) -> None:
        """Start the program in the flash."""
        command, arguments = _REBOOT, struct.pack("<III", 0, 0, _RESTART_DELAY)
        if self._link.chip == "rp2350":
            command, arguments = _REBOOT2, struct.pack("<IIII", 0, _RESTART_DELAY, 0, 0)
        try:
            self._command(command, arguments)
        except Failed as error:
            if error.code != "device.lost":  # it may be gone before it has answered
                raise

    def close(self) -> None:
        """Release the device."""
        with contextlib.suppress(Exception):  # it may have restarted, and pyusb is not ours
            self._link.release()

    # --- one command ------------------------------------------------------------------------

    def _info(self, kind: int, flags: int, least: int) -> tuple[int, ...]:
        """Return the words that GET_INFO gives, without their count: the flags, then as asked."""
        arguments = struct.pack("<BBHIII", kind, 0, 0, flags, 0, 0)
        answer = self._command(_GET_INFO, arguments, size=_INFO_SIZE)
        count, *words = struct.unpack(f"<{_INFO_SIZE // 4}I", answer)
        if not least <= count <= len(words) or words[0] != flags:
            found = f"{count} words, flags {words[0]:x}"
            raise Failed(
                "device.protocol",
                f"the boot ROM's GET_INFO is not possible: {found}",
                expected=f"{least} words or more, flags {flags:x}",
                found=found,
            )
        return tuple(words[:least])

    def _command(
        self, command: int, arguments: bytes = b"", *, size: int = 0, data: bytes = b""
    ) -> bytes:
        """Send one command, send or receive its data, and end it by the empty packet."""
        usb, out, into = self._link.usb, self._link.out_endpoint, self._link.in_endpoint
        self._token += 1
        header = (_MAGIC, self._token, command, len(arguments), 0, size or len(data), arguments)
        answer = b""
        try:
            usb.write(out, _COMMAND.pack(*header), _TIMEOUT)
            if data:
                usb.write(out, data, _TIMEOUT)
            if size:
                answer = bytes(usb.read(into, size, _TIMEOUT))
                usb.write(out, b"", _TIMEOUT)
            else:
                usb.read(into, 64, _TIMEOUT)
        except OSError as error:
            raise self._why(command, error) from error
        if len(answer) != size:
            raise Failed(
                "device.protocol",
                f"the boot ROM sent {len(answer)} bytes of {size}",
                expected=f"{size} bytes",
                found=f"{len(answer)} bytes",
            )
        return answer

    def _why(self, command: int, error: OSError) -> Failed:
        """Ask why a command failed."""
        reason = (error.strerror or str(error)).lower()
        try:
            status = self._control(_FROM_INTERFACE, _IF_STATUS, self._link.interface, _STATUS.size)
            token, code, _, _ = _STATUS.unpack(bytes(status))
        except (OSError, struct.error):
            token = code = 0
        if token == self._token and code:
            why = _WORDS.get(code, f"status {code}")
            return Failed(
                "device.refused",
                f"the boot ROM refused command {command:02x}: {why}",
                expected="ok",
                found=why,
            )
        return Failed("device.lost", f"the connection over USB was lost: {reason}", found=reason)

    def _reset_interface(self) -> None:
        """Cancel a command that an earlier host has begun."""
        try:
            for endpoint in (self._link.in_endpoint, self._link.out_endpoint):
                if self._control(_FROM_ENDPOINT, 0, endpoint, 2)[0] & 1:  # GET_STATUS: halted
                    self._link.usb.clear_halt(endpoint)
            self._control(_TO_INTERFACE, _IF_RESET, self._link.interface, None)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Failed(
                "device.port", f"the board in BOOTSEL mode cannot be used: {reason}", found=reason
            ) from error

    def _control(self, kind: int, request: int, index: int, data: int | None) -> Any:
        return self._link.usb.ctrl_transfer(kind, request, 0, index, data, _TIMEOUT)
