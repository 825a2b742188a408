# SPDX-License-Identifier: Apache-2.0
"""The chips of Raspberry Pi: their memories, and the names that their boot ROMs have for them.

Source: the data sheets of RP2040 and RP2350, "Address Map", "Bootrom" and "SYSINFO"; for the
families, that of the RP2350, section 5.5.3.
"""

from typing import Final, NamedTuple

FLASH: Final = 0x10000000
"""The address at which each of them sees its flash."""

RP2040: Final = 0xE48BFF56
RP2350_ARM: Final = 0xE48BFF59
RP2350_RISCV: Final = 0xE48BFF5A
RP2350_ARM_NS: Final = 0xE48BFF5B


class RpChip(NamedTuple):
    """One chip.

    Args:
        name: as in a component's identifier.
        family: the UF2 family of an image for its Arm cores.
        flash: the addresses at which it sees its flash.
        rams: SRAM, and the cache of the flash, which can be used as RAM.
        board: its Board-ID on the drive of its boot ROM.
        product: its USB product in BOOTSEL mode.
        part: part and manufacturer in its register SYSINFO.CHIP_ID.
    """

    name: str
    family: int
    flash: range
    rams: tuple[range, ...]
    board: str
    product: int
    part: int


CHIPS: Final = (
    RpChip(
        "rp2040",
        RP2040,
        range(FLASH, 0x11000000),
        (range(0x20000000, 0x20042000), range(0x15000000, 0x15004000)),
        "RPI-RP2",
        0x0003,
        0x0002927,
    ),
    RpChip(
        "rp2350",
        RP2350_ARM,
        range(FLASH, 0x12000000),  # a second chip select, whose window follows the first
        (range(0x20000000, 0x20082000), range(0x13FFC000, 0x14000000)),
        "RP2350",
        0x000F,
        0x0004927,
    ),
)
BY_NAME: Final = {chip.name: chip for chip in CHIPS}
BOARDS: Final = {chip.board: chip.name for chip in CHIPS}
PRODUCTS: Final = {chip.product: chip.name for chip in CHIPS}
