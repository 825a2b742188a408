# SPDX-License-Identifier: Apache-2.0
"""One poll of `fwsign follow`: look, judge, and install what policy allows.

    1  end the trial that is due                 4  verify the release that is offered
    2  trust updates and CRLs, from addresses    5  name what keeps it from being installed now
    3  look at the address                       6  install it, as `fwsign install` does

The lock of the target is held in step 6 alone. What is remembered of an address is a hint: a server
that always says "unchanged" can delay a release, as one that does not answer can, and no more.
Most polls find nothing new, so the installer is imported when there is something for it.
"""

import contextlib
from typing import Final, NamedTuple

from fwsign.errors import (
    Failed,
    FwsignError,
    Malformed,
    Tampered,
    Unsuitable,
    Untrusted,
)
from fwsign.gateway.config.follow_rules import HAWKBIT
from fwsign.gateway.follow.known import (
    MAX_MESSAGE,
    FollowRequest,
    KnownHere,
    known_here,
    obstacles_here,
    postpone,
)
from fwsign.gateway.follow.places import Looked, look
from fwsign.gateway.follow_memory import (
    SeenOffer,
    write_attempts,
    write_seen,
)
from fwsign.gateway.offer import Obstacle, Offer, offer_of
from fwsign.gateway.run import refused
from fwsign.gateway.run.session import (
    OWED,
    Installed,
    InstallRequest,
    fetch_rules,
    opened,
    refuse_platform,
)
from fwsign.gateway.target.sources import Sources
from fwsign.gateway.trial.record import TRIAL
from fwsign.verify.verified import VerifiedRelease

