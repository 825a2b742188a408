# SPDX-License-Identifier: Apache-2.0
"""Attach documents to a release: recognise them, and compare what they say with the payloads."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fwsign.documents.document import Document, Subject
from fwsign.documents.recognise import KNOWN, recognise
from fwsign.errors import Failed, Malformed, Unsuitable
from fwsign.files import io_error, read_bytes
from fwsign.format.algorithms import DIGESTS, SHA256
from fwsign.format.attachments import MAX_ATTACHMENT_SIZE, Attachment
from fwsign.format.component import Digest
from fwsign.format.payload import digest
from fwsign.signing.release import Release

_NAMES = {number: one.function for number, one in DIGESTS.items()}


class AttachedFile(NamedTuple):
    """A document that was read.

    Args:
        path: its file.
        attachment: what is signed of it.
        data: its bytes.
        document: what it is; None if only its typed media type says so.
    """

    path: Path
    attachment: Attachment
    data: bytes
    document: Document | None


def read_attachment(path: Path, media_type: str | None = None) -> AttachedFile:
    """Read a document.

    Args:
        path: a file of at most 16 MiB.
        media_type: what it is, if it is none of those that are recognised.

    Raises:
        Malformed: `malformed.document`.
        Failed: `io.*`; `io.format` for one that is not recognised, `io.empty`.
    """
    data = read_bytes(path, MAX_ATTACHMENT_SIZE)
    if not data:
        raise Failed("io.empty", f"{path} is empty", expected="a document", found="an empty file")
    try:
        document = recognise(data)
    except Malformed as error:
        raise Malformed("malformed.document", f"{path}: {error.message}") from None
    found = document.media_type if document else None
    if media_type and found and media_type != found:
        raise Failed(
            "io.format", f"{path} is {found}, not {media_type}", expected=media_type, found=found
        )
    if (known := found or media_type) is None:
        raise Failed(
            "io.format",
            f"{path} is no document that fwsign recognises",
            expected=KNOWN,
            found="something else",
            hint=f"say what it is, as in --attach text/markdown={path.name}; without that: {KNOWN}",
        )
    signed = Digest(SHA256, digest(SHA256, data))
    return AttachedFile(path, Attachment(path.name, known, signed, len(data)), data, document)


def check_subjects(
    release: Release, attached: Sequence[AttachedFile], files: Sequence[Path], *, waived: bool
) -> list[str]:
    """Compare the files that documents are about with the payloads; return remarks.

    Args:
        release: what is signed.
        attached: the documents.
        files: the files as they were built, before anything was added to them.
        waived: whether an attestation about other files is only remarked.

    Raises:
        Unsuitable: `unsuitable.attachment`: an attestation that names none of the payloads.
        Failed: `io.*`.
    """
    remarks, parts = [], release.manifest.components
    for one in attached:
        document = one.document
        if document is None or not (document.subjects or document.binding):
            continue
        known = _subjects_of(release, files, {stated.algorithm for stated in document.subjects})
        if known & document.subjects:
            continue
        words = f"{one.path} ({document.words}) is about other files: it names none of the payloads"
        if document.binding and not waived:
            digests = sorted(stated.digest for stated in document.subjects)
            raise Unsuitable(
                "unsuitable.attachment",
                words,
                expected=", ".join(part.digest.value.hex() for part in parts[:3]),
                found=", ".join(digests[:3]) or "no digest",
                hint="attach that of this build; --accept attachment signs it all the same",
            )
        remarks.append(words)
    return remarks


def _subjects_of(release: Release, files: Sequence[Path], algorithms: set[str]) -> set[Subject]:
    """Return the digests of the payloads and of the files that they were made of."""
    signed = {
        Subject(_NAMES[one.digest.algorithm], one.digest.value.hex())
        for one in release.manifest.components
    }
    return signed | {Subject(name, _hashed(file, name)) for file in files for name in algorithms}


def _hashed(file: Path, name: str) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, name).hexdigest()
    except OSError as error:
        raise io_error(error, file) from error
