# SPDX-License-Identifier: Apache-2.0
"""What the image parsers share: the result, the refusal, and reading in small pieces."""

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple, Protocol

from fwsign.errors import Malformed
from fwsign.payload import CHUNK_SIZE

Role = Literal["application", "boot loader", "merged", "partition table", "ota data"]
"""What an ESP board does with an image; a merged one has a boot loader and all that follows it."""


class Image(NamedTuple):
    """What a file says about itself. A NamedTuple, for a dataclass costs start-up time.

    Args:
        kind: "esp", "uf2", "mcuboot" or "unknown".
        chip: "esp32c3", "rp2040", ...; None where the format does not say.
        version: as the image states it; None if it is empty or the format has none.
        project: as the image states it; None if it is empty or the format has none.
        offset: where in flash it usually goes, in bytes from the start of the flash.
        details: names and values for people, in the order in which to show them.
        role: of what an ESP board reads; None for everything else.
    """

    kind: str
    chip: str | None = None
    version: str | None = None
    project: str | None = None
    offset: int | None = None
    details: tuple[tuple[str, str], ...] = ()
    role: Role | None = None


class Hasher(Protocol):
    """What this package uses of a hashlib object."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def digest(self) -> bytes:
        """Give the digest of all bytes so far."""
        ...


def damaged(kind: str, what: str, expected: object, found: object) -> Malformed:
    """Make the one refusal of this package, for the caller to raise.

    Args:
        kind: the format, as in `Image.kind`.
        what: the part that is wrong.
        expected: what should have been there, in words.
        found: what was there, in words.
    """
    return Malformed(
        "malformed.image",
        f"{kind} image: {what}: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )


def size_of(file: BinaryIO) -> int:
    """Give the size of `file` in bytes; the position is at its end afterwards."""
    return file.seek(0, 2)


class Reader:
    """Reads forward, hashes what it hands out, and refuses where the file ends too soon.

    Args:
        file: seekable.
        kind: the format, for refusals.
        start: first byte to read.
        end: first byte not to read, at most the size of the file.
        hasher: takes every byte read, if given.
    """

    def __init__(
        self, file: BinaryIO, kind: str, start: int, end: int, hasher: Hasher | None = None
    ) -> None:
        self.position = file.seek(start)
        self.end = end
        self._file = file
        self._kind = kind
        self._hasher = hasher

    @property
    def left(self) -> int:
        """How many bytes are still to be read."""
        return max(self.end - self.position, 0)

    def peek(self, size: int) -> bytes:
        """Look at the next `size` bytes, or as many as there are, without reading them."""
        data = self._file.read(min(size, self.left))
        self._file.seek(self.position)
        return data

    def take(self, size: int, what: str) -> bytes:
        """Read `size` bytes, which the caller has bounded."""
        return b"".join(self.pieces(size, what))

    def pieces(self, size: int, what: str) -> Iterator[bytes]:
        """Read `size` bytes in pieces of at most `CHUNK_SIZE`: an image may be larger than memory.

        Raises:
            Malformed: `malformed.image`, before any byte is read where the file is too short.
        """
        while size:
            # Looked at before each piece, for a file can shrink while it is read.
            piece = self._file.read(min(size, CHUNK_SIZE)) if size <= self.left else b""
            if not piece:
                raise damaged(self._kind, what, f"{size} bytes", f"{self.left} bytes")
            if self._hasher is not None:
                self._hasher.update(piece)
            self.position += len(piece)
            size -= len(piece)
            yield piece


def first_other(reader: Reader, size: int, filler: bytes = b"\xff") -> int | None:
    """Find the first byte that is not filler.

    Args:
        reader: stands where to begin.
        size: how many bytes to look at.
        filler: one byte, what erased flash reads as.

    Returns:
        Its position in the file, or None.
    """
    for piece in reader.pieces(size, "padding"):
        rest = piece.lstrip(filler)
        if rest:
            return reader.position - len(rest)
    return None


def text(field: bytes) -> str:
    """Decode a NUL-terminated field; what is not UTF-8 shows as backslash escapes."""
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
