# SPDX-License-Identifier: Apache-2.0
"""The next channel, from the options of the command line: read, planned, signed."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.cli import config, inputs, ui
from fwsign.cli.channel import options as option
from fwsign.errors import Failed, FwsignError
from fwsign.signing.next_channel import (
    Next,
    RolloutChange,
    follow_up,
    verified_before,
    verified_release,
)

if TYPE_CHECKING:
    from fwsign.cli.sign.identity import FoundSigner
    from fwsign.format.channel import Channel
    from fwsign.verify.policy import DevicePolicy
    from fwsign.verify.verified import VerifiedRelease
    from fwsign.x509.anchor import Anchor

ENDING: Final = ".channel"
LONG: Final = timedelta(days=366)
"""A channel that lives longer says little."""


class ChannelOrder(NamedTuple):
    """The command line, as typed."""

    name: str
    envelopes: Sequence[Path]
    say: option.SayOptions
    rollout: option.RolloutOptions
    place: option.ChannelPlaceOptions

    @property
    def path(self) -> Path:
        """The file of the channel."""
        return self.place.output_dir / f"{self.name}{ENDING}"

    def check_place(self) -> None:
        """Refuse a place that the channel cannot have, before a key is opened.

        A channel replaces the one before, but no other file.
        """
        from fwsign.cli.sign import existing

        instead = "--output-dir names another place"
        existing.check([self.path], self.envelopes, force=True, instead=instead)


class NextChannel(NamedTuple):
    """What is to be signed: the channel before, and the next one."""

    before: "Channel | None"
    channel: "Channel"
    releases: "Sequence[VerifiedRelease]"


def find_signer(who: option.ChannelSignerOptions, crls: Sequence[Path]) -> "FoundSigner":
    """Find the signer: the one named, the PKI's only one for channels, or a key with its chain."""
    from fwsign.cli.sign import identity

    if who.key is not None and who.chain is not None:
        return identity.from_key(who.key, who.chain, None, crls)
    pki = config.find_pki(who.pki)
    return identity.from_pki(pki, who.signer or _only_signer(pki, who.pki), crls)


def _only_signer(directory: Path, given: Path | None) -> str:
    from fwsign.pki.directory import Pki
    from fwsign.pki.leaves import leaf_of

    pki = Pki(directory)
    leaves = {name: leaf_of(pki.certificate(name)) for name in pki.names()}
    found = [name for name, leaf in leaves.items() if leaf is not None and leaf.kind == "channel"]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(found)
        ui.usage(f"{directory} has several channel signers: {names}", "--signer NAME says which")
    words = " ".join(map(str, config.pki_words(given)))
    raise Failed(
        "state.pki",
        f"{directory} has no signer of channels",
        expected="a certificate for channels",
        found="none",
        hint=f"issue one: fwsign pki issue channel rollout {words}".rstrip(),
    )


def plan(
    asked: ChannelOrder,
    whose: tuple[str, str],
    trust: "tuple[Sequence[Anchor], DevicePolicy]",
    crls: Sequence[bytes],
    now: datetime,
) -> NextChannel:
    """Read and verify releases and the channel before, and say what the next one is.

    The CRLs may revoke the signer of the channel before, which cannot have brought them.
    """
    anchors, policy = trust
    before = _before(asked, (anchors, policy._replace(crls=tuple(crls))), now)
    releases = [_release(path, trust, now) for path in asked.envelopes]
    expires = inputs.parse_time(asked.say.expires, now)
    if expires <= now:
        ui.usage(f"--expires {asked.say.expires} is in the past: it is {now.isoformat()}")
    rollout = asked.rollout
    cohorts = () if rollout.all_cohorts else tuple(rollout.cohort) if rollout.cohort else None
    change = RolloutChange(
        None if rollout.share is None else option.share(rollout.share),
        cohorts,
        rollout.seconds("--from", rollout.start),
        rollout.seconds("--until", rollout.until),
        rollout.no_window,
    )
    wanted = Next(
        *whose,
        asked.name,
        int(expires.timestamp()),
        asked.say.number,
        change,
        asked.say.hold,
        asked.say.release,
    )
    return NextChannel(before, follow_up(wanted, releases, before), releases)


def _before(
    asked: ChannelOrder, trust: "tuple[Sequence[Anchor], DevicePolicy]", now: datetime
) -> "Channel | None":
    """Return the channel before, verified; None if there is none."""
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    place = asked.place
    path = place.previous or asked.path
    if place.fresh or (place.previous is None and not os.path.lexists(path)):
        return None
    try:
        return verified_before(inputs.read(path, MAX_ENVELOPE_SIZE), *trust, at=now)
    except FwsignError as error:
        hint = "--fresh takes nothing of it, and needs --number and all envelopes"
        raise error.about(str(path)).with_hint(hint) from error


def _release(
    path: Path, trust: "tuple[Sequence[Anchor], DevicePolicy]", now: datetime
) -> "VerifiedRelease":
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    with inputs.expecting_envelope(path):
        data = inputs.read(path, MAX_ENVELOPE_SIZE)
        try:
            return verified_release(data, *trust, at=now)
        except FwsignError as error:
            raise error.about(str(path)) from error


def warnings(plan: NextChannel, now: datetime) -> list[str]:
    """Return the notes about a channel that devices take, but perhaps not as it is meant."""
    channel, before = plan.channel, plan.before
    lines = []
    life = datetime.fromtimestamp(channel.expires, now.tzinfo) - now
    if life > LONG:
        lines.append(
            f"it expires in {life.days} days: as long can whoever holds the server keep news from "
            "devices"
        )
    if before is None and channel.number == 1:
        lines.append("the first channel of this name; --previous FILE goes on from another")
    for one in plan.releases:
        end = one.manifest.use_before
        if end is not None and end < channel.expires:
            number = one.manifest.sequence_number
            lines.append(f"release {number} is past its use-before time before the channel expires")
    for named in channel.releases:
        over = named.rollout.until
        if over is not None and over <= now.timestamp():
            number = named.sequence_number
            lines.append(f"the window of release {number} is over: no device takes it any more")
    if before is not None and not channel.hold:
        there = {one.manifest_digest for one in channel.releases}
        lines += [
            f"release {one.sequence_number} is left out: devices that have it keep it"
            for one in before.releases
            if one.manifest_digest not in there
        ]
    return lines
