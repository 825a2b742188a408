# SPDX-License-Identifier: Apache-2.0
"""MCUboot's own signature: the image as imgtool writes it, signed by keys that are held anywhere.

The output is imgtool's, byte for byte apart from signatures that are random. Several keys may sign,
which imgtool cannot do: MCUboot takes the first key that it knows, and passes over the others
(`bootutil_img_validate`). All must use one digest, and a boot loader is built for one algorithm.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from fwsign.errors import Unsuitable
from fwsign.images.mcuboot_tlvs import (
    BOOT_RECORD,
    DEPENDENCY,
    ENCRYPTED,
    HASHES,
    HEADER,
    HEADER_SIZE,
    KEY_HASH,
    MAGIC,
    MAGICS,
    PAIR_SIZE,
    PROTECTED,
    PUBLIC_KEY,
    PURE,
    SECURITY_COUNTER,
    UNPROTECTED,
    McubootHeader,
    Tlvs,
)
from fwsign.images.mcuboot_trailer import MAGIC as TRAILER_MAGIC
from fwsign.images.mcuboot_trailer import MAGIC_ALIGNED
from fwsign.keys.held import digest_of
from fwsign.native import unsupported
from fwsign.native.mcuboot_keys import algorithm_of_key, key_bytes, key_hash, make_signature
from fwsign.native.mcuboot_options import (
    McubootOptions,
    check,
    max_align,
    numbers,
    trailer_size,
    unfit,
)
from fwsign.native.mcuboot_read import DIGESTS, KIND, McubootParts, read, read_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.keys.held import HeldKey

__all__ = ["OPTIONS", "McubootOptions", "read", "same", "sign"]

OPTIONS = McubootOptions

_COMPRESSED = 0x200 | 0x400
_HEADER = "--native-option header-size=0x200 names it, and pad-header puts it before the image"
_TYPES = {DIGESTS[name]: kind for kind, name in HASHES.items()}


class _Body(NamedTuple):
    """All that a signature covers, before its sizes are known."""

    header: McubootHeader
    order: str
    data: bytes
    protected: Tlvs


def sign(
    image: bytes,
    keys: Sequence[HeldKey],
    *,
    security_version: int | None = None,
    options: McubootOptions | None = None,
) -> bytes:
    """Return an image signed as imgtool does it.

    Args:
        image: a binary, with or without room for the header; or an image that has a header, whose
            signatures stay.
        keys: of MCUboot's algorithms, with one digest; their signatures stand in this order.
        security_version: the security counter; None: as the image has it, or none.
        options: the layout.

    Raises:
        Malformed: `malformed.image`; Tampered: `tampered.native`: the image was wrong before.
        Unsuitable: `unsuitable.security-version`: it has signatures over another counter.
        Failed: `io.format`: options and image do not fit; `key.*`.
    """
    options = options or McubootOptions()
    check(options, security_version)
    digest = _digest(keys, options)
    publics = [key.public_key for key in keys]
    parts = None
    if image[:4] in MAGICS:
        read(image, publics)  # refuses signatures that are wrong
        parts = read_parts(image)
        body = _kept(image, parts, options, security_version)
    else:
        body = _laid_out(image, publics, digest, options, security_version)
    hashed = _hashed_part(body)
    tlvs = _signed_before(parts, hashed, digest, options)
    named = {value for kind, value in tlvs if kind in (KEY_HASH, PUBLIC_KEY)}
    for key in keys:
        one = _name_of_key(key.public_key, digest, options)
        if one[1] not in named:
            made = make_signature(key, hashed, digest, pure=options.pure)
            tlvs += [one, (algorithm_of_key(key.public_key).tlv, made)]
            named.add(one[1])
    signed = _filled(hashed + _area(body.order, UNPROTECTED, tlvs), body.order, options)
    read(signed, publics)  # as a boot loader would, with each key
    return signed


def same(image: bytes, signed: bytes) -> bool:
    """Tell whether two images are the same apart from their signatures."""
    if image[:4] not in MAGICS or signed[:4] not in MAGICS:
        return False
    one, two = read_parts(image), read_parts(signed)
    rests = (image[len(image) - one.rest :], signed[len(signed) - two.rest :])
    blank = {rest.lstrip(rest[:1]) for rest in rests}  # a longer signature leaves less
    return (one.data, one.digest, one.pure) == (two.data, two.digest, two.pure) and len(blank) == 1


def _digest(keys: Sequence[HeldKey], options: McubootOptions) -> str:
    """Return the name of the digest that all keys have in common."""
    if not keys:
        raise unsupported(KIND, "no key was given", "one key or more", "none")
    chosen = options.digest or ("SHA-512" if options.pure else "")
    for key in keys:
        own = algorithm_of_key(key.public_key)
        chosen = chosen or own.digests[0]
        if options.pure and own.name != "Ed25519":
            why = f"{own.name} makes no pure signatures: {key.place}"
            raise unsupported(KIND, why, "Ed25519", own.name)
        if chosen not in (("SHA-512",) if options.pure else own.digests):
            wanted = " or ".join(("SHA-512",) if options.pure else own.digests)
            why = f"{own.name} signs {wanted}, and the image has {chosen}: {key.place}"
            raise unsupported(KIND, why, wanted, chosen)
    return chosen


def _kept(
    image: bytes, parts: McubootParts, options: McubootOptions, security_version: int | None
) -> _Body:
    """Take over an image that has a header."""
    found, header = parts.image, parts.image.header
    if header.flags & (ENCRYPTED | _COMPRESSED):
        how = "encrypted" if header.flags & ENCRYPTED else "compressed"
        raise unfit("mcuboot image", "one that is neither encrypted nor compressed", how)
    if parts.rest and not options.pad and not options.confirm:
        raise unfit("mcuboot image", "no bytes after it", "a slot that is filled")
    if options.boot_record or options.dependencies or options.custom:
        raise unfit("mcuboot image", "one without a header, for new protected tlvs", "a header")
    own = (header.major, header.minor, header.revision, header.build)
    for what, asked, has in (
        ("header size", options.header_size, header.header_size),
        ("version", options.version and numbers(options.version), own),
        ("load address", options.load_address or options.rom_fixed, header.load_address),
    ):
        if asked and asked != has:
            raise unfit(f"{what} of the image", asked, has)
    protected = found.protected
    if security_version is not None and security_version != found.security_counter:
        if parts.pairs:
            raise Unsuitable(
                "unsuitable.security-version",
                f"{KIND}: the image has signatures over security counter {found.security_counter},"
                f" and {security_version} was asked for",
                expected=security_version,
                found=found.security_counter,
            )
        counter = (SECURITY_COUNTER, struct.pack(found.order + "I", security_version))
        protected = [counter, *(one for one in protected if one[0] != SECURITY_COUNTER)]
    end = header.header_size + header.image_size
    return _Body(header, found.order, image[:end], protected)


def _laid_out(
    image: bytes,
    publics: Sequence[Any],
    digest: str,
    options: McubootOptions,
    security_version: int | None,
) -> _Body:
    """Give a binary a header, and the protected TLVs in imgtool's order."""
    size = options.header_size
    if not HEADER_SIZE <= size <= 0xFFFF:
        expected = f"{HEADER_SIZE} to {0xFFFF} bytes, for an image without"
        raise unfit("header size", expected, size).with_hint(_HEADER)
    if options.pad_header:
        image = bytes([options.erased]) * size + image
    elif len(image) < size or image[:size].strip(b"\0"):
        expected = f"{size} zeros, as room for the header"
        refusal = unfit("start of the image", expected, image[:16].hex() or "nothing")
        raise refusal.with_hint("--native-option pad-header puts the header before the image")
    order = ">" if options.big_endian else "<"
    version = numbers(options.version or "0")
    flags = 0x20 if options.load_address else 0x100 if options.rom_fixed else 0
    flags |= 0x10 if options.non_bootable else 0
    address = options.rom_fixed or options.load_address
    header = McubootHeader(MAGIC, address, size, 0, len(image) - size, flags, *version)
    protected: Tlvs = []
    if security_version is not None:
        protected.append((SECURITY_COUNTER, struct.pack(order + "I", security_version)))
    if options.boot_record:
        named = key_hash(publics[0], digest)
        protected.append((BOOT_RECORD, _boot_record(options.boot_record, version, digest, named)))
    for number, least in options.dependencies:
        value = struct.pack(order + "B3xBBHI", number, *numbers(least))
        protected.append((DEPENDENCY, value))
    protected += [(kind, bytes.fromhex(value)) for kind, value in options.custom]
    return _Body(header, order, image, protected)


