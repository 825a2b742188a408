# SPDX-License-Identifier: Apache-2.0
"""The locks of a target directory: one at a time, or a refusal that names who is at work."""

import contextlib
import fcntl
import os
from pathlib import Path

from fwsign.errors import Failed


def take_lock(handle: int, what: str) -> None:
    """Lock an open file or directory.

    Args:
        handle: its descriptor; whoever inherits it shares the lock.
        what: words for the reason if it is locked already.

    Raises:
        Failed: `state.busy`.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        others = ", ".join(f"process {one}" for one in _holders(handle))
        message = f"{what}: {others}" if others else what
        found = others or "another"
        hint = "wait until it has ended, and try again"
        raise Failed(
            "state.busy", message, expected="one at a time", found=found, hint=hint
        ) from None


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
