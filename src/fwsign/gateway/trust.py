# SPDX-License-Identifier: Apache-2.0
"""Trust updates on a device: verify, keep and record them in one step.

A new epoch is the owner's way back after a fast-forward, so it also ends what such a release began:
an unfinished release with commands or boards would shut out all numbers below its own.
"""

from datetime import datetime
from typing import NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.gateway.config.device import Device
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.session import INTENT, opened, trusted
from fwsign.gateway.target import release_record
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.record import end_for_epoch, read_trial
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.trust.envelope import split_updates
from fwsign.trust.lists import TrustState


class Applied(NamedTuple):
    """The lists before and after; the same if the device had the last one already."""

    before: TrustState
    after: TrustState


def advance(state: State, data: bytes, enrolled: TrustState) -> tuple[TrustState, list[str]]:
    """Verify and keep trust updates; a new epoch ends what was begun. All of it is one step.

    Args:
        state: the memory.
        data: one update or several, one after another.
        enrolled: the list that counts if the memory has none yet.

    Returns:
        The last list, and the manifest digests of the releases whose intent ended.

    Raises:
        FwsignError: as `fwsign.trust.update.apply_chain`.
        Failed: `state.*`, `io.*`.
    """
    with state.transaction():
        before = state.trust() or enrolled
        after = state.apply_trust(split_updates(data), enrolled)
        ended = _end_unfinished(state) if after.epoch > before.epoch else []
    return after, [one.manifest for one in ended]


def _end_unfinished(state: State) -> list[ReleaseRecord]:
    """End the releases that were begun and not finished, and return them."""
    intent, tried = release_record.read(state, INTENT), read_trial(state)
    release_record.write(state, INTENT, None)
    end_for_epoch(state)
    found = [intent, tried.release if tried else None]
    return [one for one in found if one is not None]


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
                after, ended = advance(state, data, device.trust)
                if after.number > before.number:
                    steps = {"from": before.number, "to": after.number, "epoch": after.epoch}
                    log.add(
                        "trust updated",
                        kind="trust",
                        envelope=data,
                        trust_list=steps,
                        ended=ended,
                    )
        except Failed:
            raise
        except FwsignError as refusal:
            log.add("refused", kind="trust", envelope=data, error=refusal)
            if refusal.code == "unsuitable.rollback":
                raise refusal.with_hint("fetch the newest trust updates") from refusal
            raise
    return Applied(before, after)
