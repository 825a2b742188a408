"""Releases and channels to publish, and a store that can be made to fail."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import channel_kit
from fwsign.format.channel import ChannelRelease
from fwsign.format.cose import encode_block
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.format.opening import decode_blocks
from fwsign.format.rollout import Rollout
from fwsign.publish.content import PublishedChannel, open_channel, payloads_named
from fwsign.publish.layout import channel_path, outside, payload_path, release_path
from fwsign.publish.plan import GivenRelease, Publication, PublishOptions
from fwsign.publish.publishing import PublishedPaths, Publisher
from fwsign.publish.store import Source, Store, StoredEntry
from fwsign.publish.writing import GivenPayload
from fwsign.verify.channel import SeenChannel
from fwsign.verify.verified import VerifiedChannel, VerifiedRelease
from fwsign.verify.verifier import Verifier
from support import (
    NOW,
    PRODUCT,
    Pki,
    component,
    device,
    make_crl,
    make_leaf,
    make_manifest,
    sign_with,
)


class Scene:
    """A PKI, a directory with payloads, and what is made of them.

    Args:
        directory: takes the payloads.
    """

    def __init__(self, directory: Path) -> None:
        rollout = channel_kit.channel_pki()
        self.directory, self.rollout = directory, rollout
        self.pki = Pki(rollout.root, rollout.issuing, make_leaf(rollout.issuing, "release"))
        self.verifier = Verifier([rollout.root.anchor], device(min_sequence=None, product=None))
        self.told: list[str] = []

    def clock(self) -> float:
        """Return the time, a little ahead: stores round."""
        return time.time() + 2

    def judge(self, data: bytes) -> VerifiedRelease:
        """Verify an envelope."""
        return self.verifier.verify(data, at=NOW)

    def judge_channel(self, data: bytes, seen: SeenChannel | None) -> VerifiedChannel:
        """Verify a channel."""
        return self.verifier.verify_channel(data, at=NOW, seen=seen)

    def release(
        self, number: int = 100, *payloads: bytes, inside: bool = False, product: str = PRODUCT
    ) -> GivenRelease:
        """Make a release of payloads, which are files in the directory."""
        given = payloads or (f"firmware {number}".encode() * 100,)
        names = [f"{number}-{index}.bin" for index in range(len(given))]
        files = {}
        components = []
        for name, data in zip(names, given, strict=True):
            uri = f"#{name}" if inside else name
            components.append(component(data, name, uri))
            files[name] = self.directory / name
            files[name].write_bytes(data)
        integrated = dict(zip((f"#{one}" for one in names), given, strict=True)) if inside else {}
        manifest = make_manifest(*components, sequence_number=number, product=product)
        data = sign_with(self.pki, manifest, integrated=integrated)
        release = self.judge(data)
        found = {
            payload_path(one): GivenPayload(files[one.name], one, release.blocks(one))
            for one in outside(release.components).values()
        }
        return GivenRelease(data, release, found)

    def channel(
        self,
        number: int,
        *releases: GivenRelease,
        name: str = "stable",
        sequence: int = 0,
        sign: Callable[..., bytes] = channel_kit.signed,
        **more: Any,
    ) -> PublishedChannel:
        """Make a channel that names releases."""
        named = tuple(
            ChannelRelease(
                one.release.manifest_digest,
                sequence or one.release.manifest.sequence_number,
                Rollout(channel_kit.SALT),
            )
            for one in releases
        )
        made = channel_kit.make_channel(number=number, name=name, **more)._replace(releases=named)
        return open_channel(sign(self.rollout, made), channel_path(name))

    def publisher(
        self,
        store: Store,
        releases: Sequence[GivenRelease] = (),
        channels: Sequence[PublishedChannel] = (),
        *,
        check: bool = False,
    ) -> Publisher:
        """Prepare a publication."""
        options = PublishOptions(self.judge, self.judge_channel, check, tell=self.told.append)
        return Publisher(store, Publication(store, releases, channels, options), options)

    def publish(
        self, store: Store, *given: GivenRelease | PublishedChannel, check: bool = False
    ) -> PublishedPaths:
        """Publish releases and channels."""
        releases = [one for one in given if isinstance(one, GivenRelease)]
        channels = [one for one in given if isinstance(one, PublishedChannel)]
        return self.publisher(store, releases, channels, check=check).run()

    def newer(self, given: GivenRelease) -> GivenRelease:
        """Return a release with newer CRLs."""
        data = self.stapled(given.data)
        return given._replace(data=data, release=self.judge(data))

    def stapled(self, data: bytes) -> bytes:
        """Return an envelope with newer CRLs."""
        crls = tuple(
            make_crl(one, number=2, days=(0, 40)) for one in (self.pki.issuing, self.pki.root)
        )
        envelope = decode_envelope(data)
        (block,) = decode_blocks(envelope.blocks)
        blocks = (encode_block(block._replace(crls=crls)),)
        return encode_envelope(envelope._replace(blocks=blocks))


class Wrapped:
    """A store that passes everything on; tests replace what shall go wrong."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def place(self) -> str:
        return self.store.place

    def entry(self, path: str) -> StoredEntry | None:
        return self.store.entry(path)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        return self.store.read(path, start, size)

    def put_absent(self, path: str, source: Source, size: int) -> bool:
        return self.store.put_absent(path, source, size)

    def replace(
        self, path: str, data: bytes, seen: bytes | None, names: Sequence[tuple[str, int]] = ()
    ) -> bool:
        return self.store.replace(path, data, seen, names)

    def names(self, prefix: str) -> Iterator[StoredEntry]:
        return self.store.names(prefix)

    def delete(self, path: str) -> None:
        self.store.delete(path)

    def now(self) -> float:
        return self.store.now()


def missing_of(store: Store, channel: str = "stable") -> list[str]:
    """Return what a follower of a channel would not find whole; nothing if there is none."""
    path = channel_path(channel)
    if store.entry(path) is None:
        return []
    wrong = []
    for one in open_channel(store.read(path), path).channel.releases:
        place = release_path(one.manifest_digest)
        if store.entry(place) is None:
            wrong.append(place)
            continue
        data = store.read(place)
        for payload in payloads_named(data, one.manifest_digest, place):
            entry = store.entry(payload)
            held = store.read(payload) if entry else b""
            if hashlib.sha256(held).hexdigest() != payload.removeprefix("sha256/"):
                wrong.append(payload)
    return wrong
