"""Channels: who may sign one, what it may say, and whom it is for."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cryptography import x509

from channel_kit import ONE, SALT, WEEK, forged, make_channel
from fwsign.format import cbor
from fwsign.format.channel import MAX_RELEASES, ChannelRelease, encode_channel
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import decode_envelope
from fwsign.format.payload import digest
from fwsign.format.rollout import Rollout
from fwsign.verify.channel import SeenChannel
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.anchor import Anchor
from fwsign.x509.roles import CONFIG_SIGNING
from hostile import blocks_in, with_blocks, with_members
from support import (
    CODE_SIGNING,
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    Entity,
    Pki,
    key_usage,
    make_block,
    make_ca,
    make_crl,
    make_leaf,
    sign_with,
)
from testkit import trust_vectors
from testkit.fixed import shared
from testkit.vector import pki


class ChannelCase(NamedTuple):
    """What a verifier is given; `name` and `seen` are what the device follows, and saw last."""

    envelope: bytes
    anchors: Sequence[Anchor]
    policy: DevicePolicy
    at: datetime = NOW
    name: str | None = "stable"
    seen: SeenChannel | None = SeenChannel(6, bytes(32))


class ChannelVector(NamedTuple):
    """A case with its name, what it shows, the verdict, and the function that makes it."""

    name: str
    says: str
    expected: Mapping[str, Any]
    make: Callable[[], ChannelCase]


@shared
def signer(vendor: str = VENDOR, use: str = "channels") -> Pki:
    """Return the PKI of most vectors, with a leaf for channels, or for code as well."""
    own = pki()
    usages = (CONFIG_SIGNING,) if use == "channels" else (CONFIG_SIGNING, CODE_SIGNING)
    leaf = make_leaf(own.issuing, "rollout", vendors=[vendor], usages=usages)
    return Pki(own.root, own.issuing, leaf)


def case(envelope: bytes, *anchors: Entity, **more: Any) -> ChannelCase:
    """Make a case for a device of the test product."""
    given = {key: more.pop(key) for key in ("at", "name", "seen") if key in more}
    policy = DevicePolicy(**{"vendor": VENDOR, "product": PRODUCT, **more})
    return ChannelCase(envelope, [one.anchor for one in anchors or [pki().root]], policy, **given)


def good(**more: Any) -> bytes:
    """Make a channel; `more` replaces fields of it."""
    return forged(signer(), make_channel(**more))


def said(change: Mapping[int, Any]) -> ChannelCase:
    """Make a channel whose content has other members."""
    members = {**cbor.decode(encode_channel(make_channel())), **change}
    return case(forged(signer(), content=cbor.encode(members)))


def releases(*numbers: int) -> tuple[ChannelRelease, ...]:
    """Make releases of these sequence numbers, each with a digest of its own."""
    rollout = Rollout(SALT)
    return tuple(ChannelRelease(one.to_bytes(32, "big"), one, rollout) for one in numbers)


def of_kind(identifier: bytes, by: Pki) -> bytes:
    """Sign an envelope with a channel's content, whose only component is another."""
    content = encode_channel(make_channel())
    part = Component((identifier,), Digest(-16, digest(-16, content)), len(content), "#channel")
    return forged(by, components=(part,))


def by_bare_key(data: bytes) -> bytes:
    """Replace the signature of an envelope by that of a key without a certificate."""
    signed = decode_envelope(data).digest
    return with_blocks(data, make_block(signed, trust_vectors.key("bare")))


def lax() -> bytes:
    """Make a channel whose signer's usage is not critical."""
    own = pki()
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([CONFIG_SIGNING]), False),
        (x509.SubjectAlternativeName([x509.DNSName(VENDOR)]), False),
    ]
    leaf = make_leaf(own.issuing, "rollout", extensions=extensions)
    return forged(Pki(own.root, own.issuing, leaf))


