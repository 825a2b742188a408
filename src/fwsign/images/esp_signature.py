# SPDX-License-Identifier: Apache-2.0
"""The signatures for secure boot that may follow an ESP image.

Version 1, on the ESP32 alone: a version word of 0 and a signature of 64 bytes, at once after an
application. Version 2: a sector with up to three blocks, on the next 4 KiB after the image and
0xFF. A block that a chip finds empty or bad does not stop it: the next one may be good. Signatures
are not verified, since the key is in the chip; what can be wrong without a key is checked.

Source: ESP-IDF programming guide, "Secure Boot v1" and "Secure Boot v2" (signature block format);
numbers are little-endian.
"""

import binascii
import hashlib
import struct
from typing import Final, NamedTuple

from fwsign.images.base import Hasher, Reader, damaged
from fwsign.images.esp_chips import BY_NAME
from fwsign.images.esp_partitions import SECTOR

MAX_SIGNATURES: Final = 3
"""The ROM's own limit; a sector holds as many."""
BLOCK: Final = struct.Struct("<BBB1x32s1160xI16x")
"""A block: magic, version, hash, its digest, the CRC-32 of all before it, and 16 zeros."""
MAGIC: Final = 0xE7
CRC_AT: Final = 1196
_KINDS: Final = {2: "rsa", 3: "ecdsa"}
_SHA256: Final = 0
_KEYS: Final = {(2, 0): slice(36, 812), (3, 0): slice(36, 101), (3, 1): slice(52, 149)}
_V1: Final = struct.Struct("<I32s32s")
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Signatures(NamedTuple):
    """What follows an image.

    Args:
        details: as in `Image`.
        intact: the signatures that a chip may accept, such as "v1" or "v2 rsa".
        key_digests: the digests of the keys of those of v2, as eFuses have them.
    """

    details: tuple[tuple[str, str], ...] = ()
    intact: tuple[str, ...] = ()
    key_digests: tuple[bytes, ...] = ()


def read_v1(reader: Reader) -> Signatures:
    """Read a signature of secure boot v1, if there is one.

    Args:
        reader: its position is after the image; afterwards it is after the signature.
    """
    head = reader.peek(_V1.size)
    if len(head) < _V1.size:
        return Signatures()
    version, r, s = _V1.unpack(head)
    if version or not all(0 < int.from_bytes(one, "big") < _P256_ORDER for one in (r, s)):
        return Signatures()
    reader.take(_V1.size, "secure boot signature")
    return Signatures((("secure boot signature", "v1 ecdsa"),), ("v1",))


def read_v2(reader: Reader, start: int, hasher: Hasher, chip: str) -> Signatures:
    """Read the signature sector of secure boot v2, if there is one.

    Args:
        reader: its position is after the image; afterwards it is after the sector.
        start: the image's offset in the file.
        hasher: SHA-256 over the image, which also takes in the bytes from `reader`.
        chip: the image's chip, which may look at the first block only.

    Raises:
        Malformed: `malformed.image`: there are blocks, and none is good.
    """
    gap = (start - reader.position) % SECTOR
    before = reader.peek(gap + SECTOR)
    padding, sector = before[:gap], before[gap:]
    if padding.strip(b"\xff") or not any(claims(block) for block in blocks(sector)):
        return Signatures()
    reader.take(gap, "padding before the signature sector")
    digest = hasher.digest()
    sector = reader.take(SECTOR, "signature sector")
    rest = sector[MAX_SIGNATURES * BLOCK.size :].strip(b"\xff\0")
    if rest:
        raise damaged("esp", "bytes after the secure boot signatures", "0xff", rest[:4].hex())
    judged = [_judge(block, digest) for block in blocks(sector)]
    while judged[-1] == _EMPTY:
        del judged[-1]
    names = [f"secure boot signature {number}" for number in range(len(judged))]
    if all(one.kind is None for one in judged):
        number, fault = next((at, one.fault) for at, one in enumerate(judged) if one.fault)
        raise damaged("esp", f"{fault.what} of {names[number]}", fault.expected, fault.found)
    usable = [one for one in judged[: BY_NAME[chip].signatures] if one.kind]
    return Signatures(
        tuple((name, one.words) for name, one in zip(names, judged, strict=True)),
        tuple(f"v2 {one.kind}" for one in usable),
        tuple(one.key_digest for one in usable),
    )


def blocks(sector: bytes) -> list[bytes]:
    """Return the places of blocks in a sector, used or not."""
    return [sector[at * BLOCK.size :][: BLOCK.size] for at in range(MAX_SIGNATURES)]


def is_blank(block: bytes) -> bool:
    """Tell whether a place has no block."""
    return not block.strip(b"\xff") or not any(block)


def key_digest(block: bytes) -> bytes:
    """Return what eFuses keep of a block's key: SHA-256 over the key as the block has it."""
    return hashlib.sha256(block[_KEYS.get((block[1], block[2]), slice(0))]).digest()


class _Fault(NamedTuple):
    what: str
    expected: str
    found: str


class _Judged(NamedTuple):
    words: str
    kind: str | None = None  # of a good one
    fault: _Fault | None = None
    key_digest: bytes = b""


_EMPTY: Final = _Judged("empty")


def claims(block: bytes) -> bool:
    """Tell whether a block is a signature, perhaps a bad one: its magic alone is a single byte."""
    if len(block) < BLOCK.size or block[0] != MAGIC:
        return False
    _, version, sha, _, crc = BLOCK.unpack(block)
    return bool((version in _KINDS and sha <= 1) or crc == binascii.crc32(block[:CRC_AT]))


def _judge(block: bytes, digest: bytes) -> _Judged:
    """Judge a whole block."""
    if is_blank(block):
        return _EMPTY
    magic, version, sha, stored, crc = BLOCK.unpack(block)
    if magic != MAGIC or version not in _KINDS:
        return _bad("head", "magic e7 and version 2 or 3", block[:2].hex())
    computed = binascii.crc32(block[:CRC_AT])
    if crc != computed:
        return _bad("crc", f"{computed:#010x}", f"{crc:#010x}")
    kind = _KINDS[version]
    if sha != _SHA256:  # SHA-384 is for ECDSA P-384 only, and the image would be read again
        return _Judged(f"{kind}, digest not checked", kind, key_digest=key_digest(block))
    if stored != digest:
        return _bad("digest", digest.hex(), stored.hex())
    return _Judged(kind, kind, key_digest=key_digest(block))


def _bad(what: str, expected: str, found: str) -> _Judged:
    words = f"bad {what}: expected {expected}, found {found}"
    return _Judged(words, None, _Fault(what, expected, found))
