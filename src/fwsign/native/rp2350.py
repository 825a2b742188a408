# SPDX-License-Identifier: Apache-2.0
"""The RP2350's own signature: seal images as picotool does, with keys that are held anywhere.

The boot ROM knows secp256k1 alone, and up to four keys by their digests. An image has one
signature. A block is added at its end: a copy of the last block's items, the load map, the hash and
the signature. Few tokens have secp256k1: AWS KMS, SoftHSM and files do.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.errors import Failed, Unsuitable
from fwsign.format import cose
from fwsign.images import pico_loop
from fwsign.images.pico_loop import (
    ENTRY_POINT,
    HASH_DEF,
    HASH_VALUE,
    IGNORED,
    IMAGE_TYPE,
    LOAD_MAP,
    PARTITION_TABLE,
    SALT,
    SIGNATURE,
    VECTOR_TABLE,
    VERSION,
    PicoBlock,
    read_loop,
)
from fwsign.images.rp_chips import BY_NAME
from fwsign.keys.held import Scheme
from fwsign.native import unsupported
from fwsign.native.rp2350_file import PicoFile, read_file
from fwsign.native.rp2350_options import (
    DEFAULT_ROWS,
    VERSIONS_A_ROW,
    Rp2350Options,
    rows_of,
    unfit,
    version_of,
)
from fwsign.native.rp2350_read import (
    HASH_VALUE_HEAD,
    KIND,
    SHA256,
    SIGNATURE_HEAD,
    TRY_BEFORE_YOU_BUY,
    read,
    remarks,
    rollback_of,
    sealing_block,
    type_of,
    verifies,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.keys.held import HeldKey

__all__ = [
    "OPTIONS",
    "Rp2350Options",
    "key_point",
    "otp_json",
    "read",
    "remarks",
    "same",
    "sign",
    "suits",
]

OPTIONS: Final = Rp2350Options
MAX_KEYS: Final = 4
"""Digests of keys that OTP has room for."""
_ENTRY_GIVEN: Final = 0x0800 << 16
"""A flag that picotool sets in the type of Arm images whose entry point stands in the block."""
_REMADE: Final = (SIGNATURE, HASH_VALUE, HASH_DEF)


def sign(
    image: bytes,
    keys: Sequence[HeldKey],
    *,
    security_version: int | None = None,
    options: Rp2350Options | None = None,
) -> bytes:
    """Return a sealed image, in the form of the given one.

    Args:
        image: a .bin for the start of flash, or a .uf2 file with one image.
        keys: one key of secp256k1.
        security_version: the rollback version; None: as the image has it, or none.
        options: version, and the rows of OTP.

    Raises:
        Malformed: `malformed.image`; Tampered: `tampered.native`: it was sealed wrongly before.
        Unsuitable: `unsuitable.security-version`: sealed already, with another one.
        Failed: `io.format`: an image that cannot be sealed; `key.*`.
    """
    options = options or Rp2350Options()
    key = _only(keys)
    file = read_file(image)
    loop = read_loop(file.memory) if file else ()
    if file is None or not loop:
        found = "none" if file else "a uf2 file with none, or several"
        raise unfit("image", "one for rp2350, with a block in its first 4 KiB", found)
    if _in_ram(file.address):
        raise unfit("image", "one that runs in flash", f"one at {file.address:#010x}, in ram")
    if sealing_block(loop) is not None:
        return _sealed_already(image, key, security_version)
    source = _source(loop)
    memory = bytearray(file.memory)
    memory += bytes(-len(memory) % 4)
    at = len(memory)
    pico_loop.patch(memory, loop[-1].at + loop[-1].size - 8, at - loop[-1].at)
    items, security_version = _versioned(source, security_version, options)
    if security_version is not None:
        _ignore_others(memory, loop)
    file = file._replace(memory=bytes(memory))
    items = _entered(items, source, file)
    made = _block(file, items, loop[0].at - at, key)
    sealed = file.with_memory(file.memory + made)
    read(sealed)  # as the boot ROM would
    return sealed


def suits(image: bytes) -> bool:
    """Tell whether a file has an image for this chip."""
    file = read_file(image)
    return file is not None and bool(read_loop(file.memory))


def same(image: bytes, signed: bytes) -> bool:
    """Tell whether two images are the same apart from their signatures."""
    one, two = (_unsigned(read_file(data)) for data in (image, signed))
    return one is not None and one == two


def _unsigned(file: PicoFile | None) -> PicoFile | None:
    """Return a file with its signature taken out; None if it has none."""
    block = sealing_block(read_loop(file.memory)) if file else None
    item = block.find(SIGNATURE) if block else None
    if file is None or item is None:
        return None
    start = item.at + 4 + 64  # after the head and the key
    return file._replace(memory=file.memory[:start] + bytes(64) + file.memory[start + 64 :])


def key_point(public: Any) -> bytes:
    """Return a public key as the boot ROM has it, X and Y of 32 bytes each; BOOTKEY is its SHA-256.

    Raises:
        Failed: `key.unsupported`: not of secp256k1.
    """
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256k1":
        name = cose.key_name(public)
        raise unsupported(
            KIND, f"the boot ROM knows keys of secp256k1 alone, found {name}", "secp256k1", name
        )
    numbers = public.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def otp_json(publics: Sequence[Any]) -> str:
    """Return what `picotool otp load` writes into a chip, so that it starts no other keys' images.

    Nothing in fwsign writes it: OTP cannot be undone.

    Args:
        publics: one to four keys; the first one is BOOTKEY0.

    Raises:
        Failed: `key.unsupported`.
    """
    if not 1 <= len(publics) <= MAX_KEYS:
        raise unsupported(KIND, f"otp has room for {MAX_KEYS} keys", MAX_KEYS, len(publics))
    content: dict[str, Any] = {
        f"bootkey{number}": list(hashlib.sha256(key_point(one)).digest())
        for number, one in enumerate(publics)
    }
    content["crit1"] = {"secure_boot_enable": 1}
    content["boot_flags1"] = {"key_valid": (1 << len(publics)) - 1}
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def _only(keys: Sequence[HeldKey]) -> HeldKey:
    if len(keys) != 1:
        raise unsupported(KIND, "an image has one signature", "one key", len(keys))
    key_point(keys[0].public_key)
    return keys[0]


def _sealed_already(image: bytes, key: HeldKey, security_version: int | None) -> bytes:
    """Return the image if it has this seal already: a seal is not taken off again."""
    found = read(image)
    assert found is not None  # noqa: S101 - it has a signature
    if security_version not in {None, found.security_version}:
        raise Unsuitable(
            "unsuitable.security-version",
            f"{KIND}: the image is sealed with rollback version {found.security_version}, "
            f"and {security_version} was asked for",
            expected=security_version,
            found=found.security_version,
        )
    own = hashlib.sha256(key_point(key.public_key)).digest()
    if found.key_digests != (own,):
        raise unfit(
            "image", "one that is not sealed", f"a seal by key {found.key_digests[0].hex()}"
        )
    return image


def _source(loop: tuple[PicoBlock, ...]) -> PicoBlock:
    """Return the block whose items are sealed: the last one with a type, else the first."""
    source = loop[-1] if loop[-1].find(IMAGE_TYPE) else loop[0]
    item = source.find(IMAGE_TYPE)
    kind = type_of(item) if item else None
    if kind is None or (kind.kind, kind.chip) != (1, 1):
        raise unfit("image", "an executable for rp2350", "a block of another type")
    if kind.security == 1:
        raise unfit("image", "a secure one, which the boot ROM starts", "a non-secure one")
    if source.find(LOAD_MAP):
        raise unfit("image", "one that runs in flash", "one with a load map of its own")
    for unknown in (SALT, PARTITION_TABLE):
        if source.find(unknown):
            raise unfit("image", "an executable alone", f"an item of type {unknown:#04x}")
    return source


def _versioned(
    source: PicoBlock, security_version: int | None, options: Rp2350Options
) -> tuple[list[list[int]], int | None]:
    """Return the items with their version, and the rollback version."""
    asked, rows = version_of(options), rows_of(options)
    items = [list(one.words) for one in source.items if one.kind not in _REMADE]
    old = source.find(VERSION)
    had, own_rows = rollback_of(source)
    security_version = had if security_version is None else security_version
    rows = rows or own_rows or DEFAULT_ROWS
    if asked is None and not options.rows and security_version == had:
        return items, security_version
    number = (asked[0] << 16 | asked[1]) if asked else old.words[1] if old else 0
    items = [one for one in items if one[0] & 0x7F != VERSION]
    if security_version is None:
        if options.rows:
            raise unfit("rows", "a rollback version with them", "none")
        return [*items, [VERSION | 2 << 8, number]], None
    if not 0 <= security_version <= VERSIONS_A_ROW * len(rows):
        most = f"0 to {VERSIONS_A_ROW * len(rows)}, which {len(rows)} rows of otp can count"
        raise unfit("rollback version", most, security_version)
    halves = [security_version, *rows, *([] if len(rows) % 2 else [0])]
    words = struct.unpack(f"<{len(halves) // 2}I", struct.pack(f"<{len(halves)}H", *halves))
    size = 2 + len(words)
    return [*items, [VERSION | size << 8 | len(rows) << 24, number, *words]], security_version


def _ignore_others(memory: bytearray, loop: tuple[PicoBlock, ...]) -> None:
    """Erratum RP2350-E13: a block without the rollback version must not be taken for the image."""
    for block in loop:
        if block.items and block.items[0].kind != PARTITION_TABLE:
            memory[block.at + 4] = IGNORED


def _entered(items: list[list[int]], source: PicoBlock, file: PicoFile) -> list[list[int]]:
    """State the vector table and the entry point of an Arm image: then they are signed, too."""
    kind = source.find(IMAGE_TYPE)
    if kind is None or not type_of(kind).is_arm:
        return items
    items = [
        [one[0] | _ENTRY_GIVEN, *one[1:]] if one[0] & 0x7F == IMAGE_TYPE else one for one in items
    ]
    if source.find(ENTRY_POINT):
        return items
    table = source.find(VECTOR_TABLE)
    address = table.words[1] if table else file.address
    at = address - file.address
    if _in_ram(address):
        raise unfit("image", "one that runs in flash", f"a vector table at {address:#010x}, in ram")
    if at % 4 or not 0 <= at <= len(file.memory) - 8:
        raise unfit("vector table", "a place in the image", f"{address:#010x}")
    stack, entry = struct.unpack_from("<II", file.memory, at)
    added = [] if table else [[VECTOR_TABLE | 2 << 8, address]]
    return [*items, *added, [ENTRY_POINT | 3 << 8, entry, stack]]


def _in_ram(address: int) -> bool:
    return any(address in memory for memory in BY_NAME["rp2350"].rams)


def _block(file: PicoFile, items: list[list[int]], first: int, key: HeldKey) -> bytes:
    """Return the sealing block.

    Args:
        file: all that comes before it.
        items: those of the image.
        first: the distance to the first block.
        key: the key.
    """
    at = 1 + sum(map(len, items))  # in words
    start = -(len(file.memory) + 4 * at) & 0xFFFFFFFF  # from the load map to the image
    load_map = [LOAD_MAP | 4 << 8 | 1 << 24, start, file.address, len(file.memory)]
    items = [*items, load_map, [HASH_DEF | 2 << 8 | SHA256 << 24, at + 6]]
    words = [pico_loop.START, *(word for item in items for word in item)]
    signed = list(words)
    if signed[1] & 0x7F == IMAGE_TYPE:
        signed[1] &= ~TRY_BEFORE_YOU_BUY
    digest = hashlib.sha256(file.memory + struct.pack(f"<{len(signed)}I", *signed)).digest()
    raw = key_point(key.public_key) + _signature(key, digest)
    words += [SIGNATURE_HEAD, *struct.unpack("<32I", raw)]
    words += [HASH_VALUE_HEAD, *struct.unpack("<8I", digest)]
    words += [pico_loop.LAST | (len(words) - 1) << 8, first & 0xFFFFFFFF, pico_loop.END]
    return struct.pack(f"<{len(words)}I", *words)


def _signature(key: HeldKey, digest: bytes) -> bytes:
    """Sign a digest, and verify the signature."""
    raw = key.sign_raw(Scheme.ECDSA, digest, "SHA-256")
    public: Any = key.public_key
    if len(raw) != 64 or not verifies(public, raw, digest):
        raise Failed(
            "key.failed",
            f"the signature that {key.place} made does not verify",
            expected="a signature that verifies",
            found="another one",
        )
    return raw
