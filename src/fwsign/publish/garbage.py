# SPDX-License-Identifier: Apache-2.0
"""Collect garbage: remove what no channel names, and never what one names.

A publisher may be at work at the same time. It writes payloads, then envelopes, then the channel.
So a payload stays while any envelope that stays names it, and what was written lately stays, named
or not. Channels are read again before each few removals, and after the last.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Failed
from fwsign.publish.content import open_channel, payloads_named
from fwsign.publish.layout import CHANNEL, PAYLOADS, RELEASES, is_leftover, is_ours, release_path
from fwsign.publish.store import Store, StoredEntry
from fwsign.publish.writing import age, read_if_there

BATCH: Final = 16
"""Removals between two looks at the channels."""


class Garbage(NamedTuple):
    """What was removed, or would be.

    Args:
        removed: the paths and their sizes, in the order of removal.
        kept: how many payloads and envelopes stay.
        ahead: seconds by which the clock here is ahead of the place's; 0 in a dry run.
    """

    removed: tuple[StoredEntry, ...]
    kept: int
    ahead: float = 0.0


class Collector:
    """One collection of garbage.

    Args:
        store: the place.
        older: seconds; what was written later than so long ago stays.
        now: gives the Unix time by the clock here.
        dry_run: remove nothing, and write nothing, so that the place's time is not known.
    """

    def __init__(
        self, store: Store, older: float, now: Callable[[], float], *, dry_run: bool = False
    ) -> None:
        self._store, self._older, self._clock, self._dry_run = store, older, now, dry_run
        self._now = float("-inf")  # nothing is old before the time is known
        self._payloads_of: dict[str, frozenset[str]] = {}
        self._removed: list[StoredEntry] = []

    def run(self) -> Garbage:
        """Remove the envelopes first, then the payloads that none needs any more.

        Raises:
            Failed: `io.missing`: there is no channel; `io.release-missing`; `state.conflict`.
            FwsignError: a channel, or an envelope that stays, cannot be read; nothing more is
                removed.
        """
        kept, ahead = 0, self._set_time()
        for prefix in (RELEASES, *PAYLOADS, ""):
            self._needed()  # before anything is looked at, so that a channel that fails stops all
            entries = [one for one in self._store.names(prefix) if _may_go(one.path)]
            old = [one for one in entries if age(one, self._now) >= self._older]
            kept += len(entries) - len(old)
            for at in range(0, len(old), BATCH):
                kept += self._remove(old[at : at + BATCH])
        self._check_nothing_needed()
        return Garbage(tuple(self._removed), kept, ahead)

    def _set_time(self) -> float:
        """Set the time that ages are counted to; return how far our clock is ahead of the place's.

        Of both clocks the earlier one counts, as it was before anything was looked at: a wrong one
        can let something stay, and cannot let it go while it is new.
        """
        self._named()  # where there is no channel, nothing is written either
        ours = self._clock()
        theirs = ours if self._dry_run else self._store.now()
        self._now = min(ours, theirs)
        return ours - theirs

    def _remove(self, entries: Sequence[StoredEntry]) -> int:
        """Remove what nothing needs; return how many stay."""
        needed, stay = self._needed(), 0
        for one in entries:
            entry = self._store.entry(one.path)
            if entry is None:
                continue
            if one.path in needed or age(entry, self._now) < self._older:
                stay += 1
                continue
            if not self._dry_run:
                self._store.delete(one.path)
            self._removed.append(entry)
        return stay

    def _needed(self) -> frozenset[str]:
        """Return the paths that channels name, with the payloads of all envelopes that stay."""
        named = self._named()
        gone = {one.path for one in self._removed}
        lately = {
            one.path
            for one in self._store.names(RELEASES)
            if is_ours(one.path) and one.path not in gone and age(one, self._now) < self._older
        }
        needed = set(named)
        for path in sorted(named | lately):
            needed |= self._payloads(path, required=path in named)
        return frozenset(needed)

    def _named(self) -> set[str]:
        """Return the envelopes that the channels name.

        An envelope that a channel names must be there: else nobody knows its payloads.
        """
        named: set[str] = set()
        channels = [one.path for one in self._store.names("") if one.path.endswith(CHANNEL)]
        channels = [path for path in channels if not is_leftover(path)]
        if not channels:
            raise Failed(
                "io.missing",
                f"{self._store.place} has no channel: all of it would be garbage",
                expected=f"a channel, such as stable{CHANNEL}",
                found="nothing",
            )
        for path in channels:
            one = open_channel(self._store.read(path), path)
            named |= {release_path(release.manifest_digest) for release in one.channel.releases}
        return named

    def _payloads(self, path: str, *, required: bool) -> frozenset[str]:
        """Return the payloads that an envelope names. By its path it never names others."""
        if path not in self._payloads_of:
            data = read_if_there(self._store, path)
            if data is None and not required:  # removed meanwhile
                return frozenset()
            if data is None:
                raise Failed(
                    "io.release-missing",
                    f"{path} is named, but it is not in {self._store.place}: "
                    "nobody knows the payloads that it needs",
                    expected=path,
                    found="nothing",
                )
            manifest_digest = bytes.fromhex(path.removeprefix(RELEASES).removesuffix(".suit"))
            self._payloads_of[path] = frozenset(payloads_named(data, manifest_digest, path))
        return self._payloads_of[path]

    def _check_nothing_needed(self) -> None:
        """Look once more: a publisher may have needed something in the last moment."""
        if self._dry_run:
            return
        lost = sorted(self._needed() & {one.path for one in self._removed})
        lost = [path for path in lost if self._store.entry(path) is None]
        if lost:
            raise Failed(
                "state.conflict",
                f"{lost[0]} was removed from {self._store.place} while a channel was published "
                "that names it",
                expected="nobody publishes what was garbage",
                found=lost[0],
                hint="publish that release again",
            )


def _may_go(path: str) -> bool:
    """Tell whether a path is of a kind that is removed; what others put there is left alone."""
    return is_leftover(path) or (is_ours(path) and not path.endswith(CHANNEL))


def total(entries: Sequence[StoredEntry]) -> int:
    """Return the bytes of some entries."""
    return sum(one.size for one in entries)
