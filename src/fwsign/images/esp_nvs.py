# SPDX-License-Identifier: Apache-2.0
"""Write a partition of ESP-IDF's non-volatile storage (NVS), with pages of version 2.

A page is a sector: a header, a map of two bits for each entry, and 126 entries of 32 bytes. A value
is one entry (numbers), an entry and its text, or for blobs a chunk on each page and an index. The
same entries make the same bytes. Erased bytes follow the last page: one page at least, which
ESP-IDF needs free.

Source: ESP-IDF programming guide, "Non-Volatile Storage Library", section "Internals"; numbers are
little-endian.
"""

import binascii
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.images.esp_partitions import SECTOR

SUBTYPE: Final = 2
"""The subtype of NVS among the partitions of type data."""
MIN_SIZE: Final = 3 * SECTOR
"""Bytes of the smallest partition that ESP-IDF opens for writing."""
MAX_NAME: Final = 15
"""Characters of a namespace or a key."""
MAX_STRING: Final = 3999
"""Bytes of a text, without its zero byte: it lies on one page."""
MAX_BLOB: Final = 32 * 1024
"""Bytes of a blob; ESP-IDF takes fifteen times as many, but nobody writes those into a cell."""
MAX_NAMESPACES: Final = 254

NUMBERS: Final[Mapping[str, tuple[int, int, bool]]] = MappingProxyType(
    {
        "u8": (0x01, 1, False),
        "i8": (0x11, 1, True),
        "u16": (0x02, 2, False),
        "i16": (0x12, 2, True),
        "u32": (0x04, 4, False),
        "i32": (0x14, 4, True),
        "u64": (0x08, 8, False),
        "i64": (0x18, 8, True),
    }
)
"""The types of numbers: code, size in bytes, whether signed."""
TYPES: Final = (*NUMBERS, "string", "blob")

_STATE_ACTIVE, _STATE_FULL = 0xFFFFFFFE, 0xFFFFFFFC
_VERSION_2 = 0xFE
_ENTRIES: Final = 126
_ENTRY: Final = 32
_U8, _STRING, _BLOB_DATA, _BLOB_INDEX = 0x01, 0x21, 0x42, 0x48
_ANY = 0xFF  # the chunk of what has no chunks


class NvsEntry(NamedTuple):
    """A value under its key. Values may be secrets, and are not in the representation.

    Args:
        namespace: 1 to `MAX_NAME` characters of ASCII.
        key: the same.
        type: one of `TYPES`.
        data: the number in little-endian bytes, the text in UTF-8, or the blob.
    """

    namespace: str
    key: str
    type: str
    data: bytes

    def __repr__(self) -> str:
        """Name the value, and do not show it."""
        return f"<{self.namespace}/{self.key}, {self.type}>"


def partition(entries: Sequence[NvsEntry], size: int) -> bytes:
    """Return the content of a whole partition.

    Args:
        entries: the values, in the order of writing; no key twice in a namespace.
        size: the partition's size in bytes, in whole sectors.

    Raises:
        Failed: `state.limit`: they do not fit.
    """
    if size % SECTOR or size < MIN_SIZE:
        raise _limit(f"a multiple of {SECTOR} from {MIN_SIZE} on", f"{size} bytes for NVS")
    pages = _Pages()
    indexes: dict[str, int] = {}
    for entry in entries:
        if entry.namespace not in indexes:
            if len(indexes) == MAX_NAMESPACES:
                raise _limit(f"at most {MAX_NAMESPACES} namespaces in NVS", "more")
            indexes[entry.namespace] = index = len(indexes) + 1
            pages.add(_entry(0, _U8, entry.namespace, bytes([index])))
        _write(pages, indexes[entry.namespace], entry)
    content = pages.content()
    room = size - SECTOR
    if len(content) > room:
        raise _limit(f"at most {room // SECTOR} pages of NVS", f"{len(content) // SECTOR} pages")
    return content.ljust(size, b"\xff")


