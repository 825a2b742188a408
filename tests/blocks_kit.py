"""Payloads of a few blocks with their lists, each of which can be made wrong on purpose."""

from typing import Any

from fwsign.format import suit
from fwsign.format.blocks import encode_blocks
from fwsign.format.component import BlockList, Component, Digest
from fwsign.format.payload import Blocks, digest
from support import Pki, component, make_manifest, sign_with

BLOCK = 4096
LONG = b"".join(index.to_bytes(2, "big") for index in range(5000))
"""10,000 bytes: two blocks and a part of one, all different."""


def blocks_of(payload: bytes = LONG, size: int = BLOCK) -> Blocks:
    """Cut a payload, and hash its blocks."""
    cut = (payload[at : at + size] for at in range(0, len(payload), size))
    return Blocks(size, b"".join(digest(-16, block) for block in cut))


def list_of(payload: bytes = LONG, size: int = BLOCK) -> bytes:
    """Return the block list of a payload, encoded."""
    return encode_blocks(blocks_of(payload, size))


def named(data: bytes, index: int = 0) -> BlockList:
    """Describe an encoded block list as the manifest does."""
    return BlockList(index, Digest(-16, digest(-16, data)), len(data))


def listed_manifest(*lists: bytes, parts: tuple[Component, ...] = ()) -> suit.Manifest:
    """Make a manifest with a list for each of the first components, of `LONG` by default."""
    found = tuple(named(data, index) for index, data in enumerate(lists or [list_of()]))
    return make_manifest(*(parts or (component(LONG),)), block_lists=found)


def listed(pki: Pki, *lists: bytes, manifest: suit.Manifest | None = None, **more: Any) -> bytes:
    """Sign a release with block lists; the envelope has those given, whatever the manifest says."""
    data = lists or (list_of(),)
    integrated = {f"#blocks-{index}": one for index, one in enumerate(data)}
    return sign_with(pki, manifest or listed_manifest(*data), integrated=integrated, **more)
