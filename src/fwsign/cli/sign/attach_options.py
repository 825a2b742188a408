# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign sign` about documents: --attach and --embed-attachments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.flash.boards.waivers import ATTACHMENT

if TYPE_CHECKING:
    from fwsign.format.attachments import Attachment
    from fwsign.signing.attachments import AttachedFile
    from fwsign.signing.release import Release

ATTACH: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--attach",
        metavar="[TYPE=]FILE",
        help="A document about the release: an SBOM, a VEX, a provenance; repeat for several. Its "
        "digest and type are signed, no device installs it. TYPE is the media type of one that is "
        "not recognised. Older verifiers refuse a text with any.",
    ),
]
EMBED_ATTACHMENTS: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--embed-attachments",
        help="Put them into the envelope. Default: verify looks for them beside it.",
    ),
]


class Attached(NamedTuple):
    """The documents of a run, which are in every envelope.

    Args:
        files: the documents, as read.
        embed: whether their bytes go into the envelopes.
        waived: whether attestations may be about other files.
    """

    files: "Sequence[AttachedFile]" = ()
    embed: bool = False
    waived: bool = False

    @property
    def signed(self) -> "tuple[Attachment, ...]":
        """What is signed of them."""
        return tuple(one.attachment for one in self.files)

    @property
    def carried(self) -> Mapping[str, bytes]:
        """The bytes that go into an envelope, by their uris."""
        return {one.attachment.uri: one.data for one in self.files} if self.embed else {}

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        return [one.path for one in self.files]

    def remarks(
        self, releases: "Sequence[Release]", files: Sequence[Path], *, together: bool
    ) -> list[str]:
        """Compare what the documents are about with the payloads; return remarks, each once.

        Args:
            releases: one of all files, or one for each.
            files: the files as they were built.
            together: whether all are one release.
        """
        if not self.files:
            return []
        from fwsign.signing.attachments import check_subjects

        each = [files] if together else [[one] for one in files]
        return [
            *dict.fromkeys(
                line
                for release, own in zip(releases, each, strict=True)
                for line in check_subjects(release, self.files, own, waived=self.waived)
            )
        ]


class AttachOptions(NamedTuple):
    """Options: the documents about a release."""

    attach: ATTACH = None
    embed_attachments: EMBED_ATTACHMENTS = False

    def read(self, waived: Sequence[str]) -> Attached:
        """Read the documents, and refuse what no envelope can have."""
        if self.embed_attachments and not self.attach:
            ui.usage("--embed-attachments without --attach")
        if not self.attach:
            return Attached()
        from fwsign.format.attachments import attachments_fault  # few releases have one
        from fwsign.signing.attachments import read_attachment

        files = [read_attachment(*_parts(one)) for one in self.attach]
        attached = Attached(files, self.embed_attachments, ATTACHMENT in waived)
        if (wrong := attachments_fault(attached.signed, ())) is not None:
            ui.usage(f"--attach: {wrong}")
        return attached


def _parts(text: str) -> tuple[Path, str | None]:
    """Split a value of --attach; a file whose name has the form of both is a file."""
    from fwsign.errors import Malformed
    from fwsign.format.attachments import is_media_type
    from fwsign.format.kinds import check_name

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
