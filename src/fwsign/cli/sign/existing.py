# SPDX-License-Identifier: Apache-2.0
"""Envelopes that exist before `fwsign sign`: what may be replaced, and what stays as it is.

An envelope that says the same already stays, so that a pipeline may run again: the same manifest,
text and payloads inside, one block by the same certificate, and a device accepts it now. Only newer
CRLs are put in, as `fwsign staple` does, since no signature covers them (ADR 45).
"""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.cli import ui
from fwsign.cli.inputs import STREAM
from fwsign.errors import Failed, FwsignError
from fwsign.files import io_error, read_bytes
from fwsign.format.cose import decode_block
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, Envelope, decode_envelope
from fwsign.format.suit import decode_manifest, encode_manifest
from fwsign.format.suit_labels import ENVELOPE_HEAD
from fwsign.signing.stapling import staple
from fwsign.x509.certificate import parse_certificate

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.signing.release import Release
    from fwsign.verify.verified import VerifiedRelease

FORCE: Final = "--force replaces envelopes that exist"
_BY_CLOCK: Final = "--sequence or SOURCE_DATE_EPOCH makes the same of the same files"


class SameEnvelope(NamedTuple):
    """An envelope that exists and says the same.

    Args:
        envelope: its bytes, with the newest CRLs.
        verified: the result of verifying it.
        refreshed: whether it got newer CRLs.
    """

    envelope: bytes
    verified: "VerifiedRelease"
    refreshed: bool


Judge = Callable[[bytes, "Release"], "VerifiedRelease"]
"""Verifies an envelope as a device that has to accept this release by this signer."""


def check(
    envelopes: Sequence[Path],
    inputs: Sequence[Path],
    *,
    force: bool,
    heads: tuple[bytes, ...] = (ENVELOPE_HEAD,),
    instead: str = "--output names another",
) -> None:
    """Refuse what must not be replaced, before any work; the write itself decides again.

    Args:
        envelopes: the paths to write.
        inputs: the files that are read for them.
        force: replace envelopes, but no other files.
        heads: the first bytes of what counts as an envelope here.
        instead: the hint where a file would replace one that is read.
    """
    seen: set[str] = set()
    read: dict[tuple[int, int] | None, Path] = {}
    for other in inputs:
        read.setdefault(_identity(other), other)
    read.pop(None, None)
    for path in envelopes:
        if path == STREAM:
            continue
        if found := read.get(_identity(path)):
            ui.usage(f"{path} would replace {found}, which is read", instead)
        if (place := os.path.realpath(path)) in seen:
            ui.usage(f"two files would become {path}", "sign them in two calls")
        seen.add(place)
        _refuse_existing(path, heads, force=force)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what two names of one file have in common; None if there is no file."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _refuse_existing(path: Path, heads: tuple[bytes, ...], *, force: bool) -> None:
    try:
        linked = path.is_symlink() and not path.exists()
        mode = path.lstat().st_mode if linked else path.stat().st_mode
        if not force and (linked or not stat.S_ISREG(mode) or not _begins(path, heads)):
            raise Failed("io.exists", f"{path} exists already", hint=FORCE)
        if stat.S_ISDIR(mode):
            raise Failed("io.directory", f"cannot write {path}: is a directory")
        if not linked:  # a broken link is replaced
            _refuse_other(path, heads, regular=stat.S_ISREG(mode))
    except FileNotFoundError:
        _refuse_no_directory(path)
    except OSError as error:
        raise io_error(error, path, "write") from error


def _refuse_no_directory(path: Path) -> None:
    """Refuse a place in no directory now; later a key would have been used for nothing."""
    try:
        path.parent.stat()
    except OSError as error:
        raise io_error(error, path, "write") from error


def _refuse_other(path: Path, heads: tuple[bytes, ...], *, regular: bool) -> None:
    """--force replaces an envelope or an empty file, never a payload, a key or a device."""
    if not regular or (path.stat().st_size and not _begins(path, heads)):
        raise Failed(
            "io.exists",
            f"{path} exists already and is not an envelope",
            expected="an envelope, or no such file",
            found="something else",
            hint="choose another name, or remove it yourself",
        )


def _begins(path: Path, heads: tuple[bytes, ...]) -> bool:
    with path.open("rb") as file:
        return file.read(max(map(len, heads))).startswith(heads)


def kept(path: Path, release: "Release", found: "FoundSigner", judge: Judge) -> SameEnvelope | None:
    """Return the envelope at a path if it says the same; None if there is none.

    Args:
        path: where the envelope would be written.
        release: what would be signed.
        found: who would sign it.
        judge: verifies it.

    Raises:
        Failed: `io.exists`: there is another envelope, or one that devices refuse.
    """
    if path == STREAM or not os.path.lexists(path):
        return None
    data = read_bytes(path, MAX_ENVELOPE_SIZE)
    try:
        difference = _difference(decode_envelope(data), release, found)
        if difference is None:
            envelope = staple(data, found.crls, skip_unused=True) if found.crls else data
            return SameEnvelope(envelope, judge(envelope, release), envelope != data)
    except FwsignError as error:
        difference = f"and devices refuse it: {error.message}"
    hint = FORCE
    if difference.startswith("with sequence number"):
        hint = f"{_BY_CLOCK}; {FORCE}"
    raise Failed("io.exists", f"{path} exists already, {difference}", hint=hint)


def _difference(envelope: Envelope, release: "Release", found: "FoundSigner") -> str | None:
    """Return in words what an envelope says differently; None if it says the same."""
    if envelope.manifest != encode_manifest(release.manifest):
        old, new = decode_manifest(envelope.manifest), release.manifest
        if (old.vendor_id, old.class_id) != (new.vendor_id, new.class_id):
            return "for another product"
        if old.components != new.components:
            return "with other content"
        if old.sequence_number != new.sequence_number:
            return f"with sequence number {old.sequence_number}, now {new.sequence_number}"
        return "with another text, expiry, block list or attachment"
    if envelope.text != release.text:
        return "with its text cut off"
    if envelope.integrated != release.integrated:
        return "with other payloads inside"
    leaves = [block.chain[0] for block in map(decode_block, envelope.blocks) if block.chain]
    if found.chain[0] not in leaves:
        names = ", ".join(f'"{parse_certificate(one).name}"' for one in leaves) or "a bare key"
        return f'signed by {names}, now by "{found.name}"'
    return None
