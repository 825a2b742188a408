# SPDX-License-Identifier: Apache-2.0
"""Releases that may come back: their envelopes, and their payloads for commands and boards.

    DIR/.fwsign/kept/DIGEST/envelope     the release's envelope
    DIR/.fwsign/kept/DIGEST/others/N     the payload of its component number N, if it is not a file
    DIR/.fwsign/back                     the link to the version before, made ahead

The files of a release stay in its version. What is kept is only a hint, like all staged files: it
is verified again before it is used. Moving it, removing it and going back need no new space.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Final

from fwsign.gateway.target.directory import (
    CURRENT,
    ENVELOPE,
    FILES,
    OTHERS,
    STAGE,
    VERSIONS,
    Target,
)
from fwsign.gateway.target.stage import DIRECTORY, FILE, exists, explained, names, remove, write_all

KEPT: Final = "kept"
BACK: Final = "back"


class KeptReleases:
    """The kept releases of an open target.

    Args:
        target: the open and locked target directory.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = target.path / ".fwsign" / KEPT

    def keep(self, digest: str, payloads: Collection[str] | None) -> None:
        """Keep the staged release in place of staging it: one rename.

        Args:
            digest: the digest of its manifest, in hex.
            payloads: the names of staged payloads that it needs to come back; None for all.

        Raises:
            Failed: `io.*`.
        """
        with explained(self._path):
            self._target.directory(self._target.own, KEPT, 0o700)
            with self._opened(None) as parent:
                remove(parent, digest)
                os.rename(STAGE, digest, src_dir_fd=self._target.own, dst_dir_fd=parent)
                os.fsync(parent)
                os.fsync(self._target.own)
            with self._opened(digest) as own:
                remove(own, FILES)
            with self._opened(digest, OTHERS) as others:
                for name in names(others):
                    if payloads is not None and name not in payloads:
                        remove(others, name)

    def add(self, digest: str, envelope: bytes) -> None:
        """Keep the envelope of a release of files that is in place.

        Raises:
            Failed: `io.*`.
        """
        with explained(self._path):
            self._target.clear()
            stage = self._target.directory(self._target.own, STAGE, 0o700)
            self._target.directory(stage, OTHERS, 0o700)
            flags = FILE | os.O_CREAT | os.O_EXCL
            handle = os.open(ENVELOPE, flags, 0o600, dir_fd=stage)
            try:
                write_all(handle, envelope)
                os.fsync(handle)
                os.fsync(stage)
            finally:
                os.close(handle)
        self.keep(digest, ())

    def unkeep(self, digest: str) -> None:
        """Make a kept release the staged one again, so that it need not be fetched again."""
        with explained(self._path), _if_there(), self._opened(None) as parent:
            if exists(parent, digest):
                self._target.clear()
                os.rename(digest, STAGE, src_dir_fd=parent, dst_dir_fd=self._target.own)
                os.fsync(self._target.own)
                os.fsync(parent)

    def envelope(self, digest: str) -> bytes | None:
        """Return the envelope of a kept release, which is to be verified; None without one."""
        with explained(self._path), _if_there(), self._opened(digest) as own:
            handle = os.open(ENVELOPE, FILE, dir_fd=own)
            with os.fdopen(handle, "rb") as file:
                return file.read()
        return None

    def payloads(self, digest: str) -> frozenset[str]:
        """Return the names of the payloads that are kept of a release."""
        with explained(self._path), _if_there(), self._opened(digest, OTHERS) as others:
            return frozenset(names(others))
        return frozenset()

    @contextlib.contextmanager
    def opened(self, digest: str, payload: str) -> Iterator[int]:
        """Open a kept payload for reading.

        Raises:
            Failed: `io.*`.
        """
        path = self._path / digest / OTHERS / payload
        with explained(path), self._opened(digest, OTHERS) as others:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(payload, flags, dir_fd=others)
        try:
            yield handle
        finally:
            os.close(handle)

    def drop(self, digest: str) -> None:
        """Remove a kept release; without its envelope, which goes first, it is never committed."""
        with explained(self._path), _if_there():
            with self._opened(digest) as own:
                with _if_there():
                    os.unlink(ENVELOPE, dir_fd=own)
                os.fsync(own)
            with self._opened(None) as parent:
                remove(parent, digest)

    def prune(self, keep: Collection[str]) -> None:
        """Remove all kept releases but some, given by their digests."""
        with explained(self._path), _if_there(), self._opened(None) as parent:
            for name in set(names(parent)).difference(keep):
                remove(parent, name)

    # --- the link back ----------------------------------------------------------------------------

    def prepare_back(self, version: str | None) -> None:
        """Make the link to the version before ahead, so that going back needs no space for it."""
        with explained(self._path.with_name(BACK)):
            remove(self._target.own, BACK)
            if version is not None:
                os.symlink(f"{VERSIONS}/{version}", BACK, dir_fd=self._target.own)
            os.fsync(self._target.own)

    def go_back(self, version: str | None) -> None:
        """Make `current` name the version before again; None removes it."""
        own, handle = self._target.own, self._target.handle
        with explained(self._target.path / CURRENT):
            if version is None:
                with _if_there():
                    os.unlink(CURRENT, dir_fd=handle)
            elif self._back() == f"{VERSIONS}/{version}":
                os.rename(BACK, CURRENT, src_dir_fd=own, dst_dir_fd=handle)
            else:
                self._target.flip(version)
            os.fsync(handle)

    def forget_back(self) -> None:
        """Remove the link that was made ahead."""
        with explained(self._path.with_name(BACK)):
            remove(self._target.own, BACK)

    def _back(self) -> str | None:
        try:
            return os.readlink(BACK, dir_fd=self._target.own)
        except OSError:
            return None

    @contextlib.contextmanager
    def _opened(self, digest: str | None, below: str | None = None) -> Iterator[int]:
        """Open the directory of all kept releases, of one, or one below that."""
        with contextlib.ExitStack() as stack:
            handle = self._target.own
            for name in (KEPT, *filter(None, (digest, below))):
                handle = os.open(name, DIRECTORY, dir_fd=handle)
                stack.callback(os.close, handle)
            yield handle


def _if_there() -> contextlib.suppress:
    return contextlib.suppress(FileNotFoundError)
