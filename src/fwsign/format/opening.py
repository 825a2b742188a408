# SPDX-License-Identifier: Apache-2.0
"""Open an envelope: steps 1, 2 and 7, which need no key, no anchor and no time."""

from collections.abc import Iterable

from fwsign.errors import Malformed, Tampered, check_limit
from fwsign.format import suit
from fwsign.format.cose import MAX_PROOFS_SIZE, Block, decode_block
from fwsign.format.envelope import Envelope, bstr_digest
from fwsign.format.text import Text, decode_text


def decode_blocks(encoded: Iterable[bytes]) -> list[Block]:
    """Step 1. Decode all blocks of an envelope, within the limit that they share.

    Raises:
        Malformed: `malformed.cbor`, `malformed.envelope`, `malformed.header`, `malformed.size`.
    """
    blocks = [decode_block(data) for data in encoded]
    proofs = [proof for block in blocks for proof in (*block.chain, block.token or b"")]
    size = sum(map(len, proofs))
    check_limit(size, MAX_PROOFS_SIZE, f"certificates and tokens of {size} bytes")
    return blocks


def decode_content(envelope: Envelope) -> tuple[suit.Manifest, Text | None]:
    """Step 7. Manifest and text match their templates, and nothing else rides along.

    Raises:
        Malformed: `malformed.profile`, `malformed.component`, `malformed.unreferenced-payload`,
            `malformed.cbor`, `malformed.size`.
        Tampered: `tampered.payload-absent`, `tampered.text`, `tampered.attachment`.
        Unsuitable: `unsuitable.trust-update`.
    """
    if envelope.other:
        raise Malformed(
            "malformed.profile",
            f"outside the fwsign profile of SUIT: envelope member {envelope.other[0]}",
        )
    manifest = suit.decode_manifest(envelope.manifest)
    text = _decode_text(envelope, manifest)
    attachments = {one.uri: one for one in text.attachments} if text else {}
    if extra := sorted(envelope.integrated.keys() - manifest.integrated - attachments.keys()):
        raise Malformed(
            "malformed.unreferenced-payload",
            f'no component names the integrated payload "{extra[0]}"',
            found=extra[0],
        )
    if gone := sorted(manifest.integrated - envelope.integrated.keys()):
        raise Tampered(
            "tampered.payload-absent",
            f'the integrated payload "{gone[0]}" is not in the envelope',
            expected=gone[0],
        )
    for uri, attachment in attachments.items():
        if uri in envelope.integrated:
            attachment.check(envelope.integrated[uri])
    return manifest, text


def _decode_text(envelope: Envelope, manifest: suit.Manifest) -> Text | None:
    if envelope.text is None:
        return None
    signed = manifest.text_digest
    if signed is None or bstr_digest(signed.algorithm, envelope.text) != signed.value:
        raise Tampered("tampered.text", "the text is not the one that was signed")
    return decode_text(envelope.text, manifest)
