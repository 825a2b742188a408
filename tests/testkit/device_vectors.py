"""Steps 9 and 10: this device, and the payload."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fwsign.format import cbor
from fwsign.format.envelope import decode_envelope
from fwsign.format.payload import digest
from fwsign.verify.policy import Recorded
from hostile import encoded, with_members
from support import (
    NOW,
    PAYLOAD,
    Entity,
    Pki,
    component,
    make_leaf,
    make_manifest,
    sign_with,
)
from testkit.bytes_vectors import good
from testkit.content_vectors import embedded
from testkit.vector import Case, Vector, accepted, case, pki, refused

SEQUENCE = 100
BUILD = (b"file", b"build.bin")


def device(**policy: Any) -> Case:
    """Judge a good envelope on another device."""
    return case(good(), **policy)


def at_floor(*recorded: Recorded, **more: Any) -> Case:
    """Judge a release at the floor, with what was recorded there."""
    return case(sign_with(pki(), make_manifest(**more)), min_sequence=SEQUENCE, recorded=recorded)


def digest_of(manifest: bytes) -> bytes:
    """Return a manifest digest."""
    return digest(-16, cbor.byte_string_head(len(manifest)), manifest)


def same_again() -> Case:
    """Install the same release twice."""
    return at_floor(Recorded(digest_of(encoded()), (BUILD,)))


def permitted(found: bytes | None = None, **more: Any) -> Case:
    """Judge a release below the floor, with a permit for the digest of it, or of another."""
    envelope = sign_with(pki(), make_manifest(**more))
    own = digest_of(decode_envelope(envelope).manifest)
    return case(envelope, min_sequence=SEQUENCE + 1, permitted=found or own)


def expiring(use_before: int) -> Case:
    """Sign a release with an expiry."""
    return case(sign_with(pki(), make_manifest(use_before=use_before)))


def other_vendor() -> Case:
    """Sign for another vendor, as its own signer."""
    leaf = make_leaf(pki().issuing, vendors=["other.example"])
    return case(sign_with(pki()._replace(leaf=leaf), make_manifest(vendor="other.example")))


def delivered(payload: bytes) -> Case:
    """Deliver another payload beside the envelope."""
    return case(good(), payloads={"build.bin": payload})


def two_payloads(payloads: Mapping[str, bytes]) -> Case:
    """Deliver payloads for a release of two."""
    first, other = component(b"first" * 9, "a.bin"), component(b"other" * 9, "b.bin")
    return case(sign_with(pki(), make_manifest(first, other)), payloads=payloads)


def inside(payload: bytes) -> Case:
    """Put another payload into the envelope."""
    return case(with_members(embedded(), {"#build.bin": payload}))


def example_key(**policy: Any) -> Case:
    """Sign with the published keys."""
    folder = Path(__file__).parents[2] / "keys.example"
    key = load_pem_private_key((folder / "private" / "release.key").read_bytes(), None)
    chain = [
        x509.load_pem_x509_certificate((folder / part).read_bytes())
        for part in ("ca.crt", "issued/issuing.crt", "issued/release.crt")
    ]
    root, issuing, leaf = (Entity(key, one) for one in chain)
    manifest = make_manifest(vendor="example.com")
    envelope = sign_with(Pki(root, issuing, leaf), manifest, crls=())
    return case(envelope, root, vendor="example.com", **policy)


SIZE = refused(10, "tampered.payload-size")
DIGEST = refused(10, "tampered.payload-digest")
EXPIRED = refused(9, "stale.release")
TIME = int(NOW.timestamp())

VECTORS = (
    Vector(
        "device-vendor",
        "a release for another vendor",
        refused(9, "unsuitable.vendor"),
        other_vendor,
    ),
    Vector(
        "device-product",
        "a release for another product",
        refused(9, "unsuitable.product"),
        lambda: device(product="gateway-x2"),
    ),
    Vector(
        "device-rollback",
        "a release below the floor",
        refused(9, "unsuitable.rollback"),
        lambda: device(min_sequence=SEQUENCE + 1),
    ),
    Vector(
        "device-permitted",
        "a release below the floor, which a permit names",
        accepted(),
        permitted,
    ),
    Vector(
        "device-permitted-other",
        "a release below the floor, and a permit names another one",
        refused(9, "unsuitable.rollback"),
        lambda: permitted(bytes(32)),
    ),
    Vector(
        "device-permitted-conflict",
        "another release at the floor, with a component of the recorded one, which a permit names",
        accepted(),
        lambda: case(
            sign_with(pki()),
            min_sequence=SEQUENCE,
            recorded=(Recorded(bytes(32), (BUILD,)),),
            permitted=digest_of(encoded()),
        ),
    ),
    Vector(
        "device-permitted-expired",
        "a release below the floor, which a permit names, is past its expiry",
        EXPIRED,
        lambda: permitted(use_before=TIME - 1),
    ),
    Vector(
        "device-permitted-product",
        "a release below the floor for another product, which a permit names",
        refused(9, "unsuitable.product"),
        lambda: permitted(product="gateway-x2"),
    ),
    Vector(
        "device-floor",
        "a release at the floor, where nothing is recorded",
        accepted(),
        lambda: device(min_sequence=SEQUENCE),
    ),
    Vector(
        "device-again",
        "the release that the device accepted at its floor, once more",
        accepted(),
        same_again,
    ),
    Vector(
        "device-conflict",
        "another release at the floor, with a component of the recorded one",
        refused(9, "unsuitable.conflict"),
        lambda: at_floor(Recorded(bytes(32), (BUILD,))),
    ),
    Vector(
        "device-conflict-case",
        "another release at the floor, with a component of the recorded one in other case",
        refused(9, "unsuitable.conflict"),
        lambda: at_floor(Recorded(bytes(32), ((b"file", b"BUILD.BIN"),))),
    ),
    Vector(
        "device-other-component",
        "another release at the floor, which shares no component with the recorded one",
        accepted(),
        lambda: at_floor(Recorded(bytes(32), ((b"file", b"other.bin"),))),
    ),
    Vector("device-expired", "the release is past its expiry", EXPIRED, lambda: expiring(TIME - 1)),
    Vector(
        "device-expires-now", "the release expires this second", EXPIRED, lambda: expiring(TIME)
    ),
    Vector(
        "device-expires-later",
        "the release expires in a second",
        accepted(),
        lambda: expiring(TIME + 1),
    ),
    Vector(
        "device-unsaid",
        "a device that does not say its vendor, product and floor",
        accepted(unchecked=["vendor", "product", "rollback"]),
        lambda: device(vendor=None, product=None, min_sequence=None),
    ),
    Vector(
        "example-key", "signed by a published key", refused(3, "untrusted.example-key"), example_key
    ),
    Vector(
        "example-key-allowed",
        "signed by a published key, which the policy allows",
        accepted(unchecked=["revocation"]),
        lambda: example_key(allow_example_keys=True),
    ),
    Vector(
        "payload-long", "the payload has a byte too many", SIZE, lambda: delivered(PAYLOAD + b"\0")
    ),
    Vector(
        "payload-short", "the payload has a byte too few", SIZE, lambda: delivered(PAYLOAD[:-1])
    ),
    Vector("payload-empty", "the payload is empty", SIZE, lambda: delivered(b"")),
    Vector(
        "payload-bit",
        "one bit of the payload is flipped",
        DIGEST,
        lambda: delivered(b"F" + PAYLOAD[1:]),
    ),
    Vector(
        "payload-two",
        "a release of two payloads",
        accepted(),
        lambda: two_payloads({"a.bin": b"first" * 9, "b.bin": b"other" * 9}),
    ),
    Vector(
        "payload-swapped",
        "two payloads are swapped",
        DIGEST,
        lambda: two_payloads({"a.bin": b"other" * 9, "b.bin": b"first" * 9}),
    ),
    Vector(
        "payload-inside-long",
        "the payload in the envelope has a byte too many",
        SIZE,
        lambda: inside(PAYLOAD + b"\0"),
    ),
    Vector(
        "payload-inside-bit",
        "one bit of the payload in the envelope is flipped",
        DIGEST,
        lambda: inside(b"F" + PAYLOAD[1:]),
    ),
    Vector(
        "payload-missing",
        "no payload is delivered",
        refused(10, "io.payload-missing"),
        lambda: case(good(), payloads={}),
    ),
    Vector(
        "payload-unknown",
        "a payload for a component that is none",
        refused(None, "unsuitable.component"),
        lambda: case(good(), payloads={"build.bin": PAYLOAD, "other.bin": b""}),
    ),
)
