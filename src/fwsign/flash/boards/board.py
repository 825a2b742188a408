# SPDX-License-Identifier: Apache-2.0
"""The interface of a board for flashing: seven small calls.

A backend speaks one boot loader's protocol and decides nothing. The engine decides what is written,
in which order, and whether the result is good. Offsets count from the start of the flash.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

DigestName: TypeAlias = Literal["md5", "crc32", "image"]
"""A digest that a boot loader can compute; "image": MCUboot reports its image's hash."""

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of bytes of flash processed since the last call."""

Read: TypeAlias = Callable[[int, int], bytes | None]
"""Reads the board's flash; None if that is not possible."""

SECURE_BOOT_V1: Final = "secure boot v1"
SECURE_BOOT: Final = "secure boot"
FLASH_ENCRYPTION: Final = "flash encryption"
SECURE_DOWNLOAD: Final = "secure download mode"


class BoardInfo(NamedTuple):
    """The facts that a board reports before anything is changed.

    Args:
        kind: "esp", "pico-uart", "pico-uf2" or "smp".
        chip: as in a manifest's target, such as "esp32c3"; None if unknown.
        identity: the board's unique identity, as in "mac:a0b765c1d2e3"; None if it has none.
        flash_size: in bytes; None if unknown.
        start: the lowest offset that the boot loader writes to.
        sector: bytes that are erased at once.
        digest: the digest that `digest` computes; None if it cannot.
        digest_block: the best number of bytes for one call of `digest`; 0 for a whole region.
        readable: whether `read` gives the flash's content.
        locks: the active protections, by the constants of this module.
        details: names and values for the receipt, such as the boot loader's version and baud.
        simulated: whether it is our simulator.
        revision: the chip's revision, major * 100 + minor; None if unknown.
        octal: whether its flash has eight data lines, by the chip's eFuses; None if unknown.
        boot_keys: the digests of the keys by which its ROM starts images, as far as it keeps them,
            without the revoked ones; None if unknown.
        security_version: its number against rollback; None if unknown.
        revoked_keys: the digests of keys that it takes no more.
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
    revision: int | None = None
    octal: bool | None = None
    boot_keys: tuple[bytes, ...] | None = None
    security_version: int | None = None
    revoked_keys: tuple[bytes, ...] = ()

    @property
    def floor_key(self) -> str | None:
        """The key of its floor; None for boards that share one. A simulated board has its own."""
        return f"simulated {self.identity or self.kind}" if self.simulated else self.identity


class Run(NamedTuple):
    """Bytes for one place. It begins on a sector; the engine fills the last one with 0xFF."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.offset + len(self.data)


class Board(Protocol):
    """A board in its boot loader. Calls only raise `Failed` with a `device.*` code.

    A failed call leaves the connection unusable; the engine closes it and connects anew.
    """

    def probe(self) -> BoardInfo:
        """Return the facts about this board; change nothing in its flash."""
        ...

    def digest(self, offset: int, size: int) -> bytes:
        """Let the board compute `BoardInfo.digest` over a part of its flash; CRC-32 has 4 bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return the flash's content; at most 256 KiB at once."""
        ...

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and write, in the order given; all is in flash when this returns."""
        ...

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """After verification, write what the boot loader needs to start this; return notes."""
        ...

    def reset(self) -> None:
        """Leave the boot loader and start the program; `device.support` if only the user can."""
        ...

    def close(self) -> None:
        """Release the port; it may be called twice, and never raises."""
        ...


Connect: TypeAlias = Callable[[int], Board]
"""Opens a board's port; the argument counts attempts from 0, and each may be slower and safer."""
