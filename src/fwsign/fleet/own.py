# SPDX-License-Identifier: Apache-2.0
"""The manufacturer's own releases: what their signed envelopes say, whatever devices report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fwsign.errors import Failed
from fwsign.format.envelope import decode_envelope
from fwsign.signing.request import signers_of
from fwsign.signing.stapling import carried_crls
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from fwsign.fleet.model import FleetRelease
    from fwsign.x509.anchor import Anchor


class OwnRelease(NamedTuple):
    """What a verified envelope says of its release.

    Args:
        manifest: its manifest digest.
        vendor: the vendor's domain.
        product: the product's name.
        version: the version, if it has one.
        sequence: its sequence number.
        release_class: "security", "feature" or None.
        advisories: the advisories that it closes.
    """

    manifest: bytes
    vendor: str
    product: str
    version: str | None
    sequence: int
    release_class: str | None
    advisories: tuple[str, ...]


def read_own(envelope: bytes, anchors: Sequence[Anchor], at: datetime) -> OwnRelease:
    """Return what an envelope says, verified at the time that it proves itself, else now.

    A release that was good when it was signed is still one's own when its CRLs are stale and its
    signer's certificate has expired.

    Raises:
        FwsignError: as `Verifier.verify`; Failed: `io.format`: its text was cut off.
    """
    proven = [crl.this_update for crl in carried_crls(envelope)]
    leaves = signers_of(decode_envelope(envelope).blocks).values()
    proven += [leaf.parsed.not_valid_before_utc for leaf in leaves] if proven else []
    policy = DevicePolicy(profile="compat")
    found = Verifier(anchors, policy).verify(envelope, at=max(proven, default=at))
    if found.text is None:
        what = "the envelope does not name its product: its text was cut off"
        raise Failed("io.format", what, expected="the envelope as it was signed", found="no text")
    notice = found.text.notice
    return OwnRelease(
        found.manifest_digest,
        found.vendor,
        found.text.product,
        found.text.version,
        found.manifest.sequence_number,
        notice.release_class,
        notice.advisories,
    )


def as_signed(one: FleetRelease, own: Mapping[bytes, OwnRelease]) -> FleetRelease:
    """Return a release that devices report as its envelope names it; without one, no advisories.

    A device can invent a release that names an advisory.
    """
    said = own.get(one.manifest)
    return one._replace(advisories=()) if said is None else one._replace(**said._asdict())
