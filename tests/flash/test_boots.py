"""`verified` implies that the board starts, by the simulator's own model of its boot.

The property is tried with generated releases and boards; what it once found, or what reports about
other programs had, is kept below, by kind.
"""

import pytest
from hypothesis import given, settings

from flash.boots_kit import CHIPS, MB, Case, Piece, any_case, broken_promise, flashed
from fwsign.flash.simulate.esp_boot_image import SILICON
from support import THOROUGH

BOOTED = [chip for chip in CHIPS if chip in SILICON]


def boot(chip: str = "esp32c3", **more: object) -> Piece:
    """Make a boot loader for its place."""
    return Piece("boot", SILICON[chip].place, chip)._replace(**more)  # type: ignore[arg-type]


def merged(chip: str = "esp32c3", **more: object) -> Piece:
    """Make a merged image that begins at the boot loader's place."""
    place = SILICON[chip].place
    return Piece("merged", place, chip, start=place)._replace(**more)  # type: ignore[arg-type]


def whole(chip: str = "esp32c3", table: str = "factory", app: int = 0x10000) -> tuple[Piece, ...]:
    """Make boot loader, table and application."""
    table_at = 0x10000 if "0x10000" in table else 0x8000
    return (
        boot(chip, reads=table_at),
        Piece("table", table_at, chip, table),
        Piece("app", app, chip),
    )


