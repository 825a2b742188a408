# SPDX-License-Identifier: Apache-2.0
"""The content of a Pico: its program, by the binary info that Raspberry Pi's SDK puts into it.

    f2eb8871, start (u32), end (u32), table (u32), 90a31ae7

This is near the program's beginning: magic, the list's start and end, a table of other addresses,
magic. The list has addresses of entries: type (u16), tag (u16), id (u32), address of a text.
Source: pico-sdk, `pico/binary_info`; little-endian. These are the program's own words.
"""

import struct
from collections.abc import Iterator
from typing import Final

from fwsign.flash.boards.board import BoardInfo
from fwsign.flash.boards.content import BoardContent, BoardEntry, ReadAll
from fwsign.images.rp_chips import FLASH

_WINDOW: Final = 2048  # bytes at the beginning in which the list is announced
_BEGIN, _END = struct.pack("<I", 0x7188EBF2), struct.pack("<I", 0xE71AA390)
_TEXT: Final = (6, 0x5052)  # type: an id and a text; tag: "RP"
_NAME, _VERSION, _BUILT, _SDK = 0x02031C86, 0x11A9BC3A, 0x9DA22254, 0x5360B3AB
_MOST_ENTRIES: Final = 256
_LONGEST: Final = 128  # bytes of a text


def look(read: ReadAll, info: BoardInfo) -> BoardContent:
    """Read the beginning of the program, and its binary info.

    Args:
        read: reads the board's flash.
        info: what the board says of itself.

    Raises:
        Failed: `device.*`.
    """
    head = read(info.start, _WINDOW)
    if not head.strip(b"\xff"):
        return BoardContent((BoardEntry("program", info.start, None, "blank"),))
    end = info.flash_size or 1 << 24
    texts = dict(_texts(head, read, info.start, end))
    named = ((words, texts.get(key)) for words, key in (("built", _BUILT), ("sdk", _SDK)))
    details = tuple((words, text) for words, text in named if text)
    holds = "application" if texts else "unknown"
    name, version = texts.get(_NAME), texts.get(_VERSION)
    return BoardContent(
        (BoardEntry("program", info.start, None, holds, name, version, None, details),)
    )


def _texts(head: bytes, read: ReadAll, start: int, end: int) -> Iterator[tuple[int, str]]:
    """Yield the texts of the binary info by their ids."""
    at = head.find(_BEGIN)
    while at >= 0 and (at % 4 or head[at + 16 : at + 20] != _END):
        at = head.find(_BEGIN, at + 1)
    if at < 0:
        return
    first, last = (one - FLASH for one in struct.unpack_from("<II", head, at + 4))
    count = (last - first) // 4
    if not (start <= first < last <= end and count <= _MOST_ENTRIES):
        return
    for (address,) in struct.iter_unpack("<I", read(first, 4 * count)):
        place = address - FLASH
        if not start <= place <= end - 12:
            continue
        kind, tag, key, text = struct.unpack("<HHII", read(place, 12))
        if (kind, tag) == _TEXT and start <= text - FLASH < end:
            words = read(text - FLASH, min(_LONGEST, end - (text - FLASH))).split(b"\0", 1)[0]
            yield key, words.decode("utf-8", "backslashreplace")
