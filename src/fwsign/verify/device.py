# SPDX-License-Identifier: Apache-2.0
"""Step 9: whether a release is for this device, newer than what it has, and not too old."""

from datetime import UTC, datetime

from fwsign.errors import Code, Stale, Unsuitable
from fwsign.format import suit
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.text import Text
from fwsign.verify.policy import DevicePolicy


def check_device(
    policy: DevicePolicy,
    manifest: suit.Manifest,
    text: Text | None,
    manifest_digest: bytes,
    now: datetime,
) -> tuple[str, ...]:
    """Check vendor, product, sequence and expiry. Return the names of the steps not run.

    Raises:
        Unsuitable: `unsuitable.vendor`, `unsuitable.product`, `unsuitable.rollback`,
            `unsuitable.conflict`.
        Stale: `stale.release`.
    """
    vendor, product = policy.vendor, policy.product
    if vendor is not None and vendor_id(vendor) != manifest.vendor_id:
        found = text.vendor if text else manifest.vendor_id.hex()
        raise _for_another("unsuitable.vendor", vendor, found)
    if (
        vendor is not None
        and product is not None
        and class_id(vendor, product) != manifest.class_id
    ):
        found = text.product if text else manifest.class_id.hex()
        raise _for_another("unsuitable.product", product, found)
    _check_sequence(policy, manifest, manifest_digest)
    if manifest.use_before is not None and now.timestamp() >= manifest.use_before:
        until = datetime.fromtimestamp(manifest.use_before, UTC).isoformat()
        raise Stale(
            "stale.release",
            f"the release was to be used before {until}, it is {now.isoformat()}",
            expected=f"a time before {until}",
            found=now.isoformat(),
        )
    said = {"vendor": vendor, "product": product, "rollback": policy.min_sequence}
    return tuple(name for name, value in said.items() if value is None)


def _for_another(code: Code, expected: str, found: str) -> Unsuitable:
    what = code.removeprefix("unsuitable.")
    message = f'the release is for {what} "{found}", this device is "{expected}"'
    return Unsuitable(code, message, expected=expected, found=found)


def _check_sequence(policy: DevicePolicy, manifest: suit.Manifest, manifest_digest: bytes) -> None:
    number, floor = manifest.sequence_number, policy.min_sequence
    if floor is None or number > floor:
        return
    if number < floor:
        raise Unsuitable(
            "unsuitable.rollback",
            f"sequence number {number} is below {floor}, the lowest that is still accepted",
            expected=f"{floor} or more",
            found=number,
        )
    if any(manifest_digest == recorded.manifest_digest for recorded in policy.recorded):
        return
    taken = {_place(place) for recorded in policy.recorded for place in recorded.components}
    shared = [item.name for item in manifest.components if _place(item.identifier) in taken]
    if shared:
        raise Unsuitable(
            "unsuitable.conflict",
            f'another release with sequence number {number} has "{shared[0]}" already',
            expected="the release accepted before, or a higher sequence number",
            found=manifest_digest.hex(),
        )


def _place(identifier: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return a component's place, in lower case: file systems may ignore the case of a name."""
    return (*identifier[:1], *(part.lower() for part in identifier[1:2]), *identifier[2:])
