"""Options of native signatures, from texts to values."""

from collections.abc import Mapping

import pytest

from fwsign.errors import Failed
from fwsign.native.mcuboot_options import McubootOptions
from fwsign.native.options import parse


def test_each_kind_of_value_is_read() -> None:
    words = {
        "header-size": "0x200",
        "slot-size": "65536",
        "pad-header": "",
        "pad": "true",
        "confirm": "no",
        "version": "1.2.3+4",
        "dependencies": "0=1.0.0+0,2=1.2",
        "custom": "0x00a1=1234, 0x00a2=",
    }
    assert parse("mcuboot", McubootOptions, words) == McubootOptions(
        version="1.2.3+4",
        header_size=0x200,
        pad_header=True,
        slot_size=0x10000,
        pad=True,
        dependencies=((0, "1.0.0+0"), (2, "1.2")),
        custom=((0xA1, "1234"), (0xA2, "")),
    )
    assert parse("mcuboot", McubootOptions, {}) == McubootOptions()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pad": "maybe"}, 'option "pad": expected true or false, found "maybe"'),
        (
            {"header-size": "512 bytes"},
            'option "header-size": expected a number such as 512 or 0x200, found "512 bytes"',
        ),
        (
            {"header-size": "-1"},
            'option "header-size": expected a number such as 512 or 0x200, found "-1"',
        ),
        (
            {"align": "0x100000000"},
            'option "align": expected a number such as 512 or 0x200, found "0x100000000"',
        ),
        (
            {"custom": "a1=12"},
            'option "custom": expected NUMBER=VALUE, separated by commas, found "a1=12"',
        ),
        (
            {"dependencies": "0"},
            'option "dependencies": expected NUMBER=VALUE, separated by commas, found "0"',
        ),
    ],
)
def test_values_of_another_form_are_refused(words: Mapping[str, str], message: str) -> None:
    with pytest.raises(Failed) as refusal:
        parse("mcuboot", McubootOptions, words)
    assert (refusal.value.code, refusal.value.message) == ("io.format", f"mcuboot: {message}")


def test_an_unknown_option_is_refused_with_a_hint() -> None:
    with pytest.raises(Failed) as refusal:
        parse("mcuboot", McubootOptions, {"headersize": "1"})
    assert refusal.value.message.startswith('mcuboot: no option "headersize", expected version, ')
    assert refusal.value.hint == "did you mean header-size?"
    with pytest.raises(Failed) as refusal:
        parse("esp-secure-boot-v2", None, {"pad": ""})
    assert refusal.value.message == 'esp-secure-boot-v2: no option "pad", expected no option'
    assert refusal.value.hint is None
