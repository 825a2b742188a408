# SPDX-License-Identifier: Apache-2.0
"""The chip revision of a simulated ESP: which eFuse bits state it.

Bits are those of the technical reference manuals, eFuse block 1 (ESP32: block 0).
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple


class Field(NamedTuple):
    """Some bits of a word."""

    address: int
    shift: int
    width: int


class RevisionLayout(NamedTuple):
    """The fields of minor and major revision, each with its lowest bits first."""

    minor: tuple[Field, ...]
    major: tuple[Field, ...]


def _shared(block: int) -> RevisionLayout:
    """Describe the chips that state both in the third word of the block."""
    return RevisionLayout((Field(block + 8, 0, 4),), (Field(block + 8, 4, 2),))


def _split(block: int) -> RevisionLayout:
    """Describe the chips whose minor revision got a further bit."""
    return RevisionLayout(
        (Field(block + 12, 18, 3), Field(block + 20, 23, 1)), (Field(block + 20, 24, 2),)
    )


_S2: Final = 0x3F41A044
_C2: Final = 0x60008844
_C6: Final = 0x600B0844
_P4: Final = 0x5012D04C
LAYOUTS: Final[Mapping[str, RevisionLayout]] = {
    "esp32": RevisionLayout(
        (Field(0x3FF5A014, 24, 2),),
        (Field(0x3FF5A00C, 15, 1), Field(0x3FF5A014, 20, 1), Field(0x3FF6607C, 31, 1)),
    ),
    "esp32s2": RevisionLayout(
        (Field(_S2 + 16, 4, 3), Field(_S2 + 12, 20, 1)), (Field(_S2 + 12, 18, 2),)
    ),
    "esp32s3": _split(0x60007044),
    "esp32c2": RevisionLayout((Field(_C2, 16, 4),), (Field(_C2, 20, 2),)),
    "esp32c3": _split(0x60008844),
    "esp32c5": _shared(0x600B4844),
    "esp32c6": RevisionLayout((Field(_C6 + 12, 18, 4),), (Field(_C6 + 12, 22, 2),)),
    "esp32c61": _shared(0x600B4844),
    "esp32h2": RevisionLayout((Field(_C6 + 12, 18, 3),), (Field(_C6 + 12, 21, 2),)),
    "esp32p4": RevisionLayout((Field(_P4, 0, 4),), (Field(_P4, 4, 2), Field(_P4, 23, 1))),
}
USUAL: Final[Mapping[str, int]] = {"esp32": 300, "esp32c2": 100}
"""Revisions, major * 100 + minor, of boards that name none; else 0. ESP32: the first with secure
boot v2; C2: the first that esptool's stub runs on."""
_ESP32_MAJOR: Final = (0b000, 0b001, 0b011, 0b111)  # one more bit is burnt each time


def bits(chip: str, revision: int) -> Iterator[tuple[int, int]] | None:
    """Return the addresses of eFuse words with their burnt bits; None if that cannot be burnt.

    Args:
        chip: a key of `fwsign.flash.esp.chips.CHIPS`.
        revision: major * 100 + minor.
    """
    layout = LAYOUTS.get(chip)
    if layout is None:
        return None if revision else iter(())
    major, minor = divmod(revision, 100)
    if chip == "esp32":
        if major >= len(_ESP32_MAJOR):
            return None
        major = _ESP32_MAJOR[major]
    if not (_fits(layout.major, major) and _fits(layout.minor, minor)):
        return None
    return itertools.chain(_spread(layout.major, major), _spread(layout.minor, minor))


def _fits(fields: tuple[Field, ...], value: int) -> bool:
    return value < 1 << sum(field.width for field in fields)


def _spread(fields: tuple[Field, ...], value: int) -> Iterator[tuple[int, int]]:
    for field in fields:
        yield field.address, (value & ((1 << field.width) - 1)) << field.shift
        value >>= field.width