_CLASSES: Final = (Malformed, Tampered, Untrusted, Unsuitable)
_OWN_MEMORY: Final = ("state.busy", "state.conflict", "unsuitable.trial")
"""The codes after which no try is counted here: the next poll tries again, as after those of
fetching; a failed trial is remembered by itself.
"""
_OTHERS: Final = ("unsuitable.vendor", "unsuitable.product", "unsuitable.trust-update")
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
    """

    verdict: str
    offer: Offer | None = None
    obstacles: tuple[Obstacle, ...] = ()
    place: str | None = None
    to_fetch: int = 0
    installed: Installed | None = None
    notes: tuple[str, ...] = ()


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
    if sources is not None:
        found = sources._replace(rules=request.device.fetch)
        found = found._replace(content=found.read_envelope())
        looked = Looked("", iter([found]))
    else:
        looked = look(request.address, None, request.device.fetch, request.tell)
    with opened(request.device) as state:
        known = known_here(request, state)
    chosen = _chosen(request, looked, record=False)
    if chosen is None:
        return Polled("nothing new")
    return _judged(request, known, offer_of(chosen[1]), chosen[0])


def poll(request: FollowRequest) -> Polled:
    """Look at the address once, and install what is there if policy allows it.

    Raises:
        FwsignError: as `fwsign.gateway.install.install`. A release that was refused before is
            refused again without being fetched, until it or the device changes.
    """
    refuse_platform()
    if request.address.startswith(HAWKBIT):
        from fwsign.gateway.follow.hawkbit_reports import reported  # other addresses hear nothing

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

        found = trial(_asked(request))
        notes += [found.words] if found.ended_now else []
    if owed:
        from fwsign.gateway.run.after_install import catch_up

        failure = catch_up(_asked(request))
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


def _poll(request: FollowRequest, known: KnownHere) -> Polled:
    seen = known.seen
    tag = seen.tag if seen is not None else None
    looked = look(request.address, tag, request.device.fetch, request.tell)
    if looked.found is None and seen is not None:
        if seen.code is not None:
            raise _again(seen.code, seen.message or seen.code)
        if seen.offer is None or known.has(seen.offer):
            return Polled("nothing new", seen.offer)
        if kept := obstacles_here(request, known, seen.offer):
            return Polled("waiting", seen.offer, kept, to_fetch=seen.offer.outside)
        looked = look(request.address, None, request.device.fetch, request.tell)
    return _new(request, known, looked)


def _new(request: FollowRequest, known: KnownHere, looked: Looked) -> Polled:
    """Judge new content of the address, remember the verdict, and install what may be."""
    try:
        found = _chosen(request, looked, record=True)
    except _CLASSES as refusal:
        _remember(request, looked.tag, None, refusal)
        raise
    if found is None:
        _remember(request, looked.tag, None)
        return Polled("nothing new")
    from fwsign.gateway.follow.updates import remember_chains

    sources, release = found
    offer = offer_of(release)
    with opened(request.device) as state:
        new = remember_chains(state, release)
    learned = _learn(request) if new else ()
    _remember(request, looked.tag, offer)
    judged = _judged(request, known, offer, sources)
    if judged.obstacles:
        return judged._replace(notes=learned)
    done = _install(request, known, offer, sources)
    _remember(request, looked.tag, offer)  # installing changed the device
    verdict = "nothing new" if done.verdict == "already installed" else done.verdict
    return judged._replace(verdict=verdict, installed=done, notes=(*learned, *done.notes))


def _learn(request: FollowRequest) -> tuple[str, ...]:
    """Apply trust updates and CRLs from the addresses in device.toml; return notes."""
    if request.device.follow.trust is None and not request.device.follow.crls:
        return ()
    from fwsign.gateway.follow.updates import Updates

    return tuple(Updates(request.device, request.clock(), request.signer, request.tell).apply())


def _judged(request: FollowRequest, known: KnownHere, offer: Offer, sources: Sources) -> Polled:
    """Return what is to be said of an offer; the installed release has no obstacles."""
    if known.has(offer):
        return Polled("nothing new", offer, place=sources.envelope)
    from fwsign.gateway.offered import staged_bytes

    kept = obstacles_here(request, known, offer)
    verdict = "waiting" if kept else "offered"
    left = max(0, offer.outside - staged_bytes(request.device, sources))
    return Polled(verdict, offer, kept, sources.envelope, left)


def _chosen(
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
                _refused(request, sources, refusal)
            if looked.several:
                request.tell(f"{sources.envelope}: {refusal.message}")
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return None


def _refused(request: FollowRequest, sources: Sources, refusal: FwsignError) -> None:
    from fwsign.gateway.run.log import Log

    with opened(request.device) as state:
        log = Log(state, request.device, request.clock(), request.signer)
        refused.record(log, sources.read_envelope(), refusal)


def _install(request: FollowRequest, known: KnownHere, offer: Offer, sources: Sources) -> Installed:
    """Install an offer; a failure postpones the next try of this release."""
    from fwsign.gateway.install import install

    try:
        done = install(_asked(request), sources)
    except FwsignError as error:
        fetching = error.code.partition(".")[2].startswith("fetch-")
        if not fetching and error.code not in _OWN_MEMORY:
            with contextlib.suppress(Failed):  # the first error is the one to show
                postpone(request, known, offer, error)
        raise
    if known.attempts is not None:
        with contextlib.suppress(Failed), opened(request.device) as state:
            write_attempts(state, None)
    return done


def _asked(request: FollowRequest) -> InstallRequest:
    return InstallRequest(
        request.device,
        request.clock(),
        request.signer,
        progress=request.progress,
        tell=request.tell,
        uptime=request.uptime,
    )


def _remember(
    request: FollowRequest, tag: str, offer: Offer | None, refusal: FwsignError | None = None
) -> None:
    """Remember the verdict on a content. It is a hint: a full disk does not stop a release."""
    code, message = (refusal.code, refusal.message[:MAX_MESSAGE]) if refusal else (None, None)
    with contextlib.suppress(Failed), opened(request.device) as state:
        basis = known_here(request, state).basis
        write_seen(state, SeenOffer(request.address, tag, basis, offer, code, message))


def _again(code: str, message: str) -> FwsignError:
    """Return the refusal of a release that is still there and was refused before."""
    kind = next(one for one in _CLASSES if code.partition(".")[0] in one.prefixes)
    return kind(code, message)  # type: ignore[arg-type]  # it was a code when it was remembered
