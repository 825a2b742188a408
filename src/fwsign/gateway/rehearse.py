# SPDX-License-Identifier: Apache-2.0
"""Rehearse an update on copies of devices' memories, before it is published."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.files import io_error, refuse_special
from fwsign.gateway.config import DEFAULT_CONFIG, load
from fwsign.gateway.session import demands_of
from fwsign.memory.state import State
from fwsign.trust.envelope import is_update, split_updates
from fwsign.trust.lists import TrustState
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier

MAX_DEVICES: Final = 100_000
"""Memories in one directory; a larger fleet is rehearsed by samples."""
_OTHERS: Final = ("unsuitable.vendor", "unsuitable.product")


class DeviceVerdict(NamedTuple):
    """The verdict of one device.

    Args:
        state: its memory, as a path below the directory.
        verdict: "accepts", "stranded", or "other" if the candidate is for other devices.
        trust_list: the number of its list.
        refusal: the reason why it refuses.
    """

    state: Path
    verdict: str
    trust_list: int | None = None
    refusal: FwsignError | None = None


def rehearse(
    directory: Path, candidates: Sequence[bytes], base: DevicePolicy, at: datetime
) -> Iterator[DeviceVerdict]:
    """Judge candidates by every memory (`*.db`) below a directory. Nothing is changed.

    Enrolment and policy come from `device.toml` beside a memory, or from the file with its name
    and the ending `.toml`. Without one, the memory itself must have a list, and `base` is the
    policy.

    Args:
        directory: copies of devices' memories.
        candidates: files of trust updates, and releases; each device gets them in this order.
        base: the policy of devices without a device.toml.
        at: the time to judge at.

    Raises:
        Failed: `io.missing` if there is no memory at all.
    """
    states = sorted(path for path in directory.rglob("*.db") if path.is_file())
    if not states or len(states) > MAX_DEVICES:
        raise Failed(
            "io.missing" if not states else "state.limit",
            f"{len(states)} memories (*.db) below {directory}",
            expected=f"1 to {MAX_DEVICES}",
            found=len(states),
        )
    for path in states:
        yield _rehearse_one(path, candidates, base, at)._replace(state=path.relative_to(directory))


def _rehearse_one(
    path: Path, candidates: Sequence[bytes], base: DevicePolicy, at: datetime
) -> DeviceVerdict:
    number = None
    try:
        with tempfile.TemporaryDirectory() as scratch, State.open(_copy(path, scratch)) as state:
            enrolled, policy = _known(path, state, base)
            number = (state.trust() or enrolled).number
            for data in candidates:
                _meet(data, enrolled, policy, state, at)
    except FwsignError as refusal:
        verdict = "other" if refusal.code in _OTHERS else "stranded"
        return DeviceVerdict(path, verdict, number, refusal)
    return DeviceVerdict(path, "accepts", number)


def _copy(path: Path, scratch: str) -> Path:
    """Copy a memory and a journal that a crash left, so that the original stays unchanged."""
    copy = Path(scratch) / "copy.db"
    try:
        shutil.copyfile(path, copy)
        journal = Path(f"{path}-journal")
        if journal.exists():
            refuse_special(journal)
            shutil.copyfile(journal, f"{copy}-journal")
    except OSError as error:
        raise io_error(error, path) from error
    return copy


def _known(path: Path, state: State, base: DevicePolicy) -> tuple[TrustState, DevicePolicy]:
    kept = state.trust()
    for config in (path.with_suffix(".toml"), path.with_name(DEFAULT_CONFIG.name)):
        if config.is_file():
            device = load(config)
            return kept or device.trust, device.policy
    if kept is None:
        raise Failed(
            "state.lost",
            f"{path.name} has no list of anchors yet, and there is no device.toml beside it",
            expected=f"device.toml or {path.with_suffix('.toml').name}",
            found="none",
        )
    return kept, base._replace(vendor=kept.vendor, product=kept.product)


def _meet(
    data: bytes, enrolled: TrustState, policy: DevicePolicy, state: State, at: datetime
) -> None:
    """Judge one candidate by a device's memory."""
    if is_update(data):
        state.apply_trust(split_updates(data), enrolled)
        return
    anchors, base = demands_of(state.trust() or enrolled, policy)
    full, _ = state.policy(base, None)
    Verifier(anchors, full).verify(data, at=at)
