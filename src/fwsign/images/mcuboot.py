# SPDX-License-Identifier: Apache-2.0
"""MCUboot images: header, payload, protected and unprotected TLVs, and the rest of a slot.

    0x00  96F3B83D, load address (u32), header size (u16), size of the protected TLVs (u16)
    0x0C  image size (u32), flags (u32), version (u8, u8, u16, u32), 4 bytes
    then  image, [6908, total (u16), TLVs], 6907, total (u16), TLVs; a TLV is type (u16),
          length (u16), data

Numbers have the byte order of the target. In big-endian images imgtool writes the type as one byte
and a zero. Source: MCUboot's design document, "Image format".
"""

import hashlib
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fwsign.images import mcuboot_trailer
from fwsign.images.base import Image, Reader, damaged, size_of

_HEADER = "IIHHIIBBHI4x"
_HEADER_SIZE = 32
_MAGIC = 0x96F3B83D
_MAGICS = {struct.pack("<I", _MAGIC): "<", struct.pack(">I", _MAGIC): ">"}
_PAIR_SIZE = 4
_PROTECTED = 0x6908
_UNPROTECTED = 0x6907
MAX_TLVS = 64
"""Per area. A signed image has about five, and the length of an area allows 16,000 empty ones."""
_KNOWN_FLAGS = {
    0x1: "position independent",
    0x4: "encrypted, aes-128",
    0x8: "encrypted, aes-256",
    0x10: "not bootable",
    0x20: "loaded to ram",
    0x100: "rom-fixed",
    0x200: "compressed, lzma1",
    0x400: "compressed, lzma2",
    0x800: "arm thumb filter",
}
_ENCRYPTED = 0x4 | 0x8

_KEY_HASH, _PUBLIC_KEY = 0x01, 0x02
_HASHES = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
_SIGNATURES = {
    0x20: "rsa-2048",
    0x21: "ecdsa p-224",
    0x22: "ecdsa",
    0x23: "rsa-3072",
    0x24: "ed25519",
}
_PURE = 0x25
_UNSIGNED = {_KEY_HASH, _PUBLIC_KEY, *_HASHES, *_SIGNATURES, _PURE, *range(0x30, 0x35)}
"""The types in an unprotected area: hash, key, signature, wrapped key. No signature covers it."""
_VENDOR = range(0xA0, 0xFF)
"""The low byte of a vendor's own types, of which MCUboot takes no notice."""
_DEPENDENCY = 0x40
_SECURITY_COUNTER = 0x50
_BOOT_RECORD = 0x60
_REPEATED = {_DEPENDENCY, _BOOT_RECORD}
_PAIRED = {_KEY_HASH, _PUBLIC_KEY, *_SIGNATURES}
"""An image may have several signatures, each after its key."""
_NAMES = {
    0x02: "public key",
    0x30: "wrapped key, rsa",
    0x31: "wrapped key, aes",
    0x32: "wrapped key, p-256",
    0x33: "wrapped key, x25519",
    0x34: "wrapped key, x25519 with sha-512",
    0x70: "decompressed size",
    0x71: "decompressed hash",
    0x72: "decompressed signature",
    0x74: "vendor id",
    0x75: "class id",
}


class _Header(NamedTuple):
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


_Tlvs = list[tuple[int, bytes]]


