# SPDX-License-Identifier: Apache-2.0
"""Trust updates on a device: verify, keep and record them in one step."""

from datetime import datetime
from typing import NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.config import Device
from fwsign.gateway.log import Log
from fwsign.gateway.session import opened, trusted
from fwsign.keys import Signer
from fwsign.trust.envelope import split_updates
from fwsign.trust.lists import TrustState


class Applied(NamedTuple):
    """The lists before and after; the same if the device had the last one already."""

    before: TrustState
    after: TrustState


def apply(device: Device, data: bytes, at: datetime, signer: Signer | None) -> Applied:
    """Apply a file of trust updates, and write a receipt, also of a refusal.

    Args:
        device: the device whose list changes.
        data: one update or several, one after another.
        at: the clock's time, for the receipt.
        signer: signs the receipt.

    Raises:
        FwsignError: as `fwsign.trust.update.apply_chain`.
        Failed: `state.*`, `io.*`, `key.*`.
    """
    with opened(device) as state:
        log = Log(state, device, at, signer)
        try:
            with state.transaction():
                before = trusted(device, state)
                after = state.apply_trust(split_updates(data), device.trust)
                if after.number > before.number:
                    steps = {"from": before.number, "to": after.number, "epoch": after.epoch}
                    log.add("trust updated", kind="trust", envelope=data, trust_list=steps)
        except Failed:
            raise
        except FwsignError as refusal:
            log.add("refused", kind="trust", envelope=data, error=refusal)
            if refusal.code == "unsuitable.rollback":
                raise refusal.with_hint("fetch the newest trust updates") from refusal
            raise
    return Applied(before, after)
