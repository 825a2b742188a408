# SPDX-License-Identifier: Apache-2.0
"""Read the seal of an RP2350 image: what its boot ROM checks, and what it does not look at.

The sealing block has the image's type, where its bytes are (LOAD_MAP), how much of the block is
signed (HASH_DEF), the key and the signature (SIGNATURE), and perhaps the digest (HASH_VALUE). The
digest is SHA-256 over the bytes of the load map, then the block from its first word to HASH_DEF,
with the mark "try before you buy" taken out. Source: RP2350 data sheet, sections 5.1.5 and 5.9.3;
picotool.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from fwsign.format.library import der_from_raw
from fwsign.images.base import damaged
from fwsign.images.pico_loop import (
    HASH_DEF,
    HASH_VALUE,
    IMAGE_TYPE,
    LOAD_MAP,
    SIGNATURE,
    VERSION,
    PicoBlock,
    PicoItem,
    read_loop,
)
from fwsign.native import Native, NativeSignature, refused
from fwsign.native.rp2350_file import PicoFile, read_file

KIND: Final = "rp2350"
ALGORITHM: Final = "ECDSA secp256k1"
SHA256: Final = 1
TRY_BEFORE_YOU_BUY: Final = 0x80000000
_EXE: Final = 1
_RP2350: Final = 1
SIGNATURE_HEAD: Final = SIGNATURE | 33 << 8 | 1 << 24
"""A signature of secp256k1: type 1, 33 words."""
HASH_VALUE_HEAD: Final = HASH_VALUE | 9 << 8
_BLANK: Final = (b"\0", b"\xff")


class PicoType(NamedTuple):
    """The fields of an IMAGE_TYPE item."""

    kind: int
    security: int
    cpu: int
    chip: int

    @property
    def is_arm(self) -> bool:
        """Whether it is for the Arm cores."""
        return self.cpu == 0


def type_of(item: PicoItem) -> PicoType:
    """Return the fields of an IMAGE_TYPE item."""
    flags = item.head >> 16
    return PicoType(flags & 15, flags >> 4 & 3, flags >> 8 & 7, flags >> 12 & 7)


def read(image: bytes) -> Native | None:
    """Return the signature of a sealed image; None if it is none.

    Args:
        image: a .bin or a .uf2 file.

    Raises:
        Malformed: `malformed.image`: the loop, or an item, breaks its form; or bytes of the image
            are not signed.
        Tampered: `tampered.native`: digest or signature do not verify.
    """
    file = read_file(image)
    if file is None:
        return None
    loop = read_loop(file.memory)
    block = sealing_block(loop)
    if block is None:
        return None
    rollback = rollback_of(block)[0]
    digest = _digest(file, block)
    _check_value(block, digest)
    signature = block.find(SIGNATURE)
    assert signature is not None  # noqa: S101 - `sealing_block` has found it
    _check_head(signature, SIGNATURE_HEAD, "signature")
    raw = struct.pack("<32I", *signature.words[1:])
    public = _public(raw[:64])
    key = hashlib.sha256(raw[:64]).digest()
    if not verifies(public, raw[64:], digest):
        raise refused(KIND, "signature", f"one that verifies with key {key.hex()}", "another one")
    return Native(KIND, rollback, (NativeSignature(ALGORITHM, key, public),))


def remarks(image: bytes) -> list[str]:
    """Return what a sealed image leaves open."""
    file = read_file(image)
    loop = read_loop(file.memory) if file else ()
    block = sealing_block(loop)
    if block is None:
        return []
    others = [one for one in loop if one is not block and one.find(IMAGE_TYPE)]
    if others and rollback_of(block)[0] is not None:
        at = f"{others[0].at:#x}"
        return [f"erratum RP2350-E13: a block at {at} has a type, too, and no rollback version"]
    return []


def sealing_block(loop: tuple[PicoBlock, ...]) -> PicoBlock | None:
    """Return the block with the signature; None if there is none.

    Raises:
        Malformed: `malformed.image`: there are several, or it is not the last of the loop.
    """
    signed = [one for one in loop if one.find(SIGNATURE)]
    if not signed:
        return None
    if len(signed) > 1:
        raise damaged(KIND, "signatures in the loop", "one", len(signed))
    if signed[0] is not loop[-1]:
        raise damaged(KIND, "block with the signature", "the last of the loop", "one before")
    found = signed[0].find(IMAGE_TYPE)
    if found is None or (type_of(found).kind, type_of(found).chip) != (_EXE, _RP2350):
        has = "none" if found is None else f"{found.head >> 16:#06x}"
        raise damaged(KIND, "type of the sealed image", "an executable for rp2350", has)
    return signed[0]


def rollback_of(block: PicoBlock) -> tuple[int | None, tuple[int, ...]]:
    """Return a block's rollback version and its rows of OTP; None if it has none."""
    item = block.find(VERSION)
    if item is None or not item.head >> 24:
        return None, ()
    halves = struct.unpack(
        f"<{2 * len(item.words) - 4}H", struct.pack(f"<{len(item.words) - 2}I", *item.words[2:])
    )
    rows = item.head >> 24
    if len(halves) not in {rows + 1, rows + 2}:
        raise damaged(KIND, "version", f"{rows} rows of otp", f"{len(halves)} numbers")
    return halves[0], halves[1 : rows + 1]


