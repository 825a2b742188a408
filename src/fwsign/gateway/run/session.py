# SPDX-License-Identifier: Apache-2.0
"""The request of an install, and the device's memory and trust at its start."""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.files import io_error, refuse_reachable, refuse_writable
from fwsign.gateway.config.device import Device, Tell
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.run.uptime import ReadUptime, read_uptime
from fwsign.gateway.target.sources import PayloadProgress, Sources
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.trust.lists import TrustState
from fwsign.verify.policy import DevicePolicy, pins_for
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.anchor import Anchor

INTENT: Final = "install"
"""The memory's name for the release that was accepted and is not yet installed."""
INSTALLED: Final = "installed"
"""The memory's name for the installed release."""
OWED: Final = "after install"
"""The memory's name for the command after an install that has still to run."""
SOURCES: Final = "sources"
"""The memory's name for the sources of the last release; they are only a hint."""


class InstallRequest(NamedTuple):
    """The device and the options of an install.

    Args:
        device: this device.
        at: the clock's time; it may be wrong.
        signer: signs receipts.
        dry_run: verify everything, and change nothing.
        progress: told of each payload's bytes. To cancel, let it raise: its exception leaves
            `install` unchanged, and device and floor stay as they were. Verified bytes stay
            staged, so that the next try goes on from there. (An `OSError` would be taken for one of
            the disk.)
        tell: told of messages for people.
        retry: install a release although it failed a trial before.
        uptime: returns the machine's start and the seconds since.
        download_only: stage every payload, verified, and install nothing.
        permit: a permit for a release below the floor; None for none.
    """

    device: Device
    at: datetime
    signer: Signer | None = None
    dry_run: bool = False
    progress: PayloadProgress = lambda *_: None
    tell: Tell = lambda _: None
    retry: bool = False
    uptime: ReadUptime = read_uptime
    download_only: bool = False
    permit: bytes | None = None


class Installed(NamedTuple):
    """The result of an install.

    Args:
        verdict: "installed", "on trial", "already installed", "downloaded" or "dry run".
        release: the verified release.
        notes: notes for people.
    """

    verdict: str
    release: VerifiedRelease
    notes: tuple[str, ...]


def refuse_platform() -> None:
    """Refuse a system that is not POSIX.

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
    """Refuse a memory that another user could change or replace.

    Raises:
        Failed: `io.permission`, `io.*`.
    """
    try:
        real = Path(os.path.realpath(path))  # resolve() raises another error for a loop
        refuse_reachable(path)
        refuse_writable(real.parent, real.parent)
        refuse_writable(real, real)
    except FileNotFoundError:
        return  # opening it gives the error
    except OSError as error:
        raise io_error(error, path) from error


def fetch_rules(device: Device, state: State) -> FetchRules:
    """Return a device's limits of fetching, with the time that has passed by its memory."""
    from fwsign.verify.verifier import EARLIEST  # only for those who fetch

    policy, _ = state.policy(device.policy, None)
    return device.fetch._replace(since=max(filter(None, (policy.time_floor, EARLIEST))))


def timed(
    request: InstallRequest, sources: Sources | None, state: State
) -> tuple[InstallRequest, Sources | None]:
    """Add the time that has passed to a request's limits of fetching, and to its sources'."""
    device = request.device._replace(fetch=fetch_rules(request.device, state))
    if sources is not None:
        sources = sources._replace(rules=sources.rules._replace(since=device.fetch.since))
    return request._replace(device=device), sources


def trusted(device: Device, state: State) -> TrustState:
    """Return a device's list of anchors: the enrolled one, or the one of the last update."""
    return state.trust() or device.trust


def demands(device: Device, state: State) -> tuple[tuple[Anchor, ...], DevicePolicy]:
    """Return a device's anchors for releases, and its policy without floors and held CRLs."""
    return demands_of(trusted(device, state), device.policy)


def demands_of(trust: TrustState, policy: DevicePolicy) -> tuple[tuple[Anchor, ...], DevicePolicy]:
    """Return a list's anchors for releases, and a policy completed from the list.

    A certificate names the vendors that it signs for; see `fwsign.verify.policy.pins_for`.
    """
    anchors = trust.anchors_for("release")
    policy = policy._replace(
        tsa_anchors=tuple(one._replace(vendors=()) for one in trust.anchors_for("tsa")),
        pinned_vendors=pins_for(anchors, policy.profile, trust.vendor),
    )
    return anchors, policy
