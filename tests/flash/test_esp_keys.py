"""The keys of secure boot v2 that a chip tells, and those that its ROM accepts."""

import re
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest

from flash.kit import BOOT, FACTORY_TABLE, board_info, content
from flash.test_plan import make
from fwsign import native
from fwsign.errors import Failed, Unsuitable
from fwsign.flash.backends import ConnectOptions
from fwsign.flash.boards.board import SecureBoot
from fwsign.flash.esp.efuses import FUSES, KIND
from fwsign.flash.survey import ask
from fwsign.keys.held import HeldKey
from fwsign.native import esp_block
from native_kit import app, held
from support import require_package

ONE, TWO, THREE = "11" * 32, "22" * 32, "a3" * 32


def told(port: str) -> SecureBoot | None:
    return ask(port, ConnectOptions(), ("esp",)).info.secure_boot


THREE_KEYS = f"boot-key={ONE}&boot-key={TWO}&boot-key={THREE}&revoke=1"


@pytest.mark.parametrize("chip", ["esp32s3", "esp32c5", "esp32c61"])
def test_a_chip_tells_its_keys_and_which_are_revoked(chip: str) -> None:
    found = told(f"sim:{chip}?{THREE_KEYS}&security-version=5&lock=secure-boot")
    assert found == SecureBoot(KIND, (ONE, THREE), (TWO,), 5)


def test_one_key_of_an_esp32_and_half_a_digest_of_an_esp32c2() -> None:
    assert told(f"sim:esp32?boot-key={THREE}&lock=secure-boot") == SecureBoot(KIND, (THREE,))
    found = told(f"sim:esp32c2?boot-key={THREE}&lock=secure-boot&security-version=4")
    assert found == SecureBoot(KIND, (THREE[:32],), (), 4)
    assert found.accepts(bytes.fromhex(THREE))
    assert not found.accepts(bytes.fromhex(ONE))


def test_without_secure_boot_the_block_may_have_another_key() -> None:
    assert told(f"sim:esp32?boot-key={THREE}") == SecureBoot(KIND, ())
    assert told("sim:esp32c3") == SecureBoot(KIND, (), (), 0)
    assert told("sim:esp8266") is None


def test_in_secure_download_mode_keys_are_unknown() -> None:
    found = told("sim:esp32c3?lock=secure-download-mode&lock=secure-boot")
    assert found == SecureBoot(KIND, None)
    assert found.accepts(bytes(32)) is None


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (
            f"sim:esp32?boot-key={ONE}&boot-key={TWO}",
            (
                "a simulated esp32 has no room for 2 keys, 0 revoked, "
                "expected one key, which cannot be revoked"
            ),
        ),
        (
            "sim:esp32c2?revoke=0",
            (
                "a simulated esp32c2 has no room for 0 keys, 1 revoked, "
                "expected one key, which cannot be revoked"
            ),
        ),
        (
            f"sim:esp32c3?{THREE_KEYS}&boot-key={ONE}",
            "a simulated esp32c3 has no room for 4 keys, 1 revoked, expected 3 keys",
        ),
        (
            "sim:esp32c3?security-version=17",
            "a simulated esp32c3 has no room for security version 17, expected at most 16",
        ),
        (
            "sim:esp8266?security-version=1",
            "a simulated esp8266 has no room for keys of secure boot v2, expected none",
        ),
    ],
)
def test_keys_that_a_simulated_chip_has_no_room_for_are_refused(port: str, message: str) -> None:
    with pytest.raises(Failed) as refusal:
        told(port)
    assert (refusal.value.code, refusal.value.message) == ("device.port", message)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("boot-key=12", "boot-key with a digest of 64 hex digits"),
        ("revoke=3", "revoke with a slot, 0 to 2"),
        ("security-version=x", "security-version with N"),
    ],
)
def test_wrong_settings_of_keys_are_refused(query: str, expected: str) -> None:
    with pytest.raises(Failed) as refusal:
        told(f"sim:esp32c3?{query}")
    assert refusal.value.code == "device.port"
    assert refusal.value.expected == expected