class _Signed(NamedTuple):
    """The output of `imgtool sign`: the end of the hashed part, and a reader after the TLVs.

    A plain image has no TLVs, and its algorithm is empty.
    """

    header: _Header
    order: str
    tlvs: _Tlvs
    vendor: tuple[int, ...]
    hashed: int
    algorithm: str
    hash: bytes
    rest: Reader


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be an MCUboot image."""
    return head[:4] in _MAGICS


def parse(file: BinaryIO) -> Image:
    """Read an MCUboot image and check its hash; its signature needs a key and is not verified.

    The hash of an encrypted image is over the plain text and cannot be checked; the details say
    so. After the TLVs may come the rest of the slot. A plain image has no TLVs at all.

    Args:
        file: seekable.

    Raises:
        Malformed: `malformed.image`.
    """
    signed = _signed(file)
    trailer = mcuboot_trailer.read(signed.rest)
    header = signed.header
    checked = not header.flags & _ENCRYPTED
    details = list(_header_details(header))
    if signed.order == ">":
        details.append(("byte order", "big-endian"))
    if signed.algorithm:
        if checked:
            _check_hash(file, signed.hashed, signed.algorithm, signed.hash)
        value = signed.hash.hex() + ("" if checked else " (not checked: encrypted)")
        details.append((signed.algorithm, value))
    details += [*_tlv_details(signed.tlvs), *trailer.details]
    version = f"{header.major}.{header.minor}.{header.revision}+{header.build}"
    notes = tuple(_notes(signed, swapped=trailer.swapped))
    return Image("mcuboot", version=version, details=tuple(details), notes=notes)


def _notes(signed: _Signed, *, swapped: bool) -> Iterator[str]:
    if not signed.algorithm:
        yield "it has no TLVs, neither hash nor signature: MCUboot starts no such image"
    if signed.order == ">":
        yield "it is for a big-endian target"
    if signed.vendor:
        kinds = ", ".join(f"{kind:#06x}" for kind in signed.vendor)
        yield f"the signature does not cover the vendor's TLVs: {kinds}"
    if swapped:
        yield "it is a slot with the status of a swap: a boot loader may go on with that swap"


def image_hash(data: bytes) -> bytes:
    """Return the hash in an image, by which MCUboot names the image; it is not checked here.

    Raises:
        Malformed: `malformed.image`.
    """
    if not claims(data):
        raise damaged("mcuboot", "magic", f"{_MAGIC:#x}", data[:4].hex() or "nothing")
    signed = _signed(io.BytesIO(data))
    if not signed.algorithm:
        raise damaged("mcuboot", "tlvs", "one hash", "no tlvs")
    return signed.hash


def _signed(file: BinaryIO) -> _Signed:
    size = size_of(file)
    reader = Reader(file, "mcuboot", 0, size)
    raw = reader.take(_HEADER_SIZE, "header")
    order = _MAGICS[raw[:4]]
    header = _Header(*struct.unpack(order + _HEADER, raw))
    if header.header_size < _HEADER_SIZE:
        found = f"{header.header_size} bytes"
        raise damaged("mcuboot", "header", f"at least {_HEADER_SIZE} bytes", found)
    body = header.header_size + header.image_size
    if body > size:
        raise damaged("mcuboot", "header and image", f"{body} bytes", f"{size} bytes")
    reader = Reader(file, "mcuboot", body, size)
    if body == size and not header.protected_size:
        return _Signed(header, order, [], (), body, "", b"", reader)
    protected: _Tlvs = []
    if header.protected_size:
        protected = _area(reader, order, _PROTECTED, "protected tlvs", header.protected_size)
    hashed = reader.position
    unprotected = _area(reader, order, _UNPROTECTED, "tlvs", None)
    algorithm, stored = _check_types(protected, unprotected)
    vendor = tuple(kind for kind, _ in unprotected if kind & 0xFF in _VENDOR)
    tlvs = protected + unprotected
    return _Signed(header, order, tlvs, vendor, hashed, algorithm, stored, reader)


def _area(reader: Reader, order: str, magic: int, what: str, expected: int | None) -> _Tlvs:
    """Read one TLV area, which its TLVs must fill exactly."""
    found, total = struct.unpack(order + "HH", reader.take(_PAIR_SIZE, f"magic of {what}"))
    if found != magic:
        raise damaged("mcuboot", f"magic of {what}", f"{magic:#x}", f"{found:#x}")
    if expected is not None and total != expected:
        raise damaged("mcuboot", f"size of {what}", f"{expected} bytes", f"{total} bytes")
    end = reader.position - _PAIR_SIZE + total
    tlvs: _Tlvs = []
    while reader.position < end:
        head = reader.take(_PAIR_SIZE, f"head of tlv {len(tlvs)} of {what}")
        kind, length = struct.unpack(order + "HH", head)
        if order == ">" and not kind & 0xFF:
            kind >>= 8
        tlvs.append((kind, reader.take(length, f"tlv {kind:#x} of {what}")))
        if len(tlvs) > MAX_TLVS:
            raise damaged("mcuboot", f"number of {what}", f"at most {MAX_TLVS}", "more")
    if reader.position != end:
        raise damaged("mcuboot", f"end of {what}", f"{end:#x}", f"{reader.position:#x}")
    return tlvs


def _check_types(protected: _Tlvs, unprotected: _Tlvs) -> tuple[str, bytes]:
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
        if kind in _HASHES:  # a protected hash would have to cover itself
            raise damaged("mcuboot", "protected tlvs", "no hash", f"type {kind:#x}")
    hashes = [(_HASHES[kind], value) for kind, value in unprotected if kind in _HASHES]
    if len(hashes) != 1:
        raise damaged("mcuboot", "tlvs", "one hash", f"{len(hashes)} hashes")
    return hashes[0]


def _check_hash(file: BinaryIO, end: int, algorithm: str, stored: bytes) -> None:
    hasher = hashlib.new(algorithm)
    for _ in Reader(file, "mcuboot", 0, end, hasher).pieces(end, "hashed part"):
        pass
    if hasher.digest() != stored:
        raise damaged("mcuboot", algorithm, hasher.hexdigest(), stored.hex())


def _header_details(header: _Header) -> tuple[tuple[str, str], ...]:
    names = [name for flag, name in _KNOWN_FLAGS.items() if header.flags & flag]
    unknown = header.flags & ~sum(_KNOWN_FLAGS)
    if unknown:
        names.append(f"unknown {unknown:#x}")
    return (
        ("header", f"{header.header_size} bytes"),
        ("image", f"{header.image_size} bytes"),
        ("load address", f"{header.load_address:#010x}"),
        ("flags", ", ".join(names) or "none"),
    )


def _tlv_details(tlvs: _Tlvs) -> tuple[tuple[str, str], ...]:
    details = []
    for kind, value in tlvs:
        if kind == _KEY_HASH:
            details.append(("key hash", value.hex()))
        elif kind in _SIGNATURES:
            pure = ", pure" if any(one == _PURE for one, _ in tlvs) else ""
            details.append(("signature", _SIGNATURES[kind] + pure))
        elif kind == _SECURITY_COUNTER:
            details.append(("security counter", str(int.from_bytes(value, "little"))))
        elif kind not in _HASHES and kind != _PURE:
            details.append((_NAMES.get(kind, f"tlv {kind:#06x}"), f"{len(value)} bytes"))
    return tuple(details)
