# SPDX-License-Identifier: Apache-2.0
"""The envelopes that `fwsign sign` writes: what they may replace, and what is said of them."""

import contextlib
import stat
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from fwsign.atomic import io_error, write_atomic
from fwsign.cli import ui
from fwsign.component import Component
from fwsign.crl import Crl
from fwsign.errors import Failed
from fwsign.example_keys import EXAMPLE_SPKI
from fwsign.sign import CRL_WARNING, known_time, used_crls
from fwsign.spans import CLOCK_TOLERANCE
from fwsign.verify import VerifiedRelease

ENVELOPE_HEAD = b"\xd8\x6b"  # tag 107
_EXPIRY_WARNING = timedelta(days=30)


def check(envelopes: Sequence[Path], inputs: Sequence[Path], *, force: bool) -> None:
    """Refuse what must not be replaced, before any work; the write itself decides again.

    Args:
        envelopes: what is to be written.
        inputs: what is read for it.
        force: replace envelopes, and nothing else.
    """
    for path in envelopes:
        for other in inputs:
            if _same(path, other):
                ui.usage(f"{path} would replace {other}, which is read", "--output names another")
        _refuse_existing(path, force=force)


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there
        return False


def _refuse_existing(path: Path, *, force: bool) -> None:
    try:
        linked = path.is_symlink() and not path.exists()
        mode = path.lstat().st_mode if linked else path.stat().st_mode
        if not force:
            error = Failed("io.exists", f"{path} exists already")
            error.hint = "--force replaces envelopes that exist"
            raise error
        if stat.S_ISDIR(mode):
            raise Failed("io.directory", f"cannot write {path}: is a directory")
        if not linked:  # a link that leads nowhere is replaced
            _refuse_other(path, regular=stat.S_ISREG(mode))
    except FileNotFoundError:
        return
    except OSError as error:
        raise io_error(error, path, "write") from error


def _refuse_other(path: Path, *, regular: bool) -> None:
    """--force replaces an envelope or an empty file, never a payload, a key or a device."""
    head = b"another"
    if regular:
        with path.open("rb") as file:
            head = file.read(len(ENVELOPE_HEAD))
    if head not in (b"", ENVELOPE_HEAD):
        error = Failed(
            "io.exists",
            f"{path} exists already and is not an envelope",
            expected="an envelope, or no such file",
            found="something else",
        )
        error.hint = "choose another name, or remove it yourself"
        raise error


def refuse_unused(crls: Sequence[bytes], verified: VerifiedRelease) -> None:
    """Refuse a CRL that no device would use: whoever gave it meant something else."""
    used = {crl.data for one in verified.signers for issued in one.issued for crl in issued.crls}
    if not used.issuperset(crls):
        raise Failed("io.crl-unused", "a CRL given belongs to no issuer in the signer's path")


def write(
    envelopes: Sequence[Path],
    files: Sequence[Path],
    signed: Sequence[tuple[bytes, VerifiedRelease]],
    now: datetime,
    *,
    force: bool,
) -> None:
    """Write all envelopes, then say which, what is in them and what should be known."""
    written: list[Path] = []
    try:
        for path, (envelope, _) in zip(envelopes, signed, strict=True):
            write_atomic(path, envelope, overwrite=force)
            written.append(path)
    finally:  # where one fails, those before it are there and good
        for path in written:
            ui.out(str(path))
    for _, verified in signed:
        for component in verified.components:
            ui.note(f"{component.name}: {component.size} bytes, payload {component.uri}")
        for one in verified.signers:
            if one.signed_at is not None:
                ui.note(f"time stamp: {one.signed_at} by {one.tsa}")
    for line in _envelope_payloads(files):
        ui.note(f"warning: {line}")
    for line in dict.fromkeys(line for _, verified in signed for line in _warnings(verified, now)):
        ui.note(f"warning: {line}")
    inside = all(one.uri.startswith("#") for one in signed[0][1].components)
    apart = [] if inside else [file for file in files if file.parent != envelopes[0].parent]
    ui.note(" ".join(["next: fwsign verify", *map(str, (envelopes[0], *apart))]))


def _envelope_payloads(files: Sequence[Path]) -> list[str]:
    lines = []
    for file in files:
        with contextlib.suppress(OSError), file.open("rb") as opened:
            if opened.read(len(ENVELOPE_HEAD)) == ENVELOPE_HEAD:
                lines.append(f"{file} is an envelope itself, and was signed as a payload")
    return lines


def crl_warnings(crls: Iterable[Crl], at: datetime) -> list[str]:
    """Say which CRLs of an envelope go stale soon, or did."""
    return [
        f"{crl.name} {'went' if crl.next_update <= at else 'goes'} stale "
        f"{crl.next_update:%Y-%m-%d}: devices refuse the release from then on, "
        "until fwsign staple puts in a newer one"
        for crl in crls
        if crl.next_update < at + CRL_WARNING
    ]


def _left_by_boards(verified: VerifiedRelease) -> list[str]:
    """Say which components of a release for boards a board does not take."""
    chips = sorted({one.identifier[1].decode() for one in verified.components if _is_flash(one)})
    files = [one.name for one in verified.components if not _is_flash(one)]
    lines = [
        f"{name} is not for flash: fwsign flash refuses the release unless it is left out by "
        "name; --target CHIP@OFFSET says where on the board it goes"
        for name in files
        if chips
    ]
    if len(chips) > 1:
        lines.append(f"for {', '.join(chips)}: each board takes what is for its own chip")
    return lines


def _is_flash(component: Component) -> bool:
    return component.identifier[0] == b"flash"


def _warnings(verified: "VerifiedRelease", now: datetime) -> list[str]:
    crls = used_crls(verified)
    at = known_time(crls, now)
    lines = [f"devices need the profile compat: {note}" for note in verified.notes]
    if at - now > CLOCK_TOLERANCE:
        lines.append(
            f"the clock is wrong, CRLs were made {at:%Y-%m-%d}: devices may have seen higher "
            f"sequence numbers than {verified.manifest.sequence_number}"
        )
    lines += crl_warnings(crls, at)
    lines += _left_by_boards(verified)
    for one in verified.signers:
        if one.path is None:
            continue
        if not EXAMPLE_SPKI.isdisjoint(one.path.keys):
            lines.append("signed with a published example key, which anyone can use")
        if not one.path.vendors:
            lines.append(
                f'certificate "{one.path.name}" names no vendor: devices must pin '
                f"{verified.vendor} for key {one.path.keys[0]}"
            )
        if not one.revocation_checked:
            lines.append("no CRLs in the envelope: devices cannot tell whether it is revoked")
        for certificate in one.path.certificates:
            end = certificate.parsed.not_valid_after_utc
            if end - at < _EXPIRY_WARNING:
                lines.append(f'certificate "{certificate.name}" expires {end:%Y-%m-%d}')
    return lines
