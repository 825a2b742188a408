# SPDX-License-Identifier: Apache-2.0
"""One poll of `fwsign follow`: look, judge, and install what policy allows.

    1  end the trial that is due                 4  verify the release that is offered
    2  trust updates and CRLs, from addresses    5  name what keeps it from being installed now
    3  look at the address                       6  install it, as `fwsign install` does

One poll at a time: a timer's waits for that of a daemon, and then finds nothing new. The lock of
the target is held in step 6 alone. What is remembered of an address is a hint: a server
that always says "unchanged" can delay a release, as one that does not answer can, and no more.
Most polls find nothing new, so the installer is imported when there is something for it.
"""

from typing import Final

from fwsign.gateway.choice import is_channel
from fwsign.gateway.config.follow_rules import HAWKBIT
from fwsign.gateway.follow.judging import (
    REFUSED,
    Polled,
    again,
    asked,
    chosen,
    install_offer,
    judged,
    remember,
    retag,
)
from fwsign.gateway.follow.known import (
    FollowRequest,
    KnownHere,
    known_here,
    obstacles_here,
    postpone,
)
from fwsign.gateway.follow.places import Looked, look
from fwsign.gateway.offer import offer_of
from fwsign.gateway.run.session import OWED, fetch_rules, opened, refuse_foreign, refuse_platform
from fwsign.gateway.target.sources import Sources
from fwsign.gateway.trial.record import TRIAL

__all__ = ["Polled", "check", "poll"]

TURN_SECONDS: Final = 30.0
"""The longest wait for a poll of another process, as of a timer: after it there is nothing new."""


def check(request: FollowRequest, sources: Sources | None = None) -> Polled:
    """Tell what is offered, and whether it would be installed now; change nothing.

    Args:
        request: the poll.
        sources: one release to look at; None to look at the address.

    Raises:
        FwsignError: as `fwsign.gateway.install.install`.
    """
    refuse_platform()
    request, _, _ = _timed(request)
    with opened(request.device) as state:
        known = known_here(request, state)
    if sources is None:
        looked = _look(request, known, None, poll=False)
    else:
        typed = sources._replace(rules=request.device.fetch)
        typed = typed._replace(content=typed.read_envelope())
        looked = Looked("", iter([typed]))
    if (done := _settled(request, known, looked)) is not None:
        return done
    found = chosen(request, looked, record=False)
    if found is None:
        return Polled("nothing new")
    return _told(judged(request, known, offer_of(found[1]), found[0]), looked)


def poll(request: FollowRequest) -> Polled:
    """Look at the address once, and install what is there if policy allows it.

    Raises:
        FwsignError: as `fwsign.gateway.install.install`. A release that was refused before is
            refused again without being fetched, until it or the device changes.
    """
    refuse_platform()
    from fwsign.gateway.target.lock import in_turn  # of POSIX alone

    turn = request.device.state.with_name(f"{request.device.state.name}.follow")
    refuse_foreign(request.device.state)
    with in_turn(turn, f"another fwsign follow is at work with {turn}", TURN_SECONDS):
        if request.address.startswith(HAWKBIT):
            from fwsign.gateway.follow.hawkbit_reports import reported  # others hear nothing

            return reported(request, _poll_once)
        return _poll_once(request)


def _poll_once(request: FollowRequest) -> Polled:
    request, tried, owed = _timed(request)
    ended = _catch_up(request, tried=tried, owed=owed)
    learned = _learn(request)
    with opened(request.device) as state:
        known = known_here(request, state)
    polled = _poll(request, known)
    return polled._replace(notes=(*ended, *learned, *polled.notes))


def _catch_up(request: FollowRequest, *, tried: bool, owed: bool) -> tuple[str, ...]:
    """End a trial that is due, and run what a kill left to be run; return notes."""
    notes = []
    if tried:
        from fwsign.gateway.trial.ends import trial

        found = trial(asked(request))
        notes += [found.words] if found.ended_now else []
    if owed:
        from fwsign.gateway.run.after_install import catch_up

        failure = catch_up(asked(request))
        notes += [failure] if failure is not None else []
    return tuple(notes)