def _digest(file: PicoFile, block: PicoBlock) -> bytes:
    """Hash what the seal covers, and refuse bytes of the image that it does not cover."""
    definition = block.find(HASH_DEF)
    if definition is None or definition.head >> 24 != SHA256 or len(definition.words) != 2:
        found = "none" if definition is None else f"type {definition.head >> 24}"
        raise damaged(KIND, "definition of the hash", f"type {SHA256}", found)
    words = definition.words[1] & 0xFFFF
    end = definition.at + 8
    if block.at + 4 * words != end or definition.words[1] >> 16:
        found = f"{words} words"
        raise damaged(KIND, "signed part of the block", f"{(end - block.at) // 4} words", found)
    for item in block.items:
        if item.at > definition.at and item.kind not in {SIGNATURE, HASH_VALUE}:
            found = f"type {item.kind:#04x}"
            raise damaged(KIND, "items after the hash", "signature and hash value", found)
    signed = bytearray(file.memory[block.at : end])
    first = block.items[0]
    if first.kind == IMAGE_TYPE:
        struct.pack_into("<I", signed, 4, first.head & ~TRY_BEFORE_YOU_BUY)
    return hashlib.sha256(_mapped(file, block) + signed).digest()


def _mapped(file: PicoFile, block: PicoBlock) -> bytes:
    """Return the bytes of the load map: all of the image before the block."""
    item = block.find(LOAD_MAP)
    if item is None:
        raise damaged(KIND, "load map", "one", "none")
    count = item.head >> 24 & 0x7F
    if len(item.words) != 1 + 3 * count or not count:
        raise damaged(
            KIND, "load map", f"{1 + 3 * count} words, one entry or more", len(item.words)
        )
    made, covered = b"", 0
    for number in range(count):
        start, runtime, size = item.words[1 + 3 * number : 4 + 3 * number]
        if item.head >> 31:
            size -= start or runtime
        else:
            start = (start + item.at + file.address) & 0xFFFFFFFF if start else 0
        if not start:  # the boot ROM clears memory
            made += struct.pack("<I", size)
            continue
        at = start - file.address
        if runtime != start:
            raise damaged(KIND, "load map", "an image that runs in flash", f"{runtime:#010x}")
        if at != covered or size < 0 or at + size > block.at:
            place = f"{start:#010x} and {size} bytes"
            raise damaged(KIND, f"entry {number} of the load map", "the image, in order", place)
        made += file.memory[at : at + size]
        covered = at + size
    rest = file.memory[block.at + block.size :]
    if covered != block.at or (rest and rest.strip(rest[:1])) or rest[:1] not in (*_BLANK, b""):
        found = f"{covered} of {block.at} bytes, and {len(rest)} after it"
        raise damaged(KIND, "signed part of the image", "all of it", found)
    return made


def verifies(public: ec.EllipticCurvePublicKey, raw: bytes, digest: bytes) -> bool:
    """Tell whether a signature of 64 bytes verifies."""
    try:
        public.verify(der_from_raw(raw), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def _check_head(item: PicoItem, expected: int, what: str) -> None:
    """Refuse an item with another head: nothing signs it, and each bit has one meaning."""
    if item.head != expected:
        raise damaged(KIND, f"head of the {what}", f"{expected:#010x}", f"{item.head:#010x}")


def _check_value(block: PicoBlock, digest: bytes) -> None:
    value = block.find(HASH_VALUE)
    if value is None:
        return
    _check_head(value, HASH_VALUE_HEAD, "hash value")
    stored = struct.pack(f"<{len(value.words) - 1}I", *value.words[1:])
    if stored != digest:
        raise refused(KIND, "digest", digest.hex(), stored.hex())


def _public(point: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), b"\4" + point)
    except ValueError:
        raise damaged(KIND, "public key", "a point of secp256k1", point[:8].hex()) from None
