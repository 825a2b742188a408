# SPDX-License-Identifier: Apache-2.0
"""Room for a release: looked for before anything is fetched, and made by giving up old versions.

Given up are versions that neither run nor may come back by a trial, the oldest first, and only as
many as device.toml lets go: with the new release, `keep` versions are there again. What is found
here is an estimate; a disk that is full all the same is `io.full` when it is written.
"""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.gateway.config.device import Device
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.target import release_record
from fwsign.gateway.target.delivery import Delivery
from fwsign.gateway.target.directory import CURRENT, ENVELOPE, FILES, OTHERS, OWN, STAGE, VERSIONS
from fwsign.gateway.target.kept import KEPT, KeptReleases
from fwsign.gateway.trial.record import read_trial
from fwsign.memory.state import State
from fwsign.verify.verified import VerifiedRelease

MARGIN: Final = 64 * 1024
"""Bytes for directories, links and what the file system needs itself."""
_FOR_NAMES: Final = 6
"""Files and directories besides the payloads: the stage, its parts, the version, the link."""


class Room(NamedTuple):
    """Space on a file system, or the need for it.

    Args:
        size: bytes.
        names: files and directories.
    """

    size: int
    names: int

    def plus(self, other: "Room") -> "Room":
        """Return the sum."""
        return Room(self.size + other.size, self.names + other.names)

    def holds(self, need: "Room") -> bool:
        """Tell whether a need fits into this space."""
        return self.size >= need.size and self.names >= need.names


_FOR_MEMORY: Final = Room(256 * 1024, 1)
"""Space for the memory, its journal and the receipts of one install."""


def make_room(
    gateway: OpenGateway, release: VerifiedRelease, envelope: bytes, wanted: Sequence[Delivery]
) -> list[str]:
    """Give up old versions, if there is no room for a release otherwise; return notes about it.

    Args:
        gateway: the gateway at work.
        release: the release.
        envelope: its envelope.
        wanted: the ways of its components.

    Raises:
        Failed: `io.full`: there is not enough room, whatever may go; `io.*`.
    """
    device, digest = gateway.device, release.manifest_digest.hex()
    goes = in_the_way(device, gateway.state, release, envelope, wanted)
    needed = _manifests(_needed(device.target_dir, gateway.state, digest))
    for name in goes:
        for manifest in _manifests([name]) - needed:
            KeptReleases(gateway.target).drop(manifest)
        gateway.target.remove_version(name)
    return [f"for room, version {name} was removed" for name in goes]


def in_the_way(
    device: Device,
    state: State,
    release: VerifiedRelease,
    envelope: bytes,
    wanted: Sequence[Delivery],
) -> list[str]:
    """Return the versions that have to go so that a release has room; the arguments are as above.

    Raises:
        Failed: `io.full`, `io.*`.
    """
    target, memory = device.target_dir, Path(os.path.realpath(device.state)).parent
    digest = release.manifest_digest.hex()
    goes: list[str] = []
    try:
        need, free = _need(target, digest, envelope, wanted), _free(target)
        if target.stat().st_dev == memory.stat().st_dev:
            need = need.plus(_FOR_MEMORY)
        else:
            _refuse_full(memory, _FOR_MEMORY, _free(memory))
        needed = _needed(target, state, digest)
        for name in _may_go(target, needed, device.keep):
            if free.holds(need):
                break
            goes.append(name)
            free = free.plus(_used(target / VERSIONS / name))
            for manifest in _manifests([name]) - _manifests(needed):
                free = free.plus(_used(target / OWN / KEPT / manifest))
    except OSError as error:
        raise io_error(error, target) from error
    _refuse_full(target, need, free, given=len(goes))
    return goes


def _refuse_full(place: Path, need: Room, free: Room, given: int = 0) -> None:
    if free.holds(need):
        return
    what, wanted, found = "bytes", need.size, free.size
    if found >= wanted:
        what, wanted, found = "files and directories", need.names, free.names
    also = f", even without {given} older versions" if given else ""
    raise Failed(
        "io.full",
        f"there is no room in {place}: {wanted} {what} are needed, {found} are free{also}",
        expected=f"{wanted} {what}",
        found=found,
        hint="remove what does not belong there, or enlarge it; nothing was fetched or changed",
    )


def is_root() -> bool:
    """Tell whether this is root, who may use the blocks that a file system keeps for root."""
    return os.geteuid() == 0


def _free(place: Path) -> Room:
    """Return the free space; what a file system does not tell is enough."""
    found = os.statvfs(place)
    blocks, names = (
        (found.f_bfree, found.f_ffree) if is_root() else (found.f_bavail, found.f_favail)
    )
    plenty = 1 << 62
    return Room(
        blocks * found.f_frsize if found.f_blocks else plenty, names if found.f_files else plenty
    )


def _need(target: Path, digest: str, envelope: bytes, wanted: Sequence[Delivery]) -> Room:
    """Return the space that staging a release takes, without what of it is there already."""
    own = target / OWN / STAGE
    staged = _content(own / ENVELOPE)
    same = release_record.digest_of(staged) == digest
    size = 0 if staged == envelope else len(envelope)
    for one in wanted:
        places = [own / (FILES if one.to == "file" else OTHERS)] if same else []
        if one.to == "file":
            places.append(target / VERSIONS / digest)
        there = max((_used(place / one.name).size for place in places), default=0)
        size += max(0, one.component.size - there)
    need = Room(size + MARGIN, len(wanted) + _FOR_NAMES)
    before = Room(0, 0) if same else _used(own)  # is removed first
    return Room(max(0, need.size - before.size), max(0, need.names - before.names))


def _needed(target: Path, state: State, digest: str) -> set[str | None]:
    """Return the names of the versions that run, are being installed, or may come back."""
    found = [release_record.read(state, name) for name in (INSTALLED, INTENT)]
    trial = read_trial(state)
    found += [trial.release, trial.before] if trial else []
    current = None
    with contextlib.suppress(OSError):
        current = (target / CURRENT).readlink().name
    return {one.directory for one in found if one} | {current, digest}


def _may_go(target: Path, needed: Collection[str | None], keep: int) -> list[str]:
    """Return the versions that may go, the oldest first."""
    try:
        there = sorted((target / VERSIONS).iterdir(), key=lambda one: one.lstat().st_mtime_ns)
    except FileNotFoundError:
        return []
    others = [one.name for one in there if one.name not in needed]
    return others[: max(0, len(there) - (keep - 1))]


def _manifests(versions: Collection[str | None]) -> set[str]:
    """Return the digests of the releases that versions are of; a repaired one may have two."""
    return {one.removesuffix(".again") for one in versions if one is not None}


def _used(path: Path) -> Room:
    """Return the space of a file, or of a directory with all that is in it."""
    try:
        facts = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Room(0, 0)
    found = Room(facts.st_blocks * 512, 1)
    for parent, folders, files in os.walk(path):
        for name in (*folders, *files):
            facts = Path(parent, name).lstat()
            found = found.plus(Room(facts.st_blocks * 512, 1))
    return found


def _content(path: Path) -> bytes:
    with contextlib.suppress(Failed):
        return read_bytes(path, MAX_ENVELOPE_SIZE, "files")
    return b""
