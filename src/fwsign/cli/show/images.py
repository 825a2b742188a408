# SPDX-License-Identifier: Apache-2.0
"""The card of a firmware image for `fwsign show`: what it is, what it needs, and its map."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fwsign.errors import FwsignError, Malformed
from fwsign.images import glance, recognise
from fwsign.images.base import Image, ImagePart, Needs

if TYPE_CHECKING:
    from fwsign.native import NativeSignature

_BAR: Final = 10
"""Columns of the bar that shows how full a partition is."""
_MAP_WIDTH: Final = 78
"""Columns of the map, which is indented by two on a terminal of 80."""
_KINDS: Final = {"partition table": "ESP partition table", "ota data": "ESP OTA data"}
_TYPES: Final = {0: "application", 1: "data", 2: "boot loader", 3: "partition table"}


def card(opened: BinaryIO, head: bytes, size: int) -> dict[str, Any]:
    """Describe a file as an image; a damaged one by its claims.

    Args:
        opened: the file.
        head: its first bytes.
        size: its size.
    """
    damage = None
    try:
        image = recognise(opened)
    except Malformed as error:  # its claims are shown anyway
        image, damage = glance(head), error.message
        if image.kind == "unknown":  # it was told by what follows its header
            image = Image("esp")
    kind = "unknown" if image.kind == "unknown" else f"{image.kind} image"
    kind = _KINDS.get(image.role or "", kind)
    found: dict[str, Any] = {
        "kind": f"{kind}, damaged" if damage else kind,
        "damage": damage,
        "size": size,
        "role": image.role if image.role not in _KINDS else None,
        "chip": image.chip,
        "project": image.project,
        "version": image.version,
        "usual offset": None if image.offset is None else f"0x{image.offset:x}",
        "needs": _needs_in_words(image),
    }
    if image.places:
        found["usual places"] = [f"{chip}@0x{offset:x}" for chip, offset in image.places]
    mapped = _map(opened, image, size)
    details = _gathered(image.details)
    if mapped:  # the same as values
        details = {key: value for key, value in details.items() if key[:10] != "partition "}
    found |= details
    doubts = [f"{one.label or one.role}: {one.doubt}" for one in image.parts if one.doubt]
    found |= _native(opened, size) if damage is None else {}
    found["notes"] = [*image.notes, *doubts]
    found["parts"] = [_part(one) for one in image.parts] if mapped or image.chip else []
    found["map"] = mapped
    return found


def _native(opened: BinaryIO, size: int) -> dict[str, Any]:
    """Return the native signatures of an image: verified with their keys, whoever has these."""
    from fwsign import native
    from fwsign.native.agreement import MAX_IMAGE

    if size > MAX_IMAGE:
        return {}
    opened.seek(0)
    try:
        found = native.read(opened.read())
    except FwsignError as error:
        return {"native signature": f"bad: {error.message}"}
    if found is None:
        return {}
    return {
        "native signature": found.kind,
        "security version": found.security_version,
        "native keys": list(map(_native_key, found.signatures)),
    }


def _native_key(one: "NativeSignature") -> str:
    left = " (not checked: the image has no key)" if one.public_key is None else ""
    return f"{one.key_digest.hex()} {one.algorithm}{left}"


def _gathered(details: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return details by name; those that have one name become a list."""
    found: dict[str, Any] = {}
    for name, value in details:
        before = found.get(name, [])
        found[name] = [*([before] if isinstance(before, str) else before), value]
        if len(found[name]) == 1:
            found[name] = value
    return found


