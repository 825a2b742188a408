"""Attacks on a device and its payloads: one test each, read by code, step and message."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fwsign.format import cbor, identifiers, suit
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import decode_envelope
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from fwsign.keys.file import FileSigner
from fwsign.verify.policy import Recorded
from hostile import block_of, close, encoded, judge, refused_at, with_members
from support import (
    NOW,
    PAYLOAD,
    PRODUCT,
    VENDOR,
    Entity,
    Pki,
    component,
    make_block,
    make_leaf,
    make_manifest,
    make_pki,
    sign_with,
    signed_digest,
    verify,
)

BUILD = (b"file", b"build.bin")
ELSEWHERE = "other.example"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


# --- another device's, or an older one ------------------------------------------------------


def test_rollback_is_refused(pki: Pki) -> None:
    with refused_at(9, "unsuitable.rollback", "sequence number 100 is below 101"):
        verify(sign_with(pki), [pki.root], min_sequence=101)


def test_wrong_vendor_is_refused(pki: Pki) -> None:
    other = pki._replace(leaf=make_leaf(pki.issuing, vendors=[ELSEWHERE]))
    envelope = sign_with(other, make_manifest(vendor=ELSEWHERE))
    with refused_at(9, "unsuitable.vendor", 'this device is "acme.example"'):
        verify(envelope, [pki.root])


def test_wrong_product_is_refused(pki: Pki) -> None:
    with refused_at(9, "unsuitable.product", 'this device is "gateway-x2"'):
        verify(sign_with(pki), [pki.root], product="gateway-x2")


def test_a_product_of_the_same_name_of_another_vendor_is_refused(pki: Pki) -> None:
    envelope = sign_with(pki, make_manifest())
    with refused_at(9, "unsuitable.vendor"):
        verify(envelope, [pki.root], vendor=ELSEWHERE)


def test_vendor_of_one_and_class_of_another_vendor_are_refused(pki: Pki) -> None:
    mixed = make_manifest()._replace(class_id=identifiers.class_id(ELSEWHERE, PRODUCT))
    with refused_at(9, "unsuitable.product"):
        verify(sign_with(pki, mixed), [pki.root])


def test_expired_release_is_refused(pki: Pki) -> None:
    last = int(NOW.timestamp())
    envelope = sign_with(pki, make_manifest(use_before=last))
    with refused_at(9, "stale.release", "was to be used before 2026-11-22T12:00:00+00:00"):
        verify(envelope, [pki.root])
    assert verify(envelope, [pki.root], at=NOW - timedelta(seconds=1)).now < NOW


def test_setting_the_clock_back_does_not_revive_an_expired_release(pki: Pki) -> None:
    day_of_crl = NOW - timedelta(days=1)
    envelope = sign_with(pki, make_manifest(use_before=int(day_of_crl.timestamp())))
    with refused_at(9, "stale.release"):
        verify(envelope, [pki.root], at=NOW - timedelta(days=300))


def test_trust_update_is_refused(pki: Pki) -> None:
    trust = component()._replace(identifier=(b"trust",))
    with refused_at(7, "unsuitable.trust-update", "trust update, not a release"):
        verify(sign_with(pki, make_manifest(trust)), [pki.root])


def test_trust_beside_a_file_is_refused(pki: Pki) -> None:
    trust = component()._replace(identifier=(b"trust",), uri="trust")
    with refused_at(7, "malformed.component"):
        verify(sign_with(pki, make_manifest(component(), trust)), [pki.root])


# --- at the floor ---------------------------------------------------------------------------


def at_floor(pki: Pki, manifest: suit.Manifest, *recorded: Recorded) -> Any:
    return verify(sign_with(pki, manifest), [pki.root], min_sequence=100, recorded=recorded)


def test_same_manifest_is_accepted_again_at_the_floor(pki: Pki) -> None:
    first = verify(sign_with(pki), [pki.root])
    again = at_floor(pki, make_manifest(), Recorded(first.manifest_digest, (BUILD,)))
    assert again.manifest_digest == first.manifest_digest


def test_other_manifest_with_a_component_at_the_floor_is_refused(pki: Pki) -> None:
    other = make_manifest(component(b"another"))
    with refused_at(9, "unsuitable.conflict", 'sequence number 100 has "build.bin" already'):
        at_floor(pki, other, Recorded(bytes(32), (BUILD,)))


def test_conflict_is_found_among_several_records(pki: Pki) -> None:
    records = [Recorded(bytes([at]) * 32, ((b"file", b"%d.bin" % at),)) for at in range(5)]
    at_floor(pki, make_manifest(), *records)
    with refused_at(9, "unsuitable.conflict"):
        at_floor(pki, make_manifest(), *records, Recorded(bytes(32), (BUILD,)))


@pytest.mark.parametrize("name", [b"BUILD.BIN", b"Build.bin"])
def test_conflict_in_another_case_is_refused(pki: Pki, name: bytes) -> None:
    with refused_at(9, "unsuitable.conflict"):
        at_floor(pki, make_manifest(), Recorded(bytes(32), ((b"file", name),)))


def test_other_components_are_accepted_at_the_floor(pki: Pki) -> None:
    at_floor(pki, make_manifest(), Recorded(bytes(32), ((b"file", b"other.bin"),)))


def test_flash_offsets_that_look_like_letters_do_not_conflict(pki: Pki) -> None:
    high = component()._replace(identifier=flash_identifier("esp32c3", 0x41000000))
    low = flash_identifier("esp32c3", 0x61000000)
    at_floor(pki, make_manifest(high), Recorded(bytes(32), (low,)))
    with refused_at(9, "unsuitable.conflict", "esp32c3@0x41000000"):
        at_floor(pki, make_manifest(high), Recorded(bytes(32), (high.identifier,)))


def test_records_say_nothing_above_the_floor(pki: Pki) -> None:
    envelope = sign_with(pki, make_manifest(sequence_number=101))
    verify(envelope, [pki.root], min_sequence=100, recorded=(Recorded(bytes(32), (BUILD,)),))


# --- payloads -------------------------------------------------------------------------------


class Taken(io.BytesIO):
    """A sink that is looked at afterwards."""


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (PAYLOAD + b"\0", "tampered.payload-size", "more than 800 bytes"),
        (PAYLOAD * 5000, "tampered.payload-size", "more than 800 bytes"),
        (PAYLOAD[:-1], "tampered.payload-size", "has 799 bytes, the signed size is 800"),
        (b"", "tampered.payload-size", "has 0 bytes"),
        (PAYLOAD[1:] + b"f", "tampered.payload-digest", "has digest"),
    ],
)
def test_wrong_payload_is_refused(pki: Pki, payload: bytes, code: str, words: str) -> None:
    release, sink = verify(sign_with(pki), [pki.root]), Taken()
    with refused_at(10, code, words):
        release.receive("build.bin", io.BytesIO(payload), sink)
    assert len(sink.getvalue()) <= len(PAYLOAD)


def test_swapped_payloads_are_refused(pki: Pki) -> None:
    parts = component(b"a" * 9, "a.bin"), component(b"b" * 9, "b.bin")
    release = verify(sign_with(pki, make_manifest(*parts)), [pki.root])
    with refused_at(10, "tampered.payload-digest", 'payload of "a.bin"'):
        release.receive("a.bin", io.BytesIO(b"b" * 9))


def test_swapped_integrated_payloads_are_refused(pki: Pki) -> None:
    parts = component(b"a" * 9, "a.bin", "#a.bin"), component(b"b" * 9, "b.bin", "#b.bin")
    inside = {"#a.bin": b"b" * 9, "#b.bin": b"a" * 9}
    release = verify(sign_with(pki, make_manifest(*parts), integrated=inside), [pki.root])
    with refused_at(10, "tampered.payload-digest"):
        release.receive("a.bin")


def test_a_component_of_another_release_is_judged_by_this_one(pki: Pki) -> None:
    release = verify(sign_with(pki), [pki.root])
    forged = component(b"evil")
    with refused_at(10, "tampered.payload-size"):
        release.receive(forged, io.BytesIO(b"evil"))


def test_an_integrated_payload_is_not_replaced_by_what_is_delivered(pki: Pki) -> None:
    manifest = make_manifest(component(uri="#build.bin"))
    envelope = sign_with(pki, manifest, integrated={"#build.bin": PAYLOAD})
    release, sink = verify(envelope, [pki.root]), Taken()
    release.receive("build.bin", io.BytesIO(b"evil"), sink)
    assert sink.getvalue() == PAYLOAD


@pytest.mark.parametrize(("algorithm", "size"), [(-43, 48), (-44, 64)])
def test_longer_digests_are_accepted_and_checked(pki: Pki, algorithm: int, size: int) -> None:
    long = Component(BUILD, Digest(algorithm, digest(algorithm, PAYLOAD)), len(PAYLOAD), "x")
    assert len(long.digest.value) == size
    manifest = suit.encode_manifest(make_manifest(long))
    head = cbor.byte_string_head(len(manifest))
    payload = cbor.encode((algorithm, digest(algorithm, head, manifest)))
    block = make_block(payload, pki.leaf.key, [pki.leaf.der, pki.issuing.der], pki.crls)
    release = verify(close(manifest, block, payload=payload), [pki.root])
    release.receive("build.bin", io.BytesIO(PAYLOAD))
    with refused_at(10, "tampered.payload-digest"):
        release.receive("build.bin", io.BytesIO(PAYLOAD[::-1]))
    altered = close(encoded(sequence_number=7), block, payload=payload)
    with refused_at(2, "tampered.manifest"):
        verify(altered, [pki.root])


def test_a_digest_under_the_wrong_algorithm_is_refused(pki: Pki) -> None:
    wrong = component()._replace(digest=Digest(-43, digest(-16, PAYLOAD)))
    with refused_at(7, "malformed.profile", "of the right size"):
        verify(sign_with(pki, make_manifest(wrong)), [pki.root])


# --- example keys ---------------------------------------------------------------------------


def example() -> Pki:
    folder = Path(__file__).parents[2] / "keys.example"
    names = ("ca", "issuing", "release")
    chain = [folder / "ca.crt", folder / "issued/issuing.crt", folder / "issued/release.crt"]
    keys = [
        load_pem_private_key((folder / "private" / f"{name}.key").read_bytes(), None)
        for name in names
    ]
    return Pki(
        *(
            Entity(key, x509.load_pem_x509_certificate(path.read_bytes()))
            for key, path in zip(keys, chain, strict=True)
        )
    )


def test_example_key_is_refused() -> None:
    demo = example()
    envelope = sign_with(demo, make_manifest(vendor="example.com"), crls=())
    with refused_at(3, "untrusted.example-key", "published example key"):
        verify(envelope, [demo.root], vendor="example.com")
    allowed = verify(envelope, [demo.root], vendor="example.com", allow_example_keys=True)
    assert allowed.vendor == "example.com"


def test_example_key_under_a_real_root_is_refused(pki: Pki) -> None:
    leaf = make_leaf(pki.issuing, key=example().leaf.key)
    with refused_at(3, "untrusted.example-key"):
        verify(sign_with(pki._replace(leaf=leaf)), [pki.root])


def test_bare_example_key_is_refused(pki: Pki) -> None:
    key, content = example().leaf.key, encoded()
    signer = FileSigner(key)
    anchor = pki.root.anchor._replace(key=signer.public_key, certificate=None)
    pins = {example().leaf.anchor.spki: (VENDOR,)}
    anchor = anchor._replace(spki=example().leaf.anchor.spki)
    with refused_at(3, "untrusted.example-key"):
        judge(
            pki,
            content,
            make_block(signed_digest(content), key),
            anchors=[anchor],
            pinned_vendors=pins,
        )


def test_an_example_key_does_not_count_but_does_not_refuse_others(pki: Pki) -> None:
    demo, content = example(), encoded()
    block = block_of(demo, content, crls=())
    release = judge(pki, content, block, block_of(pki, content), anchors=[demo.root, pki.root])
    assert [one.refusal and one.refusal.code for one in release.signers] == [
        "untrusted.example-key",
        None,
    ]


# --- text -----------------------------------------------------------------------------------


def texted(pki: Pki, text: Text, version: tuple[int, ...] | None) -> bytes:
    raw = encode_text(text, (component(),))
    head = cbor.byte_string_head(len(raw))
    signed = Digest(-16, digest(-16, head, raw))
    return sign_with(pki, make_manifest(version=version, text_digest=signed), text=raw)


def test_severed_text_is_accepted(pki: Pki) -> None:
    envelope = texted(pki, Text(VENDOR, PRODUCT, "2.4.1"), (2, 4, 1))
    whole = verify(envelope, [pki.root])
    assert whole.text is not None
    assert verify(with_members(envelope, {23: None}), [pki.root]).text is None


def test_altered_text_is_refused(pki: Pki) -> None:
    envelope = texted(pki, Text(VENDOR, PRODUCT, "2.4.1"), (2, 4, 1))
    raw = decode_envelope(envelope).text or b""
    with refused_at(7, "tampered.text", "not the one that was signed"):
        verify(with_members(envelope, {23: raw.replace(b"2.4.1", b"9.9.9")}), [pki.root])


def test_text_without_digest_is_refused(pki: Pki) -> None:
    raw = encode_text(Text(VENDOR, PRODUCT), (component(),))
    with refused_at(7, "tampered.text"):
        verify(sign_with(pki, text=raw), [pki.root])


@pytest.mark.parametrize(
    ("text", "version", "words"),
    [
        (Text(VENDOR, "other"), None, "another product's"),
        (Text(ELSEWHERE, PRODUCT), None, "another product's"),
        (Text("ACME.example", PRODUCT), None, "another product's"),
        (Text(VENDOR, PRODUCT, "9.9"), (1, 0), "text says version 9.9"),
        (Text(VENDOR, PRODUCT, "9.9"), None, "text says version 9.9"),
        (Text(VENDOR, PRODUCT), (1, 0), "text says version None"),
        (Text(VENDOR, PRODUCT, "\N{ARABIC-INDIC DIGIT TWO}.4"), (2, 4), "text says version"),
    ],
)
def test_text_that_contradicts_the_manifest_is_refused(
    pki: Pki, text: Text, version: tuple[int, ...] | None, words: str
) -> None:
    with refused_at(7, "malformed.profile", words):
        verify(texted(pki, text, version), [pki.root])
