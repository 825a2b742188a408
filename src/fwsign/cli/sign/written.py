# SPDX-License-Identifier: Apache-2.0
"""The envelopes that `fwsign sign` writes, and the report on them."""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import typer

from fwsign.cli import ui
from fwsign.cli.inputs import STREAM, write_stream
from fwsign.errors import FwsignError
from fwsign.files import read_bytes, write_atomic
from fwsign.format.component import is_inside
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope
from fwsign.format.suit import decode_manifest
from fwsign.format.suit_labels import ENVELOPE_HEAD
from fwsign.receipts.facts import attachment_facts, component_facts, content_facts, notice_words
from fwsign.signing.envelope import CRL_WARNING, known_time, used_crls
from fwsign.signing.release import DEVICE_DATA
from fwsign.spans import CLOCK_TOLERANCE
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.crl import Crl

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.cli.sign.making import Made
    from fwsign.format.suit import Manifest
    from fwsign.format.text import Text
    from fwsign.signing.release import Release

_EXPIRY_WARNING = timedelta(days=30)


class SignedFiles(NamedTuple):
    """The result of signing.

    Args:
        envelopes: the path of each envelope.
        files: the signed files, as typed.
        signed: each envelope, with the result of verifying it.
        at: the time of signing.
        said: the remarks about the files themselves.
        torn: the hint if an envelope cannot be written any more; None for the usual one.
    """

    envelopes: Sequence[Path]
    files: Sequence[Path]
    signed: "Sequence[Made]"
    at: datetime
    said: Sequence[str] = ()
    torn: str | None = None

    @property
    def warnings(self) -> list[str]:
        """The notes for the user, each once; they are made before anything is replaced."""
        older = [
            _older(path, one.verified)
            for path, one in zip(self.envelopes, self.signed, strict=True)
        ]
        lines = [*self.said, *filter(None, older), *_envelope_payloads(self.files)]
        for one in self.signed:
            lines += _warnings(one.verified, self.at)
        return [*dict.fromkeys(lines)]


def write(made: SignedFiles, *, pki: Path | None, force: bool, as_json: bool) -> None:
    """Write all envelopes, then print their paths, their content and notes.

    Args:
        made: the result of signing.
        pki: the PKI's path, if it was typed; for the next command.
        force: replace envelopes that exist.
        as_json: say it as one JSON object.
    """
    written: list[Path] = []
    warnings = made.warnings
    try:
        for path, one in zip(made.envelopes, made.signed, strict=True):
            if path == STREAM:
                write_stream(one.envelope)
                continue
            if one.result != "unchanged":
                write_atomic(path, one.envelope, overwrite=force or one.result == "refreshed")
            written.append(path)
    except FwsignError as error:
        told = error.with_hint(made.torn) if made.torn else error
        if not as_json:
            raise told from error
        _refuse_as_json(told, written)
    finally:  # if one fails, those before it are there and good
        if not as_json:
            for path in written:
                ui.out(str(path))
    if as_json:
        ui.print_json(_as_json(made, warnings))
    _say(made, warnings, pki)


def _refuse_as_json(error: FwsignError, written: Sequence[Path]) -> NoReturn:
    """Print a refusal with the envelopes that are there all the same."""
    from fwsign.cli import answer  # for errors alone

    ui.print_json({**answer.refusal(error), "written": [str(path) for path in written]})
    ui.complain(error.message, answer.hint_for(error))
    raise typer.Exit(answer.exit_status(error))


_RESULTS: Final = {
    "unchanged": "unchanged: it says the same already",
    "refreshed": "kept its signature, and got newer CRLs",
}


def _say(made: SignedFiles, warnings: Sequence[str], pki: Path | None) -> None:
    for path, (_, verified, result, _) in zip(made.envelopes, made.signed, strict=True):
        if result in _RESULTS:
            ui.note(f"{path} {_RESULTS[result]}")
        for component in verified.components:
            groups = [one.key_id.hex()[:16] for one in verified.recipients(component)]
            secret = f", encrypted to {', '.join(groups)}" if groups else ""
            ui.note(f"{component.name}: {component.size} bytes, payload {component.uri}{secret}")
        for attachment in verified.text.attachments if verified.text else ():
            beside = "" if verified.attached(attachment.name) else ", beside the envelope"
            ui.note(f"{attachment.name}: attached, {attachment.media_type}{beside}")
        for one in verified.signers:
            if one.signed_at is not None:
                ui.note(f"time stamp: {one.signed_at} by {one.tsa}")
    for line in warnings:
        ui.note(f"warning: {line}")
    first = made.envelopes[0]
    if first == STREAM:
        return
    components = made.signed[0].verified.components
    # Ciphertext is where the verifier looks for it, and the files themselves are not.
    outside = [one for one in components if not is_inside(one.uri) and one.encrypted is None]
    apart = [file for file in _of_first(made) if _is_apart(file, made)] if outside else []
    if outside and len(components) > 1:  # the verifier tells several by their names
        # Several components may be one payload, for several chips.
        names = dict.fromkeys(part.payload_name for part in outside)
        for file, name in zip(_of_first(made), names, strict=True):
            if file in apart and file.name != name:
                apart.remove(file)
                ui.note(f"{file} is looked for as {first.parent / name}: copy it there")
    anchor = ["--anchor", pki / "ca.crt"] if pki else []
    ui.next_command("verify", first, *apart, *anchor)


def _of_first(made: SignedFiles) -> Sequence[Path]:
    """Return the files of the first envelope."""
    return made.files if len(made.envelopes) == 1 else made.files[:1]


