# SPDX-License-Identifier: Apache-2.0
"""The channel that follows another: what is not named stays as it was."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fwsign.errors import Failed, Unsuitable
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.rollout import SALT_SIZE, WHOLE, Rollout
from fwsign.signing.stapling import carried_crls
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from fwsign.x509.revocation import CrlReader

USUAL_LIFE: Final = timedelta(days=30)
"""A channel's life: as long can whoever holds the server keep news from devices."""
_ANY_AGE: Final = timedelta(days=36500)


class RolloutChange(NamedTuple):
    """What changes of the rollout of the newest release; None leaves it as it was.

    Args:
        share: the share of devices, in ten-thousandths.
        cohorts: the cohorts; empty for all devices.
        start: the beginning of the window, a Unix time.
        until: the end of the window, a Unix time.
        no_window: whether the window goes, before the times above are set.
    """

    share: int | None = None
    cohorts: tuple[str, ...] | None = None
    start: int | None = None
    until: int | None = None
    no_window: bool = False

    def apply(self, old: Rollout) -> Rollout:
        """Return a rollout with these changes; its salt stays."""
        start, until = (None, None) if self.no_window else (old.start, old.until)
        return Rollout(
            old.salt,
            old.share if self.share is None else self.share,
            old.cohorts if self.cohorts is None else tuple(sorted(set(self.cohorts))),
            start if self.start is None else self.start,
            until if self.until is None else self.until,
        )


class Next(NamedTuple):
    """What the next channel shall say.

    Args:
        vendor: the vendor's domain.
        product: the product's name.
        name: the channel's name.
        expires: its expiry, a Unix time.
        number: its number; None for the one after the channel before.
        change: what changes of the newest release's rollout.
        hold: the words of a hold; None leaves a hold as it was.
        release: whether a hold ends.
    """

    vendor: str
    product: str
    name: str
    expires: int
    number: int | None = None
    change: RolloutChange = RolloutChange()
    hold: str | None = None
    release: bool = False


def follow_up(
    wanted: Next, releases: Sequence[VerifiedRelease], before: Channel | None = None
) -> Channel:
    """Return the channel that follows another.

    A release that goes on keeps its rollout, and its salt: another would draw anew who is in.

    Args:
        wanted: what it shall say.
        releases: all releases that it shall name; none leaves those of the channel before.
        before: the channel before, verified; None for the first.

    Raises:
        Unsuitable: `unsuitable.rollback`, `unsuitable.product`, `unsuitable.channel-name`.
        Failed: `state.conflict`: two releases of one sequence number; `state.nothing`: no release.
    """
    if before is not None:
        _check_same(wanted, before)
    number = _number(wanted.number, before)
    kept = {one.manifest_digest: one.rollout for one in before.releases} if before else {}
    if releases:
        named = [_named(one, kept) for one in releases]
        _check_distinct(releases)
    else:
        named = list(before.releases) if before else []
    named.sort(key=lambda one: one.sequence_number)
    if not named:
        raise Failed(
            "state.nothing",
            "the channel would name no release",
            expected="a release",
            found="none",
            hint="name the envelopes of the releases that are current",
        )
    named[-1] = named[-1]._replace(rollout=wanted.change.apply(named[-1].rollout))
    hold = wanted.hold or (before.hold if before and not wanted.release else None)
    return Channel(
        wanted.vendor, wanted.product, wanted.name, number, wanted.expires, tuple(named), hold
    )


def _check_same(wanted: Next, before: Channel) -> None:
    if before.name != wanted.name:
        raise Unsuitable(
            "unsuitable.channel-name",
            f'the channel before is "{before.name}", not "{wanted.name}"',
            expected=wanted.name,
            found=before.name,
        )
    own, found = f"{wanted.vendor} {wanted.product}", f"{before.vendor} {before.product}"
    if own != found:
        raise Unsuitable(
            "unsuitable.product",
            f"the channel before is for {found}, not {own}",
            expected=own,
            found=found,
        )


def _number(wanted: int | None, before: Channel | None) -> int:
    least = before.number + 1 if before else 1
    number = least if wanted is None else wanted
    if number < least:
        raise Unsuitable(
            "unsuitable.rollback",
            f"channel number {number} is not above {least - 1}, that of the channel before",
            expected=f"{least} or more",
            found=number,
            hint="leave out --number, or give a higher one",
        )
    return number


def _named(release: VerifiedRelease, kept: dict[bytes, Rollout]) -> ChannelRelease:
    digest = release.manifest_digest
    rollout = kept.get(digest) or Rollout(secrets.token_bytes(SALT_SIZE), WHOLE)
    return ChannelRelease(digest, release.manifest.sequence_number, rollout)


def _check_distinct(releases: Sequence[VerifiedRelease]) -> None:
    numbers = [one.manifest.sequence_number for one in releases]
    twice = [one for one in numbers if numbers.count(one) > 1]
    if twice:
        raise Failed(
            "state.conflict",
            f"two releases have the sequence number {twice[0]}: devices take one of them",
            expected="another sequence number for each",
            found=twice[0],
            hint="name each release once; a build that is signed again gets a higher number",
        )


def verified_before(
    data: bytes, anchors: Sequence[Anchor], policy: DevicePolicy, *, at: datetime
) -> Channel:
    """Verify the channel before, which may have expired since; its signer may not be revoked.

    The CRLs of the policy are newer than the channel, and must not make it expire by their times:
    they judge its signer alone.

    Args:
        data: the content of its file.
        anchors: what devices pin.
        policy: what devices demand, with the newest CRLs.
        at: the present time, with a zone.

    Raises:
        FwsignError: as `Verifier.verify_channel`, but not that it is stale.
    """
    from fwsign.format.channel import read_channel
    from fwsign.format.envelope import decode_envelope

    expires = read_channel(decode_envelope(data)).expires
    then = min(at, datetime.fromtimestamp(max(expires - 1, 0), at.tzinfo))
    lenient = policy._replace(allow_stale=_ANY_AGE, crls=())
    verified = Verifier(anchors, lenient).verify_channel(data, at=then)
    reader = CrlReader(policy.profile, policy.crls)
    for signer, path in verified.counted:
        issued = [one for one in reader.collect(path).issued if one.crls]
        reader.check(issued, at, signer.signed_at, allow_stale=_ANY_AGE)
    return verified.channel


def verified_release(
    envelope: bytes, anchors: Sequence[Anchor], policy: DevicePolicy, *, at: datetime
) -> VerifiedRelease:
    """Verify a release that a channel shall name, at the time that its CRLs prove.

    Raises:
        FwsignError: as `Verifier.verify`.
    """
    known = max((at, *(one.this_update for one in carried_crls(envelope))))
    return Verifier(anchors, policy).verify(envelope, at=known)
