# SPDX-License-Identifier: Apache-2.0
"""Judge what a poll found, install it, and remember the verdict."""

import contextlib
from typing import Final, NamedTuple

from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Unsuitable, Untrusted
from fwsign.gateway.channel_memory import read_heard, write_heard
from fwsign.gateway.choice import ChannelChoice
from fwsign.gateway.follow.known import (
    MAX_MESSAGE,
    FollowRequest,
    KnownHere,
    known_here,
    obstacles_here,
    postpone,
)
from fwsign.gateway.follow.places import Looked
from fwsign.gateway.follow_memory import SeenOffer, may_retag, write_attempts, write_seen
from fwsign.gateway.offer import Obstacle, Offer
from fwsign.gateway.run import refused
from fwsign.gateway.run.session import Installed, InstallRequest, opened
from fwsign.gateway.target.sources import Sources
from fwsign.verify.verified import VerifiedRelease

REFUSED: Final = (Malformed, Tampered, Untrusted, Unsuitable)
_OWN_MEMORY: Final = ("state.busy", "state.conflict", "unsuitable.trial")
"""The codes after which no try is counted here: the next poll tries again, as after those of
fetching; a failed trial is remembered by itself.
"""
_OTHERS: Final = (
    "unsuitable.vendor",
    "unsuitable.product",
    "unsuitable.trust-update",
    "unsuitable.channel",
    "unsuitable.permit",
)
"""The codes of envelopes in a directory that are for other devices."""


class Polled(NamedTuple):
    """The result of a poll.

    Args:
        verdict: "nothing new", "waiting" (an offer has obstacles), "offered" (it would be installed
            now), "installed", or "on trial".
        offer: the release that is there; None if there is none.
        obstacles: what keeps it from being installed now.
        place: the envelope of the offer; None if there is none.
        to_fetch: the most bytes of payloads that an install fetches.
        installed: the result of the install; None if there was none.
        notes: notes for people.
        choice: what the channel says; None if the address is no channel's.
    """

    verdict: str
    offer: Offer | None = None
    obstacles: tuple[Obstacle, ...] = ()
    place: str | None = None
    to_fetch: int = 0
    installed: Installed | None = None
    notes: tuple[str, ...] = ()
    choice: ChannelChoice | None = None


def chosen(
    request: FollowRequest, looked: Looked, *, record: bool
) -> tuple[Sources, VerifiedRelease] | None:
    """Return the first of the releases that verifies; None if none is for this device.

    Args:
        request: the poll.
        looked: the content of the address.
        record: write receipts of refusals.

    Raises:
        FwsignError: the first refusal, if no release verifies.
    """
    from fwsign.gateway.offered import judge_offer

    refusals: list[FwsignError] = []
    for place in looked.found or ():
        sources = place
        try:
            sources = place._replace(content=place.read_envelope())
            return sources, judge_offer(request.device, request.clock(), sources)
        except FwsignError as refusal:
            if looked.several and refusal.code in _OTHERS:
                continue
            if record and not isinstance(refusal, Failed):
                record_refusal(request, sources.read_envelope(), refusal)
            if looked.several:
                request.tell(f"{sources.envelope}: {refusal.message}")
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return None


def judged(request: FollowRequest, known: KnownHere, offer: Offer, sources: Sources) -> Polled:
    """Return what is to be said of an offer; the installed release has no obstacles."""
    if known.has(offer):
        return Polled("nothing new", offer, place=sources.envelope)
    from fwsign.gateway.offered import staged_bytes

    kept = obstacles_here(request, known, offer)
    verdict = "waiting" if kept else "offered"
    left = max(0, offer.outside - staged_bytes(request.device, sources))
    return Polled(verdict, offer, kept, sources.envelope, left)


def install_offer(
    request: FollowRequest, known: KnownHere, offer: Offer, sources: Sources
) -> Installed:
    """Install an offer; a failure postpones the next try of this release."""
    from fwsign.gateway.install import install

    try:
        done = install(asked(request), sources)
    except FwsignError as error:
        fetching = error.code.partition(".")[2].startswith("fetch-")
        if not fetching and error.code not in _OWN_MEMORY:
            with contextlib.suppress(Failed):  # the first error is the one to show
                postpone(request, known, offer.manifest, error)
        raise
    if known.attempts is not None:
        with contextlib.suppress(Failed), opened(request.device) as state:
            write_attempts(state, None)
    return done


def record_refusal(
    request: FollowRequest, data: bytes, refusal: FwsignError, kind: str = "install"
) -> None:
    """Write a receipt of a refused envelope, or of a refused "channel"."""
    from fwsign.gateway.run.log import Log

    with opened(request.device) as state:
        log = Log(state, request.device, request.clock(), request.signer)
        refused.record(log, data, refusal, kind=kind)


def asked(request: FollowRequest) -> InstallRequest:
    """Return the request of an install that a poll asks for."""
    return InstallRequest(
        request.device,
        request.clock(),
        request.signer,
        progress=request.progress,
        tell=request.tell,
        uptime=request.uptime,
    )


def remember(
    request: FollowRequest, tag: str, offer: Offer | None, refusal: FwsignError | None = None
) -> None:
    """Remember the verdict on a content. It is a hint: a full disk does not stop a release."""
    code, message = (refusal.code, refusal.message[:MAX_MESSAGE]) if refusal else (None, None)
    now = int(request.clock().timestamp())
    with contextlib.suppress(Failed), opened(request.device) as state:
        basis = known_here(request, state).basis
        write_seen(state, SeenOffer(request.address, tag, basis, offer, code, message, now))


def retag(request: FollowRequest, seen: SeenOffer, tag: str) -> None:
    """Remember the tag that the same content has now, at most once in `RETAG_SECONDS`."""
    at = request.clock()
    if tag == seen.tag or not may_retag(seen.tagged, at):
        return
    with contextlib.suppress(Failed), opened(request.device) as state, state.transaction():
        write_seen(state, seen._replace(tag=tag, tagged=int(at.timestamp())))
        heard = read_heard(state)
        if heard is not None and heard.is_at(seen.address, seen.tag):
            write_heard(state, heard._replace(tag=tag))


def again(code: str, message: str) -> FwsignError:
    """Return the refusal of a release that is still there and was refused before."""
    kind = next(one for one in REFUSED if code.partition(".")[0] in one.prefixes)
    return kind(code, message)  # type: ignore[arg-type]  # it was a code when it was remembered
