# SPDX-License-Identifier: Apache-2.0
"""COSE hash envelopes (RFC 9995): a signature on the digest of one file, of any kind.

A hash envelope is a tagged COSE_Sign1 whose payload is the digest. It has the headers of a block,
and three more in the protected bucket: the digest's algorithm, and perhaps the file's media type
and its name. It says nothing of devices, versions or rollback, and never counts as a release.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed, check_limit
from fwsign.format import cbor, cose
from fwsign.format.algorithms import DIGESTS, SHA256
from fwsign.format.payload import digest

PAYLOAD_HASH_ALG: Final = 258
CONTENT_TYPE: Final = 259
LOCATION: Final = 260
MAX_TEXT: Final = 1024
"""Bytes of a media type, or of a name."""
_KNOWN: Final[Mapping[int, str]] = MappingProxyType(
    {CONTENT_TYPE: "preimage content type", LOCATION: "payload location"}
)


class HashEnvelope(NamedTuple):
    """A decoded hash envelope.

    Args:
        block: its headers and its signature.
        algorithm: COSE identifier of the digest.
        value: the file's digest.
        name: the file's name or address, for people and programs; None if it states none.
        content_type: the file's media type, or its CoAP content format; None if it states none.
    """

    block: cose.Block
    algorithm: int
    value: bytes
    name: str | None = None
    content_type: str | int | None = None


def protected_header(leaf: bytes | None, algorithm: int, name: str | None) -> bytes:
    """Encode the protected header of a new hash envelope; its digest is SHA-256.

    Args:
        leaf: the signer's certificate, in DER; None for a bare key.
        algorithm: COSE identifier of the signature.
        name: the file's name.
    """
    header: dict[int, Any] = {cose.ALG: algorithm, PAYLOAD_HASH_ALG: SHA256}
    if leaf is not None:
        header[cose.X5T] = (SHA256, digest(SHA256, leaf))
    if name is not None:
        header[LOCATION] = name
    return cbor.encode(header)


def encode(block: cose.Block, value: bytes) -> bytes:
    """Encode a hash envelope; inverse of `decode`."""
    unprotected = cose.unprotected_map(block)
    return cbor.encode(cbor.Tag(18, (block.protected, unprotected, value, block.signature)))


def decode(data: bytes) -> HashEnvelope:
    """Decode a hash envelope, and check its headers against the closed list.

    Raises:
        Malformed: `malformed.cbor`, `malformed.envelope`, `malformed.header`, `malformed.size`.

    Source: RFC 9995 section 4; the labels stand in the protected header alone.
    """
    match cbor.decode(data):
        case cbor.Tag(18, (bytes(protected), dict(unprotected), bytes(value), bytes(signature))):
            pass
        case cbor.Tag(18, (_, _, None, _)):
            raise Malformed("malformed.envelope", "COSE_Sign1 without a payload, no hash envelope")
        case _:
            raise Malformed("malformed.envelope", "not a tagged COSE_Sign1 with a payload")
    header = cose.protected_map(protected)
    labels = (PAYLOAD_HASH_ALG, CONTENT_TYPE, LOCATION)
    own: dict[int, Any] = {label: header.pop(label) for label in labels if label in header}
    block = cose.Block(
        protected, signature=signature, **cose.headers(header, unprotected, signature)
    )
    algorithm: Any = own.get(PAYLOAD_HASH_ALG)
    if type(algorithm) is not int or algorithm not in DIGESTS:  # a map has no hash
        known = ", ".join(f"{one.name} ({number})" for number, one in DIGESTS.items())
        shown = f"{algorithm!s:.40}"
        raise _bad(f"payload hash algorithm {shown}, expected {known}", known, shown)
    size = DIGESTS[algorithm].size
    if len(value) != size:
        expected, found = f"{size} bytes", f"{len(value)} bytes"
        raise _bad(f"a payload of {found}, expected {expected}", expected, found)
    for label in own.keys() - {PAYLOAD_HASH_ALG}:
        if label == LOCATION or not _is_content_format(own[label]):
            _check_text(label, own[label])
    return HashEnvelope(block, algorithm, value, own.get(LOCATION), own.get(CONTENT_TYPE))


def _is_content_format(value: object) -> bool:
    """Tell whether a value is a CoAP Content-Format (RFC 7252 section 12.3)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16


def _check_text(label: int, value: object) -> None:
    """Refuse what is no short and printable text."""
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise _bad(f"{_KNOWN[label]} is not printable text", "text", type(value).__name__)
    size = len(value.encode())
    check_limit(size, MAX_TEXT, f"{_KNOWN[label]} of {size} bytes")


def _bad(message: str, expected: object, found: object) -> Malformed:
    return Malformed(
        "malformed.header", f"hash envelope: {message}", expected=expected, found=found
    )
