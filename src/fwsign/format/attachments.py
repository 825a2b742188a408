# SPDX-License-Identifier: Apache-2.0
"""Attachments of a release, a part of its text: documents about it, such as an SBOM.

The signed text has each one's name, media type, digest and size. Its bytes are inside the envelope
as `#NAME`, or beside it, and may be left away: no device installs one, and a board that has no use
for them need not fetch them. Bytes that are there must be those that were signed (ADR 45).
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed, Tampered
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import check_name
from fwsign.format.payload import digest
from fwsign.format.suit import decode_digest, outside
from fwsign.format.suit_labels import ATTACHMENTS

MAX_ATTACHMENTS: Final = 16
"""Attachments of one release."""
MAX_ATTACHMENT_SIZE: Final = 16 * 1024 * 1024
"""Bytes of one attachment: it is held in memory."""
MAX_MEDIA_TYPE: Final = 127
"""Characters of a media type."""
# RFC 6838 s.4.2, without capital letters: no two spellings of one type.
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.ASCII)


class Attachment(NamedTuple):
    """A document about a release, which no device installs.

    Args:
        name: its file's name.
        media_type: such as "application/spdx+json".
        digest: the digest of its bytes.
        size: in bytes.
    """

    name: str
    media_type: str
    digest: Digest
    size: int

    @property
    def uri(self) -> str:
        """The name of its bytes inside an envelope."""
        return f"#{self.name}"

    def check(self, data: bytes) -> None:
        """Step 10 for an attachment: the bytes are those that were signed.

        Raises:
            Tampered: `tampered.attachment`.
        """
        found = digest(self.digest.algorithm, data)
        if (len(data), found) != (self.size, self.digest.value):
            raise Tampered(
                "tampered.attachment",
                f'the attachment "{self.name}" is not the one that was signed',
                expected=f"{self.size} bytes, {self.digest.value.hex()}",
                found=f"{len(data)} bytes, {found.hex()}",
            )


def is_media_type(text: str) -> bool:
    """Tell whether a text is a media type, in small letters and without parameters."""
    return len(text) <= MAX_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(text) is not None


def attachments_fault(
    attachments: tuple[Attachment, ...], components: tuple[Component, ...]
) -> str | None:
    """Return what is wrong with a release's attachments; None if they are well-formed."""
    if len(attachments) > MAX_ATTACHMENTS:
        return f"{len(attachments)} attachments, at most {MAX_ATTACHMENTS}"
    taken = {one.payload_name.lower() for one in components}
    taken |= {one.uri.lower().removeprefix("#") for one in components}
    for one in attachments:
        if (wrong := _fault(one)) is not None:
            return wrong
        if one.name.lower() in taken:
            return f"{one.name!r} twice, expected names that differ in more than case"
        taken.add(one.name.lower())
    return None


def _fault(one: Attachment) -> str | None:
    try:
        check_name(one.name)
    except Malformed as error:
        return f"an attachment whose {error.message.removeprefix('component: ')}"
    # A block list may have such a name, whether this release has one or not.
    if one.name.lower().startswith("blocks-"):
        return f"an attachment called {one.name!r}, which names a block list"
    if not is_media_type(one.media_type):
        return f"media type {one.media_type!r:.140}, expected one such as application/spdx+json"
    if not 1 <= one.size <= MAX_ATTACHMENT_SIZE:
        return f"an attachment of {one.size} bytes, expected 1 to {MAX_ATTACHMENT_SIZE}"
    return None


def encode_attachments(attachments: tuple[Attachment, ...]) -> dict[int, Any]:
    """Return the entry of the text map; there is none without attachments."""
    return {ATTACHMENTS: tuple(tuple(one) for one in attachments)} if attachments else {}


def decode_attachments(
    english: Mapping[Any, Any], components: tuple[Component, ...]
) -> tuple[Attachment, ...]:
    """Read the attachments of a text map; the caller encodes them again and compares.

    Raises:
        Malformed: `malformed.profile`.
    """
    found = english.get(ATTACHMENTS, ())
    if not isinstance(found, tuple):
        raise outside("attachments that are not an array")
    attachments = tuple(map(_attachment, found))
    if (wrong := attachments_fault(attachments, components)) is not None:
        raise outside(f"the text has {wrong}")
    return attachments


def _attachment(value: Any) -> Attachment:
    match value:
        case (str(name), str(media_type), tuple(signed), int(size)) if not isinstance(size, bool):
            return Attachment(name, media_type, decode_digest(signed), size)
    raise outside("an attachment that is not [name, media type, digest, size]")
