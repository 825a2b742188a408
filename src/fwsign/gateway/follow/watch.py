# SPDX-License-Identifier: Apache-2.0
"""Wait for the next poll, or for a hint that there is something to poll for.

A hint is not signed, and the broker is not trusted: whoever publishes can make this gateway look
earlier, at most once in `least` seconds, and nothing else. Whatever the broker does, the poll that
is due by the interval comes. A hint wakes one poll: it counts if its number is above the last that
this gateway knows, and it is not the one that woke the poll before.
"""

import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.gateway.config.device import Device, Tell
from fwsign.gateway.config.watch_rules import WatchRules
from fwsign.gateway.https.credentials import OF_FETCH, ClientKey
from fwsign.gateway.offer import backing_off
from fwsign.gateway.run.session import fetch_rules, opened
from fwsign.mqtt.address import parse_broker
from fwsign.mqtt.hint import read_hint, topic_of
from fwsign.mqtt.link import Link
from fwsign.mqtt.terms import Arrival, LinkTerms, pause

STEADY: Final = 60.0
"""Seconds that a connection has to last before the pauses between tries begin anew."""
_OF_WATCH: Final = ClientKey("watch.client_cert", "watch.client_key")


class Times(NamedTuple):
    """The clock and the chance that a watch uses.

    Args:
        now: returns seconds that never go back.
        sleep: waits so many seconds.
        share: returns a random number from 0 to 1.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    share: Callable[[], float] = random.random


class HintPlace(NamedTuple):
    """The place of a channel's hints: its name, and their topic."""

    channel: str
    topic: str


def hint_place(device: Device, channel: str) -> HintPlace:
    """Return the place of a channel's hints for a device."""
    given = device.watch.topic if device.watch else None
    usual = topic_of(device.trust.vendor, device.trust.product, channel)
    return HintPlace(channel, given or usual)


def listen_at(device: Device, address: str, place: HintPlace) -> Link:
    """Connect to a broker, and subscribe to the hints of a channel.

    Args:
        device: this device.
        address: the broker's.
        place: the place of the hints.

    Raises:
        Failed: as `Link`; `io.fetch-address`, `state.*`.
    """
    own = device.watch or WatchRules()
    with opened(device) as state:
        rules = fetch_rules(device, state)
    if own.ca is not None:
        rules = rules._replace(ca=own.ca)
    names = OF_FETCH
    if own.client_cert is not None:
        rules = rules._replace(client_cert=own.client_cert, client_key=own.client_key)
        names = _OF_WATCH
    terms = LinkTerms(keepalive=own.keepalive, client=names)
    link = Link(parse_broker(address), rules, terms)
    try:
        link.subscribe(place.topic)
    except BaseException:
        link.close()
        raise
    return link


class Watch:
    """A connection to a broker that comes back by itself, and the hint that was heard.

    Args:
        place: the place of the hints.
        rules: the pauses.
        connect: connects and subscribes.
        tell: told of connections that begin and end.
        times: the clock and the chance.
    """

    def __init__(
        self,
        place: HintPlace,
        rules: WatchRules,
        connect: Callable[[], Link],
        tell: Tell,
        times: Times | None = None,
    ) -> None:
        self._place, self._rules = place, rules
        self._connect, self._tell, self._times = connect, tell, times or Times()
        self._link: Link | None = None
        self._since = self._retry = 0.0
        self._failures = 0
        self._woken: int | None = None
        self._answered: int | None = None

    def wait(self, seconds: float, known: int | None, failures: int = 0) -> int | None:
        """Wait until the next poll is due; a hint makes it due earlier.

        Args:
            seconds: the seconds until the poll that comes without a hint.
            known: the channel's number that this gateway took last; None if it took none.
            failures: the polls that failed, one after the other, just now.

        Returns:
            The number in the hint that woke the poll; None without one.
        """
        begin = self._times.now()
        end = begin + seconds
        if self._woken is not None and failures == 0:
            self._answered, self._woken = self._woken, None
        elif self._woken is not None:  # its poll failed: again, and later each time
            end = min(end, begin + backing_off(self._rules.least, round(seconds), failures))
        while (left := end - self._times.now()) > 0:
            arrival = self._next(left)
            number = self._number(arrival) if arrival is not None else None
            if number is None or number <= (known if known is not None else -1):
                continue
            if number == self._answered:
                continue
            if self._woken is None:
                chance = self._times.now() + self._rules.within * self._times.share()
                end = min(end, max(begin + self._rules.least, chance))
            self._woken = number
        return self._woken

    @property
    def within(self) -> int:
        """The seconds within which a hint's poll begins."""
        return self._rules.within

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _number(self, arrival: Arrival) -> int | None:
        """Return the number of a hint about this channel; None for everything else."""
        if arrival.topic != self._place.topic:
            return None
        found = read_hint(arrival.payload, self._place.channel)
        return found.number if found is not None else None

    def _next(self, seconds: float) -> Arrival | None:
        """Return the next message, if there is one within the time; connect if it is time."""
        try:
            if self._link is None:
                now = self._times.now()
                if now < self._retry:
                    self._times.sleep(min(self._retry - now, seconds))
                    return None
                self._link = self._connect()
                self._since = self._times.now()
                self._tell(f"listens for hints at {self._place.topic}")
            return self._link.wait(seconds)
        except Failed as error:
            self._fail(error)
            return None

    def _fail(self, error: Failed) -> None:
        """Set the time of the next try; a connection that lasted begins the pauses anew."""
        now = self._times.now()
        lasted = self._link is not None and now - self._since >= STEADY
        self.close()
        self._failures = 1 if lasted else self._failures + 1
        seconds = pause(self._failures, self._times.share())
        self._retry = now + seconds
        self._tell(f"{error.message}; next try in {seconds:.0f} seconds")
