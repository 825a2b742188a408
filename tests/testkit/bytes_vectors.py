"""Steps 1 and 2: the bytes, before anyone is trusted."""

from collections.abc import Callable
from typing import Any

from fwsign.format import cbor
from fwsign.format.cose import CRLS, MAX_CERTIFICATE_SIZE, TOKEN, X5CHAIN, protected_header
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope
from hostile import (
    altered_block,
    block_of,
    blocks_in,
    close,
    encoded,
    with_block,
    with_blocks,
    with_members,
)
from support import (
    sign_with,
)
from testkit.vector import Case, Vector, accepted, case, pki, refused


def good() -> bytes:
    """Return an envelope that is accepted."""
    return sign_with(pki())


def member(envelope: Callable[[], bytes], key: Any, value: Any) -> Callable[[], Case]:
    """Set or take out a member of an envelope."""
    return lambda: case(with_members(envelope(), {key: value}))


def block(change: Callable[[list[Any]], None]) -> Callable[[], Case]:
    """Alter the block of a good envelope."""
    return lambda: case(with_block(good(), change))


def unprotected(label: int, value: Any) -> Callable[[], Case]:
    """Set a label in the unprotected header."""
    return block(lambda parts: parts[1].update({label: value}))


def header(protected: dict[Any, Any] | bytes) -> Callable[[], Case]:
    """Sign under another protected header."""
    raw = protected if isinstance(protected, bytes) else cbor.encode(protected)

    def make() -> Case:
        content = encoded()
        return case(close(content, block_of(pki(), content, protected=raw)))

    return make


def untagged() -> Case:
    """Leave the tag of the envelope out."""
    return case(cbor.encode(cbor.decode(good()).value))


def untagged_block() -> Case:
    """Leave the tag of the block out."""
    inner = cbor.encode(cbor.decode(blocks_in(good())[0]).value)
    return case(with_blocks(good(), inner))


def junk_block() -> Case:
    """Put a block beside the good one that is not a COSE_Sign1."""
    return case(with_blocks(good(), *blocks_in(good()), b"\x00"))


def both_buckets() -> Case:
    """Put alg into the unprotected header too."""
    return case(with_block(good(), lambda parts: parts[1].update({1: -9})))


def attached() -> Case:
    """Attach the payload that the signature is over."""
    envelope = good()
    payload = decode_envelope(envelope).digest

    def change(parts: list[Any]) -> None:
        parts[2] = payload

    return case(with_block(envelope, change))


def second_manifest() -> Case:
    """Repeat key 3 in the envelope, with another manifest."""
    data = good()
    other = encoded(sequence_number=999)
    pair = b"\x03" + cbor.encode(other)
    at = data.index(b"\x03" + cbor.encode(decode_envelope(data).manifest))
    return case(data[:2] + bytes([data[2] + 1]) + data[3:at] + pair + data[at:])


def wrong_alg_in_unprotected() -> Case:
    """Put alg into the unprotected header only."""

    def change(parts: list[Any]) -> None:
        parts[0] = cbor.encode({34: cbor.decode(parts[0])[34]})
        parts[1][1] = -9

    return case(with_block(good(), change))


def lone(parts: list[Any]) -> None:
    """Write a chain of one as an array."""
    parts[1][X5CHAIN] = parts[1][X5CHAIN][:1]


def no_chain(parts: list[Any]) -> None:
    """Take the certificates out, and the CRLs with them."""
    parts[1].clear()