def accepted(*unchecked: str, number: int = 7) -> dict[str, Any]:
    """Expect acceptance, with the channel's number."""
    return {"verdict": "accepted", "number": number, "unchecked": list(unchecked), "notes": []}


def refused(step: int, code: str) -> dict[str, Any]:
    """Expect a refusal."""
    return {"verdict": "refused", "code": code, "step": step}


EKU = "untrusted.eku"
VECTORS = (
    ChannelVector("good", "a channel by a signer of channels", accepted(), lambda: case(good())),
    ChannelVector(
        "first",
        "a device that has seen none, and takes a channel of any name",
        accepted("rollback"),
        lambda: case(good(), seen=None, name=None),
    ),
    ChannelVector(
        "most",
        "all that a channel may say",
        accepted(),
        lambda: case(
            forged(
                signer(),
                make_channel(
                    ChannelRelease(bytes(64), 2, Rollout(SALT, 0, ("lab", "pilot"), 1, 2)),
                    ChannelRelease(bytes(48), 3, Rollout(SALT, 1)),
                    hold="wait",
                ),
            )
        ),
    ),
    ChannelVector(
        "threshold",
        "a device that wants two signers of a release takes a channel by one",
        accepted(),
        lambda: case(good(), threshold=2),
    ),
    ChannelVector(
        "release-key",
        "a release key signs it",
        refused(3, EKU),
        lambda: case(forged(pki())),
    ),
    ChannelVector(
        "both-usages",
        "its signer may sign code, too",
        refused(3, EKU),
        lambda: case(forged(signer(VENDOR, "both"))),
    ),
    ChannelVector(
        "usage-not-critical",
        "the usage of its signer is not critical, which compat does not forgive either",
        refused(3, "untrusted.criticality"),
        lambda: case(lax(), profile="compat"),
    ),
    ChannelVector(
        "bare-key",
        "a key without a certificate signs it",
        refused(3, EKU),
        lambda: case(by_bare_key(good())),
    ),
    ChannelVector(
        "foreign-ca",
        "a CA that is not pinned vouches for it",
        refused(3, "untrusted.no-anchor"),
        lambda: case(good(), make_ca("Other")),
    ),
    ChannelVector(
        "no-signature",
        "its signature was taken away",
        refused(6, "untrusted.signers"),
        lambda: case(with_blocks(good())),
    ),
    ChannelVector(
        "other-channels-signature",
        "the signature is that of another channel",
        refused(3, "tampered.signature"),
        lambda: case(with_blocks(good(), *blocks_in(good(number=8)))),
    ),
    ChannelVector(
        "revoked",
        "its signer is revoked",
        refused(5, "untrusted.revoked"),
        lambda: case(
            good(),
            crls=(make_crl(pki().issuing, [signer().leaf], number=2), make_crl(pki().root)),
        ),
    ),
    ChannelVector(
        "other-vendors-signer",
        "its signer may sign for another vendor alone",
        refused(8, "untrusted.vendor"),
        lambda: case(forged(signer("other.example"))),
    ),
    ChannelVector(
        "release",
        "a release, by a signer of channels",
        refused(7, "unsuitable.release"),
        lambda: case(sign_with(signer())),
    ),
    ChannelVector(
        "permit",
        "a permit, by a signer of channels",
        refused(7, "unsuitable.permit"),
        lambda: case(of_kind(b"permit", signer())),
    ),
    ChannelVector(
        "trust-update",
        "the manifest of a trust update, by a signer of channels",
        refused(7, "unsuitable.trust-update"),
        lambda: case(of_kind(b"trust", signer())),
    ),
    ChannelVector(
        "content-absent",
        "its content was taken out",
        refused(7, "tampered.payload-absent"),
        lambda: case(with_members(good(), {"#channel": None})),
    ),
    ChannelVector(
        "content-swapped",
        "its content is that of another",
        refused(7, "tampered.payload-digest"),
        lambda: case(with_members(good(), {"#channel": encode_channel(make_channel(hold="x"))})),
    ),
    ChannelVector(
        "more-inside",
        "it has another payload inside",
        refused(7, "malformed.profile"),
        lambda: case(with_members(good(), {"#more": b"x"})),
    ),
    ChannelVector(
        "no-expiry",
        "it never expires",
        refused(7, "malformed.profile"),
        lambda: case(forged(signer(), use_before=None)),
    ),
    ChannelVector(
        "unknown-member",
        "its content has a member that no template has",
        refused(7, "malformed.channel"),
        lambda: said({6: 1}),
    ),
    ChannelVector(
        "other-products-content",
        "its content is for another product than its manifest",
        refused(7, "malformed.channel"),
        lambda: said({2: "gateway-x2"}),
    ),
    ChannelVector(
        "upper-case-name",
        "its name has a capital",
        refused(7, "malformed.channel"),
        lambda: case(good(name="Stable")),
    ),
    ChannelVector(
        "duplicate-release",
        "it names one release twice",
        refused(7, "malformed.channel"),
        lambda: case(forged(signer(), make_channel(ONE, ONE))),
    ),
    ChannelVector(
        "releases-unsorted",
        "its releases are not in order",
        refused(7, "malformed.channel"),
        lambda: case(forged(signer(), make_channel(*releases(2, 1)))),
    ),
    ChannelVector(
        "share-above-all",
        "a share of more than all devices",
        refused(7, "malformed.channel"),
        lambda: case(forged(signer(), make_channel(ONE._replace(rollout=Rollout(SALT, 10_001))))),
    ),
    ChannelVector(
        "window-backwards",
        "a window that ends before it begins",
        refused(7, "malformed.channel"),
        lambda: case(
            forged(signer(), make_channel(ONE._replace(rollout=Rollout(SALT, 1, (), 2, 1))))
        ),
    ),
    ChannelVector(
        "too-many-releases",
        "it names more releases than the limit",
        refused(7, "malformed.size"),
        lambda: case(forged(signer(), make_channel(*releases(*range(MAX_RELEASES + 1))))),
    ),
    ChannelVector(
        "number-above-all",
        "its number is 2^53",
        refused(7, "malformed.profile"),
        lambda: case(good(number=2**53)),
    ),
    ChannelVector(
        "other-product",
        "it is for another product",
        refused(9, "unsuitable.product"),
        lambda: case(good(product="gateway-x2")),
    ),
    ChannelVector(
        "other-vendor",
        "it is for another vendor's devices",
        refused(9, "unsuitable.vendor"),
        lambda: case(good(), vendor="other.example"),
    ),
    ChannelVector(
        "other-name",
        "it is the channel beta, and the device follows stable",
        refused(9, "unsuitable.channel-name"),
        lambda: case(good(name="beta")),
    ),
    ChannelVector(
        "last-second",
        "it expires a second later",
        accepted(),
        lambda: case(good(expires=int(NOW.timestamp()) + 1)),
    ),
    ChannelVector(
        "frozen",
        "it has expired",
        refused(9, "stale.channel"),
        lambda: case(good(), at=NOW + WEEK),
    ),
    ChannelVector(
        "old",
        "its number is below that of the last channel",
        refused(9, "unsuitable.rollback"),
        lambda: case(good(), seen=SeenChannel(8, bytes(32))),
    ),
    ChannelVector(
        "same-number",
        "its number is that of the last channel, which was another",
        refused(9, "unsuitable.conflict"),
        lambda: case(good(), seen=SeenChannel(7, bytes(32))),
    ),
    ChannelVector(
        "a-day-ahead",
        "its number is a day ahead of the time",
        accepted(number=int((NOW + DAY).timestamp())),
        lambda: case(good(number=int((NOW + DAY).timestamp()))),
    ),
    ChannelVector(
        "fast-forward",
        "its number is more than a day ahead of the time",
        refused(9, "unsuitable.fast-forward"),
        lambda: case(good(number=int((NOW + DAY).timestamp()) + 1)),
    ),
)
