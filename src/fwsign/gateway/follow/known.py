# SPDX-License-Identifier: Apache-2.0
"""What a poll of `fwsign follow` knows of the device, and what keeps an offer waiting there."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from fwsign import __version__
from fwsign.errors import FwsignError
from fwsign.files import read_owned
from fwsign.gateway import hold
from fwsign.gateway.channel_memory import Heard, read_heard
from fwsign.gateway.choice import is_channel
from fwsign.gateway.config.device import MAX_SIZE, Device, Tell
from fwsign.gateway.follow_memory import (
    FailedInstalls,
    SeenOffer,
    read_attempts,
    read_seen,
    write_attempts,
)
from fwsign.gateway.offer import Circumstances, Obstacle, Offer, backing_off, obstacles, spread
from fwsign.gateway.run.session import INSTALLED, demands, opened, trusted
from fwsign.gateway.run.uptime import ReadUptime, Uptime, read_uptime
from fwsign.gateway.target import release_record
from fwsign.gateway.target.sources import PayloadProgress
from fwsign.gateway.trial.record import (
    FAILED,
    FailedRelease,
    TrialRecord,
    failed_of,
    read_failed,
    read_trial,
)
from fwsign.keys import Signer
from fwsign.memory.state import State

ON_TRIAL: Final = 60
"""Seconds between two polls while a release is on trial: its time may be over."""
MAX_MESSAGE: Final = 500
"""Characters of a refusal's words that are remembered; an envelope can make them long."""


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


class KnownHere(NamedTuple):
    """The memory's content, as far as a poll needs it."""

    basis: str
    seen: SeenOffer | None
    attempts: FailedInstalls | None
    installed: str | None
    floor: datetime | None
    hold: hold.Hold | None
    trial: TrialRecord | None
    failed: tuple[FailedRelease, ...]
    sequence: int
    heard: Heard | None

    @property
    def in_place(self) -> tuple[str, ...]:
        """The manifest digests of what is in place, on trial or not."""
        tried = self.trial.release.manifest if self.trial else None
        return tuple(one for one in (self.installed, tried) if one is not None)

    def has(self, offer: Offer) -> bool:
        """Tell whether an offer is what is in place, on trial or not."""
        return offer.manifest in self.in_place


def obstacles_here(request: FollowRequest, known: KnownHere, offer: Offer) -> tuple[Obstacle, ...]:
    """Return what keeps an offer from being installed by itself here and now."""
    tried, before = known.trial, failed_of(known.failed, offer.manifest)
    failed = failed_here(known.attempts, offer.manifest, request.uptime())
    if before is not None and before.reason is not None:
        failed = f"it failed its trial here before: {before.reason}"
    on_trial = tried is not None and tried.phase != "stays"
    name = f"release {tried.release.sequence}" if tried and on_trial else None
    now = Circumstances(request.clock(), known.floor, known.hold, name, failed)
    return obstacles(offer, request.device.follow, now)


def failed_here(attempts: FailedInstalls | None, manifest: str, now: Uptime) -> str | None:
    """Return why a release that failed is not tried yet; None if it may be tried.

    The wait is measured in uptime, since no clock can be trusted; after a start it begins anew, so
    that a release that makes the machine start again is not tried at each start.
    """
    if attempts is None or attempts.manifest != manifest:
        return None
    same = now.boot == attempts.boot and now.seconds >= attempts.seconds
    left = attempts.wait - (now.seconds - attempts.seconds if same else now.seconds)
    if left <= 0:
        return None
    times = "once" if attempts.failures == 1 else f"{attempts.failures} times"
    return f"it failed {times}, the next try is in {left} seconds: {attempts.message}"


def known_here(request: FollowRequest, state: State) -> KnownHere:
    """Return what the memory knows that a poll needs.

    Raises:
        Failed: `state.*`, `io.*`.
    """
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
        state.remembered(FAILED),
        *(hashlib.sha256(one.data).hexdigest() for one in policy.held),
    ]
    basis = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    seen = read_seen(state)
    if seen is not None and (seen.address, seen.basis) != (request.address, basis):
        seen = None
    heard = read_heard(state) if is_channel(request.address) else None
    return KnownHere(
        basis,
        seen,
        read_attempts(state),
        installed.manifest if installed else None,
        policy.time_floor,
        hold.read(state),
        read_trial(state),
        read_failed(state),
        floor.sequence if floor else 0,
        heard if heard is not None and seen is not None and heard.is_at(*seen[:2]) else None,
    )


def postpone(request: FollowRequest, known: KnownHere, manifest: str, error: FwsignError) -> None:
    """Remember that an install failed, so that the next try comes later.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    before = known.attempts
    again = before is not None and before.manifest == manifest
    failures = before.failures + 1 if before is not None and again else 1
    rules, now = request.device.follow, request.uptime()
    wait = backing_off(rules.interval, rules.longest, failures)
    failed = FailedInstalls(
        manifest, failures, now.boot, now.seconds, wait, error.message[:MAX_MESSAGE]
    )
    with opened(request.device) as state:
        write_attempts(state, failed)


def pause(request: FollowRequest, failures: int, share: float) -> float:
    """Return the seconds until the next poll; while a release is on trial, at most `ON_TRIAL`.

    Args:
        request: the poll that was made.
        failures: consecutive polls that failed.
        share: a random number from 0 to 1.
    """
    rules = request.device.follow
    seconds = backing_off(rules.interval, rules.longest, failures)
    with contextlib.suppress(FwsignError), opened(request.device) as state:
        if read_trial(state) is not None:
            seconds = min(seconds, ON_TRIAL)
    return spread(seconds, share).total_seconds()
