"""Attacks on the bytes of an envelope: headers, members, names, and what rides along."""

from collections.abc import Callable
from typing import Any

import pytest

from fwsign.format import cbor
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import CRLS, TOKEN, X5CHAIN, protected_header
from fwsign.format.payload import digest
from hostile import (
    block_of,
    blocks_in,
    close,
    encoded,
    judge,
    refused_at,
    with_block,
    with_blocks,
    with_members,
)
from support import PAYLOAD, Pki, component, make_block, make_manifest, make_pki, sign_with, verify


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def good(pki: Pki) -> bytes:
    return sign_with(pki)


@pytest.fixture(scope="module")
def embedded(pki: Pki) -> bytes:
    manifest = make_manifest(component(uri="#build.bin"))
    return sign_with(pki, manifest, integrated={"#build.bin": PAYLOAD})


# --- headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda block: block[1].update({X5CHAIN: block[1][X5CHAIN][:1]}), "header", "x5chain is"),
        (lambda block: block[1].update({X5CHAIN: ()}), "header", "x5chain is neither"),
        (lambda block: block[1].update({X5CHAIN: None}), "header", "x5chain is null"),
        (lambda block: block[1].update({X5CHAIN: (b"a", 1)}), "header", "x5chain is not an array"),
        (lambda block: block[1].update({X5CHAIN: (b"",) * 7}), "size", "x5chain of 7"),
        (lambda block: block[1].pop(X5CHAIN), "header", "x5t without x5chain"),
        (lambda block: block[1].update({99: 0}), "header", "unprotected label 99"),
        (lambda block: block[1].update({"alg": -9}), "header", "unprotected label alg"),
        (lambda block: block[1].update({1: -9}), "header", "label 1 stands in both"),
        (lambda block: block[1].update({34: 0}), "header", "label 34 stands in both"),
        (lambda block: block[1].update({4: b"k"}), "header", "unprotected label 4"),
        (lambda block: block[1].update({2: (1,)}), "header", "unprotected label 2"),
        (lambda block: block[1].update({32: b""}), "header", "unprotected label 32"),
        (lambda block: block[1].update({269: b""}), "header", "unprotected label 269"),
        (lambda block: block[1].update({TOKEN: 1}), "header", "token is not"),
        (lambda block: block[1].update({CRLS: ()}), "header", "empty list"),
        (lambda block: block[1].update({CRLS: None}), "header", "empty list"),
        (lambda block: block[1].update({CRLS: b"crl"}), "header", "CRL list is not"),
        (lambda block: block[1].update({CRLS: (b"",) * 9}), "size", "CRL list of 9"),
        (lambda block: block[1].update({CRLS: (bytes(2**20 + 1),)}), "size", "CRL of 1048577"),
        (lambda block: block.__setitem__(3, bytes(8193)), "size", "signature of 8193"),
        (lambda block: block.__setitem__(2, b"payload"), "envelope", "attached payload"),
        (lambda block: block.__setitem__(1, ()), "envelope", "not a COSE_Sign1"),
        (lambda block: block.append(0), "envelope", "not a COSE_Sign1"),
        (lambda block: block.__setitem__(0, b""), "cbor", "end of input"),
        (lambda block: block.__setitem__(0, b"\x80"), "header", "not a map"),
    ],
)
def test_altered_block_is_refused(
    pki: Pki, good: bytes, change: Callable[[list[Any]], None], code: str, words: str
) -> None:
    with refused_at(1, f"malformed.{code}", words):
        verify(with_block(good, change), [pki.root])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, "none"),
        ({34: (-16, bytes(32))}, "protected labels"),
        ({1: -9, 2: (34,), 34: (-16, bytes(32))}, "1, 2, 34"),
        ({1: -9, 4: b"k", 34: (-16, bytes(32))}, "1, 4, 34"),
        ({1: -9, 34: (-16, bytes(32)), 99: 0}, "1, 34, 99"),
        ({1: -9, 33: b"leaf"}, "label 33 stands in both"),
        ({1: -9, 34: (-16, bytes(31))}, "x5t is not"),
        ({1: -9, 34: (-43, bytes(48))}, "x5t is not"),
        ({1: -9, 34: bytes(32)}, "x5t is not"),
        ({1: "ES256", 34: (-16, bytes(32))}, "algorithm is not"),
        ({1: True, 34: (-16, bytes(32))}, "algorithm is not"),
        ({1: -9, 4: "kid"}, "key identifier is not"),
        ({1: -9}, "x5chain without x5t"),
    ],
)
def test_signed_header_outside_the_list_is_refused(
    pki: Pki, header: dict[Any, Any], words: str
) -> None:
    content = encoded()
    block = block_of(pki, content, protected=cbor.encode(header))
    with refused_at(1, "malformed.header", words):
        judge(pki, content, block)


