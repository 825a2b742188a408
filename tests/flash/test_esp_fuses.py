"""The places of eFuses are those of espefuse's tables."""

import re
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest

from fwsign.flash.esp.fuses import FUSES
from support import require_package


def defined(chip: str, name: str) -> list[tuple[int, int, int]]:
    """Return word, position and length of an eFuse in espefuse's table."""
    place = util.find_spec("espefuse")
    assert place is not None
    assert place.origin is not None
    text = (Path(place.origin).parent / "efuse_defs" / f"{chip}.yaml").read_text(encoding="utf-8")
    form = rf"^\s+{name}\s*:.*word:\s*(\d+),\s*pos\s*:\s*(\d+),\s*len\s*:\s*(\d+)"
    return [(int(a), int(b), int(c)) for a, b, c in re.findall(form, text, re.MULTILINE)]


@pytest.mark.external
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("chip", FUSES)
def test_the_places_are_espefuses(chip: str) -> None:
    require_package("espefuse")
    fuses = FUSES[chip]
    blocks: Any = import_module(f"espefuse.efuse.{chip}.mem_definition").EfuseDefineBlocks.BLOCKS
    places = {one[0]: one[3] for one in blocks}
    first = "BLOCK2" if chip == "esp32" else "BLOCK_KEY0"
    assert fuses.keys[0] == places[first] + (16 if chip == "esp32c2" else 0)
    ((word, shift, width),) = defined(chip, "SECURE_VERSION")
    base = places["BLOCK3" if chip == "esp32" else "BLOCK0"]
    assert fuses.version == (base + 4 * word, shift, width)
    revoked = [defined(chip, f"SECURE_BOOT_KEY_REVOKE{slot}") for slot in range(3)]
    purposes = [defined(chip, f"KEY_PURPOSE_{block}") for block in range(6)]
    if fuses.revoked is None:
        assert revoked == [[], [], []]
        assert fuses.purposes == ()
        return
    ((word, shift, _),) = revoked[0]
    assert fuses.revoked == (base + 4 * word, shift, 3)
    assert [one[0] for one in revoked] == [(word, shift + slot, 1) for slot in range(3)]
    assert [*fuses.keys] == [places[f"BLOCK_KEY{block}"] for block in range(6)]
    assert [*fuses.purposes] == [(base + 4 * a, b, c) for ((a, b, c),) in purposes]
