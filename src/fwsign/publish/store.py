# SPDX-License-Identifier: Apache-2.0
"""Stores: folders, buckets and registries behind one protocol.

A store moves bytes and decides nothing. What it answers is not believed: `fwsign.publish.writing`
reads back what it wrote.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from fwsign.errors import Failed
from fwsign.publish.layout import probe_path

LARGEST_READ: Final = 32 * 1024 * 1024
"""Bytes that are read at a time; no envelope is larger."""


class StoredEntry(NamedTuple):
    """The facts about a path that a store holds.

    Args:
        path: the path in the place.
        size: bytes.
        modified: Unix time of the last write, by the store's clock.
    """

    path: str
    size: int
    modified: float


class Source(Protocol):
    """The source of a payload; it raises at its end if the bytes were not the right ones."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


class Store(Protocol):
    """A place where releases are published. Threads may use one at once."""

    @property
    def place(self) -> str:
        """The place, as it was named."""
        ...

    def entry(self, path: str) -> StoredEntry | None:
        """Return the facts about a path; None if nothing is there."""
        ...

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a path, at most `LARGEST_READ` of them.

        Args:
            path: the path.
            start: the first byte.
            size: how many at most; None for all.

        Raises:
            Failed: `io.missing`, `io.*`; `io.format`: it is larger than `LARGEST_READ`.
        """
        ...

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        """Write a path that is not there; a reader sees all of it or nothing.

        Args:
            path: the path.
            source: gives the bytes; if it raises, nothing is written.
            size: how many it gives.

        Returns:
            Whether it was written; False if it was there before.
        """
        ...

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        """Write a small path, if what is there is still what was seen there.

        Args:
            path: the path.
            data: the new content.
            seen: the content that was read before; None if nothing was there.
            names: the paths, with sizes, that the content names; a registry keeps them by that.

        Returns:
            Whether the store itself guarantees that nothing else was replaced. If it does not, two
            writers at once may replace each other's.

        Raises:
            Failed: `state.conflict`: another content is there; `io.*`.
        """
        ...

    def names(self, prefix: str) -> Iterator[StoredEntry]:
        """Yield what is there under a prefix, such as `sha256/`; "" is for channels."""
        ...

    def delete(self, path: str) -> None:
        """Remove a path; one that is not there is no error."""
        ...

    def now(self) -> float:
        """Return the Unix time by the clock that writes `StoredEntry.modified`.

        A store that tells no time gets something written, which is removed again.

        Raises:
            Failed: `io.*`.
        """
        ...


def conflict(place: str, path: str) -> Failed:
    """Return the refusal of a write after another writer's."""
    return Failed(
        "state.conflict",
        f"{path} in {place} changed while it was to be replaced: another publisher is at work",
        expected="what was read before",
        found="another content",
    )


def missing(place: str, path: str) -> Failed:
    """Return the error of a path that is not there."""
    return Failed("io.missing", f"{place} has no {path}", expected=path, found="nothing")


def written_time(store: Store, write: Callable[[str], object]) -> float:
    """Return the time that a store gives to what is written now; it is removed again.

    Args:
        store: the store.
        write: writes something small to a path.

    Raises:
        Failed: `io.*`.
    """
    path = probe_path()
    write(path)
    try:
        entry = store.entry(path)
    finally:
        store.delete(path)
    if entry is None:
        raise missing(store.place, path)
    return entry.modified


def check_size(place: str, path: str, size: int) -> None:
    """Refuse to read more into memory than any envelope has.

    Raises:
        Failed: `io.format`.
    """
    if size > LARGEST_READ:
        raise Failed(
            "io.format",
            f"{path} in {place} has {size} bytes, at most {LARGEST_READ} are read",
            expected=f"at most {LARGEST_READ} bytes",
            found=f"{size} bytes",
        )
