# SPDX-License-Identifier: Apache-2.0
"""The options of an MCUboot image, in imgtool's words, and the numbers that they become."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fwsign.errors import Failed

_VERSION: Final = re.compile(
    r"(0|[1-9]\d*)(?:\.(0|[1-9]\d*)(?:\.(0|[1-9]\d*)(?:\+(0|[1-9]\d*))?)?)?"
)
_HEX: Final = re.compile("([0-9a-fA-F]{2})*")
_VERSION_LIMITS: Final = (0xFF, 0xFF, 0xFFFF, 0xFFFFFFFF)
_WORD: Final = 0xFFFFFFFF
_POWERS: Final = (1, 2, 4, 8, 16, 32)
MAX_SECURITY_COUNTER: Final = _WORD
MAX_SLOT: Final = 64 * 1024 * 1024
"""Bytes of a slot that is filled: as many as an image has whose signature is read."""
MAX_BOOT_RECORD: Final = 12
"""Characters of the type of a software component, as imgtool limits them."""
_VENDOR_TLVS: Final = range(0xA0, 0xFFFF)


class McubootOptions(NamedTuple):
    """How an image is laid out; each field is imgtool's option of that name.

    An image that has a header already keeps it, and its protected TLVs: only the security counter,
    keys and signatures change.

    Args:
        version: MAJOR.MINOR.REVISION+BUILD, later parts optional; "" for 0, or that of the header.
        header_size: in bytes; 0 if the image has a header already.
        pad_header: put the header before the image; else its room is there, all zeros.
        slot_size: in bytes; with it the image and its trailer must fit. 0 checks nothing.
        align: the least that flash writes at once, for the size of the trailer.
        max_align: the larger of both slots' alignments; 0 for 8, or more if `align` is.
        max_sectors: sectors of a slot that swaps record.
        overwrite_only: upgrades overwrite, and the trailer is short.
        pad: fill the slot and write a trailer, which marks the image for a test.
        confirm: `pad`, and mark it confirmed.
        big_endian: the target's byte order.
        load_address: where it runs in RAM; 0 for flash.
        rom_fixed: where in flash it must be; 0 for anywhere.
        erased: what erased flash reads as, 0xFF or 0.
        non_bootable: nothing that starts.
        digest: "SHA-256", "SHA-384" or "SHA-512"; "" for what suits the key.
        pure: Ed25519 signs the image, not its digest.
        full_key: write the public key, not its hash.
        boot_record: the type of the software component; "" for no record.
        dependencies: other images by number, each with the least version.
        custom: protected TLVs of the vendor's own types, from 0xA0 on, with values in hex.
    """

    version: str = ""
    header_size: int = 0
    pad_header: bool = False
    slot_size: int = 0
    align: int = 1
    max_align: int = 0
    max_sectors: int = 128
    overwrite_only: bool = False
    pad: bool = False
    confirm: bool = False
    big_endian: bool = False
    load_address: int = 0
    rom_fixed: int = 0
    erased: int = 0xFF
    non_bootable: bool = False
    digest: str = ""
    pure: bool = False
    full_key: bool = False
    boot_record: str = ""
    dependencies: tuple[tuple[int, str], ...] = ()
    custom: tuple[tuple[int, str], ...] = ()


def unfit(what: str, expected: object, found: object) -> Failed:
    """Return the refusal of an option, or of an image that the options do not fit."""
    message = f"{what}: expected {expected}, found {found}"
    return Failed("io.format", message, expected=expected, found=found)


def numbers(version: str) -> tuple[int, int, int, int]:
    """Return the four numbers of a version; those that are left out are 0.

    Raises:
        Failed: `io.format`.
    """
    found = _VERSION.fullmatch(version)
    parts = tuple(int(one or 0) for one in found.groups()) if found else ()
    if not parts or any(one > most for one, most in zip(parts, _VERSION_LIMITS, strict=True)):
        expected = "MAJOR.MINOR.REVISION+BUILD of at most 255.255.65535+4294967295"
        raise unfit("version of an mcuboot image", expected, f'"{version}"')
    return (parts[0], parts[1], parts[2], parts[3])


def check(options: McubootOptions, security_version: int | None) -> None:
    """Refuse options that contradict each other, or have no meaning.

    Raises:
        Failed: `io.format`.
    """
    if security_version is not None and security_version not in range(MAX_SECURITY_COUNTER + 1):
        raise unfit("security counter", f"0 to {MAX_SECURITY_COUNTER}", security_version)
    _check_numbers(options)
    if options.load_address and options.rom_fixed:
        both = f"{options.load_address:#x} and {options.rom_fixed:#x}"
        raise unfit("load address and rom-fixed address", "one of them", both)
    if (options.pad or options.confirm) and not options.slot_size:
        raise unfit("slot size", "a size, since the slot is filled", "none")
    if len(options.boot_record) > MAX_BOOT_RECORD or not options.boot_record.isascii():
        expected = f"at most {MAX_BOOT_RECORD} ascii characters"
        raise unfit("boot record", expected, f'"{options.boot_record}"')
    for kind, text in options.custom:
        if not _HEX.fullmatch(text):
            raise unfit(f"value of custom tlv {kind:#06x}", "hex, two digits a byte", f'"{text}"')
        if kind not in _VENDOR_TLVS or not 0xA0 <= kind & 0xFF <= 0xFE:
            raise unfit("type of a custom tlv", "a low byte of 0xa0 to 0xfe", f"{kind:#06x}")
    kinds = [kind for kind, _ in options.custom]
    if len(set(kinds)) < len(kinds):
        raise unfit("custom tlvs", "each type once", ", ".join(f"{one:#06x}" for one in kinds))


def _check_numbers(options: McubootOptions) -> None:
    for name, value, allowed in (
        ("align", options.align, _POWERS),
        ("max-align", options.max_align, (0, *_POWERS[3:])),
        ("erased value", options.erased, (0xFF, 0)),
    ):
        if value not in allowed:
            raise unfit(name, " or ".join(map(str, allowed)), value)
    for name, value, most in (
        ("slot size", options.slot_size, MAX_SLOT),
        ("load address", options.load_address, _WORD),
        ("rom-fixed address", options.rom_fixed, _WORD),
        *((f"dependency {one}", one, 0xFF) for one, _ in options.dependencies),
    ):
        if not 0 <= value <= most:
            raise unfit(name, f"0 to {most}", value)


def trailer_size(options: McubootOptions) -> int:
    """Return the bytes at the end of a slot that the boot loader needs for itself."""
    most = max_align(options)
    magic = -(-16 // most) * most
    if options.overwrite_only:
        return 2 * most + magic
    return options.max_sectors * 3 * options.align + 4 * most + magic


def max_align(options: McubootOptions) -> int:
    """Return the larger alignment of both slots."""
    return options.max_align or max(8, options.align)
