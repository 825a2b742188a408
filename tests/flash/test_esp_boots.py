"""The model of an ESP's boot: what it starts, and each reason for which it starts nothing."""

import struct
import zlib

import pytest

from fwsign.flash.simulate.esp_boot_image import SILICON, Rom
from fwsign.flash.simulate.esp_boots import bound_to, start
from fwsign.flash.simulate.esp_stock import (
    Head,
    application,
    boot_loader,
    laid_out,
    old_application,
    rows,
    signature_block,
    signed,
    stock,
    table,
)

MB = 1 << 20
FACTORY = [("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x100000)]
CHIPS = list(SILICON)


def board(*pieces: tuple[int, bytes], size: int = 4 * MB) -> bytes:
    """Lay pieces out in a flash."""
    return laid_out(pieces).ljust(size, b"\xff")


def c3(
    *pieces: tuple[int, bytes], boot: bytes | None = None, app: bytes | None = None, size: int = 4
) -> bytes:
    """Make an ESP32-C3's flash with a factory application; further pieces go over it."""
    return board(
        (0, boot or boot_loader(Head("esp32c3"))),
        (0x8000, table(FACTORY)),
        (0x10000, application(Head("esp32c3")) if app is None else app),
        *pieces,
        size=size * MB,
    )


def words(cells: bytes, rom: Rom | None = None) -> str:
    """Tell what starts."""
    return str(start(cells, rom or Rom("esp32c3")))


@pytest.mark.parametrize("chip", [*CHIPS, "esp8266"])
@pytest.mark.parametrize("place", [0x8000, 0x10000])
def test_stock_board_starts_its_application(chip: str, place: int) -> None:
    cells = stock(chip, 4 * MB, place).ljust(4 * MB, b"\xff")
    app = 0 if chip == "esp8266" else rows(place)[3][3]
    assert words(cells, Rom(chip, mapped=True)) == f"application at 0x{app:x}"


def test_the_boards_table_counts_for_a_boot_loader_that_states_none() -> None:
    parts = rows(0x10000)
    cells = board(
        (0, boot_loader(Head("esp32c3"), None)),
        (0x10000, table(parts)),
        (parts[3][3], application(Head("esp32c3"))),
    )
    assert words(cells, Rom("esp32c3", table=0x10000)) == f"application at 0x{parts[3][3]:x}"
    assert words(cells) == "nothing: partition table at 0x8000: none"


def sign_v2(image: bytes, *good: bool, kind: int = 2) -> bytes:
    """Append a signature sector; each block's digest is right or not."""
    padded = image + b"\xff" * (-len(image) % 4096)
    blocks = [signature_block(padded if right else b"", kind) for right in good]
    return padded + b"".join(blocks).ljust(4096, b"\xff")


def entry(sequence: int, state: int = 0xFFFFFFFF, crc: int = 0) -> bytes:
    """Make an OTA data entry; `crc` damages it."""
    number = struct.pack("<I", sequence)
    right = zlib.crc32(number, 0xFFFFFFFF) ^ crc
    return (number + b"\xff" * 20 + struct.pack("<II", state, right)).ljust(4096, b"\xff")


def flip(data: bytes, at: int, mask: int = 1) -> bytes:
    """Flip bits of one byte."""
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


BOOT, APP = boot_loader(Head("esp32c3")), application(Head("esp32c3"))
DEAD = {
    "blank": (board(), "boot loader: no header"),
    "boot loader's magic": (c3(boot=flip(BOOT, 0)), "boot loader: no header"),
    "boot loader's segments": (c3(boot=flip(BOOT, 1, 0x40)), "boot loader: 66 segments"),
    "boot loader's checksum": (c3(boot=flip(BOOT, 200)), "boot loader: checksum"),
    "boot loader's hash": (c3(boot=flip(BOOT, len(BOOT) - 1)), "boot loader: sha-256"),
    "boot loader's header": (c3(boot=flip(BOOT, 2)), "boot loader: sha-256"),
    "boot loader of an S3": (c3(boot=boot_loader(Head("esp32s3"))), "boot loader: for chip id 9"),
    "boot loader is an application": (
        c3(boot=APP),
        "boot loader: an application is in its place",
    ),
    "boot loader for another revision": (
        c3(boot=boot_loader(Head("esp32c3", lowest=104))),
        "boot loader: needs revision 104 or later, this is 3",
    ),
    "boot loader for an older revision": (
        c3(boot=boot_loader(Head("esp32c3", highest=2))),
        "boot loader: needs revision 2 or earlier, this is 3",
    ),
    "older field": (
        c3(boot=boot_loader(Head("esp32c3", legacy=4))),
        "boot loader: needs revision 4 or later, this is 3",
    ),
    "header of 2 MB": (
        c3((0x8000, table(rows())), boot=boot_loader(Head("esp32c3", 1 * MB))),
        (
            "partition table at 0x8000: a partition ends at 0x200000, "
            "the boot loader's header says 0x100000"
        ),
    ),
    "header of 16 MB": (
        c3(boot=boot_loader(Head("esp32c3", 16 * MB))),
        (
            "application at 0x10000: flash probe: the boot loader's header says "
            "16777216 bytes, the flash has 4194304"
        ),
    ),
    "no table": (c3((0x8000, b"\xff" * 0xC00)), "partition table at 0x8000: none"),
    "noise for a table": (
        c3((0x8000, b"noise" * 100)),
        "partition table at 0x8000: no row at 0x8000",
    ),
    "table's bit": (c3((0x8004, b"\x01")), "partition table at 0x8000: md5"),
    "table elsewhere": (
        c3(boot=boot_loader(Head("esp32c3"), 0x9000)),
        "partition table at 0x9000: none",
    ),
    "no partition": (
        c3((0x8000, table(FACTORY[:1]))),
        "partition table: no partition for an application",
    ),
    "no application": (c3(app=b""), "application at 0x10000: no header"),
    "application of an S3": (
        c3(app=application(Head("esp32s3"))),
        "application at 0x10000: for chip id 9",
    ),
    "application's revision": (
        c3(app=application(Head("esp32c3", lowest=4))),
        "application at 0x10000: needs revision 4 or later, this is 3",
    ),
    "application cut": (c3((0x11000, b"\xff" * 4096)), "application at 0x10000: checksum"),
    "application too large": (
        c3((0x8000, table([("factory", 0, 0, 0x10000, 0x1000)]))),
        "application at 0x10000: length of segment 1",
    ),
    "application lies elsewhere": (
        c3((0x8000, table([("factory", 0, 0, 0x20000, 0x10000)]))),
        "application at 0x20000: no header",
    ),
    "application not on a page": (
        board((0, BOOT), (0x8000, table([("factory", 0, 0, 0x11000, 0x10000)])), (0x11000, APP)),
        "application at 0x11000: 0x3c000020 does not match its place in flash",
    ),
    "application without code": (
        c3(app=application(Head("esp32c3"), b"")),
        "application at 0x10000: lacks code or data in flash",
    ),
}


@pytest.mark.parametrize("name", DEAD)
def test_damaged_board_starts_nothing(name: str) -> None:
    cells, why = DEAD[name]
    assert words(cells, Rom("esp32c3", 3, mapped=True)) == f"nothing: {why}"


SLOTS = [
    ("otadata", 1, 0, 0xD000, 0x2000),
    ("factory", 0, 0, 0x10000, 0x10000),
    ("ota_0", 0, 0x10, 0x20000, 0x10000),
    ("ota_1", 0, 0x11, 0x30000, 0x10000),
]


@pytest.mark.parametrize(
    ("first", "second", "starts"),
    [
        (b"", b"", 0x10000),
        (entry(1), b"", 0x20000),
        (entry(1), entry(2), 0x30000),
        (entry(3), entry(2), 0x20000),
        (entry(1), entry(2, state=3), 0x20000),
        (entry(1), entry(2, state=4), 0x20000),
        (entry(1), entry(2, crc=1), 0x20000),
        (entry(1, crc=1), b"", 0x10000),
    ],
)
def test_ota_data_selects(first: bytes, second: bytes, starts: int) -> None:
    data = first.ljust(4096, b"\xff") + second
    apps = [(at, APP) for at in (0x10000, 0x20000, 0x30000)]
    cells = c3((0x8000, table(SLOTS)), (0xD000, data), *apps)
    assert start(cells, Rom("esp32c3")).offset == starts


@pytest.mark.parametrize(
    ("intact", "starts"),
    [((0x10000,), 0x10000), ((0x20000,), 0x20000), ((0x30000, 0x20000), 0x30000)],
)
def test_a_damaged_slot_gives_way_to_the_next(intact: tuple[int, ...], starts: int) -> None:
    """With slot 1 selected it tries slot 0, the factory application, then later slots."""
    cells = c3((0x8000, table(SLOTS)), (0xD000, entry(2)), app=b"\xff" * 24)
    for at in intact:
        cells = cells[:at] + APP + cells[at + len(APP) :]
    assert start(cells, Rom("esp32c3")).offset == starts


def test_secure_boot_starts_signed_images_only() -> None:
    locked = Rom("esp32c3", locks=("secure boot",))
    boot, app = sign_v2(BOOT, True), sign_v2(APP, True)
    assert words(c3(boot=boot, app=app), locked) == "application at 0x10000"
    assert words(c3(boot=BOOT, app=app), locked) == (
        "nothing: boot loader: no signature of secure boot v2"
    )
    assert words(c3(boot=boot, app=APP), locked) == (
        "nothing: application at 0x10000: no signature of secure boot v2"
    )


@pytest.mark.parametrize(
    ("chip", "blocks", "starts"),
    [
        ("esp32c3", (False, True), True),
        ("esp32c3", (False, False, True), True),
        ("esp32c3", (False,), False),
        ("esp32", (True,), True),
        ("esp32", (False, True), False),  # it looks at one block only
        ("esp32c2", (False, True), False),  # likewise
    ],
)
@pytest.mark.parametrize("kind", [2, 3])
def test_signature_blocks_differ_by_chip(
    chip: str, blocks: tuple[bool, ...], starts: bool, kind: int
) -> None:
    head = Head(chip)
    cells = board(
        (SILICON[chip].place, sign_v2(boot_loader(head), *blocks, kind=kind)),
        (0x8000, table(FACTORY)),
        (0x10000, sign_v2(application(head), *blocks, kind=kind)),
    )
    found = start(cells, Rom(chip, locks=("secure boot",)))
    assert (found.offset == 0x10000) is starts


def test_secure_boot_v1_starts_signed_applications_only() -> None:
    locked = Rom("esp32", 300, ("secure boot v1",))
    head = Head("esp32")
    app = application(head)
    for tail, starts in [(bytes(4) + bytes(range(64)), 0x10000), (b"", None), (bytes(68), None)]:
        pieces = ((0x1000, boot_loader(head)), (0x8000, table(FACTORY)), (0x10000, app + tail))
        assert start(board(*pieces), locked).offset == starts


def test_secure_boot_v1_starts_one_boot_loader_only() -> None:
    head = Head("esp32")
    pieces = ((0x8000, table(FACTORY)), (0x10000, signed(application(head), 1)))
    old, new = (board((0x1000, boot_loader(head, seed=one)), *pieces) for one in (0, 1))
    locked = Rom("esp32", 300, ("secure boot v1",), sealed=bound_to(old))
    assert words(old, locked) == "application at 0x10000"
    assert words(new, locked) == "nothing: boot loader: not the one that secure boot v1 knows"
    assert words(new, locked._replace(locks=())) == "application at 0x10000"


def test_older_field_counts_major_revisions_on_an_esp32() -> None:
    head = Head("esp32", legacy=3)
    cells = board(
        (0x1000, boot_loader(Head("esp32"))),
        (0x8000, table(FACTORY)),
        (0x10000, application(head)),
    )
    assert words(cells, Rom("esp32", 100)) == (
        "nothing: application at 0x10000: needs revision 300 or later, this is 100"
    )
    assert words(cells, Rom("esp32", 300)) == "application at 0x10000"


@pytest.mark.parametrize("at", [0, 1, 8000])
def test_esp8266_starts_an_intact_image_only(at: int) -> None:
    old = old_application()
    assert words(old.ljust(4 * MB, b"\xff"), Rom("esp8266")) == "application at 0x0"
    damaged = flip(old, at, 0x40).ljust(4 * MB, b"\xff")
    assert words(damaged, Rom("esp8266")).startswith("nothing: application at 0x0: ")
