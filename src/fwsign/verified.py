# SPDX-License-Identifier: Apache-2.0
"""What verification yields: a `VerifiedRelease`, and each block as it was judged."""

import io
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, final

from fwsign import suit
from fwsign.chain import Path
from fwsign.component import Component
from fwsign.errors import Failed, FwsignError, Unsuitable
from fwsign.payload import Blocks, Receiving, Sink, Source, Staged, receive
from fwsign.revocation import Issued
from fwsign.timestamp import Stamp


class Signer(NamedTuple):
    """One block of an envelope, as judged.

    Args:
        algorithm: the COSE algorithm's name, or its number where it is unknown.
        now: the time that this block was judged by.
        path: the validated path, None where validation did not get that far.
        issued: the certificates of the path, and of that of the time-stamping authority, with
            the verified CRLs of their issuers.
        revocation_checked: whether step 5 was run.
        notes: what the caller should know: "freshness unproven", and what `compat` forgave.
        stamp: the time-stamp token as judged, None where there is none.
        refusal: why the block does not count, None where it does.
        for_vendor: whether it may sign for the manifest's vendor, counted or not. What came with
            other blocks says nothing about this vendor's releases, and is not remembered.
    """

    algorithm: str
    now: datetime
    path: Path | None = None
    issued: tuple[Issued, ...] = ()
    revocation_checked: bool = False
    notes: tuple[str, ...] = ()
    stamp: Stamp | None = None
    refusal: FwsignError | None = None
    for_vendor: bool = False

    @property
    def signed_at(self) -> datetime | None:
        """A time at which the signature was there already, as a token that counts proves."""
        return self.stamp.signed_at if self.stamp else None

    @property
    def tsa(self) -> str | None:
        """The authority that proved `signed_at`, for people."""
        counted = self.stamp and self.stamp.signed_at and self.stamp.path
        return counted.name if counted else None


@final
class VerifiedRelease:
    """A release that passed steps 1 to 9; only `Verifier.verify` makes one. Step 10 is `receive`.

    Attributes:
        manifest: the signed content: components, sequence number, identifiers.
        manifest_digest: the digest that was signed; it identifies the release.
        text: what people read, None where it was cut off.
        vendor: the vendor's domain, from the signer's certificate or the policy's pins.
        signers: every block as judged, those that do not count too.
        unchecked: the steps not run: "revocation" (no CRLs, or off), "vendor", "product" and
            "rollback" (the policy does not say).
        notes: what the caller should know.
        now: the time that the release was judged by; not before the clock given.
        known_time: a time that has passed, as CRLs say and as far as that is supported: what a
            device remembers as its time floor. None where nothing is known.
    """

    __slots__ = (
        "_block_lists",
        "_integrated",
        "known_time",
        "manifest",
        "manifest_digest",
        "notes",
        "now",
        "signers",
        "text",
        "unchecked",
        "vendor",
    )
    manifest: suit.Manifest
    manifest_digest: bytes
    text: suit.Text | None
    vendor: str
    signers: tuple[Signer, ...]
    unchecked: tuple[str, ...]
    notes: tuple[str, ...]
    now: datetime
    known_time: datetime | None
    _block_lists: Mapping[str, Blocks]
    _integrated: Mapping[str, bytes]

    def __new__(cls) -> "VerifiedRelease":
        """Refuse: there is no other way to get one than to verify."""
        raise TypeError("only Verifier.verify makes a VerifiedRelease")

    def __init_subclass__(cls) -> None:
        """Refuse: an instance of a subclass would pass for a verified release."""
        raise TypeError("a VerifiedRelease has no subclasses")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a VerifiedRelease does not change: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a VerifiedRelease does not change: {name}")

    @property
    def components(self) -> tuple[Component, ...]:
        """The components, with identifier, digest, size in bytes and uri."""
        return self.manifest.components

    @property
    def counted(self) -> tuple[tuple[Signer, Path], ...]:
        """The blocks that count, with the path of each."""
        return tuple((one, one.path) for one in self.signers if one.path and one.refusal is None)

    def component(self, name: str) -> Component:
        """Return the component of a name, as in `build.bin` or `esp32c3@0x10000`.

        Raises:
            Unsuitable: `unsuitable.component`.
        """
        for component in self.components:
            if component.name == name:
                return component
        known = ", ".join(component.name for component in self.components)
        raise Unsuitable(
            "unsuitable.component",
            f'the release has no component "{name}", it has {known}',
            expected=known,
            found=name,
        )

    def blocks(self, component: Component | str) -> Blocks | None:
        """Return the block list of a component, or of its name; None where it has none.

        Raises:
            Unsuitable: `unsuitable.component`.
        """
        return self._block_lists.get(self._own(component).name)

    def _own(self, component: Component | str) -> Component:
        return self.component(component if isinstance(component, str) else component.name)

    def receive(
        self, component: Component | str, source: Source | None = None, sink: Sink | None = None
    ) -> None:
        """Step 10: stream a payload, checking size and digest; commit only after this returned.

        Where there is a block list, only blocks whose digest is right reach the sink.

        Args:
            component: a component of this release, or its name.
            source: where the payload comes from; not needed where it is inside the envelope.
            sink: takes the bytes, at most as many as were signed; they are good only if this
                returns.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`.
            Unsuitable: `unsuitable.component`.
            Failed: `io.read`, `io.write`, `io.payload-missing`.
        """
        own = self._own(component)
        inside = self._integrated.get(own.uri)
        if inside is not None:
            source = io.BytesIO(inside)
        elif source is None:
            message = f'no source for the payload of "{own.name}"'
            raise Failed("io.payload-missing", message, step=10)
        receive(own, source, sink, self.blocks(own))

    def receiving(self, component: Component | str, sink: Sink | None = None) -> Receiving:
        """Step 10 for bytes that come in pieces: `feed` them, then `finish`, then commit.

        Raises:
            Unsuitable: `unsuitable.component`.
        """
        own = self._own(component)
        return Receiving(own, sink, self.blocks(own))

    def resuming(self, component: Component | str, file: Staged) -> Receiving:
        """Step 10 for a payload that an earlier try left incomplete: go on at its `offset`.

        Args:
            component: a component of this release, or its name.
            file: what the earlier try wrote to, open for reading and writing. It is rehashed from
                its start, and cut behind what can be kept. Nobody else may write to it.

        Raises:
            Unsuitable: `unsuitable.component`.
            Failed: `io.read`, `io.write`.
        """
        own = self._own(component)
        return Receiving.resume(own, file, self.blocks(own))


def seal(
    *,
    manifest: suit.Manifest,
    manifest_digest: bytes,
    text: suit.Text | None,
    vendor: str,
    signers: tuple[Signer, ...],
    unchecked: tuple[str, ...],
    notes: tuple[str, ...],
    now: datetime,
    known_time: datetime | None,
    integrated: Mapping[str, bytes],
    block_lists: Mapping[str, Blocks],
) -> VerifiedRelease:
    """Make a `VerifiedRelease`; for `Verifier.verify` alone, which a test of the layers holds."""
    release = object.__new__(VerifiedRelease)
    for name, fact in {
        "manifest": manifest,
        "manifest_digest": manifest_digest,
        "text": text,
        "vendor": vendor,
        "signers": signers,
        "unchecked": unchecked,
        "notes": notes,
        "now": now,
        "known_time": known_time,
        "_integrated": integrated,
        "_block_lists": block_lists,
    }.items():
        object.__setattr__(release, name, fact)
    return release