def _hashed_part(body: _Body) -> bytes:
    area = _area(body.order, PROTECTED, body.protected) if body.protected else b""
    header = body.header._replace(protected_size=len(area))
    return struct.pack(body.order + HEADER, *header) + body.data[HEADER_SIZE:] + area


def _signed_before(
    parts: McubootParts | None, hashed: bytes, digest: str, options: McubootOptions
) -> Tlvs:
    """Return the hash, and the signatures that the image had already."""
    tlvs: Tlvs = [(_TYPES[digest], digest_of(hashed, digest))]
    tlvs += [(PURE, b"\1")] if options.pure else []
    if parts is None or not parts.pairs:
        return tlvs
    if (parts.digest, parts.pure) != (digest, options.pure):
        expected, found = (
            f"{name}{', pure' if pure else ''}"
            for name, pure in ((digest, options.pure), (parts.digest, parts.pure))
        )
        raise unfit("signatures that the image has", expected, found)
    for pair in parts.pairs:
        tlvs += [pair.key, pair.signature]
    return tlvs


def _name_of_key(public: Any, digest: str, options: McubootOptions) -> tuple[int, bytes]:
    if options.full_key:
        return PUBLIC_KEY, key_bytes(public)
    return KEY_HASH, key_hash(public, digest)


def _area(order: str, magic: int, tlvs: Tlvs) -> bytes:
    """Return a TLV area; in big-endian images imgtool writes a known type as a byte and a zero."""
    made = b"".join(
        (struct.pack("BB", kind, 0) if kind < 0xA0 else struct.pack(order + "H", kind))
        + struct.pack(order + "H", len(value))
        + value
        for kind, value in tlvs
    )
    if PAIR_SIZE + len(made) > 0xFFFF:
        raise unfit("tlvs of the image", "at most 65535 bytes", f"{PAIR_SIZE + len(made)} bytes")
    return struct.pack(order + "HH", magic, PAIR_SIZE + len(made)) + made


