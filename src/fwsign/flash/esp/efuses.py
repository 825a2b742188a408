# SPDX-License-Identifier: Apache-2.0
"""The eFuses about secure boot v2: digests of keys, revocations, and the number against rollback.

Addresses and bits are those of the technical reference manuals; tests compare them with espefuse's
tables. A key block is a digest if its purpose says so: 9, 10 and 11 are the three keys of the ROM.
ESP32 and ESP32-C2 have one key, at a fixed place, which cannot be revoked.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.flash.boards.board import SecureBoot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PURPOSES: Final = (9, 10, 11)
"""SECURE_BOOT_DIGEST0, 1 and 2: the slot of a key is its purpose, not its block."""
KEY_BLOCKS: Final = 6
_BLOCK: Final = 32
KIND: Final = "esp-secure-boot-v2"


class EfuseBits(NamedTuple):
    """Bits of a register."""

    address: int
    shift: int
    width: int

    def of(self, word: int) -> int:
        """Return their value in the register's word."""
        return word >> self.shift & ((1 << self.width) - 1)


class KeyFuses(NamedTuple):
    """Where one chip keeps what it knows of keys.

    Args:
        key: the address of the first key block, or of the only digest.
        version: the bits that count releases, one for each; None for an ESP32, whose bits for it
            may as well hold a user's data.
        revoked: a bit for each slot; None for the chips with one key.
        size: bytes of a digest; an ESP32-C2 keeps the first half.
    """

    key: int
    version: EfuseBits | None
    revoked: EfuseBits | None = None
    size: int = _BLOCK


def _three(base: int, version: tuple[int, int, int], revoked: tuple[int, int]) -> KeyFuses:
    """Describe a chip with six key blocks, by offsets from its eFuse controller."""
    return KeyFuses(
        base + 0x9C,
        EfuseBits(base + version[0], version[1], version[2]),
        EfuseBits(base + revoked[0], revoked[1], 3),
    )


FUSES: Final[Mapping[str, KeyFuses]] = MappingProxyType(
    {
        "esp32": KeyFuses(0x3FF5A058, None),
        "esp32s2": _three(0x3F41A000, (0x3C, 11, 16), (0x34, 21)),
        "esp32s3": _three(0x60007000, (0x3C, 14, 16), (0x34, 21)),
        "esp32c2": KeyFuses(0x60008870, EfuseBits(0x60008830, 22, 4), None, 16),
        "esp32c3": _three(0x60008800, (0x3C, 14, 16), (0x34, 21)),
        "esp32c5": _three(0x600B4800, (0x3C, 9, 9), (0x34, 19)),
        "esp32c6": _three(0x600B0800, (0x3C, 14, 16), (0x34, 21)),
        "esp32c61": _three(0x600B4800, (0x38, 8, 16), (0x30, 26)),
        "esp32h2": _three(0x600B0800, (0x3C, 9, 16), (0x34, 21)),
        "esp32p4": _three(0x5012D000, (0x3C, 9, 16), (0x34, 21)),
    }
)
"""By chip; an ESP8266 has none of this."""


def read(
    chip: str | None,
    word: Callable[[int], int],
    purpose: Callable[[int], int],
    *,
    enabled: bool,
) -> SecureBoot | None:
    """Return what a chip knows of keys; None for a chip without secure boot v2.

    Args:
        chip: as in a manifest's target.
        word: reads a register.
        purpose: reads the purpose of a key block.
        enabled: whether secure boot v2 is on: a block without a purpose may have another key else.
    """
    fuses = FUSES.get(chip or "")
    if fuses is None:
        return None
    counted = None
    if fuses.version is not None:
        counted = fuses.version.of(word(fuses.version.address)).bit_count()
    if fuses.revoked is None:
        digest = _digest(fuses.key, fuses.size, word) if enabled else ""
        return SecureBoot(KIND, (digest,) if digest else (), (), counted)
    slots = {}
    for block in range(KEY_BLOCKS):
        if (slot := purpose(block)) in PURPOSES:
            slots[PURPOSES.index(slot)] = _digest(fuses.key + _BLOCK * block, fuses.size, word)
    gone = fuses.revoked.of(word(fuses.revoked.address))
    known = [(slot, digest) for slot, digest in sorted(slots.items()) if digest]
    return SecureBoot(
        KIND,
        tuple(digest for slot, digest in known if not gone >> slot & 1),
        tuple(digest for slot, digest in known if gone >> slot & 1),
        counted,
    )


def _digest(address: int, size: int, word: Callable[[int], int]) -> str:
    """Return a digest in hex; empty if it is not burnt."""
    data = b"".join(word(address + at).to_bytes(4, "little") for at in range(0, size, 4))
    return data.hex() if any(data) else ""
