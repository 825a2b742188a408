# SPDX-License-Identifier: Apache-2.0
"""Allow one writer at a time in a PKI directory."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fwsign.atomic import io_error

_FILE = ".lock"


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Wait until no other process writes to `directory`, then make other processes wait.

    The operating system ties the lock to the open file, so that it ends with the process, in
    any case. The empty file that stays has no meaning.

    Raises:
        Failed: `io.*`: the directory cannot be locked.
    """
    path = directory / _FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise io_error(error, path, "write") from error
    try:
        try:
            wait_for(handle)
        except OSError as error:
            raise io_error(error, path, "write") from error
        yield
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def wait_for(handle: int) -> None:
        """Wait for the lock of an open file; it ends when the file is closed."""
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # gives up after ten seconds

else:
    import fcntl

    def wait_for(handle: int) -> None:
        """Wait for the lock of an open file; it ends when the file is closed."""
        fcntl.flock(handle, fcntl.LOCK_EX)
