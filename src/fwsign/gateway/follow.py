# SPDX-License-Identifier: Apache-2.0
"""One poll of `fwsign follow`: look, judge, and install what policy allows.

    1  end the trial that is due                 4  verify the release that is offered
    2  trust updates and CRLs, from addresses    5  name what keeps it from being installed now
    3  look at the address                       6  install it, as `fwsign install` does

The lock of the target is held in step 6 alone. What is remembered of an address is a hint: a server
that always says "unchanged" can delay a release, as one that does not answer can, and no more.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from fwsign import __version__
from fwsign.errors import (
    Failed,
    FwsignError,
    Malformed,
    Stale,
    Tampered,
    Unsuitable,
    Untrusted,
)
from fwsign.files import read_owned
from fwsign.gateway import hold, release_record
from fwsign.gateway.config import MAX_SIZE, Device, Tell
from fwsign.gateway.follow_memory import (
    FailedInstalls,
    SeenOffer,
    read_attempts,
    read_seen,
    write_attempts,
    write_seen,
)
from fwsign.gateway.follow_places import Looked, look
from fwsign.gateway.follow_updates import Updates, remember_chains
from fwsign.gateway.install import install
from fwsign.gateway.log import Log
from fwsign.gateway.offer import Circumstances, Obstacle, Offer, backing_off, obstacles, offer_of
from fwsign.gateway.offered import judge_offer, staged_bytes
from fwsign.gateway.session import (
    INSTALLED,
    Installed,
    InstallRequest,
    demands,
    opened,
    refuse_platform,
    trusted,
)
from fwsign.gateway.sources import PayloadProgress, Sources
from fwsign.gateway.uptime import ReadUptime, Uptime, read_uptime
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.verify.verified import VerifiedRelease

_CLASSES: Final = (Malformed, Tampered, Untrusted, Stale, Unsuitable, Failed)
_TRANSIENT: Final = ("state.busy", "state.conflict")
"""The codes that say nothing against a release, as those of fetching: the next poll tries again."""
MAX_MESSAGE: Final = 500
"""Characters of a refusal's words that are remembered; an envelope can make them long."""
_OTHERS: Final = ("unsuitable.vendor", "unsuitable.product", "unsuitable.trust-update")
"""The codes of envelopes in a directory that are for other devices."""


class FollowRequest(NamedTuple):
    """A poll.

    Args:
        device: this device.
        address: the address to look at.
        clock: returns the clock's time; it may be wrong.
        signer: signs receipts.
        progress: told of each payload's bytes.
        tell: told of messages for people.
        uptime: returns the machine's start and the seconds since.
    """

    device: Device
    address: str
    clock: Callable[[], datetime]
    signer: Signer | None = None
    progress: PayloadProgress = lambda *_: None
    tell: Tell = lambda _: None
    uptime: ReadUptime = read_uptime


class Polled(NamedTuple):
    """The result of a poll.

    Args:
        verdict: "nothing new", "waiting" (an offer has obstacles), "offered" (it would be installed
            now), or "installed".
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


class _Known(NamedTuple):
    """The memory's content, as far as a poll needs it."""

    basis: str
    seen: SeenOffer | None
    attempts: FailedInstalls | None
    installed: str | None
    floor: datetime | None
    hold: hold.Hold | None


def check(request: FollowRequest) -> Polled:
    """Tell what is offered, and whether it would be installed now; change nothing.

    Raises:
        FwsignError: as `fwsign.gateway.install.install`.
    """
    refuse_platform()
    looked = look(request.address, None, request.device.fetch, request.tell)
    with opened(request.device) as state:
        known = _known(request, state)
    found = _chosen(request, looked, record=False)
    if found is None:
        return Polled("nothing new")
    sources, release = found
    return _judged(request, known, offer_of(release), sources)


def poll(request: FollowRequest) -> Polled:
    """Look at the address once, and install what is there if policy allows it.

    Raises:
        FwsignError: as `fwsign.gateway.install.install`. A release that was refused before is
            refused again without being fetched, until it or the device changes.
    """
    refuse_platform()
    learned = _learn(request)
    with opened(request.device) as state:
        known = _known(request, state)
    polled = _poll(request, known)
    return polled._replace(notes=(*learned, *polled.notes))


def _poll(request: FollowRequest, known: _Known) -> Polled:
    seen = known.seen
    tag = seen.tag if seen is not None else None
    looked = look(request.address, tag, request.device.fetch, request.tell)
    if looked.found is None and seen is not None:
        if seen.code is not None:
            raise _again(seen.code, seen.message or seen.code)
        if seen.offer is None or seen.offer.manifest == known.installed:
            return Polled("nothing new", seen.offer)
        if kept := _obstacles(request, known, seen.offer):
            return Polled("waiting", seen.offer, kept, to_fetch=seen.offer.outside)
        looked = look(request.address, None, request.device.fetch, request.tell)
    return _new(request, known, looked)


def _new(request: FollowRequest, known: _Known, looked: Looked) -> Polled:
    """Judge new content of the address, remember the verdict, and install what may be."""
    try:
        found = _chosen(request, looked, record=True)
    except (Malformed, Tampered, Untrusted, Unsuitable) as refusal:
        _remember(request, looked.tag, None, refusal)
        raise
    if found is None:
        _remember(request, looked.tag, None)
        return Polled("nothing new")
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
    verdict = "installed" if done.verdict == "installed" else "nothing new"
    return judged._replace(verdict=verdict, installed=done, notes=(*learned, *done.notes))


