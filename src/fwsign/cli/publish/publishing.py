# SPDX-License-Identifier: Apache-2.0
"""Verify what is to be published, and publish it with a progress bar."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.verify.demands import Trust
from fwsign.cli.verify.parcels import Parcel, split
from fwsign.cli.verify.payload_files import receive
from fwsign.errors import FwsignError
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.publish.content import PublishedChannel, open_channel
from fwsign.publish.layout import channel_path, outside, payload_path
from fwsign.publish.plan import GivenRelease, Publication, PublishOptions
from fwsign.publish.publishing import PublishedPaths, Publisher
from fwsign.publish.store import Store
from fwsign.publish.writing import GivenPayload
from fwsign.verify.channel import SeenChannel
from fwsign.verify.verified import VerifiedChannel, VerifiedRelease
from fwsign.verify.verifier import Verifier

_LARGE: Final = 8 * 1024 * 1024
"""Bytes; less is done before a bar is seen."""


class PublishJudge:
    """Verifies envelopes and channels by the anchors and the policy of the command line.

    Args:
        trust: the anchors and the policy.
        now: the clock's time.
    """

    def __init__(self, trust: Trust, now: datetime) -> None:
        self._trust, self._now = trust, now
        self._verifier = Verifier(trust.anchors, trust.policy)

    def release(self, data: bytes) -> VerifiedRelease:
        """Verify an envelope."""
        return self._verifier.verify(data, at=self._now)

    def channel(self, data: bytes, seen: SeenChannel | None) -> VerifiedChannel:
        """Verify a channel, which may follow the one seen."""
        return self._verifier.verify_channel(data, at=self._now, seen=seen)

    def releases(self, files: Sequence[Path]) -> list[GivenRelease]:
        """Verify envelopes and their payloads.

        Raises:
            FwsignError: one of them is refused.
        """
        parcels = split(files[0], files[1:]) if files else []
        return [self._release(one) for one in parcels]

    def _release(self, parcel: Parcel) -> GivenRelease:
        if isinstance(parcel.data, FwsignError):
            raise parcel.data
        with inputs.expecting_envelope(parcel.envelope, data=parcel.data):
            release = self.release(parcel.data)
        inputs.refuse_unused(self._trust.policy.crls, release)
        found = receive(release, parcel.envelope, parcel.payloads, manifest_only=False)
        payloads = {}
        for component in outside(release.components).values():
            file = found[component.name]
            if file is None:
                raise AssertionError(component.name)  # receive has it, or raises
            path = payload_path(component)
            payloads[path] = GivenPayload(file, component, release.blocks(component))
        return GivenRelease(parcel.data, release, payloads)

    def channels(self, files: Sequence[Path]) -> list[PublishedChannel]:
        """Verify channels.

        Raises:
            FwsignError: one of them is refused.
        """
        found: dict[str, PublishedChannel] = {}
        for file in files:
            data = inputs.read(file, MAX_ENVELOPE_SIZE)
            with inputs.expecting_envelope(file, ".channel", data):
                verified = self._verifier.verify_channel(data, at=self._now)
            path = channel_path(verified.channel.name)
            if path in found:
                ui.usage(f'two channels called "{verified.channel.name}"')
            found[path] = open_channel(data, path)
        return [*found.values()]


def run(
    store: Store,
    releases: Sequence[GivenRelease],
    channels: Sequence[PublishedChannel],
    judge: PublishJudge,
    *,
    check: bool,
    dry_run: bool,
) -> PublishedPaths:
    """Publish, or only tell what would be done.

    Raises:
        FwsignError: it is refused, or failed.
    """
    size = sum(
        payload.component.carried.size for given in releases for payload in given.payloads.values()
    )
    with _bar(size) as advance:
        options = PublishOptions(judge.release, judge.channel, check, advance, ui.note)
        plan = Publication(store, releases, channels, options)
        return PublishedPaths(plan.make()) if dry_run else Publisher(store, plan, options).run()


@contextlib.contextmanager
def _bar(size: int) -> Iterator[Callable[[int], object]]:
    if size < _LARGE or ui.Console.quiet or not ui.is_terminal(sys.stderr):
        yield lambda _: None
        return
    with typer.progressbar(length=size, label="publishing", file=sys.stderr) as bar:
        yield bar.update
