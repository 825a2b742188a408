# SPDX-License-Identifier: Apache-2.0
"""One image in a file for an ESP, with its signatures, and the bytes after it."""

from typing import BinaryIO, Final, NamedTuple

from fwsign.errors import Malformed
from fwsign.images.base import ImagePart, ImageRole, Reader, others, size_of
from fwsign.images.esp_chips import Chip
from fwsign.images.esp_image import (
    App,
    Body,
    app_of,
    boot_of,
    has_code,
    header_details,
    is_mapped,
    read,
    unstartable,
)
from fwsign.images.esp_signature import Signatures, read_v1, read_v2

_NO_CODE: Final = "no segment is mapped as code: boot loaders of ESP-IDF abort when they start it"


class One(NamedTuple):
    """An intact image.

    Args:
        body: the image.
        app: its descriptor; None for a boot loader.
        signatures: what follows it.
        start: its first byte in the file.
        end: the first byte after it and its signatures.
        digest: whether a digest for secure boot v1 was before it.
    """

    body: Body
    app: App | None
    signatures: Signatures
    start: int
    end: int
    digest: bool = False

    @property
    def chip(self) -> Chip:
        """The chip in its header."""
        return self.body.chip

    @property
    def is_app(self) -> bool:
        """Whether it is an application: older ones have no descriptor.

        The ROM loads a boot loader into memory, so that no part of one is mapped from flash.
        """
        return self.app is not None or (not boot_of(self.body) and is_mapped(self.body))

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """As in `Image`."""
        own = self.app.details if self.app else boot_of(self.body)
        none = (("descriptor", "none"),)
        before = (("secure boot digest", "v1"),) if self.digest else ()
        return (*header_details(self.body), *before, *self.signatures.details, *(own or none))

    def part(self, label: str | None = None) -> ImagePart:
        """Return its facts, with the label of its partition."""
        role: ImageRole = "application" if self.is_app else "boot loader"
        signed = ("v1",) if self.digest else self.signatures.intact
        return ImagePart(
            role,
            self.start,
            self.end,
            self.chip.name,
            self.body.needs,
            signed,
            label,
            unstartable(self.body, self.app) if self.app else None,
            _NO_CODE if self.app and not has_code(self.body) else None,
            self.signatures.key_digests,
            self.app.secure_version if self.app else None,
            self.app.page if self.app else 0,
        )


def read_one(
    file: BinaryIO, start: int, end: int, *, in_flash: bool = False, signed: bool = True
) -> One:
    """Read an image and its signatures.

    Args:
        file: seekable.
        start: its first byte.
        end: the first byte that cannot belong to it.
        in_flash: whether a bad signature may be that of an earlier image: then it is none.
        signed: whether its signatures are wanted.

    Raises:
        Malformed: `malformed.image`.
    """
    body = read(file, start, end)
    app = app_of(body)
    after = body.reader.position
    if not signed:
        return One(body, app, Signatures(), start, after)
    try:
        signatures = read_v2(body.reader, start, body.hasher, body.chip.name)
    except Malformed:
        if not in_flash:
            raise
        return One(body, app, Signatures(), start, after)
    if not signatures.details and app and body.chip.name == "esp32":
        signatures = read_v1(body.reader)
    return One(body, app, signatures, start, body.reader.position)


def tail(file: BinaryIO, start: int, what: str) -> tuple[str, ...]:
    """Return a note about the bytes from `start` on, if they are not blank."""
    size = size_of(file)
    return remark(others(Reader(file, "esp", start, size), size), f"after the {what}")


def remark(found: tuple[int, int] | None, where: str) -> tuple[str, ...]:
    """Return a note about bytes that are neither blank nor known.

    Args:
        found: as `others` returns it.
        where: in words.
    """
    if found is None:
        return ()
    first, count = found
    number = f"{count} bytes" if count > 1 else "1 byte"
    verb = "are" if count > 1 else "is"
    return (f"{number} {where} {verb} not blank, the first at {first:#x}",)
