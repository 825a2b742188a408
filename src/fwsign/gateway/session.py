# SPDX-License-Identifier: Apache-2.0
"""What an install is asked for, and what a device knows when it starts: memory and trust."""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.atomic import io_error
from fwsign.chain import Anchor
from fwsign.errors import Failed
from fwsign.gateway.config import Device, Tell
from fwsign.gateway.sources import Progress
from fwsign.gateway.table import refuse_writable
from fwsign.keys import Signer
from fwsign.policy import DevicePolicy, pins_for
from fwsign.state import State
from fwsign.trust_list import TrustState
from fwsign.verified import VerifiedRelease

INTENT: Final = "install"
"""What the memory calls the release that was accepted and is not yet installed."""
INSTALLED: Final = "installed"
"""What the memory calls the release that is installed."""
SOURCES: Final = "sources"
"""What the memory calls the place where the last release came from; only a hint."""


class Request(NamedTuple):
    """What to install, and how.

    Args:
        device: which device this is.
        at: the clock's time; it may be wrong.
        signer: signs receipts.
        dry_run: verify all, and change nothing.
        progress: told of each payload's bytes.
        tell: told, in words, of what people should see meanwhile.
    """

    device: Device
    at: datetime
    signer: Signer | None = None
    dry_run: bool = False
    progress: Progress = lambda *_: None
    tell: Tell = lambda _: None


class Installed(NamedTuple):
    """How it ended.

    Args:
        verdict: "installed", "already installed" or "dry run".
        release: what was verified.
        notes: what people should know.
    """

    verdict: str
    release: VerifiedRelease
    notes: tuple[str, ...]


def refuse_platform() -> None:
    """Refuse what is no POSIX system.

    Raises:
        Failed: `state.platform`.
    """
    if os.name != "posix":
        what = "fwsign install and fwsign device work on POSIX systems only"
        raise Failed("state.platform", what, expected="posix", found=os.name)


@contextlib.contextmanager
def opened(device: Device) -> Iterator[State]:
    """Open the memory of a device.

    Raises:
        Failed: `state.*`, `io.*`.
    """
    refuse_foreign(device.state)
    try:
        state = State.open(device.state)
    except Failed as error:
        if error.code == "state.lost":
            hint = "put it back; or enrol this device anew: fwsign device reset"
            raise error.with_hint(hint) from error
        raise
    with state:
        yield state


def refuse_foreign(path: Path) -> None:
    """Refuse a memory that another user could change, or put another in the place of.

    Raises:
        Failed: `io.permission`, `io.*`.
    """
    try:
        real = Path(os.path.realpath(path))  # resolve() raises otherwise for a loop
        refuse_writable(real.parent, real.parent)
        refuse_writable(real, real)
    except FileNotFoundError:
        return  # whoever opens it says what that means
    except OSError as error:
        raise io_error(error, path) from error


def trusted(device: Device, state: State) -> TrustState:
    """Return whom a device trusts: as enrolled, until a trust update has replaced the list."""
    return state.trust() or device.trust


def demands(device: Device, state: State) -> tuple[tuple[Anchor, ...], DevicePolicy]:
    """Return who signs for a device, and its policy, before floors and held CRLs."""
    return demands_of(trusted(device, state), device.policy)


def demands_of(trust: TrustState, policy: DevicePolicy) -> tuple[tuple[Anchor, ...], DevicePolicy]:
    """Return who signs under a list, and a policy with what the list says.

    A certificate names the vendors that it signs for; see `fwsign.policy.pins_for`.
    """
    anchors = trust.anchors_for("release")
    policy = policy._replace(
        tsa_anchors=tuple(one._replace(vendors=()) for one in trust.anchors_for("tsa")),
        pinned_vendors=pins_for(anchors, policy.profile, trust.vendor),
    )
    return anchors, policy
