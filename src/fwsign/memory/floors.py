# SPDX-License-Identifier: Apache-2.0
"""The floors in a device's memory: the releases accepted last, and the time that has passed.

A function that writes is called inside a transaction for writing; `State` decides when.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

from fwsign.errors import Failed, Malformed
from fwsign.format import cbor, identifiers
from fwsign.format.suit import Manifest
from fwsign.memory.file import StateFile
from fwsign.memory.schema import MAX_IDENTITY
from fwsign.trust.lists import Update
from fwsign.verify.device import replaced
from fwsign.verify.policy import DevicePolicy, Recorded
from fwsign.verify.verified import VerifiedRelease

_FLOOR: Final = "SELECT sequence FROM floors WHERE identity = ? AND vendor = ? AND class = ?"
_RECORDED: Final = (
    "SELECT manifest, components FROM recorded WHERE identity = ? AND vendor = ? AND class = ?"
)
_FORGET: Final = "DELETE FROM recorded WHERE identity = ? AND vendor = ? AND class = ?"
_SET: Final = "REPLACE INTO floors VALUES (?, ?, ?, ?)"
_BOARDS: Final = "SELECT identity FROM floors WHERE vendor = ? AND class = ?"
_TIME: Final = "SELECT seconds FROM times WHERE vendor = ?"
_SET_TIME: Final = "REPLACE INTO times VALUES (?, ?)"

MAX_RECORDED: Final = 256
"""Releases at one floor: one for each file that one run of `fwsign sign` signed."""


class Floor(NamedTuple):
    """The lowest sequence number still accepted, and the releases accepted at it."""

    sequence: int
    recorded: tuple[Recorded, ...] = ()


class FloorKey(NamedTuple):
    """The key of a floor: board, vendor and product. Another vendor could claim a class alone."""

    identity: str
    vendor: bytes
    klass: bytes


def key(identity: str | None, vendor: bytes, klass: bytes) -> FloorKey:
    """Return the key of a floor.

    Args:
        identity: the board's identity; None for boards without one, which share a floor.
        vendor: the vendor's identifier.
        klass: the product's.

    Raises:
        Failed: `state.limit`: the identity is too long, or not printable.
    """
    name = identity or ""
    if len(name) > MAX_IDENTITY or not name.isprintable():
        raise Failed(
            "state.limit",
            f"the board calls itself {name!r:.80}",
            expected=f"at most {MAX_IDENTITY} printable characters",
            found=name,
        )
    return FloorKey(name, vendor, klass)


def vendor_of(policy: DevicePolicy) -> bytes | None:
    """Return the identifier of a policy's vendor; None if it names none."""
    return identifiers.vendor_id(policy.vendor) if policy.vendor is not None else None


def get(file: StateFile, key: FloorKey) -> Floor | None:
    """Return a floor; None if there is none yet."""
    found = file.run(_FLOOR, *key).fetchone()
    if found is None:
        return None
    rows = file.run(_RECORDED, *key).fetchall()
    with file.whole("the components of a release"):
        recorded = tuple(Recorded(digest, _identifiers(data)) for digest, data in rows)
    return Floor(found[0], recorded)


def _identifiers(data: bytes) -> tuple[tuple[bytes, ...], ...]:
    match cbor.decode(data):
        case tuple(found) if all(
            isinstance(one, tuple) and one and all(isinstance(part, bytes) for part in one)
            for one in found
        ):
            return found
    raise Malformed("malformed.component", "they are no identifiers")


def raised(policy: DevicePolicy, floor: Floor | None) -> DevicePolicy:
    """Return a policy with a floor; the higher one counts, and of equal ones what both have."""
    known, given = floor or Floor(0), Floor(policy.min_sequence or 0, policy.recorded)
    lowest = max(known.sequence, given.sequence)
    recorded = [one for at in (given, known) if at.sequence == lowest for one in at.recorded]
    return policy._replace(min_sequence=lowest, recorded=tuple(recorded))


def is_below(manifest: Manifest, digest: bytes, floor: Floor | None) -> bool:
    """Tell whether a release would be refused by a floor alone, so that it needs a permit.

    Args:
        manifest: its manifest.
        digest: the manifest's digest.
        floor: the floor; None for none.
    """
    number = manifest.sequence_number
    if floor is None or number != floor.sequence:
        return floor is not None and number < floor.sequence
    accepted = any(digest == one.manifest_digest for one in floor.recorded)
    return not accepted and bool(replaced(manifest, floor.recorded))


def check_unmoved(floor: Floor | None, expected: Floor | None) -> None:
    """Refuse a floor that moved since a release was judged by it.

    Raises:
        Failed: `state.conflict`.
    """
    if floor != expected:
        now, before = (one.sequence if one else "none" for one in (floor, expected))
        raise Failed(
            "state.conflict",
            f"another release was accepted meanwhile: the floor was {before} and is {now}",
            expected=before,
            found=now,
        )


def rise(file: StateFile, key: FloorKey, floor: Floor, release: VerifiedRelease) -> None:
    """Record a release at its floor, which rises to it; one that needed a permit changes nothing.

    Raises:
        Failed: `state.limit`: there are `MAX_RECORDED` at this floor.
    """
    number = release.manifest.sequence_number
    waived = "rollback" in release.unchecked
    if number < floor.sequence or (number == floor.sequence and waived):
        return
    if number > floor.sequence:
        _set(file, key, number)
    elif replaced(release.manifest, floor.recorded):
        return  # a permit let it in, this once: recorded, it would need none later
    elif len(floor.recorded) == MAX_RECORDED:
        raise Failed(
            "state.limit",
            f"{MAX_RECORDED} releases have sequence number {number} already",
            expected="a higher sequence number",
            found=number,
        )
    components = cbor.encode(tuple(one.identifier for one in release.components))
    values = (*key, release.manifest_digest, components)
    file.run("INSERT INTO recorded VALUES (?, ?, ?, ?, ?)", *values)


def reset(file: StateFile, update: Update, identity: str | None) -> None:
    """Set the floors that a trust update states, up or down; leave those of other products.

    The boards that have a floor get the new one too: what drove the device's floor up drove theirs.
    """
    trust, floors = update.trust, update.floors
    vendor = identifiers.vendor_id(trust.vendor)
    if floors.sequence is not None:
        product = identifiers.class_id(trust.vendor, trust.product)
        boards = [found for (found,) in file.run(_BOARDS, vendor, product)]
        for one in dict.fromkeys((identity or "", *boards)):
            _set(file, key(one, vendor, product), floors.sequence)
    if floors.time is not None:
        file.run(_SET_TIME, vendor, floors.time)


def _set(file: StateFile, key: FloorKey, sequence: int) -> None:
    """Set a floor; no release was accepted at it yet."""
    file.run(_FORGET, *key)
    file.run(_SET, *key, sequence)


def time(file: StateFile, vendor: bytes) -> datetime | None:
    """Return the time that has passed for a vendor's releases; None if none is known."""
    found = file.run(_TIME, vendor).fetchone()
    return datetime.fromtimestamp(found[0], UTC) if found else None


def keep_time(file: StateFile, vendor: bytes, known: datetime | None) -> None:
    """Keep the later of a time and the one kept."""
    times = [one for one in (known, time(file, vendor)) if one is not None]
    if times:
        file.run(_SET_TIME, vendor, int(max(times).timestamp()))
