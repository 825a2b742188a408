# SPDX-License-Identifier: Apache-2.0
"""Judge a release that is offered, as an install would; change nothing, and fetch no payload."""

import contextlib
import os
from datetime import datetime
from pathlib import Path
from typing import Final

from fwsign.errors import Failed, FwsignError
from fwsign.files import read_bytes
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.gateway.config.device import Device
from fwsign.gateway.judge import Judge
from fwsign.gateway.run.session import InstallRequest, opened
from fwsign.gateway.target.directory import ENVELOPE, FILES, OTHERS, OWN, STAGE
from fwsign.gateway.target.release_record import digest_of
from fwsign.gateway.target.sources import Sources
from fwsign.verify.verified import VerifiedRelease

OBSTACLES: Final = ("state.trial", "unsuitable.failed-before")
"""The codes that say nothing against the release, but that it has to wait: follow names them."""


def judge_offer(device: Device, at: datetime, sources: Sources) -> VerifiedRelease:
    """Verify a release as an install would, up to its payloads.

    Args:
        device: the device.
        at: the clock's time.
        sources: the places of the release.

    Raises:
        FwsignError: as `fwsign.gateway.install.install`.
    """
    envelope = sources.read_envelope()
    with opened(device) as state:
        one = Judge(InstallRequest(device, at), state)
        release, _ = one.verify(envelope)
        try:
            one.deliveries(release, sources)
        except FwsignError as error:
            if error.code not in OBSTACLES:
                raise
    return release


def staged_bytes(device: Device, sources: Sources) -> int:
    """Return the bytes of payloads that lie staged for a release; a hint, since none is hashed."""
    place = device.target_dir / OWN / STAGE
    with contextlib.suppress(Failed):
        found, kept = sources.read_envelope(), read_bytes(place / ENVELOPE, MAX_ENVELOPE_SIZE)
        if kept == found or digest_of(kept) == digest_of(found):
            return _size(place / FILES) + _size(place / OTHERS)
    return 0


def _size(directory: Path) -> int:
    with contextlib.suppress(OSError), os.scandir(directory) as found:
        return sum(one.stat(follow_symlinks=False).st_size for one in found)
    return 0
