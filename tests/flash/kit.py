"""Releases for flash, ESP images, and a board in memory that goes wrong when told to."""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from fwsign.errors import Failed
from fwsign.flash.boards.board import BoardInfo, Progress, Run
from fwsign.flash.boards.release import HeldRelease
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judge, Judged, Options, Outcome, Report
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import bstr_digest
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from fwsign.images.esp import CHIPS
from fwsign.verify.verified import VerifiedRelease
from support import PRODUCT, VENDOR, Pki, make_manifest, make_pki, sign_with, verify

SECTOR = 4096
FLASH_SIZE = 1 << 20
_APP = struct.Struct("<II8x32s32s16s16s32s32s80x")


def noise(size: int, seed: int = 0) -> bytes:
    """Make bytes that look random and are the same in each run."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


def esp_image(
    chip: str = "esp32c3",
    size: int = 20000,
    *,
    app: bool = True,
    seed: int = 0,
    revisions: tuple[int, int] = (0, 9999),
    megabytes: int = 1,
    mode: int = 2,
    described: bool = True,
) -> bytes:
    """Make an ESP image with about `size` bytes: an application, or a boot loader."""
    one = next(one for one in CHIPS if one.name == chip)
    if app:
        first = _APP.pack(0xABCD5432, 0, b"1.0", b"app", b"10:00", b"today", b"5.5", bytes(32))
    else:
        first = struct.pack("<B3xI32s24s16x", 0x50 * described, 1, b"v5.5", b"today")
    data = first + noise(-(-size // 4) * 4, seed)
    segments = [(one.data[0] + 0x20, data)]
    if app:  # flash is mapped in pages of 64 KiB, so a segment has the same place in both
        segments.append((one.code[0] + 0x10000 + (0x28 + len(data)) % 0x10000, bytes(16)))
    size_code = megabytes.bit_length() - 1 << 4
    fields = (0xE9, len(segments), mode, size_code, 0x40380000, one.id, 0, *revisions, 1)
    body = struct.pack("<BBBBI4xHBHH4xB", *fields)
    for address, part in segments:
        body += struct.pack("<II", address, len(part)) + part
    body += bytes(15 - len(body) % 16)
    folded = 0xEF
    for byte in data:
        folded ^= byte
    body += bytes([folded])
    return body + hashlib.sha256(body).digest()


def partition_table(*rows: tuple[str, int, int, int, int]) -> bytes:
    """Make a partition table; a row is label, type, subtype, offset, size."""
    table = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, offset, size, label.encode(), 0)
        for label, kind, sub, offset, size in rows
    )
    table += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(table, usedforsecurity=False).digest()
    return table.ljust(0xC00, b"\xff")


OTA_TABLE = partition_table(
    ("nvs", 1, 2, 0x9000, 0x4000),
    ("otadata", 1, 0, 0xD000, 0x2000),
    ("ota_0", 0, 0x10, 0x10000, 0x40000),
    ("ota_1", 0, 0x11, 0x50000, 0x40000),
)
FACTORY_TABLE = partition_table(("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x80000))


def content(**places: bytes) -> bytes:
    """Return a flash with bytes at places, as in `at_8000=TABLE`."""
    flash = bytearray(b"\xff" * FLASH_SIZE)
    for name, data in places.items():
        at = int(name.removeprefix("at_"), 16)
        flash[at : at + len(data)] = data
    return bytes(flash)


ERASED = content()
BOOT = esp_image(app=False, seed=7)


def stock(chip: str = "esp32c3", mode: int = 2) -> bytes:
    """Return the flash of a board with a boot loader and a table, which wants an application."""
    place = next(one.bootloader for one in CHIPS if one.name == chip)
    boot = {f"at_{place:x}": esp_image(chip, app=False, seed=7, mode=mode)}
    return content(**boot, at_8000=FACTORY_TABLE)


STOCK = stock()


@cache
def pki() -> Pki:
    """Return the PKI of all these tests."""
    return make_pki()


def release(parts: Mapping[str, bytes], **more: Any) -> VerifiedRelease:
    """Sign and verify payloads for flash, each by its target as in `esp32c3@0x10000`.

    `native` is what the text states of the native signature of each; without it there is no text.
    """
    components = [
        _component(target, data, number) for number, (target, data) in enumerate(parts.items())
    ]
    native = more.pop("native", ())
    text = encode_text(Text(VENDOR, PRODUCT, native=native), tuple(components)) if native else None
    hashed = Digest(SHA256, bstr_digest(SHA256, text)) if text is not None else None
    manifest = make_manifest(*components, text_digest=hashed)
    return verify(sign_with(pki(), manifest, text=text), [pki().root], **more)


def _component(target: str, data: bytes, number: int) -> Component:
    chip, _, offset = target.partition("@")
    image = Digest(SHA256, digest(SHA256, data))
    return Component(flash_identifier(chip, int(offset, 0)), image, len(data), f"part{number}.bin")


def held(
    parts: Mapping[str, bytes],
    waived: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
    **more: Any,
) -> HeldRelease:
    """Hold a release of payloads, each by its target."""
    verified = release(parts, **more)
    sources = {
        one.name: data for one, data in zip(verified.components, parts.values(), strict=True)
    }
    return HeldRelease(
        verified, lambda one: io.BytesIO(sources[one.name]), waived, elsewhere=elsewhere
    )


class MemoryBoard:
    """A board in memory: NOR flash, and a fault at one step of all that is done to it.

    Args:
        flash: its content; erased after it.
        info: what it says of itself; by default an ESP32-C3.
        fault: called with the step's number before each step; raises `Failed` to fail there.
    """

    def __init__(
        self,
        flash: bytes = STOCK,
        info: BoardInfo | None = None,
        fault: Callable[[int], None] | None = None,
    ) -> None:
        self.flash = bytearray(flash.ljust(FLASH_SIZE, b"\xff"))
        self.info = info or board_info()
        self.fault = fault or ignore
        self.steps = 0
        self.log: list[tuple[str, int, int]] = []
        self.finished: list[Run] = []
        self.closed = 0
        self.resets = 0

    def _step(self, what: str, offset: int = 0, size: int = 0) -> None:
        self.log.append((what, offset, size))
        self.steps += 1
        self.fault(self.steps - 1)

    def connect(self, attempt: int) -> "MemoryBoard":
        """Return itself; see `Connect`."""
        self._step("connect", attempt)
        return self

    def probe(self) -> BoardInfo:
        """Say what it is."""
        self._step("probe")
        return self.info

    def digest(self, offset: int, size: int) -> bytes:
        """Compute a digest."""
        self._step("digest", offset, size)
        data = bytes(self.flash[offset : offset + size])
        if self.info.digest == "crc32":
            return zlib.crc32(data).to_bytes(4, "big")
        return hashlib.md5(data, usedforsecurity=False).digest()

    def read(self, offset: int, size: int) -> bytes:
        """Read flash."""
        self._step("read", offset, size)
        return bytes(self.flash[offset : offset + size])

    def _erase(self, offset: int, size: int) -> None:
        for sector in range(offset, offset + size, SECTOR):
            self.flash[sector : sector + SECTOR // 2] = b"\xff" * (SECTOR // 2)
            self._step("erase", sector)  # power may go with half of it done
            self.flash[sector : sector + SECTOR] = b"\xff" * SECTOR

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and program."""
        for run in runs:
            assert run.offset % SECTOR == len(run.data) % SECTOR == 0
            for at in range(0, len(run.data), SECTOR):
                self._erase(run.offset + at, SECTOR)
                self._program(run.offset + at, run.data[at : at + SECTOR // 2])
                self._step("program", run.offset + at)
                half = at + SECTOR // 2
                self._program(run.offset + half, run.data[half : at + SECTOR])
                progress(SECTOR)

    def _program(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data, offset):
            self.flash[at] &= byte

    def finish(self, regions: Sequence[Run]) -> tuple[str, ...]:
        """Take note."""
        self._step("finish")
        self.finished = list(regions)
        return ()

    def reset(self) -> None:
        """Take note."""
        self._step("reset")
        self.resets += 1

    def close(self) -> None:
        """Take note."""
        self.closed += 1

    def holds(self, parts: Mapping[str, bytes]) -> bool:
        """Tell whether all payloads are in the flash."""
        places = {int(target.partition("@")[2], 0): data for target, data in parts.items()}
        return all(self.flash[at : at + len(data)] == data for at, data in places.items())

    def did(self, what: str) -> list[tuple[int, int]]:
        """Return the places of all calls of a name."""
        return [(offset, size) for name, offset, size in self.log if name == what]


def board_info(**more: Any) -> BoardInfo:
    """Describe an ESP32-C3 with its stub."""
    usual: dict[str, Any] = {
        "kind": "esp",
        "chip": "esp32c3",
        "identity": "mac:a0b765c1d2e3",
        "flash_size": FLASH_SIZE,
        "digest": "md5",
        "digest_block": 65536,
        "readable": True,
    }
    return BoardInfo(**{**usual, **more})


def judging(parts: Mapping[str, bytes], accepted: list[str] | None = None, **more: Any) -> Judge:
    """Return a judge that verifies a release of payloads for any board."""
    one = held(parts, **more)
    told = accepted if accepted is not None else []

    def judge(info: BoardInfo) -> Judged:
        return Judged(one, lambda: told.append(str(info.identity)))

    return judge


def ignore(_: object) -> None:
    """Take no note of progress."""


def run(
    board: MemoryBoard,
    parts: Mapping[str, bytes] | Judge,
    report: Report = ignore,
    **options: Any,
) -> Outcome:
    """Flash payloads to a board."""
    judge = parts if callable(parts) else judging(parts)
    return flash(board.connect, judge, Options(**options), report)


def lost() -> Failed:
    """Return what a pulled cable looks like."""
    return Failed("device.lost", "the cable was pulled")
