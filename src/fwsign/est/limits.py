# SPDX-License-Identifier: Apache-2.0
"""How often clients may ask: a bucket for each address, and one for all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ADDRESSES: Final = 10_000
"""Addresses that are remembered; the one that was longest silent is forgotten first."""
_V6_SITE: Final = 64  # a host has as many IPv6 addresses as it likes, below one prefix


class Rate:
    """A bucket that holds a minute's requests, and is filled evenly."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left, self._at = self._most, 0.0

    def take(self, now: float) -> bool:
        """Take one request out; tell whether there was one."""
        self._fill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def charge(self, now: float, cost: float) -> None:
        """Take out more, down to an empty bucket."""
        self._fill(now)
        self._left = max(self._left - cost, 0)

    def _fill(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._at) * self._most / 60)
        self._at = now


class RateLimits:
    """The buckets of a server; safe to use from several threads.

    Args:
        per_address: requests of one address in a minute.
        overall: requests of all addresses in a minute.
        site: returns what counts as one client, if addresses are none of IP.
    """

    def __init__(
        self, per_address: int, overall: int, site: Callable[[str], str] | None = None
    ) -> None:
        self._per_address, self._site = per_address, site or site_of
        self._all = Rate(overall)
        self._each: OrderedDict[str, Rate] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str, now: float) -> bool:
        """Tell whether an address may ask now.

        Args:
            address: the client's.
            now: seconds of a clock that never goes back.
        """
        with self._lock:
            return self._bucket(address).take(now) and self._all.take(now)

    def charge(self, address: str, now: float, cost: float) -> None:
        """Count a request of an address as `cost` more."""
        with self._lock:
            self._bucket(address).charge(now, cost)

    def _bucket(self, address: str) -> Rate:
        site = self._site(address)
        bucket = self._each.pop(site, None) or Rate(self._per_address)
        self._each[site] = bucket  # now the last
        if len(self._each) > MAX_ADDRESSES:
            self._each.popitem(last=False)
        return bucket


def site_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the network of an IPv6 address."""
    parsed = ip_address(address.partition("%")[0])
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), _V6_SITE), strict=False))
