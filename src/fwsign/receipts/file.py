# SPDX-License-Identifier: Apache-2.0
"""A file of receipts, one per line; whole lines are appended under a lock."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from fwsign.errors import Failed, Malformed
from fwsign.files import io_error, open_plain, refuse_special, sync_directory, wait_for
from fwsign.keys import Signer
from fwsign.receipts.chain import MAX_LINE, line_digest, make_line, parse_line


def read_lines(path: Path) -> Iterator[str]:
    """Yield a file's lines, without newlines; a line that is not UTF-8 fails when it is judged.

    Raises:
        Failed: `io.*`.
    """
    return (line for line, _ in _lines_of(path))


def _lines_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield a file's lines, and whether each ends in a newline or in being too long."""
    try:
        with open_plain(path) as raw, BufferedReader(raw) as file:
            while line := file.readline(MAX_LINE + 2):
                ended = line.endswith(b"\n") or len(line) > MAX_LINE
                yield line.removesuffix(b"\n").decode(errors="surrogateescape"), ended
    except OSError as error:
        raise io_error(error, path) from error


def read_whole_lines(path: Path) -> Iterator[str]:
    """Yield a file's lines, without a part of a line at its end: a killed writer left that.

    The next line takes the place of such a part, and only a head shows that an end is missing: so
    nothing is lost by leaving it out.

    Raises:
        Failed: `io.*`.
    """
    for line, ended in _lines_of(path):
        if ended or _is_whole(line):
            yield line


def _is_whole(line: str) -> bool:
    try:
        parse_line(line, 0)
    except Malformed:
        return False
    return True


def prepare(path: Path) -> None:
    """Make a file of receipts if there is none, and refuse a file that `append` would refuse.

    Args:
        path: the file.

    Raises:
        Failed: `io.*`; `io.format` for a file of something else.
    """
    with _opened(path) as handle:
        _find_end(handle, path)


def append(
    path: Path,
    receipt: Mapping[str, Any],
    signer: Signer | None = None,
    chain: Sequence[bytes] = (),
) -> str:
    """Add a receipt to a file, make the file if there is none, and return the line.

    Other processes wait. A whole line is never lost. A part of a line, left by a crash or power
    loss, is cut off; no call has reported such a line as written.

    Args:
        path: the file.
        receipt: the receipt, as for `make_line`.
        signer: signs the line.
        chain: the signer's certificates, in DER.

    Raises:
        Failed: `io.*`; `io.format` for a file of something else; as `make_line`.
    """
    (line,) = append_all(path, [receipt], signer, chain)
    return line


def append_all(
    path: Path,
    receipts: Iterable[Mapping[str, Any]],
    signer: Signer | None = None,
    chain: Sequence[bytes] = (),
) -> list[str]:
    """Add receipts to a file in their order, with one sync for all; otherwise as `append`."""
    with _opened(path) as handle:
        kept, missing, previous = _find_end(handle, path)
        lines = []
        for receipt in receipts:
            lines.append(make_line(receipt, previous, signer, chain))
            previous = line_digest(lines[-1])
        text = "".join((missing, *(f"{line}\n" for line in lines)))
        _write(handle, kept, text.encode())
        if not kept:
            sync_directory(path.parent)
    return lines


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open and lock a file; make it if there is none."""
    refuse_special(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            wait_for(handle)
            yield handle
        finally:
            os.close(handle)
    except OSError as error:
        raise io_error(error, path, "write") from error


def _find_end(handle: int, path: Path) -> tuple[int, str, str | None]:
    """Return the next line's offset, a missing newline, and the digest of the line before."""
    size = os.lseek(handle, 0, os.SEEK_END)
    start = max(0, size - 2 * (MAX_LINE + 1))  # room for a line, and a part of one after it
    os.lseek(handle, start, os.SEEK_SET)
    parts = _read(handle, size - start).split(b"\n")
    torn = parts.pop()
    previous = None
    if parts:
        previous = line_digest(_whole(parts[-1], path))
    if not torn:
        return size, "", previous
    try:
        line = _whole(torn, path)
        if json.loads(line)["previous"] != previous:
            raise _no_receipts(path)
    except Failed:
        if not parts:  # without one whole line, this may not be a file of receipts
            raise
        return size - len(torn), "", previous
    return size, "\n", line_digest(line)  # an editor removed the last newline


def _whole(line: bytes, path: Path) -> str:
    text = line.decode(errors="surrogateescape")
    try:
        parse_line(text, 0)
    except Malformed:
        raise _no_receipts(path) from None
    return text


def _no_receipts(path: Path) -> Failed:
    return Failed(
        "io.format",
        f"{path} does not end in a receipt",
        expected="a file of receipts, or none",
        found="something else",
    )


def _read(handle: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := os.read(handle, size - len(data))):
        data += part
    return data


def _write(handle: int, at: int, data: bytes) -> None:
    os.ftruncate(handle, at)
    os.lseek(handle, at, os.SEEK_SET)
    try:
        rest = data
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, at)  # a full disk took a part
        raise