def _learn(request: FollowRequest) -> tuple[str, ...]:
    """Apply trust updates and CRLs from the addresses in device.toml; return notes."""
    if request.device.follow.trust is None and not request.device.follow.crls:
        return ()
    return tuple(Updates(request.device, request.clock(), request.signer, request.tell).apply())


def _judged(request: FollowRequest, known: _Known, offer: Offer, sources: Sources) -> Polled:
    """Return what is to be said of an offer; the installed release has no obstacles."""
    if offer.manifest == known.installed:
        return Polled("nothing new", offer, place=sources.envelope)
    kept = _obstacles(request, known, offer)
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
    refusals: list[FwsignError] = []
    several = not request.address.startswith("https:")
    for sources in looked.found or ():
        try:
            return sources, judge_offer(request.device, request.clock(), sources)
        except FwsignError as refusal:
            if several and refusal.code in _OTHERS:
                continue
            if record and not isinstance(refusal, Failed):
                _refused(request, sources, refusal)
            if several:
                request.tell(f"{sources.envelope}: {refusal.message}")
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return None


def _refused(request: FollowRequest, sources: Sources, refusal: FwsignError) -> None:
    with opened(request.device) as state:
        log = Log(state, request.device, request.clock(), request.signer)
        log.add("refused", envelope=sources.read_envelope(), error=refusal)


def _install(request: FollowRequest, known: _Known, offer: Offer, sources: Sources) -> Installed:
    """Install an offer; a failure postpones the next try of this release."""
    asked = InstallRequest(
        request.device,
        request.clock(),
        request.signer,
        progress=request.progress,
        tell=request.tell,
    )
    try:
        done = install(asked, sources)
    except FwsignError as error:
        fetching = error.code.partition(".")[2].startswith("fetch-")
        if not fetching and error.code not in _TRANSIENT:
            _postpone(request, known, offer, error)
        raise
    if known.attempts is not None:
        with opened(request.device) as state:
            write_attempts(state, None)
    return done


def _postpone(request: FollowRequest, known: _Known, offer: Offer, error: FwsignError) -> None:
    before = known.attempts
    again = before is not None and before.manifest == offer.manifest
    failures = before.failures + 1 if before is not None and again else 1
    rules, now = request.device.follow, request.uptime()
    wait = backing_off(rules.interval, rules.longest, failures)
    failed = FailedInstalls(
        offer.manifest, failures, now.boot, now.seconds, wait, error.message[:MAX_MESSAGE]
    )
    with opened(request.device) as state:
        write_attempts(state, failed)


def _obstacles(request: FollowRequest, known: _Known, offer: Offer) -> tuple[Obstacle, ...]:
    now = Circumstances(
        request.clock(),
        known.floor,
        known.hold,
        failed=_failed(known.attempts, offer, request.uptime()),
    )
    return obstacles(offer, request.device.follow, now)


def _failed(attempts: FailedInstalls | None, offer: Offer, now: Uptime) -> str | None:
    """Return why a release that failed is not tried yet; None if it may be tried.

    The wait is measured in uptime, since no clock can be trusted; after a start it begins anew, so
    that a release that makes the machine start again is not tried at each start.
    """
    if attempts is None or attempts.manifest != offer.manifest:
        return None
    same = now.boot == attempts.boot and now.seconds >= attempts.seconds
    left = attempts.wait - (now.seconds - attempts.seconds if same else now.seconds)
    if left <= 0:
        return None
    times = "once" if attempts.failures == 1 else f"{attempts.failures} times"
    return f"it failed {times}, the next try is in {left} seconds: {attempts.message}"


def _known(request: FollowRequest, state: State) -> _Known:
    device = request.device
    policy, floor = state.policy(demands(device, state)[1], None)
    installed = release_record.read(state, INSTALLED)
    trust = trusted(device, state)
    facts = [
        __version__,
        hashlib.sha256(read_owned(device.path, MAX_SIZE)).hexdigest(),
        trust.number,
        trust.epoch,
        floor.sequence if floor else None,
        installed.manifest if installed else None,
        *(hashlib.sha256(one.data).hexdigest() for one in policy.held),
    ]
    basis = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    seen = read_seen(state)
    return _Known(
        basis,
        seen if seen and (seen.address, seen.basis) == (request.address, basis) else None,
        read_attempts(state),
        installed.manifest if installed else None,
        policy.time_floor,
        hold.read(state),
    )


def _remember(
    request: FollowRequest,
    tag: str | None,
    offer: Offer | None,
    refusal: FwsignError | None = None,
) -> None:
    with opened(request.device) as state:
        if tag is None:
            write_seen(state, None)
            return
        basis = _known(request, state).basis
        code, message = (refusal.code, refusal.message[:MAX_MESSAGE]) if refusal else (None, None)
        write_seen(state, SeenOffer(request.address, tag, basis, offer, code, message))


def _again(code: str, message: str) -> FwsignError:
    """Return the refusal of a release that is still there and was refused before."""
    kind = next(one for one in _CLASSES if code.partition(".")[0] in one.prefixes)
    return kind(code, message)  # type: ignore[arg-type]  # it was a code when it was remembered
