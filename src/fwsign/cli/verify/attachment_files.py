# SPDX-License-Identifier: Apache-2.0
"""Step 10 of `fwsign verify` for attachments: those that are there are checked."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fwsign.cli import ui
from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.format.attachments import MAX_ATTACHMENT_SIZE, Attachment
from fwsign.verify.verified import VerifiedRelease


def attachments_of(release: VerifiedRelease) -> tuple[Attachment, ...]:
    """Return the attachments of a release; none if its text was cut off."""
    return release.text.attachments if release.text else ()


def apart(release: VerifiedRelease, given: Sequence[Path]) -> tuple[dict[str, Path], list[Path]]:
    """Return the given files that are attachments, by name, and the other ones."""
    names = {one.name for one in attachments_of(release)}
    found: dict[str, Path] = {}
    others = []
    for path in given:
        if path.name not in names:
            others.append(path)
            continue
        if path.name in found:
            ui.usage(f'two files for the attachment "{path.name}": {found[path.name]} and {path}')
        found[path.name] = path
    return found, others


def check(
    release: VerifiedRelease, envelope: Path, given: Mapping[str, Path]
) -> dict[str, Path | None]:
    """Check the attachments that are there; return each one's path, None if it is not there.

    Those inside the envelope were checked with it, and are checked where they are given, too.

    Raises:
        Tampered: `tampered.attachment`.
        Failed: `io.*`.
    """
    found: dict[str, Path | None] = {}
    for one in attachments_of(release):
        beside = envelope.parent / one.name
        inside = release.attached(one.name) is not None
        path = given.get(one.name)
        if path is None and not inside and os.path.lexists(beside):
            path = beside
        if path is not None:
            one.check(read_bytes(path, MAX_ATTACHMENT_SIZE, "pipes"))
        found[one.name] = path or (envelope if inside else None)
    return found


def write(release: VerifiedRelease, directory: Path) -> list[Path]:
    """Write the attachments inside an envelope to files of their names; replace none.

    Raises:
        Failed: `io.*`.
    """
    attachments = attachments_of(release)
    if release.text is None:
        raise Failed(
            "io.missing",
            "the text was cut off, which names the attachments if there are any",
            hint="ask for the envelope as it was signed",
        )
    if not attachments:
        raise Failed("io.missing", "the release has no attachments")
    written = []
    for one in attachments:
        data, path = release.attached(one.name), directory / one.name
        if data is None or (path.is_file() and read_bytes(path, MAX_ATTACHMENT_SIZE) == data):
            continue  # not inside, or as written before
        write_atomic(path, data, overwrite=False)
        written.append(path)
    return written
