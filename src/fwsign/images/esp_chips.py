# SPDX-License-Identifier: Apache-2.0
"""The chips with an ESP image format: numbers, places and memories.

Source: ESP-IDF programming guide, "Bootloader Image Format" and "SPI Flash"; the chips' technical
reference manuals, "System and Memory" and "eFuse Controller"; for secure boot, "Secure Boot v2"
and the chips' capabilities in ESP-IDF (soc_caps.h).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_MIB: Final = 1 << 20


_FREQUENCIES: Final[Mapping[int, str]] = MappingProxyType(
    {0: "40m", 1: "26m", 2: "20m", 0xF: "80m"}
)


class Chip(NamedTuple):
    """One chip.

    Args:
        name: as in a component's identifier.
        id: its number in image headers.
        bootloader: its boot loader's flash offset.
        family: its UF2 family.
        code: where flash is mapped as code, first address and the one after the last.
        data: where flash is mapped as data; the same on chips with one bus.
        frequencies: the flash frequencies in image headers.
        secure_boot: the keys that its ROM verifies for secure boot v2; empty if it has none.
        signatures: how many signature blocks of v2 it looks at.
        minor_only: whether the old revision byte of image headers is a minor number.
        flashed: whether esptool writes to it.
    """

    name: str
    id: int
    bootloader: int
    family: int
    code: tuple[int, int]
    data: tuple[int, int]
    frequencies: Mapping[int, str] = _FREQUENCIES
    secure_boot: tuple[str, ...] = ("RSA-3072", "ECDSA P-256")
    signatures: int = 3
    minor_only: bool = False
    flashed: bool = True


_ON_ONE_BUS: Final = ((0x42000000, 0x44000000),) * 2
_LARGE: Final = ((0x40000000, 0x54000000),) * 2
_SPLIT: Final = ((0x42000000, 0x44000000), (0x3C000000, 0x3E000000))
_OLDEST: Final = ((0x400D0000, 0x40400000), (0x3F400000, 0x3F800000))
_C2: Final = {0: "30m", 1: "20m", 2: "15m", 0xF: "60m"}
_C6: Final = {0: "80m", 2: "20m", 0xF: "80m"}  # 0 is both 80 and 40 MHz, which code sets
_H2: Final = {0: "24m", 1: "16m", 2: "12m", 0xF: "48m"}
_RSA: Final = ("RSA-3072",)
_P256: Final = ("ECDSA P-256",)
_P384: Final = (*_RSA, *_P256, "ECDSA P-384")  # with SECURE_BOOT_SHA384_EN among its eFuses
_H4: Final = {0: "24m", 0xF: "48m"}

CHIPS: Final = (
    Chip("esp32", 0, 0x1000, 0x1C5F21B0, *_OLDEST, secure_boot=_RSA, signatures=1),
    Chip(
        "esp32s2",
        2,
        0x1000,
        0xBFDD4EEE,
        (0x40080000, 0x40B80000),
        (0x3F000000, 0x3F3F0000),
        secure_boot=_RSA,
    ),
    Chip("esp32c3", 5, 0x0, 0xD42BA06C, *_SPLIT, secure_boot=_RSA, minor_only=True),
    Chip("esp32s3", 9, 0x0, 0xC47E5767, *_SPLIT, secure_boot=_RSA),
    Chip("esp32c2", 12, 0x0, 0x2B88D29C, *_SPLIT, _C2, secure_boot=_P256, signatures=1),
    Chip("esp32c6", 13, 0x0, 0x540DDF62, *_ON_ONE_BUS, _C6),
    Chip("esp32h2", 16, 0x0, 0x332726F6, *_ON_ONE_BUS, _H2),
    Chip("esp32p4", 18, 0x2000, 0x3D308E94, *_LARGE, secure_boot=_P384),
    Chip("esp32c61", 20, 0x0, 0x77D850C4, *_ON_ONE_BUS, secure_boot=_P256),
    Chip("esp32c5", 23, 0x2000, 0xF71C0343, *_ON_ONE_BUS, secure_boot=_P384),
    Chip("esp32h21", 25, 0x0, 0xB6DD00AF, *_ON_ONE_BUS, _H4, flashed=False),
    Chip("esp32h4", 28, 0x2000, 0x9E0BAA8A, *_ON_ONE_BUS, _H4, secure_boot=_P384, flashed=False),
    Chip("esp32s31", 32, 0x2000, 0x3101F7C1, *_LARGE, secure_boot=_P384, flashed=False),
)
ESP8266: Final = "esp8266"
"""The one chip of Espressif without a row: its images have another format, without its name."""
BY_ID: Final = {chip.id: chip for chip in CHIPS}
BY_NAME: Final = {chip.name: chip for chip in CHIPS}

MODES: Final = ("qio", "qout", "dio", "dout", "fast read", "slow read")
"""Flash modes, by their number in a header."""
_SIZES: Final = 8  # from 1 MiB to 128 MiB, each twice the one before
_MEMORIES: Final = (  # all that any of the chips maps or loads to, roughly; 0 is padding
    (0x0, 0x10000),
    (0x2E000000, 0x30102000),
    (0x3C000000, 0x44000000),
    (0x48000000, 0x54000000),
    (0x600FE000, 0x60100000),
)


def size_name(size: int) -> str:
    """Return a size of flash in words, such as "4MB"."""
    return f"{size // _MIB}MB" if size % _MIB == 0 else f"{size} bytes"


def flash_size(field: int) -> int | None:
    """Return the size in a header's fourth byte, in bytes; None for a value without a meaning."""
    return _MIB << (field >> 4) if field >> 4 < _SIZES else None


def flash_frequency(chip: Chip, field: int) -> str | None:
    """Return the frequency in a header's fourth byte; None for a value without a meaning."""
    return chip.frequencies.get(field & 0xF)


def legacy_revision(chip: Chip, field: int) -> int:
    """Return the least revision in the old byte of a header, major * 100 + minor.

    ESP-IDF before 5.0 has only this byte: the minor number on the ESP32-C3, else the major one.
    """
    return field if chip.minor_only else 100 * field


def is_memory(address: int) -> bool:
    """Tell whether a segment of any chip may be loaded or mapped there."""
    return any(start <= address < end for start, end in _MEMORIES)


def bootloader_offset(chip: str) -> int | None:
    """Return the offset of a chip's boot loader; None for a chip without an image format."""
    return BY_NAME[chip].bootloader if chip in BY_NAME else None
