"""Block lists: in the manifest, in the envelope, and while payloads stream."""

from collections.abc import Callable
from typing import Any

from blocks_kit import BLOCK, LONG, blocks_of, list_of, listed, listed_manifest, named
from fwsign.format import cbor, suit
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import Envelope, encode_envelope
from hostile import altered_manifest, block_of, with_members
from support import component, make_manifest, signed_digest
from testkit.vector import Case, Vector, accepted, case, pki, refused

LISTED = component(LONG)
OTHER = component(LONG[::-1], "other.bin")
BOTH = {"build.bin": LONG, "other.bin": LONG[::-1]}


def good(payload: bytes = LONG) -> Case:
    """Deliver a payload, the right one by default, of a release with a block list."""
    return case(listed(pki()), payloads={"build.bin": payload})


def payload(changed: bytes) -> Callable[[], Case]:
    """Deliver another payload."""
    return lambda: good(changed)


def signed_list(data: bytes, part: Component = LISTED) -> Callable[[], Case]:
    """Sign a list that is wrong, so that nothing but its content tells."""
    manifest = listed_manifest(data, parts=(part,))
    return lambda: case(listed(pki(), data, manifest=manifest), payloads={"build.bin": LONG})


def in_envelope(**members: bytes | None) -> Callable[[], Case]:
    """Replace what is in the envelope; the manifest stays."""
    changes = {name.replace("blocks_", "#blocks-"): value for name, value in members.items()}
    return lambda: case(with_members(listed(pki()), changes), payloads={"build.bin": LONG})


def two(*lists: bytes) -> Case:
    """Sign two components with their lists, and put these lists into the envelope."""
    manifest = listed_manifest(list_of(), list_of(LONG[::-1]), parts=(LISTED, OTHER))
    return case(listed(pki(), *lists, manifest=manifest), payloads=BOTH)


def indexes(*found: int) -> Callable[[], Case]:
    """Sign lists of these components, of which there is one."""
    lists = tuple(named(list_of(), index) for index in found)
    return lambda: case(listed(pki(), manifest=make_manifest(LISTED, block_lists=lists)))


def altered(change: Callable[[dict[Any, Any]], None]) -> Callable[[], Case]:
    """Sign a manifest with a block list that was altered before."""

    def make() -> Case:
        content = altered_manifest(suit.encode_manifest(listed_manifest()), change)
        envelope = Envelope(
            signed_digest(content),
            (block_of(pki(), content),),
            content,
            None,
            {"#blocks-0": list_of()},
        )
        return case(encode_envelope(envelope), payloads={"build.bin": LONG})

    return make


def identifiers(*found: tuple[bytes, ...]) -> Callable[[], Case]:
    """Sign other identifiers."""
    return altered(lambda m: m[3].update({2: found}))


def install(change: Callable[[list[Any]], list[Any]]) -> Callable[[], Case]:
    """Sign another install sequence."""
    return altered(lambda m: m.update({20: change(m[20])}))


def inconsistent() -> Case:
    """Sign a list that fits the payload, and an image digest that does not."""
    part = LISTED._replace(digest=Digest(-16, bytes(32)))
    manifest = listed_manifest(parts=(part,))
    return case(listed(pki(), manifest=manifest), payloads={"build.bin": LONG})


LIST, DIGESTS = list_of(), blocks_of().digests
CHANGED = LIST[:-1] + bytes([LIST[-1] ^ 1])
SWAPPED = LONG[BLOCK : 2 * BLOCK] + LONG[:BLOCK] + LONG[2 * BLOCK :]
FLIPPED = LONG[:5000] + bytes([LONG[5000] ^ 1]) + LONG[5001:]
FILE, BLOCKS = (b"file", b"build.bin"), (b"blocks", b"\0")
BLOCKED = refused(10, "tampered.block")
ALTERED = refused(7, "tampered.block-list")
UNFIT = refused(7, "malformed.block-list")
MISPLACED = refused(7, "malformed.component")
OUTSIDE = refused(7, "malformed.profile")

