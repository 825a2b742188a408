"""Deterministic CBOR: what is refused, with which words, and that nothing else decodes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import Malformed
from fwsign.format import cbor
from fwsign.format.cbor import MAX_DEPTH, MAX_ITEMS, Tag
from support import refused

INTEGERS = st.integers(-(2**64), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
KEYS = st.one_of(INTEGERS, TEXTS, st.lists(st.binary(max_size=3), max_size=3).map(tuple))
VALUES = st.recursive(
    st.one_of(INTEGERS, TEXTS, st.binary(max_size=300), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=30).map(tuple),
        st.dictionaries(KEYS, inner, max_size=30),
        st.builds(Tag, st.sampled_from(sorted(cbor.TAGS)), inner),
    ),
    max_leaves=20,
).filter(lambda value: depth(value) <= MAX_DEPTH)
"""Everything that `decode` can return."""


def depth(value: Any) -> int:
    match value:
        case Tag():
            return 1 + depth(value.value)
        case tuple():
            return 1 + max(map(depth, value), default=0)
        case dict():
            return 1 + max((max(depth(key), depth(value[key])) for key in value), default=0)
    return 0


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("18ff", 255),
        ("190100", 256),
        ("1a00010000", 65536),
        ("1b0000000100000000", 2**32),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3a6677c4a3", -1719125156),
        ("3bffffffffffffffff", -(2**64)),
        ("40", b""),
        ("4401020304", b"\1\2\3\4"),
        ("60", ""),
        ("62c3bc", "ü"),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("80", ()),
        ("83010203", (1, 2, 3)),
        ("a0", {}),
        ("a301020322626161f6", {1: 2, 3: -3, "aa": None}),
        ("a1814100f5", {(b"\0",): True}),
        ("d28140", Tag(18, (b"",))),
        ("d86b00", Tag(107, 0)),
    ],
)
def test_known_encodings(encoded: str, value: Any) -> None:
    decoded = cbor.decode(bytes.fromhex(encoded))
    assert decoded == value
    assert type(decoded) is type(value)
    assert cbor.encode(value).hex() == encoded


def test_arrays_may_be_written_from_lists() -> None:
    assert cbor.encode([1, [2]]) == cbor.encode((1, (2,)))


def test_keys_are_sorted_bytewise_and_not_by_length() -> None:
    assert cbor.encode({24: 0, -1: 0}).hex() == "a21818002000"


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        ("", "at byte 0: expected an item, found end of input"),
        ("d2", "at byte 1: expected an item, found end of input"),
        ("00 00", "at byte 1: expected end of input, found 1 bytes more"),
        ("1817", "at byte 0: expected the shortest form, found 23 in 1 bytes"),
        ("190017", "expected the shortest form, found 23 in 2 bytes"),
        ("1900ff", "expected the shortest form, found 255 in 2 bytes"),
        ("1a0000ffff", "expected the shortest form, found 65535 in 4 bytes"),
        ("1b00000000ffffffff", "expected the shortest form, found 4294967295 in 8 bytes"),
        ("3817", "expected the shortest form"),
        ("5817" + "00" * 23, "expected the shortest form"),
        ("9817" + "00" * 23, "expected the shortest form"),
        ("d81200", "expected the shortest form"),
        ("18", "expected 1 bytes of argument, found end of input"),
        ("1b00", "expected 8 bytes of argument, found end of input"),
        ("5f4100ff", "expected a definite length, found additional information 31"),
        ("9f00ff", "expected a definite length, found additional information 31"),
        ("bf0000ff", "expected a definite length, found additional information 31"),
        ("ff", "expected a definite length, found additional information 31"),
        ("1c", "expected a definite length, found additional information 28"),
        ("f93c00", "expected false, true or null, found a float or an extended simple value"),
        ("fa3f800000", "found a float or an extended simple value"),
        ("fb3ff0000000000000", "found a float or an extended simple value"),
        ("f8ff", "found a float or an extended simple value"),
        ("f7", "expected false, true or null, found simple value 23"),
        ("e0", "expected false, true or null, found simple value 0"),
        ("4201", "at byte 0: expected 2 bytes, found 1"),
        ("6161" + "00", "at byte 2: expected end of input"),
        ("6261", "expected 2 bytes, found 1"),
        ("6261ff", "at byte 2: expected UTF-8, found 0xff"),
        ("62c080", "at byte 1: expected UTF-8, found 0xc0"),
        ("63eda080", "expected UTF-8, found 0xed"),
        ("c000", "expected tag 18 or 96 or 107, found tag 0"),
        ("c24101", "expected tag 18 or 96 or 107, found tag 2"),
        ("d9d9f700", "expected tag 18 or 96 or 107, found tag 55799"),
        ("8400", "expected at most 1 items, found 4"),
        ("9b00ffffffffffffff", "expected at most 0 items, found 72057594037927935"),
        ("bb00ffffffffffffff", "expected at most 0 items, found 72057594037927935"),
        ("a202000100", "at byte 3: expected map keys in ascending order"),
        ("a201000100", "at byte 3: expected map keys in ascending order, found a key that is not"),
        ("a2200018180000", "expected map keys in ascending order"),
        ("a1f500", "expected an integer, text or array of byte strings as map key, found another"),
        ("a1f600", "expected an integer, text or array of byte strings as map key"),
        ("a1410000", "expected an integer, text or array of byte strings as map key"),
        ("a1a000", "expected an integer, text or array of byte strings as map key"),
        ("a1810000", "expected an integer, text or array of byte strings as map key"),
        ("a1d24000", "expected an integer, text or array of byte strings as map key"),
    ],
)
def test_refusals_name_the_byte_and_both_sides(encoded: str, words: str) -> None:
    with refused("malformed.cbor", "not deterministic CBOR at byte ", words):
        cbor.decode(bytes.fromhex(encoded))


def test_nesting_has_a_limit() -> None:
    assert cbor.decode(b"\x81" * MAX_DEPTH + b"\0")
    with refused("malformed.cbor", f"at byte {MAX_DEPTH}: expected at most {MAX_DEPTH} levels"):
        cbor.decode(b"\x81" * (MAX_DEPTH + 1) + b"\0")


@pytest.mark.parametrize("head", [b"\x81", b"\xa1\0", b"\xd2"])
def test_deep_nesting_is_refused_before_the_stack_ends(head: bytes) -> None:
    with refused("malformed.cbor", "levels, found more"):
        cbor.decode(head * 100_000 + b"\0")


def test_number_of_items_has_a_limit() -> None:
    most = (0,) * MAX_ITEMS
    assert cbor.decode(cbor.encode(most)) == most
    with refused("malformed.cbor", f"expected at most {MAX_ITEMS} items, found {MAX_ITEMS + 1}"):
        cbor.decode(cbor.encode((*most, 0)))


def test_number_of_pairs_has_a_limit() -> None:
    many = dict.fromkeys(range(MAX_ITEMS + 1), 0)
    with refused("malformed.cbor", f"expected at most {MAX_ITEMS} items, found {MAX_ITEMS + 1}"):
        cbor.decode(cbor.encode(many))


def test_number_of_items_in_all_has_a_limit() -> None:
    row = ((),) * 1023  # with itself, 1024 items
    assert cbor.decode(cbor.encode((row,) * 16))
    with refused("malformed.cbor", "expected at most 16384 items in all, found more"):
        cbor.decode(cbor.encode((*(row,) * 16, (0,))))


def test_refusals_carry_what_was_expected_and_found() -> None:
    with refused("malformed.cbor") as caught:
        cbor.decode(b"\xf7")
    assert caught.value.expected == "false, true or null"
    assert caught.value.found == "simple value 23"


@pytest.mark.parametrize("value", [1.5, {1}, bytearray(b"a"), object()])
def test_encode_refuses_other_types(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^cannot encode \w+$"):
        cbor.encode(value)


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1])
def test_encode_refuses_larger_integers(value: int) -> None:
    with pytest.raises(TypeError, match="an integer of more than 64 bits"):
        cbor.encode(value)


def test_tags_are_values_and_never_arrays() -> None:
    assert len({Tag(18, 1), Tag(18, 1), Tag(107, 1), Tag(18, 2)}) == 3
    assert Tag(18, 1) != (18, 1)
    assert not isinstance(cbor.decode(b"\xd2\0"), tuple)


@pytest.mark.parametrize(("length", "head"), [(0, "40"), (24, "5818"), (65536, "5a00010000")])
def test_byte_string_head(length: int, head: str) -> None:
    assert cbor.byte_string_head(length).hex() == head


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same_value(value: Any) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_or_reencode_to_the_same_bytes(data: bytes) -> None:
    check_one_encoding(data)


@given(VALUES, st.data())
def test_damage_is_refused_or_reencodes_to_the_same_bytes(value: Any, draw: st.DataObject) -> None:
    data = bytearray(cbor.encode(value))
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at // 8] ^= 1 << at % 8
    check_one_encoding(bytes(data))


def check_one_encoding(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except Malformed:
        return
    assert cbor.encode(value) == data
