# SPDX-License-Identifier: Apache-2.0
"""A glance at the beginning of an ESP image: header and descriptors, unverified.

Reading a whole application back takes a minute on a slow line. This tells what it claims to be.
"""

import hashlib
import io
from typing import Final, NamedTuple

from fwsign.images import esp8266
from fwsign.images.base import ImageRole, Reader
from fwsign.images.esp_image import HEADER, SEGMENT, Body, app_of, boot_of, chip_of

HEAD_SIZE: Final = 512
"""Bytes at the beginning of an image with all that this module looks at."""
_DESCRIPTOR: Final = 256  # bytes of the descriptor of an application, the longer one


class Glance(NamedTuple):
    """What an image claims to be.

    Args:
        chip: the chip in its header; None for an ESP8266, whose images have none.
        role: "application" or "boot loader".
        project: as in its descriptor; None if it has none.
        version: as in its descriptor; None if it has none.
        details: more of its descriptor, for people.
    """

    chip: str | None
    role: ImageRole
    project: str | None
    version: str | None
    details: tuple[tuple[str, str], ...]


def glance(head: bytes) -> Glance | None:
    """Describe an image by its first `HEAD_SIZE` bytes; None if it is none."""
    chip = chip_of(head)
    if chip is None:
        old = esp8266.claims(head)
        return Glance(None, "application", None, None, ()) if old else None
    first = head[HEADER.size + SEGMENT.size :][:_DESCRIPTOR]
    nothing = Reader(io.BytesIO(), "esp", 0, 0)
    body = Body(chip, HEADER.unpack_from(head), (), first, 0, None, hashlib.sha256(), nothing)
    app = app_of(body)
    if app is None:
        return Glance(chip.name, "boot loader", None, None, boot_of(body))
    return Glance(chip.name, "application", app.project, app.version, app.details)
