# SPDX-License-Identifier: Apache-2.0
"""The results of verification: `VerifiedRelease`, `VerifiedChannel`, the verdict on each block."""

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, final

from fwsign.errors import Failed, FwsignError, Unsuitable
from fwsign.format import suit
from fwsign.format.channel import Channel
from fwsign.format.ciphertext import BlockCipher
from fwsign.format.component import Component
from fwsign.format.decryption import cipher_of
from fwsign.format.encryption import Recipient
from fwsign.format.key_wrap import AgreementKey
from fwsign.format.native import StatedNative
from fwsign.format.payload import (
    Blocks,
    PartialPayload,
    PayloadSink,
    PayloadSource,
    Receiving,
    receive,
)
from fwsign.format.text import Text
from fwsign.verify.sealed import Sealed, make
from fwsign.verify.signers import Demand
from fwsign.verify.stamp import Stamp
from fwsign.x509.chain import CertificationPath
from fwsign.x509.revocation import Issued


class VerifiedSigner(NamedTuple):
    """The verdict on one block of an envelope.

    Args:
        algorithm: the COSE algorithm's name, or its number if it is unknown.
        now: the time at which this block was judged.
        path: the validated path, None if validation did not get that far.
        issued: the certificates of the path and of the time-stamping authority's path, with the
            verified CRLs of their issuers.
        revocation_checked: whether step 5 was run.
        notes: notes for the caller, such as "freshness unproven" and the faults forgiven.
        stamp: the verdict on the time-stamp token, None if there is none.
        refusal: the reason why the block does not count, None if it does.
        for_vendor: whether it may sign for the manifest's vendor, counted or not. CRLs that came
            with other blocks do not concern this vendor's releases, and are not remembered.
    """

    algorithm: str
    now: datetime
    path: CertificationPath | None = None
    issued: tuple[Issued, ...] = ()
    revocation_checked: bool = False
    notes: tuple[str, ...] = ()
    stamp: Stamp | None = None
    refusal: FwsignError | None = None
    for_vendor: bool = False

    @property
    def signed_at(self) -> datetime | None:
        """A time at which the signature existed, if a token that counts proves it."""
        return self.stamp.signed_at if self.stamp else None

    @property
    def tsa(self) -> str | None:
        """The authority that proved `signed_at`, for people."""
        counted = self.stamp and self.stamp.signed_at and self.stamp.path
        return counted.name if counted else None


def counted(
    signers: Iterable[VerifiedSigner],
) -> tuple[tuple[VerifiedSigner, CertificationPath], ...]:
    """Return the verdicts on the blocks that count, with the path of each."""
    return tuple((one, one.path) for one in signers if one.path and one.refusal is None)


class Proven(NamedTuple):
    """What is known of every envelope that was verified; `Verified` describes each."""

    manifest: suit.Manifest
    manifest_digest: bytes
    vendor: str
    signers: tuple[VerifiedSigner, ...]
    unchecked: tuple[str, ...]
    notes: tuple[str, ...]
    now: datetime
    known_time: datetime | None


class Verified(Sealed):
    """An envelope that was verified.

    Attributes:
        manifest: the signed content: components, sequence number, identifiers.
        manifest_digest: the digest that was signed; it identifies the envelope's content.
        vendor: the vendor's domain, from the signer's certificate or the policy's pins.
        signers: the verdicts on all blocks, including those that do not count.
        unchecked: the steps not run: "revocation" (no CRLs, or off), "vendor", "product" and
            "rollback" (the policy does not say).
        notes: notes for the caller.
        now: the time at which it was judged; never before the given clock's time.
        known_time: the latest time that CRLs prove to have passed, as far as other evidence
            supports them. A device remembers it as its time floor. None if nothing is known.
    """

    __slots__ = Proven._fields
    manifest: suit.Manifest
    manifest_digest: bytes
    vendor: str
    signers: tuple[VerifiedSigner, ...]
    unchecked: tuple[str, ...]
    notes: tuple[str, ...]
    now: datetime
    known_time: datetime | None

    @property
    def counted(self) -> tuple[tuple[VerifiedSigner, CertificationPath], ...]:
        """The blocks that count, with the path of each."""
        return counted(self.signers)


@final
class VerifiedChannel(Verified, made_by="Verifier.verify_channel"):
    """A channel that may be followed; only `Verifier.verify_channel` makes one.

    Attributes:
        channel: what it says.
    """

    __slots__ = ("channel",)
    channel: Channel


