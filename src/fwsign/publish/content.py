# SPDX-License-Identifier: Apache-2.0
"""The content of a place, read without deciding whom to trust: what names what, and what is intact.

Publishing verifies what it brings along. What is there already is only asked which payloads and
releases it names; followers verify it themselves.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from fwsign.errors import Tampered
from fwsign.format.channel import Channel, read_channel
from fwsign.format.component import Component
from fwsign.format.envelope import Envelope, check_manifest_digest, decode_envelope
from fwsign.format.opening import decode_content
from fwsign.format.payload import Blocks, PayloadSource, Receiving
from fwsign.publish.layout import CHANNEL, outside
from fwsign.publish.store import Store

READ_AT_ONCE: Final = 8 * 1024 * 1024
"""Bytes of a payload that are fetched at a time to hash them."""


class PublishedChannel(NamedTuple):
    """A channel as it is published: its bytes, its content, and the digest that was signed."""

    data: bytes
    channel: Channel
    manifest_digest: bytes


def open_channel(data: bytes, path: str) -> PublishedChannel:
    """Read a channel without verifying who signed it.

    Args:
        data: its bytes.
        path: its path, whose name has to be the signed one.

    Raises:
        Malformed, Tampered, Unsuitable: it is no channel, or not the one that belongs there.
    """
    envelope = decode_envelope(data)
    manifest_digest = check_manifest_digest(envelope)
    channel = read_channel(envelope)
    if f"{channel.name}{CHANNEL}" != path:
        raise Tampered(
            "tampered.manifest",
            f'{path} has the channel "{channel.name}" in it',
            expected=path.removesuffix(CHANNEL),
            found=channel.name,
        )
    return PublishedChannel(data, channel, manifest_digest)


def payloads_named(data: bytes, manifest_digest: bytes, path: str) -> dict[str, Component]:
    """Return the payloads outside an envelope, by their paths.

    Args:
        data: the envelope.
        manifest_digest: the digest of the manifest that has to be in it.
        path: its path.

    Raises:
        Malformed, Tampered, Unsuitable: it is no release, or another one.
    """
    envelope: Envelope = decode_envelope(data)
    found = check_manifest_digest(envelope)
    if found != manifest_digest:
        raise Tampered(
            "tampered.manifest",
            f"{path} has the release {found.hex()} in it",
            expected=manifest_digest.hex(),
            found=found.hex(),
        )
    manifest, _ = decode_content(envelope)
    return outside(manifest.components)


def hash_stored(store: Store, path: str, component: Component) -> None:
    """Fetch a payload and check its size and digest.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`.
        Failed: `io.*`.
    """
    receiving = Receiving(component)
    while receiving.offset < component.carried.size:
        data = store.read(path, receiving.offset, READ_AT_ONCE)
        if not data:
            break
        receiving.feed(data)
    receiving.finish()


class CheckedSource:
    """A payload on its way to a store: the end is reached only if size and digest are right.

    Args:
        file: the source of the bytes, from its start.
        component: the signed facts.
        blocks: its block list, if it has one.
        advance: told how many bytes were read.
    """

    def __init__(
        self,
        file: PayloadSource,
        component: Component,
        blocks: Blocks | None,
        advance: Callable[[int], object],
    ) -> None:
        self._file, self._advance = file, advance
        self._receiving = Receiving(component, None, blocks)
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end of the right payload.

        Raises:
            Tampered: `tampered.*`: the file changed after it was verified.
            OSError: it cannot be read.
        """
        data = self._file.read(size)
        if data:
            self._receiving.feed(data)
            self._advance(len(data))
        elif not self._ended:
            self._ended = True
            self._receiving.finish()
        return data
