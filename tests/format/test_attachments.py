"""Attachments in a release's text: what is signed of them, and the check of their bytes."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from fwsign.errors import Unsuitable
from fwsign.format import cbor
from fwsign.format.attachments import (
    MAX_ATTACHMENT_SIZE,
    MAX_ATTACHMENTS,
    MAX_MEDIA_TYPE,
    Attachment,
    is_media_type,
)
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import Envelope, decode_envelope, encode_envelope
from fwsign.format.opening import decode_content
from fwsign.format.payload import digest
from fwsign.format.text import Text, decode_text, encode_text
from support import (
    PAYLOAD,
    PRODUCT,
    VENDOR,
    component,
    make_manifest,
    make_pki,
    refused,
    sign_with,
    verify,
)

PKI = make_pki()
BYTES = b'{"spdxVersion": "SPDX-2.3"}'
SBOM = Attachment(
    "build.spdx.json",
    "application/spdx+json",
    Digest(-16, hashlib.sha256(BYTES).digest()),
    len(BYTES),
)
PLAIN = component()


def text_with(*attachments: Any, components: tuple[Component, ...] = (PLAIN,)) -> bytes:
    """Return a text with any value under the key of attachments."""
    plain = cbor.decode(encode_text(Text(VENDOR, PRODUCT), components))["en"]
    return cbor.encode({"en": {**plain, -260: attachments[0] if len(attachments) == 1 else ()}})


def envelope_with(
    *attachments: Attachment, carried: dict[str, bytes] | None = None, part: Component = PLAIN
) -> bytes:
    text = encode_text(Text(VENDOR, PRODUCT, attachments=attachments), (part,))
    signed = Digest(-16, digest(-16, cbor.byte_string_head(len(text)), text))
    manifest = make_manifest(part, text_digest=signed)
    return sign_with(PKI, manifest, text=text, integrated=carried or {})


@contextlib.contextmanager
def at_step_7(code: str) -> Iterator[None]:
    with refused(code) as error:
        yield
    assert error.value.step == 7


class TestText:
    @pytest.mark.parametrize(
        "attachments",
        [
            (),
            (SBOM,),
            (SBOM, SBOM._replace(name="b.json")),
            tuple(SBOM._replace(name=f"{n}.json") for n in range(MAX_ATTACHMENTS)),
            (SBOM._replace(size=1),),
            (SBOM._replace(size=MAX_ATTACHMENT_SIZE),),
            (SBOM._replace(digest=Digest(-44, bytes(64))),),
        ],
    )
    def test_they_decode_to_the_same(self, attachments: tuple[Attachment, ...]) -> None:
        text = Text(VENDOR, PRODUCT, attachments=attachments)
        assert decode_text(encode_text(text, (PLAIN,)), make_manifest(PLAIN)) == text

    def test_a_text_without_any_has_the_bytes_that_it_always_had(self) -> None:
        assert -260 not in cbor.decode(encode_text(Text(VENDOR, PRODUCT), (PLAIN,)))["en"]

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("x", "attachments that are not an array"),
            ({}, "attachments that are not an array"),
            ((), "the text matches no template"),
            ((1,), "an attachment that is not [name, media type, digest, size]"),
            ((("a", "b/c", (-16, bytes(32))),), "an attachment that is not [name"),
            ((("a", "b/c", (-16, bytes(32)), 1, 1),), "an attachment that is not [name"),
            (((b"a", "b/c", (-16, bytes(32)), 1),), "an attachment that is not [name"),
            ((("a", "b/c", (-16, bytes(32)), True),), "an attachment that is not [name"),
            ((("a", "b/c", (-16, bytes(31)), 1),), "digest is not SHA-256"),
            ((("a", "b/c", (-15, bytes(32)), 1),), "digest is not SHA-256"),
            ((("a", "b/c", (-16, bytes(32)), 0),), "an attachment of 0 bytes, expected 1 to"),
            ((("a", "b/c", (-16, bytes(32)), -1),), "an attachment of -1 bytes"),
            (
                (("a", "b/c", (-16, bytes(32)), MAX_ATTACHMENT_SIZE + 1),),
                "an attachment of 16777217 bytes, expected 1 to 16777216",
            ),
            ((("../a", "b/c", (-16, bytes(32)), 1),), "an attachment whose name '../a' is not"),
            ((("", "b/c", (-16, bytes(32)), 1),), "an attachment whose name '' is not"),
            ((("con", "b/c", (-16, bytes(32)), 1),), "an attachment whose name 'con' is not"),
            ((("blocks-0", "b/c", (-16, bytes(32)), 1),), "which names a block list"),
            ((("BLOCKS-9", "b/c", (-16, bytes(32)), 1),), "which names a block list"),
            ((("a", "b", (-16, bytes(32)), 1),), "media type 'b', expected one such as"),
            ((("a", "B/c", (-16, bytes(32)), 1),), "media type 'B/c', expected"),
            ((("a", "b/c;d=e", (-16, bytes(32)), 1),), "media type 'b/c;d=e', expected"),
            ((("a", "b/c\n", (-16, bytes(32)), 1),), "media type 'b/c\\n', expected"),
            ((("a", "b/" + "c" * 126, (-16, bytes(32)), 1),), "expected one such as"),
            ((tuple(SBOM), tuple(SBOM)), "'build.spdx.json' twice"),
            ((tuple(SBOM), tuple(SBOM._replace(name="BUILD.spdx.json"))), "twice, expected names"),
            ((tuple(SBOM._replace(name="Build.bin")),), "'Build.bin' twice, expected names"),
            (
                tuple(tuple(SBOM._replace(name=f"{n}")) for n in range(MAX_ATTACHMENTS + 1)),
                "17 attachments, at most 16",
            ),
        ],
    )
    def test_others_are_refused(self, value: Any, words: str) -> None:
        with refused("malformed.profile", words):
            decode_text(text_with(value), make_manifest(PLAIN))

    def test_a_name_of_a_payload_inside_is_taken(self) -> None:
        part = component(uri="#other.bin")
        value = (tuple(SBOM._replace(name="other.BIN")),)
        with refused("malformed.profile", "'other.BIN' twice"):
            decode_text(text_with(value, components=(part,)), make_manifest(part))

    @pytest.mark.parametrize(
        "text",
        ["a/b", "application/vnd.in-toto.provenance+dsse", "a/" + "b" * (MAX_MEDIA_TYPE - 2)],
    )
    def test_media_types(self, text: str) -> None:
        assert is_media_type(text)


class TestBytes:
    @pytest.mark.parametrize(
        ("data", "found"), [(BYTES[:-1], "26 bytes"), (BYTES + b"\n", "28 bytes"), (b"", "0 bytes")]
    )
    def test_others_are_refused(self, data: bytes, found: str) -> None:
        words = 'the attachment "build.spdx.json" is not the one that was signed'
        with refused("tampered.attachment", words) as error:
            SBOM.check(data)
        assert str(error.value.found).startswith(found)

    def test_each_flipped_bit_is_refused(self) -> None:
        for index in range(len(BYTES)):
            for bit in range(8):
                data = bytearray(BYTES)
                data[index] ^= 1 << bit
                with refused("tampered.attachment"):
                    SBOM.check(bytes(data))

    @pytest.mark.parametrize("algorithm", [-16, -43, -44])
    def test_by_every_digest(self, algorithm: int) -> None:
        SBOM._replace(digest=Digest(algorithm, digest(algorithm, BYTES))).check(BYTES)


class TestEnvelope:
    def test_they_may_be_inside_or_not(self) -> None:
        for carried in ({}, {SBOM.uri: BYTES}):
            envelope = envelope_with(SBOM, carried=carried)
            release = verify(envelope, [PKI.root])
            assert release.text is not None
            assert release.text.attachments == (SBOM,)
            assert release.attached(SBOM.name) == carried.get(SBOM.uri)
            with pytest.raises(Unsuitable, match='the release has no attachment "other"'):
                release.attached("other")

    def test_they_are_no_components(self) -> None:
        envelope = envelope_with(SBOM, carried={SBOM.uri: BYTES})
        release = verify(envelope, [PKI.root])
        assert [one.name for one in release.components] == ["build.bin"]

    def test_one_beside_a_payload_inside(self) -> None:
        carried = {"#build.bin": PAYLOAD, SBOM.uri: BYTES}
        envelope = envelope_with(SBOM, carried=carried, part=component(uri="#build.bin"))
        release = verify(envelope, [PKI.root])
        release.receive("build.bin")

    @pytest.mark.parametrize("data", [b"", BYTES[:-1] + b" ", BYTES * 2])
    def test_one_that_was_changed_is_refused(self, data: bytes) -> None:
        with at_step_7("tampered.attachment"):
            verify(envelope_with(SBOM, carried={SBOM.uri: data}), [PKI.root])

    @pytest.mark.parametrize("uri", ["#other.json", "build.spdx.json", "#BUILD.spdx.json", "#"])
    def test_bytes_that_nothing_signed_names_are_refused(self, uri: str) -> None:
        with at_step_7("malformed.unreferenced-payload"):
            verify(envelope_with(SBOM, carried={uri: BYTES}), [PKI.root])

    def test_a_text_that_is_cut_off_takes_them_along(self) -> None:
        whole = decode_envelope(envelope_with(SBOM, carried={SBOM.uri: BYTES}))
        with at_step_7("malformed.unreferenced-payload"):
            verify(encode_envelope(whole._replace(text=None)), [PKI.root])
        bare = encode_envelope(whole._replace(text=None, integrated={}))
        release = verify(bare, [PKI.root])
        with pytest.raises(Unsuitable, match="the release has no attachment"):
            release.attached(SBOM.name)

    def test_whoever_takes_the_bytes_out_breaks_nothing(self) -> None:
        whole = decode_envelope(envelope_with(SBOM, carried={SBOM.uri: BYTES}))
        without: Envelope = whole._replace(integrated={})
        assert encode_envelope(without) == envelope_with(SBOM)
        manifest, text = decode_content(without)
        assert text is not None
        assert (manifest.components, text.attachments) == ((PLAIN,), (SBOM,))
