# SPDX-License-Identifier: Apache-2.0
"""The envelopes of `fwsign cosign`: examined, shown, signed, replaced, reported."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fwsign.cli import inputs, policies, ui
from fwsign.cli.sign import identity
from fwsign.cli.sign.written import crl_warnings
from fwsign.errors import Failed, FwsignError, Untrusted
from fwsign.files import read_bytes, write_atomic
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.receipts.facts import native_words, release_facts
from fwsign.signing import cosign as cosigning
from fwsign.signing.envelope import used_crls
from fwsign.verify.signers import Demand, judge_signers

if TYPE_CHECKING:
    from fwsign.cli.policies import GivenPolicy
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.signing.envelope import TimeStamping
    from fwsign.verify.verified import VerifiedRelease
    from fwsign.x509.anchor import Anchor


@dataclass(frozen=True, kw_only=True)
class CosignTerms:
    """How to verify and sign.

    Args:
        anchors: the signer's own anchors.
        stamping: the source of time stamps.
        now: the present time.
        allow_example_keys: accept published keys.
        force: allow a clock behind the CRLs, and CRLs that go stale within a day.
    """

    anchors: "Sequence[Anchor]"
    stamping: "TimeStamping | None"
    now: datetime
    allow_example_keys: bool
    force: bool


class Cosigned(NamedTuple):
    """An envelope, before or after it was signed once more.

    Args:
        path: the file.
        before: its content, as it was read.
        envelope: its content as it shall be.
        release: the verified release, with all its signers.
        result: "to sign", "signed" now, or "already signed".
        place: where the key that signed is; None where none was opened.
    """

    path: Path
    before: bytes
    envelope: bytes
    release: "VerifiedRelease"
    result: Literal["to sign", "signed", "already signed"]
    place: str | None = None


def examine(path: Path, found: "FoundSigner", terms: CosignTerms, digest: str | None) -> Cosigned:
    """Read an envelope, and verify all its signatures by one's own anchors.

    Raises:
        FwsignError: as `fwsign.signing.cosign.examine`, with the path.
    """
    data = read_bytes(path, MAX_ENVELOPE_SIZE)
    try:
        with inputs.expecting_envelope(path):
            release = cosigning.examine(
                data, terms.anchors, at=terms.now, allow_example_keys=terms.allow_example_keys
            )
            signed = cosigning.has_signed(data, release, found.chain[0])
    except Untrusted as error:
        raise error.with_hint(
            "you sign only what you can verify: name the other signers' roots with --anchor PEM"
        ) from error
    known = release.manifest_digest.hex()
    if digest is not None and digest.lower() != known:
        raise Failed(
            "io.format",
            f"{path} has the manifest digest {known}, --digest says {digest}",
            expected=digest,
            found=known,
            hint="it is another release than the one that was reviewed: do not sign it",
        )
    return Cosigned(path, data, data, release, "already signed" if signed else "to sign")


def describe(seen: Sequence[Cosigned]) -> None:
    """Say what will be signed, before a key is opened."""
    for one in seen:
        facts = release_facts(one.release)
        named = " ".join(filter(None, (facts["product"], facts["version"])))
        number = one.release.manifest.sequence_number
        ui.note(f"{one.path}: {named or 'text was cut off'}, {facts['vendor']}, sequence {number}")
        ui.note(f"  manifest {facts['manifest_digest']}")
        for component in one.release.components:
            digest = component.digest.value.hex()
            ui.note(f"  {component.name}, {component.size} bytes, {digest}")
            if (native := one.release.native(component)) is not None:
                ui.note(f"    native {native_words(native)}")
        for document in one.release.text.attachments if one.release.text else ():
            digest = document.digest.value.hex()
            ui.note(f"  {document.name}, {document.media_type}, {document.size} bytes, {digest}")
        ui.note(f"  signed by {', '.join(_signers(one))}")


def sign(
    seen: Sequence[Cosigned], found: "FoundSigner", terms: CosignTerms, source: str | None
) -> list[Cosigned]:
    """Sign what the signer has not signed yet, in one login; no key is opened for nothing.

    Raises:
        FwsignError: as `fwsign.signing.cosign.cosign`; then nothing was written.
    """
    if all(one.result == "already signed" for one in seen):
        return list(seen)
    signing = identity.opened(found, source)
    return [one if one.result == "already signed" else _signed(one, signing, terms) for one in seen]


def _signed(one: Cosigned, signing: identity.Signing, terms: CosignTerms) -> Cosigned:
    envelope, release = cosigning.cosign(
        one.before,
        signing.identity,
        terms.anchors,
        at=terms.now,
        tsa=terms.stamping,
        allow_example_keys=terms.allow_example_keys,
        force=terms.force,
    )
    inputs.refuse_unused(signing.identity.crls, release)
    return one._replace(envelope=envelope, release=release, result="signed", place=signing.place)


def write(seen: Sequence[Cosigned]) -> None:
    """Replace each envelope at once; one that fails leaves those before it signed.

    Raises:
        Failed: `io.*`; `state.conflict`: the file has changed since it was read.
    """
    done: list[Path] = []
    try:
        for one in seen:
            if one.result == "signed":
                _replace(one)
                done.append(one.path)
    except FwsignError:
        for path in done:
            ui.note(f"{path} is signed")
        raise


def _replace(one: Cosigned) -> None:
    if read_bytes(one.path, MAX_ENVELOPE_SIZE) != one.before:
        raise Failed(
            "state.conflict",
            f"{one.path} has changed since it was read: nothing was written to it",
            expected="the envelope that was verified",
            found="another one",
            hint="somebody else may have signed it: run this again",
        )
    # The target of a link is replaced, not the link.
    place = Path(os.path.realpath(one.path)) if one.path.is_symlink() else one.path
    write_atomic(place, one.envelope, overwrite=True)


def report(
    seen: Sequence[Cosigned], given: "GivenPolicy | None", *, dry_run: bool, as_json: bool
) -> None:
    """Say what was done, and which parts of a policy are met now."""
    demands = [_demands(one, given) for one in seen]
    now = max(one.release.now for one in seen)
    crls = [crl for one in seen for crl in used_crls(one.release)]
    warnings = list(dict.fromkeys(crl_warnings(crls, now)))
    if as_json:
        verdict = "dry run" if dry_run else "cosigned"
        facts = [_facts(one, own) for one, own in zip(seen, demands, strict=True)]
        ui.print_json({"verdict": verdict, "envelopes": facts, "warnings": warnings})
    for one, own in zip(seen, demands, strict=True):
        if not as_json and one.result == "signed":
            ui.out(str(one.path))
        elif not as_json:
            ui.note(f"{one.path}: {'would be signed' if one.result == 'to sign' else one.result}")
        for demand in own:
            ui.note(f"{one.path}: {demand}")
    for line in warnings:
        ui.note(f"warning: {line}")
    if not dry_run:
        ui.next_command("verify", seen[0].path)


def _demands(one: Cosigned, given: "GivenPolicy | None") -> tuple[Demand, ...]:
    if given is None or given.signers is None:
        return ()
    return judge_signers(given.signers, [path for _, path in one.release.counted])


def _facts(one: Cosigned, demands: Sequence[Demand]) -> dict[str, Any]:
    return {
        "envelope": str(one.path),
        "result": one.result,
        **release_facts(one.release),
        "signers": _signers(one),
        "policy": policies.facts(demands),
    }


def _signers(one: Cosigned) -> list[str]:
    return [f'"{path.name}" ({signer.algorithm})' for signer, path in one.release.counted]