VECTORS = (
    Vector("good", "one signer, its CRLs stapled", accepted(), lambda: case(good())),
    Vector(
        "size-envelope",
        "larger than 32 MiB",
        refused(1, "malformed.size"),
        lambda: case(bytes(MAX_ENVELOPE_SIZE + 1)),
    ),
    Vector(
        "size-certificate",
        "a certificate of more than 16 KiB",
        refused(1, "malformed.size"),
        unprotected(X5CHAIN, bytes(MAX_CERTIFICATE_SIZE + 1)),
    ),
    Vector(
        "size-blocks",
        "nine blocks",
        refused(1, "malformed.size"),
        lambda: case(with_blocks(good(), *blocks_in(good()) * 9)),
    ),
    Vector(
        "cbor-empty", "the envelope has no bytes", refused(1, "malformed.cbor"), lambda: case(b"")
    ),
    Vector(
        "cbor-trailing",
        "a byte follows the envelope",
        refused(1, "malformed.cbor"),
        lambda: case(good() + b"\0"),
    ),
    Vector(
        "cbor-truncated",
        "the last byte of the envelope is gone",
        refused(1, "malformed.cbor"),
        lambda: case(good()[:-1]),
    ),
    Vector(
        "cbor-indefinite",
        "a map of indefinite length",
        refused(1, "malformed.cbor"),
        lambda: case(good()[:2] + b"\xbf" + good()[3:] + b"\xff"),
    ),
    Vector(
        "cbor-items",
        "millions of items in a few bytes each",
        refused(1, "malformed.cbor"),
        lambda: case(b"\xd8\x6b" + (b"\x99\x10\x00" + b"\x99\x03\xe8" + b"\xa0" * 1000) * 30),
    ),
    Vector(
        "cbor-second-manifest",
        "key 3 twice",
        refused(1, "malformed.cbor"),
        second_manifest,
    ),
    Vector(
        "envelope-untagged",
        "the envelope has no tag 107",
        refused(1, "malformed.envelope"),
        untagged,
    ),
    Vector(
        "envelope-no-manifest",
        "the envelope has no member 3, the manifest",
        refused(1, "malformed.envelope"),
        member(good, 3, None),
    ),
    Vector(
        "envelope-unknown",
        "the envelope has member 99",
        refused(1, "malformed.envelope"),
        member(good, 99, b""),
    ),
    Vector(
        "envelope-null-text",
        "member 23, the text, is null",
        refused(1, "malformed.envelope"),
        lambda: case(cbor.encode(cbor.Tag(107, {**cbor.decode(good()).value, 23: None}))),
    ),
    Vector(
        "block-untagged", "a block without tag 18", refused(1, "malformed.envelope"), untagged_block
    ),
    Vector(
        "block-junk",
        "beside the good block, one that is no COSE_Sign1",
        refused(1, "malformed.envelope"),
        junk_block,
    ),
    Vector(
        "block-attached",
        "the signed payload is attached to the block",
        refused(1, "malformed.envelope"),
        attached,
    ),
    Vector(
        "header-both-buckets",
        "alg stands in both headers",
        refused(1, "malformed.header"),
        both_buckets,
    ),
    Vector(
        "header-alg-unprotected",
        "alg stands in the unprotected header alone",
        refused(1, "malformed.header"),
        wrong_alg_in_unprotected,
    ),
    Vector(
        "header-crit",
        "the protected header has crit",
        refused(1, "malformed.header"),
        header({1: -9, 2: (34,), 34: (-16, bytes(32))}),
    ),
    Vector(
        "header-unknown",
        "the unprotected header has an unknown label",
        refused(1, "malformed.header"),
        unprotected(99, 0),
    ),
    Vector(
        "header-empty",
        "the protected header is empty",
        refused(1, "malformed.header"),
        header(b"\xa0"),
    ),
    Vector(
        "header-chain-of-one",
        "x5chain is an array of one",
        refused(1, "malformed.header"),
        block(lone),
    ),
    Vector(
        "header-x5t-alone", "x5t without x5chain", refused(1, "malformed.header"), block(no_chain)
    ),
    Vector(
        "header-x5chain-alone",
        "x5chain without x5t",
        refused(1, "malformed.header"),
        header(protected_header(-9)),
    ),
    Vector(
        "header-x5t-sha1",
        "x5t names another hash than SHA-256",
        refused(1, "malformed.header"),
        header({1: -9, 34: (-14, bytes(20))}),
    ),
    Vector(
        "header-no-crls",
        "the list of CRLs is empty",
        refused(1, "malformed.header"),
        unprotected(CRLS, ()),
    ),
    Vector(
        "manifest-altered",
        "another manifest under the signature",
        refused(2, "tampered.manifest"),
        lambda: case(with_members(good(), {3: encoded(sequence_number=999)})),
    ),
    Vector(
        "manifest-digest-kind",
        "the signed digest is none",
        refused(2, "malformed.profile"),
        lambda: case(close(encoded(), *blocks_in(good()), payload=cbor.encode((-14, bytes(20))))),
    ),
    Vector(
        "token",
        "bytes that are no time-stamp token: as if there were none",
        accepted(
            "time-stamp token not counted: time-stamp token: no element of type 0x30 at byte 0"
        ),
        unprotected(TOKEN, b"token"),
    ),
    Vector(
        "good-other-order-of-crls",
        "the order of CRLs does not matter",
        accepted(),
        lambda: case(
            with_block(good(), lambda parts: parts[1].update({CRLS: parts[1][CRLS][::-1]}))
        ),
    ),
    Vector(
        "good-duplicated-block",
        "one block twice counts once",
        accepted(),
        lambda: case(with_blocks(good(), *blocks_in(good()) * 2)),
    ),
    Vector(
        "block-signature-of-another",
        "the block has the signature of another block",
        refused(3, "tampered.signature"),
        lambda: case(
            with_block(
                good(),
                lambda parts: parts.__setitem__(
                    3, cbor.decode(blocks_in(good())[0]).value[3][::-1]
                ),
            )
        ),
    ),
    Vector(
        "block-null",
        "the block is null",
        refused(1, "malformed.envelope"),
        lambda: case(
            with_blocks(
                good(),
                altered_block(blocks_in(good())[0], lambda parts: parts.__setitem__(3, None)),
            )
        ),
    ),
)
