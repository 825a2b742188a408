# SPDX-License-Identifier: Apache-2.0
"""How a simulated ESP chip frames, checks and refuses."""

from typing import Final

# What the stub answers with (code, 0).
LENGTH, CHECKSUM, UNKNOWN, FLASH, MODE = 0xC0, 0xC1, 0xC3, 0xC4, 0xC6
INFLATE, TOO_LITTLE, TOO_MUCH = 0xC7, 0xC8, 0xC9
# The ROM answers with (1, code), and has fewer.
_ROM_FAILED: Final = 6
_ROM_CODES: Final = {CHECKSUM: 7, UNKNOWN: 5}
_SEED: Final = 0xEF


class RefusedError(Exception):
    """A command is answered with a status other than success.

    Args:
        code: as the stub says it.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def expect(good: bool, code: int) -> None:
    """Refuse unless all is as it should be.

    Raises:
        RefusedError: with this code.
    """
    if not good:
        raise RefusedError(code)


def status(code: int, *, stub: bool, reserved: int) -> bytes:
    """Encode how a command ended.

    Args:
        code: 0 for success.
        stub: whether the stub says it, or the ROM.
        reserved: how many zero bytes the ROM adds.
    """
    if stub:
        return bytes([code, 0])
    return bytes([1, _ROM_CODES.get(code, _ROM_FAILED)] if code else 2) + bytes(reserved)


def slip(frame: bytes) -> bytes:
    """Frame bytes for the line."""
    return b"\xc0" + frame.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def unslip(frame: bytes) -> bytes:
    """Return what was framed; nothing where an escape is broken."""
    if frame.count(b"\xdb") != frame.count(b"\xdb\xdc") + frame.count(b"\xdb\xdd"):
        return b""
    return frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


def fold(data: bytes) -> int:
    """Return the checksum of data: XOR of all bytes, and 0xEF."""
    return xor(data) ^ _SEED


def xor(data: bytes) -> int:
    """XOR all bytes: by halves, since a loop over bytes would be the slowest part."""
    value, size = int.from_bytes(data, "little"), len(data)
    while size > 1:
        size = (size + 1) // 2
        value = (value >> 8 * size) ^ (value & ((1 << 8 * size) - 1))
    return value
