# SPDX-License-Identifier: Apache-2.0
"""Where a completed envelope goes, and what is there already."""

from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli.digest.files import ENDING, ENVELOPE, signer_word, stem
from fwsign.cli.sign import existing
from fwsign.errors import Failed, FwsignError
from fwsign.files import read_bytes
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope
from fwsign.signing.request import is_request

if TYPE_CHECKING:
    from fwsign.signing.request import Request


def default(request: Path, wanted: "Request") -> Path:
    """Return the envelope's path: the request's, with another ending and without the signer."""
    plain = stem(request, ENDING)
    plain = stem(plain, f".{signer_word(wanted.leaf.name)}")
    return plain.with_name(plain.name + ENVELOPE)


def existing_envelope(path: Path, wanted: "Request", *, force: bool) -> bytes | None:
    """Return the envelope of the same release that is there already; None if nothing is there.

    Raises:
        Failed: `io.exists`: something else is there, or another release and no --force; `io.*`.
    """
    if not path.exists():
        return None
    try:
        data = read_bytes(path, MAX_ENVELOPE_SIZE, "files")
        same = decode_envelope(data).digest == wanted.envelope.digest
        if same and not is_request(data):
            return data
    except FwsignError:
        same = False
    if same:
        raise Failed(
            "io.exists",
            f"{path} is a request itself",
            expected="an envelope, or no such file",
            found="a request",
            hint="name the envelope with --output FILE",
        )
    if not force:
        raise Failed(
            "io.exists",
            f"{path} exists already, and is not of this release",
            expected="the same release, or no such file",
            found="something else",
            hint="--force replaces another envelope; --output names another file",
        )
    existing.check([path], [], force=True)
    return None


def refuse_changed(path: Path, wanted: "Request", into: bytes | None, *, force: bool) -> None:
    """Refuse to replace an envelope that has got another signature since it was read.

    Raises:
        Failed: `state.conflict`; as `existing_envelope`.
    """
    if existing_envelope(path, wanted, force=force) != into:
        raise Failed(
            "state.conflict",
            f"{path} has changed since it was read: somebody else attaches a signature",
            expected="the same envelope",
            found="another",
            hint="attach it again: both signatures are then in it",
        )
