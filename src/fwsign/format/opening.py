# SPDX-License-Identifier: Apache-2.0
"""Open an envelope: steps 1, 2 and 7, which need no key, no anchor and no time."""

from collections.abc import Iterable

from fwsign.errors import Malformed, Tampered, check_limit
from fwsign.format import cbor, suit
from fwsign.format.algorithms import SHA256
from fwsign.format.cose import MAX_PROOFS_SIZE, Block, decode_block
from fwsign.format.payload import digest


def encode_manifest_digest(manifest: bytes) -> bytes:
    """Return the bytes that blocks sign: the SUIT_Digest of a manifest with its bstr head."""
    head = cbor.byte_string_head(len(manifest))
    return cbor.encode((SHA256, digest(SHA256, head, manifest)))


def check_manifest_digest(envelope: suit.Envelope) -> bytes:
    """Step 2. The digest covers the manifest with its bstr head (SUIT section 8.3).

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`.
        Tampered: `tampered.manifest`.
    """
    signed = suit.decode_digest(cbor.decode(envelope.digest))
    head = cbor.byte_string_head(len(envelope.manifest))
    found = digest(signed.algorithm, head, envelope.manifest)
    if found != signed.value:
        raise Tampered(
            "tampered.manifest",
            f"the manifest has digest {found.hex()}, the signed one is {signed.value.hex()}",
            expected=signed.value.hex(),
            found=found.hex(),
        )
    return found


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


def decode_content(envelope: suit.Envelope) -> tuple[suit.Manifest, suit.Text | None]:
    """Step 7. Manifest and text match their templates, and nothing else rides along.

    Raises:
        Malformed: `malformed.profile`, `malformed.component`, `malformed.unreferenced-payload`,
            `malformed.cbor`, `malformed.size`.
        Tampered: `tampered.payload-absent`, `tampered.text`.
        Unsuitable: `unsuitable.trust-update`.
    """
    if envelope.other:
        raise Malformed(
            "malformed.profile",
            f"outside the fwsign profile of SUIT: envelope member {envelope.other[0]}",
        )
    manifest = suit.decode_manifest(envelope.manifest)
    if extra := sorted(envelope.integrated.keys() - manifest.integrated):
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
    if envelope.text is None:
        return manifest, None
    signed = manifest.text_digest
    head = cbor.byte_string_head(len(envelope.text))
    if signed is None or digest(signed.algorithm, head, envelope.text) != signed.value:
        raise Tampered("tampered.text", "the text is not the one that was signed")
    return manifest, suit.decode_text(envelope.text, manifest)
