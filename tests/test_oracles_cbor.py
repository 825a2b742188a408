"""Our CBOR against cbor2, by values: its order of map keys is another one."""

from collections.abc import Mapping
from typing import Any

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import Malformed
from fwsign.format import cbor
from fwsign.format.cbor import Tag

SCALARS = st.one_of(
    st.integers(-(2**64), 2**64 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=30),
    st.booleans(),
    st.none(),
)
KEYS = st.one_of(
    st.integers(-(2**64), 2**64 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.binary(max_size=3), max_size=3).map(tuple),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(KEYS, inner, max_size=5),
        st.builds(Tag, st.sampled_from(sorted(cbor.TAGS)), inner),
    ),
    max_leaves=8,
)


def foreign(value: Any) -> Any:
    """Turn what cbor2 decodes into our values."""
    match value:
        case cbor2.CBORTag(tag=number, value=content):
            return Tag(number, foreign(content))
        case tuple() | list():
            return tuple(map(foreign, value))
        case Mapping():
            return {foreign(key): foreign(item) for key, item in value.items()}
    return value


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, types included: Python takes 1 for true."""
    return cbor.encode(one) == cbor.encode(other)


@given(VALUES)
def test_what_we_encode_cbor2_decodes_to_the_same_value(value: Any) -> None:
    assert same(foreign(cbor2.loads(cbor.encode(value))), value)


@given(st.binary(max_size=64))
def test_what_we_decode_cbor2_decodes_to_the_same_value(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except Malformed:
        return
    assert same(foreign(cbor2.loads(data)), value)


@given(VALUES)
def test_what_cbor2_encodes_we_decode_to_the_same_value_or_refuse_its_order(value: Any) -> None:
    theirs = cbor2.dumps(ours_to_cbor2(value), canonical=True)
    try:
        found = cbor.decode(theirs)
    except Malformed as error:
        refusal = error.message
    else:
        assert same(found, value)
        return
    # It sorts by length first (RFC 8949 section 4.2.3), and nests as deep as one likes.
    assert "map keys in ascending order" in refusal or "levels" in refusal


def ours_to_cbor2(value: Any) -> Any:
    match value:
        case Tag(number, content):
            return cbor2.CBORTag(number, ours_to_cbor2(content))
        case tuple():
            return [ours_to_cbor2(item) for item in value]
        case dict():
            return {key: ours_to_cbor2(item) for key, item in value.items()}
    return value
