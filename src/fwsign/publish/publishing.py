# SPDX-License-Identifier: Apache-2.0
"""Publish: payloads, then envelopes, then channels, so that a follower never sees a gap.

    1  every release is verified, and every channel        (the caller; nothing was written)
    2  each channel may follow the one that is there       `_check_order`
    3  each release that a channel names is given or there `_check_named`
    4  payloads, several at once, unless they are there
    5  envelopes; one that is there is only replaced by one with newer CRLs
    6  all payloads are still there                         a collection of garbage may have run
    7  channels, each over the one that was seen
    8  all that the channels name is still there

A crash between any two writes leaves the old channel, and all that it names.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Unsuitable
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.publish.content import PublishedChannel, open_channel
from fwsign.publish.layout import channel_path, outside, release_path
from fwsign.publish.store import Store
from fwsign.publish.writing import (
    Outcome,
    Payload,
    age,
    read_if_there,
    why_wrong,
    write_payload,
    write_small,
)
from fwsign.verify.channel import SeenChannel
from fwsign.verify.verified import VerifiedRelease

if TYPE_CHECKING:
    from fwsign.format.component import Component

AT_ONCE: Final = 4
"""Payloads that are written at a time."""
FRESH: Final = 3600.0
"""Seconds; an envelope that was written longer ago is written again, so that a collection of
garbage takes it and its payloads for new."""


class GivenRelease(NamedTuple):
    """A verified release that is to be published.

    Args:
        data: its envelope.
        release: the same, verified.
        payloads: those outside the envelope, by their paths in the place.
    """

    data: bytes
    release: VerifiedRelease
    payloads: Mapping[str, Payload]

    @property
    def path(self) -> str:
        """Its envelope's path in the place."""
        return release_path(self.release.manifest_digest)


class Options(NamedTuple):
    """How to publish.

    Args:
        judge: verifies an envelope that is there already as the given ones were.
        judge_channel: verifies a channel that is to follow the one seen there.
        check: fetch the payloads that are there, and hash them.
        advance: told how many bytes of payloads are done.
        tell: told what people should know.
    """

    judge: Callable[[bytes], VerifiedRelease]
    judge_channel: Callable[[bytes, SeenChannel | None], object]
    check: bool = False
    advance: Callable[[int], object] = lambda _: None
    tell: Callable[[str], object] = lambda _: None


class Published(NamedTuple):
    """What was done.

    Args:
        outcomes: what became of each path, in the order of writing.
        guarded: whether the store guarantees that no other publisher's channel was replaced; None
            if no channel was replaced.
    """

    outcomes: Mapping[str, Outcome]
    guarded: bool | None = None


