# SPDX-License-Identifier: Apache-2.0
"""Rehearse an update on copies of devices' memories, before it is published."""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.files import io_error, refuse_special
from fwsign.format.payload import CHUNK_SIZE
from fwsign.gateway.config.device import DEFAULT_CONFIG, Device, load
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.judge import Judge
from fwsign.gateway.run.session import INTENT, InstallRequest, trusted
from fwsign.gateway.target import release_record
from fwsign.gateway.target.delivery import destination
from fwsign.gateway.trial.record import read_trial, write_trial
from fwsign.gateway.trust import advance
from fwsign.memory.schema import MAX_FILE_SIZE
from fwsign.memory.state import State
from fwsign.trust.envelope import is_update
from fwsign.verify.policy import DevicePolicy

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

    A release is judged as by an install, which it then counts as: it raises the copy's floor, and
    ends what was unfinished. Payloads, commands and boards are not looked at.

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
            known = _known(path, state, base)
            number = trusted(known.device, state).number
            for data in candidates:
                _meet(data, known, state, at)
    except FwsignError as refusal:
        verdict = "other" if refusal.code in _OTHERS else "stranded"
        return DeviceVerdict(path, verdict, number, refusal)
    return DeviceVerdict(path, "accepts", number)


def _copy(path: Path, scratch: str) -> Path:
    """Copy a memory and a journal that a crash left, so that the original stays unchanged."""
    copy = Path(scratch) / "copy.db"
    try:
        _copy_file(path, copy)
        journal = Path(f"{path}-journal")
        if journal.exists():
            refuse_special(journal)
            _copy_file(journal, Path(f"{copy}-journal"))
    except OSError as error:
        raise io_error(error, path) from error
    return copy


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file, its holes as holes: gigabytes may be made of nothing.

    Raises:
        Failed: `state.damaged`; OSError.
    """
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        if size > MAX_FILE_SIZE:
            message = f"{source} is no memory: it has {size} bytes"
            raise Failed("state.damaged", message, expected=f"{MAX_FILE_SIZE}", found=f"{size}")
        new.truncate(size)
        for start, stop in _data(old.fileno(), size):
            old.seek(start)
            new.seek(start)
            while (left := stop - old.tell()) and (part := old.read(min(left, CHUNK_SIZE))):
                new.write(part)


def _data(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of what a file has between its holes; all of it where none are known."""
    stop = 0
    while stop < size:
        start, known = stop, getattr(os, "SEEK_DATA", None)  # not on Windows
        try:
            start = os.lseek(handle, stop, known) if known else stop
            stop = os.lseek(handle, start, os.SEEK_HOLE) if known else size
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        yield start, stop


class _Known(NamedTuple):
    """A device, and whether its places are known: some memories have no device.toml."""

    device: Device
    has_places: bool


def _known(path: Path, state: State, base: DevicePolicy) -> _Known:
    kept = state.trust()
    for config in (path.with_suffix(".toml"), path.with_name(DEFAULT_CONFIG.name)):
        if config.is_file():
            return _Known(load(config), has_places=True)
    if kept is None:
        raise Failed(
            "state.lost",
            f"{path.name} has no list of anchors yet, and there is no device.toml beside it",
            expected=f"device.toml or {path.with_suffix('.toml').name}",
            found="none",
        )
    policy = base._replace(vendor=kept.vendor, product=kept.product)
    alone = Device(path, kept, policy, path, path.parent, None, {}, 1, {}, FetchRules())
    return _Known(alone, has_places=False)


def _meet(data: bytes, known: _Known, state: State, at: datetime) -> None:
    """Judge one candidate by a device's memory, and let the memory learn it."""
    if is_update(data):
        advance(state, data, known.device.trust)
        record = read_trial(state)
        if record is not None and record.phase == "going back":  # it does, before any install
            write_trial(state, None)
        return
    judge = Judge(InstallRequest(known.device, at), state)
    release, floor = judge.verify(data)
    for component in release.components if known.has_places else ():
        destination(known.device, component)
    judge.refuse_here(release)
    with state.transaction():
        state.accept(None, release, floor)
        release_record.write(state, INTENT, None)
