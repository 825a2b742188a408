# SPDX-License-Identifier: Apache-2.0
"""Files that linkers make and no chip runs as they are: ELF, Intel HEX and S-records.

Source: System V ABI, "ELF Header"; Intel, "Hexadecimal Object File Format Specification"; Motorola
S-records, as GNU binutils documents them.
"""

import re
import struct
from typing import Final

from fwsign.images.base import Image

_ELF: Final = struct.Struct("<4sBB10xHHII")  # up to the entry point, of 32 bits
_MAGIC: Final = b"\x7fELF"
_XTENSA, _ARM, _RISCV = 94, 40, 243
_LEAST_ARM_ENTRY: Final = 0x08000000
"""The flash of microcontrollers lies here or above; programs for Linux begin lower."""
_HEX: Final = re.compile(rb":((?:[0-9A-Fa-f]{2}){5,})\r?(?:\n|$)")
_SREC: Final = re.compile(rb"S[0-3]((?:[0-9A-Fa-f]{2}){4,})\r?(?:\n|$)")


def parse(head: bytes) -> Image | None:
    """Name a file by its first bytes; None for all others."""
    if head.startswith(_MAGIC):
        return _elf(head)
    if (found := _HEX.match(head)) and sum(bytes.fromhex(found[1].decode())) & 0xFF == 0:
        return _named("an Intel HEX file", "objcopy -I ihex -O binary FILE IMAGE")
    if (found := _SREC.match(head)) and sum(bytes.fromhex(found[1].decode())) & 0xFF == 0xFF:
        return _named("a file of S-records", "objcopy -I srec -O binary FILE IMAGE")
    return None


def _elf(head: bytes) -> Image:
    """Tell programs for microcontrollers from those for operating systems, which are signed so."""
    plain = Image("unknown", details=(("format", "an ELF file"),))
    if len(head) < _ELF.size:
        return plain
    _, bits, order, kind, machine, _, entry = _ELF.unpack_from(head)
    if (bits, order, kind) != (1, 1, 2):  # a whole program of 32 bits, little-endian
        return plain
    if machine in (_XTENSA, _RISCV):
        return _named("an ELF file", "esptool elf2image FILE")
    if machine == _ARM and entry >= _LEAST_ARM_ENTRY:
        return _named("an ELF file", "objcopy -O binary FILE IMAGE")
    return plain


def _named(name: str, command: str) -> Image:
    return Image(
        "unknown",
        details=(("format", name),),
        notes=(f"{name} is no image of flash; {command} makes one",),
    )
