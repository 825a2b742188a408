# SPDX-License-Identifier: Apache-2.0
"""`fwsign channel`: which releases are current, and for whom; made, shown and verified."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fwsign.cli import approvals, config, inputs, ui
from fwsign.cli.channel import options as option
from fwsign.cli.command import Command, Group, examples, grouped
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, JSON, KEY_PASS, PRODUCT_OF_DEVICE
from fwsign.cli.sign.evidence_options import EvidenceOptions
from fwsign.cli.verify.demands import ANCHORS, AT, PROFILE, VENDOR_OF_DEVICE

if TYPE_CHECKING:
    from fwsign.cli.channel.making import ChannelOrder, NextChannel
    from fwsign.cli.sign.statements import SignedStatement
    from fwsign.verify.verified import VerifiedChannel

command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Say which releases are current, and for whom.",
)
FILE: TypeAlias = Annotated[
    Path,
    typer.Argument(readable=False, metavar="FILE", help="A .channel file; - is standard input."),
]


@command.command(
    "make",
    cls=Command,
    epilog=examples(
        "fwsign channel make stable build.bin.suit",
        "fwsign channel make stable old.suit new.suit --share 10% --cohort pilot",
        "fwsign channel make stable --share 100% --all-cohorts",
        'fwsign channel make stable --hold "devices of revision B do not start"',
        "fwsign channel make stable old.suit --release",
    ),
)
@grouped
def make(
    name: option.CHANNEL_NAME,
    envelopes: option.ENVELOPES = None,
    *,
    say: option.SayOptions,
    rollout: option.RolloutOptions,
    who: option.ChannelSignerOptions,
    evidence: EvidenceOptions,
    place: option.ChannelPlaceOptions,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Sign with a clock behind the CRLs, or CRLs that go stale within a day."
        ),
    ] = False,
    pass_: KEY_PASS = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Make the next channel, NAME.channel, and sign it.

    What is not named stays as it was in the channel before: the releases, and whom each is for.
    A release that is left out is withdrawn: devices that have it keep it, no other takes it. The
    rollout options are for the newest release. Its signer is one for channels alone: fwsign pki
    issue channel.
    """
    from fwsign.cli.channel import making
    from fwsign.cli.sign import stated, statements
    from fwsign.cli.sign.command import time_stamping
    from fwsign.cli.sign.making import SigningTerms
    from fwsign.signing.channel import sign
    from fwsign.verify.policy import DevicePolicy

    for group in (who, rollout, evidence):
        group.check()
    place.check(say.number)
    if say.hold and say.release:
        ui.usage("--hold and --release exclude each other")
    now, settings = inputs.now(), config.load()
    asked = making.ChannelOrder(name, envelopes or (), say, rollout, place)
    asked.check_place()
    found = making.find_signer(who, evidence.crl or ())
    vendor = say.vendor or settings.vendor or stated.only_vendor(found)
    product = stated.product_of(say.product, settings)
    policy = DevicePolicy(vendor, product, profile="compat", allow_example_keys=allow_example_keys)
    trust = [found.anchor], policy
    plan = making.plan(asked, (vendor, product), trust, found.crls, now)
    terms = SigningTerms(
        now=now,
        stamping=time_stamping(evidence, found),
        allow_example_keys=allow_example_keys,
        force=force,
    )
    made = statements.sign(partial(sign, plan.channel), [found], terms, pass_)
    in_pki = (who.pki or settings.pki) if who.key is None else None
    log = approvals.find_log(settings, in_pki)
    approvals.record(log, approvals.of_channel(asked.path, made.verified, made.keys), now)
    _write(asked, plan, made, pki=who.pki, as_json=as_json)


def _write(
    asked: "ChannelOrder",
    plan: "NextChannel",
    made: "SignedStatement[VerifiedChannel]",
    *,
    pki: Path | None,
    as_json: bool,
) -> None:
    from fwsign.cli.channel import making, words
    from fwsign.files import write_atomic
    from fwsign.receipts.facts import channel_facts

    write_atomic(asked.path, made.data, overwrite=True)
    verified = made.verified
    notes = making.warnings(plan, verified.now)
    if as_json:
        facts = channel_facts(verified.channel)
        digest = verified.manifest_digest.hex()
        about = {"file": str(asked.path), "manifest_digest": digest, **facts, "warnings": notes}
        ui.print_json({"verdict": "signed", "channel": about})
    else:
        ui.out(str(asked.path))
        ui.note(f"channel {verified.channel.name}, number {verified.channel.number}")
        for line in words.lines(verified.channel):
            ui.note(line.strip())
    for line in notes:
        ui.note(f"warning: {line}")
    anchor = ("--anchor", pki / "ca.crt") if pki else ()
    place = ("--to", "PLACE", "--channel", asked.path)
    ui.next_command("publish", *asked.envelopes, *place, *anchor)


@command.command(
    "show",
    cls=Command,
    epilog=examples("fwsign channel show stable.channel", "fwsign channel show x.channel --json"),
)
def show(file: FILE, *, as_json: JSON = False) -> None:
    """Show what a channel says, and who claims to have signed it.

    Nothing is verified here: fwsign channel verify does that. What cannot be read is named, and the
    rest is shown.
    """
    from fwsign.cli.channel import showing
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    with inputs.expecting_envelope(file, ".channel"):
        data = inputs.read(file, MAX_ENVELOPE_SIZE)
        found = showing.facts(data)
    if as_json:
        ui.print_json({"file": str(file), **found})
    else:
        showing.show(file, data, found)


@command.command(
    "verify",
    cls=Command,
    epilog=examples(
        "fwsign channel verify stable.channel",
        "fwsign channel verify stable.channel --anchor ca.crt --min-number 7 --revocation require",
        "fwsign channel verify stable.channel --device gw-0017 --cohort pilot",
    ),
)
def verify(
    file: FILE,
    *,
    anchor: ANCHORS = None,
    vendor: VENDOR_OF_DEVICE = None,
    product: PRODUCT_OF_DEVICE = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name of the channel that devices follow. Default: that of FILE.",
        ),
    ] = None,
    min_number: Annotated[
        int | None,
        typer.Option("--min-number", metavar="N", min=0, help="The lowest number accepted."),
    ] = None,
    crl: CRLS = None,
    at: AT = None,
    profile: PROFILE = "strict",
    revocation: Annotated[
        str | None,
        typer.Option(
            metavar="require|off|allow-stale:TIME",
            help="As for fwsign verify. Default: judged if there are any CRLs.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Say which releases are for the device with this id."),
    ] = None,
    cohort: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --device: a cohort of it; repeat for several."),
    ] = None,
    allow_example_keys: ALLOW_EXAMPLE = False,
    as_json: JSON = False,
) -> None:
    """Verify a channel as a device would.

    The exit status is 0 only if the signature is that of a signer for channels, and the channel is
    for this product and has not expired; what could not be checked is listed as unchecked.
    """
    from fwsign.cli.channel import verifying

    if cohort and device is None:
        ui.usage("--cohort without --device")
    now = inputs.now()
    demands = verifying.ChannelDemands(
        anchor, vendor, product, name, min_number, crl, profile, revocation
    )
    verified, trust = verifying.verify(
        file, demands, inputs.parse_time(at, now) if at else now, examples=allow_example_keys
    )
    member = None if device is None else verifying.Asker(device, tuple(cohort or ()))
    if as_json:
        ui.print_json(verifying.as_json(verified, trust, member))
    else:
        verifying.show(file, verified, trust, member)
