# SPDX-License-Identifier: Apache-2.0
"""An offer: a release that is there to be installed, and what keeps `fwsign follow` from it.

The decision is pure: facts go in, and the obstacles come out. None of it replaces a check of the
release: an offer without obstacles is still verified as any other install.
"""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from fwsign.format.component import is_inside
from fwsign.format.notice import Notice
from fwsign.gateway.config.follow_rules import FollowRules
from fwsign.gateway.hold import Hold
from fwsign.spans import CLOCK_TOLERANCE
from fwsign.verify.verified import VerifiedRelease

UNCLASSED: Final = "feature"
"""The class that a release without one, or with its text cut off, counts as: it gets no favour."""


class Offer(NamedTuple):
    """A verified release that is offered.

    Args:
        manifest: the digest of its manifest, in hex.
        sequence: its sequence number.
        product: the product's name; None if the text was cut off.
        version: its version; None if the text names none.
        notice: its class, advisories and end of support.
        size: bytes of its payloads.
        outside: bytes of its payloads that are not in the envelope.
        known: the time that its CRLs prove to have passed; None if they prove none.
    """

    manifest: str
    sequence: int
    product: str | None
    version: str | None
    notice: Notice
    size: int
    outside: int
    known: datetime | None

    @property
    def name(self) -> str:
        """The release for people."""
        named = " ".join(filter(None, (self.product, self.version))) or "text was cut off"
        return f"{named}, sequence {self.sequence}"

    @property
    def counts_as(self) -> str:
        """The class that policy sees."""
        return self.notice.release_class or UNCLASSED

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "manifest_digest": self.manifest,
            "sequence_number": self.sequence,
            "product": self.product,
            "version": self.version,
            **self.notice.as_json(),
            "size": self.size,
        }


class Obstacle(NamedTuple):
    """What keeps a release from being installed by itself now: a name for programs, and words."""

    name: str
    words: str


class Circumstances(NamedTuple):
    """The device, as far as it matters to an offer.

    Args:
        at: the clock's time.
        floor: the time that the memory knows to have passed; None if it knows none.
        hold: the hold; None if there is none.
        trial: what is on trial, in words; None if nothing is.
        failed: why this very release is not tried now, in words; None if it may be.
    """

    at: datetime
    floor: datetime | None = None
    hold: Hold | None = None
    trial: str | None = None
    failed: str | None = None


def offer_of(release: VerifiedRelease) -> Offer:
    """Return the offer of a verified release."""
    text, parts = release.text, release.components
    return Offer(
        release.manifest_digest.hex(),
        release.manifest.sequence_number,
        text.product if text else None,
        text.version if text else None,
        text.notice if text else Notice(),
        sum(one.size for one in parts),
        sum(one.carried.size for one in parts if not is_inside(one.uri)),
        release.known_time,
    )


def obstacles(offer: Offer, rules: FollowRules, now: Circumstances) -> tuple[Obstacle, ...]:
    """Return what keeps a release from being installed by itself now; empty if nothing does.

    A clock that is behind a time known to have passed cannot tell the hour: then a window does not
    keep a security release, and keeps every other.
    """
    found = []
    if now.trial is not None:
        found.append(Obstacle("trial", f"{now.trial} is on trial"))
    if now.failed is not None:
        found.append(Obstacle("failed", now.failed))
    known = max(filter(None, (now.at, offer.known, now.floor)))
    if now.hold is not None and not now.hold.is_over(known):
        found.append(Obstacle("held", f"this device is held {now.hold}"))
    if offer.counts_as not in rules.install:
        found.append(Obstacle("asks", _asks(offer)))
    if rules.window is not None:
        behind = known - now.at > CLOCK_TOLERANCE
        if not behind and not rules.window.is_open(now.at):
            opens = f"{rules.window.opens(now.at):%Y-%m-%d %H:%M} UTC"
            found.append(Obstacle("window", f"the window {rules.window} opens {opens}"))
        if behind and offer.counts_as != "security":
            words = f"the clock is behind {known:%Y-%m-%d}, so it cannot tell the hour"
            found.append(Obstacle("clock", f"{words} of the window {rules.window}"))
    return tuple(found)


def _asks(offer: Offer) -> str:
    own = offer.notice.release_class
    named = f"a {own} release" if own else f"a release without a class, which counts as {UNCLASSED}"
    return f"{named} is installed by a person only"


def backing_off(interval: int, longest: int, failures: int) -> int:
    """Return the seconds until the next try: twice as many after each failure, up to a bound.

    Args:
        interval: the usual seconds.
        longest: the bound.
        failures: consecutive failures.
    """
    return min(interval << min(failures, 32), longest)


def spread(seconds: float, share: float) -> timedelta:
    """Return a wait of up to a tenth more or less, so that many gateways do not come at once.

    Args:
        seconds: the usual wait.
        share: a random number from 0 to 1.
    """
    return timedelta(seconds=seconds * (0.9 + 0.2 * share))
