"""Seeded mutation of CBOR and DER, as trees that can be altered and encoded again as they are."""

import hashlib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from fwsign.errors import FwsignError
from fwsign.format import cbor

# --- seeded choices -------------------------------------------------------------------------


class Dice:
    """Choices from a seed: the same on every run and machine."""

    def __init__(self, seed: object) -> None:
        self._state = hashlib.sha256(repr(seed).encode()).digest()

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1."""
        self._state = hashlib.sha256(self._state).digest()
        return int.from_bytes(self._state[:8], "big") % limit

    def pick(self, items: Sequence[Any]) -> Any:
        """Return one of several."""
        return items[self.below(len(items))]

    def bytes(self, limit: int) -> bytes:
        """Return fewer than `limit` bytes."""
        length = self.below(limit)
        return b"".join(bytes([self.below(256)]) for _ in range(length))


# --- CBOR as a tree that can be altered -----------------------------------------------------
#
# A node is ["map", [key, value, key, ...]], ["array", [...]], ["tag", number, node],
# ["bstr", node] for a byte string that holds CBOR, or ["leaf", value].


def open_tree(value: Any) -> list[Any]:
    """Turn a decoded item into a tree, byte strings that hold CBOR opened."""
    match value:
        case cbor.Tag(number, content):
            return ["tag", number, open_tree(content)]
        case dict():
            return ["map", [open_tree(item) for pair in value.items() for item in pair]]
        case tuple():
            return ["array", [open_tree(item) for item in value]]
        case bytes() if len(value) > 1:
            try:
                inner = cbor.decode(value)
            except FwsignError:
                return ["leaf", value]
            return ["bstr", open_tree(inner)]
    return ["leaf", value]


def close_tree(node: list[Any]) -> bytes:
    """Encode a tree as it stands: maps unsorted, keys twice, any tag."""
    match node:
        case ["tag", number, inner]:
            return _head(6, number) + close_tree(inner)
        case ["map", items]:
            return _head(5, len(items) // 2) + b"".join(map(close_tree, items))
        case ["array", items]:
            return _head(4, len(items)) + b"".join(map(close_tree, items))
        case ["bstr", inner]:
            content = close_tree(inner)
            return _head(2, len(content)) + content
        case ["leaf", bytes() as raw]:
            return _head(2, len(raw)) + raw
    return cbor.encode(node[1])


def _head(major: int, argument: int) -> bytes:
    head = cbor.encode(argument)
    return bytes([head[0] | major << 5]) + head[1:]


def places(node: list[Any]) -> Iterator[tuple[list[Any], int]]:
    """Give each place where a node stands: a list and the index in it."""
    inside: list[tuple[list[Any], int]] = []
    match node:
        case ["tag", _, _]:
            inside = [(node, 2)]
        case ["bstr", _]:
            inside = [(node, 1)]
        case ["array" | "map", items]:
            inside = [(items, index) for index in range(len(items))]
    for holder, index in inside:
        yield holder, index
        yield from places(holder[index])


def mutate_tree(root: list[Any], dice: Dice) -> None:
    """Do one thing to a tree: swap, delete, insert, repeat, or change a type or value."""
    everywhere = list(places(root))
    if not everywhere:
        return
    holder, index = dice.pick(everywhere)
    other, at = dice.pick(everywhere)
    strange = ["leaf", dice.pick(STRANGE)]
    match dice.below(8):
        case 0:
            holder[index], other[at] = deepcopy(other[at]), deepcopy(holder[index])
        case 1:
            holder[index] = deepcopy(other[at])
        case 2 if not isinstance(holder[0], str):
            del holder[index]
        case 3 if not isinstance(holder[0], str):
            holder.insert(index, strange)
        case 4 if not isinstance(holder[0], str):
            holder.insert(index, holder[index])
        case 5:
            holder[index] = ["array", [holder[index]]]
        case 6:
            holder[index] = ["bstr", holder[index]]
        case _:
            holder[index] = _nudged(holder[index], dice) or strange


def _nudged(node: list[Any], dice: Dice) -> list[Any] | None:
    match node:
        case ["leaf", bool()]:
            return ["leaf", not node[1]]
        case ["leaf", int() as number]:
            near = number + dice.pick([-1, 1, 2, 16])
            return ["leaf", near if -(2**64) <= near < 2**64 else 0]
        case ["leaf", bytes() as raw] if raw:
            at = dice.below(len(raw))
            return ["leaf", raw[:at] + bytes([raw[at] ^ 1 << dice.below(8)]) + raw[at + 1 :]]
        case ["leaf", str() as text] if text:
            return ["leaf", text[:-1] + dice.pick(["", "x", "X", "/", "é"])]
        case ["map" | "array", [_, *_] as items]:
            return [node[0], items[::-1]]
    return None


STRANGE: tuple[Any, ...] = (
    *(0, 1, -1, 23, 24, 2**64 - 1, -(2**64), -9, -7, -16, 107, 33, 34, 270),
    *(b"", b"\0", b"\xff" * 40, "", "x", "#build.bin", True, False, None),
    *((), {}, (1,), {1: 2}, cbor.Tag(18, 0), cbor.Tag(107, {}), (b"file", b"x")),
)
"""What a decoder may not expect."""


# --- DER as a tree that can be altered ------------------------------------------------------


def open_der(data: bytes) -> list[Any]:
    """Turn DER into a list of [tag, content]; content is such a list where it can be one."""
    items: list[Any] = []
    at = 0
    while at < len(data):
        tag, size, start = data[at], data[at + 1], at + 2
        if size >= 0x80:
            width = size & 0x7F
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        if start + size > len(data):
            raise ValueError("not DER")
        content = data[start : start + size]
        items.append([tag, _opened(tag, content)])
        at = start + size
    return items


def _opened(tag: int, content: bytes) -> Any:
    if tag & 0x20 or (tag == 4 and content):
        try:
            return open_der(content)
        except (ValueError, IndexError):
            return content
    return content


def close_der(items: Sequence[Any]) -> bytes:
    """Encode such a list, lengths made to fit."""
    done = b""
    for tag, content in items:
        raw = content if isinstance(content, bytes) else close_der(content)
        size, width = len(raw), (len(raw).bit_length() + 7) // 8
        long = bytes([0x80 | width]) + size.to_bytes(width, "big")
        done += bytes([tag]) + (bytes([size]) if size < 0x80 else long) + raw
    return done


def der_places(items: list[Any]) -> Iterator[tuple[list[Any], int]]:
    """Give each place where an element stands."""
    for index, (_, content) in enumerate(items):
        yield items, index
        if isinstance(content, list):
            yield from der_places(content)


def mutate_der(items: list[Any], dice: Dice) -> None:
    """Do one thing to an element: delete, repeat, swap, or change its tag or content."""
    everywhere = list(der_places(items))
    if not everywhere:
        return
    holder, index = dice.pick(everywhere)
    other, at = dice.pick(everywhere)
    tag, content = holder[index]
    match dice.below(7):
        case 0:
            del holder[index]
        case 1:
            holder.insert(index, holder[index])
        case 2:
            holder[index], other[at] = deepcopy(other[at]), deepcopy(holder[index])
        case 3:
            holder[index] = [dice.pick([1, 2, 3, 4, 5, 6, 12, 19, 23, 24, 48, 49, 160]), content]
        case 4:
            holder[index] = [tag, dice.bytes(24)]
        case 5:
            holder[index] = [tag, b""]
        case _:
            raw = content if isinstance(content, bytes) else close_der(content)
            if raw:
                spot = dice.below(len(raw))
                flipped = bytes([raw[spot] ^ 1 << dice.below(8)])
                holder[index] = [tag, raw[:spot] + flipped + raw[spot + 1 :]]
