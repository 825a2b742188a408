# SPDX-License-Identifier: Apache-2.0
"""The old files of a gateway, in which blocks of a new payload are looked for. They are only read.

What is in them is not trusted: whoever takes a block from one compares its digest with the signed
one.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fwsign.format.component import Component

MAX_FILES: Final = 256
"""Old files that are searched."""

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Place(NamedTuple):
    """The place of a block: an open file, and an offset in it."""

    handle: int
    offset: int

    def read(self, size: int) -> bytes:
        """Return at most so many bytes there; none if they cannot be read."""
        with contextlib.suppress(OSError):
            return os.pread(self.handle, size, self.offset)
        return b""


@contextlib.contextmanager
def opened(folder: int, path: str) -> Iterator[int | None]:
    """Open an old file; None if it is not there any more, or no regular file.

    Args:
        folder: the descriptor of a directory.
        path: the path of the file below it.
    """
    with contextlib.ExitStack() as stack:
        found = None
        with contextlib.suppress(OSError):
            handle = os.open(path, _OPEN, dir_fd=folder)
            stack.callback(os.close, handle)
            found = handle if stat.S_ISREG(os.fstat(handle).st_mode) else None
        yield found


def pieces(handle: int, size: int, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield the pieces of an old file, each with its offset, until one cannot be read.

    Args:
        handle: its descriptor.
        size: bytes of a piece.
        most: the offset before which the last one begins.
    """
    for offset in range(0, most, size):
        data = Place(handle, offset).read(size)
        if not data:
            return
        yield offset, data


def likely_files(
    folders: Sequence[int], component: Component, least: int = 0
) -> list[tuple[int, str]]:
    """Return old files, each with its directory's descriptor, the likeliest first.

    That is one of the component's name, then one of about its size: the name may have a version.

    Args:
        folders: descriptors of the directories below which they are.
        component: the component.
        least: bytes that a file must have.
    """
    found: list[tuple[bool, int, int, str]] = []
    for folder in folders:
        for path, _, names, here in os.fwalk(".", dir_fd=folder):
            for name in names:
                with contextlib.suppress(OSError):
                    size = os.stat(name, dir_fd=here, follow_symlinks=False).st_size
                    apart = abs(size - component.size)
                    if size >= least:
                        found.append((name != component.name, apart, folder, f"{path}/{name}"))
            if len(found) >= MAX_FILES:
                break
    return [(folder, path) for *_, folder, path in sorted(found)[:MAX_FILES]]