@final
class VerifiedRelease(Verified, made_by="Verifier.verify"):
    """A release that passed steps 1 to 9; only `Verifier.verify` makes one. Step 10 is `receive`.

    Attributes:
        text: the text for people, None if it was cut off.
        demands: the demands of the policy about roles, with the signers that meet them.
    """

    __slots__ = ("_block_lists", "_integrated", "_recipients", "demands", "text")
    text: Text | None
    demands: tuple[Demand, ...]
    _block_lists: Mapping[str, Blocks]
    _integrated: Mapping[str, bytes]
    _recipients: Mapping[str, tuple[Recipient, ...]]

    @property
    def components(self) -> tuple[Component, ...]:
        """The components, each with identifier, digest, size in bytes and uri."""
        return self.manifest.components

    def component(self, name: str) -> Component:
        """Return the component with a name such as `build.bin` or `esp32c3@0x10000`.

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
        """Return the block list of a component, given it or its name; None if it has none.

        Raises:
            Unsuitable: `unsuitable.component`.
        """
        return self._block_lists.get(self._own(component).name)

    def native(self, component: Component | str) -> StatedNative | None:
        """Return what the text states of a component's native signature; None if it states none.

        Raises:
            Unsuitable: `unsuitable.component`.
        """
        own = self._own(component)
        stated = self.text.native if self.text is not None else ()
        return dict(zip(self.components, stated, strict=False)).get(own)

    def recipients(self, component: Component | str) -> tuple[Recipient, ...]:
        """Return whom a component's payload is encrypted to; nobody if it is not encrypted.

        No signature covers this: whoever has the content key may have added to it.

        Raises:
            Unsuitable: `unsuitable.component`.
        """
        return self._recipients.get(self._own(component).name, ())

    def _cipher(self, own: Component, keys: Sequence[AgreementKey]) -> BlockCipher | None:
        return cipher_of(own, self.recipients(own), self.blocks(own), keys)

    def _own(self, component: Component | str) -> Component:
        return self.component(component if isinstance(component, str) else component.name)

    def attached(self, name: str) -> bytes | None:
        """Return the bytes of an attachment; None if they are not inside the envelope.

        Args:
            name: the name of one of `text.attachments`.

        Raises:
            Unsuitable: `unsuitable.component`: the release has no such attachment.
        """
        for one in self.text.attachments if self.text else ():
            if one.name == name:
                return self._integrated.get(one.uri)
        raise Unsuitable("unsuitable.component", f'the release has no attachment "{name}"')

    def receive(
        self,
        component: Component | str,
        source: PayloadSource | None = None,
        sink: PayloadSink | None = None,
        keys: Sequence[AgreementKey] = (),
    ) -> None:
        """Step 10: stream a payload and check size and digest; commit only after this returned.

        With a block list, only blocks with the right digest reach the sink. To cancel, let source
        or sink raise: what is neither an `OSError` nor ours leaves this function unchanged.

        Args:
            component: a component of this release, or its name.
            source: the source of the payload; not needed if it is inside the envelope.
            sink: takes the bytes, at most the signed size; they are good only if this returns.
            keys: the device's keys for encrypted payloads. Without one, an encrypted payload is
                checked as ciphertext, and no sink gets it.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`,
                `tampered.content-key`, `tampered.plaintext`.
            Unsuitable: `unsuitable.component`, `unsuitable.recipient`.
            Failed: `io.read`, `io.write`, `io.payload-missing`.
        """
        own = self._own(component)
        inside = self._integrated.get(own.uri)
        if inside is not None:
            source = io.BytesIO(inside)
        elif source is None:
            message = f'no source for the payload of "{own.name}"'
            raise Failed("io.payload-missing", message, step=10)
        receive(own, source, sink, self.blocks(own), self._cipher(own, keys))

    def receive_decrypted(
        self,
        component: Component | str,
        source: PayloadSource | None = None,
        sink: PayloadSink | None = None,
    ) -> None:
        """Step 10 again, for bytes that an earlier step 10 gave: decrypted, if they were encrypted.

        Args:
            component: a component of this release, or its name.
            source: the source of the bytes; not needed if they are inside, and not encrypted.
            sink: as for `receive`.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`.
            Unsuitable: `unsuitable.component`.
            Failed: `io.read`, `io.write`, `io.payload-missing`.
        """
        own = self._own(component)
        if own.encrypted is None or source is None:
            self.receive(own, source, sink)
        else:
            receive(own.plain, source, sink)

    def receiving(
        self,
        component: Component | str,
        sink: PayloadSink | None = None,
        keys: Sequence[AgreementKey] = (),
    ) -> Receiving:
        """Step 10 for bytes that come in pieces: `feed` them, then `finish`, then commit.

        Args:
            component: a component of this release, or its name.
            sink: takes the bytes; they are good only after `finish`.
            keys: as for `receive`.

        Raises:
            Unsuitable: `unsuitable.component`, `unsuitable.recipient`.
            Tampered: `tampered.content-key`.
        """
        own = self._own(component)
        return Receiving(own, sink, self.blocks(own), self._cipher(own, keys))

    def resuming(
        self,
        component: Component | str,
        file: PartialPayload,
        keys: Sequence[AgreementKey] = (),
    ) -> Receiving:
        """Step 10 for a payload that an earlier try left incomplete: go on at its `offset`.

        Args:
            component: a component of this release, or its name.
            file: the file of the earlier try, open for reading and writing. It is rehashed from its
                start, and cut after the bytes that can be kept. Nothing else may write to it.
            keys: as for `receive`.

        Raises:
            Unsuitable: `unsuitable.component`, `unsuitable.recipient`.
            Tampered: `tampered.content-key`.
            Failed: `io.read`, `io.write`.
        """
        own = self._own(component)
        return Receiving.resume(own, file, self.blocks(own), self._cipher(own, keys))


def seal(
    facts: Proven,
    *,
    text: Text | None,
    demands: tuple[Demand, ...],
    integrated: Mapping[str, bytes],
    block_lists: Mapping[str, Blocks],
    recipients: Mapping[str, tuple[Recipient, ...]],
) -> VerifiedRelease:
    """Make a `VerifiedRelease`; only `Verifier.verify` may call this, as a layer test checks."""
    return make(
        VerifiedRelease,
        **facts._asdict(),
        text=text,
        demands=demands,
        _integrated=integrated,
        _block_lists=block_lists,
        _recipients=recipients,
    )


def seal_channel(facts: Proven, channel: Channel) -> VerifiedChannel:
    """Make a `VerifiedChannel`; only `Verifier.verify_channel` may call this."""
    return make(VerifiedChannel, **facts._asdict(), channel=channel)
