# SPDX-License-Identifier: Apache-2.0
"""The Espressif chips that can be flashed, by our names and esptool's; and its ways to reset."""

from collections.abc import Mapping
from types import MappingProxyType

CHIPS: Mapping[str, str] = MappingProxyType(
    {
        "esp8266": "ESP8266",
        "esp32": "ESP32",
        "esp32s2": "ESP32-S2",
        "esp32s3": "ESP32-S3",
        "esp32c2": "ESP32-C2",
        "esp32c3": "ESP32-C3",
        "esp32c5": "ESP32-C5",
        "esp32c6": "ESP32-C6",
        "esp32c61": "ESP32-C61",
        "esp32h2": "ESP32-H2",
        "esp32p4": "ESP32-P4",
    }
)
"""From our name, as in targets and image headers, to esptool's."""


BEFORE = ("default-reset", "usb-reset", "no-reset", "no-reset-no-sync")
"""How a board gets into its boot loader, the usual way first."""
AFTER = ("hard-reset", "soft-reset", "no-reset", "watchdog-reset")
"""How it leaves it, the usual way first."""


def chip_of(theirs: str) -> str | None:
    """Return our name for a chip that esptool calls `theirs`; None for one not known here."""
    return next((ours for ours, name in CHIPS.items() if name == theirs), None)
