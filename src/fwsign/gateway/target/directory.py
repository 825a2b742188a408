# SPDX-License-Identifier: Apache-2.0
"""The target directory: it has one installer at a time, and one current version.

    DIR/current            -> versions/DIGEST, the release that is installed
    DIR/versions/DIGEST/   its files; the version of the release before stays too
    DIR/.fwsign/           0700: the lock, and the staged files

Everything is opened by descriptor, never through a symbolic link. Staged files stay open until they
are in place, so that a swapped file is noticed.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from fwsign.errors import Failed, FwsignError, Tampered
from fwsign.files import io_error, refuse_reachable, refuse_writable
from fwsign.format.component import Component
from fwsign.format.payload import receive
from fwsign.gateway.target.delivery import Delivery
from fwsign.gateway.target.lock import take_lock
from fwsign.gateway.target.release_record import digest_of
from fwsign.gateway.target.sources import PayloadProgress
from fwsign.gateway.target.stage import (
    DIRECTORY,
    FILE,
    Staged,
    exists,
    explained,
    facts,
    names,
    open_own,
    open_to_read,
    reading,
    remove,
    stage,
    tells_of_files,
    write_whole,
)
from fwsign.verify.verified import VerifiedRelease

CURRENT: Final = "current"
VERSIONS: Final = "versions"
OWN: Final = ".fwsign"
STAGE: Final = "stage"
ENVELOPE: Final = "envelope"
"""The file in STAGE beside the directories of staged bytes."""
FILES: Final = "files"
OTHERS: Final = "others"


class Target:
    """The open and locked target directory; a context manager.

    There are two locks. fwsign alone has that of the file. That of the directory is `lock`, which
    commands inherit: it lasts until all of their processes have ended, even if fwsign is killed.

    Args:
        path: the existing directory.

    Raises:
        Failed: `state.busy`: another installer is at work there; `io.permission`: others could
            change what is installed; `io.*`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = contextlib.ExitStack()
        try:
            with explained(path):
                self._open(path)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC  # the admin's own links are followed
        self.handle = self._keep(os.open(path, flags))
        refuse_writable(self.handle, path)
        refuse_reachable(path)
        self.own = self.directory(self.handle, OWN, 0o700)
        self._lock()
        self.versions = self.directory(self.handle, VERSIONS, 0o755)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _keep(self, handle: int) -> int:
        self._stack.callback(os.close, handle)
        return handle

    def _lock(self) -> None:
        file = self._keep(os.open("lock", FILE | os.O_CREAT, 0o600, dir_fd=self.own))
        take_lock(file, f"another fwsign install is at work in {self.path}")
        self.lock = self._keep(os.open(".", DIRECTORY, dir_fd=self.own))
        take_lock(self.lock, f"a command of an earlier run is still at work in {self.path}")

    def directory(self, parent: int, name: str, mode: int) -> int:
        """Open a directory of ours, and make it if there is none; it closes with this object."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=parent)
            os.fsync(parent)
        handle = self._keep(os.open(name, DIRECTORY, dir_fd=parent))
        refuse_writable(handle, self.path / name)
        os.fchmod(handle, mode)  # the umask may have removed bits
        return handle

    # --- what is staged -------------------------------------------------------------------------

    def begin(self, envelope: bytes, digest: str) -> None:
        """Prepare to stage a release; keep the bytes already staged for this very release.

        Newer CRLs, or other recipients, make another envelope of the same release.

        Args:
            envelope: the release's envelope.
            digest: its manifest's digest, in hex; an interrupted run may have moved its files.
        """
        with explained(self.path):
            staged = self.staged_envelope()
            if staged != envelope:
                if staged is None or digest_of(staged) != digest:
                    self.clear()
                parent = self.directory(self.own, STAGE, 0o700)
                write_whole(parent, ENVELOPE, envelope)
            self.stage = self.directory(self.own, STAGE, 0o700)
            if self.current() != digest and not exists(self.stage, FILES):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(digest, FILES, src_dir_fd=self.versions, dst_dir_fd=self.stage)
            self.files = self.directory(self.stage, FILES, 0o700)
            self.others = self.directory(self.stage, OTHERS, 0o700)
            os.fsync(self.stage)

    def staged_envelope(self) -> bytes | None:
        """Return the envelope of the staged payloads; it is only a hint, so verify it."""
        with contextlib.suppress(FileNotFoundError), explained(self.path, FileNotFoundError):
            parent = os.open(STAGE, DIRECTORY, dir_fd=self.own)
            try:
                handle = os.open(ENVELOPE, FILE, dir_fd=parent)
                with os.fdopen(handle, "rb") as file:
                    return file.read()
            finally:
                os.close(parent)
        return None

    def clear(self) -> None:
        """Remove all staged files."""
        remove(self.own, STAGE)

    def receive(
        self, release: VerifiedRelease, delivery: Delivery, progress: PayloadProgress
    ) -> Staged:
        """Stage and verify the payload of a component; verify bytes that are already there.

        Args:
            release: the verified release.
            delivery: one of its components, with its source.
            progress: told of the staged bytes.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.payload-digest`.
            Failed: `io.*`.
        """
        component, to, name = delivery.component, delivery.to, delivery.name
        parent, mode = (self.files, 0o644) if to == "file" else (self.others, 0o600)
        if component.encrypted is not None:
            mode = 0o600  # what nobody may read on its way, not every user here may read
        with explained(self.path / name):
            handle = self._keep(open_own(parent, name))
            stage(release, delivery, handle, progress, (self.versions, self.own))
            os.fchmod(handle, mode)
            os.fsync(handle)
            return Staged(component, to, name, handle, facts(handle))

    def take_out(self, staged: Staged) -> int:
        """Close a staged file's writable descriptor; return a read-only one.

        The name stays, so that the payload need not be fetched again if its command fails. The
        content is not checked: verify the bytes that are read from it.
        """
        handle = os.open(staged.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.others)
        os.fchmod(handle, 0o400)  # a process that finds it under /proc can only read it
        os.dup2(handle, staged.handle, inheritable=False)
        return handle

    # --- versions -------------------------------------------------------------------------------

    def check(self, staged: Staged, parent: int) -> None:
        """Refuse a file that changed after it was verified.

        Args:
            staged: the file.
            parent: the directory that must hold it.

        Raises:
            Tampered: `tampered.staged`; Failed: `io.*`.
        """
        handle = open_to_read(parent, staged.name)
        found: tuple[int, ...] = ()
        if handle is not None:
            try:
                found = facts(handle)
            finally:
                os.close(handle)
        if found != staged.facts:
            raise Tampered(
                "tampered.staged",
                f'the staged payload of "{staged.component.name}" was changed or exchanged after '
                "it had been verified",
                step=10,
                expected="the file that was verified",
                found="another",
            )

    def adopt(self, components: Iterable[Component], name: str) -> list[Staged]:
        """Verify all bytes of a version's files once more, and hold the files open.

        Raises:
            Tampered, Failed: a file is missing or changed.
        """
        found = []
        with self.opened_version(name) as parent:
            for component in components:
                handle = open_to_read(parent, component.name)
                if handle is None:
                    what = f'"{component.name}" of version {name} is gone or exchanged'
                    raise Tampered("tampered.staged", what, step=10)
                self._keep(handle)
                with reading(handle) as file:
                    receive(component.plain, file)
                found.append(Staged(component, "file", component.name, handle, facts(handle)))
        self.check_version(name, found)
        return found

    def holds(self, components: Iterable[Component], name: str) -> bool:
        """Tell whether a version has its files and nothing else, byte for byte.

        Raises:
            Failed: `io.*`: that cannot be told.
        """
        try:
            self.adopt(components, name)
        except FwsignError as error:
            if not tells_of_files(error):
                raise
            return False
        return True

    def settle(self, digest: str, files: list[Staged]) -> str:
        """Move staged files to a version of their own, durably; return the version's name."""
        with explained(self.path / VERSIONS):
            name = digest if self.current() != digest else f"{digest}.again"
            remove(self.versions, name)
            os.fchmod(self.files, 0o755)
            os.fsync(self.files)
            os.rename(FILES, name, src_dir_fd=self.stage, dst_dir_fd=self.versions)
            os.fsync(self.versions)
            os.fsync(self.stage)
            self.check_version(name, files)
        return name

    def check_version(self, name: str, files: list[Staged]) -> None:
        """Refuse a version that has anything but the verified files.

        Raises:
            Tampered: `tampered.staged`.
        """
        with self.opened_version(name) as handle:
            for one in files:
                self.check(one, handle)
            if len(names(handle)) != len(files):
                raise Tampered("tampered.staged", f"there are other files in version {name}")

    @contextlib.contextmanager
    def opened_version(self, name: str) -> Iterator[int]:
        """Open the directory of a version.

        Raises:
            Failed: `io.*`.
        """
        with explained(self.path / VERSIONS / name):
            handle = os.open(name, DIRECTORY, dir_fd=self.versions)
            try:
                yield handle
            finally:
                os.close(handle)

    def current(self) -> str | None:
        """Return the name of the installed version.

        Raises:
            Failed: `io.exists`: `current` is not a link of ours.
        """
        try:
            found = os.readlink(CURRENT, dir_fd=self.handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise io_error(error, self.path / CURRENT) from error
            found = ""
        parent, _, name = found.partition("/")
        if parent != VERSIONS or not name or "/" in name or name in (".", ".."):
            raise Failed(
                "io.exists",
                f"{self.path / CURRENT} is not a link that fwsign made",
                expected=f"a link to {VERSIONS}/..., or nothing",
                found=found or "something else",
            )
        return name

    def flip(self, name: str) -> None:
        """Make `current` name a version, atomically and durably."""
        with explained(self.path / CURRENT):
            with contextlib.suppress(FileNotFoundError):
                os.unlink("new", dir_fd=self.own)
            os.symlink(f"{VERSIONS}/{name}", "new", dir_fd=self.own)
            os.fsync(self.own)
            os.rename("new", CURRENT, src_dir_fd=self.own, dst_dir_fd=self.handle)
            os.fsync(self.handle)

    def remove_version(self, name: str) -> None:
        """Remove a version."""
        with explained(self.path / VERSIONS):
            remove(self.versions, name)

    def prune(self, keep: set[str | None], most: int = 0) -> None:
        """Remove versions, the oldest first: those in `keep` stay, and others up to `most`."""
        with explained(self.path / VERSIONS):
            there = names(self.versions)
            others = sorted((one for one in there if one not in keep), key=self._staged_at)
            surplus = len(there) - max(most, len(there) - len(others))
            for name in others[: max(0, surplus)]:
                remove(self.versions, name)

    def _staged_at(self, name: str) -> int:
        return os.stat(name, dir_fd=self.versions, follow_symlinks=False).st_mtime_ns
