# SPDX-License-Identifier: Apache-2.0
"""Trust updates as bytes: an envelope whose only component is a list of anchors."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, check_limit
from fwsign.format import cbor, suit
from fwsign.format.cose import Block, decode_block
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope
from fwsign.format.statement import Form, describe, encode_statement, kind_in, open_statement
from fwsign.trust.lists import Update, decode_content, encode_content

MAX_UPDATE_SIZE: Final = 1024 * 1024
"""Bytes; 32 anchors with ML-DSA-87 certificates and 8 such signatures have 280 kB."""
FORM: Final = Form("trust-update", "list")


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
        return kind_in(cbor.split_sequence(data)[0]) == FORM.kind
    except Malformed:
        return False


def encode_update(update: Update, blocks: Sequence[bytes] = ()) -> bytes:
    """Encode an update with the blocks that sign it; inverse of `decode_update`."""
    content = encode_content(update)
    manifest = describe(FORM, update.trust.number, update.trust.identifiers, content)
    return encode_statement(FORM, manifest, content, blocks)


def decode_update(data: bytes) -> Update:
    """Decode an update. Only `verify_update` decides whether a device may use it.

    Raises:
        FwsignError: `malformed.*`, `tampered.*`, `unsuitable.release`, `untrusted.*`.
    """
    return decode_list(open_update(data))


def open_update(data: bytes) -> Opened:
    """Decode an update and check its digests; its signatures and its list come later.

    Raises:
        Malformed: `malformed.*`.
        Tampered: `tampered.*`.
        Unsuitable: `unsuitable.*`: it is of another kind.
    """
    check_limit(len(data), MAX_UPDATE_SIZE, f"trust update of {len(data)} bytes")
    envelope = decode_envelope(data)
    blocks = tuple(map(decode_block, envelope.blocks))
    opened = open_statement(FORM, envelope)
    # Checked last, so that a release gets the message that it is one.
    if any(block.chain or block.token is not None for block in blocks):
        raise Malformed(
            "malformed.header",
            "a trust update is signed by keys of anchors, without certificates and time stamps",
        )
    return Opened(opened.manifest, envelope.digest, blocks, opened.content)


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
