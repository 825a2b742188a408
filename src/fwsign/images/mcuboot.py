# SPDX-License-Identifier: Apache-2.0
"""MCUboot images for people: their hash is checked, and what else they have is named.

`mcuboot_tlvs` reads header and TLVs, `mcuboot_trailer` the rest of a slot.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO

from fwsign.images import mcuboot_trailer
from fwsign.images.base import Image, damaged
from fwsign.images.mcuboot_tlvs import (
    ENCRYPTED,
    HASHES,
    KEY_HASH,
    MAGIC,
    MAGICS,
    PURE,
    SECURITY_COUNTER,
    SIGNATURES,
    McubootHeader,
    McubootImage,
    check_hash,
    read_image,
)

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


def claims(head: bytes) -> bool:
    """Tell whether a file that begins with `head` claims to be an MCUboot image."""
    return head[:4] in MAGICS


def parse(file: BinaryIO) -> Image:
    """Read an MCUboot image and check its hash; its signature needs a key and is not verified.

    The hash of an encrypted image is over the plain text and cannot be checked; the details say
    so. After the TLVs may come the rest of the slot. A plain image has no TLVs at all.

    Args:
        file: seekable.

    Raises:
        Malformed: `malformed.image`.
    """
    signed = read_image(file)
    trailer = mcuboot_trailer.read(signed.rest, big_endian=signed.order == ">")
    header = signed.header
    checked = not header.flags & ENCRYPTED
    details = list(_header_details(header))
    if signed.order == ">":
        details.append(("byte order", "big-endian"))
    if signed.algorithm:
        if checked:
            check_hash(file, signed)
        value = signed.hash.hex() + ("" if checked else " (not checked: encrypted)")
        details.append((signed.algorithm, value))
    details += [*_tlv_details(signed), *trailer.details]
    version = f"{header.major}.{header.minor}.{header.revision}+{header.build}"
    notes = tuple(_notes(signed, swapped=trailer.swapped))
    return Image("mcuboot", version=version, details=tuple(details), notes=notes)


def _notes(signed: McubootImage, *, swapped: bool) -> Iterator[str]:
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
        raise damaged("mcuboot", "magic", f"{MAGIC:#x}", data[:4].hex() or "nothing")
    signed = read_image(io.BytesIO(data))
    if not signed.algorithm:
        raise damaged("mcuboot", "tlvs", "one hash", "no tlvs")
    return signed.hash


def _header_details(header: McubootHeader) -> tuple[tuple[str, str], ...]:
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


def _tlv_details(signed: McubootImage) -> tuple[tuple[str, str], ...]:
    details = []
    tlvs = signed.protected + signed.unprotected
    for kind, value in tlvs:
        if kind == KEY_HASH:
            details.append(("key hash", value.hex()))
        elif kind in SIGNATURES:
            pure = ", pure" if any(one == PURE for one, _ in tlvs) else ""
            details.append(("signature", SIGNATURES[kind] + pure))
        elif kind == SECURITY_COUNTER:
            details.append(("security counter", str(signed.security_counter)))
        elif kind not in HASHES and kind != PURE:
            details.append((_NAMES.get(kind, f"tlv {kind:#06x}"), f"{len(value)} bytes"))
    return tuple(details)
