# SPDX-License-Identifier: Apache-2.0
"""Publish: payloads, then envelopes, then channels, so that a follower never sees a gap.

    1  every release is verified, and every channel        (the caller; nothing was written)
    2  each channel may follow the one that is there       `Publication.check_order`
    3  each release that a channel names is given or there `Publication`
    4  payloads, several at once, unless they are there
    5  envelopes; one that is there is only replaced by one with newer CRLs
    6  all payloads are still there                         a collection of garbage may have run
    7  channels, each over the one that was seen
    8  all that the channels name is still there

A crash between any two writes leaves the old channel, and all that it names.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final, NamedTuple

from fwsign.publish.content import PublishedChannel
from fwsign.publish.layout import channel_path
from fwsign.publish.plan import GivenRelease, Publication, PublishOptions, incomplete
from fwsign.publish.store import Store
from fwsign.publish.writing import (
    GivenPayload,
    Outcome,
    why_wrong,
    write_payload,
    write_small,
)

AT_ONCE: Final = 4
"""Payloads that are written at a time."""
FRESH: Final = 3600.0
"""Seconds; an envelope that was written longer ago is written again, so that a collection of
garbage takes it and its payloads for new."""


class PublishedPaths(NamedTuple):
    """What was done.

    Args:
        outcomes: what became of each path, in the order of writing.
        guarded: whether the store guarantees that no other publisher's channel was replaced; None
            if no channel was replaced.
    """

    outcomes: Mapping[str, Outcome]
    guarded: bool | None = None


class Publisher:
    """Writes one publication.

    Args:
        store: the place.
        plan: what is to be published.
        options: how to publish.
    """

    def __init__(self, store: Store, plan: Publication, options: PublishOptions) -> None:
        self._store, self._plan, self._options = store, plan, options
        self._outcomes: dict[str, Outcome] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self) -> PublishedPaths:
        """Steps 2 to 8.

        Raises:
            FwsignError: refused before anything was written, or stopped in between; then it can be
                run again.
        """
        self._plan.make()
        self._write_payloads(self._payloads())
        for given in self._plan.releases.values():
            self._write_envelope(given)
        self._write_payloads(self._gone(self._payloads()))
        guards = [self._write_channel(one) for one in self._plan.channels]
        self._settle()
        known = [one for one in guards if one is not None]
        return PublishedPaths(self._outcomes, all(known) if known else None)

    # --- payloads ----------------------------------------------------------------------------

    def _payloads(self) -> dict[str, GivenPayload]:
        """Return the payloads that are given, by their paths."""
        return {
            path: payload
            for given in self._plan.releases.values()
            for path, payload in given.payloads.items()
        }

    def _write_payloads(self, payloads: Mapping[str, GivenPayload]) -> None:
        """Step 4. Write payloads, several at once."""
        if not payloads:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(payloads))) as pool:
            started = [pool.submit(self._write_payload, *one) for one in payloads.items()]
            try:
                for one in as_completed(started):
                    one.result()
            except BaseException:  # Ctrl-C too: nobody waits for the end of the others
                self._stopped = True
                for one in started:
                    one.cancel()
                raise

    def _write_payload(self, path: str, payload: GivenPayload) -> None:
        outcome = write_payload(
            self._store, path, payload, self._advance, check=self._options.check
        )
        if outcome == "repaired":
            self._tell(f"{path} was not what its name says, and was replaced")
        with self._lock:
            if self._outcomes.get(path) in (None, "there"):
                self._outcomes[path] = outcome

    def _gone(self, payloads: Mapping[str, GivenPayload]) -> dict[str, GivenPayload]:
        """Steps 6 and 8. Return the payloads that are not there any more."""
        return {path: one for path, one in payloads.items() if self._store.entry(path) is None}

    # --- envelopes and channels ----------------------------------------------------------------

    def _write_envelope(self, given: GivenRelease) -> None:
        """Step 5. Write an envelope, or leave the one that is there."""
        seen, outcome = self._plan.judge_envelope(given)
        self._outcomes[given.path] = outcome
        if outcome == "repaired":
            self._tell(f"{given.path} was not what its name says, and was replaced")
        if outcome == "newer there":
            self._tell(f"{given.path} has newer CRLs than the one given, and stays")
        data = seen if outcome == "newer there" and seen is not None else given.data
        entry = self._store.entry(given.path)
        # What a clock that is behind finds in the future is not fresh either.
        if data == seen and entry is not None and abs(time.time() - entry.modified) < FRESH:
            return
        names = [(path, one.component.carried.size) for path, one in given.payloads.items()]
        write_small(self._store, given.path, data, seen, names)

    def _write_channel(self, one: PublishedChannel) -> bool | None:
        """Step 7. Write a channel over the one that was seen; tell whether the store guards it."""
        path = channel_path(one.channel.name)
        present = self._plan.present(one.channel)
        self._plan.check_order(one, present)
        outcome = self._outcomes[path] = self._plan.judge_there(present, one)
        if outcome != "written":
            if outcome == "newer there":
                self._tell(f"{path} has newer CRLs than the one given, and stays")
            return None
        return write_small(self._store, path, one.data, present.data if present else None)

    def _settle(self) -> None:
        """Step 8. What the channels name is still there; put back what was given."""
        self._write_payloads(self._gone(self._payloads()))
        for given in self._plan.releases.values():
            if self._store.entry(given.path) is None:
                self._write_envelope(given)
        for path, component in self._plan.named.items():
            wrong = why_wrong(self._store, path, component, check=False)
            if wrong is not None:
                raise incomplete(self._store.place, path, wrong)

    def _advance(self, count: int) -> None:
        """Count bytes; end the writing of a payload if another one has failed."""
        if self._stopped:
            raise _StoppedError
        with self._lock:
            self._options.advance(count)

    def _tell(self, words: str) -> None:
        with self._lock:
            self._options.tell(words)


class _StoppedError(Exception):
    """The publication has failed already; never leaves this module."""
