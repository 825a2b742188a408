"""Small PKIs whose signers may sign channels, and channels of theirs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fwsign.format.channel import FORM, Channel, ChannelRelease, encode_channel
from fwsign.format.rollout import Rollout
from fwsign.format.statement import describe, encode_statement
from fwsign.format.suit import encode_manifest
from fwsign.keys.file import FileSigner
from fwsign.signing.channel import sign
from fwsign.signing.envelope import Identity
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedChannel
from fwsign.verify.verifier import Verifier
from fwsign.x509.roles import CONFIG_SIGNING
from support import (
    DAY,
    NOW,
    PRODUCT,
    VENDOR,
    Entity,
    Pki,
    make_block,
    make_leaf,
    make_pki,
    signed_digest,
)

SALT = bytes(range(16))
WEEK = 7 * DAY
ONE = ChannelRelease(b"\x01" * 32, 100, Rollout(SALT))


def make_channel(*releases: ChannelRelease, **more: Any) -> Channel:
    """Make the channel `stable` of `VENDOR`'s `PRODUCT`; `more` replaces fields."""
    own = Channel(VENDOR, PRODUCT, "stable", 7, int((NOW + WEEK).timestamp()), releases or (ONE,))
    return own._replace(**more)


def channel_pki(**more: Any) -> Pki:
    """Make a PKI whose leaf may sign channels; `more` goes to `make_leaf`."""
    root, issuing, _ = make_pki()
    return Pki(root, issuing, make_leaf(issuing, "rollout", **{"usages": [CONFIG_SIGNING], **more}))


def identity(pki: Pki, crls: Sequence[bytes] | None = None) -> Identity:
    """Return a PKI's leaf as a signer."""
    chain = pki.leaf.der, pki.issuing.der
    return Identity(FileSigner(pki.leaf.key), chain, pki.crls if crls is None else tuple(crls))


def signed(pki: Pki, channel: Channel | None = None, *, at: datetime = NOW) -> bytes:
    """Sign a channel as the library does it."""
    return sign(channel or make_channel(), [identity(pki)], [pki.root.anchor], at=at)[0]


def forged(
    pki: Pki, channel: Channel | None = None, *, content: bytes | None = None, **more: Any
) -> bytes:
    """Sign any channel without a check; `more` replaces fields of its manifest."""
    channel = channel or make_channel()
    content = encode_channel(channel) if content is None else content
    manifest = describe(FORM, channel.number, channel.identifiers, content, channel.expires)
    manifest = manifest._replace(**more)
    payload = signed_digest(encode_manifest(manifest))
    block = make_block(payload, pki.leaf.key, [pki.leaf.der, pki.issuing.der], pki.crls)
    return encode_statement(FORM, manifest, content, [block])


def verify_channel(
    data: bytes, anchors: Sequence[Entity], *, at: datetime = NOW, **more: Any
) -> VerifiedChannel:
    """Verify a channel for a device of `PRODUCT`; `name` and `seen` go to the verifier."""
    asked = {key: more.pop(key) for key in ("name", "seen") if key in more}
    policy = DevicePolicy(**{"vendor": VENDOR, "product": PRODUCT, **more})
    found = [one.anchor for one in anchors]
    return Verifier(found, policy).verify_channel(data, at=at, **asked)
