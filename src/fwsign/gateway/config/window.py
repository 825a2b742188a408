# SPDX-License-Identifier: Apache-2.0
"""The hours of a day in which `fwsign follow` may install, such as 02:00-05:00."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple

_FORM: Final = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.ASCII)


class Window(NamedTuple):
    """A part of each day; it goes past midnight if its end is before its beginning.

    Args:
        first: its first minute.
        last: the minute at which it is over.
        zone: the name of the zone of both: "UTC", "local", or one such as "Europe/Berlin".
    """

    first: time
    last: time
    zone: str = "UTC"

    def __str__(self) -> str:
        """Return it as in device.toml, with its zone."""
        return f"{self.first:%H:%M}-{self.last:%H:%M} {self.zone}"

    def is_open(self, at: datetime) -> bool:
        """Tell whether a time is inside; the time has a zone."""
        now = self._here(at).time()
        if self.first < self.last:
            return self.first <= now < self.last
        return now >= self.first or now < self.last

    def opens(self, at: datetime) -> datetime:
        """Return the next time at which it opens, in UTC; a time that it is open at stays."""
        if self.is_open(at):
            return at
        here = self._here(at)
        begin = here.replace(
            hour=self.first.hour, minute=self.first.minute, second=0, microsecond=0, fold=0
        )
        if begin <= here:  # the next day by the calendar: a day may have 23 or 25 hours
            begin += timedelta(days=1)
        return begin.astimezone(UTC)

    def _here(self, at: datetime) -> datetime:
        if self.zone == "local":
            return at.astimezone()
        return at.astimezone(zone_of(self.zone))


def parse_window(text: str, zone: str = "UTC") -> Window | None:
    """Return the window of a text such as 02:00-05:00; None if it is none, or is empty."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    hours = [int(one) for one in match.groups()]
    if hours[0] > 23 or hours[2] > 23 or max(hours[1], hours[3]) > 59 or hours[:2] == hours[2:]:
        return None
    first, last = time(hours[0], hours[1]), time(hours[2], hours[3])
    return Window(first, last, zone)


def zone_of(name: str) -> tzinfo | None:
    """Return a time zone by its name; None if this system does not know it."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # few devices name another zone

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def is_zone(name: str) -> bool:
    """Tell whether a window can be in a zone."""
    return name == "local" or zone_of(name) is not None