def _timed(request: FollowRequest) -> tuple[FollowRequest, bool, bool]:
    """Add the time that has passed to the limits of fetching: the clock may be behind it.

    Returns:
        The poll, whether a release is on trial, and whether a command is owed.
    """
    with opened(request.device) as state:
        fetch = fetch_rules(request.device, state)
        tried, owed = (state.remembered(name) is not None for name in (TRIAL, OWED))
    return request._replace(device=request.device._replace(fetch=fetch)), tried, owed


def _look(request: FollowRequest, known: KnownHere, tag: str | None, *, poll: bool) -> Looked:
    """Look at the address, whatever its kind; `poll` remembers what a channel says."""
    if not is_channel(request.address):
        return look(request.address, tag, request.device.fetch, request.tell)
    from fwsign.gateway.follow import channels  # most gateways follow something else

    if tag is None:
        known = known._replace(heard=None, seen=None)
    return channels.look(request, known, poll=poll)


def _settled(request: FollowRequest, known: KnownHere, looked: Looked) -> Polled | None:
    """Return the result if a channel has nothing to fetch; None if there is."""
    if looked.choice is None:
        return None
    from fwsign.gateway.follow import channels

    return channels.settled(request, known, looked.choice, looked.notes)


def _told(polled: Polled, looked: Looked) -> Polled:
    """Add what a channel says to a result."""
    if looked.choice is None:
        return polled
    later = tuple(one.words for one in looked.choice.obstacles)
    return polled._replace(choice=looked.choice, notes=(*looked.notes, *later, *polled.notes))


def _poll(request: FollowRequest, known: KnownHere) -> Polled:
    seen = known.seen
    looked = _look(request, known, seen.tag if seen is not None else None, poll=True)
    if looked.found is None and seen is not None:
        retag(request, seen, looked.tag)
        if seen.code is not None:
            raise again(seen.code, seen.message or seen.code)
        if (done := _settled(request, known, looked)) is not None:
            return done
        if looked.choice is None and (seen.offer is None or known.has(seen.offer)):
            return Polled("nothing new", seen.offer)
        same = looked.choice is None or looked.choice.manifest == seen.offer_manifest
        kept = obstacles_here(request, known, seen.offer) if seen.offer and same else ()
        if kept and seen.offer is not None:
            waiting = Polled("waiting", seen.offer, kept, to_fetch=seen.offer.outside)
            return _told(waiting, looked)
        looked = _look(request, known, None, poll=True)
    return _new(request, known, looked)


def _new(request: FollowRequest, known: KnownHere, looked: Looked) -> Polled:
    """Judge new content of the address, remember the verdict, and install what may be."""
    if (done := _settled(request, known, looked)) is not None:
        remember(request, looked.tag, done.offer)
        return done
    try:
        found = chosen(request, looked, record=True)
    except REFUSED as refusal:
        if looked.choice is None:
            remember(request, looked.tag, None, refusal)
        else:  # the channel names it still, and its server may give the right one later
            postpone(request, known, looked.choice.manifest, refusal)
        raise
    if found is None:
        remember(request, looked.tag, None)
        return Polled("nothing new")
    from fwsign.gateway.follow.updates import remember_chains

    sources, release = found
    offer = offer_of(release)
    with opened(request.device) as state:
        new = remember_chains(state, release)
    learned = _learn(request) if new else ()
    remember(request, looked.tag, offer)
    result = _told(judged(request, known, offer, sources), looked)
    if result.obstacles:
        return result._replace(notes=(*learned, *result.notes))
    installed = install_offer(request, known, offer, sources)
    remember(request, looked.tag, offer)  # installing changed the device
    verdict = "nothing new" if installed.verdict == "already installed" else installed.verdict
    notes = (*learned, *result.notes, *installed.notes)
    return result._replace(verdict=verdict, installed=installed, notes=notes)


def _learn(request: FollowRequest) -> tuple[str, ...]:
    """Apply trust updates and CRLs from the addresses in device.toml; return notes."""
    if request.device.follow.trust is None and not request.device.follow.crls:
        return ()
    from fwsign.gateway.follow.updates import Updates

    return tuple(Updates(request.device, request.clock(), request.signer, request.tell).apply())
