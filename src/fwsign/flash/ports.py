# SPDX-License-Identifier: Apache-2.0
"""The ports of this machine, and the boards that may be behind them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.flash.boards.port import missing
from fwsign.flash.pico import drives

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_BY_PATH: Final = Path("/dev/serial/by-path")

_BOARDS: Final[Mapping[tuple[int, int | None], tuple[str, tuple[str, ...]]]] = {
    # (USB vendor, product; None: any other): (what it is, kinds that may be behind it)
    (0x303A, None): ("Espressif USB", ("esp",)),
    (0x10C4, None): ("CP210x UART bridge", ("esp", "pico-uart", "smp")),
    (0x1A86, None): ("CH34x UART bridge", ("esp", "pico-uart", "smp")),
    (0x0403, None): ("FTDI UART bridge", ("esp", "pico-uart", "smp")),
    (0x067B, None): ("PL2303 UART bridge", ("esp", "pico-uart", "smp")),
    (0x2E8A, 0x000C): ("Raspberry Pi Debug Probe", ("pico-uart", "smp")),
    (0x2E8A, None): ("Raspberry Pi Pico, running", ("pico-uf2",)),
}
"""USB identities, from the vendors' documentation and usb.ids."""


class PortInfo(NamedTuple):
    """A port.

    Args:
        port: the name for `--port`; it stays with the USB socket if the system has such names.
        device: the operating system's name.
        words: a description.
        kinds: the boards that may be behind it; empty if its USB identity does not tell.
        serial: the USB serial number.
        vendor_id: the USB vendor.
    """

    port: str
    device: str
    words: str
    kinds: tuple[str, ...] = ()
    serial: str | None = None
    vendor_id: int | None = None


def find() -> list[PortInfo]:
    """List the serial ports, sorted by name, and the drives of boot ROMs.

    Raises:
        Failed: `device.support`: pyserial is not there.
    """
    try:
        from serial.tools import list_ports  # only where ports are listed
    except ImportError:
        raise missing("pyserial") from None
    stable = _stable_names()
    found = []
    for one in sorted(list_ports.comports()):
        words, kinds = _known(one.vid, one.pid)
        if one.vid is None:
            words = one.description if one.description not in (None, "n/a") else "serial port"
        name = stable.get(os.path.realpath(one.device), one.device)
        found.append(PortInfo(name, one.device, words, kinds, one.serial_number, one.vid))
    for drive in drives.find():
        words = f"Raspberry Pi {drive.chip.upper()} in BOOTSEL, its drive"
        found.append(PortInfo(str(drive.path), str(drive.path), words, ("pico-uf2",)))
    return found


def vendor_of(port: str, found: Iterable[PortInfo]) -> int | None:
    """Return the USB vendor behind a port, by any of its names.

    Args:
        port: the port, as typed.
        found: the result of `find`.
    """
    wanted = os.path.realpath(port)
    return next((one.vendor_id for one in found if os.path.realpath(one.device) == wanted), None)


def _known(vendor: int | None, product: int | None) -> tuple[str, tuple[str, ...]]:
    if vendor is None:
        return "serial port", ()
    unknown = (f"USB device {vendor:04x}:{product or 0:04x}", ())
    return _BOARDS.get((vendor, product)) or _BOARDS.get((vendor, None)) or unknown


def _stable_names() -> dict[str, str]:
    """Return Linux's names by USB socket, keyed by their devices."""
    try:
        links = sorted(_BY_PATH.iterdir(), key=lambda link: ("usbv" in link.name, link.name))
    except OSError:
        return {}
    names: dict[str, str] = {}
    for link in links:
        names.setdefault(os.path.realpath(link), str(link))
    return names
