#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An updater. usage: updater.py DEVICE.TOML ENVELOPE, at each start and when an update is due."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from fwsign.errors import Failed, FwsignError, Stale, Unsuitable
from fwsign.gateway import InstallRequest, Sources, load
from fwsign.gateway.install import install
from fwsign.gateway.trial import confirm, trial


def update(config: Path, envelope: str) -> str:
    """Install the release at an address or path, and return what came of it."""
    try:
        device = load(config)  # written by `fwsign device init`: anchors, policy, memory, target
        request = InstallRequest(device, datetime.now(UTC), tell=print)
        trial(request)  # a release that could not show that it works goes back now
        sources = Sources(envelope, (), device.fetch, print)
        done = install(request, sources)  # verifies all, by the floors that it remembers
        if done.verdict == "on trial" and Path(device.target_dir, "current/app.tar").exists():
            confirm(request, done.release.manifest.sequence_number)  # your own check comes here
        return f"{done.verdict}: release {done.release.manifest.sequence_number}"
    except (Stale, Unsuitable) as refusal:
        return f"genuine, but not for this device now: {refusal.code}: {refusal.message}"
    except Failed as failure:
        return f"nothing is known of it, try again later: {failure.code}: {failure.message}"
    except FwsignError as refusal:
        return f"do not use it: {refusal.code} at step {refusal.step}: {refusal.message}"


if __name__ == "__main__":
    print(update(Path(sys.argv[1]), sys.argv[2]))
