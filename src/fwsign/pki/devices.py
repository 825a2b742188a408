# SPDX-License-Identifier: Apache-2.0
"""The identities of devices (IEEE 802.1AR): one for each serial number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.names import serial_number as checked
from fwsign.pki.leaves import leaf_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fwsign.pki.directory import Pki
    from fwsign.pki.leaves import Leaf

HARDWARE_LIMIT: Final = 64
"""Octets of the serial number of a hardware module."""


def devices_in(pki: Pki) -> dict[str, str]:
    """Return the serial numbers of the devices that have an identity here, and their entries."""
    found = {}
    for name in pki.names():
        leaf = leaf_of(pki.certificate(name))
        if leaf is not None and leaf.device is not None:
            found[leaf.device.serial_number] = name
    return found


def refuse_known_device(leaf: Leaf, known: Mapping[str, str]) -> None:
    """Refuse a second identity for a device, whatever its name (IEEE 802.1AR-2018 s.8.6).

    Raises:
        Failed: `state.pki-exists`.
    """
    serial_number = leaf.device.serial_number if leaf.device else ""
    if (there := known.get(serial_number, leaf.name)) != leaf.name:
        raise Failed(
            "state.pki-exists",
            f'the device with serial number "{serial_number}" is "{there}" already, not '
            f'"{leaf.name}"',
            expected="a serial number that no other device has",
            found=serial_number,
        )


def check_device(leaf: Leaf) -> None:
    """Refuse an identity that no certificate can have.

    Raises:
        Failed: `state.policy`.
    """
    if leaf.device is None:
        raise Failed(
            "state.policy",
            f'device "{leaf.name}" has no serial number',
            expected="a serial number",
            found="none",
            hint="give it one: --serial-number SERIAL",
        )
    checked(leaf.device.serial_number)
    if leaf.device.hardware and not 1 <= len(leaf.device.hardware[1]) <= HARDWARE_LIMIT:
        raise Failed(
            "state.policy",
            f"the serial number of a hardware module has {len(leaf.device.hardware[1])} bytes",
            expected=f"1 to {HARDWARE_LIMIT} bytes",
            found=len(leaf.device.hardware[1]),
        )