@pytest.mark.parametrize("name", ["boot-key", "revoke", "security-version"])
def test_other_boards_have_no_such_keys(name: str) -> None:
    value = {"boot-key": ONE}.get(name, "1")
    with pytest.raises(Failed) as refusal:
        ask(f"sim:smp?{name}={value}", ConnectOptions(), ("smp",))
    assert refusal.value.message.startswith(f"sim:smp?{name}={value}: {name}") or (
        refusal.value.found == name
    )


def _defined(chip: str, name: str) -> list[tuple[int, int, int]]:
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
    key = {"esp32": "BLOCK2"}.get(chip, "BLOCK_KEY0")
    assert fuses.key == places[key] + (16 if chip == "esp32c2" else 0)
    ((word, shift, width),) = _defined(chip, "SECURE_VERSION")
    base = places["BLOCK0"]
    assert fuses.version == (None if chip == "esp32" else (base + 4 * word, shift, width))
    revoked = [_defined(chip, f"SECURE_BOOT_KEY_REVOKE{slot}") for slot in range(3)]
    if fuses.revoked is None:
        assert revoked == [[], [], []]
        return
    (word, shift, _) = revoked[0][0]
    assert fuses.revoked == (base + 4 * word, shift, 3)
    assert [one[0] for one in revoked] == [(word, shift + slot, 1) for slot in range(3)]
    assert places["BLOCK_KEY5"] == fuses.key + 5 * 32


class TestPlan:
    """What is written to a board with secure boot is signed by a key that it knows."""

    def make(self, tmp_path: Path, names: tuple[str, ...], known: SecureBoot) -> Any:
        signed = native.sign(
            "esp-secure-boot-v2", app("esp32c3", size=0), self.keys(tmp_path, *names)
        )
        info = board_info(locks=("secure boot",), secure_boot=known)
        flash = content(at_0=BOOT, at_8000=FACTORY_TABLE)
        return make({"esp32c3@0x10000": signed}, info, flash)

    def keys(self, tmp_path: Path, *names: str) -> list[HeldKey]:
        return [held(tmp_path, name) for name in names]

    def digest(self, tmp_path: Path, name: str) -> str:
        (key,) = self.keys(tmp_path, name)
        return esp_block.digest_of_key(key.public_key).hex()

    def test_a_bridge_suits_boards_of_both_generations(self, tmp_path: Path) -> None:
        old, new = (self.digest(tmp_path, name) for name in ("rsa3072 old", "rsa3072 new"))
        both = ("rsa3072 old", "rsa3072 new")
        for known in (
            SecureBoot(KIND, (old,), (), 0),
            SecureBoot(KIND, (new,), (), 0),
            SecureBoot(KIND, (old, new), (), 7),
            SecureBoot(KIND, (new,), (old,), 0),
            SecureBoot(KIND, None),
            SecureBoot(KIND, ()),
        ):
            assert self.make(tmp_path, both, known).regions

    def test_an_image_by_an_unknown_or_revoked_key_is_refused(self, tmp_path: Path) -> None:
        old, new = (self.digest(tmp_path, name) for name in ("rsa3072 old", "rsa3072 new"))
        for known, words in (
            (SecureBoot(KIND, (old,)), f"signed by {new}"),
            (SecureBoot(KIND, (old,), (new,)), f"signed by the revoked {new}"),
        ):
            with pytest.raises(Unsuitable) as refusal:
                self.make(tmp_path, ("rsa3072 new",), known)
            assert refusal.value.code == "unsuitable.locked"
            assert refusal.value.message == (
                f"the board starts images by the keys {old}, esp32c3@0x10000 is {words}"
            )
            assert (refusal.value.expected, refusal.value.found) == (old, new)

    def test_an_image_that_is_too_old_is_refused(self, tmp_path: Path) -> None:
        old = self.digest(tmp_path, "rsa3072 old")
        with pytest.raises(Unsuitable) as refusal:
            self.make(tmp_path, ("rsa3072 old",), SecureBoot(KIND, (old,), (), 8))
        assert refusal.value.code == "unsuitable.security-version"
        assert refusal.value.message == (
            "the board starts security version 8 and later ones, esp32c3@0x10000 has 7"
        )
