# SPDX-License-Identifier: Apache-2.0
"""Compare a board's flash with what it is to hold, by the board's own digests."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from fwsign.flash.boards.board import Board, BoardInfo, DigestName, Progress, Run

FEW: Final = 4
"""If at most one block in so many differs, its sectors are compared too: fewer are sent then."""


def different(
    board: Board, info: BoardInfo, run: Run, progress: Progress, *, blind: bool
) -> Iterator[Run]:
    """Yield the parts of a run that the board does not hold, in whole sectors.

    Args:
        board: the board.
        info: its facts.
        run: what its flash is to hold.
        progress: told of the bytes compared.
        blind: yield all of it, without asking the board.
    """
    if info.digest is None or blind:
        progress(len(run.data))
        yield _padded(run, info.sector)
        return
    step = info.digest_block or len(run.data)
    blocks = range(0, len(run.data), step)
    wrong = []
    for start in blocks:
        if not _holds(board, info.digest, run, start, step):
            wrong.append(start)
        progress(min(step, len(run.data) - start))
    if step > info.sector and len(wrong) * FEW <= len(blocks):
        inside = [at for one in wrong for at in range(one, one + step, info.sector)]
        inside = [at for at in inside if at < len(run.data)]
        wrong = [at for at in inside if not _holds(board, info.digest, run, at, info.sector)]
        step = info.sector
    for one in _joined(run, wrong, step):
        yield _padded(one, info.sector)


def digest(name: DigestName, data: bytes) -> bytes:
    """Return the digest that a board computes over the same bytes."""
    if name == "md5":
        return hashlib.md5(data, usedforsecurity=False).digest()
    if name == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    from fwsign.images.mcuboot import image_hash  # only for MCUboot

    return image_hash(data)


def _holds(board: Board, name: DigestName, run: Run, start: int, size: int) -> bool:
    """Tell whether the board holds a piece of a run, by its own digest."""
    piece = run.data[start : start + size]
    return board.digest(run.offset + start, len(piece)) == digest(name, piece)


def _joined(run: Run, starts: Sequence[int], size: int) -> Iterator[Run]:
    """Join neighbouring pieces of a run."""
    begin = end = -1
    for start in starts:
        if start != end and begin >= 0:
            yield Run(run.offset + begin, run.data[begin:end])
        begin, end = begin if start == end else start, start + size
    if begin >= 0:
        yield Run(run.offset + begin, run.data[begin:end])


def _padded(run: Run, sector: int) -> Run:
    size = -(-len(run.data) // sector) * sector
    return Run(run.offset, run.data.ljust(size, b"\xff"))
