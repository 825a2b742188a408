# SPDX-License-Identifier: Apache-2.0
"""The CBOR of SMP answers, which `fwsign.format.cbor` refuses: maps are unsorted, of open length.

Nothing here is signed, and the frame's CRC has been checked, so that this is read as zcbor and
tinycbor write it: any order of keys, lengths open or in any number of bytes. Not read: tags,
floats, and strings in pieces.
"""

from typing import Any, Final

_MAX_DEPTH: Final = 8
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_OPEN: Final = 31  # additional information of an open length
_BREAK: Final = 0xFF
_SIMPLE_VALUES: Final = {20: False, 21: True, 22: None, 23: None}


def decode_map(data: bytes) -> dict[str, Any]:
    """Decode one map; keys that are not text are left out.

    Raises:
        ValueError: this is no such map.
    """
    value, end = _item(data, 0, _MAX_DEPTH)
    if not isinstance(value, dict) or end != len(data):
        raise ValueError("expected one map")
    return value


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data):
        raise ValueError("it ends too early")
    major, info = data[at] >> 5, data[at] & 31
    if major == _SIMPLE:
        if info not in _SIMPLE_VALUES:
            raise ValueError(f"simple value {info}")
        return _SIMPLE_VALUES[info], at + 1
    if major in (_ARRAY, _MAP):
        if depth == 0:
            raise ValueError("nested too deeply")
        return _collection(data, at, depth - 1, named=major == _MAP)
    argument, at = _argument(data, at)
    if major in (_UINT, _NINT):
        return (argument if major == _UINT else -1 - argument), at
    if major == _TAG or argument > len(data) - at:
        raise ValueError("a tag, or a string that ends too early")
    raw = data[at : at + argument]
    return (raw if major == _BYTES else raw.decode()), at + argument


def _argument(data: bytes, at: int) -> tuple[int, int]:
    info = data[at] & 31
    if info < 24:
        return info, at + 1
    width = 1 << info - 24
    end = at + 1 + width
    if info > 27 or end > len(data):
        raise ValueError("a length that is open or ends too early")
    return int.from_bytes(data[at + 1 : end], "big"), end


def _collection(data: bytes, at: int, depth: int, *, named: bool) -> tuple[Any, int]:
    left = -1  # below 0 until a break comes
    if data[at] & 31 == _OPEN:
        at += 1
    else:
        left, at = _argument(data, at)
    array: list[Any] = []
    pairs: dict[str, Any] = {}
    while left:
        if left < 0 and data[at : at + 1] == bytes([_BREAK]):
            at += 1
            break
        left -= 1
        key, at = _item(data, at, depth) if named else (None, at)
        value, at = _item(data, at, depth)
        array.append(value)
        if isinstance(key, str):
            pairs[key] = value
    return (pairs if named else array), at
