# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the image parsers: the result, the refusal, and reading in small pieces."""

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple, Protocol

from fwsign.errors import Malformed
from fwsign.format.payload import CHUNK_SIZE

ImageRole = Literal["application", "boot loader", "merged", "partition table", "ota data"]
"""The role of an image on an ESP board; a merged one has a boot loader and all after it."""


class Needs(NamedTuple):
    """The demands of an ESP image on its chip and flash, as its header states them.

    Args:
        min_revision: the lowest chip revision, major * 100 + minor.
        max_revision: the highest chip revision; None for no limit.
        flash_size: in bytes; None for a value without a meaning.
        flash_mode: "qio", "qout", "dio", "dout", ...
        flash_frequency: as the header states it, such as "80m"; None for an unknown value.
    """

    min_revision: int = 0
    max_revision: int | None = None
    flash_size: int | None = None
    flash_mode: str = ""
    flash_frequency: str | None = None


class ImagePart(NamedTuple):
    """An image or a table in a file for an ESP; a merged file has several.

    Args:
        role: "application", "boot loader", "partition table" or "ota data".
        start: its first byte in the file.
        end: the first byte after it and its signatures.
        chip: the chip in its header; None for a table or OTA data.
        needs: its demands; None for a table or OTA data.
        secure_boot: its intact signatures for secure boot, such as "v1" or "v2 rsa".
        label: the partition that holds it, in a merged file.
        unstartable: why no boot loader of ESP-IDF starts it; None for all that may start.
        doubt: why boot loaders of ESP-IDF may not start it; None if nothing is wrong with it.
        key_digests: the digests of the keys of its signatures of v2, as eFuses have them.
        secure_version: an application's number against rollback; None if it states none.
        page: bytes of the pages in which an application's flash is mapped; 0 for other images.
    """

    role: ImageRole
    start: int
    end: int
    chip: str | None = None
    needs: Needs | None = None
    secure_boot: tuple[str, ...] = ()
    label: str | None = None
    unstartable: str | None = None
    doubt: str | None = None
    key_digests: tuple[bytes, ...] = ()
    secure_version: int | None = None
    page: int = 0


class Image(NamedTuple):
    """The facts in an image file. It is a NamedTuple, since a dataclass costs start-up time.

    Args:
        kind: "esp", "uf2", "mcuboot" or "unknown".
        chip: "esp32c3", "rp2040", ...; None if the format does not tell.
        version: the image's version; None if it is empty or the format has none.
        project: the image's project; None if it is empty or the format has none.
        offset: its usual place, in bytes from the start of the flash.
        details: names and values for people, in the order in which to show them.
        role: its role on an ESP board; None for other images.
        parts: what an ESP file holds, by its place in the file.
        places: the chips and offsets of a file for several chips; else empty.
        notes: remarks for people, such as bytes after the image that are neither blank nor known.
    """

    kind: str
    chip: str | None = None
    version: str | None = None
    project: str | None = None
    offset: int | None = None
    details: tuple[tuple[str, str], ...] = ()
    role: ImageRole | None = None
    parts: tuple[ImagePart, ...] = ()
    places: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


class Hasher(Protocol):
    """The part of a hashlib object that this package uses."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""
        ...


def damaged(kind: str, what: str, expected: object, found: object) -> Malformed:
    """Return the only refusal of this package, for the caller to raise.

    Args:
        kind: the format, as in `Image.kind`.
        what: the part that is wrong.
        expected: the expected value, in words.
        found: the found value, in words.
    """
    return Malformed(
        "malformed.image",
        f"{kind} image: {what}: expected {expected}, found {found}",
        expected=expected,
        found=found,
    )


def size_of(file: BinaryIO) -> int:
    """Return the size of `file` in bytes; the position is at its end afterwards."""
    return file.seek(0, 2)


class Reader:
    """Reads forward, hashes the bytes it returns, and refuses a file that ends too soon.

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
        """The number of bytes that are still unread."""
        return max(self.end - self.position, 0)

    def again(self, start: int) -> "Reader":
        """Return a reader of the same bytes from `start` on; this one must not be used again."""
        return Reader(self._file, self._kind, start, self.end)

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as there are, without consuming them."""
        data = self._file.read(min(size, self.left))
        self._file.seek(self.position)
        return data

    def take(self, size: int, what: str) -> bytes:
        """Read `size` bytes, which the caller has bounded."""
        return b"".join(self.pieces(size, what))

    def pieces(self, size: int, what: str) -> Iterator[bytes]:
        """Read `size` bytes in pieces of at most `CHUNK_SIZE`: an image may be larger than memory.

        Raises:
            Malformed: `malformed.image`, before any byte is read if the file is too short.
        """
        while size:
            # Checked before each piece, since a file can shrink while it is read.
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
        reader: a reader at the first byte to check.
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


def others(reader: Reader, size: int) -> tuple[int, int] | None:
    """Find the bytes that are not 0xFF, what erased flash reads as.

    Args:
        reader: a reader at the first byte to check.
        size: how many bytes to look at; those that the file does not have are not looked at.

    Returns:
        The position of the first one and their number; None if there are none.
    """
    first, count = None, 0
    for piece in reader.pieces(min(size, reader.left), "padding"):
        found = len(piece) - piece.count(b"\xff")
        if found and first is None:
            first = reader.position - len(piece.lstrip(b"\xff"))
        count += found
    return None if first is None else (first, count)


def text(field: bytes) -> str:
    """Decode a NUL-terminated field; bytes that are not UTF-8 become backslash escapes."""
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
