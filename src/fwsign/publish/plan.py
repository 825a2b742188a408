# SPDX-License-Identifier: Apache-2.0
"""What may be published, and what is to be done: steps 2 and 3 of `fwsign.publish.publishing`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Unsuitable
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.envelope import decode_envelope
from fwsign.format.opening import decode_blocks
from fwsign.publish.content import PublishedChannel, open_channel
from fwsign.publish.layout import channel_path, outside, release_path
from fwsign.publish.store import Store
from fwsign.publish.writing import GivenPayload, Outcome, read_if_there, why_wrong
from fwsign.verify.channel import SeenChannel
from fwsign.verify.verified import Verified, VerifiedRelease
from fwsign.x509.crl import parse_crl

if TYPE_CHECKING:
    from fwsign.format.component import Component


class GivenRelease(NamedTuple):
    """A verified release that is to be published.

    Args:
        data: its envelope.
        release: the same, verified.
        payloads: those outside the envelope, by their paths in the place.
    """

    data: bytes
    release: VerifiedRelease
    payloads: Mapping[str, GivenPayload]

    @property
    def path(self) -> str:
        """Its envelope's path in the place."""
        return release_path(self.release.manifest_digest)


class PublishOptions(NamedTuple):
    """How to publish.

    Args:
        judge: verifies an envelope that is there already as the given ones were.
        judge_channel: verifies a channel that is to follow the one seen there.
        check: fetch the payloads that are there, and hash them.
        advance: told how many bytes of payloads are done.
        tell: told what people should know.
    """

    judge: Callable[[bytes], VerifiedRelease]
    judge_channel: Callable[[bytes, SeenChannel | None], Verified]
    check: bool = False
    advance: Callable[[int], object] = lambda _: None
    tell: Callable[[str], object] = lambda _: None


