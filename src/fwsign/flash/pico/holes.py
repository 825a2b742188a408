# SPDX-License-Identifier: Apache-2.0
"""Fill the holes of a UF2 file inside the flash's sectors.

A sector is erased as a whole, but a file may leave pages of it out, and their content may be a
setting of the board. So these bytes are read first and written again with the rest. Power
that is lost in between loses them: they are nowhere else.
"""

from collections.abc import Sequence

from fwsign.errors import Unsuitable
from fwsign.flash.boards.board import BoardInfo, Read, Run
from fwsign.flash.boards.release import Payload


def filled(payload: Payload, runs: Sequence[Run], info: BoardInfo, read: Read) -> list[Run]:
    """Return runs that begin on sectors and share none.

    Args:
        payload: the file, for refusals.
        runs: its contents by offset, in ascending order; none overlap.
        info: the board's facts.
        read: reads the board's flash; None if it cannot.

    Raises:
        Unsuitable: `unsuitable.region`: there are holes, and the board cannot be read.
    """
    whole: list[Run] = []
    for run in runs:
        before = whole[-1] if whole else Run(0, b"")
        sector = run.offset - run.offset % info.sector
        joined = bool(whole) and sector < before.end
        start = before.end if joined else sector
        hole = run.offset - start
        kept = read(start, hole) if hole else b""
        if kept is None:
            raise _unreadable(payload, start, hole, info)
        if joined:
            whole[-1] = Run(before.offset, before.data + kept + run.data)
        else:
            whole.append(Run(start, kept + run.data))
    return whole


def _unreadable(payload: Payload, start: int, size: int, info: BoardInfo) -> Unsuitable:
    return Unsuitable(
        "unsuitable.region",
        f"{payload.component.name} leaves out {size} bytes at 0x{start:x}, in a sector of "
        f"{info.sector} that is erased as a whole, and this board cannot be read to keep them",
        expected="whole sectors, or a board that can be read",
        found=f"a hole of {size} bytes at 0x{start:x}",
        hint='a Pico can be read with pip install "fwsign[usb]"; '
        "or let the linker fill the gaps between sections",
    )
