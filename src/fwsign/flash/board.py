# SPDX-License-Identifier: Apache-2.0
"""What a board must be able to do to be flashed: seven small calls.

A backend speaks one boot loader's protocol and decides nothing: what is written, in which order,
and whether it is good, is the engine's. Offsets count from the start of the flash.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

DigestName: TypeAlias = Literal["md5", "crc32", "image"]
"""What a boot loader can compute over its flash; "image": MCUboot names the hash of its image."""

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of bytes of flash that were dealt with since the last call."""

SECURE_BOOT_V1: Final = "secure boot v1"
SECURE_BOOT: Final = "secure boot"
FLASH_ENCRYPTION: Final = "flash encryption"
SECURE_DOWNLOAD: Final = "secure download mode"


class BoardInfo(NamedTuple):
    """What a board says of itself before anything is changed.

    Args:
        kind: "esp", "pico-uart", "pico-uf2" or "smp".
        chip: as in a manifest's target, such as "esp32c3"; None where nothing tells.
        identity: what no other board has, as in "mac:a0b765c1d2e3"; None where it has none.
        flash_size: in bytes; None where nothing tells.
        start: the lowest offset that the boot loader writes to.
        sector: bytes that are erased at once.
        digest: what `digest` computes; None where it cannot.
        digest_block: bytes that one call of `digest` is best asked for; 0 for a whole region.
        readable: whether `read` gives the flash's content.
        locks: protections that are switched on: the constants of this module.
        details: names and values for the receipt, such as the boot loader's version and baud.
        simulated: whether it is a program of ours.
    """

    kind: str
    chip: str | None
    identity: str | None
    flash_size: int | None
    start: int = 0
    sector: int = 4096
    digest: DigestName | None = None
    digest_block: int = 0
    readable: bool = False
    locks: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    simulated: bool = False

    @property
    def floor_key(self) -> str | None:
        """What its floor is kept by: none for boards that share one, never a real board's."""
        return f"simulated {self.identity or self.kind}" if self.simulated else self.identity


class Run(NamedTuple):
    """Bytes for one place: begins on a sector; the engine fills the last sector with 0xFF."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The first offset behind it."""
        return self.offset + len(self.data)


class Board(Protocol):
    """A board in its boot loader. Every call raises `Failed` with a `device.*` code, or nothing.

    A call that failed leaves the connection unusable; the engine closes it and connects anew.
    """

    def probe(self) -> BoardInfo:
        """Say what this board is; changes nothing in its flash."""
        ...

    def digest(self, offset: int, size: int) -> bytes:
        """Let the board compute `BoardInfo.digest` over a part of its flash; CRC-32 has 4 bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return what is in the flash; at most 256 KiB at once."""
        ...

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and write, in the order given; all is in flash when this returns."""
        ...

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """Do what the boot loader needs to start this, after it was verified; return notes."""
        ...

    def reset(self) -> None:
        """Leave the boot loader and start what was written."""
        ...

    def close(self) -> None:
        """Give the port back; may be called twice, and never raises."""
        ...


Connect: TypeAlias = Callable[[int], Board]
"""Opens a board's port; the argument counts attempts from 0, and each may be slower and safer."""