class Publication:
    """What is given and what is there, compared.

    Args:
        store: the place.
        releases: the releases, verified.
        channels: the channels, verified.
        options: how to publish.

    Attributes:
        releases: the releases, by manifest digest.
        channels: the channels.
        named: the payloads of releases that channels name and that are there already.
    """

    def __init__(
        self,
        store: Store,
        releases: Sequence[GivenRelease],
        channels: Sequence[PublishedChannel],
        options: PublishOptions,
    ) -> None:
        self._store, self._options = store, options
        self.releases = {one.release.manifest_digest: one for one in releases}
        self.channels = channels
        self.named: dict[str, Component] = {}

    def make(self) -> Mapping[str, Outcome]:
        """Steps 2 and 3. Refuse what must not be published; return what would be done.

        Raises:
            FwsignError: the first refusal.
        """
        planned: dict[str, Outcome] = {}
        for one in self.channels:
            self.check_order(one, self.present(one.channel))
            for named in one.channel.releases:
                self._check_named(one.channel, named)
        for given in self.releases.values():
            for path, payload in given.payloads.items():
                there = self._store.entry(path) is not None
                wrong = there and why_wrong(
                    self._store, path, payload.component, check=self._options.check
                )
                planned[path] = "repaired" if wrong else "there" if there else "written"
        for given in self.releases.values():
            planned[given.path] = self.judge_envelope(given)[1]
        for one in self.channels:
            path = channel_path(one.channel.name)
            planned[path] = self.judge_there(self.present(one.channel), one)
        return planned

    def _check_named(self, channel: Channel, named: ChannelRelease) -> None:
        """Step 3. A release that a channel names is given or there, whole, and the right one."""
        given = self.releases.get(named.manifest_digest)
        release = given.release if given else self._published(channel, named)
        manifest = release.manifest
        if (manifest.vendor_id, manifest.class_id) != channel.identifiers:
            digest = named.manifest_digest.hex()
            raise Unsuitable(
                "unsuitable.product",
                f'the channel "{channel.name}" of {channel.product} names {digest}, which is a '
                "release of another product",
                expected=f"{channel.vendor} {channel.product}",
                found=digest,
            )
        if manifest.sequence_number != named.sequence_number:
            raise Malformed(
                "malformed.channel",
                f'the channel "{channel.name}" says sequence number {named.sequence_number} of a '
                f"release with {manifest.sequence_number}",
                expected=manifest.sequence_number,
                found=named.sequence_number,
            )

    def check_order(self, new: PublishedChannel, present: PublishedChannel | None) -> None:
        """Step 2. A channel follows the one that is there, or is the same.

        The number there counts whoever signed it: that a place is blocked is for its owner to see,
        not for devices.
        """
        if present is None:
            self._options.judge_channel(new.data, None)
            return
        self._refuse_other_product(new.channel, present.channel)
        number = present.channel.number
        try:
            self._options.judge_channel(new.data, SeenChannel(number, present.manifest_digest))
        except Unsuitable as error:
            path = channel_path(new.channel.name)
            told = error.with_more(f"{path} in {self._store.place} has number {number}")
            raise told.with_hint(f"make one with a number above {number}") from error

    def _refuse_other_product(self, new: Channel, present: Channel) -> None:
        """Keep the channel of another product, whose devices would refuse the new one."""
        if new.identifiers == present.identifiers:
            return
        own, found = (f"{one.vendor} {one.product}" for one in (new, present))
        raise Unsuitable(
            "unsuitable.product",
            f"{channel_path(new.name)} in {self._store.place} is for {found}, not {own}",
            expected=own,
            found=found,
            hint="give this channel another name, or publish it to another place",
        )

    def judge_there(self, present: PublishedChannel | None, new: PublishedChannel) -> Outcome:
        """Return what is to become of a channel that follows the one that is there."""
        if present is None:
            return "written"
        if present.data == new.data:
            return "there"
        try:
            there = self._options.judge_channel(present.data, None)
        except FwsignError:
            return "written"  # a device would refuse it
        return "newer there" if is_newer(present.data, there, new.data) else "written"

    def _published(self, channel: Channel, named: ChannelRelease) -> VerifiedRelease:
        """Return a release that is there already, with all its payloads."""
        path = release_path(named.manifest_digest)
        data = read_if_there(self._store, path)
        if data is None:
            raise Failed(
                "io.release-missing",
                f'the channel "{channel.name}" names the release {named.manifest_digest.hex()}, '
                f"which is neither given nor in {self._store.place}",
                expected=path,
                found="nothing",
            )
        release = self._options.judge(data)
        if release.manifest_digest != named.manifest_digest:
            raise Tampered(
                "tampered.manifest",
                f"{path} in {self._store.place} is another release",
                expected=named.manifest_digest.hex(),
                found=release.manifest_digest.hex(),
            )
        for place, component in outside(release.components).items():
            wrong = why_wrong(self._store, place, component, check=self._options.check)
            if wrong is not None:
                raise incomplete(self._store.place, place, wrong)
            self.named[place] = component
        return release

    def present(self, channel: Channel) -> PublishedChannel | None:
        """Return the channel that is there under a name."""
        path = channel_path(channel.name)
        data = read_if_there(self._store, path)
        if data is None:
            return None
        try:
            return open_channel(data, path)
        except FwsignError as error:
            raise Failed(
                "state.published",
                f"{path} in {self._store.place} cannot be read as a channel: {error.message}",
                expected="a channel, or nothing",
                found=error.code,
                hint="find out who wrote it, then remove it by hand",
            ) from error

    def judge_envelope(self, given: GivenRelease) -> tuple[bytes | None, Outcome]:
        """Return what is there in the place of an envelope, and what is to become of it."""
        seen = read_if_there(self._store, given.path)
        if seen is None:
            return None, "written"
        if seen == given.data:
            return seen, "there"
        try:
            there = self._options.judge(seen)
        except FwsignError:
            return seen, "repaired"
        if there.manifest_digest != given.release.manifest_digest:
            return seen, "repaired"
        return seen, "newer there" if is_newer(seen, there, given.data) else "written"


def incomplete(place: str, path: str, wrong: str) -> Tampered:
    """Return the refusal of a channel over a release whose payload is not whole."""
    return Tampered(
        "tampered.payload-size",
        f"a channel names a release whose payload {path} is not whole in {place}: {wrong}",
        expected=path,
        found=wrong,
        hint="publish that release again, too",
    )


def is_newer(there: bytes, verified: Verified, given: bytes) -> bool:
    """Tell whether an envelope is the given one with newer CRLs, and differs in nothing else.

    CRLs are public, and anyone can forge some. So whoever holds the place could put newer ones on
    an envelope without some of its signatures, or without whom it is encrypted to; or ones that
    nobody takes, without those that devices need.

    Args:
        there: the envelope that is there.
        verified: the same, verified: the CRLs that it used count, and no others.
        given: the envelope that was given.
    """
    (held, held_crls), (own, own_crls) = _without_crls(there), _without_crls(given)
    used = {crl.data for one in verified.signers for of in one.issued for crl in of.crls}
    return held == own and _newest(used.intersection(held_crls)) > _newest(own_crls)


def _without_crls(data: bytes) -> tuple[object, list[bytes]]:
    """Return all of an envelope but its CRLs, and these."""
    envelope = decode_envelope(data)
    blocks = decode_blocks(envelope.blocks)
    rest = (envelope._replace(blocks=()), [one._replace(crls=()) for one in blocks])
    return rest, [crl for one in blocks for crl in one.crls]


def _newest(crls: Iterable[bytes]) -> float:
    """Return the time of the newest CRL, a Unix time; 0 if there is none."""
    return max((parse_crl(one).this_update.timestamp() for one in crls), default=0.0)
