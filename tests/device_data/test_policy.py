"""The policy for per-device data: what it may say, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwsign.device_data.policy import MAX_POLICY, NAME, Unfit, Value, parse
from fwsign.errors import Failed, Malformed
from fwsign.images import esp_nvs
from fwsign.toml import TomlTable
from support import refused

POLICY = """\
version = 1
required = true

[[partition]]
chip = "esp32c3"
label = "factory"
format = "nvs"

[[partition.value]]
namespace = "device"
key = "serial"
column = "serial"
type = "string"
max = 32

[[partition.value]]
namespace = "device"
key = "key"
type = "blob"
max = 32
unique = true

[[partition.value]]
namespace = "wifi"
key = "channel"
type = "u8"
required = false

[[partition]]
chip = "esp32c3"
offset = 0x3f0000
size = 8192
format = "raw"

[[partition.value]]
column = "certificate"
type = "string"
max = 8192
required = false
"""


def changed(old: str, new: str, *, count: int = 1) -> bytes:
    assert old in POLICY
    return POLICY.replace(old, new, count).encode()


def test_a_policy_is_read() -> None:
    policy = parse(POLICY.encode())
    nvs, raw = policy.places
    assert policy.required
    assert (nvs.chip, nvs.label, nvs.offset, nvs.size, nvs.format) == (
        "esp32c3",
        "factory",
        None,
        None,
        "nvs",
    )
    assert nvs.values == (
        Value("serial", "string", 32, True, False, "device", "serial"),
        Value("key", "blob", 32, True, True, "device", "key"),
        Value("channel", "u8", 1, False, False, "wifi", "channel"),
    )
    assert (raw.label, raw.offset, raw.size) == (None, 0x3F0000, 8192)
    assert raw.values == (Value("certificate", "string", 8192, False, False),)
    assert (nvs.name, raw.name) == ('partition "factory"', "8192 bytes at 0x3f0000")


def test_boards_need_no_data_unless_the_policy_says_so() -> None:
    assert parse(changed("required = true\n", "")).required is False


def test_the_content_of_a_place_fills_all_of_it() -> None:
    nvs, raw = parse(POLICY.encode()).places
    cells = {"serial": b"SN-1", "key": b"k" * 32, "certificate": b"PEM"}
    assert nvs.content(cells, 0x3000) == esp_nvs.partition(
        [
            esp_nvs.NvsEntry("device", "serial", "string", b"SN-1"),
            esp_nvs.NvsEntry("device", "key", "blob", b"k" * 32),
        ],
        0x3000,
    )
    assert raw.content(cells, 8192) == b"PEM".ljust(8192, b"\xff")
    assert raw.content({}, 8192) == b"\xff" * 8192


REFUSED = {
    "no TOML": (b"version = ", "device-data.toml: invalid value (at end of document)"),
    "no UTF-8": (b"\xff", "device-data.toml: 'utf-8' codec can't decode byte 0xff"),
    "no version": (changed("version = 1\n", ""), '"version" is missing'),
    "a later version": (
        changed("version = 1", "version = 2"),
        '"version" is not 1, which this fwsign knows',
    ),
    "a version of thousands of digits": (
        changed("version = 1", "version = 0x" + "9" * 900),
        '"version" is not 1, which this fwsign knows',
    ),
    "a list of such numbers": (
        changed("version = 1", f"version = [{'0x' + '9' * 900}]"),
        '"version" is not a whole number',
    ),
    "required in words": (
        changed("required = true", 'required = "yes"'),
        '"required" is not true or false',
    ),
    "an unknown key": (changed("required", "requires"), 'has the unknown key "requires"'),
    "an unknown key of a place": (
        changed('label = "factory"', 'label = "factory"\nsize = 4096'),
        'has the unknown key "partition 1: size"',
    ),
    "an unknown key of a value": (
        changed('type = "u8"', 'type = "u8"\nmax = 3'),
        'has the unknown key "partition 1: value 3: max"',
    ),
    "no place": (b"version = 1", '"partition" is not a list of 1 to 16 tables'),
    "a place without values": (
        b'version = 1\n[[partition]]\nchip = "esp32"\nlabel = "a"\nformat = "nvs"',
        '"partition 1: value" is not a list of tables, one at least',
    ),
    "NVS on a Pico": (
        changed('chip = "esp32c3"', 'chip = "rp2040"'),
        '"partition 1: chip" is not an ESP32, which alone has NVS',
    ),
    "no chip": (
        changed('chip = "esp32c3"', 'chip = "ESP32-C3"'),
        "component: chip 'ESP32-C3' is not allowed",
    ),
    "another format": (
        changed('format = "nvs"', 'format = "fat"'),
        '"partition 1: format" is not "nvs" or "raw"',
    ),
    "neither label nor offset": (changed('label = "factory"\n', ""), '"partition 1: label" is mis'),
    "half a sector": (
        changed("0x3f0000", "0x3f0800"),
        '"partition 2: offset" is not a multiple of 4096',
    ),
    "a size in no sectors": (
        changed("8192", "8193"),
        '"partition 2: size" is not a multiple of 4096',
    ),
    "the start of the flash": (
        changed("0x3f0000", "0"),
        '"partition 2: offset" is not a number of 1 to 4294963200',
    ),
    "a raw place of two values": (
        POLICY.encode() + b'[[partition.value]]\ncolumn = "b"\ntype = "blob"\nmax = 1\n',
        '"partition 2: value" is not a list of one table',
    ),
    "a raw number": (
        changed('column = "certificate"\ntype = "string"', 'column = "n"\ntype = "u8"'),
        '"partition 2: value 1: type" is not one of string, blob',
    ),
    "a raw value that is longer than its place": (
        changed("max = 8192", "max = 8193"),
        "the data does not fit: expected at most 8192 bytes, found 8193 bytes",
    ),
    "a text without a limit": (
        changed("max = 32\n", ""),
        '"partition 1: value 1: max" is not a number of 1 to 3999',
    ),
    "a text too long for NVS": (
        changed("max = 32", "max = 4000"),
        '"partition 1: value 1: max" is not a number of 1 to 3999',
    ),
    "another type": (
        changed('"u8"', '"u128"'),
        '"partition 1: value 3: type" is not one of u8, i8, u16, i16, u32, i32, u64, i64, string, ',
    ),
    "a long namespace": (
        changed('"device"', '"device-of-a-kind"'),
        '"partition 1: value 1: namespace" is not 1 to 15 characters of ASCII without spaces',
    ),
    "a key with a space": (
        changed('key = "key"', 'key = "a key"'),
        '"partition 1: value 2: key" is not 1 to 15 characters of ASCII without spaces',
    ),
    "a key in another script": (
        changed('key = "key"', 'key = "ключ"'),
        '"partition 1: value 2: key" is not 1 to 15 characters of ASCII without spaces',
    ),
    "a key twice": (
        changed('key = "key"', 'key = "serial"\ncolumn = "b"'),
        '"partition 1: value" is not a list that has a key once, device/serial',
    ),
    "a column twice": (
        changed('column = "certificate"', 'column = "key"'),
        '"partition" is not a list that has a column once, key',
    ),
    "a place twice": (
        changed(
            'offset = 0x3f0000\nsize = 8192\nformat = "raw"', 'label = "factory"\nformat="raw"'
        ),
        '"partition" is not a list that has a place once, esp32c3 factory',
    ),
    "a column of two types": (
        changed(
            'chip = "esp32c3"\noffset = 0x3f0000',
            'chip = "esp32"\noffset = 0x3f0000',
        ).replace(b'"certificate"', b'"serial"'),
        '"partition" is not a list that has one type, max, required and unique for "serial"',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_policy_may_not_say(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(Malformed) as caught:
        parse(data)
    assert caught.value.code == "malformed.device-data"
    assert message in caught.value.message


def test_a_large_policy_is_not_read() -> None:
    with pytest.raises(Malformed) as caught:
        parse(b"#" * (MAX_POLICY + 1))
    assert caught.value.code == "malformed.size"


def test_a_long_line_is_not_parsed() -> None:
    line = b"a" + b".a" * 30_000 + b" = 1"
    with refused("malformed.size", f"line 2 of {NAME} with {len(line)} bytes, at most 1024"):
        parse(b"version = 1\n" + line)


def test_numbers_of_thousands_of_digits_are_an_answer() -> None:
    wrong = TomlTable(Path("x.toml"), "", {}).wrong("size", "a number", 16**5000)
    assert (wrong.message, wrong.found) == (
        'x.toml: "size" is not a number',
        "a number of thousands of digits",
    )


def test_what_is_misspelt_is_answered_with_what_was_meant() -> None:
    with pytest.raises(Malformed) as caught:
        parse(changed("required = true", "requird = true"))
    assert caught.value.hint == "did you mean required?"


def test_too_many_places_and_values_are_refused() -> None:
    place = '[[partition]]\nchip="esp32"\nlabel="l{0}"\nformat="nvs"\n'
    value = '[[partition.value]]\nnamespace="n"\nkey="k{0}"\ncolumn="c{1}"\ntype="u8"\n'
    many = "version = 1\n" + "".join(place.format(n) + value.format(n, n) for n in range(17))
    with pytest.raises(Malformed, match="a list of 1 to 16 tables"):
        parse(many.encode())
    long = "version = 1\n" + place.format(0) + "".join(value.format(n, n) for n in range(257))
    with pytest.raises(Malformed, match="a list with 256 values at most"):
        parse(long.encode())


NUMBERS = [
    ("u8", "0", b"\0"),
    ("u8", "255", b"\xff"),
    ("u8", "0xfF", b"\xff"),
    ("i8", "-128", b"\x80"),
    ("i8", "-0x1", b"\xff"),
    ("u16", "4660", b"\x34\x12"),
    ("i32", "-2", b"\xfe\xff\xff\xff"),
    ("u64", "18446744073709551615", b"\xff" * 8),
    ("i64", "-9223372036854775808", b"\0" * 7 + b"\x80"),
]


@pytest.mark.parametrize(("kind", "text", "data"), NUMBERS)
def test_numbers_are_decimal_or_hex(kind: str, text: str, data: bytes) -> None:
    assert Value("c", kind, len(data), True, False).encode(text) == data


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("u8", "256", "expected a whole number from 0 to 255, found a number outside of it"),
        ("u8", "-1", "expected a whole number from 0 to 255, found a number outside of it"),
        ("i8", "128", "expected a whole number from -128 to 127, found a number outside of it"),
        ("u8", "secret", "expected a whole number from 0 to 255, found other text"),
        ("u8", "1.0", "expected a whole number from 0 to 255, found other text"),
        ("u8", " 1", "expected a whole number from 0 to 255, found other text"),
        ("u8", "1_0", "expected a whole number from 0 to 255, found other text"),
        ("u8", "\u0661", "expected a whole number from 0 to 255, found other text"),
        ("u8", "--1", "expected a whole number from 0 to 255, found other text"),
        ("u8", "0x", "expected a whole number from 0 to 255, found other text"),
        ("u8", "9" * 5000, "expected a whole number from 0 to 255, found other text"),
        ("blob", "abc", "expected pairs of hex digits, found other text"),
        ("blob", "ab cd", "expected pairs of hex digits, found other text"),
        ("blob", "secret", "expected pairs of hex digits, found other text"),
        ("blob", "aabbccddee", "expected at most 4 bytes, found 5 bytes"),
        ("string", "abcde", "expected at most 4 bytes, found 5 bytes"),
        ("string", "äöü", "expected at most 4 bytes, found 6 bytes"),
        ("string", "a\0b", "expected a text without NUL, found a NUL"),
    ],
)
def test_a_wrong_cell_is_refused_without_being_shown(kind: str, text: str, found: str) -> None:
    most = 1 if kind in esp_nvs.NUMBERS else 4
    with pytest.raises(Unfit) as caught:
        Value("c", kind, most, True, False).encode(text)
    assert str(caught.value) == found
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_longest_values_must_fit_into_a_partition() -> None:
    nvs = parse(POLICY.encode()).places[0]
    nvs.check_size(0x3000)
    with pytest.raises(Failed) as caught:
        nvs.check_size(0x2000)
    assert caught.value.code == "state.limit"
    text = changed("max = 32", "max = 3999").replace(b"max = 32\n", b"max = 8000\n")
    with pytest.raises(Failed) as full:
        parse(text).places[0].check_size(0x3000)
    assert full.value.message == (
        "the data does not fit: expected at most 2 pages of NVS, found 5 pages"
    )


def test_the_name_is_one_that_a_component_may_have() -> None:
    assert NAME == "device-data.toml"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_changed_is_a_policy_or_refused(data: st.DataObject) -> None:
    lines = POLICY.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        word = st.sampled_from(["", "=", "[", '"', "nvs", "-1", "1.5", "true", "2026-11-27", "x=1"])
        how = data.draw(st.integers(0, 2))
        if how == 0:
            lines[at] = data.draw(word).join(lines[at].rsplit(" ", 1))
        elif how == 1:
            lines[at] = lines[data.draw(st.integers(0, len(lines) - 1))]
        else:
            lines[at] = lines[at].partition("=")[0] + "= " + data.draw(word)
    try:
        policy = parse("\n".join(lines).encode())
    except Malformed as error:
        assert error.code == "malformed.device-data"  # noqa: PT017 - or it is a policy
        return
    assert 1 <= len(policy.places) <= 16
    assert all(one.values for one in policy.places)
