# SPDX-License-Identifier: Apache-2.0
"""The names of all chips that fwsign knows, and of their series."""

from typing import Final

from fwsign.images import esp_chips, rp_chips

NAMES: Final = (
    *(chip.name for chip in esp_chips.CHIPS),
    esp_chips.ESP8266,
    *(chip.name for chip in rp_chips.CHIPS),
)


def is_esp(name: str) -> bool:
    """Tell whether this names a chip of Espressif, or would name one."""
    return name.startswith("esp")


def is_esp32(name: str) -> bool:
    """Tell whether this names a chip of Espressif with partitions: all but the ESP8266."""
    return name.startswith("esp32")


def is_rp(name: str) -> bool:
    """Tell whether this names a chip of Raspberry Pi, or would name one."""
    return name.startswith("rp2")
