# SPDX-License-Identifier: Apache-2.0
"""`fwsign sign --hash-envelope` and `--minisig`: a signature beside each file."""

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.cli import approvals, inputs, payloads, ui
from fwsign.cli.sign import existing, identity
from fwsign.cli.sign.form import Task
from fwsign.errors import Failed, FwsignError
from fwsign.files import read_bytes, write_atomic
from fwsign.format import minisig
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.payload import measure
from fwsign.format.suit_labels import HASH_ENVELOPE_HEAD, MINISIG_HEAD
from fwsign.pki.log import Signature
from fwsign.signing.any_file import minisign_key, sign_hash_envelope, sign_minisig
from fwsign.verify.any_file import verify_hash_envelope, verify_minisig
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner, Signing


_FORCE: Final = "it is of another file, or by another key: --force replaces it"
_HEADS: Final = (HASH_ENVELOPE_HEAD, MINISIG_HEAD)


class _Signed(NamedTuple):
    """A signature: its path, its bytes, whether it is new, and the file's digest in hex."""

    path: Path
    data: bytes
    new: bool
    sha256: str


def sign(
    task: Task, found: "FoundSigner", source: str | None, log: Path | None, *, as_json: bool
) -> None:
    """Sign each file; a signature that is good already stays.

    Args:
        task: what to sign.
        found: the signer.
        source: where the passphrase comes from, as typed.
        log: the approval log; None for none.
        as_json: say it as one JSON object.
    """
    for file in task.files:
        if file == inputs.STREAM or not file.name.isprintable():
            ui.usage(f"{file.name!r} is not the name of a file", "its name is signed, too")
    places = [task.place(file) for file in task.files]
    existing.check(places, task.files, force=task.force, heads=_HEADS)
    now = _stamp_time()
    signing = identity.opened(found, source)
    signed = [_signed(task, file, signing, now) for file in task.files]
    place = (found.spki, signing.place)
    lines = [Signature("file", str(one.path), one.sha256, *place) for one in signed if one.new]
    approvals.record(log, lines, inputs.now())
    for one in signed:
        if one.new:
            write_atomic(one.path, one.data, overwrite=task.force)
    _say(task, signed, signing, found, as_json=as_json)


def _stamp_time() -> datetime:
    """Return the time of a comment: SOURCE_DATE_EPOCH makes the same bytes of the same file."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    usable = epoch.isdecimal() and epoch.isascii() and len(epoch) < 11
    return datetime.fromtimestamp(int(epoch), UTC) if usable else inputs.now()


def _signed(task: Task, file: Path, signing: "Signing", now: datetime) -> _Signed:
    """Return the signature of one file: that which is there, if it is good, or a new one."""
    path = task.place(file)
    with payloads.opened(file) as source:
        sha256 = measure(source)[0].value.hex()
    if not task.force and path.exists():
        data = read_bytes(path, MAX_ENVELOPE_SIZE)
        if _is_good(task, data, file, signing):
            return _Signed(path, data, False, sha256)
        raise Failed("io.exists", f"{path} exists already", hint=_FORCE)
    with payloads.opened(file) as source:
        if task.as_minisig:
            data = sign_minisig(source, file.name, signing.identity.signer, at=now)
        else:
            data = sign_hash_envelope(
                source,
                file.name,
                signing.identity,
                [signing.anchor],
                at=inputs.now(),
                allow_example_keys=task.allow_example_keys,
            )
    return _Signed(path, data, True, sha256)


def _is_good(task: Task, data: bytes, file: Path, signing: "Signing") -> bool:
    """Tell whether a signature that exists is this signer's, of this file."""
    with contextlib.suppress(FwsignError):
        if task.as_minisig:
            found = verify_minisig(data, [minisign_key(signing.identity.signer)])
        else:
            policy = DevicePolicy(profile="compat", allow_example_keys=task.allow_example_keys)
            found = verify_hash_envelope(data, [signing.anchor], policy, at=inputs.now())
            path = found.signer.path if found.signer else None
            if path is None or path.keys[0] != key_digest(signing.identity.signer.public_key):
                return False
        with payloads.opened(file) as source:
            found.check(source)
        return found.name == file.name
    return False


def _say(
    task: Task,
    signed: Sequence[_Signed],
    signing: "Signing",
    found: "FoundSigner",
    *,
    as_json: bool,
) -> None:
    key = None
    if task.as_minisig:
        key = minisig.key_line(minisign_key(signing.identity.signer))
    if as_json:
        facts: list[dict[str, Any]] = [
            {
                "file": str(file),
                "signature": str(one.path),
                "sha256": one.sha256,
                "result": "signed" if one.new else "unchanged",
            }
            for file, one in zip(task.files, signed, strict=True)
        ]
        about = {"signer": found.name, "place": signing.place, "minisign_key": key}
        ui.print_json({"verdict": "signed", "files": facts, **about})
    for one in signed:
        if not as_json:
            ui.out(str(one.path))
        if not one.new:
            ui.note(f"{one.path} unchanged: it is good already")
    if key is not None:
        ui.note(f"minisign checks it with: minisign -Vm {task.files[0]} -P {key}")
        ui.next_command("verify", signed[0].path, "--minisign-key", key)
    else:
        ui.next_command("verify", signed[0].path)
