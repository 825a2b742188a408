# SPDX-License-Identifier: Apache-2.0
"""One ESP board, driven by esptool's functions; only the worker process imports this."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final

import esptool
from esptool.cmds import attach_flash, detect_chip, detect_flash_size, reset_chip, run_stub
from esptool.util import FatalError, flash_size_bytes

from fwsign.errors import Failed
from fwsign.flash.boards.board import (
    FLASH_ENCRYPTION,
    SECURE_BOOT,
    SECURE_BOOT_V1,
    SECURE_DOWNLOAD,
)
from fwsign.flash.boards.port import why
from fwsign.flash.esp import fuses
from fwsign.flash.esp.chips import chip_of
from fwsign.flash.esp.tuned import SilenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROM_BAUD: Final = 115200
_BLOCK_ATTEMPTS: Final = 3
_DAMAGED: Final = ("C100", "0107")
"""Status of a block with a wrong checksum: it was not used, so it can be sent again."""
_BLOCK_TIMEOUT: Final = 3.0  # seconds, for a block to arrive and be answered
_FRAME_TIMEOUT: Final = 3.0  # seconds, for calls without a timeout of their own
_WRITE_TIMEOUT: Final = 40e-6  # seconds per byte that is erased and written
_ERRORS: Final = (OSError, RuntimeError, ValueError, TypeError, LookupError, struct.error)
"""Errors of esptool for a late, wrong or short answer; its own is a RuntimeError."""
_RESULT = re.compile(r"\(result was ([0-9A-F]{4}): ?(.*)\)")


class Loader:
    """A board in its boot loader.

    Args:
        port: whatever pyserial opens.
        before: how to get the board into its boot loader: esptool's `--before`.

    Raises:
        Failed: `device.port`, `device.absent`, and as all of its methods `device.lost`,
            `device.protocol`, `device.refused`.
    """

    def __init__(self, port: str, before: str) -> None:
        self._port = port
        try:
            found = detect_chip(port, _ROM_BAUD, before)
        except _ERRORS as error:
            raise _not_connected(port, error) from error
        # esptool has no timeout when it waits for the stub's first word and when it reads flash.
        found._port.timeout = _FRAME_TIMEOUT  # noqa: SLF001 - it has no other way
        self._esp = found
        self._flash_size: int | None = None

    def begin(self, baud: int | None, *, stub: bool) -> None:
        """Get ready for the flash.

        Args:
            baud: bit/s to change to; None to stay at what it is.
            stub: whether to start esptool's stub, where the chip allows it.
        """
        if not stub and self._esp.CHIP_NAME == "ESP8266":
            raise Failed(
                "device.support",
                "an ESP8266 needs the stub: its ROM cannot read the flash",
                expected="the stub",
                found="--no-stub",
            )
        if stub:
            self._esp = self._run("start the stub", lambda: run_stub(self._esp))
        self._run("set up the flash", lambda: self._set_up(baud))

    def _set_up(self, baud: int | None) -> None:
        esp = self._esp
        if baud is not None and baud != _ROM_BAUD:
            esp.change_baud(baud)
        attach_flash(esp)
        if not esp.secure_download_mode:
            self._flash_size = flash_size_bytes(detect_flash_size(esp))
        if self._flash_size is not None:
            esp.flash_set_parameters(self._flash_size)

    @property
    def stub(self) -> bool:
        """Whether esptool's stub runs, or only the ROM."""
        return bool(self._esp.IS_STUB)

    @property
    def block(self) -> int:
        """The number of bytes in a block of data."""
        return int(self._esp.FLASH_WRITE_SIZE)

    def probe(self) -> dict[str, Any]:
        """Return the fields of `BoardInfo`."""
        return dict(self._run("read what the chip is", self._probe))

    def _probe(self) -> dict[str, Any]:
        esp = self._esp
        locked = bool(esp.secure_download_mode)
        details = [("boot loader", "stub" if self.stub else "rom"), ("baud", str(esp.get_baud()))]
        revision = None
        if not locked and esp.CHIP_NAME != "ESP8266":
            revision = esp.get_chip_revision()
            details.append(("revision", f"v{revision // 100}.{revision % 100}"))
        identity, locks = None if locked else self._identity(), self._locks()
        keys, version = self._boot_fuses(locks)
        details += [
            (f"secure boot key {number}", digest + " (revoked)" * revoked)
            for number, (digest, revoked) in enumerate(keys or ())
        ]
        if version:
            details.append(("security version", str(version)))
        details += [("esptool's name", esp.CHIP_NAME), ("esptool", esptool.__version__)]
        return {
            "chip": chip_of(esp.CHIP_NAME),
            "identity": identity,
            "flash_size": self._flash_size,
            "digest": None if locked else "md5",
            "readable": not locked,
            "locks": locks,
            "boot_keys": keys,
            "security_version": version,
            "revision": revision,
            "octal": None if locked else self._octal(),
            "details": details,
        }

    def _boot_fuses(self, locks: Sequence[str]) -> tuple[list[tuple[str, bool]] | None, int | None]:
        """Return the keys of secure boot v2 in hex, each with its revocation; and the version.

        None stands for what cannot be read: a chip in secure download mode shows no eFuses.
        """
        chip = chip_of(self._esp.CHIP_NAME)
        if self._esp.secure_download_mode or chip is None or chip not in fuses.FUSES:
            return None, None
        read = self._esp.read_reg
        # An ESP32 has it in a block that is free for other data.
        version = None if chip == "esp32" else fuses.read_version(chip, read)
        if SECURE_BOOT not in locks:
            return None, version
        keys = [(one.digest.hex(), one.revoked) for one in fuses.read_keys(chip, read)]
        return keys or None, version

    def _octal(self) -> bool | None:
        """Tell whether the flash has eight data lines; only the ESP32-S3 may have such flash."""
        return bool(self._esp.flash_type()) if self._esp.CHIP_NAME == "ESP32-S3" else None

    def _identity(self) -> str:
        """Read the MAC twice: answers have no checksum, and floors depend on the MAC."""
        first, second = (bytes(self._esp.read_mac("BASE_MAC")).hex() for _ in range(2))
        if first != second:
            raise Failed(
                "device.protocol",
                f"the board at {self._port} gives two macs: {first}, then {second}",
                expected=first,
                found=second,
            )
        return f"mac:{first}"

    def _locks(self) -> list[str]:
        esp = self._esp
        if not esp.secure_download_mode:
            found = (
                (SECURE_BOOT_V1, esp.get_secure_boot_v1_enabled()),
                (SECURE_BOOT, esp.get_secure_boot_enabled()),
                (FLASH_ENCRYPTION, esp.get_flash_encryption_enabled()),
            )
            locks = [name for name, on in found if on]
            # esptool counts v1 as secure boot as well.
            return [one for one in locks if one != SECURE_BOOT or SECURE_BOOT_V1 not in locks]
        info = esp.get_security_info()
        locks = [SECURE_BOOT] if info["parsed_flags"]["SECURE_BOOT_EN"] else []
        if info["flash_crypt_cnt"].bit_count() % 2:
            locks.append(FLASH_ENCRYPTION)
        return [*locks, SECURE_DOWNLOAD]

    def digest(self, offset: int, size: int) -> str:
        """Return the MD5 of a part of the flash, in hex."""
        return str(self._run("digest the flash", lambda: self._esp.flash_md5sum(offset, size)))

    def read(self, offset: int, size: int) -> bytes:
        """Return a part of the flash; esptool joins blocks, so this is for small parts."""
        return bytes(self._run("read the flash", lambda: self._esp.read_flash(offset, size)))

    def write(
        self,
        offset: int,
        size: int,
        blocks: Sequence[tuple[bytes, int]],
        *,
        deflated: bool,
        progress: Callable[[int], None],
    ) -> None:
        """Erase and write; all is in flash when this returns.

        Args:
            offset: where, at the start of a sector.
            size: how many bytes of flash.
            blocks: the blocks to send, each with the number of bytes of flash that it fills.
            deflated: whether the blocks are one zlib stream.
            progress: called with the bytes of flash of each block.
        """
        esp = self._esp
        command = esp.ESP_CMDS["FLASH_DEFL_DATA" if deflated else "FLASH_DATA"]
        if deflated:
            sent = sum(len(data) for data, _ in blocks)
            self._run("begin to write", lambda: esp.flash_defl_begin(size, sent, offset))
        else:
            self._run("begin to write", lambda: esp.flash_begin(size, offset))
        before = 0  # the stub answers before it writes, so each block waits for the one before
        for number, (data, worth) in enumerate(blocks):
            timeout = _BLOCK_TIMEOUT + (before + worth) * _WRITE_TIMEOUT
            self._block(command, number, data, timeout)
            progress(worth)
            before = worth
        if self.stub:  # in the ROM this would start the application
            end = esp.flash_defl_finish if deflated else esp.flash_finish
            timeout = _BLOCK_TIMEOUT + before * _WRITE_TIMEOUT
            self._run("finish writing", lambda: end(reboot=False, timeout=timeout))

    def _block(self, command: int, number: int, data: bytes, timeout: float) -> None:
        """Send a block, and repeat it if it arrived damaged; other errors are for the engine."""
        esp = self._esp
        packet = struct.pack("<IIII", len(data), number, 0, 0) + data
        what = f"write block {number}"
        for attempt in range(1, _BLOCK_ATTEMPTS + 1):
            try:
                esp.check_command(what, command, packet, esp.checksum(data), timeout=timeout)
            except _ERRORS as error:
                result = _RESULT.search(str(error))
                damaged = result is not None and result[1] in _DAMAGED
                if damaged and attempt < _BLOCK_ATTEMPTS:
                    continue
                if damaged:
                    raise Failed(
                        "device.protocol", f"block {number} was damaged {attempt} times on its way"
                    ) from error
                raise self._failed(what, error) from error
            return

    def reset(self, after: str) -> None:
        """Leave the boot loader; `after` as esptool's `--after`.

        Raises:
            Failed: as all methods; `device.support`: only its user can reset this board.
        """
        if after != "hard-reset" or not self._port.startswith("socket:"):
            self._run("reset", lambda: reset_chip(self._esp, after))
        elif (soft := self._soft_reset()) is not None:
            self._run("reset", soft)
        else:
            raise Failed(
                "device.support",
                "reset the board by hand: the port has no lines for it",
                expected="a port with control lines",
                found=self._port,
            )

    def _soft_reset(self) -> Callable[[], None] | None:
        """Return a function that resets without control lines, by registers or the stub."""
        esp = self._esp
        if esp.CHIP_NAME == "ESP8266":
            return (lambda: reset_chip(esp, "soft-reset")) if self.stub else None
        return (
            None
            if esp.secure_download_mode or not esp.WATCHDOG_RESET_SUPPORTED
            else esp.watchdog_reset
        )

    def _run(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except _ERRORS as error:
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> Failed:
        if (result := _RESULT.search(str(error))) is not None:
            status = f"status {result[1]} ({result[2].lower()})"
            return Failed(
                "device.refused",
                f"the board at {self._port} refused to {what}: {status}",
                expected="success",
                found=status,
            )
        lost = isinstance(error, (SilenceError, OSError))
        reason = f"{self._port}: could not {what}: {why(error)}"
        return Failed("device.lost" if lost else "device.protocol", reason)


def _not_connected(port: str, error: Exception) -> Failed:
    opening = error.__context__ if isinstance(error, FatalError) else None
    if isinstance(error, ValueError) or isinstance(opening, OSError):
        reason = why(opening or error)
        return Failed(
            "device.port", f"cannot open {port}: {reason}", expected="a port", found=reason
        )
    if isinstance(error, OSError):
        return Failed("device.lost", f"the connection over {port} was lost: {why(error)}")
    return Failed(
        "device.absent",
        f"no ESP boot loader answers at {port}",
        expected="an ESP in its boot loader",
        found=why(error),
    )
