# SPDX-License-Identifier: Apache-2.0
"""The header and the TLVs of an MCUboot image, read strictly.

    0x00  96F3B83D, load address (u32), header size (u16), size of the protected TLVs (u16)
    0x0C  image size (u32), flags (u32), version (u8, u8, u16, u32), 4 bytes
    then  image, [6908, total (u16), TLVs], 6907, total (u16), TLVs; a TLV is type (u16),
          length (u16), data

Numbers have the byte order of the target. In big-endian images imgtool writes the type as one byte
and a zero. Source: MCUboot's design document, "Image format".
"""

import hashlib
import struct
from typing import BinaryIO, NamedTuple, TypeAlias

from fwsign.images.base import Reader, damaged, size_of

HEADER = "IIHHIIBBHI4x"
HEADER_SIZE = 32
MAGIC = 0x96F3B83D
MAGICS = {struct.pack("<I", MAGIC): "<", struct.pack(">I", MAGIC): ">"}
PAIR_SIZE = 4
"""Magic and size of an area, or type and length of a TLV."""
PROTECTED = 0x6908
UNPROTECTED = 0x6907
MAX_TLVS = 64
"""Per area. A signed image has about five, and the length of an area allows 16,000 empty ones."""
KEY_HASH, PUBLIC_KEY = 0x01, 0x02
ENCRYPTED = 0x4 | 0x8
"""Flags: the hash is over the plain text."""

KEY_HASH, PUBLIC_KEY = 0x01, 0x02
HASHES = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
SIGNATURES = {
    0x20: "rsa-2048",
    0x21: "ecdsa p-224",
    0x22: "ecdsa",
    0x23: "rsa-3072",
    0x24: "ed25519",
}
PURE = 0x25
_UNSIGNED = {KEY_HASH, PUBLIC_KEY, *HASHES, *SIGNATURES, PURE, *range(0x30, 0x35)}
"""The types in an unprotected area: hash, key, signature, wrapped key. No signature covers it."""
_VENDOR = range(0xA0, 0xFF)
"""The low byte of a vendor's own types, of which MCUboot takes no notice."""
DEPENDENCY = 0x40
SECURITY_COUNTER = 0x50
BOOT_RECORD = 0x60
_REPEATED = {DEPENDENCY, BOOT_RECORD}
_PAIRED = {KEY_HASH, PUBLIC_KEY, *SIGNATURES}
"""An image may have several signatures, each after its key."""
Tlvs: TypeAlias = list[tuple[int, bytes]]


class McubootHeader(NamedTuple):
    """The fields of a header, without the padding at its end."""

    magic: int
    load_address: int
    header_size: int
    protected_size: int
    image_size: int
    flags: int
    major: int
    minor: int
    revision: int
    build: int


class McubootImage(NamedTuple):
    """The output of `imgtool sign`.

    Args:
        header: the header.
        order: "<" or ">", as in `struct`.
        protected: the TLVs that hash and signatures cover.
        unprotected: all others.
        hashed: the end of the hashed part.
        algorithm: the hash's, as in hashlib; a plain image has no TLVs, and this is empty.
        hash: as stored.
        rest: a reader after the TLVs.
    """

    header: McubootHeader
    order: str
    protected: Tlvs
    unprotected: Tlvs
    hashed: int
    algorithm: str
    hash: bytes
    rest: Reader

    @property
    def vendor(self) -> tuple[int, ...]:
        """The types of a vendor's own TLVs that nothing protects."""
        return tuple(kind for kind, _ in self.unprotected if kind & 0xFF in _VENDOR)

    @property
    def security_counter(self) -> int | None:
        """The number against rollback; None if the image has none."""
        found = [value for kind, value in self.protected if kind == SECURITY_COUNTER]
        return int.from_bytes(found[0], "little" if self.order == "<" else "big") if found else None


