# SPDX-License-Identifier: Apache-2.0
"""The Espressif chips that can be flashed, by our names and esptool's; and its ways to reset."""

from collections.abc import Mapping
from types import MappingProxyType

from fwsign.images import esp_chips
from fwsign.images.esp_chips import ESP8266


def _their_name(ours: str) -> str:
    series, kind = ours[:5].upper(), ours[5:].upper()
    return f"{series}-{kind}" if kind else series


CHIPS: Mapping[str, str] = MappingProxyType(
    {
        ESP8266: "ESP8266",
        **{one.name: _their_name(one.name) for one in esp_chips.CHIPS if one.flashed},
    }
)
"""Our names, as in targets and image headers, to esptool's names."""

BEFORE = ("default-reset", "usb-reset", "no-reset", "no-reset-no-sync")
"""Ways into the boot loader, the usual one first."""
RESETTING = BEFORE[:2]
"""Those of them that find a board also if its program runs."""
AFTER = ("hard-reset", "soft-reset", "no-reset", "watchdog-reset")
"""Ways out of the boot loader, the usual one first."""


def chip_of(theirs: str) -> str | None:
    """Return our name for a chip that esptool calls `theirs`; None for an unknown chip."""
    return next((ours for ours, name in CHIPS.items() if name == theirs), None)
