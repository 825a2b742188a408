# SPDX-License-Identifier: Apache-2.0
"""Encode and decode the envelope, and the digest that its blocks sign (SUIT section 8)."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed, Tampered, check_limit
from fwsign.format import cbor, suit, suit_labels
from fwsign.format.algorithms import SHA256
from fwsign.format.payload import digest
from fwsign.format.suit_labels import Member

MAX_ENVELOPE_SIZE: Final = 32 * 1024 * 1024
"""Bytes; integrated payloads are held in memory, so larger ones stay outside the envelope."""
MAX_BLOCKS: Final = 8
"""Signatures of one envelope; each costs a path validation."""


class Envelope(NamedTuple):
    """The members of an envelope. The blocks sign `digest`; `blocks` are still opaque."""

    digest: bytes
    blocks: tuple[bytes, ...]
    manifest: bytes
    text: bytes | None
    integrated: Mapping[str, bytes]
    other: tuple[int, ...] = ()


def decode_envelope(data: bytes) -> Envelope:
    """Decode envelope and authentication wrapper; the rest stays opaque.

    Raises:
        Malformed: `malformed.size`, `malformed.cbor`, `malformed.envelope`.
    """
    check_limit(len(data), MAX_ENVELOPE_SIZE, f"envelope of {len(data)} bytes")
    match cbor.decode(data):
        case cbor.Tag(
            suit_labels.ENVELOPE_TAG,
            {Member.WRAPPER: bytes(wrapper), Member.MANIFEST: bytes(manifest), **rest},
        ):
            members: dict[Any, Any] = {**rest}
        case _:
            raise _bad_envelope("not a tagged SUIT envelope with wrapper and manifest")
    if unknown := [key for key in members if isinstance(key, int) and key not in Member.REGISTERED]:
        raise _bad_envelope(f"unknown member {unknown[0]}")
    if not all(isinstance(key, (int, str)) for key in members):
        raise _bad_envelope("a member that is neither a number nor a name")
    if odd := [key for key, member in members.items() if not isinstance(member, bytes)]:
        raise _bad_envelope(f"member {odd[0]} is not a byte string")
    match cbor.decode(wrapper):
        case (bytes(digest), *blocks) if all(isinstance(block, bytes) for block in blocks):
            pass
        case _:
            raise _bad_envelope("wrapper is not an array of a digest and blocks, each a bstr")
    check_limit(len(blocks), MAX_BLOCKS, f"{len(blocks)} signatures")
    integrated = {key: value for key, value in members.items() if isinstance(key, str)}
    other = tuple(key for key in members if isinstance(key, int) and key != Member.TEXT)
    text = members.get(Member.TEXT)
    return Envelope(digest, tuple(blocks), manifest, text, integrated, other)


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode an envelope; inverse of `decode_envelope`."""
    members: dict[int | str, bytes] = {
        Member.WRAPPER: cbor.encode((envelope.digest, *envelope.blocks)),
        Member.MANIFEST: envelope.manifest,
    }
    members.update(envelope.integrated)
    if envelope.text is not None:
        members[Member.TEXT] = envelope.text
    return cbor.encode(cbor.Tag(suit_labels.ENVELOPE_TAG, members))


def _bad_envelope(message: str) -> Malformed:
    return Malformed("malformed.envelope", message)


def bstr_digest(algorithm: int, data: bytes) -> bytes:
    """Hash bytes with their bstr head, as manifest and text are hashed (SUIT section 8.3)."""
    return digest(algorithm, cbor.byte_string_head(len(data)), data)


def encode_manifest_digest(manifest: bytes) -> bytes:
    """Return the bytes that blocks sign: the SUIT_Digest of a manifest."""
    return cbor.encode((SHA256, bstr_digest(SHA256, manifest)))


def check_manifest_digest(envelope: Envelope) -> bytes:
    """Step 2. The digest is that of the manifest. Return it.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`.
        Tampered: `tampered.manifest`.
    """
    signed = suit.decode_digest(cbor.decode(envelope.digest))
    found = bstr_digest(signed.algorithm, envelope.manifest)
    if found != signed.value:
        raise Tampered(
            "tampered.manifest",
            f"the manifest has digest {found.hex()}, the signed one is {signed.value.hex()}",
            expected=signed.value.hex(),
            found=found.hex(),
        )
    return found
