# SPDX-License-Identifier: Apache-2.0
"""Trust updates as bytes: an envelope whose only component is a list of anchors."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Tampered, check_limit
from fwsign.format import cbor, suit
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.cose import Block, decode_block
from fwsign.format.envelope import (
    MAX_ENVELOPE_SIZE,
    Envelope,
    check_manifest_digest,
    decode_envelope,
    encode_envelope,
    encode_manifest_digest,
)
from fwsign.format.payload import digest
from fwsign.format.suit_labels import Common, Key
from fwsign.trust.lists import TrustState, Update, decode_content, encode_content

MAX_UPDATE_SIZE: Final = 1024 * 1024
"""Bytes; 32 anchors with ML-DSA-87 certificates and 8 such signatures have 280 kB."""
_URI: Final = "#trust"


class Opened(NamedTuple):
    """An update with consistent bytes; its signatures are not checked yet."""

    manifest: suit.Manifest
    signed: bytes
    blocks: tuple[Block, ...]
    content: bytes

    @property
    def number(self) -> int:
        """The number of the update."""
        return self.manifest.sequence_number


def split_updates(data: bytes) -> tuple[bytes, ...]:
    """Split a file of updates, which follow one another in it (RFC 8742).

    Args:
        data: the file's content, at most 32 MiB.

    Raises:
        Malformed: `malformed.size`, `malformed.cbor`.
    """
    check_limit(len(data), MAX_ENVELOPE_SIZE, f"{len(data)} bytes of trust updates")
    return cbor.split_sequence(data)


def is_update(data: bytes) -> bool:
    """Tell whether a file begins with a trust update, which may be invalid."""
    try:
        envelope = decode_envelope(cbor.split_sequence(data)[0])
        match cbor.decode(envelope.manifest):
            case {Key.COMMON: bytes(common)}:
                return bool(cbor.decode(common)[Common.COMPONENTS] == (suit.TRUST_LIST,))
    except (Malformed, LookupError, TypeError):
        pass
    return False


def encode_update(update: Update, blocks: Sequence[bytes] = ()) -> bytes:
    """Encode an update with the blocks that sign it; inverse of `decode_update`."""
    content = encode_content(update)
    manifest = suit.encode_manifest(_describe(update.trust, content))
    signed = encode_manifest_digest(manifest)
    return encode_envelope(Envelope(signed, tuple(blocks), manifest, None, {_URI: content}))


def decode_update(data: bytes) -> Update:
    """Decode an update. Only `verify_update` decides whether a device may use it.

    Raises:
        FwsignError: `malformed.*`, `tampered.*`, `unsuitable.release`, `untrusted.*`.
    """
    return decode_list(open_update(data))


def _describe(trust: TrustState, content: bytes) -> suit.Manifest:
    image = Digest(SHA256, digest(SHA256, content))
    component = Component(suit.TRUST_LIST, image, len(content), _URI)
    return suit.Manifest(trust.number, *trust.identifiers, (component,))


def open_update(data: bytes) -> Opened:
    """Decode an update and check its digests; its signatures and its list come later.

    Raises:
        Malformed: `malformed.*`.
        Tampered: `tampered.*`.
        Unsuitable: `unsuitable.release`.
    """
    check_limit(len(data), MAX_UPDATE_SIZE, f"trust update of {len(data)} bytes")
    envelope = decode_envelope(data)
    blocks = tuple(map(decode_block, envelope.blocks))
    check_manifest_digest(envelope)
    manifest = _decode_manifest(envelope.manifest)
    if envelope.other or envelope.text is not None or envelope.integrated.keys() - {_URI}:
        raise suit.outside("a trust update with more than wrapper, manifest and list")
    content = envelope.integrated.get(_URI)
    image = manifest.components[0]
    if content is None:
        raise Tampered("tampered.payload-absent", "the list was taken out of the trust update")
    found = digest(image.digest.algorithm, content)
    if (found, len(content)) != (image.digest.value, image.size):
        raise Tampered("tampered.payload-digest", "the list is not the one that was signed")
    # Checked last, so that a release gets the message that it is one.
    if any(block.chain or block.token is not None for block in blocks):
        raise Malformed(
            "malformed.header",
            "a trust update is signed by keys of anchors, without certificates and time stamps",
        )
    return Opened(manifest, envelope.digest, blocks, content)


def _decode_manifest(data: bytes) -> suit.Manifest:
    """Match a manifest to the template of trust updates: the least one, with one component."""
    manifest = suit.decode_manifest(data, of_trust=True)
    component = manifest.components[0]._replace(uri=_URI)
    if manifest != suit.Manifest(*manifest[:3], (component,)):
        raise suit.outside("a manifest of a trust update with more or other than its template has")
    return manifest


def decode_list(opened: Opened) -> Update:
    """Decode the list of an opened update, and check that it is for the manifest's product.

    Raises:
        Malformed: `malformed.*`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    update = decode_content(opened.content, opened.number)
    if update.trust.identifiers != (opened.manifest.vendor_id, opened.manifest.class_id):
        raise Malformed("malformed.trust", "the list is for another product than its manifest")
    return update
