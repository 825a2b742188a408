# SPDX-License-Identifier: Apache-2.0
"""What the gateway decided, as receipts: who signed, by which time, what was waived, and why."""

import json
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from fwsign import __version__
from fwsign.errors import FwsignError
from fwsign.facts import release_facts, signer_facts
from fwsign.gateway.config import Device
from fwsign.keys import Signer
from fwsign.receipts import waivers
from fwsign.state import State
from fwsign.verified import VerifiedRelease

_SAME: Final = ("kind", "result", "code", "envelope")


class Log:
    """Writes receipts into the memory.

    Args:
        state: the memory.
        device: whose it is.
        at: the clock's time, which proves nothing.
        signer: signs each receipt; None leaves them a log.
    """

    def __init__(self, state: State, device: Device, at: datetime, signer: Signer | None) -> None:
        self._state, self._device, self._at, self._signer = state, device, at, signer

    def add(
        self,
        result: str,
        *,
        kind: str = "install",
        release: VerifiedRelease | None = None,
        envelope: bytes | None = None,
        error: FwsignError | None = None,
        **more: Any,
    ) -> None:
        """Add a receipt; a refusal that is the same as the one before is not written again.

        Args:
            result: "accepted", "installed", "refused", "incomplete", "rolled back", ...
            kind: what was done.
            release: what it was about.
            envelope: what it was about, where nothing of it can be believed.
            error: why.
            more: further facts.

        Raises:
            Failed: `state.*`, `io.*`, `key.*`.
        """
        trust = self._device.trust
        receipt = {
            "kind": kind,
            "clock": self._at.isoformat(),
            "result": result,
            "code": error.code if error else None,
            "step": error.step if error else None,
            "message": error.message if error else None,
            "envelope": sha256(envelope).hexdigest() if envelope is not None else None,
            "device": {"vendor": trust.vendor, "product": trust.product},
            "release": described(release) if release else None,
            "time": time_facts(release, self._at) if release else None,
            "waived": list(waivers(self._device.policy)),
            "notes": list(release.notes) if release else [],
            "fwsign": __version__,
            **more,
        }
        if error is not None and self._is_last(receipt):
            return  # whoever tries every minute must not fill the disk
        self._state.append_receipt(receipt, self._signer)

    def _is_last(self, receipt: dict[str, Any]) -> bool:
        line = self._state.last_receipt()
        last = json.loads(line) if line else {}
        return all(last.get(name) == receipt[name] for name in _SAME)


def described(release: VerifiedRelease) -> dict[str, Any]:
    """Return what identifies a release, what is in it, and who signed it."""
    return {
        **release_facts(release),
        "components": [
            {"name": one.name, "sha256": one.digest.value.hex(), "size": one.size}
            for one in release.components
        ],
        "signers": [signer_facts(one) for one, _ in release.counted],
    }


def time_facts(release: VerifiedRelease, at: datetime) -> dict[str, Any]:
    """Return which time a release was judged by, and where it came from."""
    proven = {one.signed_at for one in release.signers}
    if release.now == at:
        source = "the clock"
    elif release.now in proven:
        source = "a time-stamp token"
    else:
        source = "what is known to have passed: CRLs, and the memory"
    return {"judged_at": release.now.isoformat(), "source": source}
