"""`verified` implies that the board starts, by the simulator's own model of its boot.

The property is tried with generated releases and boards; what it once found, or what reports about
other programs had, is kept below, by kind.
"""

import pytest

from flash.boots_kit import CHIPS, MB, Case, Piece, broken_promise, flashed
from fwsign.flash.simulate.esp_boots import SILICON

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


APP, NOISE = Piece("app", 0x10000), Piece("noise", 0)
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
    "data beside it": Case((Piece("noise", 0x9000), APP), content="stock"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_release_is_verified_and_starts(name: str) -> None:
    result = flashed(GOOD[name])
    assert result.words == "verified"
    assert result.after.offset is not None
    assert broken_promise(GOOD[name]) is None
