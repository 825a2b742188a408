# SPDX-License-Identifier: Apache-2.0
"""Describe files by a manifest."""

import hashlib
import io
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from fwsign.errors import Failed
from fwsign.files import io_error
from fwsign.format import identifiers, suit
from fwsign.format.algorithms import SHA256
from fwsign.format.attachments import attachments_fault
from fwsign.format.blocks import BLOCK_SIZES, MAX_BLOCK_SIZE, encode_blocks, is_block_size
from fwsign.format.component import (
    ENCRYPTED,
    BlockList,
    Component,
    Digest,
    check_unique,
    check_uri,
    is_inside,
    keys_uri,
    stored_name,
)
from fwsign.format.envelope import bstr_digest
from fwsign.format.kinds import check_identifier, check_name, name_of
from fwsign.format.notice import fault
from fwsign.format.payload import CHUNK_SIZE, SHA256_SIZE, Blocks, PayloadSource, measure
from fwsign.format.text import Text, encode_text
from fwsign.format.version import version_numbers
from fwsign.signing.encrypting import EncryptedPayload, Encrypting, encrypt

MAX_EMBEDDED_SIZE: Final = 16 * 1024 * 1024
"""Bytes of one payload inside an envelope: the largest flash of the known boards."""
LEAST_BLOCK_SIZE: Final = 16 * 1024
"""Bytes of a block at least, unless another size is typed; see `usual_block_size`."""
UNKNOWN_SIZE: Final = 256 * 1024 * 1024
"""The size that blocks are made for where none is known before the end, as of a pipe."""
DEVICE_DATA: Final = "device-data.toml"
"""The reserved name of a policy for per-device data; see `fwsign.device_data.policy`."""
NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})
LISTED_ABOVE: Final = 1024 * 1024
"""Up to so many bytes, a payload gets no block list by default: it is soon sent again."""


class ReleaseFile(NamedTuple):
    """A file of a release and the component it becomes.

    Args:
        path: the payload's file.
        identifier: the place for the bytes; see `fwsign.format.component`.
        name: the payload's name in the release; None for the file's own name.
        inside: whether it always goes into the envelope.
    """

    path: Path
    identifier: tuple[bytes, ...]
    name: str | None = None
    inside: bool = False


Opener: TypeAlias = Callable[[Path], AbstractContextManager[PayloadSource]]
"""Opens a payload for reading."""


class Release(NamedTuple):
    """A release ready to be signed.

    Args:
        manifest: what is signed.
        text: the text for people, encoded; the manifest has its digest.
        integrated: uri -> bytes, for payloads inside the envelope, and for block lists.
    """

    manifest: suit.Manifest
    text: bytes
    integrated: Mapping[str, bytes]


def describe(
    files: Sequence[ReleaseFile],
    text: Text,
    *,
    sequence_number: int,
    use_before: int | None = None,
    embed: bool = False,
    base_url: str = "",
    block_size: int | None = None,
    carried: Mapping[str, bytes] = NOTHING,
    encryption: Encrypting | None = None,
    opener: Opener = lambda path: path.open("rb"),
) -> Release:
    """Hash files and describe them as a release.

    Args:
        files: one or more; their names must differ in more than case.
        text: vendor, product, version, description and notice.
        sequence_number: 0 to 2**53 - 1; devices refuse lower ones than they have seen.
        use_before: Unix time in seconds, from which on devices refuse the release.
        embed: put the payloads into the envelope, at most 16 MiB each.
        base_url: a prefix for each name, for payloads that devices fetch.
        block_size: bytes of a block, for every payload larger than one block; 0 makes no block
            lists. By default payloads above 1 MiB get blocks by `usual_block_size`, those inside
            none.
        carried: uri -> bytes, for attachments of the text that go into the envelope.
        encryption: encrypts every payload that need not be inside.
        opener: opens each file once; what `read` raises, but an `OSError`, cancels all.

    Raises:
        Malformed: `malformed.component`; `malformed.size` for names or a version that are too long.
        Failed: `io.*`, `state.policy`.
    """
    _check_numbers(len(files), sequence_number, use_before, block_size)
    integrated: dict[str, bytes] = {**carried}
    components, lists = [], []
    measuring = _Measuring(block_size, opener, encryption, integrated)
    for index, file in enumerate(files):
        check_identifier(file.identifier)
        prefix = "#" if embed or file.inside else base_url
        component, blocks = measuring.component(file, index, prefix)
        components.append(component)
        if blocks is not None:
            data = _encode_list(file.path, blocks)
            lists.append(BlockList(index, *measure(io.BytesIO(data))))
            integrated[lists[-1].uri] = data
    _check_items(tuple(components), tuple(lists))
    encoded_text = _encode_text(text, tuple(components))
    manifest = suit.Manifest(
        sequence_number,
        identifiers.vendor_id(text.vendor),
        identifiers.class_id(text.vendor, text.product),
        tuple(components),
        use_before,
        version_numbers(text.version) if text.version else None,
        Digest(SHA256, bstr_digest(SHA256, encoded_text)),
        tuple(lists),
    )
    return Release(manifest, encoded_text, integrated)