class Publisher:
    """One publication.

    Args:
        store: the place.
        releases: the releases, verified.
        channels: the channels, verified.
        options: how to publish.
    """

    def __init__(
        self,
        store: Store,
        releases: Sequence[GivenRelease],
        channels: Sequence[PublishedChannel],
        options: Options,
    ) -> None:
        self._store, self._options = store, options
        self._releases = {one.release.manifest_digest: one for one in releases}
        self._channels = channels
        self._outcomes: dict[str, Outcome] = {}
        self._named: dict[str, Component] = {}
        self._lock = threading.Lock()

    def plan(self) -> Mapping[str, Outcome]:
        """Steps 2 and 3. Refuse what must not be published; return what `run` would do.

        Raises:
            FwsignError: the first refusal.
        """
        planned: dict[str, Outcome] = {}
        for one in self._channels:
            self._check_order(one, self._present(one.channel))
            for named in one.channel.releases:
                self._check_named(one.channel, named)
        for given in self._releases.values():
            for path, payload in given.payloads.items():
                there = self._store.entry(path) is not None
                wrong = there and why_wrong(
                    self._store, path, payload.component, check=self._options.check
                )
                planned[path] = "repaired" if wrong else "there" if there else "written"
        for given in self._releases.values():
            planned[given.path] = self._judge_envelope(given)[1]
        for one in self._channels:
            path = channel_path(one.channel.name)
            same = read_if_there(self._store, path) == one.data
            planned[path] = "there" if same else "written"
        return planned

    def run(self) -> Published:
        """Steps 2 to 8.

        Raises:
            FwsignError: refused before anything was written, or stopped in between; then it can be
                run again.
        """
        self.plan()
        self._write_payloads(self._payloads())
        for given in self._releases.values():
            self._write_envelope(given)
        self._write_payloads(self._gone(self._payloads()))
        guards = [self._write_channel(one) for one in self._channels]
        self._settle()
        known = [one for one in guards if one is not None]
        return Published(self._outcomes, all(known) if known else None)

    # --- what may be published ---------------------------------------------------------------

    def _check_named(self, channel: Channel, named: ChannelRelease) -> None:
        """Step 3. A release that a channel names is given or there, whole, and the right one."""
        given = self._releases.get(named.manifest_digest)
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

    def _check_order(self, new: PublishedChannel, present: PublishedChannel | None) -> None:
        """Step 2. A channel follows the one that is there, or is the same.

        The number there counts whoever signed it: that a place is blocked is for its owner to see,
        not for devices.
        """
        if present is None:
            self._options.judge_channel(new.data, None)
            return
        number = present.channel.number
        try:
            self._options.judge_channel(new.data, SeenChannel(number, present.manifest_digest))
        except Unsuitable as error:
            path = channel_path(new.channel.name)
            told = error.with_more(f"{path} in {self._store.place} has number {number}")
            raise told.with_hint(f"make one with a number above {number}") from error

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
                raise self._incomplete(place, wrong)
            self._named[place] = component
        return release

    def _present(self, channel: Channel) -> PublishedChannel | None:
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

    # --- payloads ----------------------------------------------------------------------------

    def _payloads(self) -> dict[str, Payload]:
        """Return the payloads that are given, by their paths."""
        return {
            path: payload
            for given in self._releases.values()
            for path, payload in given.payloads.items()
        }

    def _write_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Step 4. Write payloads, several at once."""
        if not payloads:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(payloads))) as pool:
            started = [pool.submit(self._write_payload, *one) for one in payloads.items()]
            done, waiting = wait(started, return_when=FIRST_EXCEPTION)
            for one in waiting:
                one.cancel()
        for one in (*done, *waiting):
            if not one.cancelled():
                one.result()

    def _write_payload(self, path: str, payload: Payload) -> None:
        outcome = write_payload(
            self._store, path, payload, self._advance, check=self._options.check
        )
        if outcome == "repaired":
            self._tell(f"{path} was not what its name says, and was replaced")
        with self._lock:
            if self._outcomes.get(path) in (None, "there"):
                self._outcomes[path] = outcome

    def _gone(self, payloads: Mapping[str, Payload]) -> dict[str, Payload]:
        """Steps 6 and 8. Return the payloads that are not there any more."""
        return {path: one for path, one in payloads.items() if self._store.entry(path) is None}

    # --- envelopes and channels ----------------------------------------------------------------

    def _judge_envelope(self, given: GivenRelease) -> tuple[bytes | None, Outcome]:
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
        return seen, "newer there" if _is_newer(there, given.release) else "written"

    def _write_envelope(self, given: GivenRelease) -> None:
        """Step 5. Write an envelope, or leave the one that is there."""
        seen, outcome = self._judge_envelope(given)
        self._outcomes[given.path] = outcome
        if outcome == "repaired":
            self._tell(f"{given.path} was not what its name says, and was replaced")
        if outcome == "newer there":
            self._tell(f"{given.path} has newer CRLs than the one given, and stays")
        data = seen if outcome == "newer there" and seen is not None else given.data
        entry = self._store.entry(given.path)
        if data == seen and entry is not None and age(entry, time.time()) < FRESH:
            return
        names = [(path, one.component.size) for path, one in given.payloads.items()]
        write_small(self._store, given.path, data, seen, names)

    def _write_channel(self, one: PublishedChannel) -> bool | None:
        """Step 7. Write a channel over the one that was seen; tell whether the store guards it."""
        path = channel_path(one.channel.name)
        present = self._present(one.channel)
        self._check_order(one, present)
        if present is not None and present.data == one.data:
            self._outcomes[path] = "there"
            return None
        guarded = write_small(self._store, path, one.data, present.data if present else None)
        self._outcomes[path] = "written"
        return guarded

    def _settle(self) -> None:
        """Step 8. What the channels name is still there; put back what was given."""
        self._write_payloads(self._gone(self._payloads()))
        for given in self._releases.values():
            if self._store.entry(given.path) is None:
                self._write_envelope(given)
        for path, component in self._named.items():
            wrong = why_wrong(self._store, path, component, check=False)
            if wrong is not None:
                raise self._incomplete(path, wrong)

    def _incomplete(self, path: str, wrong: str) -> Tampered:
        return Tampered(
            "tampered.payload-size",
            f"a channel names a release whose payload {path} is not whole in "
            f"{self._store.place}: {wrong}",
            expected=path,
            found=wrong,
            hint="publish that release again, too",
        )

    def _advance(self, count: int) -> None:
        with self._lock:
            self._options.advance(count)

    def _tell(self, words: str) -> None:
        with self._lock:
            self._options.tell(words)


def _is_newer(there: VerifiedRelease, given: VerifiedRelease) -> bool:
    """Tell whether the CRLs of one envelope are newer than those of another."""
    if there.known_time is None:
        return False
    return given.known_time is None or there.known_time > given.known_time
