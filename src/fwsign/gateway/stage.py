# SPDX-License-Identifier: Apache-2.0
"""Staged files: they belong to this user alone, take verified bytes, and are known again."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.atomic import io_error
from fwsign.component import Component, is_inside
from fwsign.errors import Tampered
from fwsign.gateway.sources import Opener, Progress
from fwsign.payload import CHUNK_SIZE, Receiving, Source
from fwsign.verified import VerifiedRelease

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How directories of ours are opened."""
FILE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
"""How files of ours are opened."""


class Staged(NamedTuple):
    """A staged file: its component, name, descriptor, and what it was when it had been verified."""

    component: Component
    name: str
    handle: int
    facts: tuple[int, ...]


@contextlib.contextmanager
def explained(path: Path, *past: type[OSError]) -> Iterator[None]:
    """Turn what the operating system says into `io.*`, for a path that people know.

    Args:
        path: what it is about.
        past: errors that are let through.
    """
    try:
        yield
    except past:
        raise
    except OSError as error:
        raise io_error(error, path, "write") from error


def stage(
    release: VerifiedRelease,
    component: Component,
    handle: int,
    opener: Opener,
    progress: Progress,
) -> None:
    """Let a file hold the payload of a component, verified; what it has already is read again.

    Args:
        release: what was verified.
        component: one of it.
        handle: the file.
        opener: gives the payload.
        progress: told of what was staged.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`.
        Failed: `io.*`.
    """
    file = _File(handle, lambda done: progress(component.name, done, component.size))
    if is_inside(component.uri):
        file.truncate(0)
        release.receive(component, None, file)
    else:
        _fill(release, component, file, opener)


class _File:
    """A staged file, as `VerifiedRelease.resuming` takes it."""

    def __init__(self, handle: int, report: Callable[[int], object]) -> None:
        self._handle, self._report = handle, report

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        return os.read(self._handle, size)

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""
        return os.lseek(self._handle, offset, os.SEEK_SET)

    def truncate(self, size: int, /) -> None:
        """Cut it."""
        os.ftruncate(self._handle, size)

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        try:
            write_all(self._handle, data)
        except OSError as error:  # with the code of a full disk
            raise io_error(error, "the staged payload", "write") from error
        self._report(os.lseek(self._handle, 0, os.SEEK_CUR))


def _fill(release: VerifiedRelease, component: Component, file: _File, opener: Opener) -> None:
    """Get what is not staged yet, and verify all of it."""
    receiving = release.resuming(component, file)
    kept = receiving.offset
    try:
        if not kept or kept < component.size:
            with opener(component, kept) as source:
                _feed(receiving, component, source)
        receiving.finish()
    except Tampered:
        if release.blocks(component) is not None:
            raise  # what is kept is good, each block of it
        file.truncate(0)
        if not kept:
            raise
        # Whoever wrote what was there before: the source may be good all the same.
        _fill(release, component, file, opener)


def _feed(receiving: Receiving, component: Component, source: Source | None) -> None:
    """Read no more than shows that there is more than was signed."""
    while source is not None:
        try:
            data = source.read(min(CHUNK_SIZE, component.size - receiving.offset + 1))
        except OSError as error:
            raise io_error(error, f'the payload of "{component.name}"') from error
        if not data:
            return
        receiving.feed(data)


def names(handle: int) -> list[str]:
    """Return what is in a directory."""
    return os.listdir(handle)


def write_all(handle: int, data: bytes) -> None:
    """Write all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def open_own(parent: int, name: str) -> int:
    """Open a staged file for writing; one that could be anybody else's is replaced."""
    try:
        handle = os.open(name, FILE, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError:  # a link, a directory, or what may not be written
        remove(parent, name)
    else:
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
            return handle
        os.close(handle)
        os.unlink(name, dir_fd=parent)
    return os.open(name, FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)


def facts(handle: int) -> tuple[int, ...]:
    """Return what changes with any change of a file: ctime cannot be set back."""
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
    """Tell whether there is anything of a name."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove(parent: int, name: str) -> None:
    """Remove a file or a directory with all in it, without following links."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
