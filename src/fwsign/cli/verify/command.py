# SPDX-License-Identifier: Apache-2.0
"""`fwsign verify`: all ten steps on files."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import answer, config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.decrypt import DecryptOptions
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON
from fwsign.cli.policies import POLICY
from fwsign.cli.verify import any_file
from fwsign.cli.verify.demands import (
    ANCHORS,
    AT,
    PAYLOADS,
    PROFILE,
    Demands,
    DeviceOptions,
    TokenOptions,
    Trust,
    gather,
)
from fwsign.cli.verify.parcels import Parcel, split
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from fwsign.cli.native_settings import NativeSettings
    from fwsign.cli.verify.any_file import Pair
    from fwsign.cli.verify.verdict import Verdict
    from fwsign.format.key_wrap import AgreementKey
    from fwsign.verify.verifier import Verifier

command = typer.Typer(rich_markup_mode=None, add_completion=False)


_ENVELOPE: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="ENVELOPE",
        help="A .suit file, at most 32 MiB; a pipe will do, and - is standard input.",
    ),
]
_REVOCATION: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="require|off|allow-stale:TIME",
        help="require refuses where there are no CRLs, off ignores them, allow-stale:30d is "
        "require, but takes old CRLs so long past their next update. Default: judged if "
        "there are any, else listed as unchecked.",
    ),
]
_ATTACHMENTS: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--attachments",
        readable=False,
        metavar="DIR",
        help="Write the attachments inside the envelope to this directory, once all is verified.",
    ),
]
_MANIFEST_ONLY: TypeAlias = Annotated[
    bool,
    typer.Option("--manifest-only", help="Leave payloads that are not here unchecked."),
]


_MINISIGN_KEY: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Whom to trust for a .minisig: a key as for minisign -P."),
]


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign verify build.bin.suit",
        "fwsign verify update.suit app.bin boot.bin --anchor ca.crt --json",
        "fwsign verify app.suit app.bin boot.suit boot.bin",
        "fwsign verify notes.txt.cose",
        "fwsign verify notes.txt.minisig --anchor minisign.pub",
        "fwsign verify build.bin.suit --anchor ca.crt --vendor acme.example --product x1 \\",
        "    --min-sequence 1795339738 --revocation require",
    ),
)
@grouped
def verify(
    envelope: _ENVELOPE,
    payloads: PAYLOADS = None,
    *,
    anchor: ANCHORS = None,
    device: DeviceOptions,
    crl: CRLS = None,
    at: AT = None,
    policy: POLICY = None,
    profile: PROFILE = "strict",
    revocation: _REVOCATION = None,
    token: TokenOptions,
    decrypt: DecryptOptions,
    manifest_only: _MANIFEST_ONLY = False,
    minisign_key: _MINISIGN_KEY = None,
    attachments: _ATTACHMENTS = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Verify an envelope and its payloads.

    The exit status is 0 only if signature, path, revocation, device and payloads are good; what
    could not be checked is listed as unchecked. Further envelopes may follow, each with its
    payloads: all are judged, and the worst exit status counts.
    """
    from fwsign.verify.verifier import Verifier

    now = inputs.now()
    time = inputs.parse_time(at, now) if at else now
    settings = config.load()
    demands = Demands(
        anchor=anchor,
        crl=crl,
        device=device,
        profile=profile,
        revocation=revocation,
        allow_example_keys=allow_example_keys,
        token=token,
        policy=policy,
    )
    if (alone := any_file.pairs(envelope, payloads or ())) or minisign_key is not None:
        _verify_alone(alone, demands, settings, minisign_key, time, as_json=as_json)
        return
    parcels = split(envelope, payloads or ())
    trust = gather(demands, settings)
    verifier = Verifier(trust.anchors, trust.policy)
    judge = partial(_judge, verifier=verifier, trust=trust, at=time, natives=settings.native)
    judge = partial(judge, manifest_only=manifest_only, typed=revocation, keys=decrypt.keys())
    if len(parcels) > 1:
        _each(parcels, judge, attachments, as_json=as_json)
        return
    _print(parcels[0].envelope, judge(parcels[0]), attachments, as_json=as_json)


