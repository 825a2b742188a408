"""Permits for the devices of tests, good ones and forged ones."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from channel_kit import identity
from fwsign.format.permit import FORM, Permit, encode_permit
from fwsign.format.statement import describe, encode_statement
from fwsign.format.suit import encode_manifest
from fwsign.signing.permit import sign
from fwsign.verify.permit import VerifiedPermit
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from support import DAY, NOW, PRODUCT, VENDOR, Entity, Pki, make_block, signed_digest

DEVICE = "gw-0007"
RELEASE = b"\x01" * 32
"""A manifest digest."""


def make_permit(**more: Any) -> Permit:
    """Make a permit of a week; `more` replaces fields."""
    made = int(NOW.timestamp())
    until = int((NOW + 7 * DAY).timestamp())
    own = Permit(VENDOR, PRODUCT, DEVICE, RELEASE, 1, bytes(range(16)), made, until)
    return own._replace(**more)


def signed(pki: Pki, permit: Permit | None = None, *, at: datetime = NOW, **more: Any) -> bytes:
    """Sign a permit as the library does it; `more` goes to `identity`."""
    return sign(permit or make_permit(), [identity(pki, **more)], [pki.root.anchor], at=at)[0]


def forged(
    pki: Pki, permit: Permit | None = None, *, content: bytes | None = None, **more: Any
) -> bytes:
    """Sign any permit without a check; `more` replaces fields of its manifest."""
    permit = permit or make_permit()
    content = encode_permit(permit) if content is None else content
    manifest = describe(FORM, permit.made, permit.identifiers, content, permit.expires)
    manifest = manifest._replace(**more)
    payload = signed_digest(encode_manifest(manifest))
    block = make_block(payload, pki.leaf.key, [pki.leaf.der, pki.issuing.der], pki.crls)
    return encode_statement(FORM, manifest, content, [block])


def verify_permit(
    data: bytes,
    anchors: Sequence[Entity],
    *,
    at: datetime = NOW,
    own: str | None = DEVICE,
    release: bytes = RELEASE,
    **more: Any,
) -> VerifiedPermit:
    """Verify a permit for a device of `PRODUCT`, and a release; `more` goes to its policy."""
    policy = DevicePolicy(**{"vendor": VENDOR, "product": PRODUCT, **more})
    found = [one.anchor for one in anchors]
    return Verifier(found, policy).verify_permit(data, at=at, device=own, release=release)
