# SPDX-License-Identifier: Apache-2.0
"""What `fwsign follow` remembers of an address, so that a poll without news costs one request.

It is a hint: an offer that is installed is fetched and verified anew. A damaged one is no hint.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from fwsign.format.notice import Notice
from fwsign.gateway.offer import Offer
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.memory.state import State

SEEN: Final = "follow"
"""The memory's name for the envelope that was there last."""
ATTEMPTS: Final = "follow attempts"
"""The memory's name for the release whose install failed."""
REFUSALS: Final = ("malformed", "tampered", "untrusted", "unsuitable")
"""The areas of codes that are remembered: they say that a release is not to be used here."""
MAX_ATTEMPTS: Final = 2**31
RETAG_SECONDS: Final = 24 * 3600
"""Seconds until another tag of the same content is remembered: some servers make one each time."""


class SeenOffer(NamedTuple):
    """The envelope that an address had last.

    Args:
        address: the address.
        tag: the tag of that content: an entity tag, or a digest of a directory's facts.
        basis: a digest of everything on this device that could change the verdict.
        offer: the release; None if it was refused, or if there was none.
        code: the code of its refusal.
        message: the words of its refusal.
        tagged: when the tag was remembered, seconds since 1970 by the clock.
    """

    address: str
    tag: str
    basis: str
    offer: Offer | None = None
    code: str | None = None
    message: str | None = None
    tagged: int = 0

    @property
    def offer_manifest(self) -> str | None:
        """The manifest digest of the release, in hex; None without one."""
        return self.offer.manifest if self.offer is not None else None


class FailedInstalls(NamedTuple):
    """Installs of a release that failed here, and when the next may be tried.

    Args:
        manifest: the digest of its manifest, in hex.
        failures: consecutive failures.
        boot: the id of the machine's start.
        seconds: seconds of uptime at the last failure.
        wait: seconds until the next.
        message: the words of the last failure.
    """

    manifest: str
    failures: int
    boot: str
    seconds: int
    wait: int
    message: str


def read_seen(state: State) -> SeenOffer | None:
    """Return what was at an address last; None if that is not known, or cannot be read."""
    found = _read(state, SEEN)
    try:
        if found is None:
            return None
        offer = _offer(found["offer"]) if found["offer"] is not None else None
        seen = SeenOffer(**{**found, "offer": offer})
        _check((seen.address, seen.tag, seen.basis), (seen.code, seen.message))
        if type(seen.tagged) is not int:
            return None
        if seen.code is not None and seen.code.partition(".")[0] not in REFUSALS:
            return None
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return seen


def waiting_offer(state: State, installed: ReleaseRecord | None) -> Offer | None:
    """Return the release that the last poll found, if it is not the installed one."""
    seen = read_seen(state)
    if seen is None or seen.offer is None:
        return None
    known = installed is not None and installed.manifest == seen.offer.manifest
    return None if known else seen.offer


def write_seen(state: State, seen: SeenOffer | None) -> None:
    """Remember what is at an address; the same again is not written."""
    before = read_seen(state)
    if seen == before or (seen and before and seen == before._replace(tagged=seen.tagged)):
        return  # a device that asks every minute must not wear the disk out
    state.remember(SEEN, None if seen is None else json.dumps(_seen_json(seen)))


def may_retag(tagged: int, at: datetime) -> bool:
    """Tell whether another tag of the same content may be remembered at a time.

    Args:
        tagged: when the tag that is known was remembered.
        at: the clock's time; it may go back.
    """
    return abs(int(at.timestamp()) - tagged) >= RETAG_SECONDS


def read_attempts(state: State) -> FailedInstalls | None:
    """Return the installs that failed; None if there are none, or if they cannot be read."""
    found = _read(state, ATTEMPTS)
    try:
        if found is None:
            return None
        attempts = FailedInstalls(**found)
        _check((attempts.manifest, attempts.boot, attempts.message))
        numbers = (attempts.failures, attempts.seconds, attempts.wait)
        if not all(type(one) is int and 0 <= one <= MAX_ATTEMPTS for one in numbers):
            return None
    except (TypeError, AttributeError):
        return None
    return attempts


def write_attempts(state: State, attempts: FailedInstalls | None) -> None:
    """Remember installs that failed; None forgets them."""
    if attempts != read_attempts(state):
        state.remember(ATTEMPTS, None if attempts is None else json.dumps(attempts._asdict()))


def _read(state: State, name: str) -> Any:
    text = state.remembered(name)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _seen_json(seen: SeenOffer) -> dict[str, Any]:
    offer = seen.offer
    return {**seen._asdict(), "offer": _offer_json(offer) if offer is not None else None}


def _offer_json(offer: Offer) -> dict[str, Any]:
    return {
        **offer._asdict(),
        "notice": offer.notice._asdict(),
        "known": offer.known and offer.known.isoformat(),
    }


def _offer(found: Mapping[str, Any]) -> Offer:
    notice, known = found["notice"], found["known"]
    advisories = tuple(notice["advisories"])
    offer = Offer(
        **{
            **found,
            "notice": Notice(notice["release_class"], advisories, notice["support_until"]),
            "known": datetime.fromisoformat(known) if known is not None else None,
        }
    )
    own = offer.notice
    _check(
        (offer.manifest, *advisories),
        (offer.product, offer.version, own.release_class, own.support_until),
    )
    numbers = (offer.sequence, offer.size, offer.outside)
    if not all(type(one) is int and one >= 0 for one in numbers):
        raise TypeError
    if offer.known is not None and offer.known.tzinfo is None:
        raise TypeError
    return offer


def _check(texts: tuple[object, ...], more: tuple[object, ...] = ()) -> None:
    if not all(isinstance(one, str) for one in texts):
        raise TypeError
    if not all(isinstance(one, str | None) for one in more):
        raise TypeError
