"""Block lists: a bad block stops a transfer where it is, and a transfer goes on where it ended."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_kit import BLOCK, LONG, blocks_of, list_of, listed, listed_manifest, named
from fwsign.errors import FwsignError, Tampered
from fwsign.format import cbor, suit
from fwsign.format.blocks import (
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    decode_block_lists,
    encode_blocks,
    is_block_size,
)
from fwsign.format.component import Digest, check_indexes
from fwsign.format.payload import CHUNK_SIZE, Receiving, digest, receive
from fwsign.format.suit import decode_manifest, encode_manifest
from fwsign.format.text import Text, decode_text, encode_text
from fwsign.verify.policy import Recorded
from fwsign.verify.verified import VerifiedRelease
from hostile import no_stronger, outcome, refused_at, with_members
from mutation import Dice, close_tree, mutate_tree, open_tree
from support import (
    PRODUCT,
    VENDOR,
    Pki,
    component,
    make_manifest,
    make_pki,
    refused,
    sign_with,
    verify,
)

PART, BLOCKS = component(LONG), blocks_of()
OTHER = component(LONG[::-1], "other.bin")
LAST = len(LONG) // BLOCK * BLOCK  # where the last block begins


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def release(pki: Pki) -> VerifiedRelease:
    return verify(listed(pki), [pki.root])


def flipped(at: int, payload: bytes = LONG) -> bytes:
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


class Counting(io.BytesIO):
    """A source that counts what was taken of it."""

    given = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.given += len(data)
        return data


class BrokenFile(io.BytesIO):
    """A file that fails where it is told to."""

    def __init__(self, data: bytes, at: str) -> None:
        super().__init__(data)
        self.at = at

    def _fail(self, what: str) -> None:
        if what == self.at:
            raise OSError(5, "the medium is gone")

    def read(self, size: int | None = -1, /) -> bytes:
        self._fail("read")
        return super().read(size)

    def write(self, data: Any, /) -> int:
        self._fail("write")
        return super().write(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._fail("seek")
        return super().seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        self._fail("truncate")
        return super().truncate(size)


# --- the list -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "allowed"),
    [
        (MIN_BLOCK_SIZE, True),
        (65536, True),
        (MAX_BLOCK_SIZE, True),
        (MIN_BLOCK_SIZE // 2, False),
        (MAX_BLOCK_SIZE * 2, False),
        (MIN_BLOCK_SIZE + 1, False),
        (0, False),
        (-65536, False),
        (True, False),
    ],
)
def test_sizes_of_blocks(size: int, allowed: bool) -> None:
    assert is_block_size(size) is allowed


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_a_list_decodes_to_what_it_was_made_of(size: int) -> None:
    payload = LONG[:size]
    data = list_of(payload)
    manifest = listed_manifest(data, parts=(component(payload),))
    assert decode_block_lists(manifest, {"#blocks-0": data}) == {"build.bin": blocks_of(payload)}


def test_a_list_may_be_signed_with_a_longer_digest() -> None:
    data = list_of()
    image = Digest(-44, digest(-44, data))
    manifest = listed_manifest()._replace(block_lists=(named(data)._replace(digest=image),))
    assert decode_block_lists(manifest, {"#blocks-0": data}) == {"build.bin": BLOCKS}
    with refused("tampered.block-list", 'the block list of "build.bin" is not the one that was'):
        decode_block_lists(manifest, {"#blocks-0": flipped(70, data)})


@pytest.mark.parametrize("size", [0, len(list_of()) - 1, len(list_of()) + 1])
def test_a_list_of_another_size_than_the_signed_one_is_refused(size: int) -> None:
    one = named(list_of())._replace(size=size)
    with refused("tampered.block-list"):
        decode_block_lists(make_manifest(PART, block_lists=(one,)), {"#blocks-0": list_of()})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (cbor.encode(()), "has something else, expected [block size, -16, digests]"),
        (cbor.encode((BLOCK, -16)), "has something else"),
        (cbor.encode((BLOCK, -43, BLOCKS.digests)), "has something else"),
        (cbor.encode((BLOCK, -16, BLOCKS.digests, 0)), "has something else"),
        (cbor.encode(("4096", -16, BLOCKS.digests)), "has something else"),
        (cbor.encode((BLOCK, -16, [])), "has something else"),
        (cbor.encode((True, -16, BLOCKS.digests)), "block size True, expected a power of two"),
        (cbor.encode((0, -16, b"")), "block size 0, expected a power of two from 4096 to 16777216"),
        (cbor.encode((-BLOCK, -16, BLOCKS.digests)), "block size -4096"),
        (cbor.encode((2**40, -16, bytes(32))), "block size 1099511627776"),
        (cbor.encode((BLOCK, -16, bytes(95))), "95 bytes of digests, expected 3 digests of 32"),
        (cbor.encode((BLOCK, -16, bytes(128))), "128 bytes of digests, expected 3 digests"),
        (cbor.encode((2 * BLOCK, -16, bytes(96))), "96 bytes of digests, expected 2 digests"),
    ],
)
def test_signed_lists_that_do_not_fit_are_refused(data: bytes, words: str) -> None:
    with refused("malformed.block-list", words) as caught:
        decode_block_lists(listed_manifest(data), {"#blocks-0": data})
    assert (caught.value.expected is None, caught.value.found is None) == (False, False)


def test_a_list_for_an_empty_payload_is_refused() -> None:
    data = list_of(b"")
    manifest = listed_manifest(data, parts=(component(b""),))
    with refused("malformed.block-list", "a list for an empty payload, expected none"):
        decode_block_lists(manifest, {"#blocks-0": data})


# --- the manifest ---------------------------------------------------------------------------

MANIFESTS = [
    listed_manifest(),
    listed_manifest(list_of(), list_of(LONG[::-1]), parts=(PART, OTHER)),
    make_manifest(PART, OTHER, block_lists=(named(list_of(), 1),), use_before=2**31, version=(1,)),
    make_manifest(
        *(component(LONG, f"f{index}") for index in range(suit.MAX_COMPONENTS // 2)),
        block_lists=tuple(named(list_of(), n) for n in range(suit.MAX_COMPONENTS // 2)),
    ),
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifests_with_lists_decode_to_what_they_were_made_of(manifest: suit.Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_lists_count_among_the_components_that_a_release_may_have() -> None:
    parts = tuple(component(LONG, f"f{index}") for index in range(suit.MAX_COMPONENTS))
    with refused("malformed.profile", "components are not an array of 1 to 256"):
        decode_manifest(encode_manifest(listed_manifest(parts=parts)))


def test_the_bytes_of_a_manifest_with_a_list() -> None:
    members = cbor.decode(encode_manifest(listed_manifest()._replace(use_before=7)))
    common, one = cbor.decode(members[3]), named(list_of())
    image = {3: cbor.encode(one.digest), 14: one.size}
    assert common[2] == ((b"file", b"build.bin"), (b"blocks", b"\0"))
    assert cbor.decode(common[4])[-4:] == (12, 1, 20, image)
    assert cbor.decode(members[7]) == (12, 0, 3, 15)
    assert cbor.decode(members[20]) == (
        *(12, 0, 20, {4: 7}, 4, 15),
        *(12, 1, 20, {21: "#blocks-0"}, 21, 15, 3, 15),
        *(12, 0, 20, {21: "build.bin"}, 21, 15, 3, 15),
    )


def test_lists_are_nothing_that_is_installed(release: VerifiedRelease) -> None:
    assert release.components == (PART,)
    with refused("unsuitable.component", 'no component "blocks-0", it has build.bin'):
        release.component("blocks-0")
    assert release.blocks("build.bin") == release.blocks(PART) == BLOCKS


def test_a_component_without_a_list_says_so(pki: Pki) -> None:
    assert verify(sign_with(pki), [pki.root]).blocks("build.bin") is None


@pytest.mark.parametrize(
    ("identifiers", "words"),
    [
        (((b"blocks", b""),), "['blocks', INDEX] after the first block list"),
        (((b"blocks", b"\0\0"),), "['blocks', INDEX] after the first block list"),
        (((b"blocks", 0),), "['blocks', INDEX] after the first block list"),
        (((b"blocks", b"\0"), (b"file", b"a")), "['blocks', INDEX] after the first block list"),
        (((b"blocks", b"\0"), (b"blocks", b"\0")), "order [0, 0] of block lists"),
        (((b"blocks", b"\1"), (b"blocks", b"\0")), "order [1, 0] of block lists"),
        (
            ((b"blocks", b"\2"),),
            "a block list of component 2 is not allowed, expected one of",
        ),
        (((b"blocks", b"\xff"),), "a block list of component 255 is not allowed"),
    ],
)
def test_lists_describe_one_component_each_in_order(identifiers: Any, words: str) -> None:
    assert check_indexes("blocks", ((b"blocks", b"\0"), (b"blocks", b"\1")), 2) == [0, 1]
    with refused("malformed.component", words):
        check_indexes("blocks", identifiers, 2)


@pytest.mark.parametrize("uri", ["blocks-0", "#blocks-0", "Blocks-0"])
def test_no_payload_has_the_name_of_a_list(uri: str) -> None:
    manifest = listed_manifest(parts=(PART._replace(uri=uri),))
    with refused("malformed.component", "'build.bin' twice"):
        decode_manifest(encode_manifest(manifest))


# --- a transfer -----------------------------------------------------------------------------


@given(st.integers(0, len(LONG) - 1), st.integers(1, len(LONG)))
def test_a_flipped_byte_never_reaches_the_sink(at: int, step: int) -> None:
    sink, wrong = io.BytesIO(), flipped(at)
    receiving = Receiving(PART, sink, BLOCKS)
    with refused("tampered.block", f"block {at // BLOCK} of 4096 bytes, at offset"):
        for begin in range(0, len(wrong), step):
            receiving.feed(wrong[begin : begin + step])
    assert sink.getvalue() == LONG[: at // BLOCK * BLOCK]


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, len(LONG)])
@pytest.mark.parametrize("step", [1, BLOCK, BLOCK + 1, len(LONG)])
def test_a_payload_arrives_in_pieces_of_any_size(size: int, step: int) -> None:
    payload, sink = LONG[:size], io.BytesIO()
    receiving = Receiving(component(payload), sink, blocks_of(payload))
    for at in range(0, size, step):
        assert receiving.offset == at
        receiving.feed(payload[at : at + step])
    receiving.finish()
    assert sink.getvalue() == payload


def test_swapped_blocks_are_refused_at_the_first(release: VerifiedRelease) -> None:
    sink = io.BytesIO()
    with refused_at(10, "tampered.block", "block 0 of 4096 bytes, at offset 0"):
        release.receive("build.bin", io.BytesIO(LONG[BLOCK:LAST] + LONG[:BLOCK]), sink)
    assert sink.getvalue() == b""


def test_a_bad_block_stops_the_transfer_there(pki: Pki) -> None:
    payload = bytes(8 * 1024 * 1024)
    manifest = listed_manifest(list_of(payload, 65536), parts=(component(payload),))
    release = verify(listed(pki, list_of(payload, 65536), manifest=manifest), [pki.root])
    source, sink = Counting(flipped(3_000_000, payload)), io.BytesIO()
    with refused_at(10, "tampered.block", "block 45 of 65536 bytes, at offset 2949120"):
        release.receive("build.bin", source, sink)
    assert (len(sink.getvalue()), source.given) == (2949120, 23 * CHUNK_SIZE)


def test_blocks_that_are_right_do_not_make_up_for_a_wrong_image_digest() -> None:
    part, sink = PART._replace(digest=Digest(-16, bytes(32))), io.BytesIO()
    with refused("tampered.payload-digest"):
        receive(part, io.BytesIO(LONG), sink, BLOCKS)


@pytest.mark.parametrize("blocks", [BLOCKS, None])
def test_sizes_are_judged_with_and_without_a_list(blocks: Any) -> None:
    for wrong, words in ((LONG[:-1], "has 9999 bytes"), (LONG + b"x", "has more than 10000 bytes")):
        with refused("tampered.payload-size", words):
            receive(PART, io.BytesIO(wrong), None, blocks)


@pytest.mark.parametrize("blocks", [BLOCKS, None])
def test_nothing_is_taken_after_an_error(blocks: Any) -> None:
    sink = io.BytesIO()
    receiving = Receiving(PART, sink, blocks)
    receiving.feed(LONG)
    for _ in range(2):
        with refused("tampered.payload-size", "more than 10000 bytes"):
            receiving.feed(b"x")
    with refused("tampered.payload-size", "more than 10000 bytes"):
        receiving.finish()
    assert sink.getvalue() == LONG


def test_a_sink_that_failed_is_not_written_to_again() -> None:
    receiving = Receiving(PART, BrokenFile(b"", "write"), BLOCKS)
    words = 'writing the payload of "build.bin" failed: the medium is gone'
    for _ in range(2):
        with refused("io.write", words):
            receiving.feed(LONG)
    with refused("io.write", words):
        receiving.finish()


@pytest.mark.parametrize("blocks", [blocks_of(LONG, 16384), None])
def test_what_is_checked_is_what_is_written(blocks: Any) -> None:
    memory = bytearray(LONG)

    class Sly(io.BytesIO):
        def write(self, data: Any, /) -> int:
            memory[:] = bytes(len(memory))  # the caller's buffer changes meanwhile
            return super().write(data)

    sink = Sly()
    Receiving(PART, sink, blocks).feed(memory)  # type: ignore[arg-type]
    assert sink.getvalue() == LONG


def test_a_list_of_another_component_stops_the_transfer() -> None:
    with refused("tampered.block", "block 0"):
        receive(PART, io.BytesIO(LONG), None, blocks_of(OTHER.name.encode() * 2000))


def test_receiving_in_pieces(release: VerifiedRelease) -> None:
    sink = io.BytesIO()
    receiving = release.receiving("build.bin", sink)
    receiving.feed(LONG[:5000])
    assert (receiving.offset, len(sink.getvalue())) == (5000, BLOCK)
    with refused("tampered.payload-size", "has 5000 bytes"):
        receiving.finish()
    receiving.feed(LONG[5000:])
    receiving.finish()
    assert sink.getvalue() == LONG


def test_a_payload_inside_the_envelope_can_have_a_list(pki: Pki) -> None:
    manifest = listed_manifest(parts=(PART._replace(uri="#build.bin"),))
    members = {"#build.bin": LONG, "#blocks-0": list_of()}
    envelope = sign_with(pki, manifest, integrated=members)
    sink = io.BytesIO()
    verify(envelope, [pki.root]).receive("build.bin", sink=sink)
    assert sink.getvalue() == LONG
    with refused_at(10, "tampered.block"):
        changed = with_members(envelope, {"#build.bin": flipped(0)})
        verify(changed, [pki.root]).receive("build.bin")


# --- going on -------------------------------------------------------------------------------


@given(st.integers(0, len(LONG)), st.binary(max_size=9), st.integers(1, len(LONG)))
def test_a_cut_transfer_goes_on_behind_its_last_whole_block(
    kept: int, junk: bytes, step: int
) -> None:
    file = io.BytesIO(LONG[:kept] + junk)
    receiving = Receiving.resume(PART, file, BLOCKS)
    at = receiving.offset
    assert at == len(file.getvalue()) == file.tell()
    assert at in (kept // BLOCK * BLOCK, len(LONG))
    for begin in range(at, len(LONG), step):
        receiving.feed(LONG[begin : begin + step])
    receiving.finish()
    assert file.getvalue() == LONG


@given(st.integers(0, len(LONG) - 1))
def test_a_block_that_was_changed_while_it_lay_there_is_fetched_again(at: int) -> None:
    file = io.BytesIO(flipped(at))
    receiving = Receiving.resume(PART, file, BLOCKS)
    assert receiving.offset == at // BLOCK * BLOCK
    receiving.feed(LONG[receiving.offset :])
    receiving.finish()
    assert file.getvalue() == LONG


@pytest.mark.parametrize("kept", [0, 1, 5000, len(LONG), len(LONG) + 5])
def test_without_a_list_every_held_byte_counts_and_the_image_digest_decides(kept: int) -> None:
    file = io.BytesIO((LONG + b"extra")[:kept])
    receiving = Receiving.resume(PART, file)
    assert receiving.offset == len(file.getvalue()) == min(kept, len(LONG))
    receiving.feed(LONG[receiving.offset :])
    receiving.finish()
    assert file.getvalue() == LONG


def test_without_a_list_a_changed_byte_is_found_at_the_end() -> None:
    receiving = Receiving.resume(PART, io.BytesIO(flipped(3)))
    with refused("tampered.payload-digest"):
        receiving.finish()


def test_a_file_that_gives_more_than_was_asked_for_is_not_kept() -> None:
    class Generous(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return bytes((size or 0) + 1)

    file = Generous(LONG)
    assert Receiving.resume(PART, file).offset == 0
    assert file.getvalue() == b""


def test_a_file_is_rehashed_from_its_start() -> None:
    file = io.BytesIO(LONG[:LAST])
    file.seek(BLOCK)
    receiving = Receiving.resume(PART, file, BLOCKS)
    assert (receiving.offset, file.tell()) == (LAST, LAST)


def test_resuming_through_a_release(release: VerifiedRelease) -> None:
    file = io.BytesIO(LONG[:LAST] + b"x")
    receiving = release.resuming("build.bin", file)
    assert receiving.offset == LAST
    with refused_at(10, "tampered.block", "block 2"):
        receiving.feed(flipped(LAST)[LAST:])
    assert file.getvalue() == LONG[:LAST]
    again = release.resuming(PART, file)
    again.feed(LONG[again.offset :])
    again.finish()
    assert file.getvalue() == LONG


@pytest.mark.parametrize(
    ("at", "code"),
    [("read", "io.read"), ("seek", "io.write"), ("truncate", "io.write")],
)
def test_a_file_that_breaks_while_resuming_is_no_tampering(at: str, code: str) -> None:
    with refused(code, 'the payload of "build.bin" failed: the medium is gone') as caught:
        Receiving.resume(PART, BrokenFile(LONG, at), BLOCKS)
    assert (caught.value.step, Tampered in type(caught.value).__mro__) == (10, False)


# --- envelopes with a list ------------------------------------------------------------------


def test_any_flipped_bit_of_the_list_is_refused(pki: Pki) -> None:
    envelope, data = listed(pki), list_of()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with refused_at(7, "tampered.block-list"):
            verify(with_members(envelope, {"#blocks-0": bytes(changed)}), [pki.root])


def test_a_list_cut_anywhere_is_refused(pki: Pki) -> None:
    envelope, data = listed(pki), list_of()
    for size in range(len(data)):
        with refused_at(7, "tampered.block-list", "is not the one that was signed"):
            verify(with_members(envelope, {"#blocks-0": data[:size]}), [pki.root])


@given(st.binary(max_size=120))
def test_no_signed_list_crashes_the_decoder(data: bytes) -> None:
    try:
        found = decode_block_lists(listed_manifest(data), {"#blocks-0": data})
    except FwsignError as error:
        code: str = error.code
    else:
        code = "none" if encode_blocks(found["build.bin"]) == data else "malleable"
    assert code in {"none", "malformed.block-list", "malformed.cbor"}


@pytest.mark.parametrize("seed", range(6))
def test_altered_structure_is_refused_or_changes_nothing(pki: Pki, seed: int) -> None:
    envelope, dice = listed(pki), Dice(f"lists {seed}")
    original = verify(envelope, [pki.root])
    refusals = 0
    for _ in range(200):
        tree = [open_tree(cbor.decode(envelope))]
        mutate_tree(["array", tree], dice)
        found = outcome(verify, b"".join(map(close_tree, tree)), [pki.root])
        refusals += isinstance(found, FwsignError)
        if isinstance(found, VerifiedRelease):
            assert no_stronger(found, original)
            assert found.blocks("build.bin") == BLOCKS
    assert refusals > 150


@pytest.mark.parametrize("seed", range(6))
def test_a_signed_manifest_of_altered_structure_never_escapes(pki: Pki, seed: int) -> None:
    manifest = listed_manifest(list_of(), list_of(LONG[::-1]), parts=(PART, OTHER))
    content, dice = encode_manifest(manifest), Dice(f"signed lists {seed}")
    members = {"#blocks-0": list_of(), "#blocks-1": list_of(LONG[::-1])}
    for _ in range(150):
        tree = [open_tree(cbor.decode(content))]
        mutate_tree(["array", tree], dice)
        data = b"".join(map(close_tree, tree))
        found = outcome(verify, sign_with(pki, data, integrated=members), [pki.root])
        if isinstance(found, VerifiedRelease):
            assert encode_manifest(found.manifest) == data


def test_releases_at_the_floor_share_no_component_because_both_have_lists(pki: Pki) -> None:
    first = verify(listed(pki), [pki.root])
    places = tuple(one.identifier for one in first.components)
    assert places == ((b"file", b"build.bin"),)
    data = list_of(LONG[::-1])
    envelope = listed(pki, data, manifest=listed_manifest(data, parts=(OTHER,)))
    recorded = (Recorded(first.manifest_digest, places),)
    verify(envelope, [pki.root], min_sequence=100, recorded=recorded)
    with refused_at(9, "unsuitable.conflict"):
        verify(
            listed(pki, manifest=listed_manifest()._replace(use_before=2**33)),
            [pki.root],
            min_sequence=100,
            recorded=recorded,
        )


def test_text_is_about_components_and_not_about_lists() -> None:
    text = encode_text(Text(VENDOR, PRODUCT), (PART,))
    assert decode_text(text, listed_manifest()).product == PRODUCT
    assert b"blocks" not in text


def test_a_stripped_list_is_refused_and_never_just_missing(pki: Pki) -> None:
    with refused_at(7, "tampered.payload-absent", '"#blocks-0" is not in the envelope'):
        verify(with_members(listed(pki), {"#blocks-0": None}), [pki.root])
