"""Boards and releases for the property that a `verified` board starts; see `test_boots`.

A `Case` is a board and what is flashed to it, in a few words, so that a counterexample can be kept
as a test. Boards and images are made by the simulator's generator, and judged by its model.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from flash.kit import ignore, judging
from fwsign.errors import FwsignError
from fwsign.flash.boards.board import BoardInfo, Progress, Run
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Options, Outcome
from fwsign.flash.simulate.esp_boot_image import SILICON, Rom
from fwsign.flash.simulate.esp_boots import Started, bound_to, start
from fwsign.flash.simulate.esp_nor import SECTOR, Nor
from fwsign.flash.simulate.esp_stock import (
    Head,
    application,
    boot_loader,
    laid_out,
    old_application,
    rows,
    signature_block,
    signature_for,
    signed,
    stock,
    table,
)

MB = 1 << 20
CHIPS = ("esp8266", *SILICON)
DATA = ("text", "noise", "erased")
TABLES = {
    "ota": rows(),
    "ota at 0x10000": rows(0x10000),
    "factory": [("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x100000)],
    "both": [
        ("otadata", 1, 0, 0xD000, 0x2000),
        ("factory", 0, 0, 0x10000, 0x80000),
        ("ota_0", 0, 0x10, 0x90000, 0x80000),
        ("ota_1", 0, 0x11, 0x110000, 0x80000),
    ],
    "shifted": [("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x20000, 0x100000)],
    "small": [("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x1000)],
    "large": [("factory", 0, 0, 0x10000, 0x100000), ("data", 1, 0x82, 0x400000, 0x100000)],
    "test": [
        ("otadata", 1, 0, 0xD000, 0x2000),
        ("factory", 0, 0, 0x10000, 0x100000),
        ("test", 0, 0x20, 0x110000, 0x100000),
    ],
    "off its page": [("factory", 0, 0, 0x11000, 0x100000)],
    "no application": [("nvs", 1, 2, 0x9000, 0x6000)],
    "two factories": [("one", 0, 0, 0x10000, 0x80000), ("two", 0, 0, 0x90000, 0x80000)],
    "two slots 0": [("one", 0, 0x10, 0x10000, 0x80000), ("two", 0, 0x10, 0x90000, 0x80000)],
    "two otadata": [
        ("one", 1, 0, 0x9000, 0x2000),
        ("two", 1, 0, 0xD000, 0x2000),
        ("ota_0", 0, 0x10, 0x10000, 0x80000),
        ("ota_1", 0, 0x11, 0x90000, 0x80000),
    ],
    "small otadata": [("otadata", 1, 0, 0xD000, 0x1000), ("factory", 0, 0, 0x10000, 0x80000)],
    "large partition": [("factory", 0, 0, 0x10000, 17 * MB)],
    "no end": [
        ("factory", 0, 0, 0x10000, 0x10000),
        *((f"data {n}", 0x40, 0, 0x20000 + n * SECTOR, SECTOR) for n in range(94)),
    ],
}


class Piece(NamedTuple):
    """A payload.

    Args:
        what: "boot", "app", "table", "otadata", "merged", "text", "noise", "erased", or "askew"
            for an application whose code does not lie in flash as it is mapped.
        offset: its signed place.
        chip: of the image; the signed chip is always the board's.
        table: a key of `TABLES`, for a table or a merged image.
        flash_size: in the header, in bytes.
        lowest, highest, legacy: revisions in the header.
        damage: the byte that is flipped, modulo the size; None for none.
        signed: the kind of signature for secure boot: 0 for none, 1 for v1, 2 and 3 for v2; 12
            and 13 are for v2, with a damaged block before the good one.
        number: of the OTA data's entry; another number makes another application.
        boot: the place of the boot loader in a merged image; None for the chip's own.
        start: the first byte of a merged image in flash.
        reads: where its boot loader looks for the table.
    """

    what: str
    offset: int
    chip: str = "esp32c3"
    table: str = "factory"
    flash_size: int = 4 * MB
    lowest: int = 0
    highest: int = 0xFFFF
    legacy: int = 0
    damage: int | None = None
    signed: int = 0
    number: int = 1
    boot: int | None = None
    start: int = 0
    reads: int = 0x8000


class Case(NamedTuple):
    """A board, and the release that is flashed to it.

    Args:
        pieces: the release.
        chip: of the board.
        revision: of the chip.
        flash_size: of the board, in bytes.
        content: "blank", "stock", "stock at 0x10000", "stock with slot 1", "foreign" for what
            another chip's board has, or "noise".
        lock: a lock of `fwsign.flash.boards.board`; empty for none.
        worn: an offset at which a bit of the content is flipped; None for none.
    """

    pieces: tuple[Piece, ...]
    chip: str = "esp32c3"
    revision: int = 0
    flash_size: int = 4 * MB
    content: str = "blank"
    lock: str = ""
    worn: int | None = None


class NorBoard:
    """A board without a line: NOR flash, and what it says of itself."""

    def __init__(self, case: Case) -> None:
        self.nor = Nor(_content(case), (), case.flash_size)
        if case.worn is not None:
            self.nor.cells[case.worn % case.flash_size] ^= 1
        locks = (case.lock,) if case.lock else ()
        self.rom = Rom(case.chip, case.revision, locks, sealed=bound_to(self.nor.cells))
        self._info = BoardInfo(
            "esp",
            case.chip,
            "mac:02f3519c0001",
            case.flash_size,
            digest="md5",
            digest_block=65536,
            readable=True,
            locks=locks,
            revision=None if case.chip == "esp8266" else case.revision,
        )

    @property
    def started(self) -> Started:
        """What a reset starts."""
        return start(self.nor.cells, self.rom)

    def connect(self, _attempt: int) -> "NorBoard":
        """Return itself."""
        return self

    def probe(self) -> BoardInfo:
        """Say what it is."""
        return self._info

    def digest(self, offset: int, size: int) -> bytes:
        """Compute an MD5."""
        return self.nor.md5(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Read flash."""
        return bytes(self.nor.cells[offset : offset + size])

    def write(self, runs: Sequence[Run], progress: Progress) -> None:
        """Erase and program."""
        for run in runs:
            self.nor.erase(run.offset, len(run.data))
            self.nor.program(run.offset, run.data)
            progress(len(run.data))

    def finish(self, _regions: Sequence[Run]) -> tuple[str, ...]:
        """Do nothing."""
        return ()

    def reset(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Result(NamedTuple):
    """The outcome, and what the board started before and starts now."""

    outcome: Outcome | FwsignError
    before: Started
    after: Started

    @property
    def words(self) -> str:
        """The outcome in a word, or its code."""
        if isinstance(self.outcome, FwsignError):
            return self.outcome.code
        error = self.outcome.error
        return error.code if error is not None else self.outcome.status


def flashed(case: Case) -> Result:
    """Flash a release to a board."""
    board = NorBoard(case)
    before = board.started
    parts = {f"{case.chip}@{one.offset:#x}": made(one) for one in case.pieces}
    try:
        judge = judging(parts)
    except FwsignError as error:
        return Result(error, before, board.started)
    return Result(flash(board.connect, judge, Options(), ignore), before, board.started)


def broken_promise(case: Case) -> str | None:
    """Tell how a case contradicts the property; None if it does not."""
    result = flashed(case)
    if isinstance(result.outcome, FwsignError) or result.outcome.status != "verified":
        return None
    if result.before.offset is None and all(_is_data(one, case.chip) for one in case.pieces):
        return None  # data beside a board that did not start before is no promise
    if result.after.offset is None:
        return None if _looks_elsewhere(case) else f"verified, but starts {result.after}"
    own = {"app", "merged", "askew"} | ({"boot"} if case.chip == "esp8266" else set())
    apps = [one for one in case.pieces if one.what in own]
    written = any(one.offset <= result.after.offset < one.offset + len(made(one)) for one in apps)
    told = any(note.startswith("boot not controlled") for note in result.outcome.notes)
    if apps and not written and not told:
        return f"verified, but starts another {result.after}"
    return None


def _is_data(piece: Piece, chip: str) -> bool:
    """Tell whether a payload is data to a board; damaged OTA data are too."""
    if chip == "esp8266":
        return piece.what in (*DATA, "table", "otadata")
    place = SILICON[piece.chip].place if piece.boot is None and piece.chip in SILICON else 0
    if piece.what == "merged" and piece.start > (piece.boot or place):
        return True  # the boot loader is cut
    return piece.what in DATA or (piece.what == "otadata" and piece.damage is not None)


def _looks_elsewhere(case: Case) -> bool:
    """Tell whether a release brings a boot loader for a table at another place.

    Nothing in a real one states that place, so that no flasher can know.
    """
    tables = [one.offset for one in case.pieces if one.what == "table"]
    at = tables[0] if tables else 0x10000 if "0x10000" in case.content else 0x8000
    return any(one.what == "boot" and one.reads != at for one in case.pieces)


# --- what is made ---------------------------------------------------------------------------


def made(piece: Piece) -> bytes:
    """Make a payload."""
    data = _intact(piece)
    if piece.damage is not None and data:
        at = piece.damage % len(data)
        data = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
    return data


def _intact(piece: Piece) -> bytes:
    head = Head(piece.chip, piece.flash_size, piece.lowest, piece.highest, piece.legacy)
    match piece.what:
        case "boot" if piece.chip != "esp8266":
            return _signed(boot_loader(head, piece.reads, piece.number), piece.signed)
        case "app" if piece.chip != "esp8266":
            return _signed(application(head, seed=piece.number), piece.signed)
        case "askew" if piece.chip != "esp8266":
            return _askew(application(head), piece.chip)
        case "boot" | "app" | "askew":
            return old_application(seed=piece.number)
        case "table":
            return table(TABLES[piece.table])
        case "otadata":
            return ota_entry(piece.number) + b"\xff" * SECTOR
        case "merged":
            return _merged(piece, head)
        case "text":
            return b"This is no firmware. " * 200
        case "erased":
            return b"\xff" * SECTOR
    return hashlib.shake_128(b"noise").digest(3 * SECTOR)


def _askew(image: bytes, chip: str) -> bytes:
    """Move the place in memory of an application's code; its checksum does not cover that."""
    at = 0x20 + 256  # after the first segment
    place = int.from_bytes(image[at : at + 4], "little")
    assert place in SILICON[chip].code
    moved = image[:at] + (place + 0x100).to_bytes(4, "little") + image[at + 4 : -32]
    return moved + hashlib.sha256(moved).digest()


def ota_entry(number: int) -> bytes:
    """Make the sector of an OTA data entry."""
    sequence = struct.pack("<I", number)
    crc = zlib.crc32(sequence, 0xFFFFFFFF)
    return (sequence + b"\xff" * 24 + struct.pack("<I", crc)).ljust(SECTOR, b"\xff")


def _merged(piece: Piece, head: Head) -> bytes:
    if piece.chip == "esp8266":
        return old_application()
    place = SILICON[piece.chip].place if piece.boot is None else piece.boot
    parts = TABLES[piece.table]
    at = piece.reads
    pieces = [
        (place, _signed(boot_loader(head, at, piece.number), piece.signed)),
        (at, table(parts)),
    ]
    for _, kind, _, offset, _ in parts:
        if kind == 0:
            pieces.append((offset, _signed(application(head, seed=piece.number), piece.signed)))
            break
    return laid_out(pieces)[min(piece.start, place) :]


def _signed(image: bytes, kind: int) -> bytes:
    """Append a signature of secure boot."""
    if kind < 10:
        return signed(image, kind)
    padded = image + b"\xff" * (-len(image) % SECTOR)
    good = signature_block(padded, kind % 10)
    damaged = good[:-20] + bytes(20)
    return padded + (damaged + good).ljust(SECTOR, b"\xff")


def _content(case: Case) -> bytes:
    if case.content == "noise":
        return hashlib.shake_128(b"old").digest(0x20000)
    if case.content == "blank":
        return b""
    if case.content == "foreign":
        return stock("esp32c3" if case.chip == "esp32s3" else "esp32s3", case.flash_size)
    place = 0x10000 if "0x10000" in case.content else 0x8000
    kind = signature_for([case.lock])
    content = stock(case.chip, case.flash_size, place, kind)
    if case.content != "stock with slot 1" or case.chip == "esp8266":
        return content
    parts = {label: offset for label, _, _, offset, _ in rows(place, case.flash_size)}
    app = application(Head(case.chip, case.flash_size), version="2.0", seed=2)
    pieces = [(parts["otadata"], ota_entry(2)), (parts["ota_1"], signed(app, kind))]
    return laid_out([(0, content), *pieces])


# --- what is tried --------------------------------------------------------------------------

_SIZES = [1 * MB, 2 * MB, 4 * MB, 8 * MB, 16 * MB]
_WORN = [
    0x1,
    0x28,
    0x300,
    0x1001,
    0x1028,
    0x2028,
    0x8004,
    0x8080,
    0xD000,
    0x10001,
    0x10028,
    0x10800,
]
_PLACES = [0, 0x1000, 0x2000, 0x8000, 0x9000, 0xD000, 0x10000, 0x11000, 0x20000, 0x90000, 0x200000]


def _mostly(usual: st.SearchStrategy, other: st.SearchStrategy, of: int = 6) -> st.SearchStrategy:
    return st.integers(0, of).flatmap(lambda one: other if one == of else usual)


def _pieces(board_chip: str, flash_size: int, lock: str) -> st.SearchStrategy[tuple[Piece, ...]]:
    chips = _mostly(st.just(board_chip), st.sampled_from(CHIPS), 8)
    names = st.sampled_from(sorted(TABLES))
    place = SILICON[board_chip].place if board_chip in SILICON else 0

    def piece(what: str, usual: int, name: str) -> st.SearchStrategy[Piece]:
        revisions = st.sampled_from([1, 3, 100, 101, 300, 301])
        return st.builds(
            Piece,
            what=_mostly(st.just(what), st.sampled_from([*DATA, "askew"]), 15),
            offset=_mostly(st.just(usual), st.sampled_from(_PLACES), 8),
            chip=chips,
            table=_mostly(st.just(name), names, 8),
            flash_size=_mostly(st.just(flash_size), st.sampled_from(_SIZES), 8),
            lowest=_mostly(st.just(0), revisions, 12),
            highest=_mostly(st.just(0xFFFF), revisions, 12),
            legacy=_mostly(st.just(0), st.integers(1, 4), 15),
            damage=_mostly(st.none(), st.one_of(st.integers(0, 63), st.integers(0, 20000)), 12),
            signed=_mostly(
                st.just(signature_for([lock])), st.sampled_from([0, 1, 2, 3, 12, 13]), 6
            ),
            number=st.integers(1, 4),
            boot=_mostly(st.none(), st.sampled_from([0, 0x1000, 0x2000]), 8),
            start=_mostly(st.just(usual if what == "merged" else 0), st.sampled_from([0, 0x1000])),
            reads=_mostly(st.just(0x10000 if "0x10000" in name else 0x8000), st.just(0x10000), 12),
        )

    def release(name: str, whats: tuple[str, ...]) -> st.SearchStrategy[tuple[Piece, ...]]:
        parts = TABLES[name]
        apps = [offset for _, kind, _, offset, _ in parts if kind == 0] or [0x10000]
        data = next((at for _, kind, sub, at, _ in parts if (kind, sub) == (1, 0)), 0xD000)
        usual = {
            "boot": place,
            "table": 0x10000 if "0x10000" in name else 0x8000,
            "app": 0 if board_chip == "esp8266" else apps[0],
            "app2": apps[-1],
            "otadata": data,
            "merged": place,
            "noise": 0x9000,
            "text": 0x200000,
        }
        return st.tuples(*(piece(what.rstrip("2"), usual[what], name) for what in whats))

    sets = [
        ("app",),
        ("app",),
        ("app2",),
        ("merged",),
        ("merged",),
        ("boot",),
        ("table",),
        ("otadata",),
        ("noise",),
        ("boot", "table", "app"),
        ("boot", "table", "app"),
        ("boot", "table", "app", "otadata"),
        ("boot", "table"),
        ("table", "app"),
        ("boot", "app"),
        ("app", "text"),
        ("app", "noise"),
        ("app", "app2"),
        ("app2", "otadata"),
        ("merged", "noise"),
    ]
    return st.tuples(names, st.sampled_from(sets)).flatmap(lambda one: release(*one))


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    """Draw a board and a release."""
    chip = draw(st.sampled_from(CHIPS))
    flash_size = draw(_mostly(st.just(4 * MB), st.sampled_from(_SIZES), 3))
    locks = ["secure boot", "secure boot v1"] if chip == "esp32" else ["secure boot"]
    lock = draw(_mostly(st.just(""), st.sampled_from(locks if chip != "esp8266" else [""]), 4))
    pieces = draw(_pieces(chip, flash_size, lock))
    contents = [
        "blank",
        "stock",
        "stock",
        "stock with slot 1",
        "stock at 0x10000",
        "foreign",
        "noise",
    ]
    return Case(
        tuple({one.offset: one for one in pieces}.values()),
        chip,
        draw(st.sampled_from([0, 3, 100, 300, 301])),
        flash_size,
        draw(st.sampled_from(contents)),
        lock,
        draw(_mostly(st.none(), st.sampled_from(_WORN), 5)),
    )
