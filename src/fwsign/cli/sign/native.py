# SPDX-License-Identifier: Apache-2.0
"""Native signatures in `fwsign sign`: made before the manifest, which has the new image's digest.

An image with its signature is a new file, whole or absent; the given file stays as it is. Signed
again, the same image by the same keys stays as it is, too: signatures of RSA are random.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign import native
from fwsign.cli import approvals, inputs, outputs, ui
from fwsign.cli.sign.naming import assign
from fwsign.errors import Failed, FwsignError, Tampered
from fwsign.files import io_error, read_bytes, write_atomic
from fwsign.images import recognise
from fwsign.keys import open_key
from fwsign.native import Native, NativeSignature, agreement
from fwsign.pki.log import Signature

if TYPE_CHECKING:
    from fwsign.cli.sign.native_options import ApprovalLog, NativeWish
    from fwsign.cli.sign.targets import TargetFile
    from fwsign.keys.held import HeldKey

_OUTPUT = "--native-output"


class NativeFiles(NamedTuple):
    """The files that get a native signature, or have one already.

    Args:
        wish: what is wanted.
        outputs: where each signed image goes, by the file that was given; the file itself where
            nothing is made.
    """

    wish: "NativeWish"
    outputs: Mapping[Path, Path]

    def path(self, file: Path) -> Path:
        """Return the file that the release has for a given one."""
        return self.outputs.get(file, file)

    @property
    def written(self) -> dict[Path, Path]:
        """The new files, by the given ones."""
        return {file: path for file, path in self.outputs.items() if file != path}


def planned(wish: "NativeWish", files: Sequence[Path], typed: Sequence[str]) -> NativeFiles:
    """Find the images among the files, and where each goes; write nothing.

    Args:
        wish: what is wanted.
        files: the given files.
        typed: the values of --native-output.
    """
    images = [file for file in files if native.suits(wish.kind, _read(file))]
    if not images:
        names = ", ".join(map(str, files))
        raise Failed(
            "io.format",
            f"no image for --native {wish.kind} is among {names}",
            expected=f"an image for {wish.kind}",
            found=names,
        )
    given = assign(files, typed, _OUTPUT, "PATH")
    for file in given:
        if file not in images:
            ui.usage(f"{_OUTPUT} for {file}, which is no image for {wish.kind}")
    if not wish.keys:
        if given:
            ui.usage(f"{_OUTPUT} without a key", "--native-key URI names one")
        return NativeFiles(wish, {file: file for file in images})
    outputs = {
        file: Path(given[file]) if file in given else file.with_suffix(f".signed{file.suffix}")
        for file in images
    }
    for path in outputs.values():
        if os.path.realpath(path) in {os.path.realpath(one) for one in files}:
            ui.usage(f"{path} would replace a file that is read", f"{_OUTPUT} names another")
    if len({os.path.realpath(path) for path in outputs.values()}) < len(outputs):
        ui.usage("two images would become one file", f"{_OUTPUT} FILE=PATH names another")
    return NativeFiles(wish, outputs)


@contextmanager
def signed(
    plan: NativeFiles,
    groups: "Sequence[Sequence[TargetFile]]",
    log: "ApprovalLog",
    *,
    force: bool,
) -> "Iterator[list[list[TargetFile]]]":
    """Sign the images, write them, and yield the targets with the new files in their places.

    The keys stay open until the block ends: a signer on the same token needs no second login.

    Args:
        plan: the files.
        groups: the targets of each release.
        log: where each signature is logged before its image is written.
        force: replace signed images that exist.

    Raises:
        FwsignError: as `fwsign.native.sign`; `untrusted.native-key`, `io.exists`, `io.write`.
    """
    wish = plan.wish
    with ExitStack() as logins:
        keys = []
        for uri, source in zip(wish.keys, wish.sources, strict=True):
            ask = inputs.passphrase_source(source, f"the key {uri}", "--native-pass")
            keys.append(open_key(uri, ask))
            logins.callback(keys[-1].close)
        otp = None if wish.otp is None else _otp(wish.otp, keys, force=force)
        made = {file: _made(plan, file, keys, log, force=force) for file in plan.outputs}
        if wish.otp is not None and otp is not None:
            write_atomic(wish.otp, otp, overwrite=force)
            ui.note(f"{wish.otp}: for picotool otp load, which cannot be undone")
        yield [[_moved(one, plan, made) for one in group] for group in groups]


def check_others(file: Path) -> None:
    """Refuse an image with a native signature that is wrong, whoever made it.

    Raises:
        Tampered: `tampered.native`.
    """
    try:
        native.read(_read(file))
    except Tampered as error:
        raise Tampered(
            error.code,
            f"{file}: {error.message}",
            expected=error.expected,
            found=error.found,
            hint="it was changed after it was signed for its chip; sign it again",
        ) from None


def _made(
    plan: NativeFiles, file: Path, keys: "Sequence[HeldKey]", log: "ApprovalLog", *, force: bool
) -> Native:
    """Return the native signatures of a file's image, which is written if it is a new one."""
    wish, path, image = plan.wish, plan.outputs[file], _read(file)
    if not keys:
        return _checked(wish, file, image, keys)
    data = native.sign(
        wish.kind, image, keys, security_version=wish.security_version, options=wish.options
    )
    found = _checked(wish, file, data, keys)
    for line in native.remarks(wish.kind, data):
        ui.note(f"warning: {path}: {line}")
    if not force and _is_there(wish.kind, path, data, found):
        ui.note(f"{path} unchanged: it is signed by the same keys already")
        return found
    if force:
        _refuse_other(wish.kind, path)
    before = native.read_as(wish.kind, image)
    there = before.key_digests if before is not None else ()
    fresh = [one for one in found.signatures if one.key_digest not in there]
    approvals.record(log.file, _lines(path, data, fresh, keys, found), log.now)
    write_atomic(path, data, overwrite=force)
    ui.note(f"{path}: {file} with a native signature, {wish.kind}")
    for one in found.signatures:
        ui.note(f"native key {one.key_digest.hex()}, {one.algorithm}")
    return found


