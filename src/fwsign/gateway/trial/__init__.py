# SPDX-License-Identifier: Apache-2.0
"""The release on trial, from outside: judge it now, or confirm it as its application.

The memory's floor rises when the release is committed, and not before. See ADR 32.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwsign.gateway.trial.ends import confirm, trial
    from fwsign.gateway.trial.status import TrialStatus

__all__ = [
    "TrialStatus",
    "confirm",
    "trial",
]

_PLACES = {
    "TrialStatus": "gateway.trial.status",
    "confirm": "gateway.trial.ends",
    "trial": "gateway.trial.ends",
}
"""Where each name is; a module is imported when one of its names is used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use, since few users need all (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"fwsign.{_PLACES[name]}"), name)
