# SPDX-License-Identifier: Apache-2.0
"""Block lists: the digests of a payload's blocks, so that a receiver finds a bad block early.

A block list is a payload inside the envelope, `[block size, -16, digests]` in CBOR. The manifest
holds its digest, like that of any payload, and names the component that it describes.
"""

from collections.abc import Mapping
from typing import Final

from fwsign.errors import Malformed, Tampered
from fwsign.format import cbor
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component
from fwsign.format.payload import SHA256_SIZE, Blocks, digest
from fwsign.format.suit import Manifest

MIN_BLOCK_SIZE: Final = 4 * 1024
"""Bytes of a block; with smaller blocks the list would be over a hundredth of the payload."""
MAX_BLOCK_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a block; a receiver holds one in memory until its digest is known."""

BLOCK_SIZES: Final = f"a power of two from {MIN_BLOCK_SIZE} to {MAX_BLOCK_SIZE}"
"""The allowed block sizes, in words."""


def is_block_size(size: int) -> bool:
    """Tell whether blocks may have this size in bytes."""
    return MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE and size & (size - 1) == 0


def encode_blocks(blocks: Blocks) -> bytes:
    """Encode a block list as it stands in an envelope."""
    # The digests of blocks are SHA-256 even if the image's is another.
    return cbor.encode((blocks.size, SHA256, blocks.digests))


def decode_block_lists(manifest: Manifest, integrated: Mapping[str, bytes]) -> dict[str, Blocks]:
    """Check and decode block lists; return them by the names of their components.

    Args:
        manifest: the decoded manifest; each of its lists describes a component.
        integrated: the payloads inside the envelope; the lists must be among them.

    Raises:
        Tampered: `tampered.block-list`.
        Malformed: `malformed.block-list`, `malformed.cbor`.
    """
    found = {}
    for one in manifest.block_lists:
        component, data = manifest.components[one.component_index], integrated[one.uri]
        if len(data) != one.size or digest(one.digest.algorithm, data) != one.digest.value:
            raise Tampered(
                "tampered.block-list",
                f'the block list of "{component.name}" is not the one that was signed',
                expected=f"{one.size} bytes, {one.digest.value.hex()}",
                found=f"{len(data)} bytes, {digest(one.digest.algorithm, data).hex()}",
            )
        found[component.name] = _decode_blocks(component, data)
    return found


def _decode_blocks(component: Component, data: bytes) -> Blocks:
    match cbor.decode(data):
        case (int(size), -16, bytes(digests)):
            pass
        case _:
            raise _bad_list(component, "something else", "[block size, -16, digests]")
    if not is_block_size(size):
        raise _bad_list(component, f"block size {size}", BLOCK_SIZES)
    count = -(-component.carried.size // size)
    if not count:
        raise _bad_list(component, "a list for an empty payload", "none")
    if len(digests) != count * SHA256_SIZE:
        expected = f"{count} digests of {SHA256_SIZE} bytes"
        raise _bad_list(component, f"{len(digests)} bytes of digests", expected)
    return Blocks(size, digests)


def _bad_list(component: Component, found: str, expected: str) -> Malformed:
    return Malformed(
        "malformed.block-list",
        f'the block list of "{component.name}" has {found}, expected {expected}',
        expected=expected,
        found=found,
    )
