# SPDX-License-Identifier: Apache-2.0
"""Receipts of the gateway's decisions: signers, time, waived checks, and reasons."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from fwsign import __version__
from fwsign.errors import FwsignError
from fwsign.gateway.config.device import Device
from fwsign.gateway.run.refusals import Refusals, decode
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.receipts.chain import waivers
from fwsign.receipts.facts import installed_facts, time_facts
from fwsign.verify.verified import VerifiedRelease

REFUSALS: Final = ("refused", "incomplete")
"""The results that a stranger can cause at will."""
_REFUSALS: Final = "refusals"
"""The memory's name for the refusals since the last other receipt."""
_SAME: Final = ("kind", "result", "code", "envelope")


class Log:
    """Writes receipts into the memory.

    Args:
        state: the memory.
        device: the memory's device.
        at: the clock's time, which is no proof.
        signer: signs each receipt; None leaves them a log.

    Attributes:
        state, device, at: as given.
        judged_by: the clock's time by which releases are judged; later than `at` after a transfer.
    """

    def __init__(self, state: State, device: Device, at: datetime, signer: Signer | None) -> None:
        self.state, self.device, self.at, self._signer = state, device, at, signer
        self.judged_by = at

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
        receipt = {
            "kind": kind,
            "clock": self.at.isoformat(),
            "result": result,
            "code": error.code if error else None,
            "step": error.step if error else None,
            "message": error.message if error else None,
            "envelope": sha256(envelope).hexdigest() if envelope is not None else None,
            "release": installed_facts(release) if release else None,
            "time": time_facts(release, self.judged_by) if release else None,
            "waived": list(waivers(self.device.policy)),
            "notes": list(release.notes) if release else [],
            "fwsign": __version__,
            **more,
        }
        if error is not None and result in REFUSALS:
            self._refuse(receipt, error.code)
        else:
            self.write(receipt)

    def write(self, receipt: Mapping[str, Any]) -> None:
        """Add any receipt, after the count of the refusals that have none.

        Raises:
            Failed: `state.*`, `io.*`, `key.*`.
        """
        with self.state.transaction():
            self.tell_dropped()
            self.state.remember(_REFUSALS, None)
            self._append(receipt)

    def tell_dropped(self) -> None:
        """Write how many refusals have no receipt, if there are any."""
        refusals = decode(self.state.remembered(_REFUSALS))
        if refusals.dropped:
            self._tell(refusals)

    def _tell(self, refusals: Refusals) -> None:
        with self.state.transaction():
            told = {"kind": "refusals", "result": "not written", **refusals.facts}
            self._append({**told, "clock": self.at.isoformat(), "fwsign": __version__})
            self.state.remember(_REFUSALS, refusals.told().encode())

    def _refuse(self, receipt: Mapping[str, Any], code: str) -> None:
        """Write or count a refusal; a device that tries every minute must not fill the disk."""
        refusals = decode(self.state.remembered(_REFUSALS))
        same = json.dumps([receipt[name] for name in _SAME])
        key = sha256(same.encode()).hexdigest()[:16]
        what = refusals.what(key)
        if what == "known":
            return
        with self.state.transaction():
            if what == "write":
                after = refusals.with_written(key, len(self._append(receipt)))
            else:
                after = refusals.with_dropped(key, code, self.at.isoformat())
            self.state.remember(_REFUSALS, after.encode())
            if what == "count" and after.is_due:
                self._tell(after)

    def prune(self, drop: int) -> int:
        """Remove the oldest receipts, see `State.prune_receipts`; return how many."""
        with self.state.transaction():
            self.tell_dropped()
            facts = {"clock": self.at.isoformat(), "device": self._who, "fwsign": __version__}
            return self.state.prune_receipts(drop, facts, self._signer, self._chain)

    def _append(self, receipt: Mapping[str, Any]) -> str:
        whole = {"device": self._who, **receipt}
        return self.state.append_receipt(whole, self._signer, self._chain)

    @cached_property
    def _who(self) -> dict[str, str | None]:
        trust = self.device.trust
        name = self.device.identity.name()
        return {"id": name, "vendor": trust.vendor, "product": trust.product}

    @cached_property
    def _chain(self) -> tuple[bytes, ...]:
        return self.device.identity.chain() if self._signer is not None else ()
