# SPDX-License-Identifier: Apache-2.0
"""Look for releases at a fixed address, and install what the owner's policy allows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.gateway.follow.known import FollowRequest
    from fwsign.gateway.follow.polling import Polled, check, poll

__all__ = [
    "FollowRequest",
    "Polled",
    "check",
    "poll",
]

_PLACES = {
    "FollowRequest": "gateway.follow.known",
    "Polled": "gateway.follow.polling",
    "check": "gateway.follow.polling",
    "poll": "gateway.follow.polling",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
