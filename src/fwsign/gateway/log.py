# SPDX-License-Identifier: Apache-2.0
"""Receipts of the gateway's decisions: signers, time, waived checks, and reasons."""

import json
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from fwsign import __version__
from fwsign.errors import FwsignError
from fwsign.gateway.config import Device
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.receipts.chain import waivers
from fwsign.receipts.facts import installed_facts, time_facts
from fwsign.verify.verified import VerifiedRelease

_SAME: Final = ("kind", "result", "code", "envelope")


class Log:
    """Writes receipts into the memory.

    Args:
        state: the memory.
        device: the memory's device.
        at: the clock's time, which is no proof.
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
        """Add a receipt; a repeated refusal is not written again.

        Args:
            result: "accepted", "installed", "refused", "incomplete", "rolled back", ...
            kind: the action.
            release: the release that it concerns.
            envelope: the envelope that it concerns, if that did not verify.
            error: the reason.
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
            "release": installed_facts(release) if release else None,
            "time": time_facts(release, self._at) if release else None,
            "waived": list(waivers(self._device.policy)),
            "notes": list(release.notes) if release else [],
            "fwsign": __version__,
            **more,
        }
        if error is not None and self._is_last(receipt):
            return  # a device that tries every minute must not fill the disk
        self._state.append_receipt(receipt, self._signer)

    def _is_last(self, receipt: dict[str, Any]) -> bool:
        line = self._state.last_receipt()
        last = json.loads(line) if line else {}
        return all(last.get(name) == receipt[name] for name in _SAME)
