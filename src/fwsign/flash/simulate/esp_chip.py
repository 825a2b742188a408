# SPDX-License-Identifier: Apache-2.0
"""What host programs read of an ESP chip's registers: which chip it is, its MAC, its locks.

Addresses and bits are those of the technical reference manuals (eFuse controller, SPI1, UART0).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.flash.boards.board import (
    FLASH_ENCRYPTION,
    SECURE_BOOT,
    SECURE_BOOT_V1,
    SECURE_DOWNLOAD,
)
from fwsign.flash.esp import fuses
from fwsign.flash.esp.fuses import BootKey
from fwsign.flash.simulate import esp_revision
from fwsign.images import esp

DETECT: Final = 0x40001000
"""A word of every ROM that differs from chip to chip."""
_ROM_BAUD: Final = 115200
_SECURE_BOOT_FLAG, _SECURE_DOWNLOAD_FLAG = 1 << 0, 1 << 2


class Fuse(NamedTuple):
    """Bits of an eFuse word, burnt."""

    address: int
    bits: int


class ChipModel(NamedTuple):
    """One kind of chip.

    Args:
        detect: the word at `DETECT`.
        has_id: whether its security info has the chip's id.
        spi: base of the SPI controller of the flash.
        mac: eFuse words of the MAC, low word first.
        encryption: what is burnt where flash encryption is on.
        boot: what is burnt where secure boot is on.
        clock: the UART's clock in MHz, and where its divider is read.
        fuses: what else is burnt.
    """

    detect: int
    spi: int
    mac: tuple[int, int]
    encryption: Fuse | None = None
    boot: Fuse | None = None
    clock: tuple[int, int] = (40, 0x60000014)
    fuses: tuple[Fuse, ...] = ()
    has_id: bool = True


def _later(spi: int, efuse: int, encryption: Fuse, boot: Fuse) -> ChipModel:
    """Describe a chip with the eFuse layout of the later ones."""
    mac = (efuse + 0x44, efuse + 0x48)
    return ChipModel(0, spi, mac, encryption, boot)


def _usual(spi: int, efuse: int) -> ChipModel:
    encryption, boot = Fuse(efuse + 0x34, 1 << 18), Fuse(efuse + 0x38, 1 << 20)
    return _later(spi, efuse, encryption, boot)


_ESP32_EFUSE: Final = 0x3FF5A000
_SECURE_BOOT_V1_FUSE: Final = Fuse(_ESP32_EFUSE + 0x18, 1 << 4)
_ESP32: Final = ChipModel(
    0x00F01D83,
    0x3FF42000,
    (_ESP32_EFUSE + 4, _ESP32_EFUSE + 8),
    Fuse(_ESP32_EFUSE, 1 << 20),
    Fuse(_ESP32_EFUSE + 0x18, 1 << 5),
    (40, 0x3FF40014),
    (
        Fuse(_ESP32_EFUSE + 0x10, 128),  # with the next: the ROM finds a crystal of 40 MHz
        Fuse(0x3FF5F06C, 800 << 7),
    ),
)
_C2: Final = ChipModel(
    0,
    0x60002000,
    (0x60008840, 0x60008844),
    Fuse(0x60008830, 1 << 7),
    Fuse(0x60008830, 1 << 21),
)

_CHIPS: Final[Mapping[str, ChipModel]] = {
    "esp8266": ChipModel(0xFFF0C101, 0x60000200, (0, 0), clock=(52, 0x60000014)),
    "esp32": _ESP32,
    "esp32s2": _usual(0x3F402000, 0x3F41A000)._replace(detect=0x000007C6, has_id=False),
    "esp32s3": _usual(0x60002000, 0x60007000),
    "esp32c2": _C2,
    "esp32c3": _usual(0x60002000, 0x60008800),
    "esp32c5": _later(
        0x60003000, 0x600B4800, Fuse(0x600B4834, 1 << 16), Fuse(0x600B4838, 1 << 25)
    )._replace(clock=(48, 0x60000014)),
    "esp32c6": _usual(0x60003000, 0x600B0800),
    "esp32c61": _later(
        0x60003000, 0x600B4800, Fuse(0x600B4830, 1 << 23), Fuse(0x600B4834, 1 << 26)
    ),
    "esp32h2": _usual(0x60003000, 0x600B0800),
    "esp32p4": _usual(0x5008D000, 0x5012D000),
}
_S3_OCTAL: Final = Fuse(0x6000703C, 1 << 9)
_NO_SECURITY_INFO: Final = ("esp8266", "esp32")


def own_mac(board: str) -> str:
    """Return the MAC of a simulated chip: one that no maker gives out, another for each chip."""
    return f"02f3519c00{list(_CHIPS).index(board):02x}"


class Registers:
    """The memory of one chip, as far as anybody reads it.

    Args:
        board: a key of `fwsign.flash.esp.chips.CHIPS`.
        identity: the MAC in hex; None for `own_mac`.
        locks: as in `fwsign.flash.boards.board`.
        flash_id: what the flash answers to RDID, first byte lowest.
        revision: the chip's, major * 100 + minor; None for the simulator's own.
        octal: whether its flash has eight data lines.
        boot: of secure boot v2 the digest of each key, and whether it is revoked; and the number
            against rollback.

    Raises:
        Failed: `device.port`: this chip has no such lock or revision, or that is no MAC.
    """

    def __init__(
        self,
        board: str,
        identity: str | None,
        locks: tuple[str, ...],
        flash_id: int,
        revision: int | None = None,
        *,
        octal: bool = False,
        boot: tuple[Sequence[tuple[bytes, bool]], int] = ((), 0),
    ) -> None:
        self._board = board
        self._chip = _CHIPS[board]
        self._locks = locks
        self._flash_id = flash_id
        self._words: dict[int, int] = {}
        self._has_security_info = board not in _NO_SECURITY_INFO
        mhz, divider = self._chip.clock
        self._burn(Fuse(DETECT, self._chip.detect))
        self._burn(Fuse(divider, mhz * 1_000_000 // _ROM_BAUD))
        for fuse in (*self._chip.fuses, *self._lock_fuses(board)):
            self._burn(fuse)
        self.revision = esp_revision.USUAL.get(board, 0) if revision is None else revision
        for fuse in (*self._revision_fuses(board), *self._octal_fuses(board, octal=octal)):
            self._burn(fuse)
        self._burn_mac(board, identity or own_mac(board))
        if any(boot):
            self._burn_keys(board, [BootKey(*one) for one in boot[0]], boot[1])
        old = board in _NO_SECURITY_INFO
        self._command = self._chip.spi
        self._user2 = self._chip.spi + (0x24 if old else 0x20)
        self._data = self._chip.spi + {"esp8266": 0x40, "esp32": 0x80}.get(board, 0x58)

    def _lock_fuses(self, board: str) -> list[Fuse]:
        known = {
            SECURE_BOOT_V1: _SECURE_BOOT_V1_FUSE if board == "esp32" else None,
            SECURE_BOOT: self._chip.boot,
            FLASH_ENCRYPTION: self._chip.encryption,
            SECURE_DOWNLOAD: Fuse(DETECT, 0) if self._has_security_info else None,
        }
        fuses = [fuse for lock in self._locks if (fuse := known.get(lock)) is not None]
        if len(fuses) != len(self._locks):
            names = [name for name, fuse in known.items() if fuse is not None]
            expected, found = _typed(names) or "no lock", _typed(self._locks)
            raise Failed(
                "device.port",
                f"a simulated {board} has no such lock: {found}, expected {expected}",
                expected=expected,
                found=found,
            )
        return fuses

    def _octal_fuses(self, board: str, *, octal: bool) -> list[Fuse]:
        if octal and board != "esp32s3":
            raise Failed(
                "device.port",
                f"a simulated {board} has no octal flash",
                expected="an esp32s3",
                found=board,
            )
        return [_S3_OCTAL] if octal else []

    def _revision_fuses(self, board: str) -> list[Fuse]:
        found = esp_revision.bits(board, self.revision)
        if found is None:
            words = f"{self.revision // 100}.{self.revision % 100}"
            raise Failed(
                "device.port",
                f"a simulated {board} has no such revision: {words}",
                expected=f"a revision that {board} can have",
                found=words,
            )
        return [Fuse(address, bits) for address, bits in found]

    def _burn_mac(self, board: str, identity: str) -> None:
        try:
            mac = bytes.fromhex(identity)
        except ValueError:
            mac = b""
        if len(mac) != 6:
            raise Failed(
                "device.port",
                f"not the identity of an ESP: {identity}, expected 12 hex digits",
                expected="12 hex digits",
                found=identity,
            )
        if board == "esp8266":
            self._burn(Fuse(0x3FF00050, mac[5] << 24))
            self._burn(Fuse(0x3FF00054, int.from_bytes(mac[3:5], "big")))
            self._burn(Fuse(0x3FF0005C, int.from_bytes(mac[:3], "big")))
            return
        low, high = self._chip.mac
        self._burn(Fuse(low, int.from_bytes(mac[2:], "big")))
        self._burn(Fuse(high, int.from_bytes(mac[:2], "big")))

    def _burn_keys(self, board: str, keys: Sequence[BootKey], version: int) -> None:
        most = fuses.most_keys(board) if board in fuses.FUSES else 0
        bits = fuses.FUSES[board].version.width if most else 0
        if len(keys) > most or version > bits:
            found = f"{len(keys)} keys and security version {version}"
            expected = f"at most {most} and {bits}"
            raise Failed(
                "device.port",
                f"a simulated {board} cannot have {found}, expected {expected}",
                expected=expected,
                found=found,
            )
        for address, word in fuses.burnt(board, tuple(keys), version):
            self._burn(Fuse(address, word))

    def _burn(self, fuse: Fuse) -> None:
        self._words[fuse.address] = self._words.get(fuse.address, 0) | fuse.bits

    def read(self, address: int) -> int:
        """Return a word of 32 bits."""
        return self._words.get(address, 0)

    def write(self, address: int, value: int, mask: int) -> None:
        """Change those bits of a word that the mask has; start what the SPI controller does."""
        self._words[address] = (self.read(address) & ~mask) | (value & mask)
        if address == self._command and value >> 18 & 1:
            rdid = self.read(self._user2) & 0xFF == 0x9F
            self._words[self._data] = self._flash_id if rdid else 0
            self._words[self._command] = 0

    @property
    def security_info(self) -> bytes | None:
        """What GET_SECURITY_INFO answers; None for a chip that does not know the command."""
        if not self._has_security_info:
            return None
        flags = _SECURE_BOOT_FLAG if SECURE_BOOT in self._locks else 0
        flags |= _SECURE_DOWNLOAD_FLAG if SECURE_DOWNLOAD in self._locks else 0
        encrypted = int(FLASH_ENCRYPTION in self._locks)
        info = flags.to_bytes(4, "little") + bytes([encrypted, *[0] * 7])
        if not self._chip.has_id:
            return info
        number = next(one.id for one in esp.CHIPS if one.name == self._board)
        return info + number.to_bytes(4, "little") + bytes(4)


def _typed(locks: Iterable[str]) -> str:
    """Return the names of locks as they are typed: `lock=secure-boot`."""
    return ", ".join(name.replace(" ", "-") for name in locks)
