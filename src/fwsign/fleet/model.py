# SPDX-License-Identifier: Apache-2.0
"""The answers about a fleet, as values.

A device's claim is its own. `signed` says that the device's certificate signed the receipt behind a
value; otherwise the value is only said, by whoever wrote an unsigned log.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

YEARS: Final = range(-62135596800, 253402300800)
"""Seconds since 1970 that are in the years 1 to 9999."""


class FleetRelease(NamedTuple):
    """A release that devices say they run.

    Args:
        manifest: its manifest digest.
        vendor, product, version, sequence, release_class, advisories: as most devices name them, of
            those that sign if there are any.
        devices: the number of devices that run it.
        signed: those of them whose receipt is signed.
        disputed: those of them that name it otherwise than most do.
        first, last: when the first and the last of them came to it, by their clocks.
    """

    manifest: bytes
    vendor: str | None
    product: str | None
    version: str | None
    sequence: int | None
    release_class: str | None
    advisories: tuple[str, ...]
    devices: int
    signed: int
    disputed: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def of(self) -> str:
        """The product with its vendor."""
        return "/".join(filter(None, (self.vendor, self.product))) or "unknown product"

    @property
    def name(self) -> str:
        """The version, else the sequence number, else the beginning of the manifest digest."""
        if self.version:
            return self.version
        return self.manifest.hex()[:16] if self.sequence is None else f"#{self.sequence}"

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of receipts."""
        return {
            "vendor": self.vendor,
            "product": self.product,
            "version": self.version,
            "sequence_number": self.sequence,
            "manifest_digest": self.manifest.hex(),
            "class": self.release_class,
            "advisories": list(self.advisories),
            "devices": self.devices,
            "signed": self.signed,
            "only_said": self.devices - self.signed,
            "named_otherwise": self.disputed,
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
        }


class FleetDevice(NamedTuple):
    """A device, or a board at a station that flashes boards, with what it runs.

    Args:
        name: the device's or the station's id.
        board: the board's identity; empty for the device itself.
        vendor, product, version, sequence, manifest: the release in place; None if none is known.
        state: "installed", "on trial", "station", or another word for what is in place.
        since: when it came to be in place, by the device's clock.
        heard: when the collector last heard of it.
        result, code: the end of its last action, and the code if that was a refusal.
        signed: whether the receipt about the release is signed.
        silent: whether the collector heard nothing of it for too long.
    """

    name: str
    board: str
    vendor: str | None
    product: str | None
    version: str | None
    sequence: int | None
    manifest: bytes | None
    state: str
    since: int | None
    heard: int
    result: str | None
    code: str | None
    signed: bool
    silent: bool

    @property
    def id(self) -> str:
        """The board's identity, else the device's id."""
        return self.board or self.name

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of receipts."""
        return {
            "device": self.id,
            "station": self.name if self.board else None,
            "vendor": self.vendor,
            "product": self.product,
            "version": self.version,
            "sequence_number": self.sequence,
            "manifest_digest": self.manifest.hex() if self.manifest else None,
            "state": self.state,
            "since": rfc3339(self.since),
            "heard": rfc3339(self.heard),
            "result": self.result,
            "code": self.code,
            "said_by": said_by(signed=self.signed),
            "silent": self.silent,
        }


class FleetEvent(NamedTuple):
    """A receipt of a device, as its history shows it.

    Args:
        number: its place in the order of arrival.
        received: when the collector took it.
        clock: the device's time; None if it says none.
        kind, result, code, message: the action and its end.
        vendor, product, version, sequence: the release that it is about.
        digest: the SHA-256 of the line.
        signer: the verified signer; None for an unsigned line.
        device: the id of the device or station whose line it is.
        board: the identity of the board that it is about; None for the device itself.
    """

    number: int
    received: int
    clock: int | None
    kind: str
    result: str | None
    code: str | None
    message: str | None
    vendor: str | None
    product: str | None
    version: str | None
    sequence: int | None
    digest: bytes
    signer: str | None
    device: str
    board: str | None = None

    @property
    def station(self) -> str | None:
        """The station that flashed the board; None if it is about no board."""
        return self.device if self.board else None

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of receipts."""
        return {
            "time": rfc3339(self.clock),
            "received": rfc3339(self.received),
            "kind": self.kind,
            "result": self.result,
            "code": self.code,
            "message": self.message,
            "vendor": self.vendor,
            "product": self.product,
            "version": self.version,
            "sequence_number": self.sequence,
            "said_by": said_by(signed=self.signer is not None),
            "signer": self.signer,
            "device": self.board or self.device,
            "station": self.station,
            "receipt": self.digest.hex(),
        }


class FleetRefusal(NamedTuple):
    """A code, and the devices whose last action ended with it."""

    code: str
    devices: int
    last: int

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"code": self.code, "devices": self.devices, "last": rfc3339(self.last)}


class FleetProblem(NamedTuple):
    """A fault in what devices sent, as the collector noticed it; no refused line counts."""

    noticed: int
    kind: str
    device: str | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "noticed": rfc3339(self.noticed),
            "kind": self.kind,
            "device": self.device,
            "detail": self.detail,
        }


class FleetTotals(NamedTuple):
    """The fleet in numbers.

    Args:
        devices: devices, and boards at stations; stations themselves are not counted.
        signed: those whose receipt about their release is signed.
        unknown: those that never said what they run.
        silent: devices and stations of which nothing was heard for too long.
        refused: those whose last action was a refusal.
        problems: open breaks in records, and lines that were refused, by kind.
        moved: boards that several stations flashed; each counts once, by its latest receipt.
    """

    devices: int
    signed: int
    unknown: int
    silent: int
    refused: int
    problems: Mapping[str, int]
    moved: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "devices": self.devices,
            "signed": self.signed,
            "only_said": self.devices - self.unknown - self.signed,
            "unknown": self.unknown,
            "silent": self.silent,
            "refused": self.refused,
            "problems": dict(self.problems),
        }


class FleetCurve(NamedTuple):
    """When devices came to a release: the number of all so far, at the end of each step of time."""

    release: FleetRelease
    points: tuple[tuple[int, int], ...]


def said_by(*, signed: bool) -> str:
    """Return the word for how good a claim is."""
    return "signed" if signed else "only said"


def rfc3339(seconds: int | None) -> str | None:
    """Format seconds since 1970; None for None, and for what no calendar has."""
    if seconds is None or seconds not in YEARS:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def read_notice(text: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Read the class and the advisories of a release, as a collector stores them."""
    try:
        found = json.loads(text or "{}")
        release_class, advisories = found.get("class"), found.get("advisories") or ()
        if not isinstance(release_class, str | None):
            return None, ()
        return release_class, tuple(map(str, advisories))
    except (ValueError, AttributeError, TypeError):
        return None, ()
