"""Ways to break envelopes: opened, altered and closed again; and what may come of it."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from fwsign.errors import CODES, FwsignError
from fwsign.format import cbor, suit
from fwsign.format.envelope import Envelope, decode_envelope, encode_envelope
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.anchor import Anchor
from support import NOW, Pki, der, make_block, make_manifest, refused, signed_digest, verify

_Found = TypeVar("_Found")


@contextmanager
def refused_at(step: int | None, code: str, *words: str) -> Iterator[None]:
    """Expect a refusal at a step, with a code, and words in its message."""
    with refused(code, *words) as caught:
        yield
    assert caught.value.step == step
    assert code in CODES
    assert isinstance(caught.value, FwsignError)
    assert code.split(".", maxsplit=1)[0] in caught.value.prefixes


def outcome(call: Callable[..., _Found], *arguments: Any, **more: Any) -> _Found | FwsignError:
    """Return what verifying gave; anything but a refusal that the table knows is a failure."""
    try:
        return call(*arguments, **more)
    except FwsignError as refusal:
        error = refusal
    assert error.code in CODES
    assert error.code.split(".")[0] in error.prefixes
    assert error.message
    return error


def no_stronger(found: VerifiedRelease, original: VerifiedRelease) -> bool:
    """Tell whether an accepted result says nothing that the original does not say."""
    return (
        found.manifest == original.manifest
        and found.manifest_digest == original.manifest_digest
        and found.text in (original.text, None)
        and found.vendor == original.vendor
        and counted(found) <= counted(original)
        and set(found.unchecked) >= set(original.unchecked)
    )


def counted(release: VerifiedRelease) -> set[str]:
    """Return the keys of the leaves that count."""
    return {one.path.keys[0] for one in release.signers if one.path and one.refusal is None}


def spki(key: Any) -> str:
    """Return the SPKI SHA-256 in hex of a private key's public one, as policies pin it."""
    return hashlib.sha256(der(key.public_key())).hexdigest()


def bare(key: Any, vendors: Sequence[str] = ()) -> Anchor:
    """Pin a bare public key."""
    return Anchor.from_public_key(der(key.public_key()), vendors)


# --- envelopes, opened and closed again -----------------------------------------------------


def close(
    manifest: bytes, *blocks: bytes, text: bytes | None = None, payload: bytes | None = None
) -> bytes:
    """Put an envelope together; `payload` replaces the SUIT_Digest."""
    payload = signed_digest(manifest) if payload is None else payload
    return encode_envelope(Envelope(payload, blocks, manifest, text, {}))


def block_of(pki: Pki, manifest: bytes, crls: Sequence[bytes] | None = None, **more: Any) -> bytes:
    """Make a block of a PKI over a manifest; `more` goes to `make_block`."""
    chain = more.pop("chain", [pki.leaf.der, pki.issuing.der])
    stapled = pki.crls if crls is None else crls
    return make_block(signed_digest(manifest), pki.leaf.key, chain, stapled, **more)


def encoded(**more: Any) -> bytes:
    """Make a manifest, encoded."""
    return suit.encode_manifest(make_manifest(**more))


def with_members(envelope: bytes, changes: dict[Any, Any]) -> bytes:
    """Set members of an envelope; None takes one out."""
    members = {**cbor.decode(envelope).value, **changes}
    kept = {key: value for key, value in members.items() if value is not None}
    return cbor.encode(cbor.Tag(107, kept))


def blocks_in(envelope: bytes) -> tuple[bytes, ...]:
    """Return the blocks of an envelope."""
    return decode_envelope(envelope).blocks


def with_blocks(envelope: bytes, *blocks: bytes) -> bytes:
    """Replace the blocks of an envelope."""
    return encode_envelope(decode_envelope(envelope)._replace(blocks=blocks))


def altered_block(block: bytes, change: Callable[[list[Any]], None]) -> bytes:
    """Alter protected bytes, unprotected map, payload and signature of a block, in place."""
    parts = list(cbor.decode(block).value)
    change(parts)
    return cbor.encode(cbor.Tag(18, tuple(parts)))


def with_block(envelope: bytes, change: Callable[[list[Any]], None]) -> bytes:
    """Alter the first block of an envelope."""
    first, *others = blocks_in(envelope)
    return with_blocks(envelope, altered_block(first, change), *others)


def altered_manifest(manifest: bytes, change: Callable[[dict[Any, Any]], None]) -> bytes:
    """Alter a manifest: the inner byte strings of 3, its 4, 7 and 20 are lists and maps."""
    members = cbor.decode(manifest)
    common = cbor.decode(members[3])
    members[3] = {**common, 4: list(cbor.decode(common[4]))}
    members[7], members[20] = (list(cbor.decode(members[key])) for key in (7, 20))
    change(members)
    if isinstance(members.get(3), dict):
        inner = members[3]
        if isinstance(inner.get(4), list):
            inner[4] = cbor.encode(inner[4])
        members[3] = cbor.encode(inner)
    for key in (7, 20):
        if isinstance(members.get(key), list):
            members[key] = cbor.encode(members[key])
    return cbor.encode(members)


def judge(
    pki: Pki, manifest: bytes, *blocks: bytes, anchors: Sequence[Any] = (), **policy: Any
) -> VerifiedRelease:
    """Close an envelope and verify it as the device."""
    at = policy.pop("at", NOW)
    return verify(close(manifest, *blocks), anchors or [pki.root], at=at, **policy)
