# SPDX-License-Identifier: Apache-2.0
"""Staged files: only this user can change them, and any later change is noticed."""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import FwsignError, Tampered
from fwsign.files import io_error
from fwsign.format.component import Component, is_inside
from fwsign.format.payload import CHUNK_SIZE, PayloadSource, Receiving
from fwsign.gateway.target.delivery import Delivery, Destination
from fwsign.gateway.target.reuse import reusing
from fwsign.gateway.target.sources import PayloadProgress
from fwsign.verify.verified import VerifiedRelease

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open our own directories."""
FILE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open our own files."""


_EXCHANGED: Final = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV)
"""Errors of opening a file that is gone, or that something else has replaced."""


class Staged(NamedTuple):
    """A staged file: its component and destination, name, descriptor, and its state when verified.

    A file of a version that is in place is one too.
    """

    component: Component
    to: Destination
    name: str
    handle: int
    facts: tuple[int, ...]


@contextlib.contextmanager
def explained(path: Path, *past: type[OSError]) -> Iterator[None]:
    """Turn an OSError into `io.*`, for a path that people know.

    Args:
        path: the path to name in the error.
        past: errors that pass unchanged.
    """
    try:
        yield
    except past:
        raise
    except OSError as error:
        raise io_error(error, path, "write") from error


def tells_of_files(error: FwsignError) -> bool:
    """Tell whether an error of checking files is about them: they are gone, or not as they were.

    An error of the disk, or of limits such as that of open files, says nothing about them.
    """
    return not error.code.startswith("io.") or error.code in ("io.missing", "io.directory")


def stage(
    release: VerifiedRelease,
    delivery: Delivery,
    handle: int,
    progress: PayloadProgress,
    folders: Sequence[int] = (),
) -> None:
    """Fill a file with a component's verified payload; verify the bytes it already has.

    Args:
        release: the verified release.
        delivery: one of its components, with its source.
        handle: the file's descriptor.
        progress: told of the staged bytes.
        folders: descriptors of directories with old files, whose blocks need not be fetched.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`.
        Failed: `io.*`.
    """
    component = delivery.component
    file = _File(handle, lambda done: progress(component.name, done, component.size))
    if is_inside(component.uri):
        file.truncate(0)
        try:
            release.receive(component, None, file, delivery.keys())
        except Tampered:
            file.truncate(0)  # no plaintext of a refused payload stays
            raise
    else:
        _fill(release, delivery, file, folders)


class _File:
    """A staged file, for `VerifiedRelease.resuming`."""

    def __init__(self, handle: int, report: Callable[[int], object]) -> None:
        self._handle, self._report = handle, report

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        return os.read(self._handle, size)

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""
        return os.lseek(self._handle, offset, os.SEEK_SET)

    def truncate(self, size: int, /) -> None:
        """Cut the file."""
        os.ftruncate(self._handle, size)

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        try:
            write_all(self._handle, data)
        except OSError as error:  # gives a full disk its own code
            raise io_error(error, "the staged payload", "write") from error
        self._report(os.lseek(self._handle, 0, os.SEEK_CUR))


def _fill(
    release: VerifiedRelease, delivery: Delivery, file: _File, folders: Sequence[int]
) -> None:
    """Fetch the bytes that are not staged yet, and verify the whole payload."""
    component = delivery.component
    receiving = release.resuming(component, file, delivery.keys())
    kept = receiving.offset
    try:
        if not kept or kept < component.carried.size:
            # Nothing that was decrypted earlier has blocks of this ciphertext.
            blocks = None if component.encrypted else release.blocks(component)
            with (
                delivery.open(kept) as source,
                reusing(source, component, blocks, kept, folders) as mixed,
            ):
                _feed(receiving, component, mixed)
        receiving.finish()
    except Tampered:
        if component.encrypted is not None:
            file.truncate(0)  # no plaintext of a refused payload stays
        if release.blocks(component) is not None:
            raise  # each kept block is good
        file.truncate(0)
        if not kept:
            raise
        # The bytes that were there before may be bad, and the source good.
        _fill(release, delivery, file, folders)


def _feed(receiving: Receiving, component: Component, source: PayloadSource | None) -> None:
    """Read the source, but stop when it has more than the signed size."""
    while source is not None:
        try:
            left = component.carried.size - receiving.offset
            data = source.read(min(CHUNK_SIZE, left + 1))
        except OSError as error:
            raise io_error(error, f'the payload of "{component.name}"') from error
        if not data:
            return
        receiving.feed(data)


@contextlib.contextmanager
def reading(handle: int) -> Iterator[PayloadSource]:
    """Read a staged file from its beginning."""
    with os.fdopen(os.dup(handle), "rb", buffering=0) as file:
        file.seek(0)
        yield file


def names(handle: int) -> list[str]:
    """Return the names in a directory."""
    return os.listdir(handle)


def write_all(handle: int, data: bytes) -> None:
    """Write all of the data."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def write_whole(parent: int, name: str, data: bytes) -> None:
    """Write a small file, whole or not at all, over one that may be there."""
    beginning = f"{name}.next"
    remove(parent, beginning)
    handle = os.open(beginning, FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
    try:
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(beginning, name, src_dir_fd=parent, dst_dir_fd=parent)


def open_own(parent: int, name: str) -> int:
    """Open a staged file for writing; replace one that another user could have made."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
            os.chmod(name, 0o600, dir_fd=parent)  # a command got it for reading only
            return os.open(name, FILE, dir_fd=parent)
        remove(parent, name)
    return os.open(name, FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)


def open_to_read(parent: int, name: str) -> int | None:
    """Open a file of ours for reading; None if it is gone, or is no regular file any more.

    Raises:
        Failed: `io.*`: that cannot be told.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in _EXCHANGED:
            return None
        raise io_error(error, name) from error
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None


def facts(handle: int) -> tuple[int, ...]:
    """Return facts that change with any change of a file: ctime cannot be set back."""
    found = os.fstat(handle)
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_nlink,
        found.st_mode,
    )


def exists(parent: int, name: str) -> bool:
    """Tell whether a name exists."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove(parent: int, name: str) -> None:
    """Remove a file, or a directory with its content, without following links."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
