"""What decodes re-encodes to the same bytes; what is altered at random is refused, with a code."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwsign.errors import FwsignError
from fwsign.format import cbor, suit
from fwsign.format.component import BlockList, Component, Digest
from fwsign.format.cose import decode_block, encode_block
from fwsign.format.envelope import Envelope, decode_envelope, encode_envelope
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from hostile import block_of, close, encoded, no_stronger, outcome
from mutation import (
    Dice,
    close_der,
    close_tree,
    mutate_der,
    mutate_tree,
    open_der,
    open_tree,
)
from support import (
    NOW,
    PAYLOAD,
    Pki,
    component,
    device,
    make_block,
    make_crl,
    make_manifest,
    make_pki,
    parts,
    resign,
    sign_with,
    signed_digest,
    stride,
    verify,
)

SEEDS = range(12 // stride(3))
NAMES = st.from_regex(r"[a-z0-9_][a-z0-9._+-]{0,20}[a-z0-9]", fullmatch=True).filter(
    lambda name: not name.startswith(("con", "prn", "aux", "nul", "com", "lpt", "blocks"))
)
DIGESTS = st.sampled_from([(-16, 32), (-43, 48), (-44, 64)]).flatmap(
    lambda kind: st.builds(Digest, st.just(kind[0]), st.binary(min_size=kind[1], max_size=kind[1]))
)
FLASH = st.tuples(st.just(b"flash"), st.just(b"esp32c3"), st.binary(min_size=4, max_size=4))
FILES = NAMES.map(lambda name: (b"file", name.encode()))


@st.composite
def manifests(draw: st.DrawFn) -> suit.Manifest:
    """Any manifest that the profile allows."""
    places = draw(st.lists(st.one_of(FLASH, FILES), min_size=1, max_size=5, unique=True))
    uris = draw(st.lists(NAMES, min_size=len(places), max_size=len(places), unique=True))
    components = tuple(
        Component(
            place,
            draw(DIGESTS),
            draw(st.integers(0, 2**48)),
            draw(st.sampled_from(["", "#"])) + uri,
        )
        for place, uri in zip(places, uris, strict=True)
    )
    listed = draw(st.sets(st.integers(0, len(components) - 1)))
    return suit.Manifest(
        draw(st.integers(0, 2**53 - 1)),
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.binary(min_size=16, max_size=16)),
        components,
        draw(st.none() | st.integers(0, suit.MAX_TIME)),
        draw(st.none() | st.lists(st.integers(-3, 10**9 - 1), min_size=1, max_size=10).map(tuple)),
        draw(st.none() | DIGESTS),
        tuple(BlockList(at, draw(DIGESTS), draw(st.integers(0, 2**48))) for at in sorted(listed)),
    )


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


# --- exactly one encoding -------------------------------------------------------------------


@given(manifests())
def test_manifest_round_trip(manifest: suit.Manifest) -> None:
    data = suit.encode_manifest(manifest)
    assert suit.decode_manifest(data) == manifest
    assert suit.encode_manifest(suit.decode_manifest(data)) == data


@given(manifests(), st.integers(0))
def test_manifest_that_decodes_has_one_encoding(manifest: suit.Manifest, seed: int) -> None:
    tree, dice = open_tree(cbor.decode(suit.encode_manifest(manifest))), Dice(seed)
    holder = [tree]
    mutate_tree(["array", holder], dice)
    data = b"".join(map(close_tree, holder))
    try:
        decoded = suit.decode_manifest(data)
    except FwsignError:
        return
    assert suit.encode_manifest(decoded) == data


ENVELOPES = st.builds(
    Envelope,
    st.binary(max_size=40),
    st.lists(st.binary(max_size=40), max_size=8).map(tuple),
    st.binary(max_size=40),
    st.none() | st.binary(max_size=40),
    st.dictionaries(st.text(max_size=9), st.binary(max_size=40), max_size=4),
    st.just(()),
)


@given(ENVELOPES)
def test_envelope_round_trip(envelope: Envelope) -> None:
    data = encode_envelope(envelope)
    assert decode_envelope(data) == envelope


@given(ENVELOPES, st.integers(0))
def test_envelope_that_decodes_has_one_encoding(envelope: Envelope, seed: int) -> None:
    data = bytearray(encode_envelope(envelope))
    dice = Dice(seed)
    for _ in range(1 + dice.below(3)):
        data[dice.below(len(data))] ^= 1 << dice.below(8)
    try:
        decoded = decode_envelope(bytes(data))
    except FwsignError:
        return
    if not decoded.other:
        assert encode_envelope(decoded) == bytes(data)


@given(st.integers(0))
def test_block_that_decodes_has_one_encoding(seed: int) -> None:
    dice = Dice(seed)
    chain = tuple(dice.bytes(9) for _ in range(dice.below(4)))
    header: dict[int, Any] = {1: -9, 34: (-16, bytes(32))} if chain else {1: -9, 4: b"k"}
    unprotected: dict[int, Any] = {}
    if chain:
        unprotected = {33: chain if len(chain) > 1 else chain[0], -1719104356: (dice.bytes(9),)}
    whole = cbor.Tag(18, (cbor.encode(header), unprotected, None, dice.bytes(70)))
    tree = [open_tree(whole)]
    if dice.below(2):
        mutate_tree(["array", tree], dice)
    data = b"".join(map(close_tree, tree))
    try:
        decoded = decode_block(data)
    except FwsignError:
        return
    assert encode_block(decoded) == data


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_an_envelope(data: bytes) -> None:
    root = pinned()
    assert isinstance(outcome(root.verify, data, at=NOW), FwsignError)


@cache
def pinned() -> Verifier:
    return Verifier([make_pki().root.anchor], device())


# --- alterations of structure ---------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_altered_structure_is_refused(pki: Pki, seed: int) -> None:
    manifest = make_manifest(component(), component(file="b.bin", uri="#b.bin"))
    envelope = sign_with(pki, manifest, integrated={"#b.bin": PAYLOAD})
    original = verify(envelope, [pki.root])
    assert close_tree(open_tree(cbor.decode(envelope))) == envelope
    dice, refusals = Dice(seed), 0
    for _ in range(250):
        tree = [open_tree(cbor.decode(envelope))]
        for _ in range(1 + dice.below(3)):
            mutate_tree(["array", tree], dice)
        data = b"".join(map(close_tree, tree))
        found = outcome(verify, data, [pki.root])
        refusals += isinstance(found, FwsignError)
        if isinstance(found, VerifiedRelease):  # lists swapped, unused ones gone
            assert no_stronger(found, original)
    assert refusals > 200


@pytest.mark.parametrize("seed", SEEDS)
def test_signed_manifest_of_altered_structure_never_escapes(pki: Pki, seed: int) -> None:
    # The signer itself is hostile: signed, but no template.
    content = suit.encode_manifest(make_manifest(component(), component(file="b.bin")))
    dice = Dice(f"signed {seed}")
    for _ in range(120):
        tree = [open_tree(cbor.decode(content))]
        mutate_tree(["array", tree], dice)
        data = b"".join(map(close_tree, tree))
        envelope = close(data, block_of(pki, data))
        found = outcome(verify, envelope, [pki.root])
        if isinstance(found, VerifiedRelease):
            assert suit.encode_manifest(found.manifest) == data


# --- alterations of certificates and CRLs ---------------------------------------------------


@pytest.mark.parametrize("which", ["leaf", "issuing", "crl of issuing", "crl of root"])
@pytest.mark.parametrize("seed", range(4 // stride(2)))
def test_altered_der_is_refused(pki: Pki, which: str, seed: int) -> None:
    # The block is signed again over an altered leaf, so that x5t does not hide the rest.
    dice, content = Dice((which, seed)), encoded()
    payload = signed_digest(content)
    for _ in range(100):
        chain, crls = [pki.leaf.der, pki.issuing.der], list(pki.crls)
        into = chain if which in ("leaf", "issuing") else crls
        at = {"leaf": 0, "issuing": 1, "crl of issuing": 0, "crl of root": 1}[which]
        tree = open_der(into[at])
        mutate_der(tree, dice)
        altered = close_der(tree)
        if altered == into[at]:
            continue
        into[at] = altered
        envelope = close(content, make_block(payload, pki.leaf.key, chain, crls))
        found = outcome(verify, envelope, [pki.root])
        assert isinstance(found, FwsignError), altered.hex()


@pytest.mark.parametrize("which", ["leaf", "issuing", "crl of issuing", "crl of root"])
@pytest.mark.parametrize("seed", range(4 // stride(2)))
def test_altered_der_signed_by_its_ca_never_escapes(pki: Pki, which: str, seed: int) -> None:
    # The CA itself is hostile, or its program broken.
    dice, content = Dice(("signed", which, seed)), encoded()
    payload = signed_digest(content)
    for _ in range(100):
        chain, crls = (
            [pki.leaf.der, pki.issuing.der],
            [make_crl(pki.issuing, [pki.root]), pki.crls[1]],
        )
        into = chain if which in ("leaf", "issuing") else crls
        at = {"leaf": 0, "issuing": 1, "crl of issuing": 0, "crl of root": 1}[which]
        tree = open_der(parts(into[at])[0])
        for _ in range(1 + dice.below(3)):
            mutate_der(tree, dice)
        inner = tree[0][1] if tree else b""
        key = pki.root.key if which in ("issuing", "crl of root") else pki.issuing.key
        into[at] = resign([inner if isinstance(inner, bytes) else close_der(inner)], key)
        envelope = close(content, make_block(payload, pki.leaf.key, chain, crls))
        for profile in ("strict", "compat"):
            outcome(verify, envelope, [pki.root], profile=profile)


@settings(max_examples=200)
@given(st.binary(max_size=120))
def test_any_bytes_in_place_of_a_certificate_are_refused(data: bytes) -> None:
    made, content = shared()
    envelope = close(
        content, make_block(signed_digest(content), made.leaf.key, [made.leaf.der, data])
    )
    assert isinstance(outcome(verify, envelope, [made.root]), FwsignError)


@cache
def shared() -> tuple[Pki, bytes]:
    return make_pki(), encoded()
