# SPDX-License-Identifier: Apache-2.0
"""File access: whole or not at all, one writer at a time; an OSError becomes a `Failed`."""

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from fwsign.errors import Code, Failed, FwsignError

_CODES: Final[dict[int, tuple[Code, str]]] = {
    errno.ENOENT: ("io.missing", "no such file or directory"),
    errno.ENOTDIR: ("io.directory", "a part of the path is not a directory"),
    errno.EISDIR: ("io.directory", "is a directory"),
    errno.EACCES: ("io.permission", "permission denied"),
    errno.EPERM: ("io.permission", "operation not permitted"),
    errno.EROFS: ("io.permission", "read-only file system"),
    errno.ENOSPC: ("io.full", "no space left on device"),
    errno.EDQUOT: ("io.full", "disk quota exceeded"),
    errno.EFBIG: ("io.full", "file too large"),
    errno.EEXIST: ("io.exists", "exists already"),
}
Accept: TypeAlias = Literal["files", "streams", "pipes"]
_STREAM: Final = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/[0-9]+")
_SPECIAL: Final = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_MOST_LINKS: Final = 40
"""Links on the way to a file; Linux follows as many."""
_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""Flags for a file that was exchanged for a pipe or device meanwhile."""
_OWNED: Final = "writable by its owner alone: root, or who runs this"


def io_error(
    error: OSError, path: str | os.PathLike[str], doing: Literal["read", "write"] = "read"
) -> Failed:
    """Turn an OSError into a `Failed` with one of the `io.*` codes.

    Args:
        error: the operating system's error.
        path: the file under the name that the user knows, not a temporary one.
        doing: "read" or "write"; it chooses the code if errno has none of its own.
    """
    otherwise: Code = "io.read" if doing == "read" else "io.write"
    fallback = (otherwise, (error.strerror or str(error)).lower())
    code, words = _CODES.get(error.errno or 0, fallback)
    return Failed(code, f"cannot {doing} {os.fspath(path)}: {words}", found=words)


def open_plain(path: Path, accept: Accept = "streams") -> FileIO:
    """Open a regular file for reading, unbuffered; it never waits for another program.

    Args:
        path: the file, or a link to one.
        accept: "files" for regular files alone; "streams" also for what a shell hands over, by
            its own name: /dev/stdin, or /dev/fd/63 of a `<(...)`; "pipes" also for any pipe, whose
            writer this waits for.

    Raises:
        Failed: `io.format`: it is a pipe, device or socket; `io.*`.
    """
    handed = accept != "files" and _STREAM.fullmatch(os.fspath(path)) is not None
    try:
        if handed:
            return FileIO(path)
        kind = _refuse_special(path.stat(), path, accept)  # opening a device may do something
        if kind == stat.S_IFIFO:
            return FileIO(path)
        file = FileIO(path, opener=lambda name, flags: os.open(name, flags | _AT_ONCE))
        try:
            _refuse_special(os.fstat(file.fileno()), path, "files")
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise io_error(error, path) from error
    return file


def refuse_special(path: Path) -> None:
    """Refuse a path that is there, and is neither a file nor a directory.

    Raises:
        Failed: `io.format`.
    """
    with contextlib.suppress(OSError):  # opening it gives the error
        if not path.is_dir():
            _refuse_special(path.stat(), path, "files")


def _refuse_special(facts: os.stat_result, path: Path, accept: Accept) -> int:
    """Return the kind of a file that is accepted."""
    kind = stat.S_IFMT(facts.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind == stat.S_IFREG or (kind == stat.S_IFIFO and accept == "pipes"):
        return kind
    what = _SPECIAL.get(kind, "a device")
    message = f"{path} is not a regular file: it is {what}"
    raise Failed("io.format", message, expected="a regular file", found=what)


def read_bytes(path: Path, limit: int, accept: Accept = "streams") -> bytes:
    """Read a whole small file, at most `limit` bytes.

    Args:
        path: the file.
        limit: the most bytes.
        accept: as for `open_plain`.

    Raises:
        Failed: `io.*`; a file over the limit, and a pipe or device, is `io.format`.
    """
    data, _ = _read(path, limit, accept)
    if len(data) > limit:
        raise Failed(
            "io.format",
            f"{path} is larger than {limit} bytes",
            expected=f"at most {limit} bytes",
            found="more",
        )
    return data


def _read(path: Path, limit: int, accept: Accept) -> tuple[bytes, os.stat_result]:
    """Return at most one byte more than the limit, and the facts of the file."""
    with open_plain(path, accept) as raw, BufferedReader(raw) as file:
        try:
            return file.read(limit + 1), os.fstat(file.fileno())
        except OSError as error:
            raise io_error(error, path) from error


def read_owned(path: Path, limit: int) -> bytes:
    """Read a configuration file that only root or this user can write or exchange.

    Raises:
        Failed: `io.config`, also for more bytes than `limit`; `io.*`.
    """
    data, facts = _read(path, limit, "files")
    if what := _foreign(facts) or _reachable(path):
        message = f"{path} could have been written by another user: {what}"
        raise Failed("io.config", message, expected=_OWNED, found=what)
    if len(data) > limit:
        raise Failed("io.config", f"{path} is larger than {limit} bytes", expected=limit)
    return data


def refuse_writable(place: int | Path, path: Path) -> None:
    """Refuse a file or directory that another user could change.

    Args:
        place: the file's path or descriptor.
        path: the path to name in the error.

    Raises:
        Failed: `io.permission`.
        OSError: its facts cannot be read.
    """
    if what := _foreign(os.stat(place)):  # noqa: PTH116 - a descriptor too
        message = f"{path} can be changed by other users: {what}"
        raise Failed("io.permission", message, expected=_OWNED, found=what)


def refuse_reachable(path: Path) -> None:
    """Refuse a path on whose way another user could put something else.

    That is so where one of the directories above it, up to the root, or above a link on the way,
    can be written by others. A directory with the sticky bit, such as /tmp, does not let others
    exchange what is ours. A path that is not there is judged as far as it is.

    Raises:
        Failed: `io.permission`; OSError: a directory cannot be looked at.
    """
    if (found := _reachable(path)) is not None:
        what = f"{path} can be exchanged by other users: {found}"
        raise Failed("io.permission", what, expected=_OWNED, found=found)


def _reachable(path: Path) -> str | None:
    """Return the directory or link by which others reach a path, and the facts that let them."""
    with contextlib.suppress(FileNotFoundError):
        for place, facts in _way(path):
            sticky = facts.st_mode & stat.S_ISVTX or stat.S_ISLNK(facts.st_mode)
            shared = not sticky and facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if shared or facts.st_uid not in (0, os.geteuid()):
                return f"{place} has mode {stat.S_IMODE(facts.st_mode):04o}, owner {facts.st_uid}"
    return None


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the directories on the way to a path, and the links, as the system follows them."""
    here, left, links = Path("/"), list(reversed((Path.cwd() / path).parts[1:])), 0
    yield here, here.lstat()
    while left:
        part = left.pop()
        there = here.parent if part == ".." else here / part
        facts = there.lstat()
        if stat.S_ISLNK(facts.st_mode):
            yield there, facts
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            aim = there.readlink()
            here = Path("/") if aim.is_absolute() else here
            left += [one for one in reversed(aim.parts) if one != "/"]
            continue
        if left and part != "..":
            yield there, facts
        here = there


