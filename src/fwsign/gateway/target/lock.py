# SPDX-License-Identifier: Apache-2.0
"""The locks of a gateway: one at a time, or a refusal that names who is at work."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fwsign.errors import Failed

_LOOK: Final = 0.1
"""Seconds between two looks whether a lock is free."""


def take_lock(handle: int, what: str) -> None:
    """Lock an open file or directory.

    Args:
        handle: its descriptor; whoever inherits it shares the lock.
        what: words for the reason if it is locked already.

    Raises:
        Failed: `state.busy`.
    """
    if _is_free(handle):
        return
    others = ", ".join(f"process {one}" for one in _holders(handle))
    message = f"{what}: {others}" if others else what
    found = others or "another"
    hint = "wait until it has ended, and try again"
    raise Failed("state.busy", message, expected="one at a time", found=found, hint=hint)


@contextlib.contextmanager
def in_turn(
    path: Path, what: str, seconds: float, sleep: Callable[[float], object] = time.sleep
) -> Iterator[None]:
    """Wait until no other process holds the lock of a file, and hold it.

    Args:
        path: the file; it is made, in a directory that nobody else can write.
        what: words for the reason if it stays locked.
        seconds: the longest time to wait.
        sleep: waits so many seconds.

    Raises:
        Failed: `state.busy`. A disk that has no room for the file is no reason not to go on.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = None
    with contextlib.suppress(OSError):
        handle = os.open(path, flags, 0o600)
    if handle is None:
        yield
        return
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not _is_free(handle):
            sleep(_LOOK)
        take_lock(handle, what)
        yield
    finally:
        os.close(handle)


def _is_free(handle: int) -> bool:
    """Tell whether nobody else holds the lock of an open file; it is taken then."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(handle: int) -> list[int]:
    """Return the other processes that have a file open, where /proc tells it."""
    wanted = os.fstat(handle)
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            process = int(link.parts[2])
            if process != os.getpid() and os.path.samestat(link.stat(), wanted):
                found.append(process)
    return sorted(set(found))
