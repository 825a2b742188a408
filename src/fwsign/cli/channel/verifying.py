# SPDX-License-Identifier: Apache-2.0
"""`fwsign channel verify`: the demands of a device, and the verdict."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.cli import answer, config, inputs, ui
from fwsign.cli.channel import words
from fwsign.cli.channel.making import ENDING
from fwsign.cli.verify.demands import Demands, DeviceOptions, Trust, gather
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.rollout import place, why_not
from fwsign.receipts.facts import channel_facts, signer_facts
from fwsign.verify.channel import SeenChannel
from fwsign.verify.verifier import Verifier

if TYPE_CHECKING:
    from fwsign.format.channel import ChannelRelease
    from fwsign.verify.verified import VerifiedChannel

_HOW_TO_CHECK: Final = {
    "revocation": "no CRLs: give --crl",
    "vendor": "give --vendor",
    "product": "give --product",
    "rollback": "give --min-number",
}


class ChannelDemands(NamedTuple):
    """The command line's demands on a channel, as typed."""

    anchor: Sequence[Path] | None
    vendor: str | None
    product: str | None
    name: str | None
    min_number: int | None
    crl: Sequence[Path] | None
    profile: str
    revocation: str | None


class Asker(NamedTuple):
    """A device of which is asked what is for it: its id, and its cohorts."""

    device: str
    cohorts: tuple[str, ...]


def verify(
    file: Path, demands: ChannelDemands, at: datetime, *, examples: bool
) -> "tuple[VerifiedChannel, Trust]":
    """Verify a channel as a device would.

    Args:
        file: the channel, or standard input.
        demands: what was typed.
        at: the time to judge at.
        examples: accept published keys.
    """
    trust = gather(
        Demands(
            anchor=demands.anchor,
            crl=demands.crl,
            device=DeviceOptions(demands.vendor, demands.product),
            profile=demands.profile,
            revocation=demands.revocation,
            allow_example_keys=examples,
        ),
        config.load()._replace(policy=None),  # who must sign releases says nothing of channels
    )
    name = demands.name
    if name is None and file.suffix == ENDING:
        name = file.stem
    least = None if demands.min_number is None else SeenChannel(demands.min_number)
    data = inputs.read(file, MAX_ENVELOPE_SIZE)
    with inputs.expecting_envelope(file, ENDING, data):
        verifier = Verifier(trust.anchors, trust.policy)
        return verifier.verify_channel(data, at=at, name=name, seen=least), trust


def _verdict(one: "ChannelRelease", verified: "VerifiedChannel", member: Asker) -> str | None:
    hold = verified.channel.hold
    if hold is not None:
        return f"the channel is on hold: {hold}"
    return why_not(one.rollout, member.device, member.cohorts, verified.now)


def as_json(verified: "VerifiedChannel", trust: Trust, member: Asker | None) -> dict[str, Any]:
    """Return the JSON object that --json prints."""
    facts = channel_facts(verified.channel)
    if member is not None:
        pairs = zip(facts["releases"], verified.channel.releases, strict=True)
        facts["releases"] = [
            {
                **said,
                "place": place(one.rollout.salt, member.device),
                "why_not": _verdict(one, verified, member),
            }
            for said, one in pairs
        ]
    more = {
        "manifest_digest": verified.manifest_digest.hex(),
        **facts,
        "judged_at": verified.now.isoformat(),
        "signers": [signer_facts(one) for one, _ in verified.counted],
        "anchors": [str(one) for one in trust.places],
        "notes": list(verified.notes),
    }
    return answer.accepted("verified", verified.unchecked, None, channel=more)


def show(file: Path, verified: "VerifiedChannel", trust: Trust, member: Asker | None) -> None:
    """Print the verdict for people."""
    channel = verified.channel
    ui.painted("verified", "green", f"{file}: {channel.name}, number {channel.number}")
    for line in words.lines(channel):
        ui.out(line)
    for one in channel.releases if member is not None else ():
        assert member is not None  # noqa: S101 - for the type checker
        why = _verdict(one, verified, member) or "it is for this device"
        ui.out(f"  {member.device:<10} sequence {one.sequence_number}: {why}")
    for signer, path in verified.counted:
        names = [*(one.name for one in path.certificates), path.anchor.name]
        ui.out(f"  signer     {' < '.join(names)}, {signer.algorithm}")
    for anchor in trust.places:
        ui.out(f"  anchor     {anchor}")
    for name in verified.unchecked:
        off = name == "revocation" and trust.policy.revocation == "off"
        reason = "--revocation off" if off else _HOW_TO_CHECK[name]
        ui.painted("  unchecked", "yellow", f"{name} ({reason})")
    for note in verified.notes:
        ui.painted("  note", "yellow", f"     {note}")