def _print(envelope: Path, view: "Verdict", attachments: Path | None, *, as_json: bool) -> None:
    """Print the verdict on the only envelope."""
    from fwsign.cli.verify import verdict

    _write(view, attachments)
    if as_json:
        ui.print_json(verdict.as_json(view))
    else:
        verdict.show(envelope, view)


def _verify_alone(
    pairs: "Sequence[Pair]",
    demands: Demands,
    settings: config.Config,
    minisign_key: str | None,
    at: datetime,
    *,
    as_json: bool,
) -> None:
    """Verify signatures on files that are no release."""
    if demands.device.product or demands.device.min_sequence is not None:
        ui.usage(
            "a signature on a file alone knows no products and sequence numbers",
            "leave out --product and --min-sequence",
        )
    signs = [one.is_minisig for one in pairs]
    if minisign_key is not None and not any(signs):
        ui.usage("--minisign-key without a .minisig")
    if demands.policy is not None and all(signs):
        ui.usage("--policy without an envelope", "a .minisig names no certificate, and so no role")
    keys = any_file.minisign_keys(minisign_key, demands.anchor) if any(signs) else []
    trust = None if all(signs) else gather(demands, settings)
    status = any_file.verify(pairs, trust, keys, at, as_json=as_json)
    if status:
        raise typer.Exit(status)


def _write(view: "Verdict", attachments: Path | None) -> None:
    """Write the attachments to a directory, if one was given."""
    if attachments is not None:
        from fwsign.cli.verify import attachment_files  # few write them

        for path in attachment_files.write(view.release, attachments):
            ui.note(f"wrote {path}")


def _judge(
    parcel: Parcel,
    *,
    verifier: "Verifier",
    trust: Trust,
    at: datetime,
    manifest_only: bool,
    typed: str | None,
    natives: "NativeSettings",
    keys: "Sequence[AgreementKey]",
) -> "Verdict":
    """Run all steps for one envelope."""
    from fwsign.cli.verify import attachment_files, payload_files, verdict

    if isinstance(parcel.data, FwsignError):
        raise parcel.data
    with inputs.expecting_envelope(parcel.envelope, data=parcel.data):
        release = verifier.verify(parcel.data, at=at)
    if trust.policy.revocation != "off":
        inputs.refuse_unused(trust.policy.crls, release)
    documents, payloads = attachment_files.apart(release, parcel.payloads)
    how = partial(payload_files.receive, manifest_only=manifest_only, keys=keys)
    receive = partial(how, release, parcel.envelope, payloads)
    if natives.demanding or (release.text is not None and release.text.native):
        from fwsign.cli.verify import native  # few releases state native signatures

        found = native.received(receive, release, natives, readable=bool(keys))
    else:
        found = receive()
    attached = attachment_files.check(release, parcel.envelope, documents)
    unchecked = [
        *release.unchecked,
        *(["payload"] if None in found.values() else []),
        *(["plaintext"] if not keys and any(one.encrypted for one in release.components) else []),
        *(["attachment"] if None in attached.values() else []),
    ]
    return verdict.Verdict(release, unchecked, found, trust.places, typed, attached, bool(keys))


def _each(
    parcels: Sequence[Parcel],
    judge: Callable[[Parcel], "Verdict"],
    attachments: Path | None,
    *,
    as_json: bool,
) -> None:
    """Judge several envelopes, print each verdict, and exit with the worst status."""
    from fwsign.cli.verify import verdict

    if attachments is not None:
        ui.usage("--attachments with several envelopes", "verify them one by one")

    statuses = []
    for parcel in parcels:
        named = {"envelope": str(parcel.envelope)}
        try:
            view = judge(parcel)
        except FwsignError as error:
            statuses.append(answer.exit_status(error))
            place = str(parcel.envelope)
            named_already = place in error.message
            message = error.message if named_already else f"{place}: {error.message}"
            ui.complain(message, answer.hint_for(error))
            if as_json:
                ui.print_json_line({**answer.refusal(error), **named})
            continue
        statuses.append(0)
        if as_json:
            ui.print_json_line({**verdict.as_json(view), **named})
        else:
            verdict.show(parcel.envelope, view)
    ui.note(f"{statuses.count(0)} of {len(statuses)} verified")
    if status := answer.worst(statuses):
        raise typer.Exit(status)
