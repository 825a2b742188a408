"""Permits: who may sign one, what it may say, for whom and until when it is."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from channel_kit import forged as forged_channel
from fwsign.format import cbor
from fwsign.format.component import Component, Digest
from fwsign.format.payload import digest
from fwsign.format.permit import MAX_LIFE, encode_permit
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.anchor import Anchor
from hostile import blocks_in, with_blocks, with_members
from permit_kit import DEVICE, RELEASE, forged, make_permit
from support import DAY, NOW, PRODUCT, VENDOR, Entity, Pki, make_ca, make_crl, make_leaf, sign_with
from testkit.channel_vectors import by_bare_key
from testkit.channel_vectors import signer as channel_signer
from testkit.fixed import shared
from testkit.vector import pki


class PermitCase(NamedTuple):
    """What a verifier is given; `id` is the device's, `release` what it shall let in."""

    envelope: bytes
    anchors: Sequence[Anchor]
    policy: DevicePolicy
    at: datetime = NOW
    id: str | None = DEVICE
    release: bytes = RELEASE


class PermitVector(NamedTuple):
    """A case with its name, what it shows, the verdict, and the function that makes it."""

    name: str
    says: str
    expected: Mapping[str, Any]
    make: Callable[[], PermitCase]


@shared
def other_vendors() -> Pki:
    """Return the PKI of most vectors, with a signer for another vendor alone."""
    own = pki()
    leaf = make_leaf(own.issuing, "other", vendors=["other.example"])
    return Pki(own.root, own.issuing, leaf)


def case(envelope: bytes, *anchors: Entity, **more: Any) -> PermitCase:
    """Make a case for a device of the test product."""
    given = {key: more.pop(key) for key in ("at", "id", "release") if key in more}
    policy = DevicePolicy(**{"vendor": VENDOR, "product": PRODUCT, **more})
    return PermitCase(envelope, [one.anchor for one in anchors or [pki().root]], policy, **given)


def good(**more: Any) -> bytes:
    """Make a permit; `more` replaces fields of it, also by what no device may use."""
    return forged(pki(), make_permit(**more))


def said(*without: int, **change: Any) -> PermitCase:
    """Make a permit whose content lacks members, or has others."""
    members = cbor.decode(encode_permit(make_permit()))
    members |= {int(key.removeprefix("m")): value for key, value in change.items()}
    left = {key: value for key, value in members.items() if key not in without}
    return case(forged(pki(), content=cbor.encode(left)))


def written(change: Callable[[bytes], bytes]) -> PermitCase:
    """Make a permit whose content is written otherwise than it should be."""
    return case(forged(pki(), content=change(encode_permit(make_permit()))))


def of_kind(identifier: bytes) -> bytes:
    """Sign an envelope with a permit's content, whose only component is another."""
    content = encode_permit(make_permit())
    part = Component((identifier,), Digest(-16, digest(-16, content)), len(content), "#permit")
    return forged(pki(), components=(part,))


def accepted(*notes: str) -> dict[str, Any]:
    """Expect acceptance with these notes; a permit has no floor."""
    return {"verdict": "accepted", "unchecked": ["rollback"], "notes": list(notes)}


def refused(step: int, code: str) -> dict[str, Any]:
    """Expect a refusal."""
    return {"verdict": "refused", "code": code, "step": step}


TEMPLATE = refused(7, "malformed.permit")
MADE = int(NOW.timestamp())
WEEK = 7 * DAY

