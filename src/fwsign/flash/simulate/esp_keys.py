# SPDX-License-Identifier: Apache-2.0
"""The keys of secure boot v2 in a simulated chip's eFuses.

Purposes of key blocks are where esptool reads them; the rest is where `fwsign.flash.esp.efuses`
has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.flash.esp.efuses import FUSES, PURPOSES, KeyFuses
from fwsign.flash.simulate.esp_chip import Fuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fwsign.flash.simulate import Settings
    from fwsign.flash.simulate.esp_chip import Registers

_USUAL: Final = ((-0x68, 24), (-0x68, 28), (-0x64, 0))
_PURPOSES: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "esp32c5": ((-0x68, 22), (-0x68, 27), (-0x64, 0)),
    "esp32c61": ((-0x68, 0), (-0x68, 4), (-0x68, 8)),
}
"""Of the first three key blocks: the register, from the first key block on, and the shift."""


def burn(registers: Registers, settings: Settings) -> None:
    """Burn the keys, revocations and the number against rollback of a simulated board.

    Raises:
        Failed: `device.port`: this chip has no room for them.
    """
    for fuse in _fuses(settings):
        registers.burn(fuse)


def accepted(settings: Settings) -> tuple[str, ...] | None:
    """Return the digests of the keys in force; None for a board that does not look at keys."""
    if not settings.boot_keys:
        return None
    keys = enumerate(settings.boot_keys)
    size = FUSES[settings.board].size
    return tuple(one[: 2 * size] for slot, one in keys if slot not in settings.revoked)


def _fuses(settings: Settings) -> Iterator[Fuse]:
    if not settings.boot_keys and not settings.revoked and not settings.security_version:
        return
    fuses = FUSES.get(settings.board)
    if fuses is None:
        raise _no_room(settings.board, "keys of secure boot v2", "none")
    most = 1 if fuses.revoked is None else len(PURPOSES)
    if len(settings.boot_keys) > most or (settings.revoked and fuses.revoked is None):
        found = f"{len(settings.boot_keys)} keys, {len(settings.revoked)} revoked"
        room = f"{most} keys" if fuses.revoked else "one key, which cannot be revoked"
        raise _no_room(settings.board, found, room)
    width = fuses.version.width if fuses.version is not None else 0
    if settings.security_version > width:
        found = f"security version {settings.security_version}"
        raise _no_room(settings.board, found, f"at most {width}")
    yield from _keys(settings, fuses)
    if fuses.version is not None:
        bits = (1 << settings.security_version) - 1
        yield Fuse(fuses.version.address, bits << fuses.version.shift)


def _keys(settings: Settings, fuses: KeyFuses) -> Iterator[Fuse]:
    for slot, digest in enumerate(settings.boot_keys):
        data = bytes.fromhex(digest)[: fuses.size]
        for at in range(0, fuses.size, 4):
            word = int.from_bytes(data[at : at + 4], "little")
            yield Fuse(fuses.key + 32 * slot + at, word)
        if fuses.revoked is not None:
            at, shift = _PURPOSES.get(settings.board, _USUAL)[slot]
            yield Fuse(fuses.key + at, PURPOSES[slot] << shift)
    if fuses.revoked is not None:
        for slot in settings.revoked:
            yield Fuse(fuses.revoked.address, 1 << fuses.revoked.shift + slot)


def _no_room(board: str, found: str, expected: str) -> Failed:
    return Failed(
        "device.port",
        f"a simulated {board} has no room for {found}, expected {expected}",
        expected=expected,
        found=found,
    )
