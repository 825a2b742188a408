# SPDX-License-Identifier: Apache-2.0
"""The memory's records of the release on trial, and of the releases that failed one."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

from fwsign.errors import Failed
from fwsign.gateway.run.uptime import Uptime
from fwsign.gateway.target import release_record
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.decision import Phase
from fwsign.memory.state import State

TRIAL: Final = "trial"
"""The memory's name for the release on trial."""
FAILED: Final = "failed"
"""The memory's name for the releases that failed a trial."""
PREVIOUS: Final = "previous"
"""The memory's name for the release before the installed one."""
MAX_FAILED: Final = 32
"""Releases that failed; the oldest is forgotten first. A commit forgets all below its number."""
MAX_REASON: Final = 300
"""Characters of a reason."""


class TrialRecord(NamedTuple):
    """A release on trial.

    Args:
        release: the release.
        before: the release that was in place; None if there was none.
        phase: the phase, see `trial_decision`.
        deadline: seconds of uptime that it may take, as it was when it began.
        most_boots: starts of the machine that it may take, as it was then.
        boot: the id of the machine's start that was seen last.
        since: seconds of uptime at the beginning, or 0 after another start.
        seen: seconds of uptime when it was looked at last.
        used: seconds that earlier starts used.
        boots: starts of the machine since it began.
        commands: its components that were given to commands with three verbs.
        boards: port -> the identity of the board that was flashed; empty if it is not known yet.
        healthy: whether its health command passed, since the last start.
        confirmed: whether the application confirmed it.
        reason: the reason why it goes back or stays.
        blamed: whether it is at fault, and not installed again by itself.
        returns: how often going back was tried and did not end.
    """

    release: ReleaseRecord
    before: ReleaseRecord | None
    phase: Phase
    deadline: int
    most_boots: int
    boot: str
    since: int
    seen: int
    used: int = 0
    boots: int = 0
    commands: tuple[str, ...] = ()
    boards: Mapping[str, str] = MappingProxyType({})
    healthy: bool = False
    confirmed: bool = False
    reason: str | None = None
    blamed: bool = False
    returns: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {
            **self._asdict(),
            "release": self.release.as_json(),
            "before": self.before.as_json() if self.before else None,
            "commands": list(self.commands),
            "boards": dict(self.boards),
        }

    def at(self, now: Uptime) -> "TrialRecord":
        """Return the record as of now; another start of the machine is counted."""
        if now.boot == self.boot and now.seconds >= self.seen:
            return self._replace(seen=now.seconds)
        used = self.used + self.seen - self.since
        return self._replace(
            boot=now.boot,
            since=0,
            seen=now.seconds,
            used=used,
            boots=self.boots + 1,
            healthy=self.healthy and self.confirmed,
        )

    def ended_as(self, known: "TrialRecord") -> "TrialRecord":
        """Return the record with the end that another process wrote meanwhile, if it did."""
        if known.phase != "going back":
            return self
        return self._replace(phase=known.phase, reason=known.reason, blamed=known.blamed)

    @property
    def elapsed(self) -> int:
        """Seconds of uptime that it has used."""
        return self.used + self.seen - self.since

    @property
    def left(self) -> int:
        """Seconds of uptime that it may still take."""
        return max(0, self.deadline - self.elapsed)


class FailedRelease(NamedTuple):
    """A release that failed a trial, or whose activation was interrupted.

    Args:
        manifest: the digest of its manifest, in hex.
        sequence: its sequence number.
        interrupted: interrupted activations.
        reason: the reason why it failed; None if it was only interrupted.
    """

    manifest: str
    sequence: int
    interrupted: int = 0
    reason: str | None = None


def read_trial(state: State) -> TrialRecord | None:
    """Read the record of the release on trial; None if there is none.

    Raises:
        Failed: `state.damaged`: it is not such a record.
    """
    text = state.remembered(TRIAL)
    if text is None:
        return None
    try:
        return _parsed_trial(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise _damaged(TRIAL, text) from error


def write_trial(state: State, record: TrialRecord | None) -> None:
    """Store the record of the release on trial; None removes it."""
    state.remember(TRIAL, None if record is None else json.dumps(record.as_json()))


def end_for_epoch(state: State) -> None:
    """Let a release on trial go back, since the owner began a new epoch; in a transaction.

    The owner states the floors anew because something was signed that should not run.
    """
    record = read_trial(state)
    if record is not None and record.phase != "stays":
        reason = "a trust update with a new epoch ended its trial"
        write_trial(state, record._replace(phase="going back", reason=reason, blamed=True))


def read_failed(state: State) -> tuple[FailedRelease, ...]:
    """Read the releases that failed a trial, the oldest first.

    Raises:
        Failed: `state.damaged`.
    """
    text = state.remembered(FAILED)
    if text is None:
        return ()
    try:
        found = [FailedRelease(**one) for one in json.loads(text)]
        for one in found:
            _check_texts(one.manifest, *filter(None, [one.reason]))
            _check_numbers(one.sequence, one.interrupted)
        return tuple(found)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise _damaged(FAILED, text) from error


def write_failed(state: State, failed: Sequence[FailedRelease]) -> None:
    """Store the releases that failed a trial; too many lose the oldest."""
    kept = [one._asdict() for one in failed[-MAX_FAILED:]]
    state.remember(FAILED, json.dumps(kept) if kept else None)


def failed_of(failed: Sequence[FailedRelease], manifest: str) -> FailedRelease | None:
    """Return the entry of a release, given the digest of its manifest; None if it has none."""
    return next((one for one in failed if one.manifest == manifest), None)


def with_failed(failed: Sequence[FailedRelease], one: FailedRelease) -> tuple[FailedRelease, ...]:
    """Return the entries with one that is new, or takes the place of its older self."""
    return (*(other for other in failed if other.manifest != one.manifest), one)


def _parsed_trial(found: Mapping[str, Any]) -> TrialRecord:
    before = found["before"]
    record = TrialRecord(
        **{
            **found,
            "release": release_record.parsed(found["release"]),
            "before": release_record.parsed(before) if before is not None else None,
            "commands": tuple(found["commands"]),
            "boards": MappingProxyType(dict(found["boards"])),
        }
    )
    boards = (*record.boards.keys(), *record.boards.values())
    _check_texts(record.boot, *record.commands, *boards, *filter(None, [record.reason]))
    _check_numbers(record.deadline, record.most_boots, record.since, record.seen, record.used)
    _check_numbers(record.boots, record.returns)
    flags = (record.healthy, record.confirmed, record.blamed)
    if record.phase not in get_args(Phase) or not all(type(one) is bool for one in flags):
        raise ValueError
    return record


def _check_texts(*found: object) -> None:
    if not all(isinstance(one, str) for one in found):
        raise TypeError


def _check_numbers(*found: object) -> None:
    if not all(type(one) is int and one >= 0 for one in found):
        raise TypeError


def _damaged(name: str, text: str) -> Failed:
    what = f'what the memory calls "{name}" is no record of a trial'
    return Failed("state.damaged", what, expected="a record", found=text[:80])