class _Measuring:
    """Makes components of files, and puts into the envelope what belongs there."""

    def __init__(
        self,
        block_size: int | None,
        opener: Opener,
        encryption: Encrypting | None,
        integrated: dict[str, bytes],
    ) -> None:
        self._block_size, self._opener, self._encryption = block_size, opener, encryption
        self._integrated = integrated
        self._encrypted: dict[tuple[Path, str], EncryptedPayload] = {}

    def component(
        self, file: ReleaseFile, index: int, prefix: str
    ) -> tuple[Component, Blocks | None]:
        """Return a file's component, and its block list if it shall have one."""
        name, encryption = check_name(file.name or file.path.name), self._encryption
        if encryption is not None and not file.inside:
            uri = check_uri(prefix + check_name(name + ENCRYPTED))
            one = self._encrypted.get((file.path, uri))  # for the flash of several chips
            if one is None:
                one = self._encrypt(file, uri, encryption)
                self._encrypted[file.path, uri] = one
            self._integrated[keys_uri(index)] = one.wrapped
            return Component(file.identifier, one.image, one.size, uri, one.encrypted), one.blocks
        uri = check_uri(prefix + name)
        if not is_inside(uri):
            image, size, blocks = _measure(file.path, self._block_size, self._opener)
            return Component(file.identifier, image, size, uri), blocks
        self._integrated[uri] = data = _load(file.path, self._opener)
        return Component(file.identifier, *measure(io.BytesIO(data)), uri), None

    def _encrypt(self, file: ReleaseFile, uri: str, encryption: Encrypting) -> EncryptedPayload:
        path = file.path
        if is_inside(uri):
            plain, memory = io.BytesIO(_load(path, self._opener)), io.BytesIO()
            made = encrypt(plain, memory, encryption.keys)
            self._integrated[uri] = memory.getvalue()
            return made
        typed = self._block_size
        size = usual_block_size(_size_of(path)) if typed is None else typed
        whole = typed or (LISTED_ABOVE if typed is None else MAX_BLOCK_SIZE)
        try:
            place = stored_name(uri, f"{name_of(file.identifier)}{ENCRYPTED}")
            with self._opener(path) as source, encryption.places(place) as sink:
                return encrypt(source, sink, encryption.keys, whole=whole, block_size=size)
        except OSError as error:
            raise io_error(error, path) from error


def _encode_text(text: Text, components: tuple[Component, ...]) -> bytes:
    wrong = fault(text.notice) or attachments_fault(text.attachments, components)
    if wrong is not None:
        raise Failed("state.policy", wrong, found=wrong)
    return encode_text(text, components)


def _check_numbers(
    files: int, sequence_number: int, use_before: int | None, block_size: int | None
) -> None:
    if not 1 <= files <= suit.MAX_COMPONENTS:
        raise Failed("state.policy", f"a release of {files} files, expected 1 to 256")
    for name, number, limit in (
        ("sequence number", sequence_number, suit.MAX_SEQUENCE_NUMBER),
        ("time of expiry", use_before or 0, suit.MAX_TIME),
    ):
        if not 0 <= number <= limit:
            raise Failed("state.policy", f"{name} {number}, expected 0 to {limit}")
    if block_size and not is_block_size(block_size):
        raise Failed("state.policy", f"block size {block_size}, expected {BLOCK_SIZES}")