def _is_apart(file: Path, made: SignedFiles) -> bool:
    """Tell whether a file is not at the verifier's place: beside the envelope, by its name."""
    names = {one.payload_name for one in made.signed[0].verified.components}
    return file.parent != made.envelopes[0].parent or file.name not in names


def _as_json(made: SignedFiles, warnings: Sequence[str]) -> dict[str, Any]:
    """Return a JSON object about the written files."""
    envelopes = [
        {
            **_facts(path, one.verified.text, one.verified.manifest),
            "signers": [signer.name for _, signer in one.verified.counted],
            "manifest_digest": one.verified.manifest_digest.hex(),
            "key": one.place,
            "result": one.result,
        }
        for path, one in zip(made.envelopes, made.signed, strict=True)
    ]
    return {"verdict": "signed", "envelopes": envelopes, "warnings": warnings}


def _facts(envelope: Path, text: "Text | None", manifest: "Manifest") -> dict[str, Any]:
    """Return an envelope's content in words."""
    return {
        "envelope": str(envelope),
        **content_facts(manifest, text),
        "components": [
            component_facts(one) | ({"native": stated.as_json()} if stated else {})
            for one, stated in zip_longest(manifest.components, text.native if text else ())
        ],
        "attachments": [attachment_facts(one) for one in (text.attachments if text else ())],
    }


def show_plan(
    pairs: "Sequence[tuple[Path, Release]]",
    found: "FoundSigner",
    kept: "Sequence[Made | None]",
    said: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print what would be signed, in a dry run.

    Args:
        pairs: the path and the content of each envelope.
        found: the signer.
        kept: the envelopes that would stay as they are, or get newer CRLs.
        said: the remarks about the files themselves.
        as_json: say it as one JSON object.
    """
    from fwsign.format.algorithms import SHA256  # only in a dry run
    from fwsign.format.envelope import bstr_digest
    from fwsign.format.suit import encode_manifest
    from fwsign.format.text import decode_text

    plans = [
        {
            **_facts(path, decode_text(one.text, one.manifest), one.manifest),
            "signers": [found.name],
            "manifest_digest": bstr_digest(SHA256, encode_manifest(one.manifest)).hex(),
            "key": None,
            "result": old.result if old else "signed",
        }
        for (path, one), old in zip(pairs, kept, strict=True)
    ]
    if as_json:
        ui.print_json({"verdict": "dry run", "envelopes": plans, "warnings": list(said)})
        return
    for plan in plans:
        would = "would sign" if plan["result"] == "signed" else "would keep"
        ui.painted(would, "yellow", plan["envelope"])
        named = " ".join(filter(None, (plan["product"], plan["version"])))
        ui.out(f"  release    {named}, {plan['vendor']}, sequence {plan['sequence_number']}")
        if words := _notice_of(plan):
            ui.out(f"  notice     {words}")
        ui.out(f"  signer     {found.name}")
        for one in plan["components"]:
            digest = one["digest"][:16]
            ui.out(f"  payload    {one['name']}, {one['size']} bytes, {digest}..., {one['uri']}")
        for one in plan["attachments"]:
            ui.out(f"  attachment {one['name']}, {one['type']}, {one['size']} bytes")
    for line in said:
        ui.note(f"warning: {line}")
    ui.note("nothing was written, and no key was opened")


def _notice_of(plan: dict[str, Any]) -> str:
    from fwsign.format.notice import Notice  # only in a dry run

    return notice_words(Notice(plan["class"], tuple(plan["advisories"]), plan["support_until"]))


def _older(path: Path, verified: VerifiedRelease) -> str | None:
    """Return a note if the new release counts as older than the one it replaces."""
    new = verified.manifest.sequence_number
    with contextlib.suppress(OSError, FwsignError):  # none there, or not ours
        envelope = decode_envelope(read_bytes(path, MAX_ENVELOPE_SIZE))
        old = decode_manifest(envelope.manifest).sequence_number
        if old > new:
            return (
                f"{path} had sequence number {old}, now {new}: "
                "devices that have seen the old one refuse it"
            )
    return None


def _envelope_payloads(files: Sequence[Path]) -> list[str]:
    lines = []
    for file in files:
        with contextlib.suppress(OSError), file.open("rb") as opened:
            if opened.read(len(ENVELOPE_HEAD)) == ENVELOPE_HEAD:
                lines.append(f"{file} is an envelope itself, and was signed as a payload")
    return lines


def crl_warnings(crls: Iterable[Crl], at: datetime) -> list[str]:
    """Return notes about CRLs of an envelope that are stale or go stale soon."""
    return [
        f"{crl.name} {'went' if crl.next_update <= at else 'goes'} stale "
        f"{crl.next_update:%Y-%m-%d}: devices refuse the release from then on, "
        "until fwsign staple puts in a newer one"
        for crl in crls
        if crl.next_update < at + CRL_WARNING
    ]


def _left_by_boards(verified: VerifiedRelease) -> list[str]:
    """Return a note about components that boards do not take, in a release for boards."""
    chips = sorted({one.flash.chip for one in verified.components if one.flash})
    files = [one.name for one in verified.components if not one.flash and one.name != DEVICE_DATA]
    lines = [
        f"{name} is not for flash: fwsign flash refuses the release unless it is left out by "
        "name; --target CHIP@OFFSET says where on the board it goes"
        for name in files
        if chips
    ]
    if len(chips) > 1:
        lines.append(f"for {', '.join(chips)}: each board takes what is for its own chip")
    return lines


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
