# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign verify` about an accepted release, for people and programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fwsign.cli import answer, policies, ui
from fwsign.cli.verify.attachment_files import attachments_of
from fwsign.cli.verify.payload_files import list_used
from fwsign.format.component import Component
from fwsign.format.native import BY_HASH
from fwsign.receipts.facts import (
    attachment_facts,
    component_facts,
    content_facts,
    native_words,
    notice_words,
    release_facts,
    rfc3339,
    signer_facts,
)
from fwsign.signing.release import DEVICE_DATA
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.verify.verified import VerifiedRelease, VerifiedSigner


class Verdict(NamedTuple):
    """A verified release with the command line's facts about it.

    Args:
        release: the verified release.
        unchecked: the steps that were not run.
        payloads: each component's payload path, None if it was not found.
        anchors: the files of the anchors.
        revocation: the typed value: "require", "off" or None.
        attachments: each attachment's path, by its name; None if it was not found.
        decrypted: whether encrypted payloads that are here were decrypted, and their plaintext
            checked.
    """

    release: VerifiedRelease
    unchecked: Sequence[str]
    payloads: dict[str, Path | None]
    anchors: Sequence[Path]
    revocation: str | None
    attachments: Mapping[str, Path | None]
    decrypted: bool = False

    def is_decrypted(self, component: Component) -> bool:
        """Tell whether an encrypted payload was here, and was decrypted."""
        return self.decrypted and self.payloads[component.name] is not None

    @property
    def notes(self) -> list[str]:
        """The notes for the reader."""
        keys = {key for one in self.release.signers if one.path for key in one.path.keys}
        example = "signed with a published example key, which anyone can use"
        return [*([] if EXAMPLE_SPKI.isdisjoint(keys) else [example]), *self.release.notes]


def as_json(view: Verdict) -> dict[str, Any]:
    """Return the JSON object that --json prints."""
    release = view.release
    content = content_facts(release.manifest, release.text)
    facts = {
        **release_facts(release),
        **{name: content[name] for name in ("description", "use_before")},
        "judged_at": release.now.isoformat(),
        "components": [
            {
                **component_facts(component),
                "payload": str(path) if (path := view.payloads[component.name]) else None,
                "checked_by": _checked_by(view, component),
                **_native_as_json(view, component),
                **_recipients_as_json(view, component),
            }
            for component in release.components
        ],
        "attachments": [
            {
                **attachment_facts(one),
                "file": str(path) if (path := view.attachments[one.name]) else None,
            }
            for one in attachments_of(release)
        ],
        "signers": [_signer_as_json(one) for one in release.signers],
        "policy": policies.facts(release.demands),
        "anchors": [str(place) for place in view.anchors],
        "notes": view.notes,
    }
    return answer.accepted("verified", view.unchecked, facts)


def _checked_by(view: Verdict, component: Component) -> str | None:
    if view.payloads[component.name] is None:
        return None
    decrypted = component.encrypted and view.decrypted
    return "digest" if decrypted or not list_used(view.release, component) else "block list"


def _recipients_as_json(view: Verdict, component: Component) -> dict[str, Any]:
    """Return whom a payload is encrypted to, and whether it was decrypted here."""
    if component.encrypted is None:
        return {}
    found = [one.key_id.hex() for one in view.release.recipients(component)]
    return {"recipients": found, "decrypted": view.is_decrypted(component)}


def _native_as_json(view: Verdict, component: Component) -> dict[str, Any]:
    """Return what is stated of a native signature, and checked where the payload is here."""
    stated = view.release.native(component)
    if stated is None:
        return {}
    left = {"signature_checked": False} if stated.kind in BY_HASH else {}
    return {"native": {**stated.as_json(), **left}}


def _signer_as_json(one: VerifiedSigner) -> dict[str, Any]:
    path = one.path
    return {
        **signer_facts(one),
        "path": [*(c.name for c in path.certificates), path.anchor.name] if path else [],
        "tsa": one.tsa,
        "counts": one.refusal is None,
        "code": one.refusal.code if one.refusal else None,
        "message": one.refusal.message if one.refusal else None,
    }


_HOW_TO_CHECK = {
    "revocation": "no CRLs: staple them, or give --crl",
    "vendor": "give --vendor",
    "product": "give --product",
    "rollback": "give --min-sequence",
    "payload": "it is not here",
    "plaintext": "it is encrypted: give --decrypt KEY",
    "attachment": "it is not here",
}


def _show_signers(release: VerifiedRelease) -> None:
    for one in release.signers:
        if one.path is None or one.refusal is not None:
            ui.out(f"  not counted: {one.refusal}")
            continue
        names = [*(c.name for c in one.path.certificates), one.path.anchor.name]
        ui.out(f"  signer     {' < '.join(names)}, {one.algorithm}")
        if one.signed_at is not None:
            ui.out(f"  signed     {one.signed_at} or before, says {one.tsa}")
    for demand in release.demands:
        for part in demand.clauses:
            ui.out(f"  {demand.name:<10} {part}")


def show(envelope: Path, view: Verdict) -> None:
    """Print the verdict for people."""
    release, text = view.release, view.release.text
    ui.painted("verified", "green", str(envelope))
    named = f"{text.product} {text.version or ''}".rstrip() if text else "text was cut off"
    ui.out(f"  release    {named}, {release.vendor}, sequence {release.manifest.sequence_number}")
    if text and (words := notice_words(text.notice)):
        ui.out(f"  notice     {words}")
    if release.manifest.use_before is not None:
        ui.out(f"  use before {rfc3339(release.manifest.use_before)}")
    _show_signers(release)
    _show_content(view)
    for place in view.anchors:
        ui.out(f"  anchor     {place}")
    for name in view.unchecked:
        off = name == "revocation" and view.revocation == "off"
        reason = "--revocation off" if off else _HOW_TO_CHECK[name]
        ui.painted("  unchecked", "yellow", f"{name} ({reason})")
    for line in view.notes:
        ui.painted("  note", "yellow", f"     {line}")
    if any(one.flash is not None for one in release.components):
        data = any(one.name == DEVICE_DATA for one in release.components)
        ui.next_command(
            "flash", envelope, "--port", "PORT", *(("--device-data", "CSV") if data else ())
        )


def _show_content(view: Verdict) -> None:
    """Print the payloads and the attachments."""
    release = view.release
    for component in release.components:
        where = view.payloads[component.name] or "not here"
        by = ", by its block list" if _checked_by(view, component) == "block list" else ""
        digest = component.digest.value.hex()
        ui.out(
            f"  payload    {component.name}, {component.size} bytes, {digest[:16]}..., {where}{by}"
        )
        if groups := release.recipients(component):
            to = ", ".join(f"{one.key_id.hex()[:16]}..." for one in groups)
            done = ", and decrypted here" if view.is_decrypted(component) else ""
            ui.out(f"  encrypted  to {to}{done}")
        if (stated := release.native(component)) is not None:
            ui.out(f"  native     {native_words(stated)}")
    for attachment in attachments_of(release):
        place = view.attachments[attachment.name] or "not here"
        ui.out(f"  attachment {attachment.name}, {attachment.media_type}, {place}")
