# SPDX-License-Identifier: Apache-2.0
"""Step 9: whether an envelope is for this device, newer than what it has, and not too old."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from fwsign.errors import Code, Stale, Unsuitable
from fwsign.format import suit
from fwsign.format.component import Component
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.suit import Kind
from fwsign.verify.policy import DevicePolicy, Recorded

_EXPIRED: Final[Mapping[Kind, Code]] = {
    "release": "stale.release",
    "channel": "stale.channel",
    "permit": "stale.permit",
}


class Named(Protocol):
    """What states vendor and product by their names: a release's text, a statement's content."""

    @property
    def vendor(self) -> str:
        """The vendor's domain."""

    @property
    def product(self) -> str:
        """The product's name."""


class Candidate(NamedTuple):
    """What is asked about: a manifest with its digest, and the kind of its envelope."""

    kind: Kind
    manifest: suit.Manifest
    digest: bytes


def check_device(
    policy: DevicePolicy, asked: Candidate, names: Named | None, now: datetime
) -> tuple[str, ...]:
    """Check vendor, product, sequence and expiry. Return the names of the steps not run.

    Raises:
        Unsuitable: `unsuitable.vendor`, `unsuitable.product`, `unsuitable.rollback`,
            `unsuitable.conflict`.
        Stale: `stale.release`, or that of another kind.
    """
    kind, manifest, _ = asked
    vendor, product = policy.vendor, policy.product
    if vendor is not None and vendor_id(vendor) != manifest.vendor_id:
        found = names.vendor if names else manifest.vendor_id.hex()
        raise _for_another("unsuitable.vendor", kind, vendor, found)
    if (
        vendor is not None
        and product is not None
        and class_id(vendor, product) != manifest.class_id
    ):
        found = names.product if names else manifest.class_id.hex()
        raise _for_another("unsuitable.product", kind, product, found)
    _check_sequence(policy, asked)
    if manifest.use_before is not None and now.timestamp() >= manifest.use_before:
        until = datetime.fromtimestamp(manifest.use_before, UTC).isoformat()
        raise Stale(
            _EXPIRED[kind],
            f"the {kind} was to be used before {until}, it is {now.isoformat()}",
            expected=f"a time before {until}",
            found=now.isoformat(),
        )
    said = {"vendor": vendor, "product": product, "rollback": policy.min_sequence}
    return tuple(name for name, value in said.items() if value is None)


def _for_another(code: Code, kind: Kind, expected: str, found: str) -> Unsuitable:
    what = code.removeprefix("unsuitable.")
    message = f'the {kind} is for {what} "{found}", this device is "{expected}"'
    return Unsuitable(code, message, expected=expected, found=found)


def _check_sequence(policy: DevicePolicy, asked: Candidate) -> None:
    kind, manifest, digest = asked
    number, floor = manifest.sequence_number, policy.min_sequence
    if floor is None or number > floor:
        return
    words = "sequence number" if kind == "release" else f"{kind} number"
    if kind == "release" and digest == policy.permitted:
        return
    if number < floor:
        raise Unsuitable(
            "unsuitable.rollback",
            f"{words} {number} is below {floor}, the lowest that is still accepted",
            expected=f"{floor} or more",
            found=number,
        )
    if any(digest == recorded.manifest_digest for recorded in policy.recorded):
        return
    if shared := replaced(manifest, policy.recorded):
        there = f' has "{shared[0].name}" already' if kind == "release" else " was accepted already"
        raise Unsuitable(
            "unsuitable.conflict",
            f"another {kind} with {words} {number}{there}",
            expected=f"the {kind} accepted before, or a higher {words}",
            found=digest.hex(),
        )


def replaced(manifest: suit.Manifest, recorded: Sequence[Recorded]) -> list[Component]:
    """Return the components of a manifest that recorded releases have, too."""
    taken = {_place(place) for one in recorded for place in one.components}
    return [one for one in manifest.components if _place(one.identifier) in taken]


def _place(identifier: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return a component's place, in lower case: file systems may ignore the case of a name."""
    return (*identifier[:1], *(part.lower() for part in identifier[1:2]), *identifier[2:])
