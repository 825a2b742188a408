# SPDX-License-Identifier: Apache-2.0
"""Where ESP chips keep what secure boot v2 knows: digests of keys, revocations, security version.

The ESP32 has one digest in block 2. The ESP32-C2 has the first half of one in the upper half of its
key block. The others have six key blocks with a purpose each, of which up to three are digests;
each of the three can be revoked. The security version is the number of burnt bits in its field.

Source: technical reference manuals, "eFuse Controller"; ESP-IDF, esp_efuse_table.csv.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

DIGEST_SIZE: Final = 32
_DIGESTS: Final = (9, 10, 11)
"""The purposes SECURE_BOOT_DIGEST0 to 2."""
_BLOCK0: Final = 0x2C  # of the later chips: word 0 of block 0, of which each word is 4 bytes on
_KEYS: Final = 0x9C
_KEY_BLOCKS: Final = 6


class FuseField(NamedTuple):
    """Bits of a word: its address, the first bit and their number."""

    address: int
    shift: int
    width: int

    def value(self, word: int) -> int:
        """Return the field of a word."""
        return word >> self.shift & (1 << self.width) - 1


class BootFuses(NamedTuple):
    """What one kind of chip keeps.

    Args:
        keys: addresses of the blocks that may hold a digest.
        size: bytes of a digest that are kept.
        version: the field of the security version.
        purposes: the field of each block's purpose; empty where the one block has no other.
        revoked: the first bit of three that revoke the digests 0 to 2; None if none can be.
    """

    keys: tuple[int, ...]
    size: int
    version: FuseField
    purposes: tuple[FuseField, ...] = ()
    revoked: FuseField | None = None


class BootKey(NamedTuple):
    """A digest in a chip's eFuses: its bytes, perhaps only the first, and whether it is revoked."""

    digest: bytes
    revoked: bool = False


def _later(
    base: int,
    purposes: tuple[tuple[int, int], ...],
    revoked: tuple[int, int],
    version: tuple[int, int, int],
    width: int = 4,
) -> BootFuses:
    """Describe a chip with six key blocks; places are word of block 0, and first bit."""

    def field(word: int, shift: int, bits: int) -> FuseField:
        return FuseField(base + _BLOCK0 + 4 * word, shift, bits)

    return BootFuses(
        tuple(base + _KEYS + DIGEST_SIZE * number for number in range(_KEY_BLOCKS)),
        DIGEST_SIZE,
        field(*version),
        tuple(field(word, shift, width) for word, shift in purposes),
        field(*revoked, 3),
    )


_USUAL: Final = ((2, 24), (2, 28), (3, 0), (3, 4), (3, 8), (3, 12))
_C5: Final = ((2, 22), (2, 27), (3, 0), (3, 5), (3, 10), (3, 15))
_C61: Final = ((2, 0), (2, 4), (2, 8), (2, 12), (2, 16), (2, 20))
_ESP32: Final = 0x3FF5A000
_C2: Final = 0x60008800

FUSES: Final[Mapping[str, BootFuses]] = MappingProxyType(
    {
        "esp32": BootFuses((_ESP32 + 0x58,), DIGEST_SIZE, FuseField(_ESP32 + 0x88, 0, 32)),
        "esp32s2": _later(0x3F41A000, _USUAL, (2, 21), (4, 11, 16)),
        "esp32s3": _later(0x60007000, _USUAL, (2, 21), (4, 14, 16)),
        "esp32c2": BootFuses((_C2 + 0x70,), 16, FuseField(_C2 + 0x30, 22, 4)),
        "esp32c3": _later(0x60008800, _USUAL, (2, 21), (4, 14, 16)),
        "esp32c5": _later(0x600B4800, _C5, (2, 19), (4, 9, 9), 5),
        "esp32c6": _later(0x600B0800, _USUAL, (2, 21), (4, 14, 16)),
        "esp32c61": _later(0x600B4800, _C61, (1, 26), (3, 8, 16)),
        "esp32h2": _later(0x600B0800, _USUAL, (2, 21), (4, 9, 16)),
        "esp32p4": _later(0x5012D000, _USUAL, (2, 21), (4, 9, 16)),
    }
)
"""By the name of the chip; the ESP8266 has none."""


def read_keys(chip: str, read: Callable[[int], int]) -> tuple[BootKey, ...]:
    """Return the digests of a chip with secure boot v2; empty if none can be read.

    Args:
        chip: a key of `FUSES`.
        read: returns the word at an address.
    """
    own = FUSES[chip]
    revoked = own.revoked.value(read(own.revoked.address)) if own.revoked else 0
    found: dict[int, BootKey] = {}
    for number, address in enumerate(own.keys):
        slot = 0
        if own.purposes:
            purpose = own.purposes[number]
            kind = purpose.value(read(purpose.address))
            if kind not in _DIGESTS:
                continue
            slot = _DIGESTS.index(kind)
        words = [read(address + at) for at in range(0, own.size, 4)]
        digest = b"".join(word.to_bytes(4, "little") for word in words)
        if any(digest):  # else it was not burnt, or cannot be read
            found[slot] = BootKey(digest, bool(revoked >> slot & 1))
    return tuple(found[slot] for slot in sorted(found))


def read_version(chip: str, read: Callable[[int], int]) -> int:
    """Return the security version of a chip; see `read_keys`."""
    field = FUSES[chip].version
    return field.value(read(field.address)).bit_count()


def burnt(chip: str, keys: tuple[BootKey, ...], version: int) -> list[tuple[int, int]]:
    """Return the addresses and bits of a simulated chip with these keys and this version.

    Args:
        chip: a key of `FUSES`.
        keys: at most as many as it can have.
        version: at most the bits of its field.
    """
    own = FUSES[chip]
    words = [(own.version.address, ((1 << version) - 1) << own.version.shift)]
    for slot, key in enumerate(keys):
        digest = key.digest[: own.size]
        words += [
            (own.keys[slot] + at, int.from_bytes(digest[at : at + 4], "little"))
            for at in range(0, own.size, 4)
        ]
        if own.purposes:
            purpose = own.purposes[slot]
            words.append((purpose.address, _DIGESTS[slot] << purpose.shift))
        if own.revoked is not None and key.revoked:
            words.append((own.revoked.address, 1 << own.revoked.shift + slot))
    return words


def most_keys(chip: str) -> int:
    """Return how many digests a chip can have."""
    return len(_DIGESTS) if FUSES[chip].purposes else 1
