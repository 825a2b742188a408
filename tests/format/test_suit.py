"""Envelope, manifest and text: one form each, and everything else is refused."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.errors import FwsignError
from fwsign.format import cbor
from fwsign.format.cbor import Tag
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import (
    MAX_BLOCKS,
    MAX_ENVELOPE_SIZE,
    Envelope,
    decode_envelope,
    encode_envelope,
)
from fwsign.format.identifiers import class_id, vendor_id
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.format.suit import (
    MAX_COMPONENTS,
    MAX_PAYLOAD_SIZE,
    MAX_SEQUENCE_NUMBER,
    MAX_TIME,
    Manifest,
    decode_digest,
    decode_manifest,
    encode_manifest,
)
from support import PRODUCT, VENDOR, component, make_manifest, refused

TWO = (component(), component(b"other", "other.bin"))
FLASH = Component(flash_identifier("esp32c3", 0x10000), Digest(-16, bytes(32)), 4096, "#app.bin")
WRAPPER = cbor.encode((b"digest", b"block"))

# --- envelope -------------------------------------------------------------------------------


def test_an_envelope_with_everything() -> None:
    whole = Envelope(b"digest", (b"a", b"b"), b"manifest", b"text", {"#a": b"1", "#b": b""})
    assert decode_envelope(encode_envelope(whole)) == whole


def test_an_envelope_with_nothing_optional() -> None:
    least = Envelope(b"digest", (), b"manifest", None, {})
    assert decode_envelope(encode_envelope(least)) == least


def test_registered_members_outside_the_profile_wait_for_step_7() -> None:
    members = {2: WRAPPER, 3: b"m", 14: b"", 15: b"", 16: b"", 18: b"", 20: b"", 23: b"t"}
    found = decode_envelope(cbor.encode(Tag(107, members)))
    assert (found.other, found.text) == ((14, 15, 16, 18, 20), b"t")


@pytest.mark.parametrize(
    "value",
    [
        {2: WRAPPER, 3: b""},
        Tag(18, {2: WRAPPER, 3: b""}),
        Tag(107, {2: WRAPPER}),
        Tag(107, {3: b""}),
        Tag(107, {2: (), 3: b""}),
        Tag(107, {2: WRAPPER, 3: {}}),
        Tag(107, ()),
        b"",
    ],
)
def test_what_is_no_tagged_envelope_is_refused(value: Any) -> None:
    with refused("malformed.envelope", "not a tagged SUIT envelope with wrapper and manifest"):
        decode_envelope(cbor.encode(value))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({1: b""}, "unknown member 1"),
        ({4: b""}, "unknown member 4"),
        ({24: b""}, "unknown member 24"),
        ({-1: b""}, "unknown member -1"),
        ({-257: b""}, "unknown member -257"),
        ({(b"x",): b""}, "a member that is neither a number nor a name"),
        ({"#a": "text"}, "member #a is not a byte string"),
        ({23: {}}, "member 23 is not a byte string"),
        ({20: None}, "member 20 is not a byte string"),
    ],
)
def test_other_members_are_refused(more: dict[Any, Any], words: str) -> None:
    with refused("malformed.envelope", words):
        decode_envelope(cbor.encode(Tag(107, {2: WRAPPER, 3: b"", **more})))


@pytest.mark.parametrize(
    "wrapper", [(), ((),), ("digest",), (b"digest", "block"), (b"digest", None), {}, b"digest"]
)
def test_a_wrapper_of_another_form_is_refused(wrapper: Any) -> None:
    words = "wrapper is not an array of a digest and blocks, each a bstr"
    with refused("malformed.envelope", words):
        decode_envelope(cbor.encode(Tag(107, {2: cbor.encode(wrapper), 3: b""})))


def test_number_of_blocks_has_a_limit() -> None:
    most = Envelope(b"", (b"",) * MAX_BLOCKS, b"", None, {})
    assert decode_envelope(encode_envelope(most)) == most
    with refused("malformed.size", "9 signatures, at most 8 are allowed") as caught:
        decode_envelope(encode_envelope(most._replace(blocks=(b"",) * (MAX_BLOCKS + 1))))
    assert (caught.value.expected, caught.value.found) == ("8", "9")


def test_size_of_an_envelope_has_a_limit() -> None:
    with refused("malformed.size", "envelope of 33554433 bytes, at most 33554432 are allowed"):
        decode_envelope(bytes(MAX_ENVELOPE_SIZE + 1))


@pytest.mark.parametrize("algorithm", [-16, -43, -44])
def test_digests(algorithm: int) -> None:
    value = digest(algorithm, b"")
    assert decode_digest((algorithm, value)) == Digest(algorithm, value)


@pytest.mark.parametrize(
    "value",
    [
        (-16, bytes(31)),
        (-16, bytes(33)),
        (-43, bytes(32)),
        (-18, bytes(32)),
        (16, bytes(32)),
        ("sha-256", bytes(32)),
        (-16, bytes(32), b""),
        (-16, "0" * 32),
        Tag(18, bytes(32)),
        bytes(32),
        None,
    ],
)
def test_other_digests_are_refused(value: Any) -> None:
    with refused("malformed.profile", "not SHA-256, SHA-384 or SHA-512 of the right size"):
        decode_digest(value)


# --- manifest -------------------------------------------------------------------------------

MANIFESTS = [
    make_manifest(),
    make_manifest(FLASH),
    make_manifest(*TWO),
    make_manifest(*TWO, FLASH, use_before=MAX_TIME, version=(2, 4, 1, -1, 3)),
    make_manifest(use_before=0, version=(1,), text_digest=Digest(-16, bytes(32))),
    make_manifest(sequence_number=MAX_SEQUENCE_NUMBER, text_digest=Digest(-44, bytes(64))),
    make_manifest(component()._replace(digest=Digest(-43, bytes(48)), size=MAX_PAYLOAD_SIZE)),
    make_manifest(*(component(file=f"f{index}") for index in range(MAX_COMPONENTS))),
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_what_is_encoded_decodes_to_the_same_manifest(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_the_bytes_of_the_smallest_manifest() -> None:
    members = cbor.decode(encode_manifest(make_manifest()))
    common = cbor.decode(members[3])
    shared, install = cbor.decode(common[4]), cbor.decode(members[20])
    one = component()
    image = {3: cbor.encode(one.digest), 14: one.size}
    identifiers = {1: vendor_id(VENDOR), 2: class_id(VENDOR, PRODUCT)}
    assert (members[1], members[2], members.keys()) == (1, 100, {1, 2, 3, 7, 20})
    assert common[2] == (one.identifier,)
    assert shared == (20, {**identifiers, **image}, 1, 15, 2, 15)
    assert cbor.decode(members[7]) == (3, 15)
    assert install == (20, {21: "build.bin"}, 21, 15, 3, 15)


Edit = Callable[[dict[Any, Any]], object]


def edited(edit: Edit, manifest: Manifest) -> bytes:
    """Change a manifest that is written out: sequences as lists, everything not encoded."""
    members = cbor.decode(encode_manifest(manifest))
    common = cbor.decode(members[3])
    tree = {
        **members,
        3: {**common, 4: list(cbor.decode(common[4]))},
        7: list(cbor.decode(members[7])),
        20: list(cbor.decode(members[20])),
    }
    edit(tree)
    if isinstance(tree.get(3), dict):
        if isinstance(tree[3].get(4), list):
            tree[3][4] = cbor.encode(tree[3][4])
        tree[3] = cbor.encode(tree[3])
    return cbor.encode({k: cbor.encode(v) if isinstance(v, list) else v for k, v in tree.items()})


def put(*path: Any) -> Edit:
    """Put the last of `path` at the place that the others name; "-" takes it out."""
    *way, key, value = path

    def edit(tree: Any) -> None:
        for step in way:
            tree = tree[step]
        if value == "-":
            del tree[key]
        else:
            tree[key] = value

    return edit


def insert(*path: Any) -> Edit:
    """Insert the last of `path`, commands, at the place in a sequence that the others name."""
    *way, at, commands = path

    def edit(tree: Any) -> None:
        for step in way:
            tree = tree[step]
        tree[at:at] = commands

    return edit


def check_refused(edit: Edit, words: str, *components: Component, **more: Any) -> None:
    with refused("malformed.profile", f"outside the fwsign profile of SUIT: {words}"):
        decode_manifest(edited(edit, make_manifest(*components, **more)))


def test_editing_alone_changes_nothing() -> None:
    for manifest in MANIFESTS:
        assert edited(lambda _: None, manifest) == encode_manifest(manifest)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put(1, 2), "manifest version 2 instead of 1"),
        (put(1, "1"), "manifest version '1' instead of 1"),
        (put(2, -1), f"sequence number is not a number from 0 to {MAX_SEQUENCE_NUMBER}"),
        (put(2, MAX_SEQUENCE_NUMBER + 1), "sequence number is not a number from 0 to"),
        (put(2, True), "sequence number is not a number from 0 to"),
        (put(2, b"1"), "sequence number is not a number from 0 to"),
        (put(2, "-"), "manifest lacks key 2"),
        (put(20, "-"), "manifest lacks key 20"),
        (put(4, "https://acme.example"), "manifest has key 4, which the profile does not use"),
        (put(9, b""), "manifest has key 9, which the profile does not use"),
        (put("x", b""), "manifest has key x, which the profile does not use"),
        (put(3, ()), "common is not a byte string"),
        (put(3, cbor.encode(())), "common is not a map"),
        (put(3, 1, b""), "common has key 1, which the profile does not use"),
        (put(3, 2, "-"), "common lacks key 2"),
        (put(3, 2, b"file"), "components are not an array of 1 to 256"),
        (put(3, 2, ()), "components are not an array of 1 to 256"),
        (put(3, 2, ((b"file", b"a"),) * 257), "components are not an array of 1 to 256"),
        (put(3, 4, ()), "shared sequence is not a byte string"),
        (put(20, ()), "install sequence is not a byte string"),
        (put(6, (1,)), "version is not a byte string"),
        (put(6, []), "version is not an array of 1 to 10 numbers"),
        (put(6, ["1"]), "version is not an array of 1 to 10 numbers"),
        (put(6, [True]), "version is not an array of 1 to 10 numbers"),
        (put(6, [1] * 11), "version is not an array of 1 to 10 numbers"),
        (put(6, [-4]), "version is not an array of 1 to 10 numbers"),
        (put(6, [10**9]), "version is not an array of 1 to 10 numbers"),
        (put(6, cbor.encode(1)), "version is not an array of 1 to 10 numbers"),
        (put(23, b"text"), "digest is not SHA-256, SHA-384 or SHA-512"),
        (put(23, (-16, b"")), "digest is not SHA-256, SHA-384 or SHA-512"),
        (put(3, 4, 1, 14, "-"), "a component without image digest or size"),
        (put(3, 4, 1, 3, "-"), "a component without image digest or size"),
        (put(3, 4, 1, 3, (-16, bytes(32))), "a component without image digest or size"),
        (put(3, 4, 1, 3, cbor.encode((-16, b""))), "digest is not SHA-256"),
        (put(3, 4, 1, 14, -1), f"size is not a number from 0 to {MAX_PAYLOAD_SIZE}"),
        (put(3, 4, 1, 14, MAX_PAYLOAD_SIZE + 1), "size is not a number from 0 to"),
        (put(3, 4, 1, 1, "-"), "the shared sequence matches no template"),
        (put(3, 4, 1, 1, bytes(15)), "the shared sequence matches no template"),
        (put(3, 4, 1, 2, bytes(17)), "the shared sequence matches no template"),
        (put(3, 4, 1, 2, "class"), "the shared sequence matches no template"),
        (put(3, 4, 0, 19), "the shared sequence matches no template"),
        (put(3, 4, []), "the shared sequence matches no template"),
        (put(3, 4, cbor.encode({})), "the shared sequence matches no template"),
        (put(20, []), "the install sequence matches no template"),
        (put(20, cbor.encode({})), "the install sequence matches no template"),
        (put(20, cbor.encode(b"")), "the install sequence matches no template"),
        (put(20, 1, 21), "the install sequence matches no template"),
        (insert(20, 6, [3, 15]), "the install sequence matches no template"),
        (insert(20, 0, [20, {4: -1}, 4, 15]), "use-before is not a number from 0 to"),
        (insert(20, 0, [20, {4: MAX_TIME + 1}, 4, 15]), "use-before is not a number from 0 to"),
    ],
)
def test_manifests_outside_the_template_are_refused(edit: Edit, words: str) -> None:
    check_refused(edit, words)


COMMANDS = "a sequence has commands or parameters that no template has"


@pytest.mark.parametrize(
    "edit",
    [
        put(7, []),
        put(7, cbor.encode({})),
        put(7, [3, 15, 3, 15]),
        put(7, [3, 14]),
        put(3, 4, 1, 4, 0),
        put(3, 4, 1, 21, "x"),
        put(3, 4, 2, 24),
        put(3, 4, 3, 0),
        put(3, 4, 3, True),
        insert(3, 4, 6, [4, 15]),
        insert(3, 4, 6, [15, ()]),
        put(20, 1, 22, 0),
        put(20, 1, 4, 0),
        put(20, 2, 22),
        put(20, 3, 14),
        put(20, 4, 23),
        put(1, True),
    ],
)
def test_other_commands_and_parameters_are_refused(edit: Edit) -> None:
    check_refused(edit, COMMANDS)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put(3, 4, 1, False), "the shared sequence matches no template"),
        (put(3, 4, 1, "-"), "the shared sequence matches no template"),
        (put(3, 4, 3, 3, b""), COMMANDS),
        (put(3, 4, 9, 1), COMMANDS),
        (put(3, 4, 1, 1), "the shared sequence matches no template"),
        (put(7, [3, 15]), COMMANDS),
        (put(7, [12, True, 3, 15]), COMMANDS),
        (put(20, 1, 1), COMMANDS),
        (put(20, 8, 3), COMMANDS),
        (insert(20, 16, [12, 1, 20, {21: "x"}, 21, 15, 3, 15]), "the install sequence matches"),
        (insert(20, 8, [12, 1, 20, {4: 0}, 4, 15]), "the install sequence matches no template"),
        (insert(20, 0, [20, {4: 0}, 4, 15]), "the install sequence matches no template"),
        (insert(20, 0, [12, 1, 20, {4: 0}, 4, 15]), "the install sequence matches no template"),
        (insert(20, 0, [13, 0, 20, {4: 0}, 4, 15]), "the install sequence matches no template"),
        (put(3, 2, ((b"file", b"a"),)), "the shared sequence matches no template"),
    ],
)
def test_several_components_outside_the_template_are_refused(edit: Edit, words: str) -> None:
    check_refused(edit, words, *TWO)


@pytest.mark.parametrize("manifest", [b"", b"\xa0\xa0", b"manifest"])
def test_what_is_no_cbor_is_refused(manifest: bytes) -> None:
    with refused("malformed.cbor"):
        decode_manifest(manifest)


def test_what_is_no_map_is_refused() -> None:
    with refused("malformed.profile", "manifest is not a map"):
        decode_manifest(cbor.encode(()))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put(3, 2, ((b"file", b"../a"),)), "name '../a'"),
        (put(3, 2, (((b"file", b"a"),),)), "expected ['file', NAME]"),
        (put(20, 1, {}), "uri is not allowed"),
        (put(20, 1, 21, b"build.bin"), "uri is not allowed"),
        (put(20, 1, 21, "../a"), "name '../a'"),
    ],
)
def test_components_and_uris_that_are_not_allowed_are_refused(edit: Edit, words: str) -> None:
    with refused("malformed.component", words):
        decode_manifest(edited(edit, make_manifest()))


def test_two_components_of_one_name_are_refused() -> None:
    with refused("malformed.component", "'build.bin' twice"):
        decode_manifest(encode_manifest(make_manifest(component(), component(uri="x"))))


def test_a_trust_update_is_no_release() -> None:
    trust = put(3, 2, ((b"trust",),))
    with refused("unsuitable.trust-update", "this is a trust update, not a release") as caught:
        decode_manifest(edited(trust, make_manifest()))
    assert (caught.value.expected, caught.value.found) == ("a release", "a trust update")


@given(st.sampled_from(MANIFESTS[:6]), st.data())
def test_what_decodes_encodes_to_the_same_bytes(manifest: Manifest, draw: st.DataObject) -> None:
    data = bytearray(encode_manifest(manifest))
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at // 8] ^= 1 << at % 8
    try:
        found = decode_manifest(bytes(data))
    except FwsignError:
        return
    assert encode_manifest(found) == bytes(data)


@given(st.text(), st.text())
def test_identifiers_are_uuids_of_names(vendor: str, product: str) -> None:
    expected = uuid.uuid5(uuid.NAMESPACE_DNS, vendor)
    assert vendor_id(vendor) == expected.bytes
    assert class_id(vendor, product) == uuid.uuid5(expected, product).bytes