def _foreign(facts: os.stat_result) -> str | None:
    """Return the facts that let another user write a file or directory; None if none do."""
    if facts.st_uid in (0, os.geteuid()) and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return f"mode {stat.S_IMODE(facts.st_mode):04o}, owner {facts.st_uid}"


@contextlib.contextmanager
def atomic_writer(path: Path, *, overwrite: bool = False, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when the block ends without an error.

    The bytes are synced before the name changes and the directory after it, so that a crash
    leaves the old file or the new one.

    Args:
        path: the file to write.
        overwrite: replace an existing file; otherwise it is refused (`io.exists`).
        mode: permission bits, before the umask applies.

    Raises:
        Failed: `io.exists`, `io.full`, `io.permission`, `io.missing`, `io.write`.
    """
    temporary = ""
    try:
        if not overwrite and os.path.lexists(path):  # refuse before any work; the end checks again
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        import tempfile  # for those who write alone

        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode & ~_umask())
        _give_name(Path(temporary), path, overwrite=overwrite)
        temporary = ""
        sync_directory(path.parent)
    except FwsignError:
        raise
    except OSError as error:
        raise io_error(error, path, "write") from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def write_atomic(path: Path, data: bytes, *, overwrite: bool = False, mode: int = 0o644) -> None:
    """Write `data` to `path` whole or not at all; see `atomic_writer`."""
    with atomic_writer(path, overwrite=overwrite, mode=mode) as file:
        file.write(data)


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)  # unlike a rename, this never replaces
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links (FAT, some network mounts)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.rename(path)
    else:
        temporary.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that its names survive a power loss."""
    if os.name == "nt":  # Windows cannot open a directory for syncing
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_LOCK: Final = ".lock"


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Wait until no other process writes to `directory`, then make other processes wait.

    The operating system ties the lock to the open file, so that it ends with the process, in
    any case. The empty file that stays has no meaning.

    Raises:
        Failed: `io.*`: the directory cannot be locked.
    """
    path = directory / _LOCK
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