def _needs_in_words(image: Image) -> str | None:
    """Say what an ESP's image needs of its board."""
    first = next((one for one in image.parts if one.needs), None)
    if first is None or first.needs is None:
        return None
    from fwsign.images.esp_chips import size_name
    from fwsign.images.esp_image import revision_name

    needs = first.needs
    lowest = revision_name(needs.min_revision)
    if needs.max_revision is not None:
        revision = f"{image.chip} of revision {lowest} to {revision_name(needs.max_revision)}"
    else:
        revision = f"{image.chip} of revision {lowest} or newer"
    flash = f"{size_name(needs.flash_size)} of flash" if needs.flash_size else "flash of any size"
    speed = f" at {needs.flash_frequency[:-1]} MHz" if needs.flash_frequency else ""
    words = [revision, f"{flash} ({needs.flash_mode}{speed})"]
    if image.role == "application":
        words.append("a boot loader, and a partition for it in the table")
    elif image.offset is not None:
        words.append(f"its place at 0x{image.offset:x}")
    return "; ".join(words)


def _part(part: ImagePart) -> dict[str, Any]:
    """Return the facts of a part as values."""
    return {
        "role": part.role,
        "partition": part.label,
        "start": part.start,
        "end": part.end,
        "chip": part.chip,
        "needs": _needs(part.needs),
        "secure boot": list(part.secure_boot) or None,
        "does not start": part.unstartable,
    }


def _needs(needs: Needs | None) -> dict[str, Any] | None:
    if needs is None:
        return None
    return {
        "lowest revision": needs.min_revision,
        "highest revision": needs.max_revision,
        "flash size": needs.flash_size,
        "flash mode": needs.flash_mode,
        "flash frequency": needs.flash_frequency,
    }


def _map(opened: BinaryIO, image: Image, size: int) -> list[dict[str, Any]]:
    """Return the regions of flash that a merged file or a partition table names, and the gaps."""
    table = next((one for one in image.parts if one.role == "partition table"), None)
    if table is None:
        return []
    from fwsign.images.esp_data import TABLE_OFFSET
    from fwsign.images.esp_partitions import SECTOR, partitions

    alone = image.role == "partition table"
    base = TABLE_OFFSET if alone else image.offset or 0
    held = {one.label or one.role: one for one in image.parts}
    regions = [_region("partition table", None, base + table.start, SECTOR, SECTOR)]
    if (boot := held.get("boot loader")) is not None:
        length = boot.end - boot.start
        regions.append(_region("boot loader", None, base + boot.start, length, length))
    for row in partitions(opened, table.start):
        kind = _TYPES.get(row.type, f"type {row.type}")
        inside = not alone and 0 <= row.offset - base < size
        used = 0 if row.is_app else None
        if row.label in held:
            used = held[row.label].end - held[row.label].start
        region = _region(row.label, kind, row.offset, row.size, used if inside else None)
        regions.append(region | {"in the file": inside})
    return list(_with_gaps(sorted(regions, key=lambda one: int(one["start"]))))


def _region(
    name: str | None, kind: str | None, start: int, size: int, used: int | None
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "start": start,
        "size": size,
        "used": used,
        "in the file": used is not None,
    }


def _with_gaps(regions: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    end = 0
    for one in regions:
        if one["start"] > end:
            yield _region(None, "unused", end, one["start"] - end, None)
        yield one
        end = max(end, one["start"] + one["size"])


def picture(regions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Draw a map of flash in lines of at most `_MAP_WIDTH` columns.

    A bar shows how much of a region an image fills (#), the rest of it (-), and what the file does
    not have (.).
    """
    for one in regions:
        used, size = one["used"], one["size"]
        filled = 0 if not used else max(1, min(_BAR, _BAR * used // size))
        rest = "-" if one["in the file"] else "."
        bar = "#" * filled + rest * (_BAR - filled) if one["name"] is not None else " " * _BAR
        words = one["kind"] or ""
        if one["kind"] == "application" and used is not None:
            words += f": {_size(used)}" if used else ": none"
        line = f"0x{one['start']:08x}  {bar}  {one['name'] or '':16} {_size(size):>10}  {words}"
        yield line.rstrip()[:_MAP_WIDTH]


def _size(size: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}".replace(".0 ", " ")
    return f"{size} B"
