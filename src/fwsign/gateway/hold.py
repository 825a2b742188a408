# SPDX-License-Identifier: Apache-2.0
"""A hold: the owner of a device postpones releases, or wants none by themselves.

A hold stops what `fwsign follow` would install. It does not stop trust updates, CRLs, a release on
trial, or an install that a person types.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.gateway.config.device import Device
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.session import opened
from fwsign.keys import Signer
from fwsign.memory.state import State

HOLD: Final = "hold"
"""The memory's name for the hold."""
MAX_REASON: Final = 200
"""Characters of a hold's reason."""


class Hold(NamedTuple):
    """A hold.

    Args:
        since: the clock's time when it began.
        until: its end; None if it lasts until it is released.
        reason: the owner's words; None if there are none.
    """

    since: datetime
    until: datetime | None = None
    reason: str | None = None

    def is_over(self, at: datetime) -> bool:
        """Tell whether it has ended by a time."""
        return self.until is not None and self.until <= at

    def as_json(self) -> dict[str, str | None]:
        """Return it as a JSON object."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat() if self.until else None,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        """Return it in words."""
        end = f"until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else "until it is released"
        return f"{end}: {self.reason}" if self.reason else end


def read(state: State) -> Hold | None:
    """Return the hold that the memory has; it may be over.

    Raises:
        Failed: `state.damaged`: it is no hold.
    """
    text = state.remembered(HOLD)
    if text is None:
        return None
    try:
        return _parsed(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        what = f'what the memory calls "{HOLD}" is no hold'
        raise Failed("state.damaged", what, expected="a hold", found=text[:80]) from error


def notes(state: State, at: datetime) -> list[str]:
    """Return the note of an install on a held device: who types it knows better than a hold.

    Raises:
        Failed: `state.damaged`.
    """
    held = read(state)
    if held is None or held.is_over(at):
        return []
    return [f"this device is held {held}; a typed install is done all the same"]


def begin(device: Device, hold: Hold, signer: Signer | None) -> None:
    """Hold a device, with a receipt; a hold that is there is replaced.

    Args:
        device: the device.
        hold: the hold.
        signer: signs the receipt.

    Raises:
        Failed: `state.policy`: its end is past, or its reason is too long; `state.*`, `io.*`.
    """
    _check(hold)
    with opened(device) as state, state.transaction():
        state.remember(HOLD, json.dumps(hold.as_json()))
        Log(state, device, hold.since, signer).add("held", kind="device", hold=hold.as_json())


def end(device: Device, at: datetime, signer: Signer | None) -> Hold | None:
    """End the hold of a device, with a receipt; return the hold that there was.

    Args:
        device: the device.
        at: the clock's time, for the receipt.
        signer: signs the receipt.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    with opened(device) as state, state.transaction():
        held = read(state)
        if held is not None:
            state.remember(HOLD, None)
            Log(state, device, at, signer).add("released", kind="device", hold=held.as_json())
    return held


def _check(hold: Hold) -> None:
    if hold.is_over(hold.since):
        raise Failed(
            "state.policy",
            f"a hold until {hold.until:%Y-%m-%d %H:%M} UTC is over already",
            expected=f"a time after {hold.since.isoformat()}",
            found=hold.until,
        )
    reason = hold.reason
    if reason is not None and not (reason and reason.isprintable() and len(reason) <= MAX_REASON):
        raise Failed(
            "state.policy",
            f"the reason has {len(reason)} characters, or is not a line of printable text",
            expected=f"1 to {MAX_REASON} printable characters",
            found=len(reason),
        )


def _parsed(found: Mapping[str, Any]) -> Hold:
    until, reason = found["until"], found["reason"]
    if not isinstance(reason, str | None):
        raise TypeError
    times = [datetime.fromisoformat(one) for one in (found["since"], until) if one is not None]
    since, *ends = [one.astimezone(UTC) for one in times]
    if any(one.tzinfo is None for one in times):
        raise ValueError
    return Hold(since, ends[0] if ends else None, reason)