APP = Piece("app", 0x10000)
OTHER = APP._replace(number=2)  # than the stock one, whose signature would stay behind it
GOOD = {
    **{f"all three on a blank {chip}": Case(whole(chip), chip, 300) for chip in BOOTED},
    **{f"merged on a blank {chip}": Case((merged(chip),), chip, 300) for chip in BOOTED},
    **{
        f"application on {chip}": Case((Piece("app", 0x10000, chip),), chip, 300, content="stock")
        for chip in BOOTED
    },
    "ESP8266": Case((Piece("app", 0, "esp8266"),), "esp8266"),
    "application in slot 1": Case((Piece("app", 0x200000, number=2),), content="stock"),
    "application in slot 0, where slot 1 ran": Case((APP,), content="stock with slot 1"),
    "own table at 0x10000": Case(whole(table="ota at 0x10000", app=0x20000)),
    "own table moves the application": Case(whole(table="shifted", app=0x20000), content="stock"),
    "header of 2 MB on 4 MB": Case((merged(flash_size=2 * MB),)),
    "revision 3.1 of P4": Case((merged("esp32p4", lowest=301, highest=399),), "esp32p4", 301),
    "secure boot": Case((APP._replace(signed=2),), content="stock", lock="secure boot"),
    "secure boot v1": Case(
        (Piece("app", 0x10000, "esp32", signed=1),), "esp32", 300, 4 * MB, "stock", "secure boot v1"
    ),
    "application in the last of two factory partitions": Case(
        whole(table="two factories", app=0x90000)
    ),
    "data beside it": Case((Piece("noise", 0x9000), APP), content="stock"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_release_is_verified_and_starts(name: str) -> None:
    result = flashed(GOOD[name])
    assert result.words == "verified"
    assert result.after.offset is not None
    assert broken_promise(GOOD[name]) is None


BAD = {
    # blank boards, on which something is missing
    "application alone on a blank board": Case((APP,)),
    "boot loader alone on a blank board": Case((boot(),)),
    "table alone on a blank board": Case((Piece("table", 0x8000),)),
    "boot loader and table on a blank board": Case(whole()[:2]),
    "table and application on a blank board": Case(whole()[1:]),
    "application alone on noise": Case((APP,), content="noise"),
    # revisions
    "P4 boot loader for 3.1 on 1.0": Case(
        (merged("esp32p4", lowest=301, highest=399),), "esp32p4", 100
    ),
    "boot loader for an earlier revision": Case((boot(highest=1),), revision=3, content="stock"),
    "boot loader for a later revision": Case((boot(lowest=4),), revision=3, content="stock"),
    "application for an earlier revision": Case(
        (APP._replace(highest=2),), revision=3, content="stock"
    ),
    "application for a later revision": Case(
        (APP._replace(lowest=4),), revision=3, content="stock"
    ),
    "older field, ESP32": Case(
        (Piece("app", 0x10000, "esp32", legacy=3),), "esp32", 100, content="stock"
    ),
    "older field, C3": Case((merged(legacy=4),), revision=3),
    "merged with an application for another revision": Case(
        (merged("esp32s3", lowest=2),), "esp32s3", 1
    ),
    # flash sizes
    "header of 1 MB with a table of 2 MB": Case((merged(flash_size=1 * MB, table="ota"),)),
    "header of 1 MB on the board's table": Case((boot(flash_size=1 * MB),), content="stock"),
    "header of 16 MB on 4 MB": Case((merged(flash_size=16 * MB),)),
    "boot loader of 8 MB on 4 MB": Case((boot(flash_size=8 * MB),), content="stock"),
    "table of 5 MB on 4 MB": Case((Piece("table", 0x8000, table="large"),), content="stock"),
    "table of 5 MB with a header of 4 MB on 8 MB": Case(
        (merged(table="large"),), flash_size=8 * MB
    ),
    # tables
    "application over the board's table": Case((APP,), content="stock at 0x10000"),
    "application where no partition is": Case((Piece("app", 0x20000),), content="stock"),
    "application that the table does not know": Case(
        (*whole(table="shifted")[:2], APP), content="stock"
    ),
    "application larger than its partition": Case((merged(table="small"),)),
    "application off its page": Case(whole(table="off its page", app=0x11000)),
    **{
        f"application that cannot be mapped on {chip}": Case(
            (Piece("askew", 0x10000, chip),), chip, 300, content="stock"
        )
        for chip in BOOTED
    },
    "merged without an application": Case((merged(table="no application"),), content="stock"),
    "table without an application's partition": Case(
        (Piece("table", 0x8000, table="no application"),), content="stock"
    ),
    "table that moves the application away": Case(
        (Piece("table", 0x8000, table="shifted"),), content="stock"
    ),
    # tables that a boot loader reads in another way, or not at all
    "application in the first of two factory partitions": Case(whole(table="two factories")),
    "application in the first of two slots 0": Case(whole(table="two slots 0")),
    "OTA data in the first of two partitions": Case(
        (*whole(table="two otadata"), Piece("otadata", 0x9000))
    ),
    "OTA data partition of one sector": Case(whole(table="small otadata")),
    "application partition of 17 MB": Case(
        tuple(one._replace(flash_size=32 * MB) for one in whole(table="large partition")),
        flash_size=32 * MB,
    ),
    "table without an end": Case(whole(table="no end")),
    # other bytes where something starts
    **{
        f"{what} over {name}": Case((Piece(what, at),), content="stock")
        for what in ("noise", "text", "erased", "otadata")
        for name, at in (
            ("the boot loader", 0),
            ("the boot loader's end", 0x1000),
            ("the table", 0x8000),
            ("the application", 0x10000),
            ("the application's end", 0x11000),
        )
    },
    **{
        f"{what} at 0 on an ESP8266": Case((Piece(what, 0),), "esp8266", content="stock")
        for what in ("noise", "text", "erased")
    },
    "component larger than its partition": Case(whole(table="small")),
    "application over the boot loader": Case((Piece("app", 0),), content="stock"),
    "boot loader over the application": Case((Piece("boot", 0x10000),), content="stock"),
    **{
        f"application with byte {at} damaged": Case(
            (Piece("app", 0x10000, damage=at),), content="stock"
        )
        for at in (0, 1, 2, 12, 13, 23, 24, 40, 1000)
    },
    **{
        f"boot loader with byte {at} damaged": Case((boot(damage=at),), content="stock")
        for at in (0, 1, 2, 12, 13, 23, 24, 40, 1000)
    },
    # other chips
    "application of an ESP8266 on a C3": Case((Piece("app", 0x10000, "esp8266"),), content="stock"),
    "application of a C3 on an ESP8266": Case((Piece("app", 0),), "esp8266", content="stock"),
    "ESP8266's application elsewhere on a blank board": Case(
        (Piece("app", 0x10000, "esp8266"),), "esp8266"
    ),
    "application after another chip's boot loader": Case((APP,), content="foreign"),
    "boot loader before another chip's application": Case((boot(),), content="foreign"),
    "merged of an S3 on a C3": Case((merged("esp32s3"),)),
    **{
        f"merged with the boot loader of {chip} at 0x{wrong:x}": Case(
            (Piece("merged", 0, chip, boot=wrong),), chip
        )
        for chip, wrong in (("esp32c3", 0x1000), ("esp32p4", 0), ("esp32", 0), ("esp32s3", 0x2000))
    },
    # secure boot
    **{
        f"unsigned {what} with secure boot": Case((piece,), content="stock", lock="secure boot")
        for what, piece in (
            ("application", OTHER),
            ("boot loader", boot(number=2)),
            ("merged", merged(number=2)),
        )
    },
    "signed application, unsigned boot loader": Case(
        (boot(number=2), APP._replace(signed=2)), content="stock", lock="secure boot"
    ),
    "second block on an ESP32": Case(
        (Piece("app", 0x10000, "esp32", signed=12),),
        "esp32",
        300,
        content="stock",
        lock="secure boot",
    ),
    "another boot loader with secure boot v1": Case(
        (boot("esp32", number=2),), "esp32", 300, content="stock", lock="secure boot v1"
    ),
    "unsigned application with secure boot v1": Case(
        (Piece("app", 0x10000, "esp32", number=2),),
        "esp32",
        300,
        content="stock",
        lock="secure boot v1",
    ),
    "signature of v2 with secure boot v1": Case(
        (Piece("app", 0x10000, "esp32", signed=2),),
        "esp32",
        300,
        content="stock",
        lock="secure boot v1",
    ),
    "signature of v1 with secure boot v2": Case(
        (Piece("app", 0x10000, "esp32", signed=1),),
        "esp32",
        300,
        content="stock",
        lock="secure boot",
    ),
    # OTA data
    "OTA data off their partition": Case((Piece("otadata", 0xE000),), content="stock"),
    "OTA data that select another slot": Case(
        (Piece("app", 0x200000, number=2), Piece("otadata", 0xD000, number=1)), content="stock"
    ),
    "application for tests, which nothing selects": Case(
        (boot(), Piece("table", 0x8000, table="test"), Piece("app", 0x110000)), content="stock"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_release_that_would_not_start_is_not_verified(name: str) -> None:
    result = flashed(BAD[name])
    assert result.words != "verified"
    if result.words != "not bootable":
        assert result.after == result.before, "it was refused, and yet the board changed"


@settings(max_examples=10_000 if THOROUGH else 400)
@given(any_case())
def test_verified_implies_that_the_board_starts(case: Case) -> None:
    assert broken_promise(case) is None
