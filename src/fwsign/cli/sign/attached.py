# SPDX-License-Identifier: Apache-2.0
"""The documents of `fwsign sign --attach`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fwsign.cli import ui
from fwsign.errors import Malformed
from fwsign.format.attachments import Attachment, attachments_fault, is_media_type
from fwsign.format.kinds import check_name
from fwsign.signing.attachments import AttachedFile, check_subjects, read_attachment
from fwsign.signing.release import NOTHING, Release


class Attached(NamedTuple):
    """The documents of a run, each in every envelope.

    Args:
        files: the documents, as read.
        embed: whether their bytes go into the envelopes.
        waived: whether attestations may be about other files.
    """

    files: Sequence[AttachedFile] = ()
    embed: bool = False
    waived: bool = False

    @property
    def signed(self) -> tuple[Attachment, ...]:
        """What is signed of them."""
        return tuple(one.attachment for one in self.files)

    @property
    def carried(self) -> Mapping[str, bytes]:
        """The bytes that go into an envelope, by their uris."""
        if not self.embed:
            return NOTHING
        return {one.attachment.uri: one.data for one in self.files}

    def check(self, release: Release, files: Sequence[Path]) -> list[str]:
        """Compare what the documents are about with the payloads; return remarks."""
        return check_subjects(release, self.files, files, waived=self.waived)


def read(typed: Sequence[str], *, embed: bool, waived: bool) -> Attached:
    """Read the documents, and refuse what no envelope can have.

    Args:
        typed: the values of --attach.
        embed: put their bytes into the envelopes.
        waived: accept attestations about other files.
    """
    if embed and not typed:
        ui.usage("--embed-attachments without --attach")
    files = [read_attachment(*_parts(one)) for one in typed]
    attached = Attached(files, embed, waived)
    if (wrong := attachments_fault(attached.signed, ())) is not None:
        ui.usage(f"--attach: {wrong}")
    return attached


def _parts(text: str) -> tuple[Path, str | None]:
    """Split a value of --attach; a file whose name has the form of both is a file."""
    media_type, equals, rest = text.partition("=")
    typed = bool(equals) and is_media_type(media_type) and not Path(text).exists()
    path = Path(rest if typed else text)
    try:
        check_name(path.name)
    except Malformed as error:
        ui.usage(
            f'the name "{path.name}" is not allowed for an attachment, expected {error.expected}',
            "copy it under another name",
        )
    return path, media_type if typed else None
