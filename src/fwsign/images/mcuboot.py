# SPDX-License-Identifier: Apache-2.0
"""MCUboot images: header, payload, protected and unprotected TLVs, and a slot's trailer.

    0x00  96F3B83D, load address (u32), header size (u16), size of the protected TLVs (u16)
    0x0C  image size (u32), flags (u32), version (u8, u8, u16, u32), 4 bytes
    then  image, [6908, total (u16), TLVs], 6907, total (u16), TLVs; a TLV is type (u16),
          length (u16), data

Source: MCUboot's design document, "Image format" and "Image trailer". Numbers are
little-endian; images for big-endian targets are "unknown" here.
"""

import hashlib
import io
import struct
from typing import BinaryIO, NamedTuple

from fwsign.images.base import Image, Reader, damaged, first_other, size_of

_HEADER = struct.Struct("<IIHHIIBBHI4x")
_MAGIC = 0x96F3B83D
_PAIR = struct.Struct("<HH")
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

_KEY_HASH = 0x01
_HASHES = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
_SIGNATURES = {
    0x20: "rsa-2048",
    0x21: "ecdsa p-224",
    0x22: "ecdsa",
    0x23: "rsa-3072",
    0x24: "ed25519",
}
_UNSIGNED = {_KEY_HASH, 0x02, *_HASHES, *_SIGNATURES, 0x25, *range(0x30, 0x35)}
"""The types in an unprotected area: hash, key, signature, wrapped key. No signature covers it."""
_DEPENDENCY = 0x40
_SECURITY_COUNTER = 0x50
_BOOT_RECORD = 0x60
_REPEATED = {_DEPENDENCY, _BOOT_RECORD}

