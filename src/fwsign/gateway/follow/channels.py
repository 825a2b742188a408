# SPDX-License-Identifier: Apache-2.0
"""Follow a channel: its server can delay what it says, and decide nothing.

The channel is verified, its name compared with that of the address, and its number with the
memory. What it offers this device is chosen, and the release comes from beside it. If a server says
that nothing changed, the channel that was verified before is judged anew, since windows open. It is
asked for as a whole when it expires, and when a certificate or a CRL of its signer ends.
"""

import contextlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed, FwsignError, Unsuitable
from fwsign.format.channel import Channel
from fwsign.gateway.channel_memory import Heard, stands_until, write_heard
from fwsign.gateway.choice import ChannelChoice, Who, choose, name_in
from fwsign.gateway.follow.judging import REFUSED, Polled, record_refusal, remember
from fwsign.gateway.follow.known import FollowRequest, KnownHere, failed_here, known_here
from fwsign.gateway.follow.places import Looked, content
from fwsign.gateway.offer import Obstacle
from fwsign.gateway.run.session import demands, fetch_rules, opened
from fwsign.gateway.target.sources import ReleasePlace, Sources
from fwsign.memory.channels import ChannelKey
from fwsign.verify.policy import UNPROVEN

if TYPE_CHECKING:
    from fwsign.verify.verified import VerifiedChannel

TRIES: Final = 3
"""How often a channel is judged if other processes take one at the same time."""


def look(request: FollowRequest, known: KnownHere, *, poll: bool) -> Looked:
    """Look at a channel once; an unchanged one costs one small request.

    Args:
        request: the poll.
        known: the memory's content.
        poll: remember what the channel says; else it is only told.

    Raises:
        FwsignError: as `Verifier.verify_channel`; Failed: `io.*`, `state.*`.
    """
    now = max(filter(None, (request.clock(), known.floor)))
    heard = known.heard
    if heard is not None and now.timestamp() >= heard.until:
        heard = None  # it is asked for as a whole, and judged by the rules for all channels
    refused = known.seen is not None and known.seen.code is not None
    tag = known.seen.tag if poll and known.seen is not None and (heard or refused) else None
    found, data = content(request.address, tag, request.device.fetch, request.tell)
    if data is not None:
        choice, notes = _hear(request, known, found, data, poll=poll)
        return Looked(found, iter(_offered(request, choice)), choice=choice, notes=notes)
    if heard is None:
        return Looked(found, None)  # it was refused
    behind = (UNPROVEN,) if request.clock() < now else ()
    others = [one for one in heard.notes if one != UNPROVEN]  # that was the clock of then
    choice = _choose(request, known, heard.channel, now)
    return Looked(found, None, choice=choice, notes=(*behind, *others))


def settled(
    request: FollowRequest, known: KnownHere, choice: ChannelChoice, notes: tuple[str, ...]
) -> Polled | None:
    """Return the result of a look at a channel if there is nothing to fetch; None if there is."""
    seen = known.seen.offer if known.seen is not None else None
    offer = seen if seen is not None and seen.manifest == choice.manifest else None
    if choice.release is None or choice.manifest in known.in_place:
        if choice.obstacles:
            return Polled("waiting", obstacles=choice.obstacles, notes=notes, choice=choice)
        return Polled("nothing new", offer, notes=notes, choice=choice)
    failed = failed_here(known.attempts, choice.manifest, request.uptime())
    if failed is not None:
        kept, left = (Obstacle("failed", failed), *choice.obstacles), offer.outside if offer else 0
        return Polled("waiting", offer, kept, to_fetch=left, notes=notes, choice=choice)
    return None


def to_install(request: FollowRequest, *, record: bool) -> Sources:
    """Return the release that a channel offers this device, for an install that is typed.

    Args:
        request: the device, and the channel's address.
        record: remember the channel's number.

    Raises:
        Unsuitable: `unsuitable.rollout`: there is none; FwsignError: as `look`.
    """
    with opened(request.device) as state:
        fetch = fetch_rules(request.device, state)
        request = request._replace(device=request.device._replace(fetch=fetch))
        known = known_here(request, state)
    tag, data = content(request.address, None, fetch, request.tell)
    choice, _ = _hear(request, known, tag, data or b"", poll=record)
    for sources in _offered(request, choice):
        return sources
    words = "; ".join(one.words for one in choice.obstacles) or "it names nothing newer"
    raise Unsuitable(
        "unsuitable.rollout",
        f"the channel {choice.words} has no release for this device: {words}",
        expected="a release that is rolled out to this device",
        found=words,
    )


def _offered(request: FollowRequest, choice: ChannelChoice) -> list[Sources]:
    """Return the sources of the chosen release, if there is one."""
    if choice.release is None:
        return []
    published = ReleasePlace(request.address, choice.manifest, choice.release.sequence_number)
    return [Sources.of_channel(published, request.device.fetch, request.tell)]


def _hear(
    request: FollowRequest, known: KnownHere, tag: str, data: bytes, *, poll: bool
) -> tuple[ChannelChoice, tuple[str, ...]]:
    """Verify a channel, remember it, and choose; return notes, too."""
    try:
        verified, allow_stale = _verify(request, data, accept=poll)
    except FwsignError as refusal:
        if poll and not isinstance(refusal, Failed):
            record_refusal(request, data, refusal, kind="channel")
        # A number may be ahead of a clock that is behind, and is not when that clock is right.
        if poll and isinstance(refusal, REFUSED) and refusal.code != "unsuitable.fast-forward":
            remember(request, tag, None, refusal)
        raise
    if poll:  # a hint: a full disk does not stop a release
        with contextlib.suppress(Failed), opened(request.device) as state:
            until = stands_until(verified, allow_stale)
            write_heard(state, Heard.of(request.address, tag, data, verified.notes, until))
    return _choose(request, known, verified.channel, verified.now), verified.notes


def _verify(
    request: FollowRequest, data: bytes, *, accept: bool
) -> "tuple[VerifiedChannel, timedelta]":
    """Verify a channel by the memory, and remember its number there.

    If another process took a channel meanwhile, the memory is asked again: mostly it was this one.

    Returns:
        The channel, and how long after its next update a CRL is still used.
    """
    for _ in range(TRIES - 1):
        try:
            return _verify_once(request, data, accept=accept)
        except Failed as error:
            if error.code != "state.conflict":
                raise
    return _verify_once(request, data, accept=accept)


def _verify_once(
    request: FollowRequest, data: bytes, *, accept: bool
) -> "tuple[VerifiedChannel, timedelta]":
    from fwsign.gateway.judge import refuse_unchecked  # most polls find nothing new
    from fwsign.verify.verifier import Verifier

    device, name = request.device, name_in(request.address)
    with opened(device) as state:
        anchors, base = demands(device, state)
        policy, _ = state.policy(base, None)
        key = ChannelKey(device.trust.vendor, device.trust.product, name)
        before = state.channels().last(key)
        verifier = Verifier(anchors, policy)
        verified = verifier.verify_channel(data, at=request.clock(), name=name, seen=before)
        first = ("rollback",) if before is None else ()
        refuse_unchecked(policy, [one for one in verified.unchecked if one not in first])
        if accept:
            state.channels().accept(verified, before)
    return verified, policy.allow_stale


def _choose(
    request: FollowRequest, known: KnownHere, channel: Channel, now: datetime
) -> ChannelChoice:
    device = request.device
    who = Who(device.identity.name(), device.follow.cohorts, known.sequence)
    return choose(channel, who, now, known.in_place)
