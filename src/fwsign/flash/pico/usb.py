# SPDX-License-Identifier: Apache-2.0
"""USB devices in the BOOTSEL mode of RP2040 and RP2350, through pyusb where it is installed."""

import importlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from fwsign.errors import Failed

VENDOR: Final = 0x2E8A


class Usb(Protocol):
    """What is used of a pyusb device; every call raises OSError."""

    def write(self, endpoint: int, data: bytes, timeout: int) -> int:
        """Send data, all of it."""
        ...

    def read(self, endpoint: int, size: int, timeout: int) -> Any:
        """Return what the device sends, as something that `bytes` takes."""
        ...

    def ctrl_transfer(  # noqa: PLR0917 - as USB and pyusb have it
        self, kind: int, request: int, value: int, index: int, data: Any, timeout: int
    ) -> Any:
        """Make a control request; `data` is the size of the answer where there is one."""
        ...

    def clear_halt(self, endpoint: int) -> None:
        """Let an endpoint go on after an error."""
        ...


class UsbLink(NamedTuple):
    """A device in BOOTSEL mode: its interface, its endpoints, and how to give it back."""

    usb: Usb
    chip: str
    interface: int
    out_endpoint: int
    in_endpoint: int
    release: Callable[[], None]


def find() -> dict[str, Any]:
    """Return pyusb's devices in BOOTSEL mode by USB port, as in "1-2.3"; none without pyusb."""
    try:
        core = importlib.import_module("usb.core")
        from fwsign.images.rp_chips import PRODUCTS  # where there is pyusb

        devices = core.find(find_all=True, idVendor=VENDOR)
        return {
            f"{one.bus}-{'.'.join(map(str, one.port_numbers))}": one
            for one in devices
            if one.idProduct in PRODUCTS and one.port_numbers
        }
    except (ImportError, OSError, ValueError):  # ValueError: there is no libusb
        return {}


def link_to(device: Any) -> UsbLink:
    """Find the PICOBOOT interface of a pyusb device.

    Raises:
        Failed: `device.port`: it may not be used; `device.support`: it has no PICOBOOT.
    """
    from fwsign.images.rp_chips import PRODUCTS  # where there is such a device

    util = importlib.import_module("usb.util")
    try:
        for interface in device.get_active_configuration():
            ends = [one.bEndpointAddress for one in interface]
            ins, outs = [one for one in ends if one & 0x80], [one for one in ends if not one & 0x80]
            if interface.bInterfaceClass == 0xFF and len(ins) == len(outs) == 1:
                number = interface.bInterfaceNumber
                chip = PRODUCTS[device.idProduct]
                return UsbLink(
                    device, chip, number, outs[0], ins[0], lambda: util.dispose_resources(device)
                )
    except (OSError, NotImplementedError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise Failed(
            "device.port",
            f"the board in BOOTSEL mode cannot be opened: {reason}",
            expected="a USB device that may be used",
            found=reason,
        ) from error
    raise Failed(
        "device.support",
        "the board in BOOTSEL mode has no PICOBOOT interface",
        expected="an interface of class ff with two endpoints",
        found="none",
    )