def _otp(path: Path, keys: "Sequence[HeldKey]", *, force: bool) -> bytes | None:
    """Return what `picotool otp load` burns; None if it is there already.

    It is asked before anything is signed: another file there is refused.
    """
    from fwsign.native.rp2350 import otp_json  # few releases are for this chip

    data = otp_json([key.public_key for key in keys]).encode()
    if not force and os.path.lexists(path):
        if _read(path) == data:
            return None
        hint = "--native-otp names another file, --force replaces this one"
        raise Failed("io.exists", f"{path} exists already, with other content", hint=hint)
    outputs.check(path, overwrite=True)
    return data


def _lines(
    path: Path,
    data: bytes,
    fresh: "Sequence[NativeSignature]",
    keys: "Sequence[HeldKey]",
    found: Native,
) -> list[Signature]:
    """Return the lines of the log for the signatures that were made now."""
    places = {_spki(key.public_key): key.place for key in keys}
    digest = hashlib.sha256(data).hexdigest()
    lines = []
    for one in fresh:
        spki = _spki(one.public_key)
        facts = {"native": found.kind, "key_digest": one.key_digest.hex()}
        if found.security_version is not None:
            facts["security_version"] = str(found.security_version)
        lines.append(Signature("native", str(path), digest, spki, places[spki], facts))
    return lines


def _spki(public: Any) -> str:
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _checked(wish: "NativeWish", name: Path, image: bytes, keys: "Sequence[HeldKey]") -> Native:
    """Return the signatures of an image; refuse one that is not as wanted."""
    found = native.read_as(wish.kind, image, [key.public_key for key in keys])
    if found is None:
        refusal = agreement.absent(str(name), wish.kind)
        raise refusal if keys else refusal.with_hint("--native-key URI names the key to sign with")
    if wish.security_version is not None and native.has_version(wish.kind, image):
        agreement.check_version(str(name), found, wish.security_version)
    if wish.key_digests:
        agreement.check_keys(str(name), found, wish.key_digests)
    agreement.state(found)  # before anything is written
    return found


def _is_there(kind: str, path: Path, data: bytes, made: Native) -> bool:
    """Tell whether the signed image is there already; refuse another file."""
    if not os.path.lexists(path):
        return False
    old = _read(path)
    hint = "--force replaces images that fwsign signed natively"
    try:
        found = native.read_as(kind, old) if old != data else made
    except FwsignError as error:
        raise Failed("io.exists", f"{path} exists, {error.message}", hint=hint) from None
    same = old == data or native.same(kind, data, old)
    if not same or found is None or found.key_digests != made.key_digests:
        why = "signed by other keys" if same else "with another image"
        raise Failed("io.exists", f"{path} exists already, {why}", hint=hint)
    return True


def _refuse_other(kind: str, path: Path) -> None:
    """--force replaces an image that the same kind of signature, or nothing at all."""
    if not os.path.lexists(path):
        return
    try:
        old = native.read_as(kind, _read(path))
    except FwsignError:
        old = None
    if old is None:
        raise Failed(
            "io.exists",
            f"{path} exists already and is no image with a native signature",
            expected="a natively signed image, or no such file",
            found="something else",
            hint="choose another name, or remove it yourself",
        )


def _moved(one: "TargetFile", plan: NativeFiles, made: Mapping[Path, Native]) -> "TargetFile":
    """Return a target with its signed image, and what the release states of it."""
    file = one.part.path
    if file not in made:
        return one
    path = plan.path(file)
    part = one.part._replace(path=path)
    image = one.image
    if image is not None and path != file:
        try:
            with path.open("rb") as opened:
                image = recognise(opened)
        except OSError as error:
            raise io_error(error, path) from error
    version = image.version if image is not None and image.version else one.version
    stated = agreement.state(made[file])
    return one._replace(part=part, version=version, image=image, native=stated)


def _read(path: Path) -> bytes:
    return read_bytes(path, agreement.MAX_IMAGE)
