"""Images for the RP2350, and a boot ROM's check of them, written from the data sheet alone.

The check shares nothing with the code under test: it walks words instead of making blocks, and does
the arithmetic of secp256k1 itself. There is no picotool in Debian or on PyPI to ask.
"""

import hashlib
import struct
from typing import NamedTuple

BASE = 0x10000000
ARM, RISCV = 0x1021, 0x1101
"""Flags of executables: for RP2350, secure for Arm."""

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *(one & 0xFFFFFFFF for one in numbers))


def block(*items: bytes, following: int = 0) -> bytes:
    body = b"".join(items)
    return words(0xFFFFDED3) + body + words(0xFF | len(body) // 4 << 8, following, 0xAB123579)


def image_type(flags: int) -> bytes:
    return words(0x42 | 1 << 8 | flags << 16)


def unsealed(
    flags: int = ARM,
    *more: bytes,
    size: int = 3000,
    end: bool = True,
    vectors: tuple[int, int] = (0x20082000, BASE + 0x201),
    base: int = BASE,
) -> bytes:
    """Make an image as the SDK does: vectors, a block, code, and a block at the end."""
    del base
    first = 0x138
    own = block(image_type(flags), *more)
    body = bytearray(words(*vectors).ljust(first, b"\0") + own)
    body += bytes(index & 0xFF for index in range(size - len(body)))
    if end:
        at = len(body)
        body += block(words(0xFE | 1 << 8), following=first - at)
        body[first : first + len(own)] = block(image_type(flags), *more, following=at - first)
    return bytes(body)


class Sealed(NamedTuple):
    """What a boot ROM finds in a sealed image."""

    bootkey: bytes
    version: tuple[int, int] | None
    rollback: int | None
    rows: tuple[int, ...]
    entry: tuple[int, int] | None
    types: int
    """Blocks in the loop that say they are an image."""


def check(memory: bytes, base: int = BASE) -> Sealed:
    """Walk the loop as a boot ROM does; assert that the last block's signature verifies."""

    def word(at: int) -> int:
        return int.from_bytes(memory[at : at + 4], "little")

    first = next(at for at in range(0, 4096, 4) if word(at) == 0xFFFFDED3)
    at, loop = first, []
    while True:
        loop.append(at)
        item = at + 4
        while word(item) & 0xFF != 0xFF:
            item += 4 * (word(item) >> 8 & (0xFFFF if word(item) & 0x80 else 0xFF))
        assert word(item) >> 8 & 0xFFFF == (item - at - 4) // 4
        assert word(item + 8) == 0xAB123579
        step = word(item + 4)
        at += step - (1 << 32 if step >> 31 else 0)
        if at == first:
            break
        assert len(loop) < 10
    return _judge(memory, base, loop[-1], sum(word(one + 4) & 0xFF == 0x42 for one in loop))


def _judge(memory: bytes, base: int, at: int, types: int) -> Sealed:
    def word(at: int) -> int:
        return int.from_bytes(memory[at : at + 4], "little")

    found: dict[int, int] = {}
    item = at + 4
    while word(item) & 0xFF != 0xFF:
        assert word(item) & 0xFF not in found
        found[word(item) & 0xFF] = item
        item += 4 * (word(item) >> 8 & 0xFF)
    hasher = hashlib.sha256()
    entry = found[6]
    assert word(entry) == 0x01000406  # one entry, relative
    start = (entry + base + word(entry + 4)) & 0xFFFFFFFF
    assert word(entry + 8) == start
    hasher.update(memory[start - base : start - base + word(entry + 12)])
    definition = found[0x47]
    assert word(definition) == 0x01000247
    signed = bytearray(memory[at : at + 4 * word(definition + 4)])
    assert at + len(signed) == definition + 8
    if signed[4] == 0x42:
        signed[7] &= 0x7F
    hasher.update(signed)
    assert word(found[9]) == 0x01002109
    raw = memory[found[9] + 4 : found[9] + 132]
    x, y, r, s = (int.from_bytes(raw[k : k + 32], "big") for k in range(0, 128, 32))
    assert _verifies((x, y), int.from_bytes(hasher.digest(), "big"), r, s)
    if 0x4B in found:
        assert memory[found[0x4B] + 4 : found[0x4B] + 36] == hasher.digest()
    version = rollback = None
    rows: tuple[int, ...] = ()
    if (item := found.get(0x48, 0)) > 0:
        version = (word(item + 4) >> 16, word(item + 4) & 0xFFFF)
        count = memory[item + 3]
        if count:
            rollback, *rest = struct.unpack_from(f"<{count + 1}H", memory, item + 8)
            rows = tuple(rest)
    place = (word(found[0x44] + 4), word(found[0x44] + 8)) if 0x44 in found else None
    return Sealed(hashlib.sha256(raw[:64]).digest(), version, rollback, rows, place, types)


def _verifies(key: tuple[int, int], digest: int, r: int, s: int) -> bool:
    assert (key[1] ** 2 - key[0] ** 3 - 7) % P == 0
    assert 0 < r < N
    assert 0 < s < N
    inverse = pow(s, -1, N)
    one, two = _times(G, digest * inverse % N), _times(key, r * inverse % N)
    found = _plus(one, two)
    return found is not None and found[0] % N == r


def _times(point: tuple[int, int], number: int) -> tuple[int, int] | None:
    made, step = None, point
    while number:
        if number & 1:
            made = _plus(made, step)
        doubled = _plus(step, step)
        assert doubled is not None
        step = doubled
        number >>= 1
    return made


def _plus(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int] | None:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (
        3 * a[0] ** 2 * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    )
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P