def _check_items(components: tuple[Component, ...], block_lists: tuple[BlockList, ...]) -> None:
    check_unique(components, block_lists)
    files, lists = len(components), len(block_lists)
    ciphers = sum(one.encrypted is not None for one in components)
    if files + lists + ciphers > suit.MAX_COMPONENTS:
        secret = f" and {ciphers} ciphertexts" if ciphers else ""
        raise Failed(
            "state.policy",
            f"a release of {files} files with {lists} block lists{secret}, together at most "
            f"{suit.MAX_COMPONENTS} are possible",
            expected=f"at most {suit.MAX_COMPONENTS}",
            found=files + lists + ciphers,
        )


def _measure(
    path: Path, block_size: int | None, opener: Opener
) -> tuple[Digest, int, Blocks | None]:
    """Hash a file in one pass; return its block list too, if it shall have one."""
    try:
        with opener(path) as source:
            if block_size == 0:
                return (*measure(source), None)
            usual = block_size or usual_block_size(_size_of(path))
            image, size, blocks = _measure_blocks(source, usual)
    except OSError as error:
        raise io_error(error, path) from error
    return image, size, blocks if size > (block_size or LISTED_ABOVE) else None


def usual_block_size(size: int) -> int:
    """Return the size of blocks for a payload: the smallest whose list is no longer than two.

    A small change of a payload costs about two blocks and the list, so this is about the least that
    can be fetched for it (ADR 49).

    Args:
        size: bytes of the payload.
    """
    block_size = LEAST_BLOCK_SIZE
    while SHA256_SIZE * -(-size // block_size) > 2 * block_size and block_size < MAX_BLOCK_SIZE:
        block_size *= 2
    return block_size


def _size_of(path: Path) -> int:
    """Return a file's size before it is read, or one for what tells none, as a pipe."""
    try:
        facts = path.stat()
    except OSError:  # the opener may know more
        return UNKNOWN_SIZE
    return facts.st_size if stat.S_ISREG(facts.st_mode) else UNKNOWN_SIZE


def _measure_blocks(source: PayloadSource, block_size: int) -> tuple[Digest, int, Blocks]:
    """Read a source once; return its SHA-256, its size in bytes and its block list."""
    image, block = hashlib.sha256(), hashlib.sha256()
    size, left, digests = 0, block_size, bytearray()
    while data := source.read(CHUNK_SIZE):
        image.update(data)
        size += len(data)
        rest = memoryview(data)
        while rest:
            piece, rest = rest[:left], rest[left:]
            block.update(piece)
            left -= len(piece)
            if not left:
                digests += block.digest()
                block, left = hashlib.sha256(), block_size
    if left < block_size:
        digests += block.digest()
    return Digest(SHA256, image.digest()), size, Blocks(block_size, bytes(digests))


def _encode_list(path: Path, blocks: Blocks) -> bytes:
    data = encode_blocks(blocks)
    if len(data) > MAX_EMBEDDED_SIZE:
        raise Failed(
            "state.policy",
            f"the block list of {path} has {len(data)} bytes, at most {MAX_EMBEDDED_SIZE} fit into "
            f"an envelope: {blocks.size} bytes are too small for its blocks",
            expected=f"at most {MAX_EMBEDDED_SIZE} bytes",
            found=len(data),
        )
    return data


def _load(path: Path, opener: Opener) -> bytes:
    """Read a file that goes inside the envelope."""
    try:
        with opener(path) as source:
            data = b"".join(iter(lambda: source.read(CHUNK_SIZE), b""))
    except OSError as error:
        raise io_error(error, path) from error
    if len(data) > MAX_EMBEDDED_SIZE:
        raise Failed(
            "io.format",
            f"{path} has {len(data)} bytes, at most {MAX_EMBEDDED_SIZE} fit into an envelope",
            expected=f"at most {MAX_EMBEDDED_SIZE} bytes",
            found=len(data),
        )
    return data