_TRAILER_MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
_TRAILER_MAGIC_ALIGNED = bytes.fromhex(
    "2de15d29410b8d77679c110f1f8a"
)  # it follows a u16, the alignment
_ALIGNMENTS = (8, 16, 32)  # writes to flash are never larger


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
    """The output of `imgtool sign`: the end of the hashed part, and a reader after the TLVs."""

    header: _Header
    tlvs: _Tlvs
    hashed: int
    algorithm: str
    hash: bytes
    rest: Reader


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be an MCUboot image."""
    return head.startswith(struct.pack("<I", _MAGIC))


def parse(file: BinaryIO) -> Image:
    """Read an MCUboot image and check its hash; its signature needs a key and is not verified.

    The hash of an encrypted image is over the plain text and cannot be checked; the details say
    so. After the TLVs may come the rest of the slot: erased bytes, all 0xFF or all 0x00, and the
    trailer's magic with or without the mark of a confirmed image.

    Args:
        file: seekable.

    Raises:
        Malformed: `malformed.image`.
    """
    signed = _signed(file)
    trailer = _trailer(signed.rest)
    checked = not signed.header.flags & _ENCRYPTED
    if checked:
        _check_hash(file, signed.hashed, signed.algorithm, signed.hash)
    header = signed.header
    details = (
        *_header_details(header),
        (signed.algorithm, signed.hash.hex() + ("" if checked else " (not checked: encrypted)")),
        *_tlv_details(signed.tlvs),
        *trailer,
    )
    version = f"{header.major}.{header.minor}.{header.revision}+{header.build}"
    return Image("mcuboot", version=version, details=details)


def image_hash(data: bytes) -> bytes:
    """Return the hash in an image, by which MCUboot names the image; it is not checked here.

    Raises:
        Malformed: `malformed.image`.
    """
    if not claims(data):
        raise damaged("mcuboot", "magic", f"{_MAGIC:#x}", data[:4].hex() or "nothing")
    return _signed(io.BytesIO(data)).hash


def _signed(file: BinaryIO) -> _Signed:
    size = size_of(file)
    reader = Reader(file, "mcuboot", 0, size)
    header = _Header(*_HEADER.unpack(reader.take(_HEADER.size, "header")))
    if header.header_size < _HEADER.size:
        found = f"{header.header_size} bytes"
        raise damaged("mcuboot", "header", f"at least {_HEADER.size} bytes", found)
    body = header.header_size + header.image_size
    if body > size:
        raise damaged("mcuboot", "header and image", f"{body} bytes", f"{size} bytes")
    reader = Reader(file, "mcuboot", body, size)
    protected: _Tlvs = []
    if header.protected_size:
        protected = _area(reader, _PROTECTED, "protected tlvs", header.protected_size)
    hashed = reader.position
    unprotected = _area(reader, _UNPROTECTED, "tlvs", None)
    algorithm, stored = _check_types(protected, unprotected)
    return _Signed(header, protected + unprotected, hashed, algorithm, stored, reader)


def _area(reader: Reader, magic: int, what: str, expected: int | None) -> _Tlvs:
    """Read one TLV area, which its TLVs must fill exactly."""
    found, total = _PAIR.unpack(reader.take(_PAIR.size, f"magic of {what}"))
    if found != magic:
        raise damaged("mcuboot", f"magic of {what}", f"{magic:#x}", f"{found:#x}")
    if expected is not None and total != expected:
        raise damaged("mcuboot", f"size of {what}", f"{expected} bytes", f"{total} bytes")
    end = reader.position - _PAIR.size + total
    tlvs: _Tlvs = []
    while reader.position < end:
        kind, length = _PAIR.unpack(reader.take(_PAIR.size, f"head of tlv {len(tlvs)} of {what}"))
        tlvs.append((kind, reader.take(length, f"tlv {kind:#x} of {what}")))
        if len(tlvs) > MAX_TLVS:
            raise damaged("mcuboot", f"number of {what}", f"at most {MAX_TLVS}", "more")
    if reader.position != end:
        raise damaged("mcuboot", f"end of {what}", f"{end:#x}", f"{reader.position:#x}")
    return tlvs


def _check_types(protected: _Tlvs, unprotected: _Tlvs) -> tuple[str, bytes]:
    """Check the areas of all TLVs, and return the algorithm and value of the one hash."""
    for what, tlvs in (("protected tlvs", protected), ("tlvs", unprotected)):
        kinds = [kind for kind, _ in tlvs if kind not in _REPEATED]
        repeated = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if repeated:
            raise damaged("mcuboot", what, "each type once", f"type {repeated[0]:#x} again")
    for kind, _ in unprotected:
        if kind not in _UNSIGNED:
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


def _trailer(reader: Reader) -> tuple[tuple[str, str], ...]:
    """Check that only an erased slot follows the TLVs, with or without a trailer."""
    rest = reader.left
    if not rest:
        return ()
    tail_size = min(rest, 2 * max(_ALIGNMENTS))
    tail_at = reader.end - tail_size
    erased = reader.peek(1)
    if erased not in {b"\xff", b"\0"}:
        # A slot has at least one erased byte between TLVs and magic.
        raise damaged("mcuboot", "bytes after the tlvs", "erased flash", f"{erased.hex()}")
    other = first_other(reader, tail_at - reader.position, erased)
    if other is not None:
        raise damaged("mcuboot", "bytes after the tlvs", "erased flash", f"others at {other:#x}")
    tail = reader.take(tail_size, "trailer")
    if not tail.strip(erased):
        return (("padding", f"{rest} bytes"),)
    confirmed = _confirmed(tail, erased)
    if confirmed is None:
        raise damaged("mcuboot", "trailer", "erased flash or the magic", tail[-16:].hex())
    return (
        ("padding", f"{rest} bytes"),
        ("trailer", "confirmed" if confirmed else "magic only"),
    )


def _confirmed(tail: bytes, erased: bytes) -> bool | None:
    """Read a slot's trailer: None if it is not one, True if image_ok is set."""
    magic, rest = tail[-16:], tail[:-16]
    if magic == _TRAILER_MAGIC:
        alignment = 8
    elif magic[2:] == _TRAILER_MAGIC_ALIGNED:
        alignment = int.from_bytes(magic[:2], "little")
    else:
        return None
    if not rest.strip(erased):
        return False
    if alignment not in _ALIGNMENTS:
        return None
    # image_ok has its own write unit, before the units with the magic.
    at = len(tail) - (-(-16 // alignment) * alignment + alignment)
    return True if rest == (erased * at + b"\x01").ljust(len(rest), erased) else None


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
            details.append(("signature", _SIGNATURES[kind]))
        elif kind == _SECURITY_COUNTER:
            details.append(("security counter", str(int.from_bytes(value, "little"))))
        elif kind not in _HASHES:
            details.append((f"tlv {kind:#06x}", f"{len(value)} bytes"))
    return tuple(details)