VECTORS = (
    Vector("good-blocks", "a component with a block list", accepted(), good),
    Vector(
        "good-blocks-two",
        "two components with a block list each",
        accepted(),
        lambda: two(list_of(), list_of(LONG[::-1])),
    ),
    Vector(
        "blocks-flipped",
        "one bit of the payload is flipped, in its second block",
        BLOCKED,
        payload(FLIPPED),
    ),
    Vector("blocks-swapped", "two blocks of the payload are swapped", BLOCKED, payload(SWAPPED)),
    Vector(
        "blocks-short",
        "the payload's last byte is missing",
        refused(10, "tampered.payload-size"),
        payload(LONG[:-1]),
    ),
    Vector(
        "blocks-long",
        "a byte after the payload",
        refused(10, "tampered.payload-size"),
        payload(LONG + b"\0"),
    ),
    Vector(
        "blocks-inconsistent",
        "the blocks are right, the image digest is not",
        refused(10, "tampered.payload-digest"),
        inconsistent,
    ),
    Vector(
        "blocks-list-altered",
        "one digest of the block list is changed",
        ALTERED,
        in_envelope(blocks_0=CHANGED),
    ),
    Vector(
        "blocks-list-cut",
        "the last digest of the block list is gone",
        ALTERED,
        in_envelope(blocks_0=LIST[:-32]),
    ),
    Vector(
        "blocks-list-of-other",
        "the block lists of two components are swapped",
        ALTERED,
        lambda: two(list_of(LONG[::-1]), list_of()),
    ),
    Vector(
        "blocks-list-stripped",
        "the block list is gone",
        refused(7, "tampered.payload-absent"),
        in_envelope(blocks_0=None),
    ),
    Vector(
        "blocks-list-extra",
        "a list that no manifest names",
        refused(7, "malformed.unreferenced-payload"),
        in_envelope(blocks_1=LIST),
    ),
    Vector(
        "blocks-junk",
        "signed bytes that are no list",
        refused(7, "malformed.cbor"),
        signed_list(b"\xff"),
    ),
    Vector("blocks-map", "a map as a list", UNFIT, signed_list(cbor.encode({}))),
    Vector(
        "blocks-algorithm",
        "digests said to be SHA-512",
        UNFIT,
        signed_list(cbor.encode((BLOCK, -44, DIGESTS))),
    ),
    Vector(
        "blocks-size-0",
        "a block list has block size 0",
        UNFIT,
        signed_list(cbor.encode((0, -16, DIGESTS))),
    ),
    Vector(
        "blocks-size-1",
        "a block list has block size 1",
        UNFIT,
        signed_list(cbor.encode((1, -16, DIGESTS))),
    ),
    Vector(
        "blocks-size-huge",
        "a block list has block size 2^40",
        UNFIT,
        signed_list(cbor.encode((2**40, -16, DIGESTS[:32]))),
    ),
    Vector(
        "blocks-size-odd",
        "a block list has block size 5000, no power of two",
        UNFIT,
        signed_list(list_of(size=5000)),
    ),
    Vector(
        "blocks-too-few",
        "a block list has a digest too few",
        UNFIT,
        signed_list(cbor.encode((BLOCK, -16, DIGESTS[:-32]))),
    ),
    Vector(
        "blocks-too-many",
        "a block list has a digest too many",
        UNFIT,
        signed_list(cbor.encode((BLOCK, -16, DIGESTS + bytes(32)))),
    ),
    Vector(
        "blocks-of-nothing",
        "a list for an empty payload",
        UNFIT,
        signed_list(list_of(b""), component(b"")),
    ),
    Vector("blocks-index", "a list of a component that is not there", MISPLACED, indexes(1)),
    Vector("blocks-twice", "two lists of one component", MISPLACED, indexes(0, 0)),
    Vector(
        "blocks-order", "lists in another order than their components", MISPLACED, indexes(1, 0)
    ),
    Vector(
        "blocks-index-wide",
        "a block list has an index of two bytes",
        MISPLACED,
        identifiers(FILE, (b"blocks", b"\0\0")),
    ),
    Vector("blocks-first", "a component after a list", MISPLACED, identifiers(BLOCKS, FILE)),
    Vector(
        "blocks-only", "lists and no component", MISPLACED, identifiers(BLOCKS, (b"blocks", b"\1"))
    ),
    Vector(
        "blocks-name-taken",
        "a component whose payload has the list's name",
        MISPLACED,
        lambda: case(
            listed(pki(), manifest=listed_manifest(parts=(LISTED._replace(uri="#blocks-0"),)))
        ),
    ),
    Vector(
        "blocks-uri",
        "a list that is fetched from elsewhere",
        OUTSIDE,
        install(lambda commands: [*commands[:3], {21: "#blocks-1"}, *commands[4:]]),
    ),
    Vector(
        "blocks-last",
        "a list that is fetched after its payload",
        MISPLACED,
        install(lambda commands: [*commands[8:], *commands[:8]]),
    ),
    Vector(
        "blocks-validated",
        "a list that is validated like a component",
        OUTSIDE,
        altered(lambda m: m[7].extend([12, 1, 3, 15])),
    ),
)