_SIGNERS = (
    PermitVector("good", "a permit by a signer of releases", accepted(), lambda: case(good())),
    PermitVector(
        "channel-key",
        "a key for channels signs it",
        refused(3, "untrusted.eku"),
        lambda: case(forged(channel_signer())),
    ),
    PermitVector(
        "channel-and-release-key",
        "its signer may sign releases, and channels, too",
        accepted(),
        lambda: case(forged(channel_signer(VENDOR, "both"))),
    ),
    PermitVector(
        "bare-key",
        "a key without a certificate that nobody pins signs it",
        refused(3, "untrusted.no-anchor"),
        lambda: case(by_bare_key(good())),
    ),
    PermitVector(
        "foreign-ca",
        "a CA that is not pinned vouches for it",
        refused(3, "untrusted.no-anchor"),
        lambda: case(good(), make_ca("Other")),
    ),
    PermitVector(
        "other-vendors-signer",
        "the pinned CA vouches for a signer of another vendor's releases",
        refused(8, "untrusted.vendor"),
        lambda: case(forged(other_vendors())),
    ),
    PermitVector(
        "no-signature",
        "its signature was taken away",
        refused(6, "untrusted.signers"),
        lambda: case(with_blocks(good())),
    ),
    PermitVector(
        "too-few-signers",
        "the device wants two signers of a release, and so of a permit",
        refused(6, "untrusted.signers"),
        lambda: case(good(), threshold=2),
    ),
    PermitVector(
        "token-required",
        "the device wants time stamps of a release, and so of a permit",
        refused(4, "untrusted.token-required"),
        lambda: case(good(), require_token=True),
    ),
    PermitVector(
        "other-permits-signature",
        "the signature is that of a permit for another device",
        refused(3, "tampered.signature"),
        lambda: case(with_blocks(good(), *blocks_in(good(device="gw-0008")))),
    ),
    PermitVector(
        "releases-signature",
        "the signature is that of a release",
        refused(3, "tampered.signature"),
        lambda: case(with_blocks(good(), *blocks_in(sign_with(pki())))),
    ),
    PermitVector(
        "revoked",
        "its signer is revoked",
        refused(5, "untrusted.revoked"),
        lambda: case(
            good(), crls=(make_crl(pki().issuing, [pki().leaf], number=2), make_crl(pki().root))
        ),
    ),
)
_KINDS = (
    PermitVector(
        "release",
        "a release, handed over as a permit",
        refused(7, "unsuitable.release"),
        lambda: case(sign_with(pki())),
    ),
    PermitVector(
        "channel",
        "a channel, by a signer of releases",
        refused(7, "unsuitable.channel"),
        lambda: case(forged_channel(pki())),
    ),
    PermitVector(
        "trust-update",
        "the manifest of a trust update, by a signer of releases",
        refused(7, "unsuitable.trust-update"),
        lambda: case(of_kind(b"trust")),
    ),
)
_CONTENT = (
    PermitVector(
        "content-absent",
        "its content was taken out",
        refused(7, "tampered.payload-absent"),
        lambda: case(with_members(good(), {"#permit": None})),
    ),
    PermitVector(
        "content-swapped",
        "its content is that of a permit for another device",
        refused(7, "tampered.payload-digest"),
        lambda: case(
            with_members(good(), {"#permit": encode_permit(make_permit(device="gw-0008"))}),
            id="gw-0008",
        ),
    ),
    PermitVector(
        "more-inside",
        "it has another payload inside",
        refused(7, "malformed.profile"),
        lambda: case(with_members(good(), {"#more": b"x"})),
    ),
    PermitVector(
        "no-expiry",
        "it never expires",
        refused(7, "malformed.profile"),
        lambda: case(forged(pki(), use_before=None)),
    ),
    PermitVector(
        "no-device", "its content names no device, so that it fits all", TEMPLATE, lambda: said(3)
    ),
    PermitVector("no-release", "its content names no release", TEMPLATE, lambda: said(4)),
    PermitVector("no-id", "its content has no id of its own", TEMPLATE, lambda: said(6)),
    PermitVector(
        "unknown-member",
        "its content has a member that no template has",
        TEMPLATE,
        lambda: said(m7=1),
    ),
    PermitVector(
        "number-as-text", "its content has the number as text", TEMPLATE, lambda: said(m5="1")
    ),
    PermitVector(
        "number-as-bool", "its content has true as the number", TEMPLATE, lambda: said(m5=True)
    ),
    PermitVector("list", "its content is a list, not a map", TEMPLATE, lambda: written(_as_list)),
    PermitVector(
        "long-integer",
        "its content has an integer in more bytes than it needs",
        refused(7, "malformed.cbor"),
        lambda: written(_long_integer),
    ),
    PermitVector(
        "members-unsorted",
        "its content has its members in another order",
        refused(7, "malformed.cbor"),
        lambda: written(_unsorted),
    ),
    PermitVector(
        "trailing-byte",
        "its content has a byte more than its map",
        refused(7, "malformed.cbor"),
        lambda: written(lambda content: content + b"\0"),
    ),
    PermitVector(
        "other-products-content",
        "its content is for another product than its manifest",
        TEMPLATE,
        lambda: said(m2="gateway-x2"),
    ),
    PermitVector(
        "device-with-line-break",
        "the name of its device has a line break",
        TEMPLATE,
        lambda: case(good(device="gw\n0007"), id="gw\n0007"),
    ),
    PermitVector(
        "device-too-long",
        "the name of its device has 201 bytes",
        TEMPLATE,
        lambda: case(good(device="x" * 201), id="x" * 201),
    ),
    PermitVector(
        "device-longest",
        "the name of its device has 200 bytes, which is the limit",
        accepted(),
        lambda: case(good(device="x" * 200), id="x" * 200),
    ),
    PermitVector(
        "short-digest",
        "the digest of its release is cut",
        TEMPLATE,
        lambda: case(good(release=RELEASE[:16]), release=RELEASE[:16]),
    ),
    PermitVector("short-id", "its id has 15 bytes", TEMPLATE, lambda: case(good(id=bytes(15)))),
    PermitVector(
        "life-longest",
        "it expires 90 days after it was made, which is the limit",
        accepted(),
        lambda: case(good(expires=MADE + MAX_LIFE)),
    ),
    PermitVector(
        "life-too-long",
        "it expires a second after the limit of 90 days",
        TEMPLATE,
        lambda: case(good(expires=MADE + MAX_LIFE + 1)),
    ),
    PermitVector(
        "expires-when-made",
        "it expires in the second in which it was made",
        TEMPLATE,
        lambda: case(good(expires=MADE), at=NOW - DAY),
    ),
)
_DEVICE = (
    PermitVector(
        "other-device",
        "it is for another device",
        refused(9, "unsuitable.permit-device"),
        lambda: case(good(), id="gw-0008"),
    ),
    PermitVector(
        "other-device-by-case",
        "the device's id differs in a capital letter",
        refused(9, "unsuitable.permit-device"),
        lambda: case(good(), id=DEVICE.upper()),
    ),
    PermitVector(
        "device-without-id",
        "the device has no id",
        refused(9, "unsuitable.permit-device"),
        lambda: case(good(), id=None),
    ),
    PermitVector(
        "other-release",
        "it is for the release with another manifest digest",
        refused(9, "unsuitable.permit-release"),
        lambda: case(good(), release=bytes(32)),
    ),
    PermitVector(
        "longer-digest",
        "the release's digest begins with the one that it names",
        refused(9, "unsuitable.permit-release"),
        lambda: case(good(), release=RELEASE + bytes(16)),
    ),
    PermitVector(
        "other-product",
        "it is for another product",
        refused(9, "unsuitable.product"),
        lambda: case(good(product="gateway-x2")),
    ),
    PermitVector(
        "other-vendor",
        "it is for another vendor's devices",
        refused(9, "unsuitable.vendor"),
        lambda: case(good(), vendor="other.example"),
    ),
    PermitVector(
        "last-second",
        "it expires a second later",
        accepted(),
        lambda: case(good(expires=MADE + 1)),
    ),
    PermitVector(
        "expired",
        "it has expired",
        refused(9, "stale.permit"),
        lambda: case(good(), at=NOW + WEEK),
    ),
    PermitVector(
        "expired-by-known-time",
        "it has expired by a time that is known to have passed, and the clock was set back",
        refused(9, "stale.permit"),
        lambda: case(good(), time_floor=NOW + WEEK),
    ),
    PermitVector(
        "clock-behind",
        "the clock is more than a day behind a time that is known to have passed",
        refused(9, "stale.permit"),
        lambda: case(good(), at=NOW - DAY - timedelta(seconds=1), time_floor=NOW),
    ),
    PermitVector(
        "clock-a-day-behind",
        "the clock is a day behind a time that is known to have passed",
        accepted("freshness unproven: the clock is behind"),
        lambda: case(good(), at=NOW - DAY, time_floor=NOW),
    ),
    PermitVector(
        "made-a-day-ahead",
        "it was made a day after the time of now",
        accepted(),
        lambda: case(good(made=MADE + 86400)),
    ),
    PermitVector(
        "made-in-the-future",
        "it was made more than a day after the time of now",
        refused(9, "stale.permit"),
        lambda: case(good(made=MADE + 86401)),
    ),
    PermitVector(
        "floor-above",
        "the device's floor is above its number, which is no release's",
        accepted(),
        lambda: case(good(), min_sequence=2**40),
    ),
)
VECTORS: tuple[PermitVector, ...] = (*_SIGNERS, *_KINDS, *_CONTENT, *_DEVICE)


def _as_list(content: bytes) -> bytes:
    return cbor.encode(tuple(cbor.decode(content).values()))


def _long_integer(content: bytes) -> bytes:
    """Write the number 1, member 5, in two bytes; the id follows it."""
    assert content.count(b"\x05\x01\x06") == 1
    return content.replace(b"\x05\x01\x06", b"\x05\x18\x01\x06")


def _unsorted(content: bytes) -> bytes:
    """Move the first member, the vendor, behind the others."""
    first = b"\x01" + cbor.encode(VENDOR)
    assert content[1:].startswith(first)
    return content[:1] + content[1 + len(first) :] + first
