# SPDX-License-Identifier: Apache-2.0
"""Deterministic CBOR, strict in both directions (RFC 8949 section 4.2.1, bytewise key order).

Exactly one byte string decodes to each value, so every decoded value re-encodes to the same bytes.
The decoder refuses floats, `undefined` and other simple values, indefinite lengths, integers that
are not in their shortest form, map keys that are unsorted or repeated, tags outside `TAGS`, and
bytes after the item.

Values are int, bytes, str, bool, None, tuple (array), dict (map) and `Tag`.
"""

from typing import Any, Final, TypeAlias

from fwsign.errors import Malformed

Value: TypeAlias = Any
"""int | bytes | str | bool | None | tuple[Value, ...] | dict[int | str | tuple, Value] | Tag"""

MAX_DEPTH: Final = 8
"""Nesting of arrays, maps and tags. The text map, the deepest value that we write, needs 5."""

MAX_ITEMS: Final = 4096
"""Items of one array, or pairs of one map; 256 components need 2,056 sequence items."""

MAX_ALL_ITEMS: Final = 4 * MAX_ITEMS
"""Items and pairs of one input in all: 32 MiB of empty maps would take gigabytes of memory."""

TAGS: Final = frozenset({18, 96, 107})
"""COSE_Sign1 (RFC 9052 section 4.2) and SUIT_Envelope."""

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: Final = {20: False, 21: True, 22: None}
_SHORT_HEADS: Final = tuple(bytes([first]) for first in range(256))
_WIDTHS: Final = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}


class Tag:
    """A tagged item. Not a tuple, so that it can never pass for an array."""

    __match_args__ = ("number", "value")
    __slots__ = ("number", "value")

    def __init__(self, number: int, value: Value) -> None:
        self.number = number
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tag) and (self.number, self.value) == (other.number, other.value)

    def __hash__(self) -> int:
        return hash((self.number, self.value))


def decode(data: bytes) -> Value:
    """Decode exactly one item.

    Args:
        data: the whole item; the caller bounds its size.

    Raises:
        Malformed: `malformed.cbor`, with the offset in bytes.
    """
    value, end = _item(data, 0, MAX_DEPTH, [MAX_ALL_ITEMS])
    if end != len(data):
        raise _malformed(end, "end of input", f"{len(data) - end} bytes more")
    return value


def split_sequence(data: bytes) -> tuple[bytes, ...]:
    """Split a sequence of items, at least one (RFC 8742), into the bytes of each.

    Raises:
        Malformed: `malformed.cbor`, with the offset in bytes.
    """
    items: list[bytes] = []
    at, left = 0, [MAX_ALL_ITEMS]
    while at < len(data) or not items:
        _check_count(at, 1, 1, left)  # 32 MiB of tiny items would take gigabytes of memory too
        _, end = _item(data, at, MAX_DEPTH, left)
        items.append(data[at:end])
        at = end
    return tuple(items)


def encode(value: Value) -> bytes:
    """Encode one item; the inverse of `decode`.

    Raises:
        TypeError: for a type that `decode` never returns.
    """
    match value:  # the most frequent types come first
        case bytes():
            return _head(_BYTES, len(value)) + value
        case bool() | None:
            return bytes([0xF4 + (value is True) if value is not None else 0xF6])
        case int():
            return _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)
        case Tag(number, content):
            return _head(_TAG, number) + encode(content)
        case tuple() | list():
            return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
        case dict():
            pairs = sorted([(encode(key), encode(item)) for key, item in value.items()])
            return _head(_MAP, len(pairs)) + b"".join([key + item for key, item in pairs])
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
    raise TypeError(f"cannot encode {type(value).__name__}")


def byte_string_head(length: int) -> bytes:
    """Return the head of a byte string of `length` bytes."""
    return _head(_BYTES, length)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return _SHORT_HEADS[major << 5 | argument]
    for info, (width, _) in _WIDTHS.items():
        if argument < 1 << 8 * width:
            return bytes([major << 5 | info]) + argument.to_bytes(width, "big")
    raise TypeError("an integer of more than 64 bits")