def test_alg_in_the_unprotected_header_is_refused(pki: Pki) -> None:
    content = encoded()
    protected = cbor.encode({34: (-16, digest(-16, pki.leaf.der))})
    envelope = close(content, block_of(pki, content, protected=protected))
    with refused_at(1, "malformed.header"):
        verify(with_block(envelope, lambda block: block[1].update({1: -9})), [pki.root])


def test_alg_zero_is_an_unknown_algorithm(pki: Pki) -> None:
    content = encoded()
    protected = cbor.encode({1: 0, 34: (-16, digest(-16, pki.leaf.der))})
    with refused_at(3, "untrusted.algorithm", "COSE algorithm 0"):
        judge(pki, content, block_of(pki, content, protected=protected))


def test_crls_in_a_block_without_certificates_are_refused(pki: Pki) -> None:
    content = encoded()
    with refused_at(1, "malformed.header", "CRLs in a block without"):
        judge(pki, content, make_block(b"", pki.leaf.key, (), pki.crls))


def test_time_stamp_token_that_is_none_is_worth_none(pki: Pki, good: bytes) -> None:
    broken = with_block(good, lambda block: block[1].update({TOKEN: b"0"}))
    words = "time-stamp token: no element of type 0x30 at byte 0"
    assert verify(broken, [pki.root]).notes == (f"time-stamp token not counted: {words}",)
    with refused_at(4, "malformed.token", words):
        verify(broken, [pki.root], tsa_anchors=(pki.root.anchor,), require_token=True)


def test_another_header_under_the_same_signature_is_refused(pki: Pki, good: bytes) -> None:
    def change(block: list[Any]) -> None:
        block[0] = protected_header(-7, digest(-16, pki.leaf.der))

    with refused_at(3, "tampered.signature", "ES256"):
        verify(with_block(good, change), [pki.root])


@pytest.mark.parametrize("label", sorted(set(ALGORITHMS) - {-9}))
def test_alg_that_is_not_the_one_signed_with_is_refused(pki: Pki, label: int) -> None:
    content = encoded()
    protected = protected_header(label, digest(-16, pki.leaf.der))
    block = block_of(pki, content, protected=protected)
    if label == -7:
        judge(pki, content, block)  # ESP256 by its older name
        return
    with refused_at(3, "malformed.algorithm", f"{ALGORITHMS[label].name} needs", "is P-256"):
        judge(pki, content, block)


# --- members --------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [14, 15, 16, 18, 20])
def test_suit_member_outside_the_profile_is_refused_at_7(
    pki: Pki, good: bytes, member: int
) -> None:
    with refused_at(7, "malformed.profile", f"envelope member {member}"):
        verify(with_members(good, {member: b""}), [pki.root])


@pytest.mark.parametrize("member", [0, 1, 4, 13, 17, 24, -1, -257, 2**63])
def test_unknown_member_is_refused_at_1(pki: Pki, good: bytes, member: int) -> None:
    with refused_at(1, "malformed.envelope", f"unknown member {member}"):
        verify(with_members(good, {member: b""}), [pki.root])


def test_member_of_another_kind_of_key_is_refused(pki: Pki, good: bytes) -> None:
    with refused_at(1, "malformed.envelope", "neither a number nor a name"):
        verify(with_members(good, {(b"file", b"x"): b""}), [pki.root])