def _write(pages: "_Pages", index: int, entry: NvsEntry) -> None:
    if entry.type in NUMBERS:
        pages.add(_entry(index, NUMBERS[entry.type][0], entry.key, entry.data))
    elif entry.type == "string":
        pages.add(*_long(index, _STRING, entry.key, entry.data + b"\0", _ANY))
    else:
        _write_blob(pages, index, entry)


def _write_blob(pages: "_Pages", index: int, entry: NvsEntry) -> None:
    """Write the chunks of a blob, the first one on the rest of the page, and the index last."""
    if not pages.room:
        pages.turn()
    count, left = 0, entry.data
    while True:
        room = (pages.room - 1) * _ENTRY
        pages.add(*_long(index, _BLOB_DATA, entry.key, left[:room], count))
        count, left = count + 1, left[room:]
        if not pages.room:
            pages.turn()
        if not left:
            break
    facts = struct.pack("<IBB", len(entry.data), count, 0)
    pages.add(_entry(index, _BLOB_INDEX, entry.key, facts))


def _long(index: int, code: int, key: str, data: bytes, chunk: int) -> list[bytes]:
    """Return the entries of a text or chunk: one about it, then its bytes."""
    pieces = [data[at : at + _ENTRY] for at in range(0, len(data), _ENTRY)]
    facts = struct.pack("<H2sI", len(data), b"\xff\xff", _crc(data))
    head = _entry(index, code, key, facts, span=len(pieces) + 1, chunk=chunk)
    return [head, *(piece.ljust(_ENTRY, b"\xff") for piece in pieces)]


def _entry(
    index: int, code: int, key: str, data: bytes, *, span: int = 1, chunk: int = _ANY
) -> bytes:
    """Return an entry; its CRC covers everything but itself."""
    head = bytes([index, code, span, chunk])
    rest = key.encode("ascii").ljust(MAX_NAME + 1, b"\0") + data.ljust(8, b"\xff")
    return head + _crc(head + rest).to_bytes(4, "little") + rest


class _Pages:
    """Pages that are filled one after the other."""

    def __init__(self) -> None:
        self._pages: list[list[bytes]] = [[]]

    @property
    def room(self) -> int:
        """The number of free entries on the page."""
        return _ENTRIES - len(self._pages[-1])

    def turn(self) -> None:
        """Begin the next page."""
        self._pages.append([])

    def add(self, *entries: bytes) -> None:
        """Add entries that belong together, on one page.

        Espressif's generator keeps an entry free on a page that a text would fill, and so do we.
        """
        page = self._pages[-1]
        keeps_one = len(entries) > 1 and entries[0][1] == _STRING
        if page and len(page) + len(entries) + keeps_one > _ENTRIES:
            self.turn()
        self._pages[-1].extend(entries)

    def content(self) -> bytes:
        """Return the bytes of all pages."""
        last = len(self._pages) - 1
        return b"".join(
            _page(number, entries, _STATE_FULL if number < last else _STATE_ACTIVE)
            for number, entries in enumerate(self._pages)
        )


def _page(number: int, entries: Sequence[bytes], state: int) -> bytes:
    head = struct.pack("<IIB", state, number, _VERSION_2).ljust(28, b"\xff")
    crc = _crc(head[4:]).to_bytes(4, "little")
    bits = (1 << 8 * _ENTRY) - 1
    for one in range(len(entries)):  # the lower of an entry's two bits is cleared
        bits ^= 1 << 2 * one
    return b"".join([head, crc, bits.to_bytes(_ENTRY, "little"), *entries]).ljust(SECTOR, b"\xff")


def _crc(data: bytes) -> int:
    return binascii.crc32(data, 0xFFFFFFFF)


def _limit(expected: str, found: str) -> Failed:
    message = f"the data does not fit: expected {expected}, found {found}"
    return Failed("state.limit", message, expected=expected, found=found)