def _malformed(offset: int, expected: str, found: str) -> Malformed:
    return Malformed(
        "malformed.cbor",
        f"not deterministic CBOR at byte {offset}: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )


def _long_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Read a head of several bytes; return major type, argument and the offset after it."""
    if at >= len(data):
        raise _malformed(at, "an item", "end of input")
    major, info = data[at] >> 5, data[at] & 31
    if info not in _WIDTHS:
        raise _malformed(at, "a definite length", f"additional information {info}")
    if major == _SIMPLE:
        raise _malformed(at, "false, true or null", "a float or an extended simple value")
    width, least = _WIDTHS[info]
    end = at + 1 + width
    if end > len(data):
        raise _malformed(at, f"{width} bytes of argument", "end of input")
    argument = int.from_bytes(data[at + 1 : end], "big")
    if argument < least:
        raise _malformed(at, "the shortest form", f"{argument} in {width} bytes")
    return major, argument, end


def _item(data: bytes, at: int, depth: int, left: list[int]) -> tuple[Value, int]:
    if at < len(data) and data[at] & 31 < 24:  # most heads are one byte
        major, argument, end = data[at] >> 5, data[at] & 31, at + 1
    else:
        major, argument, end = _long_head(data, at)
    if major == _UINT:
        return argument, end
    if major == _NINT:
        return -1 - argument, end
    if major in (_BYTES, _TEXT):
        return _string(data, at, end, argument, text=major == _TEXT)
    if major == _SIMPLE:
        if argument not in _SIMPLE_VALUES:
            raise _malformed(at, "false, true or null", f"simple value {argument}")
        return _SIMPLE_VALUES[argument], end
    if depth == 0:
        raise _malformed(at, f"at most {MAX_DEPTH} levels", "more")
    if major == _TAG:
        if argument not in TAGS:
            raise _malformed(at, f"tag {' or '.join(map(str, sorted(TAGS)))}", f"tag {argument}")
        value, end = _item(data, end, depth - 1, left)
        return Tag(argument, value), end
    _check_count(at, argument, len(data) - end, left)
    if major == _ARRAY:
        items = []
        for _ in range(argument):
            value, end = _item(data, end, depth - 1, left)
            items.append(value)
        return tuple(items), end
    return _map(data, end, argument, depth, left)


def _check_count(at: int, count: int, size: int, left: list[int]) -> None:
    # Every item takes at least a byte, so a count beyond the input is a lie.
    if count > min(MAX_ITEMS, size):
        raise _malformed(at, f"at most {min(MAX_ITEMS, size)} items", str(count))
    left[0] -= count
    if left[0] < 0:
        raise _malformed(at, f"at most {MAX_ALL_ITEMS} items in all", "more")


def _is_key(key: Value) -> bool:
    # Only the kinds that our formats use: as keys, Python takes 1 and True for the same.
    if isinstance(key, tuple):
        return all(isinstance(part, bytes) for part in key)
    return isinstance(key, (int, str)) and not isinstance(key, bool)


def _string(data: bytes, at: int, start: int, length: int, *, text: bool) -> tuple[Value, int]:
    end = start + length
    if end > len(data):
        raise _malformed(at, f"{length} bytes", f"{len(data) - start}")
    raw = data[start:end]
    if not text:
        return raw, end
    try:
        return raw.decode(), end
    except UnicodeDecodeError as error:
        raise _malformed(start + error.start, "UTF-8", f"0x{raw[error.start]:02x}") from None


def _map(data: bytes, at: int, count: int, depth: int, left: list[int]) -> tuple[Value, int]:
    result: dict[Value, Value] = {}
    previous = b""
    for _ in range(count):
        key, end = _item(data, at, depth - 1, left)
        encoded = data[at:end]
        # Strict bytewise order, which also excludes repeated keys (RFC 8949 section 4.2.1).
        if encoded <= previous:
            raise _malformed(at, "map keys in ascending order", "a key that is not")
        if not _is_key(key):
            raise _malformed(at, "an integer, text or array of byte strings as map key", "another")
        previous = encoded
        result[key], at = _item(data, end, depth - 1, left)
    return result, at