@pytest.mark.parametrize("key", [2, 3])
def test_a_member_twice_is_refused(pki: Pki, good: bytes, key: int) -> None:
    members = cbor.decode(good).value
    pair = cbor.encode(key) + cbor.encode(members[key])
    at = good.index(pair)
    twice = good[:2] + bytes([good[2] + 1]) + good[3:at] + pair + good[at:]
    with refused_at(1, "malformed.cbor", "ascending order"):
        verify(twice, [pki.root])


def test_another_manifest_is_refused(pki: Pki, good: bytes) -> None:
    other = with_members(good, {3: encoded(sequence_number=2**52)})
    with refused_at(2, "tampered.manifest", "the signed one is"):
        verify(other, [pki.root])


def test_another_manifest_with_its_digest_is_refused(pki: Pki, good: bytes) -> None:
    forged = close(encoded(sequence_number=2**52), *blocks_in(good))
    with refused_at(3, "tampered.signature"):
        verify(forged, [pki.root])


def test_digest_without_the_head_is_refused(pki: Pki) -> None:
    content = encoded()
    payload = cbor.encode((-16, digest(-16, content)))
    block = make_block(payload, pki.leaf.key, [pki.leaf.der, pki.issuing.der])
    with refused_at(2, "tampered.manifest"):
        verify(close(content, block, payload=payload), [pki.root])


@pytest.mark.parametrize("algorithm", [-14, -15, -17, -18, -45, 0, 16])
def test_weak_or_unknown_digest_is_refused(pki: Pki, algorithm: int) -> None:
    payload = cbor.encode((algorithm, bytes(32)))
    with refused_at(2, "malformed.profile", "SHA-256, SHA-384 or SHA-512"):
        verify(close(encoded(), make_block(payload, pki.leaf.key), payload=payload), [pki.root])


# --- integrated payloads --------------------------------------------------------------------


def test_unreferenced_integrated_payload_is_refused(pki: Pki, good: bytes) -> None:
    with refused_at(7, "malformed.unreferenced-payload", '"#extra"'):
        verify(with_members(good, {"#extra": b"x"}), [pki.root])


@pytest.mark.parametrize("name", ["build.bin", "#Build.bin", "#build.bin ", "", "#"])
def test_integrated_payload_under_a_similar_name_is_refused(
    pki: Pki, embedded: bytes, name: str
) -> None:
    with refused_at(7, "malformed.unreferenced-payload"):
        verify(with_members(embedded, {name: PAYLOAD}), [pki.root])


def test_stripped_integrated_payload_is_refused(pki: Pki, embedded: bytes) -> None:
    with refused_at(7, "tampered.payload-absent", '"#build.bin" is not in the envelope'):
        verify(with_members(embedded, {"#build.bin": None}), [pki.root])


# --- signatures and sizes -------------------------------------------------------------------


def test_ecdsa_twin_of_a_signature_is_no_stronger(pki: Pki, good: bytes) -> None:
    # (r, n - s) verifies wherever (r, s) does, so an envelope is not known by its own digest.
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def twin(block: list[Any]) -> None:
        raw = block[3]
        block[3] = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")

    first, second = verify(good, [pki.root]), verify(with_block(good, twin), [pki.root])
    assert first.manifest_digest == second.manifest_digest


@pytest.mark.parametrize("raw", [b"", bytes(63), bytes(65), bytes(64), b"\xff" * 64])
def test_odd_signature_is_refused(pki: Pki, good: bytes, raw: bytes) -> None:
    with refused_at(3, "tampered.signature"):
        verify(with_block(good, lambda block: block.__setitem__(3, raw)), [pki.root])


def test_too_many_blocks_are_refused(pki: Pki, good: bytes) -> None:
    with refused_at(1, "malformed.size", "9 signatures"):
        verify(with_blocks(good, *blocks_in(good) * 9), [pki.root])


@pytest.mark.parametrize("item", [b"\xa0", b"\x80", b"\x00", b"\xa1\x00\x00"])
def test_millions_of_items_cost_nothing(pki: Pki, item: bytes) -> None:
    inner = b"\x99\x0f\xa0" + item * 4000
    with refused_at(1, "malformed.cbor", "items in all"):
        verify(b"\xd8\x6b\xa1\x02\x99\x03\xe8" + inner * 1000, [pki.root])