def read_image(file: BinaryIO) -> McubootImage:
    """Read header and TLVs; the hash is not checked.

    Args:
        file: seekable; it begins with the magic.

    Raises:
        Malformed: `malformed.image`.
    """
    size = size_of(file)
    reader = Reader(file, "mcuboot", 0, size)
    raw = reader.take(HEADER_SIZE, "header")
    order = MAGICS[raw[:4]]
    header = McubootHeader(*struct.unpack(order + HEADER, raw))
    if header.header_size < HEADER_SIZE:
        found = f"{header.header_size} bytes"
        raise damaged("mcuboot", "header", f"at least {HEADER_SIZE} bytes", found)
    body = header.header_size + header.image_size
    if body > size:
        raise damaged("mcuboot", "header and image", f"{body} bytes", f"{size} bytes")
    reader = Reader(file, "mcuboot", body, size)
    if body == size and not header.protected_size:
        return McubootImage(header, order, [], [], body, "", b"", reader)
    protected: Tlvs = []
    if header.protected_size:
        protected = _area(reader, order, PROTECTED, "protected tlvs", header.protected_size)
    hashed = reader.position
    unprotected = _area(reader, order, UNPROTECTED, "tlvs", None)
    algorithm, stored = _check_types(protected, unprotected)
    return McubootImage(header, order, protected, unprotected, hashed, algorithm, stored, reader)


def _area(reader: Reader, order: str, magic: int, what: str, expected: int | None) -> Tlvs:
    """Read one TLV area, which its TLVs must fill exactly."""
    found, total = struct.unpack(order + "HH", reader.take(PAIR_SIZE, f"magic of {what}"))
    if found != magic:
        raise damaged("mcuboot", f"magic of {what}", f"{magic:#x}", f"{found:#x}")
    if expected is not None and total != expected:
        raise damaged("mcuboot", f"size of {what}", f"{expected} bytes", f"{total} bytes")
    end = reader.position - PAIR_SIZE + total
    tlvs: Tlvs = []
    while reader.position < end:
        head = reader.take(PAIR_SIZE, f"head of tlv {len(tlvs)} of {what}")
        kind, length = struct.unpack(order + "HH", head)
        if order == ">" and not kind & 0xFF:
            kind >>= 8
        tlvs.append((kind, reader.take(length, f"tlv {kind:#x} of {what}")))
        if len(tlvs) > MAX_TLVS:
            raise damaged("mcuboot", f"number of {what}", f"at most {MAX_TLVS}", "more")
    if reader.position != end:
        raise damaged("mcuboot", f"end of {what}", f"{end:#x}", f"{reader.position:#x}")
    return tlvs


def _check_types(protected: Tlvs, unprotected: Tlvs) -> tuple[str, bytes]:
    """Check the areas of all TLVs, and return the algorithm and value of the one hash."""
    for what, tlvs in (("protected tlvs", protected), ("tlvs", unprotected)):
        may = _REPEATED if tlvs is protected else _PAIRED
        kinds = [kind for kind, _ in tlvs if kind not in may]
        repeated = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if repeated:
            raise damaged("mcuboot", what, "each type once", f"type {repeated[0]:#x} again")
    for kind, _ in unprotected:
        if kind not in _UNSIGNED and kind & 0xFF not in _VENDOR:
            expected = "a hash, key, signature or wrapped key"
            raise damaged("mcuboot", "tlvs", expected, f"type {kind:#x}, which nothing protects")
    for kind, _ in protected:
        if kind in HASHES:  # a protected hash would have to cover itself
            raise damaged("mcuboot", "protected tlvs", "no hash", f"type {kind:#x}")
    hashes = [(HASHES[kind], value) for kind, value in unprotected if kind in HASHES]
    if len(hashes) != 1:
        raise damaged("mcuboot", "tlvs", "one hash", f"{len(hashes)} hashes")
    return hashes[0]


def check_hash(file: BinaryIO, image: McubootImage) -> None:
    """Compare the stored hash with the image, which has one and is not encrypted.

    Raises:
        Malformed: `malformed.image`.
    """
    hasher = hashlib.new(image.algorithm)
    for _ in Reader(file, "mcuboot", 0, image.hashed, hasher).pieces(image.hashed, "hashed part"):
        pass
    if hasher.digest() != image.hash:
        raise damaged("mcuboot", image.algorithm, hasher.hexdigest(), image.hash.hex())