def _filled(signed: bytes, order: str, options: McubootOptions) -> bytes:
    """Check that the image fits its slot, and fill the slot if that is wanted."""
    trailer = trailer_size(options)
    if options.slot_size and len(signed) + trailer > options.slot_size:
        expected = f"at most {options.slot_size} bytes, the slot's size"
        found = f"{len(signed)} bytes and a trailer of {trailer} bytes"
        raise unfit("mcuboot image", expected, found)
    if not options.pad and not options.confirm:
        return signed
    most = max_align(options)
    magic = TRAILER_MAGIC if most == 8 else struct.pack(order + "H", most) + MAGIC_ALIGNED
    slot = bytearray(signed.ljust(options.slot_size - len(magic), bytes([options.erased])) + magic)
    if options.confirm and not options.overwrite_only:
        slot[-(-(-16 // most) * most) - most] = 1
    return bytes(slot)


def _boot_record(
    kind: str, version: tuple[int, int, int, int], digest: str, signer: bytes
) -> bytes:
    """Return the record for attestation, a CBOR map in imgtool's order.

    The boot loader puts the measurement in place of the zeros, which so must come last. Source:
    Arm's PSA attestation API 1.0.
    """

    def text(value: str) -> bytes:
        return bytes([0x60 + len(value)]) + value.encode()

    def octets(value: bytes) -> bytes:
        return bytes([0x58, len(value)]) + value

    values = (
        (1, text(kind)),
        (4, text(".".join(map(str, version[:3])))),
        (5, octets(signer)),
        (6, text(digest.replace("-", ""))),
        (2, octets(bytes(len(signer)))),
    )
    return bytes([0xA0 + len(values)]) + b"".join(bytes([name]) + value for name, value in values)
