# SPDX-License-Identifier: Apache-2.0
"""The rest of an MCUboot slot after its image: erased bytes, and the trailer at its end.

    swap status   bytes 1, 2 and 3 between erased ones, for the sectors that were swapped
    swap size     u32
    swap info     type of the swap in the low half of a byte, number of the image in the high one
    copy done     1
    image ok      1: the application has confirmed itself
    magic         16 bytes

Each field has a unit of its own, of 8 bytes or of the alignment that the magic begins with.
Source: MCUboot's design document, "Image trailer".
"""

from typing import Literal, NamedTuple

from fwsign.images.base import Reader, damaged, first_other

MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
MAGIC_ALIGNED = bytes.fromhex("2de15d29410b8d77679c110f1f8a")  # it follows a u16, the alignment
_ALIGNMENTS = (8, 16, 32)  # writes to flash are never larger
_FIELDS = ("image ok", "copy done", "swap info", "swap size")
_FIELDS_SIZE = 2 * 16 + len(_FIELDS) * max(_ALIGNMENTS)
MAX_TRAILER = 1024 * 3 * max(_ALIGNMENTS) + _FIELDS_SIZE
"""Bytes: three entries for each of so many sectors, and the fields."""
_SWAPS = {1: "none", 2: "test", 3: "permanent", 4: "revert", 5: "failed"}


class Trailer(NamedTuple):
    """The rest of a slot.

    Args:
        details: as in `Image.details`.
        swapped: whether a board has swapped this slot.
    """

    details: tuple[tuple[str, str], ...] = ()
    swapped: bool = False


def read(reader: Reader, *, big_endian: bool = False) -> Trailer:
    """Check that only an erased slot follows, all 0xFF or all 0x00, with or without a trailer.

    Args:
        reader: at the first byte after the TLVs.
        big_endian: the target's byte order.

    Raises:
        Malformed: `malformed.image`.
    """
    rest, start = reader.left, reader.position
    if not rest:
        return Trailer()
    erased = reader.peek(1)
    if erased not in {b"\xff", b"\0"}:
        # A slot has at least one erased byte between TLVs and trailer.
        raise damaged("mcuboot", "bytes after the tlvs", "erased flash", f"{erased.hex()}")
    other = first_other(reader, rest, erased)
    padding = ("padding", f"{rest} bytes")
    if other is None:
        return Trailer((padding,))
    if reader.end - other > MAX_TRAILER:
        raise damaged("mcuboot", "bytes after the tlvs", "erased flash", f"others at {other:#x}")
    at = max(start, min(other, reader.end - _FIELDS_SIZE))
    tail = reader.again(at).take(reader.end - at, "trailer")
    trailer = _parse(tail, erased, "big" if big_endian else "little")
    return trailer._replace(details=(padding, *trailer.details))


def _parse(tail: bytes, erased: bytes, order: Literal["little", "big"]) -> Trailer:
    alignment = _alignment(tail[-16:], order)
    if alignment is None:
        raise damaged("mcuboot", "trailer", "erased flash or the magic", tail[-16:].hex())
    end = len(tail) - -(-16 // alignment) * alignment
    if tail[end:-16].strip(erased):
        raise damaged("mcuboot", "trailer", "erased flash before the magic", tail[end:-16].hex())
    values: dict[str, int] = {}
    for name in _FIELDS:
        unit = tail[max(end - alignment, 0) : max(end, 0)]
        end -= alignment
        size = 4 if name == "swap size" else 1
        if unit.strip(erased):
            if len(unit) < alignment or unit[size:].strip(erased):
                raise damaged("mcuboot", name, f"a value of {size} bytes", unit.hex())
            values[name] = int.from_bytes(unit[:size], order)
    status = tail[: max(end, 0)].replace(erased, b"")
    if status.strip(b"\1\2\3"):
        found = status.strip(b"\1\2\3")[:1].hex()
        raise damaged("mcuboot", "swap status", "1, 2, 3 or erased flash", found)
    return _named(values, len(status))


def _alignment(magic: bytes, order: Literal["little", "big"]) -> int | None:
    if magic == MAGIC:
        return _ALIGNMENTS[0]
    alignment = int.from_bytes(magic[:2], order)
    return alignment if magic[2:] == MAGIC_ALIGNED and alignment in _ALIGNMENTS else None


def _named(values: dict[str, int], status: int) -> Trailer:
    for name in ("image ok", "copy done"):
        if values.get(name, 1) != 1:
            raise damaged("mcuboot", name, "1 or erased flash", values[name])
    confirmed = "image ok" in values
    details = [
        ("trailer", "confirmed" if confirmed else "not confirmed" if values else "magic only")
    ]
    if (info := values.get("swap info")) is not None:
        if info & 0xF not in _SWAPS:
            raise damaged("mcuboot", "swap info", "a type of 1 to 5", info & 0xF)
        details.append(("swap", f"{_SWAPS[info & 0xF]}, image {info >> 4}"))
    if "swap size" in values:
        details.append(("swap size", f"{values['swap size']} bytes"))
    if "copy done" in values:
        details.append(("copy done", "yes"))
    if status:
        details.append(("swap status", f"{status} entries"))
    return Trailer(tuple(details), bool(status) or bool(values.keys() - {"image ok"}))
